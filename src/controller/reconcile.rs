//! The path of one registry, from what was asked for to what is said of it. Reads as the story:
//! validate, resolve, probe, assess, publish, schedule.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use registry_api::{ConditionType, Reason, RegistryStatus};
use registry_probe::{Backoff, Endpoint, Findings, HostPort, Prober};
use registry_verdict::{
    assess::{self, Before, Observation, ValidationOutcome, assess, with_availability},
    ecr::{EcrTokens, Urgency},
    object::{Group, RegistryKey, RegistryObject, RegistryScope},
    rejections::{CredentialSession, Rejections, gate},
    resolve::{ContentsDigest, PolicySource, ReadError},
    steps::{self, Askers, Examination, NamespaceTenant, NextStep, ProbeCase, Probed, ValidationContext},
    validate::AdminPolicy,
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::{
    controller::{
        decide::{AfterReading, ObjectStep, after_reading, decide},
        events::Events,
        publish::{PublishError, current, publish_finalizer, publish_status},
        quota::Quota,
        references::References,
        schedule::{History, ReadyVerdict, Unpublished, ValidationInputs},
    },
    kubernetes::{call::CallError, watches::WatchPool},
    observability::metrics::Metrics,
    pull_secrets::PullSecrets,
    queue,
    tenancy::access::{Access, AccessError},
};

/// What every reconciliation works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Its watches.
    pub watches: Arc<WatchPool>,
    /// Where a SystemRegistry's references are read from.
    pub system_namespace: String,
    /// What the administrator allows.
    pub admin_policy: AdminPolicy,
    /// Whose tenant each namespace is.
    pub access: Arc<Access>,
    /// The Secrets and ConfigMaps.
    pub references: Arc<References>,
    /// The pull Secrets.
    pub availability: Arc<PullSecrets>,
    /// Asks the registries.
    pub prober: Prober,
    /// What AWS gave.
    pub tokens: Option<Arc<EcrTokens>>,
    /// Credentials that were rejected.
    pub rejections: Arc<Rejections>,
    /// How many registries of each tenant are validated.
    pub quota: Mutex<Quota>,
    /// Tells of changed verdicts.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// A random number from 0 to 1.
    pub jitter: fn() -> f64,
}

/// What came of a reconciliation.
#[derive(Debug)]
pub struct Done {
    /// The history with this validation in it.
    pub history: History,
    /// The object as it is after what was written, if anything was.
    pub written: Option<RegistryObject>,
    /// When the next validation is due; none: only when something changes.
    pub due: Option<Duration>,
    /// When there is something to be done before that.
    pub sooner: Option<Duration>,
}

