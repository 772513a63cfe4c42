//! Every delay that doubles with failures in a row, with its numbers.

use std::{fmt, time::Duration};

/// A delay that doubles with each failure in a row, between a first and a longest delay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// After a failed call to the API server.
    pub const API_CALL: Self = Self::new(Duration::from_secs(1), Duration::from_secs(30));
    /// After a watch of registries or namespaces ended early.
    pub const WATCH: Self = Self::new(Duration::from_millis(100), Duration::from_secs(5));
    /// After a watch in a tenant's namespace ended early.
    pub const NAMESPACE_WATCH: Self = Self::new(Duration::from_millis(100), Duration::from_secs(10));
    /// While the API server forbids a watch, because only someone's change helps.
    pub const REFUSED_WATCH: Self = Self::new(Duration::from_millis(100), Duration::from_secs(30));
    /// While the watch of namespaces has not seen a tenant's label yet.
    pub const TENANT_UNSEEN: Self = Self::new(Duration::from_millis(200), Duration::from_secs(30));
    /// While a role binding that was just written isn't in effect yet: the authorizer's own watch shows it some milliseconds later.
    pub const BINDING_EFFECTIVE: Self = Self::new(Duration::from_millis(50), Duration::from_millis(800));
    /// While a Secret that the operator doesn't manage has the name of a pull Secret.
    pub const FOREIGN_SECRET: Self = Self::new(Duration::from_secs(5), Duration::from_mins(1));
    /// After a transient failure of a registry, up to the registry's interval.
    pub const TRANSIENT: Self = Self::new(Duration::from_secs(5), Duration::MAX);
    /// After a definite failure of a registry, up to the registry's interval. Someone may fix the registry
    /// itself, which no watch shows.
    pub const DEFINITE: Self = Self::new(Duration::from_secs(30), Duration::MAX);
    /// After rejected credentials. Accounts lock after a few wrong passwords within minutes.
    pub const REJECTED_CREDENTIALS: Self = Self::new(Duration::from_mins(1), Duration::from_hours(1));
    /// After a rejected login at the forward proxy. Proxies lock accounts too.
    pub const PROXY_LOGIN: Self = Self::new(Duration::from_mins(1), Duration::from_hours(1));
    /// After a transient failure of AWS.
    pub const AWS_TRANSIENT: Self = Self::new(Duration::from_secs(1), Duration::from_mins(1));
    /// After another refusal by AWS.
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

/// The units of delays in the documentation, with their milliseconds.
const UNITS: [(&str, u128); 3] = [("minutes", 60_000), ("seconds", 1_000), ("milliseconds", 1)];

/// As the documentation states it: the first three delays, and the longest if there is one.
impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_whole = |(_, unit): &(&str, u128)| self.first.as_millis().is_multiple_of(*unit);
        let (name, unit) = UNITS.into_iter().find(is_whole).unwrap_or(UNITS[2]);
        let [one, two, three] = [1, 2, 3].map(|failures| self.after(failures).as_millis() / unit);
        write!(f, "{one}, {two}, {three} … ")?;
        if self.longest < Duration::MAX {
            write!(f, "{} ", self.longest.as_millis() / unit)?;
        }
        f.write_str(name)
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
    fn states_first_delays_and_longest() {
        let minutes = Backoff::new(Duration::from_mins(3), Duration::from_hours(2));
        assert_eq!(minutes.to_string(), "3, 6, 12 … 120 minutes");
        let seconds = Backoff::new(Duration::from_secs(7), Duration::MAX);
        assert_eq!(seconds.to_string(), "7, 14, 28 … seconds");
    }

    #[test]
    fn bound_below_first_delay_is_first_delay() {
        let bounded = Backoff::DEFINITE.up_to(Duration::from_secs(1));
        assert_eq!(bounded.after(5), Backoff::DEFINITE.first());
        assert_eq!(Backoff::TRANSIENT.up_to(Duration::from_mins(1)).after(9), Duration::from_mins(1));
    }
}
