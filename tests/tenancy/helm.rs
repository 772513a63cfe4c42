//! The chart as Helm installs, upgrades and removes it: the order of the policies, and which of them stay.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{
    Kubernetes, eventually, in_repository, policies_are_in_force,
    tools::{self, Tool},
};
use serde_json::{Value, json};

use crate::{
    call::{
        Call, User, a_namespace, a_system_registry, a_tenant_registry, system_registries, system_registry,
        tenant_registries, tenant_registry,
    },
    stage::{Cluster, SYSTEM_NAMESPACE, Stage},
};

/// Helm, as the administrator of a control plane.
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Helm {
    /// The cluster's administrator's.
    pub async fn of(stage: &Stage) -> Result<Self> {
        let program = tools::ensure(&[Tool::Helm]).await?.get(Tool::Helm).to_path_buf();
        Ok(Self { program, kubeconfig: stage.control_plane().admin_kubeconfig() })
    }

    /// What the chart renders with these values.
    pub async fn template(&self, options: &[&str]) -> Result<String> {
        self.run("template", options).await
    }

    /// Does that with the release.
    pub async fn run(&self, what: &str, options: &[&str]) -> Result<String> {
        let chart = in_repository("charts/registry-operator");
        let mut command = tokio::process::Command::new(&self.program);
        command.arg(what).arg("registry-operator");
        if what != "uninstall" {
            command.arg(chart);
        }
        command.args(options).args(["--namespace", SYSTEM_NAMESPACE]);
        command.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.context("running helm")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {what} failed: {error}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

on_each_kubernetes!(api_server_type_checks_every_policy);

async fn api_server_type_checks_every_policy(cluster: &Cluster) -> Result<()> {
    let all = Call::get("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies");
    let checked = || async {
        let policies = cluster.root.may(&all).await?["items"].as_array().context("no list")?.clone();
        let ours: Vec<Value> = policies
            .into_iter()
            .filter(|policy| {
                policy["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(registry_api::GROUP))
            })
            .collect();
        let pending = ours.iter().find(|policy| policy["status"]["observedGeneration"].is_null());
        ensure!(pending.is_none(), "{pending:?} is not checked yet");
        Ok(ours)
    };
    let ours = eventually("all policies are checked", checked).await?;
    ensure!(ours.len() == 11, "{} policies", ours.len());
    for policy in ours {
        let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
        ensure!(warnings.is_null(), "{}: {warnings}", policy["metadata"]["name"]);
        ensure!(policy["spec"]["failurePolicy"] == "Fail", "{}", policy["metadata"]["name"]);
    }
    Ok(())
}

/// The documents' kinds, in their order.
fn kinds(yaml: &str) -> Vec<&str> {
    yaml.lines().filter_map(|line| line.strip_prefix("kind: ")).collect()
}

#[test]
fn manifest_installs_policies_first() -> Result<()> {
    let shipped = std::fs::read_to_string(in_repository("config/install.yaml"))?;
    let kinds = kinds(&shipped);
    let is_guard = |kind: &&&str| kind.starts_with("ValidatingAdmissionPolicy");
    let (guards, others): (Vec<&str>, Vec<&str>) = kinds.iter().partition(|kind| is_guard(kind));
    ensure!(guards.len() == 23, "{guards:?}");
    ensure!(kinds == [guards, others].concat(), "{kinds:?}");
    Ok(())
}

#[tokio::test]
async fn policies_protect_what_uninstall_keeps() -> Result<()> {
    let stage = Stage::bare(Kubernetes::Newest).await?;
    let helm = Helm::of(&stage).await?;
    helm.run("install", &["--create-namespace"]).await?;
    let root = User::new("root", stage.control_plane().client().await?);
    let broad = stage.user("broad").await?;
    policies_are_in_force(&root.client()).await?;
    root.may(&Call::create("/api/v1/namespaces", a_namespace("team-a", Some("team")))).await?;
    root.may(&Call::create(&system_registries(), a_system_registry("packs"))).await?;
    root.may(&Call::create(&tenant_registries("team-a"), a_tenant_registry("packs"))).await?;

    // An upgrade changes the policies where they are, and what tenants may ask for, at once.
    let policy = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/tenant-policy.registry.spectrocloud.com";
    let before = root.may(&Call::get(policy)).await?;
    let plain =
        Call::merge(&tenant_registry("team-a", "packs"), json!({"spec": {"endpoint": "http://a.invalid"}}))
            .dry();
    assert_eq!(broad.refusal(&plain).await?.0, 403);
    helm.run("upgrade", &["--set=tenantPolicy.plainHTTP=true"]).await?;
    let allowed = || broad.may(&plain);
    eventually("plain HTTP is allowed", allowed).await?;
    assert_eq!(root.may(&Call::get(policy)).await?["metadata"]["uid"], before["metadata"]["uid"]);

    helm.run("uninstall", &[]).await?;
    let (packs, definition) = (
        system_registry("packs"),
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/systemregistries.registry.spectrocloud.com",
    );
    for call in [
        Call::delete(&packs),
        Call::merge(&packs, json!({"spec": {"suspend": true}})),
        Call::delete(definition),
    ] {
        let (code, message) = broad.refusal(&call).await?;
        ensure!(code == 403 && message.contains("belongs to the system level"), "{code} {message}");
    }
    broad.may(&Call::delete(&tenant_registry("team-a", "packs"))).await?;

    helm.run("install", &[]).await?;
    policies_are_in_force(&root.client()).await?;
    root.may(&Call::get(&packs)).await?;
    root.may(&Call::delete(&packs)).await?;
    Ok(())
}

#[tokio::test]
async fn chart_rejects_invalid_host_pattern() -> Result<()> {
    let program = tools::ensure(&[Tool::Helm]).await?.get(Tool::Helm).to_path_buf();
    let helm = Helm { program, kubeconfig: PathBuf::new() };
    for pattern in
        ["https://registry.example.com", "registry.example.com/path", "a b", "*example.com", "a.*.com", ""]
    {
        let set = format!("--set-json=tenantPolicy.allowedEndpoints=[\"{pattern}\"]");
        let refusal = helm.template(&[&set]).await.err().with_context(|| format!("{pattern:?} was taken"))?;
        // An empty one does not get past the schema of the values.
        let says = if pattern.is_empty() { "minLength" } else { "is no host pattern" };
        let refusal = refusal.to_string();
        ensure!(refusal.contains("allowedEndpoints") && refusal.contains(says), "{refusal}");
    }
    let set =
        "--set-json=tenantPolicy.allowedEndpoints=[\"a.example.com\",\"*.example.com:5000\",\"[::1]:5000\"]";
    let rendered = helm.template(&[set]).await?;
    ensure!(
        rendered
            .contains("  allowedEndpoints: |\n    a.example.com\n    *.example.com:5000\n    [::1]:5000\n"),
        "{rendered}"
    );
    Ok(())
}
