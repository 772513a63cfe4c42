//! Pods whose image is in a registry with a password: the kubelet pulls it by the Secret that the operator keeps in the tenant's
//! namespace, and not without.

use std::{fs, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, LogParams, PostParams},
};
use registry_testbed::{
    eventually,
    image::{self, Effort, Image, ImageLayer, LayerEntry},
    manifests,
    node::{self, Node},
    tools::Tool,
};
use serde_json::json;
use tokio::process::Command;

use crate::environment::{Environment, PASSWORD, USER};

const TENANT: &str = "team-a";
const ANOTHER_TENANT: &str = "team-b";
const REGISTRY: &str = "pods-images";
const PULL_SECRET: &str = "pods-images-pull";
const REPOSITORY: &str = "team/tool";

pub async fn pods_pull_by_the_operators_secret_and_not_without(
    client: &Client,
    node: &Node,
    scene: &Environment,
) -> Result<()> {
    let image = push(node, scene).await?;
    let host = scene.protected.host_port();
    node.pull_from(&host, scene.ca.certificate_pem())?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), TENANT);

    pods.create(&PostParams::default(), &pod("without", &image, None)?).await?;
    manifests::apply(client, vec![registry(&host, scene.ca.certificate_pem())?]).await?;
    is_refused(&pods, "without").await?;
    ensure!(!was_pulled(scene), "it was pulled without");

    is_delivered(client).await?;
    pods.create(&PostParams::default(), &pod("with", &image, Some(PULL_SECRET))?).await?;
    has_run(&pods, "with").await?;
    ensure!(was_pulled(scene), "it was not pulled from there");

    for name in ["with", "without"] {
        pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    }
    it_goes_with_its_registry(client, &host, scene).await
}

/// A small image that says its version. Nothing else on the node has its topmost layer.
async fn push(node: &Node, scene: &Environment) -> Result<String> {
    let mut tool = node::pause_image()?;
    tool.layers.push(ImageLayer {
        created_by: "what makes it another image".to_owned(),
        entries: vec![LayerEntry::file("tool", "a tenant's own")],
    });
    push_to_protected(node, scene, tool).await
}

async fn push_to_protected(node: &Node, scene: &Environment, tool: Image) -> Result<String> {
    let directory = node.directory().join("tool");
    let (layout, ca) = (directory.join("layout"), directory.join("ca.crt"));
    image::write(&layout, "1", &[tool], Effort::Least)?;
    let host = scene.protected.host_port();
    let login = json!({"auths": {&host: {"username": USER, "password": PASSWORD}}});
    fs::write(directory.join("config.json"), login.to_string())?;
    fs::write(&ca, scene.ca.certificate_pem())?;
    let name = format!("{host}/{REPOSITORY}:1");
    let mut crane = Command::new(node.tool(Tool::Crane));
    crane.arg("push").arg(&layout).arg(&name).env("DOCKER_CONFIG", &directory).env("SSL_CERT_FILE", &ca);
    let pushed = crane.stdin(Stdio::null()).output().await?;
    ensure!(pushed.status.success(), "crane push: {}", String::from_utf8_lossy(&pushed.stderr));
    Ok(name)
}

fn registry(host: &str, ca: &str) -> Result<kube::api::DynamicObject> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry", "metadata": {"name": REGISTRY},
        "spec": {
            "endpoint": format!("https://{host}"),
            "baseContentPath": "team",
            "auth": {"basic": {"secretRef": {"name": "packs-login"}}},
            "tls": {"ca": {"inline": ca}},
            "validation": {"repository": "tool"},
            "availability": {"tenants": [TENANT], "pullSecret": {"name": PULL_SECRET}},
        },
    }))?)
}

fn pod(name: &str, image: &str, pull_secret: Option<&str>) -> Result<Pod> {
    let secrets: Vec<_> = pull_secret.into_iter().map(|name| json!({"name": name})).collect();
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "imagePullSecrets": secrets,
            "containers": [{"name": "tool", "image": image, "args": ["-v"], "imagePullPolicy": "Always"}],
        },
    }))?)
}

/// Waits until the kubelet has been refused the image.
async fn is_refused(pods: &Api<Pod>, name: &str) -> Result<()> {
    let look = || async {
        let status = pods.get_status(name).await?.status.unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let waiting = containers.iter().find_map(|container| container.state.as_ref()?.waiting.as_ref());
        let print_step = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
        ensure!(
            print_step.contains("401 Unauthorized") || print_step.contains("authorization failed"),
            "{waiting:?}"
        );
        Ok(())
    };
    Ok(eventually(format!("{name} is refused its image"), look).await?)
}

async fn has_run(pods: &Api<Pod>, name: &str) -> Result<()> {
    let look = || async {
        let status = pods.get_status(name).await?.status.unwrap_or_default();
        ensure!(status.phase.as_deref() == Some("Succeeded"), "{:?}", status.container_statuses);
        Ok(())
    };
    eventually(format!("{name} has run"), look).await?;
    let printed = pods.logs(name, &LogParams::default()).await?;
    ensure!(printed.starts_with("pause.c"), "it printed {printed}");
    Ok(())
}

/// Whether the node has had a blob of the image from its registry.
fn was_pulled(scene: &Environment) -> bool {
    let blobs = format!("/v2/{REPOSITORY}/blobs/");
    scene.protected.requests().iter().any(|request| {
        request.user_agent.contains("containerd")
            && request.path.starts_with(&blobs)
            && request.method == "GET"
            && request.status == 200
    })
}

async fn is_delivered(client: &Client) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), TENANT);
    let look = || async { secrets.get_opt(PULL_SECRET).await?.context("it is not there").map(drop) };
    eventually("the pull Secret is there", look).await?;
    let elsewhere: Api<Secret> = Api::namespaced(client.clone(), ANOTHER_TENANT);
    ensure!(elsewhere.get_opt(PULL_SECRET).await?.is_none(), "{ANOTHER_TENANT} has it too");
    Ok(())
}

async fn it_goes_with_its_registry(client: &Client, host: &str, scene: &Environment) -> Result<()> {
    let registry = registry(host, scene.ca.certificate_pem())?;
    manifests::api_of(client, &registry).await?.delete(REGISTRY, &DeleteParams::default()).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), TENANT);
    let look = || async {
        let there = secrets.get_opt(PULL_SECRET).await?;
        ensure!(there.is_none(), "it is still there");
        Ok(())
    };
    Ok(eventually("the pull Secret is gone", look).await?)
}
