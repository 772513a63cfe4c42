//! Ownership of Secrets: which ones the operator may change and delete. Copies, backups, name conflicts between scopes, other writers.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use registry_api::{MANAGED_BY_LABEL, PULL_SECRET_MANAGER, REGISTRY_ANNOTATION, REGISTRY_UID_LABEL};
use registry_testbed::eventually;
use serde_json::{Value, json};

use super::secrets::{
    SecretWrite, absent, config_for, counts, delivered, label, offered, ready_says, secrets, written_in_time,
};
use crate::{
    harness::{self, Cluster, Installation, OPERATOR_USER, SYSTEM_NAMESPACE},
    moment::Moment,
    objects::{Protected, apply, delete, login, system_registry, tenant_registry},
};

/// A TenantRegistry whose pull Secret `pull` is in its namespace.
struct Delivered {
    cluster: Cluster,
    protected: Protected,
    namespace: String,
    secret: Secret,
}

impl Delivered {
    async fn start() -> Result<Self> {
        let cluster = harness::cluster_with_operator().await?;
        let protected = Protected::start().await?;
        let namespace = cluster.tenant_namespace("a", "a-1").await?;
        apply(&cluster, &login(&namespace, "login", "right")).await?;
        let spec = offered(&protected, "login", json!({"pullSecret": {"name": "pull"}}));
        apply(&cluster, &tenant_registry(&namespace, "packs", spec)).await?;
        let says = config_for(&protected.registry.host_port(), "right");
        let secret = delivered(&cluster, &namespace, "pull", &says).await?;
        Ok(Self { cluster, protected, namespace, secret })
    }

    fn says(&self) -> Value {
        config_for(&self.protected.registry.host_port(), "right")
    }

    /// The pull Secret as `kubectl get -o yaml` shows it, under that name.
    fn copy(&self, name: &str) -> Value {
        let mut copy = json!(self.secret);
        copy["metadata"] = json!({
            "name": name, "labels": self.secret.labels(), "annotations": self.secret.annotations(),
        });
        copy
    }

    /// Waits for a repair, which shows that the operator has observed earlier changes.
    async fn repaired(&self) -> Result<()> {
        let moment = Moment::on_shared().await?;
        secrets(&self.cluster, &self.namespace).delete("pull", &DeleteParams::default()).await?;
        delivered(&self.cluster, &self.namespace, "pull", &self.says()).await?;
        written_in_time(&moment, SecretWrite::Write, &self.namespace, "pull").await
    }
}

#[tokio::test]
async fn keeps_copies_of_a_pull_secret() -> Result<()> {
    let delivered = Delivered::start().await?;
    let (cluster, namespace) = (&delivered.cluster, &delivered.namespace);
    let api = secrets(cluster, namespace);
    let create = async |copy: Value, manager: &str| {
        let params = PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() };
        api.create(&params, &serde_json::from_value(copy)?).await.map_err(anyhow::Error::from)
    };
    create(delivered.copy("renamed"), "kubectl-client-side-apply").await?;
    // With the managed fields of the original, as `--show-managed-fields` gives them.
    let mut whole = delivered.copy("whole");
    whole["metadata"]["managedFields"] = json!(delivered.secret.metadata.managed_fields);
    create(whole, "kubectl-create").await?;
    let applied = PatchParams::apply("kubectl").force();
    api.patch("applied", &applied, &Patch::Apply(delivered.copy("applied"))).await?;
    // The copy that a virtual cluster's syncer makes of a Secret of that cluster's operator.
    let mut synced = delivered.copy("pull-x-default-x-virtual");
    synced["metadata"]["labels"][REGISTRY_UID_LABEL] = json!("0d5b2f8e-1f0f-4d0c-8a3b-6a1f8f3c2f11");
    create(synced, "vcluster").await?;
    let names = ["renamed", "whole", "applied", "pull-x-default-x-virtual"];

    delivered.repaired().await?;
    delete(&cluster.tenant(namespace, "packs")).await?;
    cluster.tenant(namespace, "packs").is_gone().await?;
    absent(cluster, namespace, "pull").await?;
    label(cluster, namespace, None).await?;
    label(cluster, namespace, Some(&cluster.unique("a"))).await?;
    for name in names {
        ensure!(api.get_opt(name).await?.is_some(), "{name} was deleted");
    }
    Ok(())
}

#[tokio::test]
async fn reports_copy_with_the_name_of_the_pull_secret() -> Result<()> {
    let delivered = Delivered::start().await?;
    let (cluster, other) = (&delivered.cluster, delivered.cluster.plain_namespace("other").await?);
    let api = secrets(cluster, &other);
    let mut copy = delivered.copy("pull");
    copy["data"][".dockerconfigjson"] = json!(BASE64_STANDARD.encode("{}"));
    let before = api.create(&PostParams::default(), &serde_json::from_value(copy)?).await?;
    label(cluster, &other, Some(&cluster.unique("a"))).await?;
    let registry = cluster.tenant(&delivered.namespace, "packs");
    let says = format!(
        "pull Secret pull not created in namespace {other}: a Secret with that name exists and is not managed by \
         registry-operator"
    );
    ready_says(&registry, &says).await?;
    assert_eq!(api.get("pull").await?, before, "it was touched");
    Ok(())
}

/// A backup tool makes the Secret, and then gives it the managed fields that it had. Its registry has another uid now.
async fn restored(cluster: &Cluster, namespace: &str, registry: &str) -> Result<Secret> {
    let backup = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": "pull", "annotations": {REGISTRY_ANNOTATION: registry},
            "labels": {
                MANAGED_BY_LABEL: "registry-operator",
                REGISTRY_UID_LABEL: "7c0c1f9e-4c53-4d7e-9d63-0c8a3f1f2b44",
            },
        },
        "data": {".dockerconfigjson": BASE64_STANDARD.encode(r#"{"auths":{}}"#)},
    });
    let params = PostParams { field_manager: Some(PULL_SECRET_MANAGER.to_owned()), ..PostParams::default() };
    Ok(secrets(cluster, namespace).create(&params, &serde_json::from_value(backup)?).await?)
}

