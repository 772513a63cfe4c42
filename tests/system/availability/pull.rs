//! An OCI client pulls an artifact with the pull Secret in a tenant's namespace.

use std::path::Path;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use registry_testbed::{
    process::Scratch,
    tools::{self, Tool},
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::secrets::{config_for, delivered, offered};
use crate::{
    harness::{self, SYSTEM_NAMESPACE},
    objects::{Protected, apply, login, system_registry, tenant_registry},
};

const REPOSITORY: &str = "team/packs/hello";
const TAG: &str = "1.0.0";

#[tokio::test]
async fn pulls_artifact_only_with_the_pull_secret() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let protected = Protected::start().await?;
    let digest = protected.registry.push_artifact(REPOSITORY, TAG).await?;
    let namespaces =
        [cluster.tenant_namespace("a", "a-1").await?, cluster.tenant_namespace("a", "a-2").await?];
    let name = cluster.unique("packs");
    apply(&cluster, &login(SYSTEM_NAMESPACE, &name, "right")).await?;
    apply(&cluster, &login(&namespaces[0], "login", "right")).await?;
    let availability = json!({"tenants": [cluster.unique("a")], "pullSecret": {"name": "system-pull"}});
    let mut spec = offered(&protected, &name, availability);
    spec["baseContentPath"] = json!("team/packs");
    apply(&cluster, &system_registry(&name, spec)).await?;
    let availability = json!({"pullSecret": {"name": "tenant-pull"}});
    apply(&cluster, &tenant_registry(&namespaces[0], "packs", offered(&protected, "login", availability)))
        .await?;

    let says = config_for(&protected.registry.host_port(), "right");
    for (namespace, secret) in
        [(&namespaces[0], "system-pull"), (&namespaces[1], "system-pull"), (&namespaces[1], "tenant-pull")]
    {
        let secret = delivered(&cluster, namespace, secret, &says).await?;
        let pulled = pull(&protected, Some(&bytes(&secret))).await?;
        assert_eq!(pulled, Ok(digest.clone()));
    }
    let refused = pull(&protected, None).await?.expect_err("it was pulled without credentials");
    assert!(refused.contains("UNAUTHORIZED") || refused.contains("401"), "{refused}");
    let wrong = config_for(&protected.registry.host_port(), "wrong").to_string();
    let refused =
        pull(&protected, Some(wrong.as_bytes())).await?.expect_err("it was pulled with a wrong password");
    assert!(refused.contains("UNAUTHORIZED") || refused.contains("401"), "{refused}");
    Ok(())
}

fn bytes(secret: &Secret) -> Vec<u8> {
    let data = secret.data.as_ref().and_then(|data| data.get(".dockerconfigjson"));
    data.map(|bytes| bytes.0.clone()).unwrap_or_default()
}

/// Pulls the artifact with only that Docker configuration; returns its digest, or the client's error.
async fn pull(protected: &Protected, config: Option<&[u8]>) -> Result<Result<String, String>> {
    let tools = tools::ensure(&[Tool::Crane]).await?;
    let scratch = Scratch::new("pulled")?;
    if let Some(config) = config {
        scratch.write("config.json", config)?;
    }
    let authority = scratch.write("ca.crt", protected.ca.certificate_pem())?;
    let layout = scratch.path().join("layout");
    let artifact = format!("{}/{REPOSITORY}:{TAG}", protected.registry.host_port());
    let output = Command::new(tools.get(Tool::Crane))
        .args(["pull", "--format=oci", &artifact])
        .arg(&layout)
        .env_clear()
        .env("DOCKER_CONFIG", scratch.path())
        .env("HOME", scratch.path())
        .env("SSL_CERT_FILE", authority)
        .kill_on_drop(true)
        .output()
        .await?;
    if !output.status.success() {
        return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    whole(&layout).map(Ok)
}

/// The digest of the one artifact in a layout, whose content is all there.
fn whole(layout: &Path) -> Result<String> {
    let read = |path: &Path| -> Result<Value> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let index = read(&layout.join("index.json"))?;
    let digest = index["manifests"][0]["digest"].as_str().unwrap_or_default().to_owned();
    let manifest = read(&blob(&digest))?;
    let layer = manifest["layers"][0]["digest"].as_str().unwrap_or_default();
    let content = std::fs::read_to_string(blob(layer))?;
    ensure!(content == format!("{REPOSITORY}:{TAG}\n"), "it holds {content:?}");
    Ok(digest)
}
