//! The order of a validation, once for all programs: [`examine`] (validate, then resolve) and [`probe`]. What follows from what
//! was seen is [`assess`](crate::assess)'s.

use std::sync::Arc;

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

/// Whose tenant the namespace of a TenantRegistry is.
#[derive(Clone, Copy, Debug)]
pub enum NamespaceTenant<'a> {
    /// This tenant's.
    Of(&'a Arc<str>),
    /// It is not known, or the registry is in no namespace.
    Unknown,
    /// No tenant's.
    None,
}

/// Around a registry: whose it is, and where what it refers to is.
#[derive(Clone, Copy, Debug)]
pub struct ValidationContext<'a> {
    /// Whose its namespace is.
    pub tenant: NamespaceTenant<'a>,
    /// Where its references are read.
    pub namespace: &'a str,
    /// What an administrator lets a tenant do.
    pub policy: PolicySource<'a>,
    /// What the administrator allows, for all registries.
    pub admin_policy: &'a AdminPolicy,
}

/// What is to be probed, or what already stands in the way; and what was read to know it.
#[derive(Debug)]
pub struct Examination {
    /// What was read, in the order of the spec.
    pub references: Vec<ObservedReference>,
    /// The tenant policy, where it was read.
    pub policy: Option<ObservedReference>,
    /// What was read, of all that was there.
    pub contents: ContentsDigest,
    /// What is next.
    pub plan: NextStep,
}

/// What comes after validate and resolve.
#[derive(Debug)]
pub enum NextStep {
    /// The registry is asked.
    Probe(Box<ProbeCase>),
    /// There is a verdict already.
    Stop(Observation),
}

/// What is to be probed, and with what.
#[derive(Debug)]
pub struct ProbeCase {
    /// What is to be checked.
    pub target: Target,
    /// What its references hold.
    pub material: Material,
    /// Who gets the credentials from AWS, where that is where they come from.
    pub login: Option<Login>,
}

impl Examination {
    /// Nothing was read: that much is seen of the object itself.
    pub fn stopped(seen: Observation) -> Self {
        Self {
            references: Vec::new(),
            policy: None,
            contents: ContentsDigest::default(),
            plan: NextStep::Stop(seen),
        }
    }
}

/// Validates the spec: what is to be probed, and where AWS has the tokens, if that is where they come from.
///
/// # Errors
///
/// What is wrong with the spec.
pub fn validate(
    object: &RegistryObject,
    admin_policy: &AdminPolicy,
) -> Result<(Target, Option<EcrEndpoint>), SpecError> {
    let target = probe_target(object, admin_policy)?;
    let endpoint = ecr_endpoint(&object.spec, &target.endpoint)?;
    Ok((target, endpoint))
}

/// Validates the spec, and resolves what it refers to from `objects`.
///
/// # Errors
///
/// When a reference could not be read, which a retry may cure. Whatever else is wrong is a [`NextStep::Stop`].
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

/// Who asks registries and AWS. Cheap to clone.
#[derive(Clone)]
pub struct Askers {
    /// Asks registries.
    pub prober: Prober,
    /// Asks AWS; none in a build without it.
    pub tokens: Option<Arc<EcrTokens>>,
    /// The time at which it is asked.
    pub now: Timestamp,
}

/// What was seen, and the credentials that it was seen with.
#[derive(Debug)]
pub struct Probed {
    /// What was seen.
    pub seen: Observation,
    /// The credentials that it was seen with, if any were sent.
    pub used: Option<Credentials>,
}

/// Asks the registry, through AWS where that is where the credentials come from. `session` decides whether credentials may be
/// sent that were rejected before; none where nothing is remembered of rejections.
pub async fn probe(
    askers: Askers,
    case: ProbeCase,
    urgency: Urgency,
    session: Option<Arc<CredentialSession>>,
) -> Probed {
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
}
