//! Chance by seed: everything random in a history follows from one number.
//!
//! The operator's own random numbers come from [`jitter`]. The order in which the standard library's hash maps return their entries
//! comes from the operating system: each thread asks for the keys of its maps once. This module answers in its place, so that a thread
//! that was seeded before its first map always has the same order.

use std::cell::Cell;

/// A generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A generator that always returns the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// Returns a number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// Returns a number in a range that isn't empty.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// Returns true once in `times`, on average.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Returns a number from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns one of several values; `None` if there are none.
    pub fn one_of<'a, T>(&mut self, values: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(values.len() as u64)).unwrap_or_default();
        values.get(index)
    }
}

fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    static JITTER: Cell<u64> = const { Cell::new(0) };
}

/// Seeds this thread. Must come before the thread's first hash map.
pub fn seed_thread(seed: u64) {
    SEED.set(Some(seed));
    JITTER.set(seed);
    // Keeps the function in the program, although only the standard library refers to it.
    std::hint::black_box(getrandom as unsafe extern "C" fn(*mut u8, usize, u32) -> isize);
}

/// Returns a random number from 0 to 1, for the operator in this thread.
pub fn jitter() -> f64 {
    let mut chance = Chance::new(JITTER.get());
    let fraction = chance.fraction();
    JITTER.set(chance.0);
    fraction
}

/// The C library's function of that name, from which the standard library takes the keys of hash maps. It is meant to be replaced
/// (a comment in the standard library says so), and there is no safe way to set the keys.
///
/// In a seeded thread, it always returns the same bytes. In another thread, they come from the operating system.
///
/// # Safety
///
/// As for the C library's: `buffer` is valid for writes of `length` bytes.
#[expect(
    unsafe_code,
    reason = "a C function has no safe form; this is the only unsafe code of the workspace"
)]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller promises a buffer of that length.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    let filled = match SEED.try_with(Cell::get) {
        Ok(Some(seed)) => {
            fill(bytes, seed);
            true
        }
        _ => fill_from_system(bytes),
    };
    if filled { isize::try_from(length).unwrap_or(-1) } else { -1 }
}

fn fill(bytes: &mut [u8], seed: u64) {
    let mut chance = Chance::new(seed);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&chance.number().to_le_bytes()[..chunk.len()]);
    }
}

fn fill_from_system(bytes: &mut [u8]) -> bool {
    use std::io::Read as _;
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    /// The order of a hash set's entries in a new thread.
    fn order(seed: Option<u64>) -> Vec<u32> {
        thread::spawn(move || {
            seed.into_iter().for_each(seed_thread);
            (0..1000).collect::<HashSet<u32>>().into_iter().collect()
        })
        .join()
        .unwrap()
    }

    #[test]
    fn seed_decides_the_order_of_hash_maps() {
        assert_eq!(order(Some(7)), order(Some(7)));
        assert_ne!(order(Some(7)), order(Some(8)));
        assert_ne!(order(None), order(None), "without a seed, the system decides");
    }

    #[test]
    fn numbers_follow_from_the_seed() {
        let numbers = |seed| {
            let mut chance = Chance::new(seed);
            (0..100).map(|_| chance.between(3, 9)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        assert!(numbers(3).iter().all(|number| (3..=9).contains(number)));
        assert!((3..=9).all(|number| numbers(3).contains(&number)));
    }
}
