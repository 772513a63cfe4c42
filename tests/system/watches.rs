//! The cost and correctness of the operator's watches: with a thousand namespaces, with few file descriptors, and when the
//! API server's etcd was restored from a backup.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Secret},
        rbac::v1::RoleBinding,
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use registry_api::{ConditionType, TENANT_LABEL, TenantRegistry};
use registry_testbed::{
    AuditEvent, AuditLog, AuditMark, ControlPlane, ControlPlaneOptions, Operator, eventually,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    exclusive_cluster,
    fixtures::{ScriptedServer, asks_for_password, signed_in, tell, welcome},
    harness::{Cluster, Installation, OPERATOR_USER, SYSTEM_NAMESPACE},
    moment::Moment,
    objects::{Protected, apply, login, system_registry, tenant_registry},
};

const NAMESPACES: usize = 1_000;
/// How long nothing may happen, which is the point of the test.
const SILENCE: Duration = Duration::from_mins(1);

// ---- Cost

#[tokio::test]
async fn thousand_idle_namespaces_cost_few_requests() -> Result<()> {
    // Nobody else is to have so many namespaces.
    let options = ControlPlaneOptions { audit: true, ..ControlPlaneOptions::default() };
    let installation = Installation::start(options).await?;
    let (cluster, audit) = (installation.cluster().await?, installation.control_plane().audit()?);
    let registry = registry().await?;
    let operator = installation.start_operator().await?;
    create_tenants(&cluster, NAMESPACES, &registry.url(), Refers::ToSecret).await?;
    all_ready(&cluster, NAMESPACES).await.with_context(|| operator.log())?;
    are_watched(&audit, NAMESPACES).await?;

    let connections = operator.connections_to(port(installation.control_plane())?).await?;
    tell(&format!(
        "with {NAMESPACES} tenant namespaces the operator has {connections} connections to the API server and takes {} MiB \
         (unoptimised)",
        operator.rss_bytes().await? / 1024 / 1024
    ));
    assert!(connections <= 16, "{connections} connections");

    is_idle(&audit).await?;
    let silence = audit.mark();
    tokio::time::sleep(SILENCE).await;
    let asked = requests(&audit, &silence)?;
    assert!(asked.len() <= 20, "{} requests in {SILENCE:?}: {asked:#?}", asked.len());
    let watches = asked.iter().filter(|request| request.contains("watch=true")).count();
    assert!(watches <= 3, "{watches} watches were renewed in {SILENCE:?}");
    Ok(())
}

#[tokio::test]
async fn serves_seventy_namespaces_with_128_files() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let registry = registry().await?;
    let options = solo.installation.operator_options().await?.open_files(128);
    create_tenants(&solo.cluster, 70, &registry.url(), Refers::ToBoth).await?;
    let operator = Operator::start(options).await?;
    all_ready(&solo.cluster, 70).await.with_context(|| operator.log())?;

    let all: Api<TenantRegistry> = Api::all(solo.cluster.client());
    let before = ready_since(&all).await?;
    for namespace in before.keys() {
        let api: Api<TenantRegistry> = Api::namespaced(solo.cluster.client(), namespace);
        let asked = json!({"metadata": {"annotations": {"registry.spectrocloud.com/requestedAt": "all"}}});
        api.patch("packs", &PatchParams::default(), &Patch::Merge(asked)).await?;
    }
    let handled = || async {
        let all = all.list(&ListParams::default()).await?;
        let is_handled = |registry: &&TenantRegistry| {
            let handled =
                registry.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
            handled == Some("all")
        };
        let count = all.iter().filter(is_handled).count();
        ensure!(count == 70, "{count} are");
        Ok(())
    };
    eventually("all registries are validated again", handled).await.with_context(|| operator.log())?;
    all_ready(&solo.cluster, 70).await?;
    assert_eq!(ready_since(&all).await?, before, "some were unready in between");
    assert!(!operator.log().contains("os error 24"), "{}", operator.log());
    Ok(())
}

/// Since when each namespace's registry is ready.
async fn ready_since(all: &Api<TenantRegistry>) -> Result<BTreeMap<String, Timestamp>> {
    let since = |registry: TenantRegistry| {
        let ready = registry.status.as_ref()?.condition(ConditionType::Ready)?.last_transition_time.0;
        Some((registry.metadata.namespace?, ready))
    };
    Ok(all.list(&ListParams::default()).await?.into_iter().filter_map(since).collect())
}

/// A registry that takes `demo` with `right`.
async fn registry() -> Result<ScriptedServer> {
    let answer = |asked: &_| if signed_in(asked, "demo", "right") { welcome() } else { asks_for_password() };
    ScriptedServer::promptly(answer).await
}

