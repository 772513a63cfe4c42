//! What exists before a history: the chart's objects, namespaces, registries that answer; and how the API server's records are read.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{chart, steps::namespace};
use crate::{
    api_server::{AdmissionRequest, ApiServer, PolicyRefusal, WriteRecord},
    cast::{ACCOUNT, HOSTS, NAMESPACES, SYSTEM_NAMESPACE, password_text},
    clock,
    registries::{
        Registries,
        behaviour::{ELSEWHERE, RegistryBehaviour, ServerCondition, SignInMethod},
        http::base64,
    },
    trace::AcceptedWrite,
};

/// Returns the API server and the registries as they are before a history.
pub(super) fn setting() -> (ApiServer, Registries) {
    let registries = Registries::default();
    for host in HOSTS.into_iter().chain([ELSEWHERE]) {
        registries.set(RegistryBehaviour {
            host: host.to_owned(),
            sign_in: SignInMethod::Basic,
            condition: ServerCondition::Up,
            password: password_text(1),
        });
    }
    (CLUSTER.fork(), registries)
}

/// The cluster before all histories, which takes longer to prepare than many a history.
static CLUSTER: LazyLock<ApiServer> = LazyLock::new(|| {
    let server = ApiServer::new(clock::cluster_clock);
    let system = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}});
    let namespaces = [system].into_iter().chain((0..NAMESPACES.len()).map(namespace));
    let created = namespaces.map(|object| server.create(&object));
    // Nobody changes the chart's objects, so they need no field managers, which take most of the time.
    let chart = chart::objects().iter().cloned().map(with_key);
    let stored = definitions().into_iter().chain(chart).map(|object| server.store_unchecked(object));
    for error in created.chain(stored).filter_map(Result::err) {
        tracing::error!(?error, "failed to prepare the cluster");
    }
    server.admit_by(Arc::new(protected));
    server
});

/// Returns the definitions as they are once installed.
fn definitions() -> Vec<Value> {
    let server = ApiServer::new(clock::cluster_clock);
    if let Err(error) = server.install_definitions() {
        tracing::error!(?error, "failed to install the definitions");
    }
    let mut installed = server.list("customresourcedefinitions", "");
    for definition in &mut installed {
        definition["metadata"].as_object_mut().into_iter().for_each(|metadata| drop(metadata.remove("uid")));
    }
    installed
}

/// Adds a key to the Secret of rejected passwords: the operator would draw one, which no seed decides.
fn with_key(mut object: Value) -> Value {
    if object["metadata"]["name"] == "registry-operator-rejections" {
        object["data"] = json!({"key": base64("0123456789abcdef0123456789abcdef"), "rejections": ""});
    }
    object
}

/// Refuses what the operator tries to see whether the policies are in force, as they do.
fn protected(request: &AdmissionRequest<'_>) -> Option<PolicyRefusal> {
    let is_trial = &*request.target.user == ACCOUNT
        && request.target.resource == "systemregistries"
        && request.target.subresource.is_empty()
        && request.before.is_none();
    is_trial.then(|| PolicyRefusal {
        policy: "system-registries.registry.spectrocloud.com".to_owned(),
        binding: "system-registries.registry.spectrocloud.com".to_owned(),
        message: "the operator creates no registries".to_owned(),
    })
}

/// Returns the time since the history began.
pub(super) fn at(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(clock::at(Duration::ZERO))).unwrap_or_default()
}

/// Returns a record as the invariants see it.
pub(super) fn accepted(record: &WriteRecord) -> AcceptedWrite {
    let text = |object: &Option<Arc<Value>>, pointer: &str| {
        let value = object.as_ref().and_then(|object| object.pointer(pointer)?.as_str());
        value.unwrap_or_default().to_owned()
    };
    let newest = record.after.as_ref().or(record.before.as_ref()).cloned();
    // A write that changed nothing has no object.
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    AcceptedWrite {
        at: at(record.time),
        by_operator: &*record.target.user == ACCOUNT,
        kind: or(text(&newest, "/kind"), record.target.resource),
        namespace: record.target.namespace.clone(),
        name: or(text(&newest, "/metadata/name"), &record.target.name),
        subresource: record.target.subresource.clone(),
        before: record.before.clone(),
        after: record.after.clone(),
    }
}
