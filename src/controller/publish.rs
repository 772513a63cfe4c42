//! Writes status and finalizer to the API server: by server-side apply, each with its own field manager, never to another object
//! of the same name. A status that differs only in its time isn't written.

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
use registry_verdict::{
    known_status::{KnownCondition, KnownStatus, StatusDifference},
    object::{RegistryKey, RegistryObject},
};
use serde_json::{Value, json};
use thiserror::Error;

use super::{context::Context, history::History};
use crate::kubernetes::call::{CallError, CallFailure, call};

/// The field manager of `/status`.
const STATUS_MANAGER: &str = "registry-operator-status";
/// The field manager of the finalizer.
const FINALIZER_MANAGER: &str = "registry-operator-finalizer";
/// If nothing else changes, the time of the last validation is written this often, to spare etcd.
const TIME_ALONE: Duration = Duration::from_hours(1);
/// How often a write is repeated because the object has changed.
const CONFLICTS: usize = 8;

/// Why a write failed.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The object is gone, or another object has its name.
    #[error("{0} no longer exists")]
    Gone(RegistryKey),
    /// The object changed in the meantime, each time that the write was repeated.
    #[error("failed to write {0}: it was changed in the meantime")]
    Conflict(RegistryKey),
    /// The API server refused the request, or didn't answer.
    #[error("failed to write {what} of {key}: {source}")]
    Api {
        /// What was to be read or written.
        what: &'static str,
        /// The registry.
        key: RegistryKey,
        /// The failure of the call.
        source: CallError,
    },
}

impl PublishError {
    /// Returns how long the API server asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api { source, .. } => source.retry_after(),
            Self::Gone(_) | Self::Conflict(_) => None,
        }
    }
}

/// Writes a verdict, and sends an Event if it is new. Returns when to try again if the API server doesn't accept it; the registry
/// need not be validated again for that.
pub async fn publish(
    context: &Context,
    object: &mut RegistryObject,
    history: &mut History,
    status: &RegistryStatus,
) -> Result<Option<Duration>, PublishError> {
    let error = match publish_status(&context.client, object, status).await {
        Ok(()) => {
            history.failed_writes = 0;
            context.events.send_if_new(object, status, &mut history.reported, (context.clock)());
            return Ok(None);
        }
        Err(error @ PublishError::Gone(_)) => return Err(error),
        Err(error) => error,
    };
    tracing::warn!(registry = %object.key, %error, "failed to write the status, retrying");
    let jitter = (context.jitter)();
    let wait = match &error {
        PublishError::Conflict(_) => history.write_contested(jitter),
        PublishError::Gone(_) | PublishError::Api { .. } => history.write_failed(jitter),
    };
    Ok(Some(wait.max(error.retry_after().unwrap_or_default())))
}

/// Writes `status` if it is worth it. `object` becomes the object as written.
///
/// The API server ignores a uid as precondition of a write to `/status` of a custom resource: it takes the metadata of the object that
/// exists (seen on 1.36). The resource version works; if it has changed, the object's uid is compared.
pub async fn publish_status(
    client: &Client,
    object: &mut RegistryObject,
    status: &RegistryStatus,
) -> Result<(), PublishError> {
    if !is_worth_writing(object, status) {
        return Ok(());
    }
    let mut status = status.clone();
    let written = apply_status(client, object, &mut status).await?;
    *object = clear_leftovers(client, written, &status).await?.object;
    Ok(())
}

/// Applies the status; again while the object is changed in the meantime, up to a bound. Such a change may be a write of this status whose
/// reply was lost, so the conditions that it has already keep their times.
async fn apply_status(
    client: &Client,
    object: &RegistryObject,
    status: &mut RegistryStatus,
) -> Result<WrittenRegistry, PublishError> {
    let mut written = apply_status_at(client, object, status, &object.resource_version).await;
    for _ in 0..CONFLICTS {
        let Err(PublishError::Conflict(_)) = written else { break };
        let current = current_object(client, object, Subresource::Status.name()).await?;
        if current.generation < object.generation {
            break; // the store was restored: it is another spec
        }
        keep_times(status, &current.status);
        written = apply_status_at(client, object, status, &current.resource_version).await;
    }
    written
}

/// Sets the time of each condition to the one that `found` has for it, if its status is the same there.
fn keep_times(status: &mut RegistryStatus, found: &KnownStatus) {
    for condition in &mut status.conditions {
        let known = KnownCondition::of(condition).and_then(|known| found.condition(known.condition));
        if let Some(same) = known.filter(|known| known.status.as_str() == condition.status) {
            condition.last_transition_time = Time(same.last_transition_time);
        }
    }
}

async fn apply_status_at(
    client: &Client,
    object: &RegistryObject,
    status: &RegistryStatus,
    version: &str,
) -> Result<WrittenRegistry, PublishError> {
    let patch = |kind: &str| {
        Patch::Apply(json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
            "metadata": {"name": object.key.name(), "resourceVersion": version},
            "status": status,
        }))
    };
    write(client, object, Subresource::Status, patch).await
}