/// What each registry of a tenant refers to.
#[derive(Clone, Copy, PartialEq)]
enum Refers {
    ToSecret,
    ToBoth,
}

/// Namespaces of ten to a tenant, each with a registry.
async fn create_tenants(cluster: &Cluster, count: usize, endpoint: &str, refers: Refers) -> Result<()> {
    let ca = registry_testbed::TestCa::new("nobody's")?;
    let create = |number: usize| {
        let (client, name) = (cluster.client(), cluster.unique(&format!("idle-{number}")));
        let tenant = cluster.unique(&format!("idle-tenant-{}", number / 10));
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authority"},
            "data": {"ca.crt": ca.certificate_pem()},
        });
        async move {
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {TENANT_LABEL: tenant}},
            });
            let namespaces: Api<Namespace> = Api::all(client.clone());
            namespaces.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
            create_in::<Secret>(&client, &name, login(&name, "login", "right")).await?;
            let mut spec = json!({"endpoint": endpoint, "auth": {"basic": {"secretRef": {"name": "login"}}}});
            if refers == Refers::ToBoth {
                create_in::<ConfigMap>(&client, &name, map).await?;
                spec["tls"] = json!({"ca": {"configMapRef": {"name": "authority"}}});
            }
            create_in::<TenantRegistry>(&client, &name, tenant_registry(&name, "packs", spec)).await
        }
    };
    futures::stream::iter((0..count).map(create)).buffer_unordered(16).try_collect().await
}

async fn create_in<K>(client: &Client, namespace: &str, object: Value) -> Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let create = || async {
        // Where the label was just written, the policy of tenants may have yet to see it.
        Ok::<_, anyhow::Error>(
            api.create(&PostParams::default(), &serde_json::from_value(object.clone())?).await?,
        )
    };
    eventually(format!("an object in {namespace} is created"), create).await?;
    Ok(())
}

async fn all_ready(cluster: &Cluster, count: usize) -> Result<()> {
    let all: Api<TenantRegistry> = Api::all(cluster.client());
    let look = || async {
        let all = all.list(&ListParams::default()).await?;
        let is_ready = |registry: &&TenantRegistry| {
            registry.status.as_ref().is_some_and(|status| status.is_true(ConditionType::Ready))
        };
        let ready = all.iter().filter(is_ready).count();
        ensure!(ready == count, "{ready} of {count} are");
        Ok(())
    };
    Ok(eventually("all registries are ready", look).await?)
}

/// Waits until a watch of Secrets is up in each of so many namespaces.
async fn are_watched(audit: &AuditLog, count: usize) -> Result<()> {
    let is_watch = |event: &AuditEvent| {
        event.user == OPERATOR_USER && event.verb == "watch" && event.resource == "secrets"
    };
    let are_enough = |watches: &[AuditEvent]| {
        let watched: BTreeSet<&str> = watches.iter().map(|event| &*event.namespace).collect();
        if watched.len() >= count { Ok(()) } else { Err(format!("{} are", watched.len())) }
    };
    audit.until("all namespaces are watched", &AuditMark::default(), is_watch, are_enough).await?;
    Ok(())
}

/// Waits until the Events of all verdicts are written, which takes its time.
async fn is_idle(audit: &AuditLog) -> Result<()> {
    let look = || async {
        let mark = audit.mark();
        tokio::time::sleep(Duration::from_secs(3)).await; // that nothing is written meanwhile is the condition
        let asked = requests(audit, &mark)?;
        let written = asked.iter().filter(|request| request.contains("/events?")).count();
        ensure!(written == 0, "{written} Events are written");
        Ok(())
    };
    Ok(eventually("the operator is idle", look).await?)
}

/// What the operator has asked since the mark, each request once: a watch is logged when it begins, all else when it ends.
fn requests(audit: &AuditLog, mark: &AuditMark) -> Result<Vec<String>> {
    let all = audit.since(mark)?;
    let is_one = |event: &&AuditEvent| {
        let stage = if event.verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
        event.user == OPERATOR_USER && event.stage == stage
    };
    Ok(all.iter().filter(is_one).map(|event| format!("{} {}", event.verb, event.request_uri)).collect())
}

fn port(control_plane: &ControlPlane) -> Result<u16> {
    let url = control_plane.url();
    Ok(url.rsplit(':').next().context("a URL with a port")?.parse()?)
}

// ---- Correctness

/// What was noticed in a store that was set back, by kind.
const NOTICED: Duration = Duration::from_mins(1);

