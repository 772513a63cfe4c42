//! When a registry is validated: pure decisions from what was seen, what happened before, and `now`.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use registry_api::RegistryStatus;
use registry_probe::Backoff;
use registry_verdict::{
    assess::ValidationOutcome,
    object::RegistryObject,
    resolve::{ContentsDigest, ObservedReference, Reference},
};

/// What the operator remembers of a registry from one validation to the next. In memory only: a restart validates
/// every registry once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What the newest validation was made of.
    pub inputs: Option<ValidationInputs>,
    /// Transient failures in a row.
    pub transient: u32,
    /// Definite failures in a row, other than rejections.
    pub definite: u32,
    /// Rejections in a row whose pause only this registry knows.
    pub rejections: u32,
    /// The verdict that was last told by an Event, or found in the status at the start.
    pub reported: Option<ReadyVerdict>,
    /// What the newest verdict says of Ready, without what is said of the availability.
    pub ready: Option<Arc<str>>,
    /// A verdict that could not be written yet: written without asking the registry again.
    pub unpublished: Option<Box<Unpublished>>,
}

/// Ready's status and reason.
pub type ReadyVerdict = (String, String);

/// A verdict that waits to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpublished {
    /// What is to be written.
    pub status: RegistryStatus,
    /// How often that has failed.
    pub tries: u32,
}

impl Unpublished {
    /// How long to wait until the next try.
    pub fn wait(&self, chance: f64) -> Duration {
        jittered(Backoff::API_CALL.after(self.tries), chance)
    }
}

/// What a validation was made of: as long as all of it is the same, there is no reason for another before its time.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidationInputs {
    uid: String,
    generation: i64,
    requested_at: Option<String>,
    suspended: bool,
    tenant: Option<Arc<str>>,
    /// The references that were read, each with the version that was seen; none where it was not there.
    references: Vec<ObservedReference>,
    /// The tenant policy, where it bears on the registry.
    policy: Option<ObservedReference>,
    /// What all of them held.
    contents: ContentsDigest,
    /// Whether it was beyond its tenant's bound.
    beyond: bool,
}

impl ValidationInputs {
    /// The basis of a validation of `object`, whose namespace was that tenant's, and that read those references with
    /// those contents.
    pub fn of(
        object: &RegistryObject,
        tenant: Option<Arc<str>>,
        readings: Vec<ObservedReference>,
        contents: ContentsDigest,
    ) -> Self {
        Self {
            uid: object.uid.clone(),
            generation: object.generation,
            requested_at: object.requested_at.clone(),
            suspended: object.spec.suspend,
            tenant,
            references: readings,
            policy: None,
            contents,
            beyond: false,
        }
    }

    /// The same under that version of the tenant policy.
    #[must_use]
    pub fn under(self, policy: Option<ObservedReference>) -> Self {
        Self { policy, ..self }
    }

    fn all_references(&self) -> impl Iterator<Item = &ObservedReference> {
        self.references.iter().chain(&self.policy)
    }

    /// The same for a registry that is, or isn't, beyond its tenant's bound.
    #[must_use]
    pub fn beyond_the_bound(self, beyond: bool) -> Self {
        Self { beyond, ..self }
    }

    /// Whether a validation on the basis of `other` is of the same, asked for by the same request. The versions of what
    /// was read don't matter: a write that touches nothing but metadata changes nothing.
    pub fn is_same_request(&self, other: &Self) -> bool {
        self.requested_at == other.requested_at && self.is_same_target(other)
    }

    /// Whether the same was judged as on the basis of `other`. That somebody asked for it changes nothing in it.
    pub fn is_same_target(&self, other: &Self) -> bool {
        let judged =
            |basis: &Self| Self { requested_at: None, references: Vec::new(), policy: None, ..basis.clone() };
        judged(self) == judged(other)
    }

    /// Whether the object itself asks for nothing that this basis doesn't have.
    pub fn covers(&self, object: &RegistryObject) -> bool {
        self.uid == object.uid
            && self.generation == object.generation
            && self.requested_at == object.requested_at
            && self.suspended == object.spec.suspend
    }

    /// Whether a watch, asked for the version of each reference, knows of a newer one. A version that it doesn't know,
    /// or an older one, says only that the watch is behind.
    pub fn is_outdated(&self, version: impl Fn(&Reference) -> Option<String>) -> bool {
        self.all_references().any(|reading| {
            version(&reading.reference).is_some_and(|seen| is_newer(&seen, reading.version.as_deref()))
        })
    }

