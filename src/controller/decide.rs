//! What to do about a registry next: decisions from the object, its history, and the state of its pull Secrets. Pure. The
//! [`reconcile`](mod@super::reconcile) module acts on them.

use registry_verdict::{
    assess::{AvailabilityReport, assess},
    known_status::StatusDifference,
    object::RegistryObject,
    resolve::ObservedReference,
};

use super::{
    history::{History, ValidationInputs},
    in_flight::InFlight,
    publish::is_time_old,
};

/// What to do about an object.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectStep {
    /// Add the finalizer.
    AddFinalizer,
    /// Remove the finalizer.
    RemoveFinalizer,
    /// Wait until the pull Secrets of an object that is being deleted are removed.
    AwaitRemoval,
    /// Keep the status, because the object is suspended.
    Suspend,
    /// Read the references, and validate if [`History::urgency`] says so.
    Read,
}

/// Decides what to do about `object`. `removed`: the object is being deleted or asks for no pull Secret, and has none left.
pub fn decide(object: &RegistryObject, removed: bool) -> ObjectStep {
    let needed = object.needs_cleanup() && !object.deleting;
    if object.finalizer && !needed && removed {
        ObjectStep::RemoveFinalizer
    } else if object.deleting {
        ObjectStep::AwaitRemoval
    } else if needed && !object.finalizer {
        // A client that replaces the object without our finalizer removes it.
        ObjectStep::AddFinalizer
    } else if object.spec.suspend {
        ObjectStep::Suspend
    } else {
        ObjectStep::Read
    }
}

/// Whether `object` asks for work that has not been done, whatever its references contain.
pub fn is_pending(object: &RegistryObject, history: &History, removed: bool) -> bool {
    match decide(object, removed) {
        ObjectStep::AwaitRemoval => false,
        ObjectStep::AddFinalizer => true,
        ObjectStep::RemoveFinalizer if object.deleting => true,
        ObjectStep::RemoveFinalizer | ObjectStep::Suspend | ObjectStep::Read => !history.covers(object),
    }
}

/// How the status of an object differs from what its last validation and its pull Secrets lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatusDrift {
    /// It doesn't, or the next validation writes it anyway.
    None,
    /// Only in the counts and the message of Ready, which change with the pull Secrets.
    PullSecrets,
    /// In more: another client wrote it, or the last write failed.
    Overwritten,
}

/// Compares the status of `object` with what it should be.
pub fn status_drift(object: &RegistryObject, history: &History, report: &AvailabilityReport) -> StatusDrift {
    let is_settled = !object.deleting && !object.spec.suspend && history.covers(object);
    let Some(validation) = history.validation.as_deref().filter(|_| is_settled) else {
        return StatusDrift::None;
    };
    let status = assess(object, validation, report);
    match object.status.difference(&status) {
        StatusDifference::None if !is_time_old(object, &status) => StatusDrift::None,
        StatusDifference::PullSecrets if !is_time_old(object, &status) => StatusDrift::PullSecrets,
        StatusDifference::None | StatusDifference::PullSecrets | StatusDifference::More => {
            StatusDrift::Overwritten
        }
    }
}

/// What to do about an object when one of its references changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OnReference {
    /// Cancel the work in flight: it is based on another version.
    pub supersede: bool,
    /// Read the references again, after any work in flight.
    pub look: bool,
}

/// Decides what to do when a reference was `observed` in a version, or gone. `last` are the inputs of the last validation.
///
/// Work in flight that read the reference before the change may be too far on to be cancelled, and its result is not in `last` yet.
/// So the references are read again in any case.
pub fn on_reference(
    observed: &ObservedReference,
    in_flight: Option<&InFlight>,
    last: Option<&ValidationInputs>,
) -> OnReference {
    let inputs = in_flight.and_then(InFlight::inputs);
    let supersede = inputs.is_some_and(|inputs| inputs.is_outdated_by(observed));
    let may_be_outdated = in_flight.is_some() && inputs.is_none_or(|inputs| inputs.is_outdated_by(observed));
    let is_known = last.is_some_and(|inputs| inputs.contains(observed));
    OnReference { supersede, look: may_be_outdated || !is_known }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::jiff::Timestamp;
    use proptest::prelude::*;
    use registry_api::{
        RegistrySpec, SystemRegistry,
        spec::{Availability, PullSecret},
    };
    use registry_verdict::{
        assess::{Observation, ValidationRecord},
        known_status::KnownStatus,
        resolve::{Reference, ReferenceKind},
        steps::Examination,
    };

    use super::*;

    fn object(pull_secret: bool, suspend: bool) -> RegistryObject {
        let pull_secret = pull_secret.then(|| PullSecret { name: "pull".to_owned() });
        let availability = Some(Availability { pull_secret, ..Availability::default() });
        let spec = RegistrySpec { suspend, availability, ..RegistrySpec::default() };
        RegistryObject::of(SystemRegistry::new("packs", spec))
    }

    fn inputs(object: &RegistryObject) -> ValidationInputs {
        ValidationInputs::of(object, None)
    }

    fn in_flight() -> InFlight {
        InFlight::default()
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
            let read = Examination {
                references: vec![observed(version)],
                ..Examination::stopped(Observation::NotATenant)
            };
            ValidationInputs::of(&object, None).with(&read)
        };
        let (missing, read) = (resting_on(None), in_flight());
        read.set_inputs(resting_on(Some("7")));
        let next = on_reference(&observed(None), Some(&read), Some(&missing));
        assert_eq!(next, OnReference { supersede: true, look: true });
        let reading = on_reference(&observed(None), Some(&in_flight()), Some(&missing));
        assert_eq!(reading, OnReference { supersede: false, look: true }, "it may have been read before");
        let idle = on_reference(&observed(None), None, Some(&missing));
        assert_eq!(idle, OnReference { supersede: false, look: false }, "nothing has changed");
        assert!(on_reference(&observed(Some("8")), None, Some(&missing)).look);
    }

    /// The history of an object that was validated and found to belong to no tenant.
    fn validated(object: &RegistryObject) -> History {
        let validation = ValidationRecord::first(Observation::NotATenant, Timestamp::UNIX_EPOCH);
        History { validation: Some(Arc::new(validation)), ..remembering(inputs(object)) }
    }

    #[test]
    fn status_drifts_until_written() {
        let (mut object, report) = (object(false, false), AvailabilityReport::default());
        let history = validated(&object);
        assert_eq!(status_drift(&object, &history, &report), StatusDrift::Overwritten, "never written");
        let written = assess(&object, history.validation.as_deref().unwrap(), &report);
        object.status = KnownStatus::of(&written);
        assert_eq!(status_drift(&object, &history, &report), StatusDrift::None);
        let note = AvailabilityReport { note: Some("a pull Secret is missing".into()), ..report.clone() };
        assert_eq!(status_drift(&object, &history, &note), StatusDrift::PullSecrets);
        let mut another = written.clone();
        another.conditions[0].message = "another client's".to_owned();
        let overwritten = RegistryObject { status: KnownStatus::of(&another), ..object.clone() };
        assert_eq!(status_drift(&overwritten, &history, &note), StatusDrift::Overwritten);
        let changed = RegistryObject { generation: object.generation + 1, ..object.clone() };
        assert_eq!(
            status_drift(&changed, &history, &note),
            StatusDrift::None,
            "the next validation writes it"
        );
        let deleting = RegistryObject { deleting: true, ..object };
        assert_eq!(status_drift(&deleting, &history, &note), StatusDrift::None);
    }
}
