//! The path of one registry, from its spec to its status: validate, resolve, probe, assess, publish, schedule.

use std::time::Duration;

use registry_verdict::{assess::assess, object::RegistryObject};
use tokio::time::Instant;

use super::{
    context::Context,
    decide::{ObjectStep, decide},
    error::ReconcileError,
    history::{History, ValidationInputs},
    in_flight::InFlight,
    probe::probe,
    publish::{publish, publish_finalizer, read_whole},
    resolve::resolve,
};

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
        // Nothing is read, so no changed reference makes work: otherwise, a reference that has changed would make it again and again.
        ObjectStep::AwaitRemoval | ObjectStep::Suspend => {
            history.due = None;
            history.inputs = Some(ValidationInputs::of(object, context.tenant(object)));
            return Ok(None);
        }
        ObjectStep::Read if object.trimmed && !beyond_quota => read_whole(&context.client, object).await?,
        ObjectStep::Read => {}
    }
    let (inputs, plan) = resolve(context, object, beyond_quota).await?;
    let urgency = history.urgency(&inputs, Instant::now());
    let mut used = None;
    if let Some(urgency) = urgency {
        in_flight.set_inputs(inputs.clone());
        let probed = probe(context, object, plan, &inputs, urgency, in_flight).await?;
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
