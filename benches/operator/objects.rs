//! The registries of the bench. Many clients create them at the same time, and one request deletes all of them.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PartialObjectMeta};
use registry_api::SystemRegistry;
use registry_testbed::eventually;

use crate::floor::REGISTRIES;

/// The number of objects that are created at the same time.
const CREATORS: usize = 32;

/// How the registries reach the bench's registry.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// All by the same host and port.
    Shared(String),
    /// Each by a subdomain of this host and port.
    Subdomains(String),
}

impl Endpoint {
    /// Returns the host and port for the registry with this number.
    pub fn host_port(&self, number: usize) -> String {
        match self {
            Self::Shared(host_port) => host_port.clone(),
            Self::Subdomains(parent) => format!("bench-{number:05}.{parent}"),
        }
    }
}

/// Returns the manifest of a registry. All registries share one Secret and one ConfigMap.
pub fn manifest(name: &str, host_port: &str) -> String {
    serde_json::json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1",
        "kind": "SystemRegistry",
        "metadata": {"name": name},
        "spec": {
            "endpoint": format!("https://{host_port}"),
            "auth": {"basic": {"secretRef": {"name": "bench-login"}}},
            "tls": {"ca": {"configMapRef": {"name": "bench-ca"}}},
        },
    })
    .to_string()
}

/// Creates one registry.
pub async fn create(client: &Client, manifest: String) -> anyhow::Result<()> {
    let request = Request::post(REGISTRIES)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(manifest.into_bytes())?;
    client.request_text(request).await.context("creating a registry")?;
    Ok(())
}

/// Creates `count` registries.
pub async fn create_all(client: &Client, endpoint: &Endpoint, count: usize) -> anyhow::Result<()> {
    stream::iter(0..count)
        .map(|number| create(client, manifest(&format!("bench-{number:05}"), &endpoint.host_port(number))))
        .buffer_unordered(CREATORS)
        .try_collect()
        .await
}

/// Deletes all registries, and waits until they are gone.
pub async fn delete_all(client: &Client) -> anyhow::Result<()> {
    let api: Api<SystemRegistry> = Api::all(client.clone());
    // In parts that the API server can delete within the deadline of one request.
    eventually("all registries are deleted", || async {
        let deleted =
            api.delete_collection(&DeleteParams::default(), &ListParams::default().limit(2_000)).await;
        deleted.map_err(|error| error.to_string())?;
        let left: kube::core::ObjectList<PartialObjectMeta<SystemRegistry>> =
            api.list_metadata(&ListParams::default().limit(1)).await.map_err(|error| error.to_string())?;
        if left.items.is_empty() { Ok(()) } else { Err("some are left".to_owned()) }
    })
    .await?;
    Ok(())
}