#[tokio::test]
async fn keeps_restored_secret_until_replaced() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let protected = Protected::start().await?;
    protected.registry.component().stop().await?;
    let namespace = cluster.tenant_namespace("a", "a-1").await?;
    apply(&cluster, &login(&namespace, "login", "right")).await?;
    let spec = offered(&protected, "login", json!({"pullSecret": {"name": "pull"}}));
    apply(&cluster, &tenant_registry(&namespace, "packs", spec)).await?;
    let registry = cluster.tenant(&namespace, "packs");
    registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    let before = restored(&cluster, &namespace, &format!("TenantRegistry/{namespace}/packs")).await?;
    counts(&registry, (1, 1, Some(1))).await?;
    let now = secrets(&cluster, &namespace).get("pull").await?;
    assert_eq!((now.uid(), now.data), (before.uid(), before.data.clone()), "it was replaced by nothing");

    protected.registry.component().start().await?;
    crate::objects::validate_now(&registry, "when it is back").await?;
    let says = config_for(&protected.registry.host_port(), "right");
    let after = delivered(&cluster, &namespace, "pull", &says).await?;
    assert_eq!(after.uid(), before.uid(), "it was taken over in place");
    assert_eq!(after.labels().get(REGISTRY_UID_LABEL).cloned(), registry.get().await?.metadata.uid);
    Ok(())
}

#[tokio::test]
async fn system_scope_wins_name_once_it_has_content() -> Result<()> {
    let older = Delivered::start().await?;
    let (cluster, namespace) = (&older.cluster, &older.namespace);
    let (younger, name) = (Protected::start().await?, cluster.unique("packs"));
    younger.registry.component().stop().await?;
    apply(cluster, &login(SYSTEM_NAMESPACE, &name, "right")).await?;
    let availability = json!({"tenants": [cluster.unique("a")], "pullSecret": {"name": "pull"}});
    apply(cluster, &system_registry(&name, offered(&younger, &name, availability))).await?;
    let system = cluster.system(&name);
    system.becomes(&["Ready=False/ConnectionRefused"]).await?;
    counts(&system, (1, 1, Some(0))).await?;
    // As long as there is nothing to take its place, the tenant's is kept and repaired.
    older.repaired().await?;

    younger.registry.component().start().await?;
    crate::objects::validate_now(&system, "when it is back").await?;
    let says = config_for(&younger.registry.host_port(), "right");
    let taken = delivered(cluster, namespace, "pull", &says).await?;
    let tenant = cluster.tenant(namespace, "packs");
    let message = format!(
        "pull Secret pull not created in namespace {namespace}: SystemRegistry {name} has the same \
         spec.availability.pullSecret.name, and system scope takes precedence"
    );
    ready_says(&tenant, &message).await?;
    counts(&tenant, (1, 1, Some(0))).await?;
    counts(&system, (1, 1, Some(1))).await?;
    crate::objects::validate_now(&tenant, "again").await?;
    let after = delivered(cluster, namespace, "pull", &says).await?;
    assert_eq!(after.resource_version(), taken.resource_version(), "they fight over it");
    Ok(())
}

/// Another controller that writes its own content and label whenever the Secret changes.
async fn mutating_tool(cluster: &Cluster, namespace: &str) -> Result<()> {
    let api = secrets(cluster, namespace);
    let theirs = json!({
        "metadata": {"labels": {REGISTRY_UID_LABEL: "another"}},
        "data": {".dockerconfigjson": BASE64_STANDARD.encode("{}")},
    });
    loop {
        let mut events = api.watch(&WatchParams::default().fields("metadata.name=pull"), "0").await?.boxed();
        while let Some(event) = events.next().await {
            let Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret)) = event else { continue };
            if secret.labels().get(REGISTRY_UID_LABEL).is_none_or(|uid| uid != "another") {
                api.patch("pull", &PatchParams::default(), &Patch::Merge(&theirs)).await?;
            }
        }
    }
}

#[tokio::test]
async fn backs_off_when_a_tool_resets_the_label() -> Result<()> {
    let delivered = Delivered::start().await?;
    let (cluster, namespace) = (&delivered.cluster, &delivered.namespace);
    let audit = Installation::shared().await?.control_plane().audit()?;
    let mark = audit.mark();
    let written = || -> Result<usize> {
        let mut writes = audit.writes_since(&mark, OPERATOR_USER)?;
        writes.retain(|write| write.resource == "secrets" && write.namespace == *namespace);
        Ok(writes.len())
    };
    let registry = cluster.tenant(namespace, "packs");
    let fight = async {
        let says = format!(
            "pull Secret pull is repaired only every few seconds in namespace {namespace}: another client keeps \
             changing it"
        );
        ready_says(&registry, &says).await?;
        let (began, before) = (tokio::time::Instant::now(), written()?);
        ensure!(before <= 14, "{before} writes before it was told");
        let another = || async { (written()? > before).then_some(()).context("no more writes yet") };
        eventually("it is repaired all the same", another).await?;
        let most = began.elapsed().as_secs() / 15 + 1;
        ensure!((written()? - before) as u64 <= most, "{} writes, not {most}", written()? - before);
        registry.becomes(&["Ready=True/Available"]).await?;
        Ok(())
    };
    tokio::select! {
        fought = fight => fought?,
        stopped = mutating_tool(cluster, namespace) => stopped?,
    }
    Ok(())
}
