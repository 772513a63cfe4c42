//! A registry checked without a cluster: spec and Secret in, status out, through everything between but Kubernetes.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::Resource as _;
use registry_api::{
    ConditionType, RegistrySpec, RegistryStatus,
    spec::{Registry, System},
};
use registry_probe::{Material, Prober, ProberSettings, Target};
use registry_verdict::{
    assess::{AvailabilityReport, Observation, ValidationRecord, assess},
    cluster_addresses::ClusterAddresses,
    ecr::{
        EcrTokens, Identity, Login, Urgency,
        api::{Aws, Endpoints},
        http::AwsHttp,
        probe::{EcrCase, probe},
    },
    object::RegistryObject,
    resolve::{Reference, ReferenceContent, ReferenceKind, aws_identity},
    steps,
    validate::AdminPolicy,
};
use serde_json::{Value, json};

/// Tokens by the real SDK, from the API at `url`.
pub fn tokens(url: &str) -> Result<Arc<EcrTokens>> {
    tokens_in(url, None)
}

/// The same, for an operator in that region.
pub fn tokens_in(url: &str, region: Option<&str>) -> Result<Arc<EcrTokens>> {
    tokens_of(url, region, AwsHttp::new(None, None))
}

/// The same, by these clients.
pub fn tokens_by(url: &str, http: AwsHttp) -> Result<Arc<EcrTokens>> {
    tokens_of(url, None, http)
}

fn tokens_of(url: &str, region: Option<&str>, http: AwsHttp) -> Result<Arc<EcrTokens>> {
    let (ecr, sts, region) = (Some(url.to_owned()), Some(url.to_owned()), region.map(ToOwned::to_owned));
    let endpoints = Endpoints { ecr, sts, region };
    let aws = Aws::new(endpoints, http, std::sync::Arc::new(|_, _| ()), crate::fake_aws::now);
    Ok(Arc::new(EcrTokens::new(Arc::new(aws), crate::fake_aws::now, fastrand::f64)?))
}

/// A registry's prober, to whom loopback is allowed.
pub fn prober() -> Result<Prober> {
    Ok(Prober::new(ProberSettings::default())?)
}

/// What is to be checked.
pub struct Check {
    pub object: RegistryObject,
    pub target: Target,
    pub login: Login,
}

/// A SystemRegistry at `http://<host>` with that `ecr` member, whose Secret holds those keys.
pub fn check(host: &str, ecr: &Value, secret: &[(&str, &str)]) -> Result<Check> {
    let spec =
        json!({"endpoint": format!("http://{host}"), "auth": {"ecr": ecr}, "validation": {"timeout": "20s"}});
    check_spec(spec, secret)
}

/// The same for a whole spec.
pub fn check_spec(spec: Value, secret: &[(&str, &str)]) -> Result<Check> {
    let spec: RegistrySpec = serde_json::from_value(spec)?;
    let mut registry = Registry::<System>::new("packs", spec);
    registry.meta_mut().generation = Some(1);
    let object = RegistryObject::of(registry);
    let admin_policy = AdminPolicy {
        egress_allow: Arc::new(["127.0.0.0/8".parse()?]),
        egress_deny: Arc::default(),
        cluster_addresses: ClusterAddresses::new([]),
        trusted_token_services: Arc::default(),
    };
    let (target, endpoint) = steps::validate(&object, &admin_policy)?;
    let endpoint = endpoint.context("not signed in to by AWS")?;
    let login = Login { tenant: None, endpoint, identity: identity(&object, secret)? };
    Ok(Check { object, target, login })
}

fn identity(object: &RegistryObject, secret: &[(&str, &str)]) -> Result<Identity> {
    let data = secret.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
    let content = ReferenceContent::from(Secret { data: Some(data.collect()), ..Secret::default() });
    let reference = Reference::new(ReferenceKind::Secret, "registry-system", "keys");
    let ecr = object.spec.auth.as_ref().and_then(|auth| auth.ecr.as_ref()).context("no ecr")?;
    let named = (!secret.is_empty()).then_some((&reference, &content));
    Ok(aws_identity(&object.key, ecr, named)?)
}

/// Signs in, probes and assesses.
pub async fn validate(
    prober: &Prober,
    tokens: &Arc<EcrTokens>,
    check: &Check,
    urgency: Urgency,
) -> RegistryStatus {
    let now = crate::fake_aws::now();
    let (target, login) = (&check.target, &check.login);
    let case = EcrCase { target, material: &Material::default(), login, urgency, session: None };
    let seen = Observation::Ecr(Box::new(probe(prober, tokens, case, now).await));
    let validation = ValidationRecord::first(seen, now);
    assess(&check.object, &validation, &AvailabilityReport::default())
}

/// `True/Validated`.
pub fn verdict(status: &RegistryStatus) -> String {
    let condition = status.condition(ConditionType::CredentialsValidated);
    condition
        .map_or_else(|| "absent".to_owned(), |condition| format!("{}/{}", condition.status, condition.reason))
}

/// What the status says of the end of the credentials.
pub fn expires_at(status: &RegistryStatus) -> Option<Timestamp> {
    status.credentials.as_ref().and_then(|credentials| credentials.expires_at.as_ref()).map(|end| end.0)
}
