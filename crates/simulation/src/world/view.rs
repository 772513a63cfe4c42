//! The state of all registries, for the invariants.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    SimulatedWorld,
    desired::{Circumstances, audience, content, desired_ready},
    promise::{InputChanges, PromiseCase, due, inputs, rejections},
};
use crate::{
    cast::{CastRegistry, REGISTRIES},
    clock,
    registries::RegistryBehaviour,
    trace::{RegistryView, Snapshot},
};

/// What a view is made of.
struct WorldObjects {
    registries: BTreeMap<String, Arc<Value>>,
    secrets: Vec<Arc<Value>>,
    /// The namespaces that belong to tenants and aren't being deleted.
    tenants: Vec<(String, String)>,
}

impl SimulatedWorld {
    /// Returns the state of all registries.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { state: self.objects().state(), ..self.look() }
    }

    /// Returns the state of all registries, without all the objects.
    pub(super) fn look(&self) -> Snapshot {
        let objects = self.objects();
        let changes = &mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        objects.note_foreign(changes);
        let view = |registry| self.view(registry, &objects, &mut *changes);
        let registries = REGISTRIES.iter().map(view).collect();
        Snapshot { at: clock::elapsed(), registries, state: Value::Null }
    }

    fn objects(&self) -> WorldObjects {
        let list = |resource| self.server.stored(resource);
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

    fn view(
        &self,
        registry: &CastRegistry,
        objects: &WorldObjects,
        changes: &mut InputChanges,
    ) -> RegistryView {
        let object = objects.registry(registry.name);
        let number =
            |pointer: &str| object.and_then(|object| object.pointer(pointer)).and_then(Value::as_i64);
        let server = object.and_then(|object| self.registries.behaviour(&host_of(object)));
        let circumstances = object.map(|object| objects.circumstances(registry, object, server.as_ref()));
        let desired = circumstances.and_then(desired_ready);
        let due = self.due(registry, circumstances, desired, changes);
        let own = |secret: &&Value| {
            secret["metadata"]["name"] == registry.pull_secret() && is_the_operators(secret)
        };
        let wanted = circumstances.and_then(content);
        let (delivered, audience) = (
            objects.secrets().filter(own),
            audience(registry, object, desired, &objects.tenants).map(|audience| {
                let is_free = |namespace: &String| {
                    !changes.was_foreign(namespace, &registry.pull_secret(), clock::elapsed())
                };
                audience.into_iter().filter(is_free).collect()
            }),
        );
        let delivered = delivered.filter(|secret| {
            let namespace = text(secret, "/metadata/namespace");
            !changes.was_foreign(&namespace, &registry.pull_secret(), clock::elapsed())
        });
        let is_wrong = |secret: &&Value| !wanted.as_ref().is_some_and(|wanted| wanted.is_in(secret));
        RegistryView {
            due,
            wrong: delivered
                .clone()
                .filter(is_wrong)
                .map(|secret| text(secret, "/metadata/namespace"))
                .collect(),
            key: registry.name.to_owned(),
            deleting: object.is_some_and(|object| object.pointer("/metadata/deletionTimestamp").is_some()),
            generation: number("/metadata/generation").unwrap_or_default(),
            observed: number("/status/observedGeneration"),
            ready: object.map(ready).unwrap_or_default(),
            desired: desired.map(|(status, reason)| (status.to_owned(), reason.to_owned())),
            delivered: delivered.map(|secret| text(secret, "/metadata/namespace")).collect(),
            audience,
        }
    }

    /// Returns when a replica started last.
    fn last_start(&self) -> Duration {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner).last().copied().unwrap_or_default()
    }

    /// Returns when a registry must be as it should be.
    fn due(
        &self,
        registry: &CastRegistry,
        circumstances: Option<Circumstances<'_>>,
        desired: Option<(&str, &str)>,
        changes: &mut InputChanges,
    ) -> Duration {
        let parts = circumstances.map(|its| inputs(Some(its.object), its.secret, its.is_permitted));
        let since = changes.observe(registry, parts.unwrap_or_default(), clock::elapsed());
        let host = circumstances.map(|its| host_of(its.object)).unwrap_or_default();
        let login = circumstances.and_then(login);
        let rejected = login.map(|login| self.registries.with_records(|all| rejections(all, &host, &login)));
        due(PromiseCase {
            registry,
            needs_server: !matches!(desired, Some((_, "NotATenant" | "SecretNotFound" | "SecretInvalid"))),
            inputs: since,
            corrected: changes.corrected(registry),
            server: self.registries.changed(&host),
            rejected: rejected.unwrap_or_default(),
            started: self.last_start(),
            set_back: changes.set_back,
            set_ahead: changes.set_ahead,
            is_right: matches!(desired, Some(("True", _))),
        })
    }
}

/// Returns the user and the password that a registry shows.
fn login(circumstances: Circumstances<'_>) -> Option<(String, String)> {
    let part = |field: &str| {
        let encoded = circumstances.secret?.pointer(&format!("/data/{field}"))?.as_str()?;
        String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()
    };
    circumstances.object.pointer("/spec/auth/basic")?;
    Some((part("username")?, part("password")?))
}

fn host_of(object: &Value) -> String {
    text(object, "/spec/endpoint").replace("http://", "")
}

/// Whether a Secret has the operator's label.
fn is_the_operators(secret: &Value) -> bool {
    secret["metadata"]["labels"].get(registry_api::REGISTRY_UID_LABEL).is_some()
}

impl WorldObjects {
    fn registry(&self, name: &str) -> Option<&Value> {
        self.registries.get(name).map(|object| &**object)
    }

    fn secrets(&self) -> impl Iterator<Item = &Value> + Clone {
        self.secrets.iter().map(|secret| &**secret)
    }

    fn circumstances<'a>(
        &'a self,
        registry: &CastRegistry,
        object: &'a Value,
        server: Option<&'a RegistryBehaviour>,
    ) -> Circumstances<'a> {
        let secret = self.secrets().find(|secret| {
            secret["metadata"]["name"] == registry.secret()
                && secret["metadata"]["namespace"] == registry.home()
        });
        let is_permitted =
            registry.namespace.is_none_or(|own| self.tenants.iter().any(|(name, _)| name == own));
        Circumstances { object, secret, is_permitted, server }
    }

    /// Notes the Secrets of other owners that have the name of a pull Secret.
    fn note_foreign(&self, changes: &mut InputChanges) {
        let names: Vec<String> = REGISTRIES.iter().map(CastRegistry::pull_secret).collect();
        for secret in self.secrets().filter(|secret| !is_the_operators(secret)) {
            let name = text(secret, "/metadata/name");
            if names.contains(&name) {
                changes.note_foreign(&text(secret, "/metadata/namespace"), &name, clock::elapsed());
            }
        }
    }

    /// Returns all objects that users see, without what differs between two runs. The status of a suspended registry, and its pull
    /// Secrets, are those of the moment of its suspension, which faults delay.
    fn state(&self) -> Value {
        let registries = self.registries.iter().map(|(name, object)| (name.clone(), without_times(object)));
        let suspended = REGISTRIES
            .iter()
            .filter(|registry| self.registries.get(registry.name).is_some_and(|object| is_suspended(object)));
        let kept: Vec<String> = suspended.map(CastRegistry::pull_secret).collect();
        let secrets = self.secrets().filter(|secret| {
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
