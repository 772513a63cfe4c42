//! The meaning of the API server's errors, on a real API server: the fields that `registry_operator::kubernetes::call`
//! relies on are those that it sends.

use anyhow::{Result, ensure};
use http::{Method, Request};
use kube::Client;
use registry_api::{RegistryStatus, SystemRegistry};
use registry_operator::{
    controller::publish::{PublishError, publish_finalizer, publish_status},
    kubernetes::call::{CallFailure, call},
};
use registry_testbed::eventually;
use registry_verdict::object::RegistryObject;
use serde_json::{Value, json};

use crate::{
    call::{Call, a_system_registry, system_registries, system_registry},
    stage::Cluster,
};

on_each_kubernetes!(
    apply_with_other_uid_means_gone,
    writes_status_for_every_registry_name,
    recreated_registry_means_gone,
    distinguishes_quota_rbac_and_termination,
);

const OTHER_UID: &str = "0d5b2f8e-1f0f-4d0c-8a3b-6a1f8f3c2f11";

/// What a request comes to; none if it is granted.
async fn failure(
    client: &Client,
    method: Method,
    path: &str,
    kind: &str,
    body: Value,
) -> Result<Option<CallFailure>> {
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let request = request.body(serde_json::to_vec(&body)?)?;
    Ok(call(client.request::<Value>(request)).await.err().map(|error| error.failure()))
}

async fn apply(client: &Client, path: &str, body: Value) -> Result<Option<CallFailure>> {
    let path = format!("{path}?fieldManager=answers&force=true");
    failure(client, Method::PATCH, &path, "application/apply-patch+yaml", body).await
}

async fn create(client: &Client, path: &str, body: Value) -> Result<Option<CallFailure>> {
    failure(client, Method::POST, path, "application/json", body).await
}

fn named(name: &str, metadata: Value) -> Value {
    let mut object = a_system_registry(name);
    object["metadata"] = metadata;
    object["metadata"]["name"] = json!(name);
    object.as_object_mut().map(|object| object.remove("spec"));
    object
}

fn secret(name: &str, metadata: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret"});
    object["metadata"] = metadata;
    object["metadata"]["name"] = json!(name);
    object
}

async fn apply_with_other_uid_means_gone(cluster: &Cluster) -> Result<()> {
    let (client, name) = (cluster.root.client(), cluster.unique("answers"));
    let namespace = cluster.plain_namespace("answers").await?;
    let (path, secrets) = (system_registry(&name), format!("/api/v1/namespaces/{namespace}/secrets"));
    let other = named(&name, json!({"uid": OTHER_UID, "finalizers": []}));
    assert_eq!(apply(&client, &path, other.clone()).await?, Some(CallFailure::Conflict), "nothing is there");
    cluster.root.may(&Call::create(&system_registries(), a_system_registry(&name))).await?;
    assert_eq!(apply(&client, &path, other).await?, Some(CallFailure::Gone), "another is there");
    let old = named(&name, json!({"resourceVersion": "1", "finalizers": []}));
    assert_eq!(apply(&client, &path, old).await?, Some(CallFailure::Conflict), "another version is there");
    // The status of a custom resource takes no uid for a precondition; the resource version is one.
    let status = |metadata| {
        let mut status = named(&name, metadata);
        status["status"] = json!({"observedGeneration": 1});
        status
    };
    let path = format!("{path}/status");
    assert_eq!(apply(&client, &path, status(json!({"uid": OTHER_UID}))).await?, None);
    let old = status(json!({"resourceVersion": "1"}));
    assert_eq!(apply(&client, &path, old).await?, Some(CallFailure::Conflict));

    let path = format!("{secrets}/pull");
    let other = secret("pull", json!({"uid": OTHER_UID}));
    assert_eq!(apply(&client, &path, other.clone()).await?, Some(CallFailure::Conflict));
    cluster.root.may(&Call::create(&secrets, secret("pull", json!({})))).await?;
    assert_eq!(apply(&client, &path, other).await?, Some(CallFailure::Gone));
    let taken = create(&client, &secrets, secret("pull", json!({}))).await?;
    assert_eq!(taken, Some(CallFailure::Conflict));
    let precondition =
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": OTHER_UID}});
    let deleted = failure(&client, Method::DELETE, &path, "application/json", precondition).await?;
    assert_eq!(deleted, Some(CallFailure::Conflict));
    let path = format!("{secrets}/none");
    let absent = failure(&client, Method::DELETE, &path, "application/json", json!({})).await?;
    assert_eq!(absent, Some(CallFailure::Gone));
    Ok(())
}

