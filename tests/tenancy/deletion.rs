//! Allowed deletions always finish: by the garbage collector, with the namespace, with the operator.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{Operator, eventually};
use serde_json::{Value, json};

use crate::{
    call::{
        Call, User, a_namespace, a_system_registry, a_tenant_registry, system_registries, system_registry,
        tenant_registries, tenant_registry,
    },
    stage::{Cluster, SYSTEM_NAMESPACE, Stage},
};

on_each_kubernetes!(
    garbage_collector_may_finish_deletions,
    garbage_collector_may_change_nothing_else,
    namespace_deletion_ignores_protection,
    system_namespace_can_be_deleted,
    fault_28_deletion_always_finishes,
);

/// The deadline for deletion, whatever else fails (docs/architecture.md#promises).
const FINISHED: Duration = Duration::from_secs(30);

async fn garbage_collector_may_finish_deletions(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.tenant_namespace("cascade").await?;
    for propagation in ["Background", "Foreground", "Orphan"] {
        let name = cluster.unique(&propagation.to_lowercase());
        let (system, tenant) = (system_registry(&name), tenant_registry(&namespace, &name));
        let owner =
            cluster.administrator.may(&Call::create(&system_registries(), a_system_registry(&name))).await?;
        cluster.root.may(&Call::create(&tenant_registries(&namespace), a_tenant_registry(&name))).await?;
        // Something that depends on it, so that there is something to do.
        let dependent = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [{
                "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name,
                "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true,
            }]},
        });
        let config_maps = format!("/api/v1/namespaces/{namespace}/configmaps");
        cluster.root.may(&Call::create(&config_maps, dependent)).await?;
        cluster.administrator.may(&Call::delete_by(&system, propagation)).await?;
        cluster.broad.may(&Call::delete_by(&tenant, propagation)).await?;
        cluster.is_gone(&system).await?;
        cluster.is_gone(&tenant).await?;
        let dependent = format!("{config_maps}/{name}");
        match propagation {
            "Orphan" => drop(cluster.read(&dependent).await?),
            _ => cluster.is_gone(&dependent).await?,
        }
    }
    Ok(())
}

async fn garbage_collector_may_change_nothing_else(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("collected");
    let path = system_registry(&name);
    let mut object = a_system_registry(&name);
    object["metadata"]["finalizers"] = json!(["example.com/mine", "foregroundDeletion"]);
    let owner = cluster.root.may(&Call::create(&system_registries(), object)).await?;
    let dependent = cluster.dependent_that_stays(&owner).await?;
    let collector = cluster.stage.user("system:kube-controller-manager").await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": name}, "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-controller-manager"},
        ],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "far-too-broad"},
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    cluster.root.may(&Call::create(bindings, binding)).await?;
    let delete = Call::delete(&path);
    let by_the_policy = || async {
        let (_, message) = collector.refusal(&delete).await?;
        ensure!(message.contains("belongs to the system level"), "{message}");
        Ok(())
    };
    eventually("the rights arrive", by_the_policy).await?;
    let all = Call::merge(&path, json!({"metadata": {"finalizers": null}}));
    let its_own = Call::merge(&path, json!({"metadata": {"finalizers": ["example.com/mine"]}}));
    for call in [&all, &its_own] {
        let (_, message) = collector.refusal(call).await?;
        assert!(message.contains("belongs to the system level"), "nobody deletes it: {message}");
    }

    cluster.administrator.may(&Call::delete_by(&path, "Foreground")).await?;
    for call in [
        all,
        Call::merge(&path, json!({"metadata": {"finalizers": ["foregroundDeletion"]}})),
        Call::merge(&path, json!({"metadata": {"labels": {"a": "b"}}})),
        Call::merge(&path, json!({"spec": {"endpoint": "https://other.invalid"}})),
    ] {
        let (code, message) = collector.refusal(&call).await?;
        assert!(code == 403 && message.contains("belongs to the system level"), "{call:?}: {code} {message}");
    }
    cluster.administrator.may(&Call::merge(&path, json!({"metadata": {"finalizers": null}}))).await?;
    cluster.is_gone(&path).await?;
    cluster.root.may(&Call::merge(&dependent, json!({"metadata": {"finalizers": null}}))).await.map(drop)
}

impl Cluster {
    /// A ConfigMap for which the deletion of that object in the foreground waits, of which the garbage collector knows: else the
    /// real one takes its finalizer off the object whenever it comes by. Its path.
    async fn dependent_that_stays(&self, owner: &Value) -> Result<String> {
        let namespace = self.plain_namespace("dependents").await?;
        let all = format!("/api/v1/namespaces/{namespace}/configmaps");
        let owned_by = |name: &str, owner: &Value, uid: &Value| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "ownerReferences": [{
                    "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
                    "uid": uid, "blockOwnerDeletion": true,
                }]},
            })
        };
        let mut stays = owned_by("stays", owner, &owner["metadata"]["uid"]);
        stays["metadata"]["finalizers"] = json!(["example.com/stays"]);
        self.root.may(&Call::create(&all, stays)).await?;
        // It sees them in their order: when it has removed one that nobody owns, it knows of the one before.
        let nobody = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nobody"}});
        let uid = json!("0d5b2f8e-1f0f-4d0c-8a3b-6a1f8f3c2f11");
        self.root.may(&Call::create(&all, owned_by("goes", &nobody, &uid))).await?;
        self.is_gone(&format!("{all}/goes")).await?;
        Ok(format!("{all}/stays"))
    }
}

