//! Writes the pull Secrets of one namespace, one after the other.
//!
//! Owns that only the operator's own Secrets are touched. A Secret is created only if none exists, and changed or
//! deleted only in the state in which it was found to be the operator's own. Decides nothing.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use registry_api::PULL_SECRET_MANAGER;
use registry_probe::Backoff;
use serde_json::json;
use thiserror::Error;

use super::{
    managed_fields::as_applied,
    plan::SecretAction,
    secret::{FoundSecret, PullSecretContent, SecretVersion, selector},
};
use crate::{
    kubernetes::call::{CallError, CallFailure, call},
    tenancy::access::{Access, AccessError},
};

/// What exists after a write.
#[derive(Debug)]
pub enum After {
    /// A Secret that the operator manages.
    Own(FoundSecret),
    /// No Secret.
    Nothing,
    /// A Secret that the operator doesn't manage.
    Foreign,
}

/// Why it isn't certain what exists; the name is checked again.
#[derive(Debug, Error)]
pub enum DeliveryError {
    /// The operator has no permission.
    #[error("refused by the API server: {0}")]
    Refused(CallError),
    /// A quota of the namespace is used up.
    #[error("refused by a ResourceQuota of the namespace: {0}")]
    Quota(CallError),
    /// The Secret was changed in the meantime.
    #[error("the Secret was changed in the meantime")]
    Conflict,
    /// Something in the cluster changes what the operator writes.
    #[error("an admission webhook or policy changes the Secret when it is written")]
    Altered,
    /// The namespace is being deleted, or is gone.
    #[error("the namespace is being deleted")]
    Closing,
    /// The operator's RoleBinding could not be deleted.
    #[error("failed to delete the operator's RoleBinding: {0}")]
    Revoke(#[from] AccessError),
    /// Any other failure.
    #[error(transparent)]
    Api(CallError),
}

impl DeliveryError {
    /// Returns whether the API server didn't answer: what it was asked may still happen.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Api(error) if error.failure() == CallFailure::NoAnswer)
    }

    /// Returns the delay after this failure, for a number of failures in a row.
    pub fn pause(&self, failures: u32) -> Duration {
        match self {
            Self::Refused(error)
            | Self::Quota(error)
            | Self::Api(error)
            | Self::Revoke(AccessError::Api(error)) => error.pause(failures),
            Self::Conflict | Self::Altered | Self::Closing | Self::Revoke(AccessError::NoRole) => {
                Backoff::API_CALL.after(failures)
            }
        }
    }
}

/// The Secrets of one namespace.
pub struct Secrets {
    api: Api<Secret>,
    access: Arc<Access>,
    namespace: Arc<str>,
}

impl Secrets {
    /// The Secrets of that namespace.
    pub fn of(client: Client, access: Arc<Access>, namespace: Arc<str>) -> Self {
        Self { api: Api::namespaced(client, &namespace), access, namespace }
    }

    /// Lists the operator's own Secrets.
    pub async fn own(&self) -> Result<Vec<(Arc<str>, FoundSecret)>, DeliveryError> {
        self.when_bound(|| self.list()).await
    }

    /// Makes one write.
    pub async fn carry_out(&self, action: &SecretAction) -> Result<After, DeliveryError> {
        self.when_bound(|| async {
            match action {
                SecretAction::Create { name, content } => self.create(name, content).await,
                SecretAction::Change { name, at, applied: true, content } => {
                    self.change(name, at, content).await
                }
                SecretAction::Change { name, at, applied: false, content } => {
                    self.change(name, &self.take_by_apply(name, at).await?, content).await
                }
                SecretAction::Delete { name, at } => self.delete(name, at).await,
            }
        })
        .await
    }

    /// Reads the Secret with that name.
    pub async fn inspect(&self, name: &str) -> Result<After, DeliveryError> {
        let there = answered(self.api.get_opt(name)).await?;
        Ok(there.map_or(After::Nothing, |secret| FoundSecret::of(&secret).map_or(After::Foreign, After::Own)))
    }

