//! The shipped manifest renamed by kustomize: expressions that name the operator's account don't change.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use kube::{ResourceExt as _, core::DynamicObject};
use registry_testbed::{
    Kubernetes, Operator, OperatorOptions, eventually, in_repository,
    manifests::{self, kind},
    tools::{self, Tool},
};

use crate::{call::a_namespace, stage::Stage};

/// What `kubectl kustomize` makes of config/install.yaml with that line.
async fn kustomized(line: &str) -> Result<Vec<DynamicObject>> {
    let directory = tempfile::tempdir()?;
    std::fs::copy(in_repository("config/install.yaml"), directory.path().join("install.yaml"))?;
    let kustomization = format!("resources: [install.yaml]\n{line}\n");
    std::fs::write(directory.path().join("kustomization.yaml"), kustomization)?;
    let kubectl = tools::ensure(&[Tool::Kubectl]).await?.get(Tool::Kubectl).to_path_buf();
    let mut command = tokio::process::Command::new(kubectl);
    command.arg("kustomize").arg(directory.path()).env("HOME", directory.path());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(manifests::parse(line, &String::from_utf8(output.stdout)?)?)
}

/// The operator as that manifest's Deployment would run it: its account, and its arguments.
async fn deployed(stage: &Stage, objects: &[DynamicObject]) -> Result<(String, OperatorOptions)> {
    let deployment = objects.iter().find(|object| kind(object) == "Deployment").context("no Deployment")?;
    let pod = &deployment.data["spec"]["template"]["spec"];
    let account = pod["serviceAccountName"].as_str().context("no account")?;
    let namespace = deployment.namespace().context("no namespace")?;
    let kubeconfig = stage.control_plane().kubeconfig_for_service_account(&namespace, account).await?;
    let mut options = OperatorOptions::new(env!("CARGO_BIN_EXE_operator-in-tests"), kubeconfig);
    for argument in pod["containers"][0]["args"].as_array().context("no arguments")? {
        options = options.arg(argument.as_str().context("an argument is a string")?);
    }
    Ok((format!("{namespace}/{account}"), options))
}

#[tokio::test]
async fn exits_when_renamed_by_kustomize() -> Result<()> {
    let stage = Stage::bare(Kubernetes::Newest).await?;
    let client = stage.control_plane().client().await?;
    for (line, account) in [
        ("namePrefix: x-", "registry-system/x-registry-operator"),
        ("nameSuffix: -x", "registry-system/registry-operator-x"),
        ("namespace: other", "other/registry-operator"),
    ] {
        let mut objects = kustomized(line).await?;
        objects.insert(0, serde_json::from_value(a_namespace("other", None))?);
        let deployment = objects.clone();
        // What is not needed to run it.
        objects.retain(|object| !kind(object).starts_with("ValidatingAdmissionPolicy"));
        manifests::apply(&client, objects).await.with_context(|| line)?;
        let (runs_as, options) = deployed(&stage, &deployment).await?;
        ensure!(runs_as == account, "{line}: {runs_as}");
        let operator = Operator::launch(options).await?;
        let ended = || async { operator.exited().await?.context("it runs") };
        let status = eventually(format!("{line}: it ends"), ended).await?;
        ensure!(!status.contains("exit status: 0"), "{line}: {status}");
        let sentence = format!(
            "running as service account {account}, but the admission policies and --system-namespace name \
             registry-system/registry-operator: install without changing names or namespaces"
        );
        ensure!(operator.log().contains(&sentence), "{line}: {}", operator.log());
    }
    Ok(())
}
