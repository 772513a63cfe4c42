//! What the controller knows of one registry, and what the result of a reconciliation changes in it.

use std::{sync::Arc, time::Duration};

use registry_verdict::object::RegistryObject;
use tokio::time::Instant;

use super::{error::ReconcileError, events::ReadyVerdict, history::History, in_flight::InFlight};

/// After this many failures in a row, over three seconds, a namespace whose tenant the watch doesn't show is logged.
const UNSEEN_FOR_LONG: u32 = 5;

/// The shortest time between two corrections of a status that another client overwrites: two operators by mistake, or a restore.
const BETWEEN_CORRECTIONS: Duration = Duration::from_secs(10);

/// What the controller knows of one registry.
pub struct RegistryState {
    /// The newest state of the object.
    pub object: Arc<RegistryObject>,
    /// The history of its validations.
    pub history: Arc<History>,
    /// The work in flight, if there is any.
    pub in_flight: Option<Arc<InFlight>>,
    failures: u32,
    corrected: Option<Instant>,
}

impl RegistryState {
    /// Returns the state of a registry that was not validated yet.
    pub fn new(object: Arc<RegistryObject>) -> Self {
        let history = Arc::new(History::of(&object));
        Self { object, history, in_flight: None, failures: 0, corrected: None }
    }

    /// Whether the registry `object` is the same, in an older state than this.
    pub fn is_newer_than(&self, object: &RegistryObject) -> bool {
        self.object.uid == object.uid && is_older(object, &self.object)
    }

    /// Stores a newer state of the object. Until the first validation, the status says which verdict was reported last.
    pub fn update(&mut self, object: Arc<RegistryObject>) {
        if self.history.validation.is_none() && self.in_flight.is_none() {
            Arc::make_mut(&mut self.history).reported = ReadyVerdict::known(&object.status);
        }
        self.object = object;
    }

    /// Whether a status that another client overwrote may be corrected now. Otherwise, two clients that correct each other would write
    /// without a pause.
    pub fn may_correct(&mut self, now: Instant) -> bool {
        let may = self.corrected.is_none_or(|at| now.duration_since(at) >= BETWEEN_CORRECTIONS);
        if may {
            self.corrected = Some(now);
        }
        may
    }

    /// Makes the next validation due now.
    pub fn make_due(&mut self) {
        Arc::make_mut(&mut self.history).due = None;
    }

    /// Takes the result of a reconciliation. Returns how long until there is something to do again.
    pub fn reconciled(&mut self, history: History, retry: Option<Duration>) -> Option<Duration> {
        self.failures = 0;
        self.history = Arc::new(history);
        retry.into_iter().chain(self.history.left(Instant::now())).min()
    }

    /// Counts a failed reconciliation. Returns how long to wait before the next try.
    pub fn failed(&mut self, error: &ReconcileError) -> Duration {
        let registry = &self.object.key;
        self.failures = self.failures.saturating_add(1);
        if !matches!(error, ReconcileError::TenantUnseen) {
            tracing::warn!(%registry, %error, "failed to reconcile, retrying");
        } else if self.failures == UNSEEN_FOR_LONG {
            tracing::warn!(
                %registry, "namespace has the tenant label, but the watch does not show it; retrying"
            );
        }
        error.pause(self.failures)
    }
}

/// Whether `object` is an older version than `known`. Resource versions of one kind are comparable numbers (KEP-5504); if they aren't
/// numbers, no version counts as older.
fn is_older(object: &RegistryObject, known: &RegistryObject) -> bool {
    let number = |object: &RegistryObject| object.resource_version.parse::<u64>().ok();
    matches!((number(object), number(known)), (Some(version), Some(known)) if version < known)
}

#[cfg(test)]
mod tests {
    use registry_api::{RegistrySpec, SystemRegistry};

    use super::*;

    #[test]
    fn corrects_an_overwritten_status_after_a_pause_only() {
        let object = RegistryObject::of(SystemRegistry::new("packs", RegistrySpec::default()));
        let mut state = RegistryState::new(Arc::new(object));
        let start = Instant::now();
        assert!(state.may_correct(start), "the first one at once");
        assert!(!state.may_correct(start + BETWEEN_CORRECTIONS / 2));
        assert!(state.may_correct(start + BETWEEN_CORRECTIONS), "the pause is over");
        assert!(!state.may_correct(start + BETWEEN_CORRECTIONS * 3 / 2), "and begins again");
    }
}
