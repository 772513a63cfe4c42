//! Helpers for tests of pull Secrets: Secrets as a tenant sees them. Has no assertions of its own.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use registry_api::{
    REGISTRY_UID_LABEL, TENANT_LABEL,
    spec::{Registry, Scope},
    status::AvailabilityStatus,
};
use registry_testbed::{AuditEvent, eventually};
use serde_json::{Value, json};

pub use crate::fixtures::PROMISED;
use crate::{
    harness::{Cluster, RegistryHandle},
    moment::Moment,
    objects::Protected,
};

/// The Secrets of a namespace.
pub fn secrets(cluster: &Cluster, namespace: &str) -> Api<Secret> {
    Api::namespaced(cluster.client(), namespace)
}

/// The content of a dockerconfigjson Secret.
pub fn config(secret: &Secret) -> Result<Value> {
    let data = secret.data.as_ref().and_then(|data| data.get(".dockerconfigjson"));
    Ok(serde_json::from_slice(&data.context("no .dockerconfigjson")?.0)?)
}

/// The expected content for `demo` with that password at that host.
pub fn config_for(host: &str, password: &str) -> Value {
    let auth = BASE64_STANDARD.encode(format!("demo:{password}"));
    json!({"auths": {host: {"username": "demo", "password": password, "auth": auth}}})
}

/// The spec of a registry with the login in that Secret, and with that availability.
pub fn offered(protected: &Protected, login: &str, availability: Value) -> Value {
    let mut spec = protected.spec(login);
    spec["availability"] = availability;
    spec
}

/// Waits until the Secret exists with that content; returns it.
pub async fn delivered(cluster: &Cluster, namespace: &str, name: &str, says: &Value) -> Result<Secret> {
    let api = secrets(cluster, namespace);
    let look = || async {
        let secret = api.get_opt(name).await?.context("it is not there")?;
        let found = config(&secret)?;
        ensure!(found == *says, "it says {found}");
        Ok::<_, anyhow::Error>(secret)
    };
    Ok(eventually(format!("Secret {namespace}/{name} is delivered"), look).await?)
}

/// Checks that the operator wrote the Secret, or deleted it, as soon as is promised since that moment.
pub async fn written_in_time(since: &Moment, verb: SecretWrite, namespace: &str, name: &str) -> Result<()> {
    let is_it = |event: &AuditEvent| {
        event.is_write()
            && event.resource == "secrets"
            && event.namespace == namespace
            && event.name == name
            && (event.verb == "delete") == (verb == SecretWrite::Delete)
    };
    since.keeps(PROMISED, &format!("{verb:?} Secret {namespace}/{name}"), is_it).await.map(drop)
}

/// What the operator does to a pull Secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretWrite {
    /// Creates or changes it.
    Write,
    /// Deletes it.
    Delete,
}

/// Waits until there is no Secret of that name.
pub async fn absent(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let api = secrets(cluster, namespace);
    let look = || async {
        ensure!(api.get_opt(name).await?.is_none(), "it is there");
        Ok(())
    };
    Ok(eventually(format!("Secret {namespace}/{name} is gone"), look).await?)
}

/// The names of managed Secrets in a namespace.
pub async fn own(cluster: &Cluster, namespace: &str) -> Result<Vec<String>> {
    let listed = secrets(cluster, namespace).list(&ListParams::default().labels(REGISTRY_UID_LABEL)).await?;
    Ok(listed.iter().map(ResourceExt::name_any).collect())
}

/// Waits until the status has these counts: tenants, namespaces, and pull Secrets if requested.
pub async fn counts<S: Scope>(
    subject: &RegistryHandle<S>,
    expected: (i64, i64, Option<i64>),
) -> Result<Registry<S>> {
    let (tenants, namespaces, pull_secrets) = expected;
    let expected = AvailabilityStatus { tenants: Some(tenants), namespaces: Some(namespaces), pull_secrets };
    let look = || async {
        let object = subject.get().await?;
        let found = object.status.as_ref().and_then(|status| status.availability.clone());
        ensure!(found.as_ref() == Some(&expected), "it says {found:?}");
        Ok::<_, anyhow::Error>(object)
    };
    Ok(eventually(format!("{} counts {expected:?}", subject.name()), look).await?)
}

/// Waits until the message of Ready holds that.
pub async fn ready_says<S: Scope>(subject: &RegistryHandle<S>, part: &str) -> Result<()> {
    let look = || async {
        let status = subject.status().await?;
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let message = ready.map_or("", |ready| &ready.message);
        ensure!(message.contains(part), "it says {message:?}");
        Ok(())
    };
    Ok(eventually(format!("Ready of {} says {part:?}", subject.name()), look).await?)
}

/// Sets or removes the tenant label of a namespace.
pub async fn label(cluster: &Cluster, namespace: &str, tenant: Option<&str>) -> Result<()> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let patch = Patch::Merge(json!({"metadata": {"labels": {TENANT_LABEL: tenant}}}));
    api.patch(namespace, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Deletes a namespace, and waits until it is gone.
pub async fn close(cluster: &Cluster, namespace: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(cluster.client());
    api.delete(namespace, &DeleteParams::default()).await?;
    let look = || async {
        let found = api.get_opt(namespace).await?;
        ensure!(found.is_none(), "{:?}", found.and_then(|namespace| namespace.status));
        Ok(())
    };
    Ok(eventually(format!("namespace {namespace} is gone"), look).await?)
}
