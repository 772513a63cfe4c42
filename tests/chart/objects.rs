//! The rendered chart is accepted by the API server and its Pod Security admission.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api,
    api::{DynamicObject, PostParams},
};
use registry_operator::{
    controller::rejection_store,
    kubernetes::{guard, lease},
    tenancy::{access, cluster_addresses},
};
use registry_testbed::{
    in_repository,
    manifests::{self, Placeholders},
};
use serde_json::{Value, json};

use crate::programs::{CHART, NAMESPACE, TestCluster, template, text_of};

fn find<'a>(objects: &'a [DynamicObject], kind: &str) -> Result<&'a DynamicObject> {
    objects
        .iter()
        .find(|object| manifests::kind(object) == kind)
        .with_context(|| format!("no {kind} is rendered"))
}

#[tokio::test]
async fn api_server_accepts_rendered_objects() -> Result<()> {
    let place = TestCluster::start().await?;
    // A dry run leaves nothing behind for the next object to refer to.
    for there in
        ["namespace/registry-system", "serviceaccount/registry-operator", "serviceaccount/registry-console"]
    {
        let (kind, name) = there.split_once('/').context("kind and name")?;
        place.kubectl(&["create", kind, name, "--namespace", NAMESPACE], "").await?.ok()?;
    }
    for values in ["values.yaml", "ci/all-values.yaml", "ci/minimal-values.yaml"] {
        let path = format!("{CHART}/{values}");
        let render = template(&["--values", &path]).await?.ok()?;
        // The Prometheus Operator's own kinds are not served here.
        let ours: Vec<&str> = render
            .split("\n---")
            .filter(|document| !document.contains("\napiVersion: monitoring.coreos.com"))
            .collect();
        let apply = [
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "--force-conflicts",
            "--filename",
            "-",
        ];
        place.kubectl(&apply, &ours.join("\n---")).await?.ok().context(path)?;
    }
    Ok(())
}

#[tokio::test]
async fn pods_satisfy_restricted_pod_security() -> Result<()> {
    let place = TestCluster::start().await?;
    let client = place.control_plane.client().await?;
    let console = "console.enabled=true,console.publicURL=https://r.example.com,console.tls.secretName=tls";
    let render = template(&["--set", "namespace.create=true", "--set", console]).await?.ok()?;
    let objects = manifests::parse("the chart's render", &render)?;
    let accounts = objects.iter().filter(|object| manifests::kind(object) == "ServiceAccount").cloned();
    let needed = std::iter::once(find(&objects, "Namespace")?.clone()).chain(accounts).collect();
    manifests::apply(&client, needed).await?;
    let namespace = Api::<Namespace>::all(client.clone()).get(NAMESPACE).await?;
    let enforced = &namespace.metadata.labels.context("labels")?["pod-security.kubernetes.io/enforce"];
    assert_eq!(enforced, "restricted");

    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let template = &named(&objects, "Deployment", "registry-operator")?.data["spec"]["template"];
    let dry_run = PostParams { dry_run: true, ..Default::default() };
    pods.create(&dry_run, &pod(&template["spec"])?).await?;
    let console = &named(&objects, "Deployment", "registry-console")?.data["spec"]["template"];
    pods.create(&dry_run, &pod(&console["spec"])?).await?;
    pods.create(&dry_run, &pod(&find(&objects, "Pod")?.data["spec"])?).await?;

    // The admission plugin is active.
    let mut careless = template["spec"].clone();
    careless["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refusal = pods.create(&dry_run, &pod(&careless)?).await.unwrap_err().to_string();
    assert!(refusal.contains("allowPrivilegeEscalation"), "{refusal}");
    Ok(())
}

fn pod(spec: &Value) -> Result<Pod> {
    Ok(serde_json::from_value(json!({"metadata": {"name": "judged"}, "spec": spec}))?)
}

#[tokio::test]
async fn renders_monitoring_only_if_enabled() -> Result<()> {
    let plain = template(&[]).await?.ok()?;
    for kind in ["ServiceMonitor", "PodMonitor", "PrometheusRule", "NetworkPolicy"] {
        assert!(!plain.contains(&format!("\nkind: {kind}\n")), "{kind}");
    }
    let all = text_of("tests/chart/golden/all.yaml")?;
    // The console has a ServiceMonitor and a NetworkPolicy too.
    for (kind, count) in
        [("ServiceMonitor", 2), ("PrometheusRule", 1), ("NetworkPolicy", 2), ("PodDisruptionBudget", 1)]
    {
        assert_eq!(all.matches(&format!("\nkind: {kind}\n")).count(), count, "{kind}");
    }
    assert!(!all.contains("kind: CustomResourceDefinition"), "crds.enabled is false there");
    Ok(())
}

#[tokio::test]
async fn digest_pins_image_and_labels_spare_selectors() -> Result<()> {
    let digest = format!("image.digest=sha256:{}", "0".repeat(64));
    let arguments = [
        "--set",
        &*digest,
        "--set",
        "commonLabels.app\\.kubernetes\\.io/name=other",
        "--set",
        "podLabels.tier=control",
        "--set",
        "commonLabels.tier=all",
    ];
    let objects = manifests::parse("the render", &template(&arguments).await?.ok()?)?;
    let deployment = find(&objects, "Deployment")?;
    let pod = &deployment.data["spec"]["template"];
    let image = pod["spec"]["containers"][0]["image"].as_str().context("an image")?;
    assert!(image.ends_with(&format!("@sha256:{}", "0".repeat(64))), "{image}");
    let selector = deployment.data["spec"]["selector"]["matchLabels"].as_object().context("a selector")?;
    for (label, value) in selector {
        assert_eq!(&pod["metadata"]["labels"][label], value);
    }
    assert_eq!(pod["metadata"]["labels"]["tier"], "control", "the Pods' own label wins");
    assert_eq!(deployment.metadata.labels.as_ref().context("labels")?["tier"], "all");
    Ok(())
}

#[tokio::test]
async fn install_manifest_matches_the_chart() -> Result<()> {
    let manifest = manifests::read_file(&in_repository("config/install.yaml"), &Placeholders::default())?;
    let render = template(&["--set", "namespace.create=true", "--skip-tests"]).await?.ok()?;
    let name = |object: &DynamicObject| (manifests::kind(object).to_owned(), object.metadata.name.clone());
    let rendered: BTreeSet<_> = manifests::parse("the render", &render)?.iter().map(name).collect();
    assert_eq!(manifest.iter().map(name).collect::<BTreeSet<_>>(), rendered);
    assert!(find(&manifest, "Pod").is_err(), "the Pod of helm test must not be applied by kubectl");
    Ok(())
}

/// The cluster roles of the contract, and the one that the operator binds itself to.
const CLUSTER_ROLES: [&str; 6] = [
    "registry-operator",
    access::TENANT_ROLE,
    "registry-system-admin",
    "registry-system-view",
    "registry-tenant-admin",
    "registry-tenant-view",
];

fn texts(list: &Value) -> impl Iterator<Item = String> + '_ {
    list.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned()))
}

