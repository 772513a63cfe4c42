//! Makes the status of one registry with the operator's own steps: validate, resolve, probe and assess.
//! docs/decisions/0041-validate-in-the-plugin.md describes what differs here.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use registry_api::{ConditionType, RegistryStatus};
use registry_probe::{
    Admission, ContentPathFinding, CredentialsFinding, EgressPolicy, EgressScope, EndpointFinding, Findings,
    Gate, HostPort, LayerDurations, PresentedCertificate, Prober, RequestCounts, Target, TlsFinding,
};
use registry_verdict::{
    assess::{AvailabilityReport, Observation, ValidationRecord, assess},
    ecr::{EcrTokens, Login, Urgency},
    object::RegistryObject,
    resolve::{PolicySource, ReadError, TenantPolicy},
    steps::{self, Askers, NamespaceTenant, NextStep, ProbeCase},
    validate::{AdminPolicy, SpecError},
};

use crate::supply::Contents;

/// Whose network a check is made from, which decides about the egress policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckNetwork {
    /// The user's own machine: the user chooses the endpoint, and reaches it with the machine's own permissions, so there is nothing
    /// to protect but the metadata addresses of clouds.
    Users,
    /// A Pod in the cluster: the operator's egress policy applies, that for tenants to tenants' registries.
    Clusters,
}

/// What checks are made with. Cheap to clone.
#[derive(Clone)]
pub struct Checker {
    /// Sends requests to registries.
    pub prober: Prober,
    /// Gets tokens from AWS; `None` in a build without ECR.
    pub tokens: Option<Arc<EcrTokens>>,
    /// The administrator's settings for validations, as far as they are known here.
    pub admin_policy: AdminPolicy,
    /// Where it checks from.
    pub network: CheckNetwork,
    /// The clock.
    pub clock: fn() -> Timestamp,
}

/// The message if the spec uses the operator's AWS identity, which can't be checked here.
pub const OPERATORS_IDENTITY: &str = "Not checked: the operator's AWS identity can't be used from here; apply \
    the registry and look at its conditions";

/// Gets the status as far as it is known, while a check is under way: the layers that are still to come are `NotAttempted`.
pub type Learned = dyn Fn(&RegistryStatus) + Send + Sync;

/// What a check needs to know besides the registry itself.
#[derive(Clone, Copy)]
pub struct CheckContext<'a> {
    /// The namespace of its references.
    pub namespace: &'a str,
    /// Whether the namespace of a TenantRegistry certainly belongs to no tenant.
    pub has_no_tenant: bool,
    /// The contents of its references.
    pub contents: &'a Contents,
    /// The tenant policy, as far as it is known here.
    pub policy: &'a TenantPolicy,
    /// Who is told while the check is under way.
    pub learned: Option<&'a Learned>,
}

/// A checked registry.
#[derive(Debug)]
pub struct CheckedRegistry {
    /// The status that the operator would write.
    pub status: RegistryStatus,
    /// The certificate that was presented, and the host that presented it.
    pub presented: Option<(String, PresentedCertificate)>,
}

impl Checker {
    /// Checks what the operator would refuse in the spec, before the user is asked for a password.
    pub fn examine(&self, object: &RegistryObject) -> Result<(), SpecError> {
        steps::validate(object, &self.admin_policy).map(drop)
    }

    /// Checks a registry.
    pub async fn check(
        &self,
        object: &RegistryObject,
        surroundings: CheckContext<'_>,
    ) -> Result<CheckedRegistry, ReadError<Infallible>> {
        let (seen, unable) = self.see(object, surroundings).await?;
        let validation = ValidationRecord::first(seen, (self.clock)());
        let mut status = assess(object, &validation, &AvailabilityReport::default());
        if unable {
            say(&mut status, ConditionType::CredentialsValidated, OPERATORS_IDENTITY);
            say(&mut status, ConditionType::Ready, OPERATORS_IDENTITY);
        }
        for condition in &mut status.conditions {
            // There is no object yet whose generation could be observed.
            condition.observed_generation = None;
        }
        status.observed_generation = None;
        Ok(CheckedRegistry {
            presented: validation.observation.findings().and_then(|findings| presented(object, findings)),
            status,
        })
    }

