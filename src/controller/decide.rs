//! What is to be done about a registry next: pure decisions from the object, what is remembered of it, and how its pull Secrets
//! stand. The effects are [`reconcile`](mod@super::reconcile)'s; whose turn it is, the queue's.

use std::time::Duration;

use registry_api::RegistryStatus;
use registry_verdict::{
    assess::{AvailabilityReport, with_availability},
    ecr::Urgency,
    object::RegistryObject,
    resolve::ObservedReference,
};

use super::{
    reconcile::InFlight,
    schedule::{History, ValidationInputs},
};

/// What is to be done about an object.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectStep {
    /// The finalizer is put on.
    AddFinalizer,
    /// The finalizer is taken off.
    RemoveFinalizer,
    /// Nothing: it is being deleted, and its pull Secrets are still being removed.
    AwaitRemoval,
    /// It is remembered that it is suspended; what its status says stays.
    Suspend,
    /// What it refers to is read; [`after_reading`] says what is next.
    Read,
}

/// What is to be done once the object's references were read.
#[derive(Clone, Debug, PartialEq)]
pub enum AfterReading {
    /// The registry is asked.
    Validate(Urgency),
    /// Nothing has changed and nothing is due: that status is still to be written.
    Publish(Box<RegistryStatus>),
    /// The status says what is so.
    Nothing,
}

/// What is to be done about `object`. `removed`: it is being deleted or asks for no pull Secret any more, and has none left.
pub fn decide(object: &RegistryObject, removed: bool) -> ObjectStep {
    let needed = object.needs_cleanup() && !object.deleting;
    if object.finalizer && !needed && removed {
        ObjectStep::RemoveFinalizer
    } else if object.deleting {
        ObjectStep::AwaitRemoval
    } else if needed && !object.finalizer {
        // Who replaces an object without naming our finalizer takes it off.
        ObjectStep::AddFinalizer
    } else if object.spec.suspend {
        ObjectStep::Suspend
    } else {
        ObjectStep::Read
    }
}

/// What is to be done about `object`, whose references now make `inputs`. `left` is the time until its next validation is due.
/// `report`, which costs a look at all namespaces that the registry is for, is asked for only where nothing is validated.
pub fn after_reading(
    object: &RegistryObject,
    history: &History,
    report: impl FnOnce() -> AvailabilityReport,
    inputs: &ValidationInputs,
    left: Option<Duration>,
) -> AfterReading {
    let is_same = history.inputs.as_ref().is_some_and(|before| before.is_same_request(inputs));
    match (is_same, left.is_none_or(|left| left.is_zero())) {
        (false, _) => AfterReading::Validate(Urgency::Changed),
        (true, true) => AfterReading::Validate(Urgency::Due),
        (true, false) => unwritten(object, history, report)
            .map_or(AfterReading::Nothing, |status| AfterReading::Publish(Box::new(status))),
    }
}

/// Whether `object` asks for something that has not been done, and can be, whatever its references hold.
pub fn is_pending(object: &RegistryObject, history: &History, removed: bool) -> bool {
    match decide(object, removed) {
        ObjectStep::AwaitRemoval => false,
        ObjectStep::AddFinalizer => true,
        ObjectStep::RemoveFinalizer if object.deleting => true,
        ObjectStep::RemoveFinalizer | ObjectStep::Suspend | ObjectStep::Read => {
            history.inputs.as_ref().is_none_or(|inputs| !inputs.covers(object))
        }
    }
}

/// Whether the status of `object` says another thing of its availability than is so.
pub fn is_miscounted(object: &RegistryObject, history: &History, report: &AvailabilityReport) -> bool {
    !object.deleting && !object.spec.suspend && retold(object, history, report).is_some()
}

/// What a changed reference means for an object that refers to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OnReference {
    /// Work under way rests on another version: it ends as soon as it can.
    pub supersede: bool,
    /// The references are to be read again, after work that is under way.
    pub look: bool,
}

/// What follows when a reference was `observed` so, or gone. `running` is the work under way on the object, `last` what its newest
/// verdict rests on.
///
/// Work that has read the reference before it changed may be past the point where it can be superseded, and its verdict is not
/// the newest yet: another look follows in any case.
pub fn on_reference(
    observed: &ObservedReference,
    running: Option<&InFlight>,
    last: Option<&ValidationInputs>,
) -> OnReference {
    let inputs = running.and_then(InFlight::inputs);
    let supersede = inputs.is_some_and(|inputs| inputs.is_outdated_by(observed));
    let may_have_read_before =
        running.is_some() && inputs.is_none_or(|inputs| inputs.is_outdated_by(observed));
    let rests_on_it = last.is_some_and(|inputs| inputs.rests_on(observed));
    OnReference { supersede, look: may_have_read_before || !rests_on_it }
}

/// The status that is still to be written: the verdict that the API server did not take, or else other counts.
fn unwritten(
    object: &RegistryObject,
    history: &History,
    report: impl FnOnce() -> AvailabilityReport,
) -> Option<RegistryStatus> {
    let unpublished = history.unpublished.as_ref().map(|unpublished| unpublished.status.clone());
    unpublished.or_else(|| retold(object, history, &report()))
}

