//! What a registry asks for, and what its newest validation means for that. Pure.

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

/// What a registry says of its availability.
#[derive(Clone, Debug, PartialEq)]
pub struct PullSecretSpec {
    /// Which registry.
    pub key: RegistryKey,
    /// Its uid.
    pub uid: Arc<str>,
    created: Option<Timestamp>,
    generation: i64,
    /// Whom it is for.
    pub audience: Audience,
    /// The pull Secret's name; none if none is to be.
    pub name: Option<Arc<str>>,
    suspended: bool,
    finalizer: bool,
}

/// What one validation of a registry means for its pull Secrets.
#[derive(Clone, Debug)]
pub struct DeliveryVerdict {
    /// Of which registry.
    pub uid: Arc<str>,
    /// Of which version of its spec.
    pub generation: i64,
    /// What it means.
    pub holding: DesiredContent,
}

impl PullSecretSpec {
    /// What that registry says.
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

    /// Whether its Secrets are to go, and its finalizer with them.
    pub fn is_clearing(&self) -> bool {
        self.finalizer && self.name.is_none()
    }
}

/// The name of the pull Secret that a registry asks for.
pub fn pull_secret(object: &RegistryObject) -> Option<&str> {
    let availability = object.spec.availability.as_ref()?;
    availability.pull_secret.as_ref().map(|secret| secret.name.as_str())
}

/// A registry that asks for pull Secrets, and its newest verdict; or one whose Secrets are all to go, and since when.
pub struct Offered {
    /// What it says.
    pub offer: PullSecretSpec,
    /// Its newest verdict.
    pub verdict: Option<DeliveryVerdict>,
    /// Since when its Secrets are to go.
    pub clearing: Option<Instant>,
}

impl Offered {
    /// The Secret that it wishes for, if it does.
    pub fn wish(&self) -> Option<DesiredSecret> {
        Some(DesiredSecret {
            registry: self.offer.key.clone(),
            uid: self.offer.uid.clone(),
            created: self.offer.created,
            name: self.offer.name.clone()?,
            holding: self.holding(),
        })
    }

    /// What was proven of an older spec is not known to hold of this one; and a suspended registry stays as it is.
    pub fn holding(&self) -> DesiredContent {
        match &self.verdict {
            Some(verdict) if verdict.generation == self.offer.generation && !self.offer.suspended => {
                verdict.holding.clone()
            }
            Some(_) | None => DesiredContent::Unknown,
        }
    }
}

/// Whether the same Secrets follow from both.
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

/// What a validation means for the pull Secrets; none where it changes nothing.
///
/// Credentials are handed out as long as they are proven, and no longer. A failure that may pass by itself speaks neither
/// for nor against them: while it leaves the registry Ready nothing changes; after that, what is there stays, for a registry
/// that comes back is of no use to who has lost his credentials for it meanwhile.
pub fn holding(
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