async fn namespace_deletion_ignores_protection(cluster: &Cluster) -> Result<()> {
    for still_a_tenants in [true, false] {
        let namespace = cluster.tenant_namespace(if still_a_tenants { "going" } else { "lost" }).await?;
        for (name, protected) in [("plain", false), ("protected", true)] {
            let mut object = a_tenant_registry(name);
            object["spec"]["deletionProtection"] = json!(protected);
            cluster.root.may(&Call::create(&tenant_registries(&namespace), object)).await?;
        }
        if !still_a_tenants {
            cluster.label(&namespace, None).await?;
        }
        let path = format!("/api/v1/namespaces/{namespace}");
        cluster.broad.may(&Call::delete(&path)).await?;
        cluster.is_gone(&path).await?;
    }
    Ok(())
}

async fn system_namespace_can_be_deleted(cluster: &Cluster) -> Result<()> {
    let stage = Stage::start(cluster.kubernetes).await?; // the others need theirs
    let (root, broad) = (stage.user("administrator").await?, stage.user("broad").await?);
    root.may(&Call::create("/api/v1/namespaces", a_namespace("team-a", Some("team")))).await?;
    let mut object = a_tenant_registry("packs");
    object["metadata"]["finalizers"] = json!(["registry.spectrocloud.com/cleanup"]);
    root.may(&Call::create(&tenant_registries("team-a"), object)).await?;

    let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}");
    root.may(&Call::delete(&path)).await?;
    is_gone(&root, &path).await?;
    // Without operator and parameters, a registry goes when its finalizer is taken off by hand.
    let registry = tenant_registry("team-a", "packs");
    broad.may(&Call::delete(&registry)).await?;
    broad.may(&Call::merge(&registry, json!({"metadata": {"finalizers": null}}))).await?;
    assert_eq!(broad.refusal(&Call::get(&registry)).await?.0, 404);
    Ok(())
}

async fn is_gone(root: &User, path: &str) -> Result<()> {
    let get = Call::get(path);
    let look = || async {
        let code = root.send(&get).await?.err().map(|(code, _)| code);
        ensure!(code == Some(404), "{code:?}");
        Ok(())
    };
    Ok(eventually(format!("{path} is gone"), look).await?)
}

/// Waits until an object is gone, and checks that no question later than is promised still finds it.
async fn is_gone_in_time(root: &User, path: &str) -> Result<()> {
    let (since, get) = (Instant::now(), Call::get(path));
    loop {
        let asked = since.elapsed();
        if root.send(&get).await?.err().map(|(code, _)| code) == Some(404) {
            return Ok(());
        }
        ensure!(asked <= FINISHED, "{path} is there after {asked:?}");
        tokio::time::sleep(Duration::from_millis(50)).await; // between two looks
    }
}

/// The last row of the table of deletions: the registries can't be reached, their Secrets are gone, and the operator was just killed.
/// The other rows are the tests that docs/reliability.md names.
async fn fault_28_deletion_always_finishes(cluster: &Cluster) -> Result<()> {
    let stage = Stage::start(cluster.kubernetes).await?;
    let root = stage.user("administrator").await?;
    let operator = Operator::start(stage.operator_options().await?).await?;
    root.may(&Call::create("/api/v1/namespaces", a_namespace("team-a", Some("team")))).await?;
    let (system, tenant) = (system_registry("packs"), tenant_registry("team-a", "packs"));
    root.may(&Call::create("/api/v1/namespaces", a_namespace("team-b", Some("team")))).await?;
    let (pull_secret, neighbour) =
        (json!({"pullSecret": {"name": "packs-pull"}}), tenant_registry("team-b", "packs"));
    for (all, mut object) in [
        (system_registries(), a_system_registry("packs")),
        (tenant_registries("team-a"), a_tenant_registry("packs")),
        (tenant_registries("team-b"), a_tenant_registry("packs")),
    ] {
        object["spec"]["availability"] = pull_secret.clone();
        object["spec"]["auth"] = json!({"basic": {"secretRef": {"name": "gone"}}});
        root.may(&Call::create(&all, object)).await?;
    }
    for path in [&system, &tenant, &neighbour] {
        let get = Call::get(path);
        let look = || async {
            let object = root.may(&get).await?;
            ensure!(!object["metadata"]["finalizers"].is_null(), "no finalizer yet");
            Ok(())
        };
        eventually(format!("{path} has the finalizer"), look).await?;
    }
    // The tenant is none any more, and its registry is one that the policies would not take today.
    root.may(&Call::merge(
        "/api/v1/namespaces/team-a",
        json!({"metadata": {"labels": {registry_api::TENANT_LABEL: null}}}),
    ))
    .await?;
    operator.kill().await;
    operator.restart().await?;
    let namespace = "/api/v1/namespaces/team-b".to_owned();
    for (deleted, gone) in [(&system, &system), (&tenant, &tenant), (&namespace, &neighbour)] {
        root.may(&Call::delete(deleted)).await?;
        is_gone_in_time(&root, gone).await.with_context(|| operator.log())?;
    }
    // The rest of its deletion is Kubernetes' own.
    is_gone(&root, &namespace).await.with_context(|| operator.log())
}