    /// Observes the registry. Also returns whether the credentials can't be used here.
    async fn see(
        &self,
        object: &RegistryObject,
        surroundings: CheckContext<'_>,
    ) -> Result<(Observation, bool), ReadError<Infallible>> {
        let CheckContext { namespace, has_no_tenant, contents, policy, learned } = surroundings;
        let surroundings = steps::ValidationContext {
            tenant: if has_no_tenant { NamespaceTenant::None } else { NamespaceTenant::Unknown },
            namespace,
            policy: PolicySource::Known(policy),
            admin_policy: &self.admin_policy,
        };
        match steps::examine(object, surroundings, contents).await?.plan {
            NextStep::Stop(seen) => Ok((seen, false)),
            NextStep::Probe(case) => Ok(self.probe(object, *case, learned).await),
        }
    }

    async fn probe(
        &self,
        object: &RegistryObject,
        mut case: ProbeCase,
        learned: Option<&Learned>,
    ) -> (Observation, bool) {
        if self.network == CheckNetwork::Users {
            case.target.egress_policy = EgressPolicy::new(EgressScope::System, [], []);
        }
        if case.login.as_ref().is_some_and(Login::is_by_operator) {
            return (self.without_credentials(&case).await, true);
        }
        let listener = learned.map(|learned| ReachedListener { object, learned, now: (self.clock)() });
        if let Some(listener) = &listener {
            listener.tell(not_attempted());
        }
        if let (Some(listener), None) = (&listener, &case.login) {
            let (target, material) = (&case.target, &case.material);
            let findings = self.prober.probe_through(listener, target, material, listener.now).await;
            return (Observation::Probed(Box::new(findings)), false);
        }
        let askers = Askers { prober: self.prober.clone(), tokens: self.tokens.clone(), now: (self.clock)() };
        (steps::probe(askers, case, Urgency::Changed, None).await.seen, false)
    }

    /// Checks the endpoint and the certificate without credentials.
    async fn without_credentials(&self, case: &ProbeCase) -> Observation {
        let target = Target { repository: None, ..case.target.clone() };
        let findings = self.prober.probe(&target, &case.material, (self.clock)()).await;
        Observation::Probed(Box::new(Findings {
            credentials: CredentialsFinding::NotAttempted,
            content_path: ContentPathFinding::NotAttempted,
            ..findings
        }))
    }
}

/// Tells how far a probe has come. Grants everything, as [`Prober::probe`] does.
struct ReachedListener<'a> {
    object: &'a RegistryObject,
    learned: &'a Learned,
    now: Timestamp,
}

impl ReachedListener<'_> {
    fn tell(&self, findings: Findings) {
        let so_far = ValidationRecord::first(Observation::Probed(Box::new(findings)), self.now);
        (self.learned)(&assess(self.object, &so_far, &AvailabilityReport::default()));
    }
}

impl Gate for ReachedListener<'_> {
    async fn admit(&self, _server: &HostPort) -> Admission {
        Admission::Granted
    }

    fn forbidden(&self, _server: &HostPort) {}

    fn reached(&self, findings: impl FnOnce() -> Findings) {
        self.tell(findings());
    }
}

/// What is known before the first request.
fn not_attempted() -> Findings {
    Findings {
        endpoint: EndpointFinding::NotAttempted,
        tls: TlsFinding::NotAttempted,
        credentials: CredentialsFinding::NotAttempted,
        content_path: ContentPathFinding::NotAttempted,
        certificate: None,
        retry_after: None,
        credentials_expire_at: None,
        requests: RequestCounts::default(),
        durations: LayerDurations::default(),
    }
}

fn say(status: &mut RegistryStatus, condition: ConditionType, message: &str) {
    let mut conditions = status.conditions.iter_mut().filter(|one| one.type_ == condition.as_str());
    if let Some(unknown) = conditions.find(|one| one.status == "Unknown") {
        message.clone_into(&mut unknown.message);
    }
}

/// Returns the certificate that failed verification, or else the registry's own.
fn presented(object: &RegistryObject, findings: &Findings) -> Option<(String, PresentedCertificate)> {
    if let TlsFinding::Failed { server, presented: Some(certificate), .. } = &findings.tls {
        return Some((server.to_string(), (**certificate).clone()));
    }
    findings.certificate.clone().map(|certificate| (object.spec.endpoint.clone(), certificate))
}

/// Returns the fields of a certificate, by name.
pub fn fields(certificate: &PresentedCertificate) -> BTreeMap<&'static str, String> {
    [
        ("subject", certificate.subject.clone()),
        ("issuer", certificate.issuer.clone()),
        ("notBefore", certificate.not_before.to_string()),
        ("notAfter", certificate.not_after.to_string()),
        ("names", certificate.names.join(", ")),
        ("sha256Fingerprint", certificate.sha256_fingerprint.clone()),
    ]
    .into()
}
