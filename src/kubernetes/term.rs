//! The term of leadership, which every write is held to (docs/decisions/0012-only-the-leader-writes.md).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A leader that could not renew its Lease for this long writes nothing more.
pub(super) const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// How long this process may write: as a leader, until its lease would have to be renewed. A process that was paused
/// finds that its term has passed before it can write anything more.
#[derive(Debug)]
pub struct LeadershipTerm {
    until: Mutex<Option<Instant>>,
}

impl LeadershipTerm {
    /// A term that has not begun.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { until: Mutex::new(None) })
    }

    /// A term without an end, for a process that needs no election.
    pub fn for_ever() -> Arc<Self> {
        let far = Instant::now() + Duration::from_hours(24 * 365 * 10);
        Arc::new(Self { until: Mutex::new(Some(far)) })
    }

    /// Whether it has begun and not passed.
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
