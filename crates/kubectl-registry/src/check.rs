//! One registry, from its manifest to a verdict: the operator's own validate, resolve, probe and assess, one after the
//! other. Decides nothing; what differs here is said in docs/decisions/0041-the-check-from-here.md.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use registry_api::{ConditionType, RegistryStatus};
use registry_operator::{
    assess::{Before, Seen, assess},
    ecr::{self, Tokens, Urgency},
    resolve::{Means, PolicySource, ReadError, TenantPolicy, Wanted, resolve},
    subject::Subject,
    validate::{Boundaries, SpecError, place, target},
};
use registry_probe::{
    ContentPathFinding, CredentialsFinding, Fence, FenceScope, Findings, Material, PresentedCertificate,
    Prober, Target, TlsFinding,
};

use crate::supply::Contents;

/// What checks are made with.
pub struct Checker {
    /// Asks registries.
    pub prober: Prober,
    /// Asks AWS; none in a build without it.
    pub tokens: Option<Arc<Tokens>>,
    /// What the administrator allows, as far as it is known here.
    pub boundaries: Boundaries,
    /// The clock.
    pub clock: fn() -> Timestamp,
}

/// The one thing that can't be tried here.
pub const OPERATORS_IDENTITY: &str = "Not checked: the operator's AWS identity can't be used from here; apply \
    the registry and look at its conditions";

/// Where a registry's references are, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Where references are read.
    pub namespace: &'a str,
    /// Whether a TenantRegistry's namespace is known to be nobody's.
    pub nobodys: bool,
    /// What the references hold.
    pub contents: &'a Contents,
    /// What tenants may do, as far as that can be known here.
    pub policy: &'a TenantPolicy,
}

/// A verdict.
#[derive(Debug)]
pub struct Checked {
    /// As the operator would write it.
    pub status: RegistryStatus,
    /// The certificate that was presented, and by whom.
    pub presented: Option<(String, PresentedCertificate)>,
}

impl Checker {
    /// What the operator would refuse to look at, before anything is asked for.
    pub fn examine(&self, subject: &Subject) -> Result<(), SpecError> {
        let target = target(subject, &self.boundaries)?;
        place(&subject.spec, &target.endpoint).map(drop)
    }

    /// Checks a registry.
    pub async fn check(
        &self,
        subject: &Subject,
        surroundings: Surroundings<'_>,
    ) -> Result<Checked, ReadError> {
        let (seen, unable) = self.see(subject, surroundings).await?;
        let before = Before { transient_failures: 0, same_basis: false };
        let (mut status, _) = assess(subject, &seen, before, (self.clock)());
        if unable {
            say(&mut status, ConditionType::CredentialsValidated, OPERATORS_IDENTITY);
            say(&mut status, ConditionType::Ready, OPERATORS_IDENTITY);
        }
        for condition in &mut status.conditions {
            // Nothing is observed yet: there is no object.
            condition.observed_generation = None;
        }
        status.observed_generation = None;
        Ok(Checked { presented: seen.findings().and_then(|findings| presented(subject, findings)), status })
    }

    /// What is there to be seen; and whether the credentials can't be had here.
    async fn see(
        &self,
        subject: &Subject,
        surroundings: Surroundings<'_>,
    ) -> Result<(Seen, bool), ReadError> {
        if surroundings.nobodys {
            return Ok((Seen::NotATenant, false));
        }
        let checked = target(subject, &self.boundaries)
            .and_then(|target| Ok((place(&subject.spec, &target.endpoint)?, target)));
        let (place, target) = match checked {
            Ok(checked) => checked,
            Err(error) => return Ok((Seen::Unfit(error), false)),
        };
        let wanted = Wanted {
            key: &subject.key,
            spec: &subject.spec,
            endpoint: &target.endpoint,
            place: place.as_ref(),
            tenant: None,
            namespace: surroundings.namespace,
            policy: PolicySource::Known(surroundings.policy),
        };
        // Whoever runs this chose the endpoint, and reaches it with rights that they have anyway: no tenant's fence.
        let target = Target { fence: Fence::new(FenceScope::System, [], []), ..target.clone() };
        match resolve(wanted, surroundings.contents).await?.means {
            Ok(means) => Ok(self.probe(&target, &means).await),
            Err(problem) => Ok((Seen::Unresolved(problem), false)),
        }
    }

    async fn probe(&self, target: &Target, Means { material, login }: &Means) -> (Seen, bool) {
        let now = (self.clock)();
        match (login, &self.tokens) {
            (Some(login), _) if login.is_by_operator() => {
                (self.without_credentials(target, material).await, true)
            }
            (Some(login), Some(tokens)) => {
                let case =
                    ecr::probe::Case { target, material, login, urgency: Urgency::Changed, session: None };
                (Seen::Ecr(Box::new(ecr::probe::probe(&self.prober, tokens, case, now).await)), false)
            }
            _ => (Seen::Probed(Box::new(self.prober.probe(target, material, now).await)), false),
        }
    }

    /// Endpoint and certificate can be looked at all the same.
    async fn without_credentials(&self, target: &Target, material: &Material) -> Seen {
        let target = Target { repository: None, ..target.clone() };
        let findings = self.prober.probe(&target, material, (self.clock)()).await;
        Seen::Probed(Box::new(Findings {
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
fn presented(subject: &Subject, findings: &Findings) -> Option<(String, PresentedCertificate)> {
    if let TlsFinding::Failed { server, presented: Some(certificate), .. } = &findings.tls {
        return Some((server.to_string(), (**certificate).clone()));
    }
    findings.certificate.clone().map(|certificate| (subject.spec.endpoint.clone(), certificate))
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
