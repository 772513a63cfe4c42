//! The order of a validation, for all programs: [`examine`] (validate, then resolve) and [`probe`].
//! [`assess`](crate::assess) makes the status from the result.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use registry_probe::{Credentials, Material, Prober, Target};

use crate::{
    assess::Observation,
    ecr::{self, EcrEndpoint, EcrTokens, Login, Urgency},
    object::{RegistryObject, RegistryScope},
    rejections::CredentialSession,
    resolve::{
        ContentsDigest, Means, Objects, ObservedReference, PolicySource, ReadError, ResolveRequest, Resolved,
        resolve,
    },
    validate::{AdminPolicy, SpecError, ecr_endpoint, probe_target},
};

/// The tenant of a TenantRegistry's namespace.
#[derive(Clone, Copy, Debug)]
pub enum NamespaceTenant<'a> {
    /// This tenant.
    Of(&'a Arc<str>),
    /// Not known, or the registry has no namespace.
    Unknown,
    /// No tenant.
    None,
}

/// What a validation needs to know besides the registry itself.
#[derive(Clone, Copy, Debug)]
pub struct ValidationContext<'a> {
    /// The tenant of its namespace.
    pub tenant: NamespaceTenant<'a>,
    /// The namespace of its references.
    pub namespace: &'a str,
    /// Where the tenant policy comes from.
    pub policy: PolicySource<'a>,
    /// The administrator's settings for validations.
    pub admin_policy: &'a AdminPolicy,
}

/// The next step, and the references that were read for it.
#[derive(Debug)]
pub struct Examination {
    /// The references that were read, in the order of the spec.
    pub references: Vec<ObservedReference>,
    /// The tenant policy, if it was read.
    pub policy: Option<ObservedReference>,
    /// A digest of the contents of all references.
    pub contents: ContentsDigest,
    /// The next step.
    pub plan: NextStep,
}

/// The step after validate and resolve.
#[derive(Debug)]
pub enum NextStep {
    /// The registry is probed.
    Probe(Box<ProbeCase>),
    /// The result is already known.
    Stop(Observation),
}

/// What to probe, and with what.
#[derive(Debug)]
pub struct ProbeCase {
    /// What to probe.
    pub target: Target,
    /// Credentials and certificates from the references.
    pub material: Material,
    /// The AWS login that provides the credentials, with `auth.ecr`.
    pub login: Option<Login>,
}

impl Examination {
    /// The result of the object alone, without reading references.
    pub fn stopped(seen: Observation) -> Self {
        Self {
            references: Vec::new(),
            policy: None,
            contents: ContentsDigest::default(),
            plan: NextStep::Stop(seen),
        }
    }
}

/// Validates the spec. Returns what to probe, and the ECR endpoint with `auth.ecr`.
///
/// # Errors
///
/// What is wrong with the spec.
pub fn validate(
    object: &RegistryObject,
    admin_policy: &AdminPolicy,
) -> Result<(Target, Option<EcrEndpoint>), SpecError> {
    let target = probe_target(object, admin_policy)?;
    ecr_endpoint(object, &target.endpoint).map(|place| (target, place))
}

/// Validates the spec, and reads its references from `objects`.
///
/// # Errors
///
/// If a reference could not be read, which a retry may fix. Any other problem is a [`NextStep::Stop`].
pub async fn examine<O: Objects>(
    object: &RegistryObject,
    context: ValidationContext<'_>,
    objects: &O,
) -> Result<Examination, ReadError<O::Error>> {
    let ValidationContext { tenant, namespace, policy, admin_policy } = context;
    let is_tenants = object.key.scope() == RegistryScope::Tenant;
    if is_tenants && matches!(tenant, NamespaceTenant::None) {
        return Ok(Examination::stopped(Observation::NotATenant));
    }
    let (target, place) = match validate(object, admin_policy) {
        Ok(checked) => checked,
        Err(error) => return Ok(Examination::stopped(Observation::Unfit(error))),
    };
    let wanted = ResolveRequest {
        key: &object.key,
        spec: &object.spec,
        endpoint: &target.endpoint,
        place: place.as_ref(),
        tenant: if let NamespaceTenant::Of(tenant) = tenant { Some(tenant) } else { None },
        namespace,
        policy,
    };
    let Resolved { references, policy, contents, means } = resolve(wanted, objects).await?;
    let gap = admin_policy.cluster_addresses.gap().filter(|_| is_tenants);
    let plan = match (means, gap) {
        (Ok(_), Some(gap)) => NextStep::Stop(Observation::AddressesUnknown(gap)),
        (Ok(Means { material, login }), None) => {
            NextStep::Probe(Box::new(ProbeCase { target, material, login }))
        }
        (Err(problem), _) => NextStep::Stop(Observation::Unresolved(problem)),
    };
    Ok(Examination { references, policy, contents, plan })
}

/// The clients for registries and AWS. Cheap to clone.
#[derive(Clone)]
pub struct Askers {
    /// Sends requests to registries.
    pub prober: Prober,
    /// Gets tokens from AWS; `None` in a build without ECR.
    pub tokens: Option<Arc<EcrTokens>>,
    /// The current time.
    pub now: Timestamp,
}

/// The result of a probe, and the credentials that it was made with.
#[derive(Debug)]
pub struct Probed {
    /// The result.
    pub seen: Observation,
    /// The credentials, if any were sent.
    pub used: Option<Credentials>,
}

/// Probes the registry, after signing in to AWS with `auth.ecr`. `session` decides whether credentials that may be
/// rejected can be sent; `None` if rejections aren't remembered.
///
/// Boxed, so that the AWS SDK's part is compiled in this crate only. An async function is compiled into each program that awaits it.
pub fn probe(
    askers: Askers,
    case: ProbeCase,
    urgency: Urgency,
    session: Option<Arc<CredentialSession>>,
) -> BoxFuture<'static, Probed> {
    Box::pin(async move {
        let (Askers { prober, tokens, now }, ProbeCase { target, material, login }) = (askers, case);
        if let (Some(login), Some(tokens)) = (&login, &tokens) {
            let (target, material) = (&target, &material);
            let case = ecr::probe::EcrCase { target, material, login, urgency, session: session.as_deref() };
            let mut seen = ecr::probe::probe(&prober, tokens, case, now).await;
            // What was seen is kept until the next validation; the credentials aren't.
            let used = seen.used.take();
            return Probed { seen: Observation::Ecr(Box::new(seen)), used };
        }
        let mut findings = match &session {
            Some(session) => prober.probe_through(&**session, &target, &material, now).await,
            None => prober.probe(&target, &material, now).await,
        };
        if let Some(session) = session {
            session.conclude(&mut findings);
        }
        Probed { seen: Observation::Probed(Box::new(findings)), used: material.credentials }
    })
}
