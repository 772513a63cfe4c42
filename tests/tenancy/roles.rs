//! The chart's roles: which users can read and write registries; and that the roles
//! give no access to Secrets.

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{eventually, manifests};
use serde_json::{Value, json};

use crate::{
    call::{
        Call, User, a_system_registry, a_tenant_registry, system_registries, system_registry,
        tenant_registries, tenant_registry,
    },
    helm::Helm,
    stage::{Cluster, SYSTEM_NAMESPACE, Stage},
};

on_each_kubernetes!(
    edit_admin_and_view_roles_cover_registries,
    users_see_system_registries_but_no_secrets,
    reading_can_be_limited_to_bound_users,
    system_administrator_has_no_access_to_secrets,
);

async fn edit_admin_and_view_roles_cover_registries(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.tenant_namespace("team-a").await?;
    let other = cluster.tenant_namespace("team-b").await?;
    let all = tenant_registries(&namespace);
    for role in ["admin", "edit"] {
        let user = cluster.user_with(role, &namespace).await?;
        let path = tenant_registry(&namespace, role);
        // Aggregated by the controller manager, some moments after the chart was applied.
        let create = Call::create(&all, a_tenant_registry(role));
        eventually("the role is aggregated", || user.may(&create)).await?;
        user.may(&Call::get(&path)).await?;
        user.may(&Call::delete(&path)).await?;
        user.has_no_right_to(&Call::get(&tenant_registries(&other))).await?;
        user.has_no_right_to(&Call::create(&system_registries(), a_system_registry("mine"))).await?;
    }
    let viewer = cluster.user_with("view", &namespace).await?;
    let get = Call::get(&all);
    eventually("the role is aggregated", || viewer.may(&get)).await?;
    viewer.has_no_right_to(&Call::create(&all, a_tenant_registry("packs"))).await?;
    viewer.has_no_right_to(&Call::delete(&all)).await?;
    viewer.has_no_right_to(&Call::get(&format!("/api/v1/namespaces/{namespace}/secrets"))).await
}

async fn login_of_packs(root: &User, name: &str) -> Result<String> {
    let all = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth", "metadata": {"name": name},
        "stringData": {"username": "me", "password": "secret"},
    });
    root.may(&Call::create(&all, secret)).await?;
    Ok(format!("{all}/{name}"))
}

async fn users_see_system_registries_but_no_secrets(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("packs");
    cluster.root.may(&Call::create(&system_registries(), a_system_registry(&name))).await?;
    let login = login_of_packs(&cluster.root, &name).await?;
    let user = cluster.stage.user(&cluster.unique("anybody")).await?;
    user.may(&Call::get(&system_registries())).await?;
    user.may(&Call::get(&system_registry(&name))).await?;
    for call in [
        Call::get(&login),
        Call::get(&format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets")),
        Call::get("/api/v1/secrets"),
        Call::get(&format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps")),
        Call::create(&system_registries(), a_system_registry("mine")),
        Call::merge(&system_registry(&name), json!({"spec": {"suspend": true}})),
        Call::delete(&system_registry(&name)),
    ] {
        user.has_no_right_to(&call).await?;
    }
    Ok(())
}

async fn reading_can_be_limited_to_bound_users(cluster: &Cluster) -> Result<()> {
    let stage = Stage::bare(cluster.kubernetes).await?;
    let root = User::new("root", stage.control_plane().client().await?);
    let rendered = Helm::of(&stage).await?.template(&["--set=systemRegistries.readableByAll=false"]).await?;
    let mut objects = manifests::parse("the chart", &rendered)?;
    objects.insert(0, serde_json::from_value(crate::call::a_namespace(SYSTEM_NAMESPACE, None))?);
    manifests::apply(&root.client(), objects).await?;
    let (anybody, viewer) = (stage.user("anybody").await?, stage.user("viewer").await?);
    anybody.has_no_right_to(&Call::get(&system_registries())).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "viewers"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "registry-system-view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "viewer"}],
    });
    root.may(&Call::create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)).await?;
    let get = Call::get(&system_registries());
    eventually("the viewer sees them", || viewer.may(&get)).await?;
    anybody.has_no_right_to(&get).await?;
    viewer.has_no_right_to(&Call::get("/api/v1/secrets")).await
}

async fn system_administrator_has_no_access_to_secrets(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("sysadmin");
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "registry-system-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    });
    cluster
        .root
        .may(&Call::create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding))
        .await?;
    let user = cluster.stage.user(&name).await?;
    let path = system_registry(&name);
    let create = Call::create(&system_registries(), a_system_registry(&name));
    eventually("the rights arrive", || user.may(&create)).await?;
    user.may(&Call::merge(&path, json!({"spec": {"suspend": true}}))).await?;
    user.may(&Call::delete(&path)).await?;
    user.has_no_right_to(&Call::get(&format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets"))).await?;
    for role in
        ["registry-system-admin", "registry-system-view", "registry-tenant-admin", "registry-tenant-view"]
    {
        let role = cluster.read(&format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{role}")).await?;
        for rule in role["rules"].as_array().context("no rules")? {
            ensure!(rule["apiGroups"] == json!(["registry.spectrocloud.com"]), "{rule}");
        }
        ensure!(role["aggregationRule"] == Value::Null, "{role}");
    }
    Ok(())
}
