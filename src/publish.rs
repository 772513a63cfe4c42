//! Status and finalizer to the API server: server-side apply, each under its own field manager, skipped when nothing
//! but time changed, and never to an object of another incarnation (the uid goes along as a precondition).

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use registry_api::{
    FINALIZER, GROUP, RegistryStatus, SystemRegistry, TenantRegistry,
    spec::{Registry, Scope as ApiScope, System, Tenant, VERSION},
};
use serde_json::{Value, json};
use thiserror::Error;

use crate::subject::{Key, Subject};

/// The field manager of `/status`.
const STATUS_MANAGER: &str = "registry-operator-status";
/// The field manager of the finalizer.
const FINALIZER_MANAGER: &str = "registry-operator-finalizer";
/// The time of the last validation is rewritten alone at most this often: etcd is no time series.
const TIME_ALONE: Duration = Duration::from_hours(1);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a write failed.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The object is gone, or another has taken its name; there is nothing to write to.
    #[error("{0} is gone")]
    Gone(Key),
    /// The API server refused or could not be asked.
    #[error("writing {what} of {key}: {source}")]
    Api {
        /// Status or finalizer.
        what: &'static str,
        /// Of which registry.
        key: Key,
        /// What went wrong.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("writing {what} of {key}: no answer in {WRITE_TIMEOUT:?}")]
    NoAnswer {
        /// Status or finalizer.
        what: &'static str,
        /// Of which registry.
        key: Key,
    },
}

/// Writes `status` if it says anything new; returns the object as it then is.
pub async fn publish_status(
    client: &Client,
    subject: &Subject,
    status: &RegistryStatus,
) -> Result<Option<Subject>, PublishError> {
    if !says_something_new(&subject.status, status) {
        return Ok(None);
    }
    let patch = |kind: &str| {
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
            "metadata": {"name": subject.key.name(), "uid": subject.uid},
            "status": status,
        })
    };
    apply(client, subject, "the status", STATUS_MANAGER, patch).await.map(Some)
}

/// Puts our finalizer on the object, or takes it off.
pub async fn publish_finalizer(
    client: &Client,
    subject: &Subject,
    wanted: bool,
) -> Result<Subject, PublishError> {
    let finalizers: &[&str] = if wanted { &[FINALIZER] } else { &[] };
    let patch = |kind: &str| {
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
            "metadata": {"name": subject.key.name(), "uid": subject.uid, "finalizers": finalizers},
        })
    };
    apply(client, subject, "the finalizer", FINALIZER_MANAGER, patch).await
}

/// Whether `next` differs from `previous` in more than the time of the validation, or that time has become old.
fn says_something_new(previous: &RegistryStatus, next: &RegistryStatus) -> bool {
    let timeless = |status: &RegistryStatus| RegistryStatus { last_validation_time: None, ..status.clone() };
    timeless(previous) != timeless(next)
        || is_old(previous.last_validation_time.as_ref(), next.last_validation_time.as_ref())
}

fn is_old(previous: Option<&Time>, next: Option<&Time>) -> bool {
    let instant = |time: Option<&Time>| time.map_or(Timestamp::MIN, |time| time.0);
    let age = instant(next).duration_since(instant(previous));
    Duration::try_from(age).is_ok_and(|age| age >= TIME_ALONE)
}

async fn apply(
    client: &Client,
    subject: &Subject,
    what: &'static str,
    manager: &'static str,
    patch: impl Fn(&str) -> Value,
) -> Result<Subject, PublishError> {
    let key = subject.key.clone();
    let write = async {
        match &subject.key {
            Key::System { .. } => {
                let api: Api<SystemRegistry> = Api::all(client.clone());
                apply_to(&api, subject, manager, patch(System::KIND)).await.map(Subject::of)
            }
            Key::Tenant { namespace, .. } => {
                let api: Api<TenantRegistry> = Api::namespaced(client.clone(), namespace);
                apply_to(&api, subject, manager, patch(Tenant::KIND)).await.map(Subject::of)
            }
        }
    };
    match tokio::time::timeout(WRITE_TIMEOUT, write).await {
        Err(_) => Err(PublishError::NoAnswer { what, key }),
        Ok(Ok(written)) => Ok(written),
        Ok(Err(kube::Error::Api(status))) if is_gone(&status) => Err(PublishError::Gone(key)),
        Ok(Err(source)) => Err(PublishError::Api { what, key, source: Box::new(source) }),
    }
}

async fn apply_to<S: ApiScope>(
    api: &Api<Registry<S>>,
    subject: &Subject,
    manager: &str,
    patch: Value,
) -> Result<Registry<S>, kube::Error> {
    let params = PatchParams::apply(manager).force();
    if manager == STATUS_MANAGER {
        api.patch_status(subject.key.name(), &params, &Patch::Apply(patch)).await
    } else {
        api.patch(subject.key.name(), &params, &Patch::Apply(patch)).await
    }
}

/// Not found; or an object of another uid, which the API server calls a conflict.
fn is_gone(status: &kube::core::Status) -> bool {
    status.code == 404 || (status.code == 409 && status.message.to_lowercase().contains("uid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validated_at(second: i64) -> RegistryStatus {
        let time = Time(Timestamp::from_second(second).unwrap());
        RegistryStatus { last_validation_time: Some(time), ..RegistryStatus::default() }
    }

    #[test]
    fn time_alone_is_written_only_once_an_hour() {
        assert!(says_something_new(&RegistryStatus::default(), &validated_at(0)));
        assert!(!says_something_new(&validated_at(0), &validated_at(3599)));
        assert!(says_something_new(&validated_at(0), &validated_at(3600)));
    }

    #[test]
    fn anything_else_that_differs_is_written_at_once() {
        let next = RegistryStatus { observed_generation: Some(2), ..validated_at(1) };
        assert!(says_something_new(&validated_at(0), &next));
    }
}
