//! What the operator remembers of a registry's validations, and when the next one is due. Pure.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use registry_probe::Backoff;
use registry_verdict::{
    assess::{Observation, ValidationOutcome, ValidationRecord},
    ecr::Urgency,
    object::{Group, RegistryObject},
    resolve::{ContentsDigest, ObservedReference, Reference},
    steps::{Examination, NextStep},
};
use tokio::time::Instant;

use super::events::ReadyVerdict;

/// What the operator remembers of a registry from one validation to the next. In memory only: after a restart, every registry
/// is validated once.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The inputs of the last validation.
    pub inputs: Option<ValidationInputs>,
    /// The last validation, from which the status follows.
    pub validation: Option<Arc<ValidationRecord>>,
    /// Transient failures in a row.
    pub transient: u32,
    /// Definite failures in a row, other than rejected credentials.
    pub definite: u32,
    /// Rejections in a row, for credentials whose pause is not shared with other registries.
    pub rejections: u32,
    /// The verdict that the last Event reported, or that the status had at the start.
    pub reported: Option<ReadyVerdict>,
    /// Failures in a row to write the status.
    pub failed_writes: u32,
    /// When the next validation is due; none if it is due now, or not before something changes.
    pub due: Option<Instant>,
}

impl History {
    /// Returns the history of a registry that was not validated yet.
    pub fn of(object: &RegistryObject) -> Self {
        Self { reported: ReadyVerdict::known(&object.status), ..Self::default() }
    }

    /// Decides whether to validate now, and why: something changed since the last validation, or it is time for the next one.
    pub fn urgency(&self, inputs: &ValidationInputs, now: Instant) -> Option<Urgency> {
        if !self.inputs.as_ref().is_some_and(|before| before.is_same_request(inputs)) {
            return Some(Urgency::Changed);
        }
        self.due.is_none_or(|due| due <= now).then_some(Urgency::Due)
    }

    /// Whether the last validation was of this state of the object.
    pub fn covers(&self, object: &RegistryObject) -> bool {
        self.inputs.as_ref().is_some_and(|inputs| inputs.covers(object))
    }

    /// Adds what a validation with these inputs observed.
    pub fn add(&mut self, observation: Observation, inputs: ValidationInputs, time: Timestamp) {
        let same_inputs = self.inputs.as_ref().is_none_or(|before| before.is_same_target(&inputs));
        let observation = observation.trimmed();
        let validation =
            ValidationRecord { observation, time, transient_failures: self.transient, same_inputs };
        self.replace(validation.outcome(), inputs, Arc::new(validation));
    }

    fn replace(
        &mut self,
        outcome: ValidationOutcome,
        inputs: ValidationInputs,
        validation: Arc<ValidationRecord>,
    ) {
        let same_request = self.inputs.as_ref().is_some_and(|before| before.is_same_request(&inputs));
        self.count(outcome, same_request);
        self.inputs = Some(inputs);
        self.validation = Some(validation);
        self.failed_writes = 0;
    }

    /// Schedules the next validation after the last one. `jitter` is a random number from 0 to 1.
    pub fn schedule(&mut self, now: Instant, jitter: f64) {
        if let (Some(validation), Some(inputs)) = (&self.validation, &self.inputs) {
            let (ends, outcome) = (validation.ends(jitter), validation.outcome());
            self.due = Some(now + self.wait(outcome, inputs.interval, &ends, validation.time, jitter));
        }
    }

    /// Returns the time until the next validation is due, if one is scheduled.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }

    /// Counts failures in a row. The counts that depend on the inputs start again with another request.
    fn count(&mut self, outcome: ValidationOutcome, is_same: bool) {
        if matches!(outcome, ValidationOutcome::Postponed { .. }) {
            return;
        }
        let count = |is_one: bool, before: u32| if is_one { before.saturating_add(1) } else { 0 };
        let while_same = |before: u32| if is_same { before } else { 0 };
        self.transient = count(matches!(outcome, ValidationOutcome::Transient { .. }), self.transient);
        self.definite = count(outcome == ValidationOutcome::Definite, while_same(self.definite));
        self.rejections =
            count(matches!(outcome, ValidationOutcome::Rejected { .. }), while_same(self.rejections));
    }

    /// Counts a failure to write the status. Returns how long to wait before the next try.
    ///
    /// `jitter` is a random number from 0 to 1.
    pub fn write_failed(&mut self, jitter: f64) -> Duration {
        self.failed_writes = self.failed_writes.saturating_add(1);
        jittered(Backoff::API_CALL.after(self.failed_writes), jitter)
    }

    /// Counts a failure to write the status because other clients changed the object each time, which they may do all the time. Returns
    /// how long to wait before the next try: not as long as if the API server failed.
    ///
    /// `jitter` is a random number from 0 to 1.
    pub fn write_contested(&mut self, jitter: f64) -> Duration {
        self.failed_writes = self.failed_writes.saturating_add(1);
        jittered(Backoff::API_CALL.after(self.failed_writes).min(CONTESTED), jitter)
    }

    /// Returns how long to wait for the next validation after one with this outcome, which is counted here.
    ///
    /// `ends` are the times at which the result stops being true, such as the end of a certificate. `jitter` is a random number
    /// from 0 to 1.
    fn wait(
        &self,
        outcome: ValidationOutcome,
        interval: Duration,
        ends: &[Timestamp],
        now: Timestamp,
        jitter: f64,
    ) -> Duration {
        match outcome {
            ValidationOutcome::Usable => until_next_end(jittered(interval, jitter), ends, now),
            ValidationOutcome::Transient { retry_after } => {
                let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
                jittered(Backoff::TRANSIENT.up_to(interval).after(self.transient).max(asked), jitter)
            }
            ValidationOutcome::Rejected { pause } => {
                let own = || Backoff::REJECTED_CREDENTIALS.after(self.rejections);
                jittered(pause.unwrap_or_else(own), jitter)
            }
            ValidationOutcome::Postponed { wait } => jittered(wait.max(SOONEST_TURN), jitter),
            ValidationOutcome::Definite => {
                jittered(Backoff::DEFINITE.up_to(interval).after(self.definite), jitter)
            }
        }
    }
}

