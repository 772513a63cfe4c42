//! What users and registries do. Each step is harmless where it doesn't apply.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::SimulatedWorld;
use crate::{
    cast::{CastRegistry, HOSTS, NAMESPACES, REGISTRIES, endpoint, password_text},
    clock,
    history::UserStep,
    registries::http::base64,
};

/// How long a user waits for a deletion to finish before creating the object again.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often the controllers of the cluster look.
const CONTROLLERS: Duration = Duration::from_secs(1);
/// How often the user looks.
const LOOKS: Duration = Duration::from_millis(20);

impl SimulatedWorld {
    /// Does a step. One that doesn't apply is refused, and changes nothing.
    pub fn step(&self, step: &UserStep) {
        note(&self.user_actions, format!("{step:?}"));
        match *step {
            UserStep::Create(number, pull_secret) => {
                let registry = REGISTRIES[number];
                self.create(&registry.manifest(registry.host, pull_secret));
            }
            UserStep::Delete(number) => self.delete(&REGISTRIES[number]),
            UserStep::Recreate(number, host) => self.recreate(REGISTRIES[number], host),
            UserStep::Move(number, host) => self.edit(number, &json!({"spec": {"endpoint": endpoint(host)}})),
            UserStep::UseSecret(number, yes) => {
                let auth =
                    yes.then(|| json!({"basic": {"secretRef": {"name": REGISTRIES[number].secret()}}}));
                self.edit(number, &json!({"spec": {"auth": auth}}));
            }
            UserStep::PullSecret(number, yes) => {
                let wanted = yes.then(|| json!({"pullSecret": {"name": REGISTRIES[number].pull_secret()}}));
                self.edit(number, &json!({"spec": {"availability": wanted}}));
            }
            UserStep::Suspend(number, yes) => self.edit(number, &json!({"spec": {"suspend": yes}})),
            UserStep::Touch(number) => {
                self.edit(number, &json!({"metadata": {"annotations": {"touched": time()}}}));
            }
            UserStep::Request(number) => {
                self.edit(
                    number,
                    &json!({"metadata": {"annotations": {registry_api::REQUESTED_AT: time()}}}),
                );
            }
            _ => self.change_surroundings(step),
        }
    }

    /// Changes what registries depend on.
    fn change_surroundings(&self, step: &UserStep) {
        match *step {
            UserStep::WriteSecret(..)
            | UserStep::SpoilSecret(_)
            | UserStep::TouchSecret(_)
            | UserStep::DeleteSecret(_)
            | UserStep::DeletePullSecrets(_) => self.change_secret(step),
            UserStep::Label(..)
            | UserStep::Relabel(..)
            | UserStep::DeleteNamespace(_)
            | UserStep::CreateNamespace(_) => self.change_namespace(step),
            UserStep::OverwriteStatus(_)
            | UserStep::OverwritePullSecret(..)
            | UserStep::ForeignSecret(..) => self.interfere(step),
            UserStep::Restore(back) => self.restore(back),
            UserStep::Compact => self.server.compact(),
            UserStep::StoreUndecodable => drop(self.server.store_unchecked(undecodable())),
            _ => self.change_server(step),
        }
    }

    fn change_secret(&self, step: &UserStep) {
        match *step {
            UserStep::WriteSecret(number, password) => {
                self.write_secret(&REGISTRIES[number].secret_manifest(password));
            }
            UserStep::SpoilSecret(number) => {
                let mut secret = REGISTRIES[number].secret_manifest(1);
                secret["type"] = json!("Opaque");
                self.write_secret(&secret);
            }
            UserStep::TouchSecret(number) => {
                let (home, name) = (REGISTRIES[number].home(), REGISTRIES[number].secret());
                let touched = json!({"metadata": {"annotations": {"touched": time()}}});
                drop(self.server.merge("secrets", home, &name, &touched));
            }
            UserStep::DeleteSecret(number) => {
                drop(self.server.delete("secrets", REGISTRIES[number].home(), &REGISTRIES[number].secret()));
            }
            UserStep::DeletePullSecrets(number) => {
                for (namespace, _) in NAMESPACES {
                    drop(self.server.delete("secrets", namespace, &REGISTRIES[number].pull_secret()));
                }
            }
            _ => {}
        }
    }

    fn change_server(&self, step: &UserStep) {
        match *step {
            UserStep::Answer(host, condition) => {
                self.registries.change(HOSTS[host], |server| server.condition = condition);
            }
            UserStep::Accept(host, password) => {
                self.registries.change(HOSTS[host], |server| server.password = password_text(password));
            }
            UserStep::SignIn(host, method) => {
                self.registries.change(HOSTS[host], |server| server.sign_in = method);
            }
            _ => {}
        }
    }

