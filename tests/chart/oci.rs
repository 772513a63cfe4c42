//! The chart in an OCI registry: packaged, pushed, pulled and installed from there.

use anyhow::{Context as _, Result};
use registry_testbed::{RegistryOptions, TestRegistry, tools::Tool};

use crate::programs::{CHART, NAMESPACE, TestCluster, run};

#[tokio::test]
async fn installs_chart_from_oci_registry() -> Result<()> {
    let registry = TestRegistry::start(RegistryOptions::default()).await?;
    let desk = tempfile::tempdir()?;
    let (home, out) = ([("HOME", desk.path())], desk.path().display().to_string());
    run(Tool::Helm, &["package", CHART, "--destination", &out], &home, "").await?.ok()?;
    let package = std::fs::read_dir(desk.path())?.filter_map(Result::ok).map(|entry| entry.path());
    let package = package.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "tgz"));
    let package = package.context("a package")?.display().to_string();
    let (charts, plain) = (format!("oci://{}/charts", registry.host_port()), "--plain-http");
    let pushed = run(Tool::Helm, &["push", &package, &charts, plain], &home, "").await?;
    let said = format!("{}{}", pushed.err.clone(), pushed.ok()?);
    assert!(said.contains("Digest: sha256:"), "{said}");

    let (chart, version) = (format!("{charts}/registry-operator"), env!("CARGO_PKG_VERSION"));
    let show = ["show", "readme", &chart, "--version", version, plain];
    assert!(run(Tool::Helm, &show, &home, "").await?.ok()?.contains("## Values"));

    let place = TestCluster::start().await?;
    let install = [
        "install",
        "registry-operator",
        &chart,
        "--version",
        version,
        plain,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
    ];
    place.helm(&install).await?.ok()?;
    let image =
        place.field("deployment/registry-operator", ".spec.template.spec.containers[0].image").await?;
    assert_eq!(image, format!("registry-operator:{version}"));
    let notes = place.helm(&["get", "notes", "registry-operator", "--namespace", NAMESPACE]).await?.ok()?;
    assert!(notes.contains("helm test registry-operator"), "{notes}");
    Ok(())
}

#[tokio::test]
async fn chart_package_holds_expected_files() -> Result<()> {
    let desk = tempfile::tempdir()?;
    let (home, out) = ([("HOME", desk.path())], desk.path().display().to_string());
    run(Tool::Helm, &["package", CHART, "--destination", &out], &home, "").await?.ok()?;
    let package = desk.path().join(format!("registry-operator-{}.tgz", env!("CARGO_PKG_VERSION")));
    let listing = std::process::Command::new("tar").arg("tzf").arg(package).output()?;
    let listing = String::from_utf8(listing.stdout)?;
    for needed in ["values.schema.json", "README.md", "files/crds/systemregistries.yaml", "files/alerts.yaml"]
    {
        assert!(listing.contains(&format!("registry-operator/{needed}")), "{needed}: {listing}");
    }
    assert!(!listing.contains("/ci/"), "{listing}");
    Ok(())
}
