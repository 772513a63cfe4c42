//! Memory: what one tenant can make the operator store is bounded, also at start.

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use registry_api::{REQUESTED_AT, TenantRegistry};
use registry_testbed::{Operator, TestCa, in_repository, manifests::FIELD_MANAGER};
use serde_json::{Value, json};

use crate::{
    exclusive_cluster,
    fixtures::{Declared, TestScope, VALIDATED, Verdict, anonymous, protected, spec as signed_in_to, tell},
    harness::{self, Cluster},
};

/// The API server takes annotations of 256 KiB in all.
const LONG_ANNOTATION: usize = 250 * 1024;
const LONG_CA: usize = 100_000;
const REGISTRIES: usize = 450;
const REFERENCED: usize = 40;
/// Requests that are under way at once.
const WRITERS: usize = 8;

/// The chart's limit, in bytes.
fn limit() -> Result<u64> {
    let values: Value = serde_saphyr::from_str(&std::fs::read_to_string(in_repository(
        "charts/registry-operator/values.yaml",
    ))?)?;
    let limit = values["resources"]["limits"]["memory"].as_str().context("no limit")?;
    let mebibytes: u64 = limit.strip_suffix("Mi").context("not in Mi")?.parse()?;
    Ok(mebibytes << 20)
}

/// The most that a process ever had resident, in bytes.
async fn peak(operator: &Operator) -> Result<u64> {
    let id = operator.id().await.context("the operator is not running")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kibibytes: u64 = line.split_whitespace().next().context("no figure")?.parse()?;
    Ok(kibibytes << 10)
}

async fn write_the_worst(cluster: &Cluster, namespace: &str) -> Result<()> {
    let note = "x".repeat(LONG_ANNOTATION);
    let pem = TestCa::new("long")?.certificate_pem().to_owned();
    let authority = pem.repeat(LONG_CA / pem.len());
    let registries: Api<TenantRegistry> = Api::namespaced(cluster.client(), namespace);
    let suspended = |number: usize| {
        let object = json!({
            "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
            "metadata": {"name": format!("worst-{number}"), "annotations": {"example.com/note": note}},
            "spec": {
                "endpoint": "https://registry.example.com", "suspend": true,
                "tls": {"ca": {"inline": authority}},
            },
        });
        let registries = registries.clone();
        async move {
            let object = serde_json::from_value(object)?;
            registries.create(&PostParams::default(), &object).await?;
            anyhow::Ok(())
        }
    };
    stream::iter(0..REGISTRIES).map(suspended).buffer_unordered(WRITERS).try_collect::<Vec<()>>().await?;

    let secrets: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for number in 0..REFERENCED {
        let name = format!("long-{number}");
        let object = |kind| {
            json!({
                "apiVersion": "v1", "kind": kind, "metadata": {"name": name, "annotations": {"example.com/note": note}},
            })
        };
        secrets.patch(&name, &params, &Patch::Apply(&object("Secret"))).await?;
        maps.patch(&name, &params, &Patch::Apply(&object("ConfigMap"))).await?;
    }
    Ok(())
}

#[tokio::test]
async fn worst_tenant_stays_below_memory_limit() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let scene = TestScope::tenant(&solo.cluster).await?;
    let operator = Operator::start(solo.alone().await?).await?;
    write_the_worst(&solo.cluster, scene.namespace()).await?;
    // These have the Secrets and the ConfigMaps of the namespace listed.
    let endpoint = "https://registry.example.com";
    let secret = json!({"endpoint": endpoint, "auth": {"basic": {"secretRef": {"name": "missing"}}}});
    let map = json!({"endpoint": endpoint, "tls": {"ca": {"configMapRef": {"name": "missing"}}}});
    let names = [("secret", secret, "SecretNotFound"), ("map", map, "ConfigMapNotFound")];
    let mut objects = Vec::new();
    for (name, spec, reason) in names {
        let object = scene.declare(name, spec).await?;
        object.becomes(&[&format!("ResolvedRefs=False/{reason}")]).await?;
        objects.push(object);
    }
    let before = peak(&operator).await?;
    drop(operator);
    let operator = Operator::start(solo.alone().await?).await?;
    for object in &objects {
        object.request("after the restart").await?;
        object.has_handled("after the restart").await?;
    }
    let after = peak(&operator).await?;
    let limit = limit()?;
    tell(&format!(
        "peaks of {} MiB before a restart and {} MiB after it, of {} MiB",
        before >> 20,
        after >> 20,
        limit >> 20
    ));
    ensure!(before.max(after) < limit, "peaks of {} and {} MiB", before >> 20, after >> 20);
    Ok(())
}

#[tokio::test]
async fn rejects_long_request_annotation() -> Result<()> {
    let cluster = harness::cluster().await?;
    let registry = json!({"endpoint": "https://registry.example.com", "suspend": true});
    for scene in TestScope::both(&cluster).await? {
        let object = scene.declare("packs", registry.clone()).await?;
        object.request(&"x".repeat(253)).await?;
        let refused = object.request(&"x".repeat(254)).await.err().context("254 characters were taken")?;
        ensure!(refused.to_string().contains("at most 253 characters"), "{refused}");
        object.change(json!({"metadata": {"annotations": {REQUESTED_AT: null}}})).await?;
    }
    Ok(())
}

#[tokio::test]
async fn reports_registries_beyond_tenant_quota() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let (cluster, registry) = (&solo.cluster, anonymous().await?);
    let scene = TestScope::tenant(cluster).await?;
    let _operator = Operator::start(solo.alone().await?.arg("--tenant-max-registries=2")).await?;
    let spec = json!({"endpoint": registry.url()});
    let first = scene.declare("a-first", spec.clone()).await?;
    first.becomes(&["Ready=True/Available"]).await?;
    // Of those of one second the first by name is the older.
    scene.declare("b-second", spec.clone()).await?.becomes(&["Ready=True/Available"]).await?;
    let third = scene.declare("c-third", spec).await?;
    let view = third.becomes(&["ResolvedRefs=False/NotPermitted", "Ready=False/NotPermitted"]).await?;
    ensure!(
        view.message("ResolvedRefs").contains("more than 2 TenantRegistries"),
        "{}",
        view.message("ResolvedRefs")
    );
    if let Declared::Tenant(subject) = &first {
        subject.api().delete(first.name(), &DeleteParams::default()).await?;
    }
    third.becomes(&["Ready=True/Available"]).await?;
    Ok(())
}

#[tokio::test]
async fn uses_long_ca_bundle_without_caching_it() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (ca, other) = (TestCa::new("private authority")?, TestCa::new("another authority")?);
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let mut spec = signed_in_to(&registry, &ca, &login);
        let long = other.certificate_pem().repeat(40);
        spec["tls"]["ca"] = json!({"inline": format!("{long}{}", ca.certificate_pem())});
        let object = scene.declare("packs", spec.clone()).await?;
        object.shows(&VALIDATED).await?;
        spec["tls"]["ca"] = json!({"inline": long});
        object.apply(&spec).await?;
        object.shows(&Verdict::untrusted("False/UnknownIssuer")).await?;
    }
    Ok(())
}
