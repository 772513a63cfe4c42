//! Common parts of the tests of lifecycle, leadership and cost: manifests, a registry with a password, and
//! the operator's writes and metrics.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use registry_api::{
    FINALIZER, GROUP,
    spec::{Scope, System, Tenant, VERSION},
};
use registry_testbed::{
    AuditEvent, AuditMark, LeafOptions, Operator, RegistryAuth, RegistryOptions, RegistryTls, TestCa,
    TestRegistry, eventually,
};
use serde_json::{Value, json};

use crate::{
    harness::{Cluster, Installation, OPERATOR_USER, RegistryHandle},
    moment::is_lasting,
};

/// An endpoint without a listener.
pub const DOWN: &str = "http://127.0.0.1:1";

/// A SystemRegistry.
pub fn system_registry(name: &str, spec: Value) -> Value {
    registry(System::KIND, json!({"name": name}), spec)
}

/// A TenantRegistry.
pub fn tenant_registry(namespace: &str, name: &str, spec: Value) -> Value {
    registry(Tenant::KIND, json!({"name": name, "namespace": namespace}), spec)
}

fn registry(kind: &str, metadata: Value, spec: Value) -> Value {
    let mut object = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind});
    object["metadata"] = metadata;
    object["spec"] = spec;
    object
}

/// A Secret with user and password.
pub fn login(namespace: &str, name: &str, password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"username": "demo", "password": password},
    })
}

/// The same spec, with a pull Secret to keep: the object then has a finalizer.
pub fn guarded(mut spec: Value) -> Value {
    spec["availability"] = json!({"pullSecret": {"name": "pull"}});
    spec
}

/// Applies an object.
pub async fn apply(cluster: &Cluster, object: &Value) -> Result<()> {
    cluster.apply_yaml(&object.to_string()).await
}

/// Deletes an object without waiting.
pub async fn delete<S: Scope>(subject: &RegistryHandle<S>) -> Result<()> {
    subject.api().delete(subject.name(), &DeleteParams::default()).await?;
    Ok(())
}

/// Waits until the operator has put its finalizer on an object.
pub async fn is_guarded<S: Scope>(subject: &RegistryHandle<S>) -> Result<()> {
    let what = format!("{} {} has the finalizer", S::KIND, subject.name());
    let look = || async {
        let finalizers = subject.get().await?.metadata.finalizers.unwrap_or_default();
        anyhow::ensure!(finalizers.iter().any(|finalizer| finalizer == FINALIZER), "it has {finalizers:?}");
        Ok(())
    };
    Ok(eventually(what, look).await?)
}

/// Asks for a validation by the annotation, and waits until it was done.
pub async fn validate_now<S: Scope>(subject: &RegistryHandle<S>, word: &str) -> Result<()> {
    let annotations = json!({"registry.spectrocloud.com/requestedAt": word});
    subject.change(json!({"metadata": {"annotations": annotations}})).await?;
    let look = || async {
        let handled = subject.status().await?.last_handled_reconcile_at;
        anyhow::ensure!(handled.as_deref() == Some(word), "handled: {handled:?}");
        Ok(())
    };
    let what = format!("{} {} is validated by request", S::KIND, subject.name());
    Ok(eventually(what, look).await?)
}

/// A registry over TLS of a private authority, with the user `demo` and the password `right`.
pub struct Protected {
    /// The registry.
    pub registry: TestRegistry,
    /// The authority.
    pub ca: TestCa,
}

impl Protected {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        Self::with_password("right").await
    }

    /// Starts it with another password.
    pub async fn with_password(password: &str) -> Result<Self> {
        let ca = TestCa::new("a private authority")?;
        let leaf = ca.issue(&LeafOptions::server("registry"))?;
        let ca_pem = ca.certificate_pem().into();
        let tls = RegistryTls::Server { leaf, ca_pem, client_ca_pem: None };
        let auth = RegistryAuth::htpasswd("demo", password);
        Ok(Self { registry: TestRegistry::start(RegistryOptions { auth, tls }).await?, ca })
    }

    /// How a registry object names it, with the login in that Secret.
    pub fn spec(&self, secret: &str) -> Value {
        json!({
            "endpoint": self.registry.url(),
            "auth": {"basic": {"secretRef": {"name": secret}}},
            "tls": {"ca": {"inline": self.ca.certificate_pem()}},
        })
    }
}

/// What that user wrote since the mark; Leases and the question who they are, which changes nothing, left out.
pub fn writes_since(installation: &Installation, mark: &AuditMark, user: &str) -> Result<Vec<AuditEvent>> {
    let mut writes = installation.control_plane().audit()?.writes_since(mark, user)?;
    writes.retain(is_lasting);
    Ok(writes)
}

/// The operator's writes since the mark that are meant, once there are so many: the API server logs a request after it has
/// answered it.
pub async fn written(
    installation: &Installation,
    since: &AuditMark,
    count: usize,
    is_meant: impl Fn(&AuditEvent) -> bool,
) -> Result<Vec<AuditEvent>> {
    let is_write =
        |event: &AuditEvent| event.is_write_of(OPERATOR_USER) && is_lasting(event) && is_meant(event);
    let are_enough = |writes: &[AuditEvent]| {
        if writes.len() >= count { Ok(()) } else { Err(format!("{:#?}", write_lines(writes))) }
    };
    let what = format!("{count} writes are in the audit log");
    Ok(installation.control_plane().audit()?.until(what, since, is_write, are_enough).await?)
}

/// Waits until so many Events were written since the mark: they are written beside the work.
pub async fn events_are_written(installation: &Installation, since: &AuditMark, count: usize) -> Result<()> {
    let is_event = |write: &AuditEvent| write.resource == "events" && write.succeeded();
    written(installation, since, count, is_event).await.map(drop)
}

/// Waits for the Event of a TenantRegistry's newest verdict, `Ready=<status>/<reason>`. Those before it are written first.
pub async fn event_is_written(cluster: &Cluster, namespace: &str, name: &str, verdict: &str) -> Result<()> {
    let events: Api<Event> = Api::namespaced(cluster.client(), namespace);
    let reason = verdict.rsplit('/').next().unwrap_or_default();
    let look = || async {
        let found = events.list(&ListParams::default()).await?.items;
        let is_it = |event: &Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().is_some_and(|object| object.name.as_deref() == Some(name))
        };
        anyhow::ensure!(found.iter().any(is_it), "{} Events", found.len());
        Ok(())
    };
    Ok(eventually(format!("the Event {reason} of {name}"), look).await?)
}

/// Each write in one line, for the message of an assertion.
pub fn write_lines(writes: &[AuditEvent]) -> Vec<String> {
    let tell = |event: &AuditEvent| format!("{} {} {}", event.verb, event.request_uri, event.code);
    writes.iter().map(tell).collect()
}

/// The samples of one metric, by their labels as written.
pub fn samples(metrics: &str, name: &str) -> BTreeMap<String, f64> {
    let of_it = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels.to_owned(), value.parse().ok()?))
    };
    metrics.lines().filter_map(of_it).collect()
}

/// Waits until the operator has brought so many reconciliations to their end since it was started.
pub async fn has_reconciled(operator: &Operator, count: f64) -> Result<()> {
    let look = || async {
        let metrics = operator.metrics().await?;
        let done: f64 =
            samples(&metrics, "registry_operator_reconcile_duration_seconds_count").values().sum();
        anyhow::ensure!(done >= count, "{done} have ended");
        Ok(())
    };
    Ok(eventually(format!("{count} reconciliations have ended"), look).await?)
}
