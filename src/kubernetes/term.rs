//! The leadership term, during which this replica may write (docs/decisions/0012-only-the-leader-writes.md).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A leader that could not renew its Lease for this long stops writing.
pub(super) const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// How long this process may write: for a leader, until the deadline for renewing its Lease. After a pause of the
/// process, the term has ended before it can write.
#[derive(Debug)]
pub struct LeadershipTerm {
    until: Mutex<Option<Instant>>,
}

impl LeadershipTerm {
    /// A term that has not begun.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { until: Mutex::new(None) })
    }

    /// A term without end, for a process without leader election.
    pub fn for_ever() -> Arc<Self> {
        let far = Instant::now() + Duration::from_hours(24 * 365 * 10);
        Arc::new(Self { until: Mutex::new(Some(far)) })
    }

    /// Returns whether the term has begun and not ended.
    pub fn holds(&self) -> bool {
        self.lock().is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn begin_or_extend(&self, claimed: Instant) {
        *self.lock() = Some(claimed + RENEW_DEADLINE);
    }

    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