/// The status with what is to be said of the availability now, if that is another thing than it says.
fn retold(object: &RegistryObject, history: &History, report: &AvailabilityReport) -> Option<RegistryStatus> {
    let ready = history.ready.as_deref()?;
    let status = with_availability(&object.status, ready, report);
    (status != object.status).then_some(status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use registry_api::{
        RegistrySpec, SystemRegistry,
        spec::{Availability, PullSecret},
    };
    use registry_verdict::resolve::{ContentsDigest, Reference, ReferenceKind};

    use super::*;

    fn object(pull_secret: bool, suspend: bool) -> RegistryObject {
        let pull_secret = pull_secret.then(|| PullSecret { name: "pull".to_owned() });
        let availability = Some(Availability { pull_secret, ..Availability::default() });
        let spec = RegistrySpec { suspend, availability, ..RegistrySpec::default() };
        RegistryObject::of(SystemRegistry::new("packs", spec))
    }

    fn inputs(object: &RegistryObject) -> ValidationInputs {
        ValidationInputs::of(object, None, Vec::new(), ContentsDigest::default())
    }

    fn remembering(inputs: ValidationInputs) -> History {
        History { inputs: Some(inputs), ..History::default() }
    }

    proptest! {
        #[test]
        fn deletion_waits_for_pull_secrets_only(
            deleting: bool, finalizer: bool, pull_secret: bool, suspend: bool, removed: bool,
        ) {
            let object = RegistryObject { deleting, finalizer, ..object(pull_secret, suspend) };
            let step = decide(&object, removed);
            match &step {
                ObjectStep::RemoveFinalizer => prop_assert!(finalizer && removed && (deleting || !pull_secret)),
                ObjectStep::AddFinalizer => prop_assert!(!finalizer && pull_secret && !deleting),
                ObjectStep::AwaitRemoval => prop_assert!(deleting && !(finalizer && removed)),
                ObjectStep::Suspend => prop_assert!(suspend && !deleting),
                ObjectStep::Read => prop_assert!(!suspend && !deleting),
            }
        }

        #[test]
        fn nothing_is_pending_after_completion(finalizer: bool, pull_secret: bool, suspend: bool, removed: bool) {
            let object = RegistryObject { finalizer, ..object(pull_secret, suspend) };
            let pending = is_pending(&object, &remembering(inputs(&object)), removed);
            prop_assert_eq!(pending, pull_secret && !finalizer);
        }

        #[test]
        fn validates_on_change_or_when_due(seconds in 1u64..86_400, changed: bool) {
            let before = object(false, false);
            let after = RegistryObject { generation: before.generation + i64::from(changed), ..before.clone() };
            let (history, left) = (remembering(inputs(&before)), Some(Duration::from_secs(seconds)));
            let next = after_reading(&after, &history, AvailabilityReport::default, &inputs(&after), left);
            let expected = if changed { AfterReading::Validate(Urgency::Changed) } else { AfterReading::Nothing };
            prop_assert_eq!(next, expected);
            for due in [None, Some(Duration::ZERO)] {
                let next = after_reading(&after, &history, AvailabilityReport::default, &inputs(&after), due);
                prop_assert!(matches!(next, AfterReading::Validate(_)));
            }
        }
    }

    /// Created, validated and deleted again while the verdict on the creation is being written: the newest verdict that is known
    /// rests on the missing Secret, as the world is now again; the one that is being written doesn't.
    #[test]
    fn notices_deletion_during_status_write() {
        let reference = Reference::new(ReferenceKind::Secret, "registry-system", "login");
        let observed = |version: Option<&str>| ObservedReference {
            reference: reference.clone(),
            version: version.map(ToOwned::to_owned),
        };
        let resting_on = |version| {
            let object = object(false, false);
            ValidationInputs::of(&object, None, vec![observed(version)], ContentsDigest::default())
        };
        let (missing, read) = (resting_on(None), InFlight::default());
        read.rests_on(resting_on(Some("7")));
        let next = on_reference(&observed(None), Some(&read), Some(&missing));
        assert_eq!(next, OnReference { supersede: true, look: true });
        let reading = on_reference(&observed(None), Some(&InFlight::default()), Some(&missing));
        assert_eq!(reading, OnReference { supersede: false, look: true }, "it may have been read before");
        let idle = on_reference(&observed(None), None, Some(&missing));
        assert_eq!(idle, OnReference { supersede: false, look: false }, "nothing has changed");
        assert!(on_reference(&observed(Some("8")), None, Some(&missing)).look);
    }

    #[test]
    fn unwritten_verdict_comes_before_counts() {
        use super::super::schedule::Unpublished;
        let object = object(false, false);
        let status = RegistryStatus { observed_generation: Some(7), ..RegistryStatus::default() };
        let unpublished = Some(Box::new(Unpublished { status: status.clone(), tries: 1 }));
        let history = History { unpublished, ready: Some("ready".into()), ..remembering(inputs(&object)) };
        let left = Some(Duration::from_mins(1));
        let next = after_reading(&object, &history, AvailabilityReport::default, &inputs(&object), left);
        assert_eq!(next, AfterReading::Publish(Box::new(status)));
        let history = History { unpublished: None, ..history };
        assert!(
            is_miscounted(&object, &history, &AvailabilityReport::default()),
            "the counts are in no status yet"
        );
    }
}