async fn made(cluster: &Cluster, name: &str) -> Result<RegistryObject> {
    let made = cluster.root.may(&Call::create(&system_registries(), a_system_registry(name))).await?;
    Ok(RegistryObject::of(serde_json::from_value::<SystemRegistry>(made)?))
}

async fn writes_status_for_every_registry_name(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    for name in ["squid", "fluid", "not-found"] {
        let mut object = made(cluster, &cluster.unique(name)).await?;
        let path = system_registry(object.key.name());
        cluster.root.may(&Call::merge(&path, json!({"metadata": {"annotations": {"moved": "on"}}}))).await?;
        let status = RegistryStatus { observed_generation: Some(1), ..RegistryStatus::default() };
        publish_status(&operator.client(), &mut object, &status).await?;
        assert_eq!(object.status.observed_generation, Some(1), "{name}");
    }
    Ok(())
}

async fn recreated_registry_means_gone(cluster: &Cluster) -> Result<()> {
    let (operator, name) = (cluster.stage.operator().await?, cluster.unique("anew"));
    let (mut old, path) = (made(cluster, &name).await?, system_registry(&name));
    let status = RegistryStatus { observed_generation: Some(1), ..RegistryStatus::default() };
    for there in [false, true] {
        if there {
            made(cluster, &name).await?;
        } else {
            cluster.root.may(&Call::delete(&path)).await?;
        }
        let finalizer = publish_finalizer(&operator.client(), &mut old, true).await;
        ensure!(matches!(finalizer, Err(PublishError::Gone(_))), "{finalizer:?}");
        let written = publish_status(&operator.client(), &mut old, &status).await;
        ensure!(matches!(written, Err(PublishError::Gone(_))), "{written:?}");
    }
    let anew = cluster.read(&path).await?;
    assert_eq!(anew["status"]["observedGeneration"], -1, "nothing was written");
    assert!(anew["metadata"]["finalizers"].is_null());
    Ok(())
}

async fn distinguishes_quota_rbac_and_termination(cluster: &Cluster) -> Result<()> {
    let (client, namespace) = (cluster.root.client(), cluster.plain_namespace("answers").await?);
    let at = format!("/api/v1/namespaces/{namespace}");
    let secrets = format!("{at}/secrets");
    let stranger = cluster.stage.user("exceeded quota: ").await?;
    let refused = create(&stranger.client(), &secrets, secret("pull", json!({}))).await?;
    assert_eq!(refused, Some(CallFailure::Forbidden));
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"count/secrets": "0"}},
    });
    cluster.root.may(&Call::create(&format!("{at}/resourcequotas"), quota)).await?;
    // As its controller would.
    let status = json!({"status": {"hard": {"count/secrets": "0"}, "used": {"count/secrets": "0"}}});
    cluster.root.may(&Call::merge(&format!("{at}/resourcequotas/none/status"), status)).await?;
    let look = || async {
        let dry = format!("{secrets}?dryRun=All");
        let refused = create(&client, &dry, secret("forbidden", json!({}))).await?;
        ensure!(refused == Some(CallFailure::Quota), "{refused:?}");
        Ok(())
    };
    eventually("the quota is in force", look).await?;

    let keep = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keep", "finalizers": ["example.com/keep"]},
    });
    let maps = format!("{at}/configmaps");
    cluster.root.may(&Call::create(&maps, keep)).await?;
    cluster.root.may(&Call::delete(&at)).await?;
    let refused =
        create(&client, &maps, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}}));
    assert_eq!(refused.await?, Some(CallFailure::Terminating));
    let free = json!({"metadata": {"finalizers": null}});
    cluster.root.may(&Call::merge(&format!("{maps}/keep"), free)).await?;
    cluster.is_gone(&at).await?;
    let refused = create(&client, &secrets, secret("pull", json!({}))).await?;
    assert_eq!(refused, Some(CallFailure::Gone));
    Ok(())
}
