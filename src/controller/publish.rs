//! Status and finalizer to the API server: server-side apply, each under its own field manager, skipped when nothing
//! but time changed, and never to an object of another incarnation.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, Patch, PatchParams},
    core::PartialObjectMeta,
};
use registry_api::{
    FINALIZER, GROUP, RegistryStatus, SystemRegistry, TenantRegistry,
    spec::{Registry, Scope as ApiScope, System, Tenant, VERSION},
};
use registry_verdict::object::{RegistryKey, RegistryObject};
use serde_json::{Value, json};
use thiserror::Error;

use crate::kubernetes::call::{CallError, CallFailure, call};

/// The field manager of `/status`.
const STATUS_MANAGER: &str = "registry-operator-status";
/// The field manager of the finalizer.
const FINALIZER_MANAGER: &str = "registry-operator-finalizer";
/// What is written, as errors say it.
const THE_FINALIZER: &str = "the finalizer";
/// The time of the last validation is rewritten alone at most this often: etcd is no time series.
const TIME_ALONE: Duration = Duration::from_hours(1);
/// How often a write is tried again because the object has changed.
const CONFLICTS: usize = 4;

/// Why a write failed.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The object is gone, or another has taken its name; there is nothing to write to.
    #[error("{0} no longer exists")]
    Gone(RegistryKey),
    /// The object has changed meanwhile, more often than was tried.
    #[error("failed to write {0}: it was changed in the meantime")]
    Conflict(RegistryKey),
    /// The API server refused, or could not be asked.
    #[error("failed to write {what} of {key}: {source}")]
    Api {
        /// Status or finalizer.
        what: &'static str,
        /// Of which registry.
        key: RegistryKey,
        /// What went wrong.
        source: CallError,
    },
}

impl PublishError {
    /// How long the API server asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api { source, .. } => source.retry_after(),
            Self::Gone(_) | Self::Conflict(_) => None,
        }
    }
}

/// Writes `status` if it says anything new; returns the object as it then is.
///
/// A uid is no precondition on `/status` of a custom resource: the API server takes the metadata of the object that is
/// there (seen on 1.36). The resource version is one; where it has moved on, the object is looked at again.
pub async fn publish_status(
    client: &Client,
    object: &RegistryObject,
    status: &RegistryStatus,
) -> Result<Option<RegistryObject>, PublishError> {
    if !says_something_new(&object.status, status) {
        return Ok(None);
    }
    let mut version = object.resource_version.clone();
    for _ in 0..CONFLICTS {
        match apply_status(client, object, status, &version).await {
            Err(PublishError::Conflict(_)) => version = current_version(client, object).await?,
            written => return clear_leftovers(client, object, status, written?).await.map(Some),
        }
    }
    let written = apply_status(client, object, status, &version).await?;
    clear_leftovers(client, object, status, written).await.map(Some)
}

async fn apply_status(
    client: &Client,
    object: &RegistryObject,
    status: &RegistryStatus,
    version: &str,
) -> Result<RegistryObject, PublishError> {
    let patch = |kind: &str| {
        Patch::Apply(json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
            "metadata": {"name": object.key.name(), "resourceVersion": version},
            "status": status,
        }))
    };
    apply(client, object, "the status", STATUS_MANAGER, patch).await
}

/// Takes away what another field manager once wrote into the status, such as a restored backup: server-side apply leaves it,
/// and a condition would be left over for ever.
async fn clear_leftovers(
    client: &Client,
    object: &RegistryObject,
    status: &RegistryStatus,
    written: RegistryObject,
) -> Result<RegistryObject, PublishError> {
    let (found, wanted) = (json!(written.status), json!(status));
    if found == wanted {
        return Ok(written);
    }
    let (version, status) = (&written.resource_version, difference(found, wanted));
    let patch = |_: &str| Patch::Merge(json!({"metadata": {"resourceVersion": version}, "status": status}));
    match apply(client, object, "the status", STATUS_MANAGER, patch).await {
        // Somebody else was quicker; what is left goes with the next write.
        Err(PublishError::Conflict(_)) => Ok(written),
        cleared => cleared,
    }
}

/// The JSON merge patch (RFC 7386) that makes `wanted` of `found`.
fn difference(found: Value, wanted: Value) -> Value {
    let (Value::Object(found), Value::Object(mut merged)) = (found, wanted.clone()) else { return wanted };
    for (key, found) in found {
        let wanted = merged.remove(&key).map_or(Value::Null, |wanted| difference(found, wanted));
        merged.insert(key, wanted);
    }
    Value::Object(merged)
}

/// The version that the object has now, if it is still the same object.
async fn current_version(client: &Client, object: &RegistryObject) -> Result<String, PublishError> {
    let metadata = current_metadata(client, object, "the status").await?;
    metadata.resource_version.ok_or_else(|| PublishError::Gone(object.key.clone()))
}

/// The metadata that the object has now, if it is still the same object.
async fn current_metadata(
    client: &Client,
    object: &RegistryObject,
    what: &'static str,
) -> Result<ObjectMeta, PublishError> {
    let read = async {
        match &object.key {
            RegistryKey::System { name } => {
                Api::<SystemRegistry>::all(client.clone()).get_metadata_opt(name).await.map(metadata)
            }
            RegistryKey::Tenant { namespace, name } => {
                Api::<TenantRegistry>::namespaced(client.clone(), namespace)
                    .get_metadata_opt(name)
                    .await
                    .map(metadata)
            }
        }
    };
    let current = within(&object.key, what, read).await?;
    let same = current.filter(|metadata| metadata.uid.as_deref() == Some(&object.uid));
    same.ok_or_else(|| PublishError::Gone(object.key.clone()))
}