/// Removes what another field manager wrote into the status, such as a restored backup: server-side apply keeps it.
async fn clear_leftovers(
    client: &Client,
    written: WrittenRegistry,
    status: &RegistryStatus,
) -> Result<WrittenRegistry, PublishError> {
    let (found, wanted) = (json!(written.status), json!(status));
    if found == wanted {
        return Ok(written);
    }
    let status = difference(found, wanted);
    let patch = |_: &str| {
        let metadata = json!({"resourceVersion": written.object.resource_version});
        Patch::Merge(json!({"metadata": metadata, "status": status}))
    };
    match write(client, &written.object, Subresource::Status, patch).await {
        // Another client changed the object. The next write clears the rest.
        Err(PublishError::Conflict(_)) => Ok(written),
        cleared => cleared,
    }
}

/// Returns the JSON merge patch (RFC 7386) that turns `found` into `wanted`.
fn difference(found: Value, wanted: Value) -> Value {
    let (Value::Object(found), Value::Object(mut merged)) = (found, wanted.clone()) else { return wanted };
    for (key, found) in found {
        let wanted = merged.remove(&key).map_or(Value::Null, |wanted| difference(found, wanted));
        merged.insert(key, wanted);
    }
    Value::Object(merged)
}

/// Adds our finalizer to the object, or removes it. `object` becomes the object as written, unless the removal deleted it.
pub async fn publish_finalizer(
    client: &Client,
    object: &mut RegistryObject,
    wanted: bool,
) -> Result<(), PublishError> {
    let written = match apply_finalizer(client, object, wanted).await {
        Ok(written) if written.finalizer && !wanted => remove_finalizer(client, &written).await,
        written => written,
    };
    match written {
        Err(PublishError::Gone(_)) if object.deleting => {}
        written => *object = written?,
    }
    Ok(())
}

async fn apply_finalizer(
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
    let written = write(client, object, Subresource::Finalizer, patch).await;
    if matches!(written, Err(PublishError::Conflict(_))) {
        // If there is no such object any more, a uid as precondition is a conflict too.
        current_metadata(client, object).await?;
    }
    Ok(written?.object)
}

/// Removes our finalizer from an object on which another field manager set it too, such as a client that applies the object as it
/// once read it (a backup, a copy): server-side apply keeps it for the other manager.
async fn remove_finalizer(client: &Client, object: &RegistryObject) -> Result<RegistryObject, PublishError> {
    let metadata = current_metadata(client, object).await?;
    let mut others = metadata.finalizers.unwrap_or_default();
    others.retain(|finalizer| finalizer != FINALIZER);
    let version = metadata.resource_version;
    let patch =
        |_: &str| Patch::Merge(json!({"metadata": {"resourceVersion": version, "finalizers": others}}));
    Ok(write(client, object, Subresource::Finalizer, patch).await?.object)
}

/// Replaces `object`, of which the long parts were left out, by the whole object, if it is still the same one.
pub async fn read_whole(client: &Client, object: &mut RegistryObject) -> Result<(), PublishError> {
    *object = current_object(client, object, "the spec").await?;
    Ok(())
}

/// Returns the object as it is now, if it is still the same one. `what` is for the error.
async fn current_object(
    client: &Client,
    object: &RegistryObject,
    what: &'static str,
) -> Result<RegistryObject, PublishError> {
    let answer = async {
        Ok(match &object.key {
            RegistryKey::System { name } => system(client).get_opt(name).await?.map(RegistryObject::of),
            RegistryKey::Tenant { namespace, name } => {
                tenant(client, namespace).get_opt(name).await?.map(RegistryObject::of)
            }
        })
    };
    classified(object, what, answer)
        .await?
        .filter(|current| current.uid == object.uid)
        .ok_or_else(|| PublishError::Gone(object.key.clone()))
}

/// Returns the object's metadata now, if it is still the same object.
async fn current_metadata(client: &Client, object: &RegistryObject) -> Result<ObjectMeta, PublishError> {
    let answer = async {
        Ok(match &object.key {
            RegistryKey::System { name } => metadata(system(client).get_metadata_opt(name).await?),
            RegistryKey::Tenant { namespace, name } => {
                metadata(tenant(client, namespace).get_metadata_opt(name).await?)
            }
        })
    };
    classified(object, Subresource::Finalizer.name(), answer)
        .await?
        .filter(|metadata| metadata.uid.as_deref() == Some(&object.uid))
        .ok_or_else(|| PublishError::Gone(object.key.clone()))
}

fn metadata<K: Resource>(object: Option<PartialObjectMeta<K>>) -> Option<ObjectMeta> {
    object.map(|object| object.metadata)
}

fn system(client: &Client) -> Api<SystemRegistry> {
    Api::all(client.clone())
}

fn tenant(client: &Client, namespace: &str) -> Api<TenantRegistry> {
    Api::namespaced(client.clone(), namespace)
}

