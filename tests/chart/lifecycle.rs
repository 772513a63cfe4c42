//! Install, upgrade, rollback, uninstall and reinstall of the chart by helm on a real API server. No Pods run,
//! so nothing waits for them.

use anyhow::{Context as _, Result, ensure};
use registry_testbed::in_repository;
use serde_json::{Value, json};

use crate::programs::{CHART, NAMESPACE, TestCluster, text_of};

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
async fn upgrade_and_rollback_change_crds_and_values() -> Result<()> {
    let place = TestCluster::start().await?;
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
async fn uninstall_keeps_crds_and_registries() -> Result<()> {
    let place = TestCluster::start().await?;
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
async fn removes_crds_only_on_request() -> Result<()> {
    let place = TestCluster::start().await?;
    place.install("registry-operator", &["--set", "crds.keep=false"]).await?.ok()?;
    place.helm(&[&["uninstall", "registry-operator"], &IN_NAMESPACE[..]].concat()).await?.ok()?;
    let gone = ["wait", "--for=delete", CRD, "--timeout=2m"];
    place.kubectl(&gone, "").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn rejects_second_release() -> Result<()> {
    let place = TestCluster::start().await?;
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
async fn installs_without_crds() -> Result<()> {
    let place = TestCluster::start().await?;
    place.kubectl(&["apply", "--server-side", "--filename", "crds/"], "").await?.ok()?;
    place.install("registry-operator", &["--set", "crds.enabled=false"]).await?.ok()?;
    let owner = place.field(CRD, ".metadata.labels.app\\.kubernetes\\.io/managed-by").await?;
    assert_eq!(owner, "", "helm has not touched them");
    place.helm(&[&["uninstall", "registry-operator"], &IN_NAMESPACE[..]].concat()).await?.ok()?;
    assert!(place.field(CRD, ".metadata.name").await?.starts_with("systemregistries"));
    Ok(())
}

#[tokio::test]
async fn helm_takes_over_kubectl_installation() -> Result<()> {
    let place = TestCluster::start().await?;
    place.kubectl(&["apply", "--server-side", "--filename", "config/install.yaml"], "").await?.ok()?;
    place.install("registry-operator", &[]).await?.refused()?;
    let take_over = ["--take-ownership", "--force-conflicts"];
    place.install("registry-operator", &take_over).await?.ok()?;
    let owner = place.field(CRD, ".metadata.annotations.meta\\.helm\\.sh/release-name").await?;
    assert_eq!(owner, "registry-operator");
    Ok(())
}

#[tokio::test]
async fn other_release_takes_over_without_recreating() -> Result<()> {
    let place = TestCluster::start().await?;
    place.install("registry-operator", &[]).await?.ok()?;
    let uid = place.field("deployment/registry-operator", ".metadata.uid").await?;
    let take_over = ["upgrade", "--install", "platform", CHART, "--take-ownership", "--force-conflicts"];
    place.helm(&[&take_over[..], &IN_NAMESPACE].concat()).await?.ok()?;
    assert_eq!(place.field("deployment/registry-operator", ".metadata.uid").await?, uid);
    let owner = place.field(CRD, ".metadata.annotations.meta\\.helm\\.sh/release-name").await?;
    assert_eq!(owner, "platform");
    Ok(())
}

/// CRDs and Namespace that an upgrade no longer renders stay, as they do when Argo CD or Flux no longer finds them.
#[tokio::test]
async fn upgrade_keeps_crds_that_it_no_longer_renders() -> Result<()> {
    let place = TestCluster::start().await?;
    // Helm keeps its own notes in the namespace, which is there before.
    place.kubectl(&["create", "namespace", NAMESPACE], "").await?.ok()?;
    let created = ["--set", "namespace.create=true", "--take-ownership"];
    place.install("registry-operator", &created).await?.ok()?;
    place.serves_registries().await?;
    place.kubectl(&["apply", "--filename", "-"], REGISTRY).await?.ok()?;
    let fewer = ["upgrade", "registry-operator", CHART, "--set", "crds.enabled=false,namespace.create=false"];
    place.helm(&[&fewer[..], &IN_NAMESPACE].concat()).await?.ok()?;
    for kept in [CRD, "namespace/registry-system", "systemregistry/packs"] {
        let deleted = place.field(kept, ".metadata.deletionTimestamp").await.context(kept)?;
        assert_eq!(deleted, "", "{kept}");
    }
    place.helm(&[&["uninstall", "registry-operator"], &IN_NAMESPACE[..]].concat()).await?.ok()?;
    assert_eq!(place.field("systemregistry/packs", ".metadata.name").await?, "packs");
    Ok(())
}

// ---- A second version of the API, and back

/// A copy of the chart as a later release might be: with the version v1alpha2, which is stored or only served.
fn later_chart(version: &str, stored: &str) -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir()?;
    copy(&in_repository(CHART), directory.path())?;
    for file in ["systemregistries.yaml", "tenantregistries.yaml"] {
        let path = directory.path().join("files/crds").join(file);
        let mut crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
        let today = crd["spec"]["versions"][0].clone();
        let named = |name: &str| {
            let mut version = today.clone();
            version["name"] = json!(name);
            version["storage"] = json!(name == stored);
            version
        };
        crd["spec"]["versions"] = json!([named("v1alpha1"), named("v1alpha2")]);
        std::fs::write(path, serde_saphyr::to_string(&crd)?)?;
    }
    let chart = directory.path().join("Chart.yaml");
    let text = std::fs::read_to_string(&chart)?;
    std::fs::write(chart, text.replace(env!("CARGO_PKG_VERSION"), version))?;
    Ok(directory)
}

/// The commands of docs/operations.md by which objects get back into the older version.
fn rewritten_as_the_page_says() -> Result<String> {
    let page = text_of("docs/operations.md")?;
    let (_, block) = page
        .split_once("```sh notest: there is one version; tests/chart/lifecycle.rs runs it with a second\n")
        .context("the block")?;
    Ok(block.split_once("```").context("its end")?.0.to_owned())
}

#[tokio::test]
async fn rolls_back_one_and_two_releases() -> Result<()> {
    let place = TestCluster::start().await?;
    place.install("registry-operator", &[]).await?.ok()?;
    place.serves_registries().await?;
    place.kubectl(&["apply", "--filename", "-"], REGISTRY).await?.ok()?;
    for (version, stored) in [("0.98.0", "v1alpha1"), ("0.99.0", "v1alpha2")] {
        let chart = later_chart(version, stored)?;
        let path = chart.path().display().to_string();
        let upgrade = ["upgrade", "registry-operator", &path, "--set", "log.level=debug"];
        place.helm(&[&upgrade[..], &IN_NAMESPACE].concat()).await?.ok().context(version)?;
    }
    let stored = ".status.storedVersions[*]";
    assert_eq!(place.field(CRD, stored).await?, "v1alpha1 v1alpha2");

    let rollback =
        |revision: &'static str| ["rollback", "registry-operator", revision, "--namespace", NAMESPACE];
    let refusal = place.helm(&rollback("1")).await?.refused()?;
    ensure!(refusal.contains("storedVersions") && refusal.contains("v1alpha2"), "{refusal}");
    // Refused in the middle: the CRDs stay the newer ones, all else is the older release's.
    let arguments = ".spec.template.spec.containers[0].args";
    assert!(place.field("deployment/registry-operator", arguments).await?.contains("--log-level=info"));
    assert_eq!(place.field(CRD, ".spec.versions[*].name").await?, "v1alpha1 v1alpha2");

    place.helm(&rollback("2")).await?.ok().context("to the release that knows both versions")?;
    assert!(place.field("deployment/registry-operator", arguments).await?.contains("--log-level=debug"));
    place.shell(&rewritten_as_the_page_says()?).await?.ok()?;
    assert_eq!(place.field(CRD, stored).await?, "v1alpha1");
    place.helm(&rollback("1")).await?.ok().context("after the objects are rewritten")?;
    assert_eq!(place.field(CRD, ".spec.versions[*].name").await?, "v1alpha1");
    assert!(place.field("deployment/registry-operator", arguments).await?.contains("--log-level=info"));
    // kubectl remembers which versions there were, so the one is named that is left.
    let packs = "systemregistries.v1alpha1.registry.spectrocloud.com/packs";
    assert_eq!(place.field(packs, ".metadata.name").await?, "packs");
    Ok(())
}