    /// Whether a reference, now seen in that version or gone, is not, or no longer, what was read.
    pub fn is_outdated_by(&self, seen: &ObservedReference) -> bool {
        let read = self.all_references().find(|reading| reading.reference == seen.reference);
        read.is_none_or(|read| match &seen.version {
            Some(version) => is_newer(version, read.version.as_deref()),
            None => read.version.is_some(),
        })
    }

    /// Whether this rests on that very reading.
    pub fn rests_on(&self, seen: &ObservedReference) -> bool {
        self.all_references().any(|reading| reading == seen)
    }
}

/// Whether resource version `seen` is newer than the one that was read, if any was: they are comparable numbers
/// (KEP-5504).
fn is_newer(seen: &str, read: Option<&str>) -> bool {
    let Some(read) = read else { return true };
    match (seen.parse::<u64>(), read.parse::<u64>()) {
        (Ok(seen), Ok(read)) => seen > read,
        _ => seen != read,
    }
}

impl History {
    /// The history after one more validation.
    #[must_use]
    pub fn after(&self, outcome: ValidationOutcome, basis: ValidationInputs) -> Self {
        // A change starts the count of rejections anew: the next try is of something else.
        let same = self.inputs.as_ref().is_some_and(|before| before.is_same_request(&basis));
        if matches!(outcome, ValidationOutcome::Postponed { .. }) {
            return Self { inputs: Some(basis), unpublished: None, ..self.clone() };
        }
        let count = |hit: bool, before: u32| if hit { before.saturating_add(1) } else { 0 };
        Self {
            transient: count(matches!(outcome, ValidationOutcome::Transient { .. }), self.transient),
            definite: count(outcome == ValidationOutcome::Definite, if same { self.definite } else { 0 }),
            rejections: count(
                matches!(outcome, ValidationOutcome::Rejected { .. }),
                if same { self.rejections } else { 0 },
            ),
            inputs: Some(basis),
            reported: self.reported.clone(),
            ready: self.ready.clone(),
            unpublished: None,
        }
    }

    /// How long to wait for the next validation after one that came to `outcome` and is counted here.
    ///
    /// `chance` is a random number from 0 to 1. `ends` are times at which what was seen stops to be so, such as the
    /// end of a certificate.
    pub fn wait(
        &self,
        outcome: ValidationOutcome,
        interval: Duration,
        ends: &[Timestamp],
        now: Timestamp,
        chance: f64,
    ) -> Duration {
        match outcome {
            ValidationOutcome::Usable => until_next_end(jittered(interval, chance), ends, now),
            ValidationOutcome::Transient { retry_after } => {
                let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
                jittered(Backoff::TRANSIENT.up_to(interval).after(self.transient).max(asked), chance)
            }
            ValidationOutcome::Rejected { pause } => {
                let own = || Backoff::REJECTED_CREDENTIALS.after(self.rejections);
                jittered(pause.unwrap_or_else(own), chance)
            }
            ValidationOutcome::Postponed { wait } => jittered(wait.max(SOONEST_TURN), chance),
            ValidationOutcome::Definite => {
                jittered(Backoff::DEFINITE.up_to(interval).after(self.definite), chance)
            }
        }
    }
}

/// Whoever waits for a turn does not come sooner than this: many may wait.
const SOONEST_TURN: Duration = Duration::from_secs(1);
/// A server that asks for a longer pause is asked again after this one.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Up to a tenth longer, so that what started together drifts apart. Never shorter: a wait is a promise.
fn jittered(wait: Duration, chance: f64) -> Duration {
    wait.saturating_add(wait.mul_f64(0.1 * chance.clamp(0.0, 1.0)))
}

