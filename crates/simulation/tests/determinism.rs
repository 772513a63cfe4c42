//! One seed, one history: the same requests at the same times, whatever else the process does.

#![expect(clippy::unwrap_used, reason = "a test")]

use registry_simulation::{history::generate::history, world::run};

fn fingerprint(seed: u64) -> u64 {
    run(&history(seed)).unwrap().fingerprint()
}

#[test]
fn same_seed_has_same_trace() {
    for seed in 0..10 {
        let first = fingerprint(seed);
        let (between, again) = std::thread::scope(|scope| {
            let between = scope.spawn(move || fingerprint(seed + 100));
            let again = scope.spawn(move || fingerprint(seed));
            (between.join().unwrap(), again.join().unwrap())
        });
        assert_eq!(first, again, "seed {seed}, in another thread beside another history");
        assert_eq!(first, fingerprint(seed), "seed {seed}, after other histories");
        assert_ne!(first, between, "another seed is another history");
    }
}