#[tokio::test]
async fn cluster_roles_are_guarded_and_named_as_used() -> Result<()> {
    let objects = manifests::parse("the chart's render", &template(&[]).await?.ok()?)?;
    let roles = objects.iter().filter(|object| manifests::kind(object) == "ClusterRole");
    let roles: BTreeSet<_> = roles.filter_map(|role| role.metadata.name.clone()).collect();
    assert_eq!(roles, CLUSTER_ROLES.map(str::to_owned).into());
    let policy = named(&objects, "ValidatingAdmissionPolicy", "installation.registry.spectrocloud.com")?;
    let condition =
        policy.data["spec"]["matchConditions"][0]["expression"].as_str().context("a condition")?;
    let (_, guarded) = condition.split_once(".metadata.name in [").context("the list of roles")?;
    let (guarded, _) = guarded.split_once(']').context("the end of the list")?;
    let guarded: BTreeSet<_> =
        guarded.split(',').map(|name| name.trim().trim_matches('\'').to_owned()).collect();
    assert_eq!(guarded, roles);
    Ok(())
}

#[tokio::test]
async fn roles_grant_the_names_that_are_used() -> Result<()> {
    let objects = manifests::parse("the chart's render", &template(&[]).await?.ok()?)?;
    let mut granted = BTreeSet::new();
    for (kind, role) in [("ClusterRole", "registry-operator"), ("Role", "registry-operator-system")] {
        for rule in named(&objects, kind, role)?.data["rules"].as_array().context("rules")? {
            let names = || texts(&rule["resourceNames"]);
            granted
                .extend(texts(&rule["resources"]).flat_map(|of| names().map(move |name| (of.clone(), name))));
        }
    }
    // The policies are compared where the operator has their names.
    granted.retain(|(resource, _)| !resource.starts_with("validatingadmissionpolic"));
    let used = [
        ("clusterroles", access::TENANT_ROLE),
        ("endpointslices", "kubernetes"),
        ("leases", lease::LEASE),
        ("rolebindings", access::BINDING),
        ("secrets", rejection_store::NAME),
        ("services", cluster_addresses::SERVICE_RANGE),
        ("systemregistries", guard::CANARY),
    ];
    assert_eq!(granted, used.map(|(resource, name)| (resource.to_owned(), name.to_owned())).into());
    Ok(())
}

fn named<'a>(objects: &'a [DynamicObject], kind: &str, name: &str) -> Result<&'a DynamicObject> {
    let is = |object: &&DynamicObject| {
        manifests::kind(object) == kind && object.metadata.name.as_deref() == Some(name)
    };
    objects.iter().find(is).with_context(|| format!("no {kind} {name} is rendered"))
}
