//! Every delay that doubles with failures in a row, with its numbers.

use std::time::Duration;

/// A delay that doubles with each failure in a row, between a first and a longest delay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// After a failed call to the API server: 1, 2, 4 … 30 s.
    pub const API_CALL: Self = Self::new(Duration::from_secs(1), Duration::from_secs(30));
    /// After a watch of registries or namespaces ended early: 100, 200 ms … 5 s.
    pub const WATCH: Self = Self::new(Duration::from_millis(100), Duration::from_secs(5));
    /// After a watch in a tenant's namespace ended early: 100, 200 ms … 10 s.
    pub const NAMESPACE_WATCH: Self = Self::new(Duration::from_millis(100), Duration::from_secs(10));
    /// While the API server forbids a watch: 100, 200 ms … 30 s, because only someone's change helps.
    pub const REFUSED_WATCH: Self = Self::new(Duration::from_millis(100), Duration::from_secs(30));
    /// While the watch of namespaces has not seen a tenant's label yet: 200, 400 ms … 30 s.
    pub const TENANT_UNSEEN: Self = Self::new(Duration::from_millis(200), Duration::from_secs(30));
    /// While a Secret that the operator doesn't manage has the name of a pull Secret: 5, 10, 20 … 60 s.
    pub const FOREIGN_SECRET: Self = Self::new(Duration::from_secs(5), Duration::from_mins(1));
    /// After a transient failure of a registry: 5, 10, 20 s …, up to the registry's interval.
    pub const TRANSIENT: Self = Self::new(Duration::from_secs(5), Duration::MAX);
    /// After a definite failure of a registry: 30, 60 s …, up to the registry's interval. Someone may fix the registry
    /// itself, which no watch shows.
    pub const DEFINITE: Self = Self::new(Duration::from_secs(30), Duration::MAX);
    /// After rejected credentials: 1, 2, 4 … 60 min. Accounts lock after a few wrong passwords within minutes.
    pub const REJECTED_CREDENTIALS: Self = Self::new(Duration::from_mins(1), Duration::from_hours(1));
    /// After a rejected login at the forward proxy: 1, 2, 4 … 60 min. Proxies lock accounts too.
    pub const PROXY_LOGIN: Self = Self::new(Duration::from_mins(1), Duration::from_hours(1));
    /// After a transient failure of AWS: 1, 2, 4 … 60 s.
    pub const AWS_TRANSIENT: Self = Self::new(Duration::from_secs(1), Duration::from_mins(1));
    /// After another refusal by AWS: 30, 60 s … 5 min.
    pub const AWS_REFUSED: Self = Self::new(Duration::from_secs(30), Duration::from_mins(5));

    const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// Limits the delays to `longest`. The first delay stays.
    #[must_use]
    pub fn up_to(self, longest: Duration) -> Self {
        Self { longest: longest.min(self.longest).max(self.first), ..self }
    }

    /// Returns the first delay.
    pub const fn first(self) -> Duration {
        self.first
    }

    /// Returns the longest delay.
    pub const fn longest(self) -> Duration {
        self.longest
    }

    /// Returns the delay after a number of failures in a row. For 0, it is the same as for 1.
    pub fn after(self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_first_to_longest_delay() {
        let seconds: Vec<u64> = (0..8).map(|failures| Backoff::API_CALL.after(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(Backoff::API_CALL.after(u32::MAX), Backoff::API_CALL.longest());
    }

    #[test]
    fn bound_below_first_delay_is_first_delay() {
        let bounded = Backoff::DEFINITE.up_to(Duration::from_secs(1));
        assert_eq!(bounded.after(5), Backoff::DEFINITE.first());
        assert_eq!(Backoff::TRANSIENT.up_to(Duration::from_mins(1)).after(9), Duration::from_mins(1));
    }
}