    fn change_namespace(&self, step: &UserStep) {
        match *step {
            UserStep::Label(number, yes) => self.label(number, yes.then_some(NAMESPACES[number].1)),
            UserStep::Relabel(number, other) => self.label(number, Some(NAMESPACES[other].1)),
            UserStep::DeleteNamespace(number) => {
                drop(self.server.delete("namespaces", "", NAMESPACES[number].0));
                self.finish_deletion(NAMESPACES[number].0);
            }
            UserStep::CreateNamespace(number) => self.create(&namespace(number)),
            _ => {}
        }
    }

    fn label(&self, namespace: usize, tenant: Option<&str>) {
        let labels = json!({registry_api::TENANT_LABEL: tenant});
        let patch = json!({"metadata": {"labels": labels}});
        drop(self.server.merge("namespaces", "", NAMESPACES[namespace].0, &patch));
    }

    /// Does what other clients do to what is the operator's, or has a name that it wants.
    fn interfere(&self, step: &UserStep) {
        match *step {
            UserStep::OverwriteStatus(number) => {
                let registry = &REGISTRIES[number];
                let changes = self.changes.lock();
                changes.unwrap_or_else(PoisonError::into_inner).note_overwritten(registry, clock::elapsed());
                let namespace = registry.namespace.unwrap_or_default();
                let status = json!({"status": {"conditions": [], "observedGeneration": 0}});
                drop(self.server.merge_status(registry.resource(), namespace, registry.name, &status));
            }
            UserStep::OverwritePullSecret(number, namespace) => {
                let data = json!({"data": {".dockerconfigjson": base64("{\"auths\":{}}")}});
                let name = REGISTRIES[number].pull_secret();
                drop(self.server.merge("secrets", NAMESPACES[namespace].0, &name, &data));
            }
            UserStep::ForeignSecret(number, namespace) => {
                self.create(&foreign(NAMESPACES[namespace].0, &REGISTRIES[number].pull_secret()));
            }
            _ => {}
        }
    }

    fn create(&self, object: &Value) {
        let is_created = self.server.create(object).is_ok();
        note(&self.user_actions, format!("accepted: {is_created}"));
    }

    fn delete(&self, registry: &CastRegistry) {
        drop(self.server.delete(registry.resource(), registry.namespace.unwrap_or_default(), registry.name));
    }

    fn edit(&self, number: usize, patch: &Value) {
        let registry = REGISTRIES[number];
        let namespace = registry.namespace.unwrap_or_default();
        drop(self.server.merge(registry.resource(), namespace, registry.name, patch));
    }

    /// Creates a Secret, or replaces the data of the one that exists, whose type can't be changed.
    fn write_secret(&self, secret: &Value) {
        let text = |pointer: &str| secret.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let old = self.server.get("secrets", namespace, name);
        if old.as_ref().is_some_and(|old| old["type"] == secret["type"]) {
            drop(self.server.merge("secrets", namespace, name, &json!({"data": secret["data"]})));
            return;
        }
        drop(self.server.delete("secrets", namespace, name));
        self.create(secret);
    }

    /// Deletes a registry, and creates it again when it is gone.
    fn recreate(&self, registry: CastRegistry, host: usize) {
        self.delete(&registry);
        let (server, actions) = (self.server.clone(), Arc::clone(&self.user_actions));
        let namespace = registry.namespace.unwrap_or_default();
        tokio::spawn(async move {
            let gone = async {
                while server.has(registry.resource(), namespace, registry.name) {
                    tokio::time::sleep(LOOKS).await;
                }
            };
            if tokio::time::timeout(PATIENCE, gone).await.is_ok() {
                let is_created = server.create(&registry.manifest(host, false)).is_ok();
                note(&actions, format!("recreated {}: {is_created}", registry.name));
            }
        });
    }

    /// Does what kube-controller-manager does, until a namespace isn't being deleted.
    pub(super) fn finish_deletion(&self, namespace: &'static str) {
        let server = self.server.clone();
        tokio::spawn(async move {
            while server.get("namespaces", "", namespace).is_some_and(|object| is_deleting(&object)) {
                server.run_controllers();
                tokio::time::sleep(CONTROLLERS).await;
            }
        });
    }

    /// Requests a validation of every registry.
    pub(super) fn request_all(&self) {
        (0..REGISTRIES.len()).for_each(|number| self.step(&UserStep::Request(number)));
    }
}

/// Returns a Secret that a user made, of the type that pull Secrets have.
fn foreign(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "namespace": namespace},
        "data": {".dockerconfigjson": base64("{\"auths\":{\"mine.example\":{}}}")},
    })
}

fn note(actions: &Mutex<Vec<String>>, action: String) {
    actions.lock().unwrap_or_else(PoisonError::into_inner).push(action);
}

/// Returns a registry whose endpoint is a number.
fn undecodable() -> Value {
    json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": "undecodable", "namespace": NAMESPACES[0].0, "generation": 1},
        "spec": {"endpoint": 5},
    })
}

fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// Returns a tenant's namespace.
pub(super) fn namespace(number: usize) -> Value {
    let (name, tenant) = NAMESPACES[number];
    let labels = json!({registry_api::TENANT_LABEL: tenant});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn time() -> String {
    format!("{:?}", clock::elapsed())
}
