//! The path of one registry, from its spec to its status: validate, resolve, probe, assess, publish, schedule.

use std::time::Duration;

use registry_probe::Backoff;
use registry_verdict::{assess::assess, object::RegistryObject, resolve::ReadError};
use thiserror::Error;
use tokio::time::Instant;

use super::{
    context::Context,
    decide::{ObjectStep, decide},
    history::{History, ValidationInputs},
    in_flight::InFlight,
    probe::probe,
    publish::{PublishError, publish, publish_finalizer, read_whole},
    resolve::resolve,
};
use crate::{kubernetes::call::CallError, tenancy::access::AccessError};

/// Why a reconciliation did not finish; it is tried again.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A reference could not be read.
    #[error(transparent)]
    Read(#[from] ReadError<CallError>),
    /// The object could not be read or written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The namespace could not be read.
    #[error("failed to get the namespace's tenant: {0}")]
    Tenant(#[from] AccessError),
    /// The namespace has the tenant label, but the watch of namespaces does not show it yet.
    #[error("the watch of namespaces is behind")]
    TenantUnseen,
    /// The operator has too many files open: the validation says nothing about the registry.
    #[error("registry not validated: too many open files; raise the operator's limit on open files")]
    OwnLimit,
    /// The object or a reference changed during the validation, which starts again at once.
    #[error("the object changed during its validation")]
    Superseded,
}

impl ReconcileError {
    /// Returns how long to wait before the next try after that many failures in a row.
    pub fn pause(&self, failures: u32) -> Duration {
        match self {
            Self::Read(ReadError::Api { source, .. })
            | Self::Publish(PublishError::Api { source, .. })
            | Self::Tenant(AccessError::Api(source)) => source.pause(failures),
            Self::TenantUnseen => Backoff::TENANT_UNSEEN.after(failures),
            Self::Read(ReadError::Forbidden { .. })
            | Self::Publish(PublishError::Gone(_) | PublishError::Conflict(_))
            | Self::Tenant(AccessError::NoRole)
            | Self::OwnLimit
            | Self::Superseded => Backoff::API_CALL.after(failures),
        }
    }
}

/// Brings the status of a registry up to date. Returns how long until there is something to do again, apart from the next validation,
/// which is in `history`.
///
/// `object` becomes the object as written. After an error, `history` is of no use.
pub async fn reconcile(
    context: &Context,
    object: &mut RegistryObject,
    history: &mut History,
    in_flight: &InFlight,
) -> Result<Option<Duration>, ReconcileError> {
    let beyond_quota = context.quota().is_beyond(&object.key);
    match decide(object, context.pull_secrets.are_removed(&object.uid)) {
        step @ (ObjectStep::AddFinalizer | ObjectStep::RemoveFinalizer) => {
            publish_finalizer(&context.client, object, step == ObjectStep::AddFinalizer).await?;
            return Ok((!object.deleting).then_some(Duration::ZERO));
        }
        ObjectStep::AwaitRemoval => {
            history.due = None;
            return Ok(None);
        }
        ObjectStep::Suspend => {
            history.due = None;
            history.inputs = Some(ValidationInputs::of(object, context.tenant(object)));
            return Ok(None);
        }
        ObjectStep::Read if object.trimmed && !beyond_quota => read_whole(&context.client, object).await?,
        ObjectStep::Read => {}
    }
    let (plan, inputs) = resolve(context, object, beyond_quota).await?;
    let urgency = history.urgency(&inputs, Instant::now());
    let mut used = None;
    if let Some(urgency) = urgency {
        in_flight.set_inputs(inputs.clone());
        let probed = probe(context, object, plan, urgency, in_flight).await?;
        history.add(probed.seen, inputs, (context.clock)());
        used = probed.used;
    } else {
        history.inputs = Some(inputs);
    }
    let Some(validation) = history.validation.clone() else { return Ok(None) };
    let status = assess(object, &validation, &context.pull_secrets.report(object));
    if urgency.is_some() {
        context.metrics.count_validation(object, &status, &validation.observation);
        context.pull_secrets.validated(object, &status, validation.outcome(), used.as_ref());
    }
    let retry = publish(context, object, history, &status).await?;
    if urgency.is_some() {
        history.schedule(Instant::now(), (context.jitter)());
    }
    Ok(retry)
}