#[tokio::test]
async fn detects_restored_etcd_within_a_minute() -> Result<()> {
    for leader_election in [true, false] {
        is_noticed(leader_election).await.with_context(|| format!("--leader-election={leader_election}"))?;
    }
    Ok(())
}

async fn is_noticed(leader_election: bool) -> Result<()> {
    let options = ControlPlaneOptions { audit: true, ..ControlPlaneOptions::default() };
    let installation = Installation::start(options).await?;
    let (cluster, control_plane) = (installation.cluster().await?, installation.control_plane());
    let protected = Protected::start().await?;
    let team = cluster.tenant_namespace("team", "team").await?;
    apply(&cluster, &login(SYSTEM_NAMESPACE, "login", "right")).await?;
    apply(&cluster, &login(&team, "login", "right")).await?;
    let mut spec = protected.spec("login");
    apply(&cluster, &tenant_registry(&team, "packs", spec.clone())).await?;
    spec["availability"] = json!({"pullSecret": {"name": "pull"}});
    apply(&cluster, &system_registry("packs", spec)).await?;
    let options = installation.operator_options().await?;
    let operator = Operator::start(options.arg(format!("--leader-election={leader_election}"))).await?;
    let packs = cluster.tenant(&team, "packs");
    packs.becomes(&["Ready=True/Available"]).await?;
    let pulls: Api<Secret> = Api::namespaced(cluster.client(), &team);
    eventually("the pull Secret is there", || pulls.get("pull")).await?;

    let store = control_plane.directory().join("etcd");
    let backup = control_plane.directory().join("etcd-backup");
    stop(control_plane).await?;
    copy(&store, &backup)?;
    start(control_plane).await?;
    // Far enough that nothing below gets the store to where it was.
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    for number in 0..1_000 {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "count"}, "data": {"n": format!("{number}")}});
        maps.patch("count", &PatchParams::apply("test").force(), &Patch::Apply(&map)).await?;
    }
    let lost = cluster.tenant_namespace("lost", "lost").await?;
    apply(&cluster, &tenant_registry(&lost, "lost", protected.spec("none"))).await?;
    cluster.tenant(&lost, "lost").becomes(&["Ready=False/SecretNotFound"]).await?;
    packs
        .change(json!({"metadata": {"annotations": {"registry.spectrocloud.com/requestedAt": "later"}}}))
        .await?;

    stop(control_plane).await?;
    std::fs::remove_dir_all(&store)?;
    copy(&backup, &store)?;
    let moment = Moment::on(&installation)?;
    start(control_plane).await?;

    let other = cluster.tenant_namespace("other", "other").await?;
    let packs_of_other = tenant_registry(&other, "packs", protected.spec("none"));
    eventually("a TenantRegistry is accepted", || apply(&cluster, &packs_of_other)).await?;
    apply(&cluster, &system_registry("charts", protected.spec("none"))).await?;
    apply(&cluster, &tenant_registry(&team, "charts", protected.spec("none"))).await?;
    apply(&cluster, &login(&team, "login", "wrong")).await?;
    pulls.delete("pull", &DeleteParams::default()).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client(), &team);
    bindings.delete("registry-operator", &DeleteParams::default()).await?;

    let missing = &["Ready=False/SecretNotFound"];
    cluster.system("charts").becomes_within(NOTICED, &moment, missing).await.context("a SystemRegistry")?;
    cluster
        .tenant(&team, "charts")
        .becomes_within(NOTICED, &moment, missing)
        .await
        .context("a TenantRegistry")?;
    cluster.tenant(&other, "packs").becomes_within(NOTICED, &moment, missing).await.context("a namespace")?;
    packs.becomes_within(NOTICED, &moment, &["Ready=False/Rejected"]).await.context("a reference")?;
    eventually("the pull Secret is there again", || pulls.get("pull")).await?;
    eventually("the role binding is there again", || bindings.get("registry-operator")).await?;
    for resource in ["secrets", "rolebindings"] {
        let is_it =
            |event: &AuditEvent| event.is_write() && event.resource == resource && event.namespace == team;
        moment.keeps(NOTICED, &format!("the {resource} are repaired"), is_it).await?;
    }
    drop(operator);
    Ok(())
}

async fn stop(control_plane: &ControlPlane) -> Result<()> {
    control_plane.api_server().stop().await?;
    control_plane.etcd().stop().await?;
    Ok(())
}

async fn start(control_plane: &ControlPlane) -> Result<()> {
    control_plane.etcd().start().await?;
    control_plane.api_server().start().await?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
