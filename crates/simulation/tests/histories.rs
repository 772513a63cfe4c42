//! Many histories, each with its own seed, in which no invariant is violated.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use mimalloc::MiMalloc;
use registry_simulation::search::{FailedHistory, check};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The histories of a run without settings.
const HISTORIES: u64 = 2000;
/// Threads that histories happen in.
const THREADS: usize = 2;

/// `SEED` alone: that history. `HISTORIES`: so many, from `SEED` or 0.
#[test]
fn histories_violate_nothing() {
    let (seed, count) = (setting("SEED"), setting("HISTORIES"));
    let count = count.unwrap_or(if seed.is_some() { 1 } else { HISTORIES });
    if let Some(failed) = first_failure(seed.unwrap_or(0), count) {
        panic!("\n{}\n{}", failed.report(), failed.clone().shortened().report());
    }
}

/// Of longer searches, the histories that once failed.
#[test]
fn histories_that_failed_violate_nothing() {
    for seed in [
        2262, 2385, 2536, 2549, 2809, 3357, 3518, 3883, 7148, 7766, 8265, 9576, 10505, 12544, 14312, 15554,
        21600, 21677, 27988, 28815, 30604,
    ] {
        let failed = check(seed).map(|failed| failed.report());
        assert!(failed.is_none(), "\n{}", failed.unwrap_or_default());
    }
}

#[expect(clippy::disallowed_methods, reason = "the settings of this test")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Returns the failed history with the lowest seed, as far as they have happened when the first one fails.
fn first_failure(first: u64, count: u64) -> Option<FailedHistory> {
    let (next, failed) = (AtomicU64::new(first), Mutex::new(None::<FailedHistory>));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    if let Some(failure) = check(seed) {
                        let mut lowest = failed.lock().unwrap();
                        if lowest.as_ref().is_none_or(|lowest| seed < lowest.history.seed) {
                            *lowest = Some(failure);
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}