/// Why a reconciliation could not be brought to its end; it is tried again.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A reference could not be read.
    #[error(transparent)]
    Read(#[from] ReadError<CallError>),
    /// The verdict could not be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Whose tenant a namespace is could not be asked.
    #[error("failed to get the namespace's tenant: {0}")]
    Tenant(#[from] AccessError),
    /// The namespace has its label, but its watch has yet to see it; tried again in a moment.
    #[error("the watch of namespaces is behind")]
    TenantUnseen,
    /// The operator has too many files open: nothing was learnt of the registry, and its verdict stays.
    #[error("registry not validated: too many open files; raise the operator's limit on open files")]
    OwnLimit,
    /// What was being validated is no longer asked for; begun anew at once.
    #[error("the object changed during its validation")]
    Superseded,
}

impl ReconcileError {
    /// How long to wait before the next try, when it is one of so many failures in a row.
    pub fn pause(&self, failures: u32) -> Duration {
        match self {
            Self::Read(ReadError::Api { source, .. })
            | Self::Publish(PublishError::Api { source, .. })
            | Self::Tenant(AccessError::Api(source)) => source.pause(failures),
            Self::Read(ReadError::Forbidden { .. })
            | Self::Publish(PublishError::Gone(_) | PublishError::Conflict(_))
            | Self::Tenant(AccessError::NoRole)
            | Self::TenantUnseen
            | Self::OwnLimit
            | Self::Superseded => Backoff::API_CALL.after(failures),
        }
    }
}

/// One piece of work under way, as its worker and the controller share it.
#[derive(Debug, Default)]
pub struct InFlight {
    superseded: CancellationToken,
    inputs: OnceLock<ValidationInputs>,
}

impl InFlight {
    /// Ends the work as soon as it waits for the registry: what it would find is of no use any more.
    pub fn supersede(&self) {
        self.superseded.cancel();
    }

    /// The references were read: that is what the work rests on.
    pub fn rests_on(&self, inputs: ValidationInputs) {
        let _ = self.inputs.set(inputs);
    }

    /// What the work rests on, once that is known.
    pub fn inputs(&self) -> Option<&ValidationInputs> {
        self.inputs.get()
    }
}

/// Brings a registry's status up to date. `left` is the time that is left until its next validation is due, if it had
/// one: before that, it is validated only if something that the last verdict rests on has changed.
pub async fn reconcile(
    context: &Context,
    object: &RegistryObject,
    history: &History,
    left: Option<Duration>,
    attempt: &InFlight,
) -> Result<Done, ReconcileError> {
    let done = |history| Done { history, written: None, due: None, sooner: None };
    let tenant = object.key.namespace().and_then(|namespace| context.access.tenant(namespace));
    match decide(object, context.availability.are_removed(&object.uid)) {
        ObjectStep::AddFinalizer => return edit_finalizer(context, object, history, true).await,
        ObjectStep::RemoveFinalizer => return edit_finalizer(context, object, history, false).await,
        ObjectStep::AwaitRemoval => return Ok(done(history.clone())),
        ObjectStep::Suspend => {
            let basis = ValidationInputs::of(object, tenant, Vec::new(), ContentsDigest::default());
            return Ok(done(History { inputs: Some(basis), ..history.clone() }));
        }
        ObjectStep::Read => {}
    }
    if let (Some(namespace), None) = (object.key.namespace(), &tenant)
        && context.access.is_labelled(namespace).await?
    {
        return Err(ReconcileError::TenantUnseen);
    }
    let beyond = context.quota().is_beyond(&object.key);
    let read = if object.trimmed && !beyond { Some(current(&context.client, object).await?) } else { None };
    let object = read.as_ref().unwrap_or(object);
    let Examination { references: readings, policy, contents, plan } =
        examine(context, object, tenant.as_ref(), beyond).await?;
    let basis =
        ValidationInputs::of(object, tenant, readings, contents).under(policy).beyond_the_bound(beyond);
    let report = || context.availability.report(object);
    // What was read may have been touched: its newest versions are known now.
    let read = || History { inputs: Some(basis.clone()), ..history.clone() };
    let urgency = match after_reading(object, history, report, &basis, left) {
        AfterReading::Validate(urgency) => urgency,
        AfterReading::Publish(status) => {
            return publish(context, object, read(), *status, left.unwrap_or_default()).await;
        }
        AfterReading::Nothing => return Ok(Done { due: left, ..done(read()) }),
    };
    attempt.rests_on(basis.clone());
    let probing = probe_reporting_progress(context, object, (plan, urgency), attempt);
    let (Probed { seen, used }, progress) = probing.await?;
    if seen.findings().is_some_and(Findings::hit_own_limit) {
        return Err(ReconcileError::OwnLimit);
    }
    // What was probed is `object`, whatever the object asks for by now; only its status may have moved on.
    let probed = progress.as_ref().map(|newer| RegistryObject {
        status: newer.status.clone(),
        resource_version: newer.resource_version.clone(),
        ..object.clone()
    });
    let probed = probed.as_ref().unwrap_or(object);

    let now = (context.clock)();
    let judged_before = history.inputs.as_ref();
    let same_basis = judged_before.is_none_or(|before| before.is_same_target(&basis));
    let before = Before { transient_failures: history.transient, same_basis };
    let (status, outcome) = assess(probed, &seen, before, now);
    observe(context, &object.key, &status, &seen);
    context.availability.validated(object, &status, outcome, used.as_ref());

    let told = history.reported.clone().or_else(|| verdict(&object.status));
    let ready = status.condition(ConditionType::Ready).map(|ready| ready.message.as_str().into());
    let history = History { reported: told, ready, ..history.after(outcome, basis) };
    let due = due(context, object, (&status, &seen), &history, outcome, now);
    let done = publish(context, probed, history, status, due).await?;
    Ok(Done { written: done.written.or(progress), ..done })
}

/// Writes a verdict; keeps it for a later try where the API server doesn't take it, so that the registry need not be
/// asked again.
async fn publish(
    context: &Context,
    object: &RegistryObject,
    history: History,
    status: RegistryStatus,
    due: Duration,
) -> Result<Done, ReconcileError> {
    let report = context.availability.report(object);
    let status = with_availability(&status, history.ready.as_deref().unwrap_or_default(), &report);
    let error = match publish_status(&context.client, object, &status).await {
        Ok(written) => {
            let told = verdict(&status);
            if told != history.reported {
                context.events.send(object, &status, (context.clock)());
            }
            let history = History { reported: told, unpublished: None, ..history };
            return Ok(Done { history, written, due: Some(due), sooner: None });
        }
        Err(error @ PublishError::Gone(_)) => return Err(error.into()),
        Err(error) => error,
    };
    tracing::warn!(registry = %object.key, %error, "failed to write the status, retrying");
    let tries = history.unpublished.as_ref().map_or(0, |unpublished| unpublished.tries).saturating_add(1);
    let unpublished = Unpublished { status, tries };
    let asked = error.retry_after().unwrap_or_default();
    let sooner = Some(unpublished.wait((context.jitter)()).max(asked));
    let history = History { unpublished: Some(Box::new(unpublished)), ..history };
    Ok(Done { history, written: None, due: Some(due), sooner })
}

/// Puts the finalizer on, or takes it off. A registry that is being deleted needs neither its endpoint nor its Secrets to go; it
/// waits for the removal of its pull Secrets, but not for long.
async fn edit_finalizer(
    context: &Context,
    object: &RegistryObject,
    history: &History,
    wanted: bool,
) -> Result<Done, ReconcileError> {
    let written = match publish_finalizer(&context.client, object, wanted).await {
        Ok(newer) => Some(newer),
        Err(PublishError::Gone(_)) if object.deleting => None,
        Err(error) => return Err(error.into()),
    };
    let sooner = (!object.deleting).then_some(Duration::ZERO);
    Ok(Done { history: history.clone(), written, due: None, sooner })
}

async fn examine(
    context: &Context,
    object: &RegistryObject,
    tenant: Option<&Arc<str>>,
    beyond: bool,
) -> Result<Examination, ReadError<CallError>> {
    let tenant = match (object.key.scope(), tenant) {
        (RegistryScope::System, _) => NamespaceTenant::Unknown,
        (RegistryScope::Tenant, None) => NamespaceTenant::None,
        (RegistryScope::Tenant, Some(tenant)) => NamespaceTenant::Of(tenant),
    };
    if beyond && !matches!(tenant, NamespaceTenant::None) {
        return Ok(Examination::stopped(Observation::BeyondQuota(context.quota().most())));
    }
    let surroundings = ValidationContext {
        tenant,
        namespace: object.key.references_namespace(&context.system_namespace),
        policy: PolicySource::Namespace(&context.system_namespace),
        admin_policy: &context.admin_policy,
    };
    steps::examine(object, surroundings, &*context.references).await
}

/// Probes; says so in the status of a changed object when it takes long, and returns the object as then written. Ends
/// early when nobody needs the answer any more; but not while it writes.
async fn probe_reporting_progress(
    context: &Context,
    object: &RegistryObject,
    (plan, urgency): (NextStep, Urgency),
    attempt: &InFlight,
) -> Result<(Probed, Option<RegistryObject>), ReconcileError> {
    let case = match plan {
        NextStep::Stop(seen) => return Ok((Probed { seen, used: None }, None)),
        NextStep::Probe(case) => *case,
    };
    let superseded = attempt.superseded.cancelled();
    let session = session(context, object, &case);
    let mut probe = Box::pin(steps::probe(context.askers(), case, urgency, session.clone()));
    let mut probing = Box::pin(async move {
        tokio::select! {
            seen = &mut probe => return Ok(seen),
            () = superseded => {}
        }
        if let Some(session) = session {
            // What the host says of the credentials is still worth knowing: the next try depends on it.
            context.rejections.finish(&session, Box::pin(async move { drop(probe.await) }));
        }
        Err(ReconcileError::Superseded)
    });
    if object.status.observed_generation == Some(object.generation) {
        return Ok((probing.await?, None));
    }
    if let Ok(seen) = tokio::time::timeout(assess::SLOW, &mut probing).await {
        return Ok((seen?, None));
    }
    let progressing = assess::progressing(object, (context.clock)());
    let written = publish_status(&context.client, object, &progressing).await?;
    Ok((probing.await?, written))
}

/// The permission to send the credentials of this case; none where there are none that may be rejected.
fn session(context: &Context, object: &RegistryObject, case: &ProbeCase) -> Option<Arc<CredentialSession>> {
    let keys = case.login.as_ref().map(|login| login.keys().map(|keys| keys.parts().to_vec()));
    let credentials = case.material.credentials.as_ref().map(gate::parts);
    let parts = keys.unwrap_or(credentials)?;
    Some(context.rejections.session(context.group(&object.key), &parts, is_requested(object)))
}

/// Whether somebody asked for a validation of this very object since its last verdict: by the annotation, or by another spec.
/// A new object asks for none that others with the same credentials have not had.
fn is_requested(object: &RegistryObject) -> bool {
    let status = &object.status;
    let by_annotation =
        object.requested_at.is_some() && object.requested_at != status.last_handled_reconcile_at;
    // The schema gives a new object -1.
    let before = status.observed_generation.filter(|observed| *observed > 0);
    by_annotation || before.is_some_and(|observed| observed != object.generation)
}

fn due(
    context: &Context,
    object: &RegistryObject,
    (status, seen): (&RegistryStatus, &Observation),
    history: &History,
    outcome: ValidationOutcome,
    now: Timestamp,
) -> Duration {
    let interval = object.spec.validation.interval.get();
    let mut ends = assess::ends(status);
    if let Observation::Ecr(seen) = seen {
        ends.extend(seen.renewal.map(|renewal| renewal.after(now, (context.jitter)())));
    }
    history.wait(outcome, interval, &ends, now, (context.jitter)())
}

/// What an Event is told of: readiness with its reason. That a validation is going on is none.
fn verdict(status: &RegistryStatus) -> Option<ReadyVerdict> {
    let ready = status.condition(ConditionType::Ready)?;
    let verdict = (ready.status.clone(), ready.reason.clone());
    (ready.reason != Reason::Progressing.as_str()).then_some(verdict)
}

fn observe(context: &Context, key: &RegistryKey, status: &RegistryStatus, seen: &Observation) {
    let Some(ready) = status.condition(ConditionType::Ready) else {
        return;
    };
    let reason = ready.reason.parse::<Reason>().map_or("Unknown", Reason::as_str);
    context.metrics.validated(key.scope(), &ready.status, reason);
    tracing::info!(registry = %key, ready = ready.status, reason, "validated");
    if let Some(findings) = seen.findings() {
        observe_probe(&context.metrics, findings);
    }
}

fn observe_probe(metrics: &Metrics, findings: &Findings) {
    let times = &findings.durations;
    let layers = [
        ("resolve", times.resolve),
        ("connect", times.connect),
        ("tls", times.tls),
        ("request", times.request),
    ];
    for (layer, time) in layers {
        metrics.layer(layer, time);
    }
    let counts = &findings.requests;
    let outcomes = [
        ("granted", counts.granted),
        ("refused", counts.refused),
        ("throttled", counts.throttled),
        ("server_error", counts.server_error),
        ("other", counts.other),
        ("failed", counts.failed),
    ];
    for (outcome, count) in outcomes.into_iter().filter(|(_, count)| *count > 0) {
        metrics.registry_requests(outcome, count.into());
    }
}

/// Where a registry waits for its turn.
pub type RegistryLane = queue::Lane<Group, HostPort>;

impl Context {
    /// How many registries of each tenant are validated.
    pub fn quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn askers(&self) -> Askers {
        Askers { prober: self.prober.clone(), tokens: self.tokens.clone(), now: (self.clock)() }
    }

    /// The lane of a registry as it now is. Its host is the one that a validation has to wait for; a registry that is
    /// being deleted, is suspended or has no endpoint that can be asked waits for none.
    pub fn lane(&self, object: &RegistryObject) -> RegistryLane {
        let asks = !object.deleting && !object.spec.suspend;
        let endpoint = asks.then(|| Endpoint::parse(&object.spec.endpoint).ok()).flatten();
        let host = endpoint.map(|endpoint| endpoint.server().clone());
        RegistryLane { group: self.group(&object.key), host }
    }

    /// The group that a registry belongs to.
    pub fn group(&self, key: &RegistryKey) -> Group {
        match key {
            RegistryKey::Tenant { namespace, .. } => self
                .access
                .tenant(namespace)
                .map_or_else(|| Group::Namespace(namespace.clone()), Group::Tenant),
            RegistryKey::System { .. } => Group::System,
        }
    }
}
