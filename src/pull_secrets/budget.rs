//! How often a pull Secret is written. Pure.
//!
//! Two clients that undo each other's writes would do so without a pause. So a Secret may be written a few times at once, as a
//! user's changes or a rotation may need, and after that only as often as its budget is refilled.

use std::time::Duration;

use tokio::time::Instant;

/// Writes at once.
const BURST: u32 = 12;
/// The time after which one more is allowed.
const REFILL: Duration = Duration::from_secs(15);

/// The writes that one Secret has left.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: f64,
    at: Instant,
    contested: bool,
}

impl Budget {
    /// A Secret that was not written lately.
    pub fn new(now: Instant) -> Self {
        Self { left: f64::from(BURST), at: now, contested: false }
    }

    /// Takes one write; false if there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.left < 1.0 {
            self.contested = true;
            return false;
        }
        self.left -= 1.0;
        true
    }

    /// Whether another client keeps undoing what is written: from the first write that had to wait until the Secret was left
    /// alone for a while.
    pub fn is_contested(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.contested &= self.left < f64::from(BURST) / 2.0;
        self.contested
    }

    /// Whether nothing is to be remembered of it.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= f64::from(BURST)
    }

    /// The time until the next write is allowed; or, where one is, until this is no fight any more.
    pub fn wait(&self) -> Duration {
        let awaited = if self.left < 1.0 { 1.0 } else { f64::from(BURST) / 2.0 };
        REFILL.mul_f64((awaited - self.left).max(0.0))
    }

    fn refill(&mut self, now: Instant) {
        let refilled = now.saturating_duration_since(self.at).as_secs_f64() / REFILL.as_secs_f64();
        self.left = (self.left + refilled).min(f64::from(BURST));
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes in that many seconds, with an undoing client that is always faster.
    fn fought(budget: &mut Budget, began: Instant, seconds: u64) -> usize {
        (0..seconds * 100).filter(|tick| budget.take(began + Duration::from_millis(tick * 10))).count()
    }

    #[tokio::test]
    async fn contested_secret_gets_four_writes_a_minute() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!(fought(&mut budget, now, 60), 12 + 3);
        assert_eq!(fought(&mut budget, now + Duration::from_mins(1), 600), 40);
        assert!(budget.wait() <= REFILL && !budget.wait().is_zero());
    }

    #[tokio::test]
    async fn contest_ends_after_a_quiet_period() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        for _ in 0..12 {
            assert!(budget.take(now) && !budget.is_contested(now));
        }
        assert!(!budget.take(now) && budget.is_contested(now));
        assert!(budget.is_contested(now + 4 * REFILL));
        assert!(!budget.is_contested(now + 6 * REFILL) && !budget.is_full(now + 6 * REFILL));
        assert!(budget.is_full(now + 13 * REFILL));
    }
}