/// Shortened so that the next validation comes just after the first of `ends` that lies ahead.
fn until_next_end(wait: Duration, ends: &[Timestamp], now: Timestamp) -> Duration {
    let ahead = |end: &Timestamp| Duration::try_from(end.duration_since(now)).ok();
    let first = ends.iter().filter_map(ahead).min();
    first.map_or(wait, |end| wait.min(end + Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use registry_verdict::resolve::ReferenceKind;

    const INTERVAL: Duration = Duration::from_mins(10);

    fn basis(generation: i64) -> ValidationInputs {
        ValidationInputs {
            uid: "u".into(),
            generation,
            requested_at: None,
            suspended: false,
            tenant: None,
            references: Vec::new(),
            policy: None,
            contents: ContentsDigest::default(),
            beyond: false,
        }
    }

    fn wait(history: &History, outcome: ValidationOutcome) -> Duration {
        history.wait(outcome, INTERVAL, &[], Timestamp::UNIX_EPOCH, 0.0)
    }

    fn repeated(outcome: ValidationOutcome, times: usize) -> Vec<Duration> {
        let mut history = History::default();
        let mut waits = Vec::new();
        for _ in 0..times {
            history = history.after(outcome, basis(1));
            waits.push(wait(&history, outcome));
        }
        waits
    }

    /// A rejection of which nothing is remembered but here.
    const REJECTED: ValidationOutcome = ValidationOutcome::Rejected { pause: None };

    #[test]
    fn rejected_password_backs_off_to_sixty_minutes() {
        let minutes: Vec<u64> = repeated(REJECTED, 8).iter().map(|wait| wait.as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn shared_delay_overrides_own_count() {
        let pause = Duration::from_mins(16);
        assert_eq!(repeated(ValidationOutcome::Rejected { pause: Some(pause) }, 2), [pause, pause]);
    }

    #[test]
    fn waiting_for_a_turn_is_not_a_failure() {
        let before = History { transient: 2, definite: 1, rejections: 3, ..History::default() };
        let postponed = ValidationOutcome::Postponed { wait: Duration::from_secs(40) };
        let after = before.after(postponed, basis(1));
        assert_eq!((after.transient, after.definite, after.rejections), (2, 1, 3));
        assert_eq!(wait(&after, postponed), Duration::from_secs(40));
        assert_eq!(wait(&after, ValidationOutcome::Postponed { wait: Duration::ZERO }), SOONEST_TURN);
    }

    #[test]
    fn change_resets_rejection_count() {
        let history =
            History::default().after(REJECTED, basis(1)).after(REJECTED, basis(1)).after(REJECTED, basis(2));
        assert_eq!(history.rejections, 1);
    }

    #[test]
    fn transient_failure_backs_off_to_the_interval() {
        let seconds: Vec<u64> = repeated(ValidationOutcome::Transient { retry_after: None }, 9)
            .iter()
            .map(Duration::as_secs)
            .collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
    }

    #[test]
    fn honours_retry_after_up_to_an_hour() {
        let history = History { transient: 1, ..History::default() };
        let asked =
            |seconds| ValidationOutcome::Transient { retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(wait(&history, asked(120)), Duration::from_mins(2));
        assert_eq!(wait(&history, asked(1)), Backoff::TRANSIENT.first());
        assert_eq!(wait(&history, asked(u64::MAX)), Duration::from_hours(1));
    }

    #[test]
    fn certificate_expiry_advances_validation() {
        let now = Timestamp::UNIX_EPOCH;
        let end = now + Duration::from_mins(1);
        let wait = History::default().wait(ValidationOutcome::Usable, INTERVAL, &[end], now, 0.5);
        assert_eq!(wait, Duration::from_secs(61));
        let wait = History::default().wait(
            ValidationOutcome::Usable,
            INTERVAL,
            &[end],
            end + Duration::from_secs(5),
            0.0,
        );
        assert_eq!(wait, INTERVAL, "an end that has passed brings nothing forward");
    }

    fn reading(name: &str, version: Option<&str>) -> ObservedReference {
        let reference = Reference::new(ReferenceKind::Secret, "registry-system", name);
        ObservedReference { reference, version: version.map(ToOwned::to_owned) }
    }

    fn resting_on(readings: &[ObservedReference]) -> ValidationInputs {
        ValidationInputs { references: readings.to_vec(), ..basis(1) }
    }

    fn object() -> RegistryObject {
        let mut registry = registry_api::SystemRegistry::new("packs", registry_api::RegistrySpec::default());
        registry.metadata.uid = Some("u".into());
        registry.metadata.generation = Some(1);
        RegistryObject::of(registry)
    }

    #[test]
    fn inputs_are_current_until_object_changes() {
        let basis = ValidationInputs::of(&object(), None, Vec::new(), ContentsDigest::default());
        assert!(basis.covers(&RegistryObject { resource_version: "2".into(), ..object() }));
        let changes: [fn(&mut RegistryObject); 4] = [
            |object| object.uid = "another".into(),
            |object| object.generation = 2,
            |object| object.requested_at = Some("now".into()),
            |object| object.spec.suspend = true,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = object();
            change(&mut changed);
            assert!(!basis.covers(&changed), "change {index}");
        }
    }

    #[test]
    fn request_does_not_change_the_inputs() {
        let asked = ValidationInputs { requested_at: Some("now".into()), ..basis(1) };
        assert!(asked.is_same_target(&basis(1)) && !asked.is_same_request(&basis(1)));
        assert!(!asked.is_same_target(&basis(2)));
    }

    #[test]
    fn only_content_changes_the_inputs() {
        let (first, touched) =
            (resting_on(&[reading("a", Some("1"))]), resting_on(&[reading("a", Some("2"))]));
        assert!(first.is_same_request(&touched) && first != touched);
        let mut contents = ContentsDigest::default();
        contents.add(b"another password");
        assert!(!first.is_same_request(&ValidationInputs { contents, ..touched }));
    }

    #[test]
    fn only_newer_version_outdates_a_reference() {
        let rests = resting_on(&[reading("a", Some("10"))]);
        for (seen, outdated) in [(Some("11"), true), (Some("10"), false), (Some("9"), false), (None, false)] {
            assert_eq!(rests.is_outdated(|_| seen.map(ToOwned::to_owned)), outdated, "{seen:?}");
        }
        assert!(resting_on(&[reading("a", None)]).is_outdated(|_| Some("1".into())), "it came to be");
        for (seen, outdated) in [(Some("11"), true), (Some("10"), false), (Some("9"), false), (None, true)] {
            assert_eq!(rests.is_outdated_by(&reading("a", seen)), outdated, "{seen:?}");
        }
        assert!(!resting_on(&[reading("a", None)]).is_outdated_by(&reading("a", None)), "gone as before");
        assert!(rests.is_outdated_by(&reading("b", Some("1"))), "never read");
        assert!(rests.rests_on(&reading("a", Some("10"))) && !rests.rests_on(&reading("a", Some("11"))));
    }

    #[test]
    fn counters_reset_on_other_outcome() {
        let unpublished = Some(Box::new(Unpublished { status: RegistryStatus::default(), tries: 1 }));
        let counted = History {
            inputs: Some(basis(1)),
            transient: 3,
            definite: 4,
            rejections: 5,
            unpublished,
            ..History::default()
        };
        let counts = |outcome, basis| {
            let after = counted.after(outcome, basis);
            assert_eq!(after.unpublished, None);
            (after.transient, after.definite, after.rejections)
        };
        let transient = ValidationOutcome::Transient { retry_after: None };
        assert_eq!(counts(ValidationOutcome::Usable, basis(1)), (0, 0, 0));
        assert_eq!(counts(transient, basis(1)), (4, 0, 0));
        assert_eq!(counts(ValidationOutcome::Definite, basis(1)), (0, 5, 0));
        assert_eq!(counts(REJECTED, basis(1)), (0, 0, 6));
        assert_eq!(counts(transient, basis(2)), (4, 0, 0), "the registry is still away");
        assert_eq!(counts(ValidationOutcome::Definite, basis(2)), (0, 1, 0));
        assert_eq!(counts(REJECTED, basis(2)), (0, 0, 1));
    }

    #[test]
    fn definite_failure_backs_off_to_the_interval() {
        let seconds: Vec<u64> =
            repeated(ValidationOutcome::Definite, 7).iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn failed_write_backs_off_to_thirty_seconds() {
        let wait = |tries| Unpublished { status: RegistryStatus::default(), tries }.wait(0.0).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(wait), [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn distant_expiry_does_not_delay_validation() {
        let now = Timestamp::UNIX_EPOCH;
        let end = now + Duration::from_hours(24);
        assert_eq!(History::default().wait(ValidationOutcome::Usable, INTERVAL, &[end], now, 0.0), INTERVAL);
    }

    proptest! {
        #[test]
        fn jitter_adds_at_most_ten_percent(
            failures in 0u32..1000, chance in 0.0f64..=1.0, interval in 60u64..86_400,
        ) {
            let interval = Duration::from_secs(interval);
            let history = History { transient: failures, rejections: failures, definite: failures, ..History::default() };
            for outcome in [ValidationOutcome::Usable, ValidationOutcome::Transient { retry_after: None }, REJECTED, ValidationOutcome::Definite] {
                let least = history.wait(outcome, interval, &[], Timestamp::UNIX_EPOCH, 0.0);
                let wait = history.wait(outcome, interval, &[], Timestamp::UNIX_EPOCH, chance);
                prop_assert!(wait >= least && wait <= least.mul_f64(1.1) + Duration::from_millis(1));
            }
        }
    }
}