    /// Deletes all of the operator's own Secrets, and then its RoleBinding. Skips the Secrets if it has no permission to
    /// list them.
    pub async fn leave(&self) -> Result<(), DeliveryError> {
        let own = match self.list().await {
            Err(DeliveryError::Refused(_) | DeliveryError::Closing) => Vec::new(),
            own => own?,
        };
        for (name, found) in own {
            self.delete(&name, &found.version).await?;
        }
        if self.access.tenant(&self.namespace).is_some() {
            return Ok(()); // its label is back
        }
        Ok(self.access.revoke(&self.namespace).await?)
    }

    async fn list(&self) -> Result<Vec<(Arc<str>, FoundSecret)>, DeliveryError> {
        let listed = answered(self.api.list(&ListParams::default().labels(&selector()))).await?;
        let found = |secret: Secret| Some((secret.name_any().into(), FoundSecret::of(&secret)?));
        Ok(listed.items.into_iter().filter_map(found).collect())
    }

    /// Creates a Secret by a POST. An apply would take over someone else's Secret. [`Self::take_by_apply`] makes up for it.
    async fn create(&self, name: &str, content: &PullSecretContent) -> Result<After, DeliveryError> {
        let params =
            PostParams { field_manager: Some(PULL_SECRET_MANAGER.to_owned()), ..PostParams::default() };
        let secret = serde_json::from_value(content.manifest(name, None)).map_err(unreadable)?;
        match answered(self.api.create(&params, &secret)).await {
            Err(DeliveryError::Conflict) => self.inspect(name).await,
            written => as_written(&written?, content),
        }
    }

    async fn change(
        &self,
        name: &str,
        at: &SecretVersion,
        content: &PullSecretContent,
    ) -> Result<After, DeliveryError> {
        let params = PatchParams::apply(PULL_SECRET_MANAGER).force();
        let patch = Patch::Apply(content.manifest(name, Some(at)));
        as_written(&answered(self.api.patch(name, &params, &patch)).await?, content)
    }

    /// Moves the fields that the operator wrote by a POST to its apply, so that an apply can remove them. Returns the new
    /// state of the Secret.
    async fn take_by_apply(&self, name: &str, at: &SecretVersion) -> Result<SecretVersion, DeliveryError> {
        let there = answered(self.api.get_opt(name)).await?.filter(|there| SecretVersion::of(there) == *at);
        let managed_fields = as_applied(&there.ok_or(DeliveryError::Conflict)?);
        let patch = json!({"metadata": {
            "uid": at.uid, "resourceVersion": at.resource_version, "managedFields": managed_fields,
        }});
        let params =
            PatchParams { field_manager: Some(PULL_SECRET_MANAGER.to_owned()), ..PatchParams::default() };
        let taken = answered(self.api.patch(name, &params, &Patch::Merge(patch))).await?;
        Ok(SecretVersion::of(&taken))
    }

    async fn delete(&self, name: &str, at: &SecretVersion) -> Result<After, DeliveryError> {
        let preconditions = Some(Preconditions {
            uid: Some(at.uid.clone()),
            resource_version: Some(at.resource_version.clone()),
        });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match answered(self.api.delete(name, &params)).await {
            Ok(_) | Err(DeliveryError::Closing) => Ok(After::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Retries while the operator's RoleBinding may not have taken effect yet.
    async fn when_bound<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, DeliveryError>
    where
        F: Future<Output = Result<T, DeliveryError>>,
    {
        let is_refused = |error: &_| matches!(error, DeliveryError::Refused(_));
        self.access.when_effective(&self.namespace, is_refused, attempt).await
    }
}

/// If the stored Secret differs from what was written, it is not written again.
fn as_written(secret: &Secret, content: &PullSecretContent) -> Result<After, DeliveryError> {
    let found = FoundSecret::of(secret).filter(|found| found.says(content));
    found.map(After::Own).ok_or(DeliveryError::Altered)
}

fn unreadable(error: serde_json::Error) -> DeliveryError {
    DeliveryError::Api(kube::Error::SerdeError(error).into())
}

async fn answered<T>(answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, DeliveryError> {
    call(answer).await.map_err(|error| match error.failure() {
        CallFailure::Gone | CallFailure::Terminating => DeliveryError::Closing,
        CallFailure::Forbidden => DeliveryError::Refused(error),
        CallFailure::Quota => DeliveryError::Quota(error),
        CallFailure::Conflict => DeliveryError::Conflict,
        CallFailure::Throttled | CallFailure::NoAnswer | CallFailure::Other => DeliveryError::Api(error),
    })
}