/// Whether `status` differs from that of `object` in more than the time of the validation, or that time has become old.
pub fn is_worth_writing(object: &RegistryObject, status: &RegistryStatus) -> bool {
    object.status.difference(status) != StatusDifference::None || is_time_old(object, status)
}

/// Whether the time of the last validation in the status of `object` is so old that it is written alone.
pub fn is_time_old(object: &RegistryObject, status: &RegistryStatus) -> bool {
    let time = status.last_validation_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    let age = time.duration_since(object.status.last_validation_time.unwrap_or(Timestamp::MIN));
    Duration::try_from(age).is_ok_and(|age| age >= TIME_ALONE)
}

/// What of an object is written.
#[derive(Clone, Copy)]
enum Subresource {
    Status,
    Finalizer,
}

impl Subresource {
    /// The name in error messages.
    fn name(self) -> &'static str {
        match self {
            Self::Status => "the status",
            Self::Finalizer => "the finalizer",
        }
    }

    fn field_manager(self) -> &'static str {
        match self {
            Self::Status => STATUS_MANAGER,
            Self::Finalizer => FINALIZER_MANAGER,
        }
    }
}

/// A registry as it was written.
struct WrittenRegistry {
    object: RegistryObject,
    /// Its whole status.
    status: RegistryStatus,
}

impl WrittenRegistry {
    fn of<S: ApiScope>(registry: Registry<S>) -> Self {
        let status = registry.status.clone().unwrap_or_default();
        Self { object: RegistryObject::of(registry), status }
    }
}

/// Sends the patch that `patch` makes for the object's kind.
async fn write(
    client: &Client,
    object: &RegistryObject,
    subresource: Subresource,
    patch: impl Fn(&str) -> Patch<Value>,
) -> Result<WrittenRegistry, PublishError> {
    let written = async {
        match &object.key {
            RegistryKey::System { name } => {
                send(&system(client), name, subresource, patch(System::KIND)).await.map(WrittenRegistry::of)
            }
            RegistryKey::Tenant { namespace, name } => {
                let api = tenant(client, namespace);
                send(&api, name, subresource, patch(Tenant::KIND)).await.map(WrittenRegistry::of)
            }
        }
    };
    classified(object, subresource.name(), written).await
}

async fn send<S: ApiScope>(
    api: &Api<Registry<S>>,
    name: &str,
    subresource: Subresource,
    patch: Patch<Value>,
) -> Result<Registry<S>, kube::Error> {
    let manager = subresource.field_manager();
    let params = PatchParams { force: matches!(patch, Patch::Apply(_)), ..PatchParams::apply(manager) };
    match subresource {
        Subresource::Status => api.patch_status(name, &params, &patch).await,
        Subresource::Finalizer => api.patch(name, &params, &patch).await,
    }
}

/// Awaits an answer of the API server, and classifies a failure.
async fn classified<T>(
    object: &RegistryObject,
    what: &'static str,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, PublishError> {
    call(answer).await.map_err(|source| match source.failure() {
        CallFailure::Gone => PublishError::Gone(object.key.clone()),
        CallFailure::Conflict => PublishError::Conflict(object.key.clone()),
        CallFailure::Terminating
        | CallFailure::Quota
        | CallFailure::Forbidden
        | CallFailure::Throttled
        | CallFailure::NoAnswer
        | CallFailure::Other => PublishError::Api { what, key: object.key.clone(), source },
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    use super::*;

    /// Whether `next` is written to an object with the status `previous`.
    fn writes(previous: &RegistryStatus, next: &RegistryStatus) -> bool {
        let mut registry = SystemRegistry::new("packs", registry_api::RegistrySpec::default());
        registry.status = Some(previous.clone());
        is_worth_writing(&RegistryObject::of(registry), next)
    }

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
    fn keeps_times_of_conditions_with_same_status() {
        let condition = |type_: &str, status: &str, second: i64| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: String::new(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::from_second(second).unwrap()),
        };
        let status = |conditions: [Condition; 2]| RegistryStatus {
            conditions: conditions.into(),
            ..RegistryStatus::default()
        };
        let found = status([condition("Ready", "True", 1), condition("Reconciling", "True", 2)]);
        let mut wanted = status([condition("Ready", "False", 5), condition("Reconciling", "True", 5)]);
        keep_times(&mut wanted, &KnownStatus::of(&found));
        assert_eq!(wanted, status([condition("Ready", "False", 5), condition("Reconciling", "True", 2)]));
    }

    #[test]
    fn writes_time_only_change_once_an_hour() {
        assert!(writes(&RegistryStatus::default(), &validated_at(0)));
        assert!(!writes(&validated_at(0), &validated_at(3599)));
        assert!(writes(&validated_at(0), &validated_at(3600)));
    }

    #[test]
    fn writes_other_changes_at_once() {
        let next = RegistryStatus { observed_generation: Some(2), ..validated_at(1) };
        assert!(writes(&validated_at(0), &next));
    }
}
