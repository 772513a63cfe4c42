//! What a registry wants, and what its latest validation means for its pull Secrets. Pure.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use registry_api::{ConditionType, Reason, RegistryStatus};
use registry_probe::{Credentials, Endpoint};
use registry_verdict::{
    assess::ValidationOutcome,
    object::{RegistryKey, RegistryObject},
};
use tokio::time::Instant;

use super::{
    plan::{DesiredContent, DesiredSecret},
    secret::PullSecretContent,
};
use crate::tenancy::audience::Audience;

/// The part of a registry that its pull Secrets depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct PullSecretSpec {
    /// The registry.
    pub key: RegistryKey,
    /// Its uid.
    pub uid: Arc<str>,
    created: Option<Timestamp>,
    generation: i64,
    /// The tenants that can use it.
    pub audience: Audience,
    /// The name of the pull Secret, if it wants one.
    pub name: Option<Arc<str>>,
    suspended: bool,
    finalizer: bool,
}

/// What one validation of a registry means for its pull Secrets.
#[derive(Clone, Debug)]
pub struct DeliveryVerdict {
    /// The registry's uid.
    pub uid: Arc<str>,
    /// The generation of its spec.
    pub generation: i64,
    /// The resulting content.
    pub content: DesiredContent,
}

impl PullSecretSpec {
    /// Reads a registry.
    pub fn of(object: &RegistryObject) -> Self {
        let name = pull_secret(object).filter(|_| !object.deleting);
        Self {
            key: object.key.clone(),
            uid: object.uid.as_str().into(),
            created: object.created,
            generation: object.generation,
            audience: Audience::of(object),
            name: name.map(Into::into),
            suspended: object.spec.suspend,
            finalizer: object.finalizer,
        }
    }

    /// Returns whether its Secrets, and then its finalizer, must be removed.
    pub fn is_clearing(&self) -> bool {
        self.finalizer && self.name.is_none()
    }
}

/// Returns the name of the pull Secret that a registry asks for.
pub fn pull_secret(object: &RegistryObject) -> Option<&str> {
    let availability = object.spec.availability.as_ref()?;
    availability.pull_secret.as_ref().map(|secret| secret.name.as_str())
}

/// A registry that wants pull Secrets, with its latest validation; or one whose Secrets are being removed, and since
/// when.
pub struct DeliveryRequest {
    /// The registry.
    pub spec: PullSecretSpec,
    /// Its latest validation.
    pub verdict: Option<DeliveryVerdict>,
    /// Since when its Secrets are being removed.
    pub clearing: Option<Instant>,
}

impl DeliveryRequest {
    /// Returns the Secret that it wants, if any.
    pub fn desired_secret(&self) -> Option<DesiredSecret> {
        Some(DesiredSecret {
            registry: self.spec.key.clone(),
            uid: self.spec.uid.clone(),
            created: self.spec.created,
            name: self.spec.name.clone()?,
            content: self.content(),
        })
    }

    /// Returns the content. The result for an older spec says nothing about this one, and a suspended registry keeps
    /// its Secrets.
    pub fn content(&self) -> DesiredContent {
        match &self.verdict {
            Some(verdict) if verdict.generation == self.spec.generation && !self.spec.suspended => {
                verdict.content.clone()
            }
            Some(_) | None => DesiredContent::Unknown,
        }
    }
}

/// Returns whether both lead to the same Secrets.
pub fn says_the_same(one: &DesiredContent, other: &DesiredContent) -> bool {
    match (one, other) {
        (DesiredContent::Nothing, DesiredContent::Nothing)
        | (DesiredContent::Unknown, DesiredContent::Unknown) => true,
        (DesiredContent::Proven(one), DesiredContent::Proven(other)) => {
            one.fingerprint() == other.fingerprint()
        }
        (DesiredContent::Nothing | DesiredContent::Unknown | DesiredContent::Proven(_), _) => false,
    }
}

/// Returns what a validation means for the pull Secrets; `None` if it changes nothing.
///
/// Credentials are delivered only while they are validated. A transient failure is no evidence for or against them.
/// While the registry stays Ready, nothing changes. After that, existing Secrets stay, because users could not pull
/// when the registry is back otherwise.
pub fn desired_content(
    object: &RegistryObject,
    status: &RegistryStatus,
    outcome: ValidationOutcome,
    used: Option<&Credentials>,
) -> Option<DesiredContent> {
    let validated = status
        .condition(ConditionType::CredentialsValidated)
        .is_some_and(|condition| condition.reason == Reason::Validated.as_str());
    if validated {
        return Some(proven(object, used).unwrap_or(DesiredContent::Nothing));
    }
    match outcome {
        ValidationOutcome::Transient { .. } | ValidationOutcome::Postponed { .. }
            if status.is_true(ConditionType::Ready) =>
        {
            None
        }
        ValidationOutcome::Transient { .. } | ValidationOutcome::Postponed { .. } => {
            Some(DesiredContent::Unknown)
        }
        ValidationOutcome::Usable | ValidationOutcome::Rejected { .. } | ValidationOutcome::Definite => {
            Some(DesiredContent::Nothing)
        }
    }
}

fn proven(object: &RegistryObject, used: Option<&Credentials>) -> Option<DesiredContent> {
    let endpoint = Endpoint::parse(&object.spec.endpoint).ok()?;
    let content = PullSecretContent::new(&object.key, &object.uid, used?, &endpoint);
    Some(DesiredContent::Proven(Arc::new(content)))
}
