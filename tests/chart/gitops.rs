//! The examples for Flux, Argo CD and kustomize: they build, they are read by the tools' own types, and they bring the
//! operator before the registries.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use kube::api::DynamicObject;
use registry_testbed::{in_repository, manifests, tools::Tool};
use serde_json::{Value, json};

use crate::programs::{TestCluster, run, template, text_of};

const FLUX: [&str; 2] = ["config/gitops/flux/operator.yaml", "config/gitops/flux/cluster.yaml"];
const ARGO: [&str; 2] = ["config/gitops/argocd/applications.yaml", "config/gitops/argocd/argocd-cm.yaml"];

async fn build(directory: &str) -> Result<Vec<DynamicObject>> {
    let home = tempfile::tempdir()?;
    let text = run(Tool::Kubectl, &["kustomize", directory], &[("HOME", home.path())], "").await?.ok()?;
    Ok(manifests::parse(directory, &text)?)
}

fn names(objects: &[DynamicObject]) -> BTreeSet<(String, String)> {
    let name = |object: &DynamicObject| {
        (manifests::kind(object).to_owned(), object.metadata.name.clone().unwrap_or_default())
    };
    objects.iter().map(name).collect()
}

#[tokio::test]
async fn base_is_the_manifest_and_overlay_changes_it() -> Result<()> {
    assert_eq!(text_of("config/gitops/base/install.yaml")?, text_of("config/install.yaml")?);
    let (base, production) = (build("config/gitops/base").await?, build("config/gitops/production").await?);
    assert_eq!(names(&base), names(&production));
    let deployment =
        production.iter().find(|object| manifests::kind(object) == "Deployment").context("a Deployment")?;
    let container = &deployment.data["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["image"],
        format!("registry.example.com/registry-operator:{}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(container["resources"]["limits"]["memory"], "512Mi");
    let arguments = container["args"].as_array().context("arguments")?;
    assert!(
        arguments.contains(&Value::from("--egress-deny=10.0.0.0/8")) && arguments.len() > 3,
        "{arguments:?}"
    );
    Ok(())
}

#[tokio::test]
async fn kubectl_applies_gitops_example_in_order() -> Result<()> {
    let place = TestCluster::start().await?;
    for directory in ["config/gitops/base", "config/gitops/production"] {
        place
            .kubectl(&["apply", "--server-side", "--kustomize", directory], "")
            .await?
            .ok()
            .context(directory)?;
    }
    place.serves_registries().await?;
    place.kubectl(&["apply", "--server-side", "--kustomize", "config/gitops/registries"], "").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn flux_and_argo_cd_accept_the_examples() -> Result<()> {
    let files = |files: [&str; 2]| files.map(|file| in_repository(file).display().to_string());
    let [operator, cluster] = files(FLUX);
    let read = run(Tool::FluxHealth, &["check", &operator, &cluster], &[], "").await?.ok()?;
    assert_eq!(
        read.lines().collect::<Vec<_>>(),
        ["OCIRepository", "HelmRelease", "GitRepository", "Kustomization", "Kustomization"]
    );
    let [applications, config] = files(ARGO);
    let read = run(Tool::ArgoHealth, &["check", &applications, &config], &[], "").await?.ok()?;
    assert_eq!(read.lines().collect::<Vec<_>>(), ["Application", "Application", "ConfigMap"]);
    Ok(())
}

#[tokio::test]
async fn detects_misspelt_field_in_example() -> Result<()> {
    let desk = tempfile::tempdir()?;
    for (tool, file, right, wrong) in [
        (Tool::FluxHealth, FLUX[1], "dependsOn:", "dependson_:"),
        (Tool::ArgoHealth, ARGO[0], "syncOptions:", "syncOption:"),
    ] {
        let path = desk.path().join("wrong.yaml");
        std::fs::write(&path, text_of(file)?.replacen(right, wrong, 1))?;
        let complaint = run(tool, &["check", &path.display().to_string()], &[], "").await?.refused()?;
        assert!(complaint.contains("unknown field"), "{complaint}");
    }
    Ok(())
}

#[test]
fn examples_install_operator_before_registries() -> Result<()> {
    let flux = manifests::parse(FLUX[1], &text_of(FLUX[1])?)?;
    let registries = flux
        .iter()
        .find(|object| object.metadata.name.as_deref() == Some("registries"))
        .context("registries")?;
    assert_eq!(registries.data["spec"]["dependsOn"][0]["name"], "registry-operator");
    for object in flux.iter().filter(|object| manifests::kind(object) == "Kustomization") {
        assert_eq!(object.data["spec"]["wait"], true);
    }
    let argo = manifests::parse(ARGO[0], &text_of(ARGO[0])?)?;
    let waves: Vec<i32> = argo
        .iter()
        .map(|object| {
            Ok(object.metadata.annotations.as_ref().context("a wave")?["argocd.argoproj.io/sync-wave"]
                .parse()?)
        })
        .collect::<Result<_>>()?;
    assert!(waves.windows(2).all(|pair| pair[0] < pair[1]), "{waves:?}");
    Ok(())
}

#[test]
fn examples_use_the_current_chart_version() -> Result<()> {
    let version: Vec<&str> = env!("CARGO_PKG_VERSION").split('.').collect();
    let (minor_x, minor_any) = (
        format!("semver: {}.{}.x", version[0], version[1]),
        format!("targetRevision: {}.{}.*", version[0], version[1]),
    );
    assert!(text_of(FLUX[0])?.contains(&minor_x));
    assert!(text_of(ARGO[0])?.contains(&minor_any));
    Ok(())
}

/// The Deployment and the JSON pointers that an example tells its tool to ignore.
fn ignored(object: &DynamicObject) -> Vec<(Value, Vec<String>)> {
    let flux = object.data["spec"]["driftDetection"]["ignore"].as_array().into_iter().flatten();
    let flux = flux.map(|rule| (rule["target"].clone(), rule["paths"].clone()));
    let argo = object.data["spec"]["ignoreDifferences"].as_array().into_iter().flatten();
    let argo = argo.map(|rule| (rule.clone(), rule["jsonPointers"].clone()));
    let pointers = |list: Value| {
        let list = list.as_array().cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    flux.chain(argo).map(|(target, list)| (target, pointers(list))).collect()
}

/// What GKE Autopilot does to a Deployment at admission.
fn rewritten_by_autopilot(deployment: &DynamicObject) -> Result<Value> {
    let mut object = serde_json::to_value(deployment)?;
    let pod = &mut object["spec"]["template"]["spec"];
    let resources = json!({"cpu": "500m", "memory": "2Gi", "ephemeral-storage": "1Gi"});
    pod["containers"][0]["resources"] = json!({"limits": resources, "requests": resources});
    pod["tolerations"] =
        json!([{"effect": "NoSchedule", "key": "kubernetes.io/arch", "operator": "Equal", "value": "amd64"}]);
    let annotations = json!({"autopilot.gke.io/resource-adjustment": "{}"});
    object["metadata"]["annotations"] = annotations;
    Ok(object)
}

fn without(mut object: Value, pointers: &[String]) -> Value {
    for pointer in pointers {
        let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
        let key = key.replace("~1", "/").replace("~0", "~");
        if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.remove(&key);
        }
    }
    if object["metadata"]["annotations"].as_object().is_some_and(serde_json::Map::is_empty) {
        object["metadata"]["annotations"] = Value::Null;
    }
    object
}

#[tokio::test]
async fn examples_ignore_only_autopilot_changes() -> Result<()> {
    let render = manifests::parse("the render", &template(&[]).await?.ok()?)?;
    let deployment =
        render.iter().find(|object| manifests::kind(object) == "Deployment").context("a Deployment")?;
    for file in [FLUX[0], ARGO[0]] {
        let objects = manifests::parse(file, &text_of(file)?)?;
        let rules: Vec<_> = objects.iter().flat_map(ignored).collect();
        let [(target, pointers)] = &rules[..] else { anyhow::bail!("{file}: {rules:?}") };
        assert_eq!((&target["kind"], &target["name"]), (&json!("Deployment"), &json!("registry-operator")));
        let rewritten = rewritten_by_autopilot(deployment)?;
        let mut rendered = serde_json::to_value(deployment)?;
        assert_ne!(rewritten, rendered);
        rendered["metadata"]["annotations"] = Value::Null;
        assert_eq!(without(rewritten, pointers), without(rendered, pointers), "{file}");
    }
    Ok(())
}
