//! How long to wait after failures in a row: every pause of these programs that doubles, with its numbers.

use std::time::Duration;

/// A pause that doubles with each failure in a row, from a first to a longest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// After a call to the API server that failed: 1, 2, 4 … 30 s.
    pub const API_CALL: Self = Self::new(Duration::from_secs(1), Duration::from_secs(30));
    /// After a watch of registries or namespaces ended early: 100, 200 ms … 5 s.
    pub const WATCH: Self = Self::new(Duration::from_millis(100), Duration::from_secs(5));
    /// After a watch in a tenant's namespace ended early: 100, 200 ms … 10 s.
    pub const NAMESPACE_WATCH: Self = Self::new(Duration::from_millis(100), Duration::from_secs(10));
    /// While a watch that the API server refuses is refused: 100, 200 ms … 30 s, for it ends by somebody's deed.
    pub const REFUSED_WATCH: Self = Self::new(Duration::from_millis(100), Duration::from_secs(30));
    /// While the watch of namespaces has not seen a tenant's label yet: 200, 400 ms … 30 s.
    pub const TENANT_UNSEEN: Self = Self::new(Duration::from_millis(200), Duration::from_secs(30));
    /// While a role binding that was just written has yet to take effect: 50, 100 ms … 800 ms. The authorizer's own watch sees it
    /// some milliseconds later.
    pub const BINDING_EFFECTIVE: Self = Self::new(Duration::from_millis(50), Duration::from_millis(800));
    /// While somebody else's Secret has the name of a pull Secret: 5, 10, 20 … 60 s.
    pub const FOREIGN_SECRET: Self = Self::new(Duration::from_secs(5), Duration::from_mins(1));
    /// After a transient failure of a registry: 5, 10, 20 s …, up to the registry's interval.
    pub const TRANSIENT: Self = Self::new(Duration::from_secs(5), Duration::MAX);
    /// After a definite failure of a registry: 30, 60 s …, up to its interval. Somebody may be mending the registry itself, which
    /// no watch reports.
    pub const DEFINITE: Self = Self::new(Duration::from_secs(30), Duration::MAX);
    /// After rejected credentials, at a registry, AWS or a proxy: 1, 2, 4 … 60 min. Accounts lock after a few refused passwords within minutes.
    pub const REJECTED_CREDENTIALS: Self = Self::new(Duration::from_mins(1), Duration::from_hours(1));
    /// After a transient failure of AWS: 1, 2, 4 … 60 s.
    pub const AWS_TRANSIENT: Self = Self::new(Duration::from_secs(1), Duration::from_mins(1));
    /// After another refusal of AWS: 30, 60 s … 5 min.
    pub const AWS_REFUSED: Self = Self::new(Duration::from_secs(30), Duration::from_mins(5));

    const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The same with pauses of at most `longest`; the first stays.
    #[must_use]
    pub fn up_to(self, longest: Duration) -> Self {
        Self { longest: longest.min(self.longest).max(self.first), ..self }
    }

    /// The first pause.
    pub const fn first(self) -> Duration {
        self.first
    }

    /// The longest pause.
    pub const fn longest(self) -> Duration {
        self.longest
    }

    /// The pause after so many failures in a row; before the first failure, that after it.
    pub fn after(self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_the_first_to_the_longest() {
        let seconds: Vec<u64> = (0..8).map(|failures| Backoff::API_CALL.after(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(Backoff::API_CALL.after(u32::MAX), Backoff::API_CALL.longest());
    }

    #[test]
    fn a_bound_below_the_first_pause_is_the_first_pause() {
        let bounded = Backoff::DEFINITE.up_to(Duration::from_secs(1));
        assert_eq!(bounded.after(5), Backoff::DEFINITE.first());
        assert_eq!(Backoff::TRANSIENT.up_to(Duration::from_mins(1)).after(9), Duration::from_mins(1));
    }
}
