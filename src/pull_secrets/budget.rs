//! Limits how often a pull Secret is written. Pure.
//!
//! Two clients that revert each other's writes would do so endlessly. So a Secret can be written a few times in a row,
//! as a user's changes or a rotation may need, and after that only as often as the budget is refilled.

use std::time::Duration;

use tokio::time::Instant;

/// The maximum number of writes in a row.
const BURST: u32 = 12;
/// The time until one more write is allowed.
const REFILL: Duration = Duration::from_secs(15);

/// The remaining writes for one Secret.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: f64,
    at: Instant,
    contested: bool,
}

impl Budget {
    /// Creates the budget of a Secret that was not written recently.
    pub fn new(now: Instant) -> Self {
        Self { left: f64::from(BURST), at: now, contested: false }
    }

    /// Takes one write; returns false if none is left.
    pub fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.left < 1.0 {
            self.contested = true;
            return false;
        }
        self.left -= 1.0;
        true
    }

    /// Returns whether another client keeps reverting the writes: from the first write that had to wait until the
    /// Secret stays unchanged for a while.
    pub fn is_contested(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.contested &= self.left < f64::from(BURST) / 2.0;
        self.contested
    }

    /// Returns whether the budget is full, and need not be remembered.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= f64::from(BURST)
    }

    /// Returns the time until the next write is allowed, or, if one is allowed now, until the Secret is no longer
    /// contested.
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

    /// Returns the number of writes in that many seconds, if another client always reverts them immediately.
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
