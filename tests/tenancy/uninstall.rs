//! The operator's objects are removed with the chart by the garbage collector, and come back with the chart or its role.

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{Kubernetes, Operator, eventually, policies_are_in_force};
use serde_json::{Value, json};

use crate::{
    call::{Call, User, a_namespace},
    helm::Helm,
    stage::{Cluster, SERVICE_ACCOUNT, SYSTEM_NAMESPACE, Stage},
};

on_each_kubernetes!(recreated_role_gets_new_bindings);

const NAMESPACES: [&str; 3] = ["team-a", "team-b", "team-c"];
const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/registry-operator-tenant";

fn binding(namespace: &str) -> String {
    format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/registry-operator")
}

fn lease() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/registry-operator")
}

fn account() -> String {
    format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts/{SERVICE_ACCOUNT}")
}

/// A cluster of one's own, as its administrator sees it.
struct ClusterView {
    root: User,
}

impl ClusterView {
    async fn of(stage: &Stage) -> Result<Self> {
        Ok(Self { root: User::new("root", stage.control_plane().client().await?) })
    }

    async fn tenants(&self) -> Result<()> {
        for namespace in NAMESPACES {
            let namespace = a_namespace(namespace, Some(namespace));
            self.root.may(&Call::create("/api/v1/namespaces", namespace)).await?;
        }
        Ok(())
    }

    async fn uid(&self, path: &str) -> Result<String> {
        let object = self.root.may(&Call::get(path)).await?;
        Ok(object["metadata"]["uid"].as_str().context("an object has a uid")?.to_owned())
    }

    /// Whether this object has that one as its only owner.
    async fn goes_with(&self, path: &str, owner: &str) -> Result<()> {
        let object = self.root.may(&Call::get(path)).await?;
        let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let owners: Vec<&Value> = owners.iter().map(|owner| &owner["uid"]).collect();
        ensure!(owners == [&json!(self.uid(owner).await?)], "{path} goes with {owners:?}");
        Ok(())
    }

    /// Waits until the operator is bound in every namespace, by a binding that goes with the role as it is now.
    async fn is_bound(&self) -> Result<()> {
        let look = || async {
            for namespace in NAMESPACES {
                self.goes_with(&binding(namespace), ROLE).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        Ok(eventually("the operator is bound", look).await?)
    }

    async fn bindings(&self) -> Result<Vec<String>> {
        let mut bindings = Vec::new();
        for namespace in NAMESPACES {
            bindings.push(self.uid(&binding(namespace)).await?);
        }
        Ok(bindings)
    }

    async fn is_gone(&self, path: &str) -> Result<()> {
        let look = || async {
            let code = self.root.send(&Call::get(path)).await?.err().map(|(code, _)| code);
            ensure!(code == Some(404), "{code:?}");
            Ok(())
        };
        Ok(eventually(format!("{path} is gone"), look).await?)
    }
}

/// On an API server that guards owners more than most do, as OpenShift's.
#[tokio::test]
async fn uninstall_removes_bindings_and_lease() -> Result<()> {
    let strict = ["--enable-admission-plugins=OwnerReferencesPermissionEnforcement"];
    let stage = Stage::bare_with(Kubernetes::Newest, &strict).await?;
    let (sight, helm) = (ClusterView::of(&stage).await?, Helm::of(&stage).await?);
    sight.tenants().await?;
    for options in [&["--create-namespace"][..], &[]] {
        helm.run("install", options).await?;
        policies_are_in_force(&sight.root.client()).await?;
        let operator = Operator::start(stage.operator_options().await?).await?;
        sight.is_bound().await.with_context(|| operator.log())?;
        sight.goes_with(&lease(), &account()).await?;
        // It still runs; by then it has no rights to bring them back.
        helm.run("uninstall", &[]).await?;
        for namespace in NAMESPACES {
            sight.is_gone(&binding(namespace)).await?;
        }
        sight.is_gone(&lease()).await?;
    }
    Ok(())
}

async fn recreated_role_gets_new_bindings(cluster: &Cluster) -> Result<()> {
    let stage = Stage::start(cluster.kubernetes).await?; // the others need the role
    let sight = ClusterView::of(&stage).await?;
    sight.tenants().await?;
    let operator = Operator::start(stage.operator_options().await?).await?;
    sight.is_bound().await.with_context(|| operator.log())?;
    let mut role = sight.root.may(&Call::get(ROLE)).await?;
    let old = role["metadata"].take();
    role["metadata"] = json!({"name": old["name"], "labels": old["labels"]});
    let roles = ROLE.rsplit_once('/').context("a collection and a name")?.0;

    // Away for a while: its bindings go, and come when it is back.
    sight.root.may(&Call::delete(ROLE)).await?;
    for namespace in NAMESPACES {
        sight.is_gone(&binding(namespace)).await?;
    }
    sight.root.may(&Call::create(roles, role.clone())).await?;
    sight.is_bound().await.with_context(|| operator.log())?;

    // Away for a moment, again and again.
    for _ in 0..3 {
        sight.root.may(&Call::delete(ROLE)).await?;
        sight.root.may(&Call::create(roles, role.clone())).await?;
    }
    sight.is_bound().await.with_context(|| operator.log())?;

    // What is bound stays so: the garbage collector has had its way with something that goes with no role that is there.
    let bound = sight.bindings().await?;
    let config_map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "dangling", "ownerReferences": [{
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": old["name"], "uid": old["uid"],
        }]},
    });
    let config_maps = "/api/v1/namespaces/team-a/configmaps";
    sight.root.may(&Call::create(config_maps, config_map)).await?;
    sight.is_gone(&format!("{config_maps}/dangling")).await?;
    ensure!(sight.bindings().await? == bound, "some were made anew\n{}", operator.log());

    // Changes by other clients are repaired, even if no registry needs the binding.
    sight.root.may(&Call::delete(&binding("team-a"))).await?;
    let strip = json!({"metadata": {"ownerReferences": null}});
    sight.root.may(&Call::merge(&binding("team-b"), strip)).await?;
    sight.is_bound().await.with_context(|| operator.log())
}
