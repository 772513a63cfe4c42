//! TenantRegistries: only in tenants' namespaces; tenants manage everything but the status; deletion always works.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    call::{Call, a_tenant_registry, tenant_registries, tenant_registry},
    stage::Cluster,
};

on_each_kubernetes!(
    rejects_registry_in_namespace_without_tenant,
    registry_without_tenant_can_only_be_deleted,
    tenant_manages_its_registries_but_not_status,
    writing_status_needs_administer,
    protected_tenant_registry_cannot_be_deleted,
    tenant_cannot_use_operator_aws_identity,
);

fn belongs_to_no_tenant(namespace: &str) -> String {
    format!(
        "Namespace {namespace} belongs to no tenant; an administrator can run kubectl label namespace \
         {namespace} registry.spectrocloud.com/tenant=<tenant>"
    )
}

fn merge_of_endpoint(path: &str, endpoint: &str) -> Call {
    Call::merge(path, json!({"spec": {"endpoint": endpoint}}))
}

async fn rejects_registry_in_namespace_without_tenant(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.plain_namespace("nobody").await?;
    let sentence = belongs_to_no_tenant(&namespace);
    let editor = cluster.user_with("edit", &namespace).await?;
    let all = tenant_registries(&namespace);
    for user in [&editor, &cluster.broad, &cluster.administrator, &cluster.root] {
        user.may_not(&Call::create(&all, a_tenant_registry("packs")), &sentence).await?;
        let apply = Call::apply(&tenant_registry(&namespace, "packs"), a_tenant_registry("packs"));
        user.may_not(&apply, &sentence).await?;
    }
    // An empty label names no tenant.
    cluster.label(&namespace, Some("")).await?;
    editor.may_not(&Call::create(&all, a_tenant_registry("packs")), &sentence).await?;
    cluster.label(&namespace, Some("team-a")).await?;
    editor.may(&Call::create(&all, a_tenant_registry("packs"))).await?;
    Ok(())
}

async fn registry_without_tenant_can_only_be_deleted(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.tenant_namespace("left").await?;
    let path = tenant_registry(&namespace, "packs");
    let mut object = a_tenant_registry("packs");
    object["metadata"]["finalizers"] = json!(["example.com/mine"]);
    let editor = cluster.user_with("edit", &namespace).await?;
    editor.may(&Call::create(&tenant_registries(&namespace), object)).await?;
    cluster.label(&namespace, None).await?;

    let change = merge_of_endpoint(&path, "https://other.invalid");
    editor.may_not(&change, &belongs_to_no_tenant(&namespace)).await?;
    editor.may(&Call::merge(&path, json!({"metadata": {"annotations": {"a": "b"}}}))).await?;
    editor.may(&Call::delete(&path)).await?;
    editor.may(&Call::merge(&path, json!({"metadata": {"finalizers": null}}))).await?;
    cluster.is_gone(&path).await
}

async fn tenant_manages_its_registries_but_not_status(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.tenant_namespace("team-a").await?;
    let editor = cluster.user_with("edit", &namespace).await?;
    let (all, path) = (tenant_registries(&namespace), tenant_registry(&namespace, "packs"));
    let now = editor.may(&Call::create(&all, a_tenant_registry("packs"))).await?;
    editor.may(&Call::get(&path)).await?;
    editor.may(&Call::get(&all)).await?;
    editor.may(&Call::get(&format!("{path}/status"))).await?;
    let status = Call::merge(&format!("{path}/status"), json!({"status": {"observedGeneration": 1}}));
    editor.has_no_right_to(&status).await?;
    for call in [
        Call::replace(&path, now),
        merge_of_endpoint(&path, "https://other.invalid"),
        Call::json_patch(&path, json!([{"op": "add", "path": "/spec/suspend", "value": true}])),
        Call::merge(&path, json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/mine"]}})),
        Call::merge(&path, json!({"metadata": {"finalizers": null}})),
        Call::apply(&path, a_tenant_registry("packs")),
        Call::delete(&path),
        Call::create(&all, a_tenant_registry("packs")),
        Call::delete(&all),
    ] {
        editor.may(&call).await?;
    }
    Ok(())
}

async fn writing_status_needs_administer(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.tenant_namespace("team-a").await?;
    let path = tenant_registry(&namespace, "packs");
    let now =
        cluster.root.may(&Call::create(&tenant_registries(&namespace), a_tenant_registry("packs"))).await?;
    let status = format!("{path}/status");
    let forged = json!({"observedGeneration": 1});
    let mut replaced = now;
    replaced["status"] = forged.clone();
    replaced["metadata"]["resourceVersion"] = Value::Null;
    let mut applied = a_tenant_registry("packs");
    applied["status"] = forged.clone();
    let sentence = "Only the operator may write the status of TenantRegistry packs; to request a validation, \
        change the annotation registry.spectrocloud.com/requestedAt";
    for call in [
        Call::json_patch(&status, json!([{"op": "add", "path": "/status", "value": forged}])),
        Call::merge(&status, json!({"status": forged})),
        Call::apply(&status, applied),
    ] {
        cluster.broad.may_not(&call, sentence).await?;
        cluster.administrator.may(&call).await?;
    }
    replaced["metadata"]["resourceVersion"] =
        cluster.read(&path).await?["metadata"]["resourceVersion"].clone();
    cluster.broad.may_not(&Call::replace(&status, replaced.clone()), sentence).await?;
    cluster.administrator.may(&Call::replace(&status, replaced)).await?;
    Ok(())
}

async fn protected_tenant_registry_cannot_be_deleted(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.tenant_namespace("team-a").await?;
    let (all, path) = (tenant_registries(&namespace), tenant_registry(&namespace, "packs"));
    let editor = cluster.user_with("edit", &namespace).await?;
    let mut object = a_tenant_registry("packs");
    object["spec"]["deletionProtection"] = json!(true);
    editor.may(&Call::create(&all, object)).await?;
    let sentence = "TenantRegistry packs is protected from deletion; set spec.deletionProtection to false \
        first";
    for user in [&editor, &cluster.administrator, &cluster.root] {
        for call in [
            Call::delete(&path),
            Call::delete_by(&path, "Foreground"),
            Call::delete_by(&path, "Orphan"),
            Call::delete(&all),
        ] {
            user.may_not(&call, sentence).await.with_context(|| format!("{call:?}"))?;
        }
    }
    editor.may(&Call::merge(&path, json!({"spec": {"deletionProtection": false}}))).await?;
    editor.may(&Call::delete(&path)).await?;
    Ok(())
}

async fn tenant_cannot_use_operator_aws_identity(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.tenant_namespace("team-a").await?;
    let mut object = a_tenant_registry("packs");
    object["spec"]["endpoint"] = json!("https://123456789012.dkr.ecr.eu-central-1.amazonaws.com");
    object["spec"]["auth"] = json!({"ecr": {"sts": {"roleARN": "arn:aws:iam::123456789012:role/registry"}}});
    for user in [&cluster.broad, &cluster.administrator, &cluster.root] {
        let create = Call::create(&tenant_registries(&namespace), object.clone());
        let (code, message) = user.refusal(&create).await?;
        assert!(
            code == 422
                && message.contains(
                    "spec.auth.ecr.sts.secretRef is required in a TenantRegistry; reference a Secret with AWS \
                     access keys (only SystemRegistries use the operator's identity)"
                ),
            "{code} {message}"
        );
    }
    Ok(())
}