/// Everything that a validation is based on: while all of it stays the same, the next validation waits for its time.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidationInputs {
    uid: String,
    generation: i64,
    requested_at: Option<String>,
    suspended: bool,
    interval: Duration,
    /// The group whose rejected credentials the registry shares.
    pub group: Group,
    /// Whether a user asked for the validation: then credentials that were rejected are tried at once.
    pub is_requested: bool,
    /// The references that were read, each with its version; no version for an object that doesn't exist.
    references: Vec<ObservedReference>,
    /// The tenant policy, if it applies to the registry.
    policy: Option<ObservedReference>,
    /// A digest of the contents of all references and of the policy.
    contents: ContentsDigest,
    /// Whether the registry is beyond its tenant's quota.
    beyond_quota: bool,
}

impl ValidationInputs {
    /// Returns the inputs before any reference was read.
    pub fn of(object: &RegistryObject, tenant: Option<Arc<str>>) -> Self {
        Self {
            uid: object.uid.clone(),
            generation: object.generation,
            requested_at: object.requested_at.clone(),
            suspended: object.spec.suspend,
            interval: object.spec.validation.interval.get(),
            group: object.key.group(tenant),
            is_requested: object.is_validation_requested(),
            references: Vec::new(),
            policy: None,
            contents: ContentsDigest::default(),
            beyond_quota: false,
        }
    }

    /// Adds what was read.
    #[must_use]
    pub fn with(self, examination: &Examination) -> Self {
        Self {
            references: examination.references.clone(),
            policy: examination.policy.clone(),
            contents: examination.contents,
            beyond_quota: matches!(examination.plan, NextStep::Stop(Observation::BeyondQuota(_))),
            ..self
        }
    }

    fn all_references(&self) -> impl Iterator<Item = &ObservedReference> {
        self.references.iter().chain(&self.policy)
    }

    /// Whether both lead to the same validation, asked for by the same request. The versions of the references may differ: a
    /// write that changes only metadata changes no result.
    pub fn is_same_request(&self, other: &Self) -> bool {
        self.requested_at == other.requested_at && self.is_same_target(other)
    }

    /// Whether both lead to the same validation, regardless of who asked for it.
    pub fn is_same_target(&self, other: &Self) -> bool {
        let target = |inputs: &Self| Self {
            requested_at: None,
            is_requested: false,
            references: Vec::new(),
            policy: None,
            ..inputs.clone()
        };
        target(self) == target(other)
    }

    /// Whether these are still the inputs for `object`, as far as the object itself goes.
    pub fn covers(&self, object: &RegistryObject) -> bool {
        self.uid == object.uid
            && self.generation == object.generation
            && self.requested_at == object.requested_at
            && self.suspended == object.spec.suspend
    }

    /// Whether a watch knows a newer version of a reference. `version` returns the version that the watch knows; if that is none
    /// or older, the watch is only behind.
    pub fn is_outdated(&self, version: impl Fn(&Reference) -> Option<String>) -> bool {
        self.all_references().any(|read| {
            version(&read.reference).is_some_and(|observed| is_newer(&observed, read.version.as_deref()))
        })
    }

    /// Whether `observed` is newer than the version that was read, or was never read.
    pub fn is_outdated_by(&self, observed: &ObservedReference) -> bool {
        let read = self.all_references().find(|read| read.reference == observed.reference);
        read.is_none_or(|read| match &observed.version {
            Some(version) => is_newer(version, read.version.as_deref()),
            None => read.version.is_some(),
        })
    }

    /// Whether exactly this version was read.
    pub fn contains(&self, observed: &ObservedReference) -> bool {
        self.all_references().any(|read| read == observed)
    }
}

/// Whether resource version `observed` is newer than `read`. Resource versions are comparable numbers (KEP-5504); if they aren't,
/// any other version counts as newer.
fn is_newer(observed: &str, read: Option<&str>) -> bool {
    let Some(read) = read else { return true };
    match (observed.parse::<u64>(), read.parse::<u64>()) {
        (Ok(observed), Ok(read)) => observed > read,
        _ => observed != read,
    }
}

/// The longest wait before the status is written again to an object that others change all the time.
const CONTESTED: Duration = Duration::from_secs(4);
/// The shortest wait of a registry whose credentials wait for their turn: many may wait.
const SOONEST_TURN: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is honoured.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Lengthens a wait by up to a tenth, so that validations that started together drift apart. Never shortens it: a wait is a promise.
fn jittered(wait: Duration, jitter: f64) -> Duration {
    wait.saturating_add(wait.mul_f64(0.1 * jitter.clamp(0.0, 1.0)))
}

/// Shortens a wait so that the next validation comes just after the first of `ends` that is in the future.
fn until_next_end(wait: Duration, ends: &[Timestamp], now: Timestamp) -> Duration {
    let ahead = |end: &Timestamp| Duration::try_from(end.duration_since(now)).ok();
    let first = ends.iter().filter_map(ahead).min();
    first.map_or(wait, |end| wait.min(end + Duration::from_secs(1)))
}
