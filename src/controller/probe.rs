//! The probe of a registry while the controller waits for it: says in the status that a slow validation of a new spec is in
//! progress, and ends when the work is superseded.

use std::sync::Arc;

use registry_api::ConditionType;
use registry_verdict::{
    assess,
    ecr::Urgency,
    known_status::ConditionStatus,
    object::RegistryObject,
    rejections::{CredentialSession, gate},
    steps::{self, NextStep, ProbeCase, Probed},
};

use super::{
    context::Context,
    error::ReconcileError,
    history::ValidationInputs,
    in_flight::InFlight,
    publish::{PublishError, publish_status},
};

/// Probes the registry, unless the result is known already.
pub async fn probe(
    context: &Context,
    object: &mut RegistryObject,
    plan: NextStep,
    inputs: &ValidationInputs,
    urgency: Urgency,
    in_flight: &InFlight,
) -> Result<Probed, ReconcileError> {
    let case = match plan {
        NextStep::Stop(seen) => return Ok(Probed { seen, used: None }),
        NextStep::Probe(case) => *case,
    };
    let session = session(context, object, inputs, &case);
    let mut probing = Box::pin(probe_until_superseded(context, case, urgency, session, in_flight));
    if object.status.observed_generation != Some(object.generation) {
        if let Ok(probed) = tokio::time::timeout(assess::SLOW, &mut probing).await {
            return probed;
        }
        let status = assess::progressing(object, (context.clock)());
        // Meanwhile, the probe goes on: it may have sent credentials, and the answer matters whatever becomes of the write.
        let publishing = async {
            let published = publish_status(&context.client, object, &status).await;
            // If the write shows that the object has changed, the probe is of no use any more.
            if published.is_ok() && !inputs.covers(object) || matches!(published, Err(PublishError::Gone(_)))
            {
                in_flight.supersede();
            }
            published
        };
        let (probed, published) = futures::future::join(probing, publishing).await;
        return match published {
            Err(error @ PublishError::Gone(_)) => Err(error.into()),
            // The verdict is written next.
            Err(_) | Ok(()) => probed,
        };
    }
    probing.await
}

async fn probe_until_superseded(
    context: &Context,
    case: ProbeCase,
    urgency: Urgency,
    session: Option<Arc<CredentialSession>>,
    in_flight: &InFlight,
) -> Result<Probed, ReconcileError> {
    let mut probe = steps::probe(context.askers(), case, urgency, session.clone());
    let probed = in_flight.unless_superseded(&mut probe).await;
    // The host's answer about the credentials matters even after the validation's end: the next try depends on it.
    if let Some(session) = session {
        let is_superseded = probed.is_none();
        context.finishing.finish(session, async move {
            if is_superseded {
                drop(probe.await);
            }
        });
    }
    probed.map_or(Err(ReconcileError::Superseded), within_own_limit)
}

fn within_own_limit(probed: Probed) -> Result<Probed, ReconcileError> {
    match probed.seen.findings() {
        Some(findings) if findings.hit_own_limit() => Err(ReconcileError::OwnLimit),
        _ => Ok(probed),
    }
}

/// Returns the permission to send the credentials; none if there are none that can be rejected.
fn session(
    context: &Context,
    object: &RegistryObject,
    inputs: &ValidationInputs,
    case: &ProbeCase,
) -> Option<Arc<CredentialSession>> {
    let keys = case.login.as_ref().map(|login| login.keys().map(|keys| keys.parts().to_vec()));
    let credentials = case.material.credentials.as_ref().map(gate::parts);
    let parts = keys.unwrap_or(credentials)?;
    let known = object.status.condition(ConditionType::CredentialsValidated);
    let validated = known.filter(|known| known.status == ConditionStatus::True);
    let validated = validated.map(|known| known.last_transition_time);
    Some(context.rejections.session(inputs.group.clone(), &parts, inputs.is_requested, validated))
}
