//! One registry, from its manifest to a verdict: the operator's own validate, resolve, probe and assess, one after the
//! other. Decides nothing; what differs here is said in docs/decisions/0041-validate-in-the-plugin.md.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use registry_api::{ConditionType, RegistryStatus};
use registry_probe::{
    ContentPathFinding, CredentialsFinding, EgressPolicy, EgressScope, Findings, PresentedCertificate,
    Prober, Target, TlsFinding,
};
use registry_verdict::{
    assess::{Before, Observation, assess},
    ecr::{EcrTokens, Login, Urgency},
    object::RegistryObject,
    resolve::{PolicySource, ReadError, TenantPolicy},
    steps::{self, Askers, NamespaceTenant, NextStep, ProbeCase},
    validate::{AdminPolicy, SpecError},
};

use crate::supply::Contents;

/// What checks are made with.
pub struct Checker {
    /// Asks registries.
    pub prober: Prober,
    /// Asks AWS; none in a build without it.
    pub tokens: Option<Arc<EcrTokens>>,
    /// What the administrator allows, as far as it is known here.
    pub admin_policy: AdminPolicy,
    /// The clock.
    pub clock: fn() -> Timestamp,
}

/// The one thing that can't be tried here.
pub const OPERATORS_IDENTITY: &str = "Not checked: the operator's AWS identity can't be used from here; apply \
    the registry and look at its conditions";

/// Where a registry's references are, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct CheckContext<'a> {
    /// Where references are read.
    pub namespace: &'a str,
    /// Whether a TenantRegistry's namespace is known to belong to no tenant.
    pub has_no_tenant: bool,
    /// What the references hold.
    pub contents: &'a Contents,
    /// What tenants may do, as far as that can be known here.
    pub policy: &'a TenantPolicy,
}

/// A verdict.
#[derive(Debug)]
pub struct CheckedRegistry {
    /// As the operator would write it.
    pub status: RegistryStatus,
    /// The certificate that was presented, and by whom.
    pub presented: Option<(String, PresentedCertificate)>,
}

impl Checker {
    /// What the operator would refuse to look at, before anything is asked for.
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
        let before = Before { transient_failures: 0, same_basis: false };
        let (mut status, _) = assess(object, &seen, before, (self.clock)());
        if unable {
            say(&mut status, ConditionType::CredentialsValidated, OPERATORS_IDENTITY);
            say(&mut status, ConditionType::Ready, OPERATORS_IDENTITY);
        }
        for condition in &mut status.conditions {
            // Nothing is observed yet: there is no object.
            condition.observed_generation = None;
        }
        status.observed_generation = None;
        Ok(CheckedRegistry {
            presented: seen.findings().and_then(|findings| presented(object, findings)),
            status,
        })
    }

    /// What is there to be seen; and whether the credentials can't be had here.
    async fn see(
        &self,
        object: &RegistryObject,
        surroundings: CheckContext<'_>,
    ) -> Result<(Observation, bool), ReadError<Infallible>> {
        let CheckContext { namespace, has_no_tenant, contents, policy } = surroundings;
        let surroundings = steps::ValidationContext {
            tenant: if has_no_tenant { NamespaceTenant::None } else { NamespaceTenant::Unknown },
            namespace,
            policy: PolicySource::Known(policy),
            admin_policy: &self.admin_policy,
        };
        match steps::examine(object, surroundings, contents).await?.plan {
            NextStep::Stop(seen) => Ok((seen, false)),
            NextStep::Probe(case) => Ok(self.probe(*case).await),
        }
    }

    async fn probe(&self, mut case: ProbeCase) -> (Observation, bool) {
        // Whoever runs this chose the endpoint, and reaches it with rights that they have anyway: no tenant's egress policy.
        case.target.egress_policy = EgressPolicy::new(EgressScope::System, [], []);
        if case.login.as_ref().is_some_and(Login::is_by_operator) {
            return (self.without_credentials(&case).await, true);
        }
        let askers = Askers { prober: self.prober.clone(), tokens: self.tokens.clone(), now: (self.clock)() };
        (steps::probe(askers, case, Urgency::Changed, None).await.seen, false)
    }

    /// Endpoint and certificate can be looked at all the same.
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

fn say(status: &mut RegistryStatus, condition: ConditionType, message: &str) {
    let mut conditions = status.conditions.iter_mut().filter(|one| one.type_ == condition.as_str());
    if let Some(unknown) = conditions.find(|one| one.status == "Unknown") {
        message.clone_into(&mut unknown.message);
    }
}

/// The certificate that did not pass, or else the registry's own.
fn presented(object: &RegistryObject, findings: &Findings) -> Option<(String, PresentedCertificate)> {
    if let TlsFinding::Failed { server, presented: Some(certificate), .. } = &findings.tls {
        return Some((server.to_string(), (**certificate).clone()));
    }
    findings.certificate.clone().map(|certificate| (object.spec.endpoint.clone(), certificate))
}

/// The certificate as its fields, each with a name.
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
