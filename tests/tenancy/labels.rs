//! The tenant label of namespaces: which users may set it, where no user may, and which changes stay allowed.

use anyhow::{Context as _, Result, ensure};
use registry_api::TENANT_LABEL;
use serde_json::{Value, json};

use crate::{
    call::{Call, a_namespace},
    stage::{Cluster, SYSTEM_NAMESPACE},
};

on_each_kubernetes!(
    tenant_label_needs_administer,
    labelled_namespace_can_be_changed_and_deleted,
    system_namespaces_cannot_get_a_tenant,
);

const NAMESPACES: &str = "/api/v1/namespaces";

fn needs_administer(namespace: &str) -> String {
    format!(
        "The label registry.spectrocloud.com/tenant assigns namespace {namespace} to a tenant: only users with \
         the verb administer on systemregistries may change it"
    )
}

#[expect(clippy::needless_pass_by_value, reason = "as `json!` makes it")]
fn labels(path: &str, labels: Value) -> Call {
    Call::merge(path, json!({"metadata": {"labels": labels}}))
}

/// Every way to have `tenant` there, or not to have the label: on the object and its subresources.
fn ways(path: &str, now: &Value, tenant: Option<&str>) -> Vec<Call> {
    let mut replaced = now.clone();
    replaced["metadata"]["resourceVersion"] = Value::Null;
    replaced["metadata"]["managedFields"] = Value::Null;
    match tenant {
        Some(tenant) => replaced["metadata"]["labels"][TENANT_LABEL] = json!(tenant),
        None => drop(replaced["metadata"]["labels"].as_object_mut().and_then(|all| all.remove(TENANT_LABEL))),
    }
    let escaped = TENANT_LABEL.replace('/', "~1");
    let operation = match tenant {
        Some(tenant) => {
            json!([{"op": "add", "path": format!("/metadata/labels/{escaped}"), "value": tenant}])
        }
        None => json!([{"op": "remove", "path": format!("/metadata/labels/{escaped}")}]),
    };
    let mut ways = vec![
        labels(path, json!({TENANT_LABEL: tenant})),
        labels(path, json!({TENANT_LABEL: tenant})).dry(),
        labels(&format!("{path}/status"), json!({TENANT_LABEL: tenant})),
        Call::json_patch(path, operation),
        Call::replace(path, replaced.clone()),
        Call::replace(&format!("{path}/status"), replaced.clone()),
        Call::replace(&format!("{path}/finalize"), replaced),
    ];
    let name = now["metadata"]["name"].as_str().unwrap_or_default();
    ways.extend(tenant.map(|_| Call::apply(path, a_namespace(name, tenant))));
    ways
}

async fn tenant_label_needs_administer(cluster: &Cluster) -> Result<()> {
    let (tenants, nobodys) =
        (cluster.tenant_namespace("labelled").await?, cluster.plain_namespace("unlabelled").await?);
    for (name, tenant) in
        [(&tenants, Some("other")), (&tenants, Some("")), (&tenants, None), (&nobodys, Some("team"))]
    {
        let path = format!("{NAMESPACES}/{name}");
        let now = cluster.read(&path).await?;
        for way in ways(&path, &now, tenant) {
            cluster.broad.may_not(&way, &needs_administer(name)).await?;
        }
        ensure!(cluster.read(&path).await?["metadata"]["labels"] == now["metadata"]["labels"]);
    }
    // Who is born labelled, by a name of one's own or the API server's.
    let born = cluster.unique("born");
    let create = Call::create(NAMESPACES, a_namespace(&born, Some("team")));
    cluster.broad.may_not(&create, &needs_administer(&born)).await?;
    let mut generated = a_namespace("", Some("team"));
    generated["metadata"] = json!({"generateName": "born-", "labels": {TENANT_LABEL: "team"}});
    let (code, message) = cluster.broad.refusal(&Call::create(NAMESPACES, generated)).await?;
    ensure!(code == 403 && message.contains("assigns namespace born-"), "{code} {message}");

    for way in ways(
        &format!("{NAMESPACES}/{nobodys}"),
        &cluster.read(&format!("{NAMESPACES}/{nobodys}")).await?,
        Some("team"),
    ) {
        cluster.administrator.may(&way.dry()).await?;
    }
    cluster.administrator.may(&create.dry()).await?;
    Ok(())
}

async fn labelled_namespace_can_be_changed_and_deleted(cluster: &Cluster) -> Result<()> {
    let name = cluster.tenant_namespace("changed").await?;
    let path = format!("{NAMESPACES}/{name}");
    let mut now = cluster.read(&path).await?;
    now["metadata"]["labels"]["more"] = json!("x");
    now["metadata"]["resourceVersion"] = Value::Null;
    for call in [
        labels(&path, json!({"pod-security.kubernetes.io/enforce": "baseline"})),
        Call::merge(&path, json!({"metadata": {"annotations": {"a": "b"}}})),
        Call::replace(&path, now.clone()),
        Call::replace(&format!("{path}/finalize"), now),
        labels(&format!("{path}/status"), json!({"another": "x"})),
        Call::apply(&path, a_namespace(&name, Some("team"))),
        Call::delete(&path),
    ] {
        cluster.broad.may(&call).await?;
    }
    // The namespace controller takes its finalizer off.
    cluster.is_gone(&path).await
}

async fn system_namespaces_cannot_get_a_tenant(cluster: &Cluster) -> Result<()> {
    let sentence = |name: &str| {
        format!(
            "Namespace {name} is a system namespace and can't belong to a tenant; remove the label \
             registry.spectrocloud.com/tenant"
        )
    };
    for name in [SYSTEM_NAMESPACE, "kube-system", "kube-public", "kube-node-lease"] {
        let path = format!("{NAMESPACES}/{name}");
        let now = cluster.read(&path).await?;
        for way in ways(&path, &now, Some("x")) {
            cluster.root.may_not(&way, &sentence(name)).await?;
        }
        cluster.administrator.may_not(&labels(&path, json!({TENANT_LABEL: "x"})), &sentence(name)).await?;
        cluster.root.may(&labels(&path, json!({"more": "x"})).dry()).await?;
    }
    for name in ["kube-more", "openshift", "openshift-monitoring"] {
        let create = Call::create(NAMESPACES, a_namespace(name, Some("x")));
        cluster.root.may_not(&create, &sentence(name)).await?;
    }
    cluster.root.may(&Call::create(NAMESPACES, a_namespace("kube-more", None)).dry()).await?;
    let default = labels(&format!("{NAMESPACES}/default"), json!({TENANT_LABEL: "x"})).dry();
    cluster.root.may(&default).await.context("default may be a tenant's")?;
    Ok(())
}
