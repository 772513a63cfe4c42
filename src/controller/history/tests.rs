//! When the next validation is due, and what makes it due sooner.

use proptest::prelude::*;
use registry_api::{RegistrySpec, SystemRegistry};
use registry_verdict::resolve::ReferenceKind;

use super::*;

const INTERVAL: Duration = Duration::from_mins(10);

fn inputs(generation: i64) -> ValidationInputs {
    let mut registry = SystemRegistry::new("packs", RegistrySpec::default());
    registry.metadata.generation = Some(generation);
    ValidationInputs::of(&RegistryObject::of(registry), None)
}

fn validation() -> Arc<ValidationRecord> {
    Arc::new(ValidationRecord::first(Observation::NotATenant, Timestamp::UNIX_EPOCH))
}

/// The history after one more validation of that generation.
fn after(history: &History, outcome: ValidationOutcome, generation: i64) -> History {
    let mut history = history.clone();
    history.replace(outcome, inputs(generation), validation());
    history
}

fn wait(history: &History, outcome: ValidationOutcome) -> Duration {
    history.wait(outcome, INTERVAL, &[], Timestamp::UNIX_EPOCH, 0.0)
}

fn repeated(outcome: ValidationOutcome, times: usize) -> Vec<Duration> {
    let mut history = History::default();
    let mut waits = Vec::new();
    for _ in 0..times {
        history = after(&history, outcome, 1);
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
    let after = after(&before, postponed, 1);
    assert_eq!((after.transient, after.definite, after.rejections), (2, 1, 3));
    assert_eq!(wait(&after, postponed), Duration::from_secs(40));
    assert_eq!(wait(&after, ValidationOutcome::Postponed { wait: Duration::ZERO }), SOONEST_TURN);
}

#[test]
fn change_resets_rejection_count() {
    let twice = after(&after(&History::default(), REJECTED, 1), REJECTED, 1);
    let history = after(&twice, REJECTED, 2);
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

/// How often a registry is asked in an hour in which every answer is the same.
fn asked_in_an_hour(retry_after: Option<Duration>) -> usize {
    let waits = repeated(ValidationOutcome::Transient { retry_after }, 720).into_iter();
    let ends = waits.scan(Duration::ZERO, |passed, wait| {
        *passed += wait;
        Some(*passed)
    });
    ends.take_while(|end| *end <= Duration::from_hours(1)).count()
}

#[test]
fn fault_26_busy_registry_is_asked_rarely_in_an_hour() {
    assert_eq!(asked_in_an_hour(None), 11, "5, 10, 20, 40, 80, 160 and 320 s, then every ten minutes");
    assert_eq!(asked_in_an_hour(Some(Duration::from_mins(2))), 11, "never sooner than it asks");
    assert_eq!(asked_in_an_hour(Some(Duration::from_mins(30))), 2);
}

#[test]
fn honours_retry_after_up_to_an_hour() {
    let history = History { transient: 1, ..History::default() };
    let asked = |seconds| ValidationOutcome::Transient { retry_after: Some(Duration::from_secs(seconds)) };
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

#[test]
fn counters_reset_on_other_outcome() {
    let counted = History {
        inputs: Some(inputs(1)),
        transient: 3,
        definite: 4,
        rejections: 5,
        failed_writes: 6,
        ..History::default()
    };
    let counts = |outcome, generation| {
        let after = after(&counted, outcome, generation);
        assert_eq!(after.failed_writes, 0);
        (after.transient, after.definite, after.rejections)
    };
    let transient = ValidationOutcome::Transient { retry_after: None };
    assert_eq!(counts(ValidationOutcome::Usable, 1), (0, 0, 0));
    assert_eq!(counts(transient, 1), (4, 0, 0));
    assert_eq!(counts(ValidationOutcome::Definite, 1), (0, 5, 0));
    assert_eq!(counts(REJECTED, 1), (0, 0, 6));
    assert_eq!(counts(transient, 2), (4, 0, 0), "the registry is still away");
    assert_eq!(counts(ValidationOutcome::Definite, 2), (0, 1, 0));
    assert_eq!(counts(REJECTED, 2), (0, 0, 1));
}

#[test]
fn definite_failure_backs_off_to_the_interval() {
    let seconds: Vec<u64> = repeated(ValidationOutcome::Definite, 7).iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [30, 60, 120, 240, 480, 600, 600]);
}

#[test]
fn failed_write_backs_off_to_thirty_seconds() {
    let mut history = History::default();
    let waits = [(); 7].map(|()| history.write_failed(0.0).as_secs());
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
}

#[test]
fn contested_write_backs_off_to_four_seconds() {
    let mut history = History::default();
    let waits = [(); 5].map(|()| history.write_contested(0.0).as_secs());
    assert_eq!(waits, [1, 2, 4, 4, 4]);
}

#[test]
fn distant_expiry_does_not_delay_validation() {
    let now = Timestamp::UNIX_EPOCH;
    let end = now + Duration::from_hours(24);
    assert_eq!(History::default().wait(ValidationOutcome::Usable, INTERVAL, &[end], now, 0.0), INTERVAL);
}

#[test]
fn validates_on_change_or_when_due() {
    let now = Instant::now();
    let soon = now + Duration::from_secs(1);
    let history = History { inputs: Some(inputs(1)), due: Some(soon), ..History::default() };
    assert_eq!(history.urgency(&inputs(1), now), None);
    assert_eq!(history.urgency(&inputs(2), now), Some(Urgency::Changed));
    assert_eq!(history.urgency(&inputs(1), soon), Some(Urgency::Due));
    let made_due = History { due: None, ..history };
    assert_eq!(made_due.urgency(&inputs(1), now), Some(Urgency::Due));
    assert_eq!(History::default().urgency(&inputs(1), now), Some(Urgency::Changed));
}

#[test]
fn records_what_came_before_a_validation() {
    let now = Instant::now();
    let mut history = History { transient: 2, ..History::default() };
    history.add(Observation::NotATenant, inputs(1), Timestamp::UNIX_EPOCH);
    history.schedule(now, 0.0);
    let validation = history.validation.clone().unwrap();
    assert_eq!((validation.transient_failures, validation.same_inputs), (2, true));
    assert_eq!((history.transient, history.left(now)), (0, Some(Backoff::DEFINITE.first())));
    history.add(Observation::NotATenant, inputs(2), Timestamp::UNIX_EPOCH);
    assert!(!history.validation.unwrap().same_inputs);
}

fn observed(name: &str, version: Option<&str>) -> ObservedReference {
    let reference = Reference::new(ReferenceKind::Secret, "registry-system", name);
    ObservedReference { reference, version: version.map(ToOwned::to_owned) }
}

fn having_read(observed: &[ObservedReference]) -> ValidationInputs {
    ValidationInputs { references: observed.to_vec(), ..inputs(1) }
}

fn object() -> RegistryObject {
    let mut registry = registry_api::SystemRegistry::new("packs", registry_api::RegistrySpec::default());
    registry.metadata.uid = Some("u".into());
    registry.metadata.generation = Some(1);
    RegistryObject::of(registry)
}

#[test]
fn inputs_are_current_until_object_changes() {
    let inputs = ValidationInputs::of(&object(), None);
    assert!(inputs.covers(&RegistryObject { resource_version: "2".into(), ..object() }));
    let changes: [fn(&mut RegistryObject); 4] = [
        |object| object.uid = "another".into(),
        |object| object.generation = 2,
        |object| object.requested_at = Some("now".into()),
        |object| object.spec.suspend = true,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = object();
        change(&mut changed);
        assert!(!inputs.covers(&changed), "change {index}");
    }
}

#[test]
fn request_does_not_change_the_inputs() {
    let asked = ValidationInputs { requested_at: Some("now".into()), ..inputs(1) };
    assert!(asked.is_same_target(&inputs(1)) && !asked.is_same_request(&inputs(1)));
    assert!(!asked.is_same_target(&inputs(2)));
}

#[test]
fn only_content_changes_the_inputs() {
    let (first, touched) =
        (having_read(&[observed("a", Some("1"))]), having_read(&[observed("a", Some("2"))]));
    assert!(first.is_same_request(&touched) && first != touched);
    let mut contents = ContentsDigest::default();
    contents.add(b"another password");
    assert!(!first.is_same_request(&ValidationInputs { contents, ..touched }));
}

#[test]
fn only_newer_version_outdates_a_reference() {
    let read = having_read(&[observed("a", Some("10"))]);
    for (version, outdated) in [(Some("11"), true), (Some("10"), false), (Some("9"), false), (None, false)] {
        assert_eq!(read.is_outdated(|_| version.map(ToOwned::to_owned)), outdated, "{version:?}");
    }
    assert!(having_read(&[observed("a", None)]).is_outdated(|_| Some("1".into())), "it came to be");
    for (version, outdated) in [(Some("11"), true), (Some("10"), false), (Some("9"), false), (None, true)] {
        assert_eq!(read.is_outdated_by(&observed("a", version)), outdated, "{version:?}");
    }
    assert!(!having_read(&[observed("a", None)]).is_outdated_by(&observed("a", None)), "gone as before");
    assert!(read.is_outdated_by(&observed("b", Some("1"))), "never read");
    assert!(read.contains(&observed("a", Some("10"))) && !read.contains(&observed("a", Some("11"))));
}

proptest! {
    #[test]
    fn jitter_adds_at_most_ten_percent(
        failures in 0u32..1000, jitter in 0.0f64..=1.0, interval in 60u64..86_400,
    ) {
        let interval = Duration::from_secs(interval);
        let history = History { transient: failures, rejections: failures, definite: failures, ..History::default() };
        for outcome in [ValidationOutcome::Usable, ValidationOutcome::Transient { retry_after: None }, REJECTED, ValidationOutcome::Definite] {
            let least = history.wait(outcome, interval, &[], Timestamp::UNIX_EPOCH, 0.0);
            let wait = history.wait(outcome, interval, &[], Timestamp::UNIX_EPOCH, jitter);
            prop_assert!(wait >= least && wait <= least.mul_f64(1.1) + Duration::from_millis(1));
        }
    }
}