fn metadata<K: Resource>(object: Option<PartialObjectMeta<K>>) -> Option<ObjectMeta> {
    object.map(|object| object.metadata)
}

/// The object with all that it says now, if it is still the same object.
pub async fn current(client: &Client, object: &RegistryObject) -> Result<RegistryObject, PublishError> {
    let read = async {
        match &object.key {
            RegistryKey::System { name } => {
                let api = Api::<SystemRegistry>::all(client.clone());
                Ok(api.get_opt(name).await?.map(RegistryObject::of))
            }
            RegistryKey::Tenant { namespace, name } => {
                let api = Api::<TenantRegistry>::namespaced(client.clone(), namespace);
                Ok(api.get_opt(name).await?.map(RegistryObject::of))
            }
        }
    };
    let current = within(&object.key, "the spec", read).await?;
    let same = current.filter(|current| current.uid == object.uid);
    same.ok_or_else(|| PublishError::Gone(object.key.clone()))
}

/// Puts our finalizer on the object, or takes it off.
pub async fn publish_finalizer(
    client: &Client,
    object: &RegistryObject,
    wanted: bool,
) -> Result<RegistryObject, PublishError> {
    let finalizers: &[&str] = if wanted { &[FINALIZER] } else { &[] };
    let patch = |kind: &str| {
        Patch::Apply(json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
            "metadata": {"name": object.key.name(), "uid": object.uid, "finalizers": finalizers},
        }))
    };
    let written = match apply(client, object, THE_FINALIZER, FINALIZER_MANAGER, patch).await {
        // Where there is no such object any more, a uid that is asked for is a conflict too.
        Err(error @ PublishError::Conflict(_)) => {
            current_metadata(client, object, THE_FINALIZER).await?;
            return Err(error);
        }
        written => written?,
    };
    if written.finalizer && !wanted {
        return take_finalizer_off(client, object).await;
    }
    Ok(written)
}

/// Takes our finalizer off an object for which another field manager asked as well, as does who applies an object just as it
/// was once read (a backup, a copy): server-side apply leaves what others own.
async fn take_finalizer_off(
    client: &Client,
    object: &RegistryObject,
) -> Result<RegistryObject, PublishError> {
    let metadata = current_metadata(client, object, THE_FINALIZER).await?;
    let mut others = metadata.finalizers.unwrap_or_default();
    others.retain(|finalizer| finalizer != FINALIZER);
    let version = metadata.resource_version;
    let patch =
        |_: &str| Patch::Merge(json!({"metadata": {"resourceVersion": version, "finalizers": others}}));
    apply(client, object, THE_FINALIZER, FINALIZER_MANAGER, patch).await
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
    object: &RegistryObject,
    what: &'static str,
    manager: &'static str,
    patch: impl Fn(&str) -> Patch<Value>,
) -> Result<RegistryObject, PublishError> {
    let write = async {
        match &object.key {
            RegistryKey::System { .. } => {
                let api: Api<SystemRegistry> = Api::all(client.clone());
                apply_to(&api, object, manager, patch(System::KIND)).await.map(RegistryObject::of)
            }
            RegistryKey::Tenant { namespace, .. } => {
                let api: Api<TenantRegistry> = Api::namespaced(client.clone(), namespace);
                apply_to(&api, object, manager, patch(Tenant::KIND)).await.map(RegistryObject::of)
            }
        }
    };
    within(&object.key, what, write).await
}

/// Waits for an answer of the API server, and says what a refusal means for a registry.
async fn within<T>(
    key: &RegistryKey,
    what: &'static str,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, PublishError> {
    call(answer).await.map_err(|source| match source.failure() {
        CallFailure::Gone => PublishError::Gone(key.clone()),
        CallFailure::Conflict => PublishError::Conflict(key.clone()),
        CallFailure::Terminating
        | CallFailure::Quota
        | CallFailure::Forbidden
        | CallFailure::Throttled
        | CallFailure::NoAnswer
        | CallFailure::Other => PublishError::Api { what, key: key.clone(), source },
    })
}

async fn apply_to<S: ApiScope>(
    api: &Api<Registry<S>>,
    object: &RegistryObject,
    manager: &str,
    patch: Patch<Value>,
) -> Result<Registry<S>, kube::Error> {
    let params = PatchParams { force: matches!(patch, Patch::Apply(_)), ..PatchParams::apply(manager) };
    if manager == STATUS_MANAGER {
        api.patch_status(object.key.name(), &params, &patch).await
    } else {
        api.patch(object.key.name(), &params, &patch).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validated_at(second: i64) -> RegistryStatus {
        let time = Time(Timestamp::from_second(second).unwrap());
        RegistryStatus { last_validation_time: Some(time), ..RegistryStatus::default() }
    }

    #[test]
    fn removes_unwanted_status_fields() {
        let found =
            json!({"tls": {"version": "1.3", "subject": "a"}, "conditions": [1, 2], "credentials": {"x": 1}});
        let wanted = json!({"tls": {"subject": "b"}, "conditions": [2], "observedGeneration": 1});
        let patch = json!({
            "tls": {"version": null, "subject": "b"}, "conditions": [2], "credentials": null, "observedGeneration": 1,
        });
        assert_eq!(difference(found, wanted), patch);
    }

    #[test]
    fn writes_time_only_change_once_an_hour() {
        assert!(says_something_new(&RegistryStatus::default(), &validated_at(0)));
        assert!(!says_something_new(&validated_at(0), &validated_at(3599)));
        assert!(says_something_new(&validated_at(0), &validated_at(3600)));
    }

    #[test]
    fn writes_other_changes_at_once() {
        let next = RegistryStatus { observed_generation: Some(2), ..validated_at(1) };
        assert!(says_something_new(&validated_at(0), &next));
    }
}
