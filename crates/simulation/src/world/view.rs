//! The state of all registries, for the invariants.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    SimulatedWorld,
    desired::{Circumstances, audience, desired_ready},
};
use crate::{
    cast::{CastRegistry, REGISTRIES},
    clock,
    trace::{RegistryView, Snapshot},
};

/// What a view is made of.
struct WorldObjects {
    registries: BTreeMap<String, Value>,
    secrets: Vec<Value>,
    /// The namespaces that belong to tenants and aren't being deleted.
    tenants: Vec<(String, String)>,
}

impl SimulatedWorld {
    /// Returns the state of all registries.
    pub(super) fn snapshot(&self) -> Snapshot {
        let objects = self.objects();
        let registries = REGISTRIES.iter().map(|registry| self.view(registry, &objects)).collect();
        Snapshot { at: clock::elapsed(), registries, state: objects.state() }
    }

    fn objects(&self) -> WorldObjects {
        let list = |resource| self.server.list(resource, "");
        let mut registries = BTreeMap::new();
        for resource in ["systemregistries", "tenantregistries"] {
            registries
                .extend(list(resource).into_iter().map(|object| (text(&object, "/metadata/name"), object)));
        }
        let namespaces = list("namespaces");
        let open = namespaces.iter().filter(|object| object.pointer("/metadata/deletionTimestamp").is_none());
        let tenants = open.filter_map(|object| {
            let tenant = object["metadata"]["labels"][registry_api::TENANT_LABEL].as_str()?;
            Some((text(object, "/metadata/name"), tenant.to_owned()))
        });
        WorldObjects { registries, secrets: list("secrets"), tenants: tenants.collect() }
    }

    fn view(&self, registry: &CastRegistry, objects: &WorldObjects) -> RegistryView {
        let object = objects.registries.get(registry.name);
        let number =
            |pointer: &str| object.and_then(|object| object.pointer(pointer)).and_then(Value::as_i64);
        let desired = object.and_then(|object| self.desired(registry, object, objects));
        let delivered =
            objects.secrets.iter().filter(|secret| secret["metadata"]["name"] == registry.pull_secret());
        RegistryView {
            key: registry.name.to_owned(),
            deleting: object.is_some_and(|object| object.pointer("/metadata/deletionTimestamp").is_some()),
            generation: number("/metadata/generation").unwrap_or_default(),
            observed: number("/status/observedGeneration"),
            ready: object.map(ready).unwrap_or_default(),
            desired: desired.map(|(status, reason)| (status.to_owned(), reason.to_owned())),
            delivered: delivered.map(|secret| text(secret, "/metadata/namespace")).collect(),
            audience: audience(registry, object, desired, &objects.tenants),
        }
    }

    fn desired(
        &self,
        registry: &CastRegistry,
        object: &Value,
        objects: &WorldObjects,
    ) -> Option<(&'static str, &'static str)> {
        let host = text(object, "/spec/endpoint").replace("http://", "");
        let secret = objects.secrets.iter().find(|secret| {
            text(secret, "/metadata/name") == registry.secret()
                && text(secret, "/metadata/namespace") == registry.home()
        });
        let is_permitted =
            registry.namespace.is_none_or(|own| objects.tenants.iter().any(|(name, _)| name == own));
        let server = self.registries.behaviour(&host);
        desired_ready(Circumstances { object, secret, is_permitted, server: server.as_ref() })
    }
}

impl WorldObjects {
    /// Returns all objects that users see, without what differs between two runs. The status of a suspended registry, and its pull
    /// Secrets, are those of the moment of its suspension, which faults delay.
    fn state(&self) -> Value {
        let registries = self.registries.iter().map(|(name, object)| (name.clone(), without_times(object)));
        let suspended =
            REGISTRIES.iter().filter(|registry| self.registries.get(registry.name).is_some_and(is_suspended));
        let kept: Vec<String> = suspended.map(CastRegistry::pull_secret).collect();
        let secrets = self.secrets.iter().filter(|secret| {
            secret["type"] != "registry.spectrocloud.com/rejections"
                && !kept.contains(&text(secret, "/metadata/name"))
        });
        let secrets = secrets.map(|secret| {
            let key = format!("{} {}", text(secret, "/metadata/namespace"), text(secret, "/metadata/name"));
            (key, json!({"type": secret["type"], "data": secret["data"]}))
        });
        json!({
            "registries": registries.collect::<serde_json::Map<_, _>>(),
            "secrets": secrets.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// Returns what of a registry is the same in all runs.
fn without_times(object: &Value) -> Value {
    if is_suspended(object) {
        return json!({"spec": object["spec"], "generation": object["metadata"]["generation"]});
    }
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = conditions.into_iter().flatten().map(|condition| {
        let state = ["status", "reason", "message"].map(|field| text(condition, &format!("/{field}")));
        (text(condition, "/type"), json!(state.join(" ")))
    });
    json!({
        "spec": object["spec"],
        "generation": object["metadata"]["generation"],
        "observedGeneration": object["status"]["observedGeneration"],
        "finalizers": object["metadata"]["finalizers"],
        "conditions": conditions.collect::<serde_json::Map<_, _>>(),
        "availability": object["status"]["availability"],
    })
}

fn is_suspended(object: &Value) -> bool {
    object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true)
}

fn ready(object: &Value) -> (String, String) {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    ready.map(|ready| (text(ready, "/status"), text(ready, "/reason"))).unwrap_or_default()
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
