//! Installed, upgraded, rolled back, removed, installed again: what helm does with the chart on a real API server. No Pods run,
//! so nothing waits for them.

use anyhow::{Context as _, Result};

use crate::programs::{CHART, NAMESPACE, Place, in_repository};

const IN_NAMESPACE: [&str; 2] = ["--namespace", NAMESPACE];
const CRD: &str = "crd/systemregistries.registry.spectrocloud.com";
const REGISTRY: &str = "apiVersion: registry.spectrocloud.com/v1alpha1\nkind: SystemRegistry\nmetadata: {name: packs}\n\
                        spec: {endpoint: \"https://registry.example.com\"}\n";

/// A copy of the chart in which a CRD lacks a column and has another label: as an older release might be.
fn older_chart() -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir()?;
    copy(&in_repository(CHART), directory.path())?;
    let path = directory.path().join("files/crds/systemregistries.yaml");
    let text = std::fs::read_to_string(&path)?;
    let without = text.replacen(
        "    - jsonPath: .metadata.creationTimestamp\n      name: Age\n      type: date\n",
        "",
        1,
    );
    assert_ne!(text, without);
    std::fs::write(path, without)?;
    let chart = directory.path().join("Chart.yaml");
    let text = std::fs::read_to_string(&chart)?;
    std::fs::write(chart, text.replace(env!("CARGO_PKG_VERSION"), "0.0.1"))?;
    Ok(directory)
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_brings_the_new_crds_and_values_and_a_rollback_takes_the_values_back() -> Result<()> {
    let place = Place::start().await?;
    let older = older_chart()?;
    let chart = older.path().display().to_string();
    let install = ["install", "registry-operator", &chart, "--namespace", NAMESPACE, "--create-namespace"];
    place.helm(&install).await?.ok()?;
    place.serves_registries().await?;
    let columns = ".spec.versions[0].additionalPrinterColumns[*].name";
    assert!(!place.field(CRD, columns).await?.contains("Age"));
    place
        .kubectl(&["apply", "--filename", "-"], REGISTRY)
        .await?
        .ok()
        .context("a registry under the older CRD")?;

    let upgrade = ["upgrade", "registry-operator", CHART, "--set", "replicas=3", "--set", "log.level=debug"];
    place.helm(&[&upgrade[..], &IN_NAMESPACE].concat()).await?.ok()?;
    assert!(place.field(CRD, columns).await?.contains("Age"), "the CRD is upgraded with the chart");
    assert_eq!(place.field("deployment/registry-operator", ".spec.replicas").await?, "3");
    let arguments = ".spec.template.spec.containers[0].args";
    assert!(place.field("deployment/registry-operator", arguments).await?.contains("--log-level=debug"));
    let endpoint = place.field("systemregistry/packs", ".spec.endpoint").await?;
    assert_eq!(endpoint, "https://registry.example.com", "registries outlive an upgrade");

    place.helm(&[&["rollback", "registry-operator", "1"], &IN_NAMESPACE[..]].concat()).await?.ok()?;
    assert_eq!(place.field("deployment/registry-operator", ".spec.replicas").await?, "2");
    assert!(place.field("deployment/registry-operator", arguments).await?.contains("--log-level=info"));
    let history = place.helm(&[&["history", "registry-operator"], &IN_NAMESPACE[..]].concat()).await?.ok()?;
    assert_eq!(history.matches("superseded").count(), 2, "{history}");
    Ok(())
}

#[tokio::test]
async fn the_crds_and_every_registry_stay_when_the_chart_is_uninstalled() -> Result<()> {
    let place = Place::start().await?;
    place.install("registry-operator", &[]).await?.ok()?;
    place.serves_registries().await?;
    place.kubectl(&["apply", "--filename", "-"], REGISTRY).await?.ok()?;
    let said = place.helm(&[&["uninstall", "registry-operator"], &IN_NAMESPACE[..]].concat()).await?.ok()?;
    assert!(said.contains("systemregistries.registry.spectrocloud.com"), "it says what it keeps: {said}");
    assert_eq!(place.field("systemregistry/packs", ".metadata.name").await?, "packs");
    place.kubectl(&["get", "deployment/registry-operator", "--namespace", NAMESPACE], "").await?.refused()?;
    let roles =
        place.kubectl(&["get", "clusterroles,clusterrolebindings", "--output", "name"], "").await?.ok()?;
    assert!(!roles.contains("registry-"), "{roles}");

    // The same release takes them up again; another has to say that it means to.
    place.install("registry-operator", &[]).await?.ok().context("again under the same name")?;
    place.helm(&[&["uninstall", "registry-operator"], &IN_NAMESPACE[..]].concat()).await?.ok()?;
    let refusal = place.install("registries", &[]).await?.refused()?;
    assert!(refusal.contains("invalid ownership metadata"), "{refusal}");
    place.install("registries", &["--take-ownership"]).await?.ok().context("under another name")?;
    assert_eq!(place.field("systemregistry/packs", ".metadata.name").await?, "packs");
    Ok(())
}

#[tokio::test]
async fn crds_are_removed_only_by_who_says_so() -> Result<()> {
    let place = Place::start().await?;
    place.install("registry-operator", &["--set", "crds.keep=false"]).await?.ok()?;
    place.helm(&[&["uninstall", "registry-operator"], &IN_NAMESPACE[..]].concat()).await?.ok()?;
    let gone = ["wait", "--for=delete", CRD, "--timeout=2m"];
    place.kubectl(&gone, "").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn a_second_release_is_refused_and_leaves_the_first_as_it_is() -> Result<()> {
    let place = Place::start().await?;
    place.install("registry-operator", &["--set", "replicas=4"]).await?.ok()?;
    let before = place.field("deployment/registry-operator", ".metadata.resourceVersion").await?;
    for namespace in [NAMESPACE, "elsewhere"] {
        let second = ["install", "second", CHART, "--namespace", namespace, "--create-namespace"];
        let refusal = place.helm(&second).await?.refused()?;
        assert!(refusal.contains("meta.helm.sh/release-name"), "{refusal}");
    }
    assert_eq!(place.field("deployment/registry-operator", ".metadata.resourceVersion").await?, before);
    assert_eq!(place.field("deployment/registry-operator", ".spec.replicas").await?, "4");
    Ok(())
}

#[tokio::test]
async fn who_brings_the_crds_otherwise_installs_without_them() -> Result<()> {
    let place = Place::start().await?;
    place.kubectl(&["apply", "--server-side", "--filename", "crds/"], "").await?.ok()?;
    place.install("registry-operator", &["--set", "crds.enabled=false"]).await?.ok()?;
    let owner = place.field(CRD, ".metadata.labels.app\\.kubernetes\\.io/managed-by").await?;
    assert_eq!(owner, "", "helm has not touched them");
    place.helm(&[&["uninstall", "registry-operator"], &IN_NAMESPACE[..]].concat()).await?.ok()?;
    assert!(place.field(CRD, ".metadata.name").await?.starts_with("systemregistries"));
    Ok(())
}

#[tokio::test]
async fn what_kubectl_installed_is_taken_over_by_helm_when_it_is_told_to() -> Result<()> {
    let place = Place::start().await?;
    place.kubectl(&["apply", "--server-side", "--filename", "config/install.yaml"], "").await?.ok()?;
    place.install("registry-operator", &[]).await?.refused()?;
    let take_over = ["--take-ownership", "--force-conflicts"];
    place.install("registry-operator", &take_over).await?.ok()?;
    let owner = place.field(CRD, ".metadata.annotations.meta\\.helm\\.sh/release-name").await?;
    assert_eq!(owner, "registry-operator");
    Ok(())
}
