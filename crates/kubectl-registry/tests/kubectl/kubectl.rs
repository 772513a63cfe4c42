//! Runs the plugin through the real kubectl, and waits with it for the operator.

use std::os::unix::fs::symlink;

use anyhow::{Result, bail};
use registry_testbed::{
    eventually,
    tools::{self, Tool},
};
use serde_json::json;
use tokio::process::Command;

use crate::{
    bed::{Desk, Installation, PROGRAM, Run, finished},
    cluster::row,
    registries::{PASSWORD, Protected, login, system, tenant},
};

/// kubectl, with the plugin in its path.
pub struct Kubectl {
    directory: tempfile::TempDir,
    /// Where it runs.
    pub desk: Desk,
}

impl Kubectl {
    /// With the permissions of the installation's administrator.
    pub async fn start(installation: &Installation) -> Result<Self> {
        let kubectl = tools::ensure(&[Tool::Kubectl]).await?.get(Tool::Kubectl).to_path_buf();
        let completion = tools::repository().join("packaging/kubectl_complete-registry");
        let directory = tempfile::tempdir()?;
        symlink(kubectl, directory.path().join("kubectl"))?;
        symlink(PROGRAM, directory.path().join("kubectl-registry"))?;
        symlink(completion, directory.path().join("kubectl_complete-registry"))?;
        Ok(Self { directory, desk: installation.desk()? })
    }

    /// Returns a command of another program that finds kubectl and the plugin.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.desk.command(program);
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.directory.path().display());
        command.env("PATH", path).args(arguments);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<Run> {
        let kubectl = self.directory.path().join("kubectl").display().to_string();
        finished(self.command(&kubectl, arguments), "").await
    }

    /// Waits until all of these are offered. Completion doesn't wait for names, so they only come with the first TAB if
    /// the API server is fast.
    async fn offers(&self, words: &[&str], expected: &[&str]) -> Result<()> {
        let look = || async {
            let offered = self.run(&[&["__complete"], words].concat()).await?;
            let is_offered = |name: &&str| offered.stdout.lines().any(|line| line == *name);
            if expected.iter().all(is_offered) { Ok(()) } else { bail!("{offered:#?}") }
        };
        Ok(eventually(format!("{expected:?} are offered"), look).await?)
    }
}

#[tokio::test]
async fn kubectl_runs_plugin_and_waits_for_ready() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, kubectl) = (installation.cluster().await?, Kubectl::start(installation).await?);
    let protected = Protected::start().await?;
    let (name, secret) = (cluster.unique("packs"), cluster.unique("login"));
    let mut spec = protected.spec();
    spec["auth"]["basic"]["secretRef"]["name"] = json!(secret);
    let manifests = system(&name, &spec) + &login(&secret, Some("registry-system"), PASSWORD);
    let file = kubectl.desk.file("packs.yaml", &manifests)?;

    let checked = kubectl.run(&["registry", "validate", "-f", &file]).await?;
    assert_eq!((checked.code, checked.last_line()), (0, "✓ Credentials validated"), "{checked:#?}");
    assert!(checked.line("Manifest").contains("Accepted"), "{checked:#?}");

    let applied = kubectl.run(&["apply", "-f", &file]).await?;
    assert_eq!(applied.code, 0, "{applied:#?}");
    let registry = format!("systemregistry/{name}");
    let waited =
        kubectl.run(&["wait", "--for=condition=CredentialsValidated", &registry, "--timeout=60s"]).await?;
    assert_eq!(waited.code, 0, "{waited:#?}");
    assert!(waited.stdout.contains("condition met"), "{waited:#?}");

    let list = kubectl.run(&["registry", "list", "-n", "registry-system"]).await?;
    assert_eq!(list.code, 0, "{list:#?}");
    let row = row(&list.stdout, "system", &name).expect("the registry");
    assert_eq!(row[3..6], ["True", "True", "Available"], "{list:#?}");

    let described = kubectl.run(&["registry", "describe", &name]).await?;
    assert_eq!(described.code, 0, "{described:#?}");
    assert!(described.line("Ready").contains("Credentials validated"), "{described:#?}");
    Ok(())
}

#[tokio::test]
async fn kubectl_finds_plugin_help_and_completions() -> Result<()> {
    let installation = Installation::shared().await?;
    let kubectl = Kubectl::start(installation).await?;
    let plugins = kubectl.run(&["plugin", "list"]).await?;
    assert!(plugins.stdout.contains("/kubectl-registry"), "{plugins:#?}");

    let help = kubectl.run(&["registry", "validate", "--help"]).await?;
    assert!(help.stdout.contains("Usage: kubectl registry validate"), "{help:#?}");

    let offered = kubectl.run(&["__complete", "registry", ""]).await?;
    assert!(offered.stdout.contains("validate\t") && offered.stdout.contains("describe\t"), "{offered:#?}");
    let offered = kubectl.run(&["__complete", "registry", "list", "--all"]).await?;
    assert!(offered.stdout.contains("--all-namespaces"), "{offered:#?}");

    let cluster = installation.cluster().await?;
    let (name, namespace) = (cluster.unique("packs"), cluster.tenant_namespace("team", "team").await?);
    let open = Protected::open().await?;
    cluster
        .apply(&(system(&name, &open.open_spec()) + &tenant(&namespace, "charts", &open.open_spec())))
        .await?;
    kubectl.offers(&["registry", "describe", ""], &[&name]).await?;
    let system = format!("systemregistry/{name}");
    kubectl.offers(&["registry", "describe", "-n", &namespace, ""], &["charts", &system]).await?;

    let wrong = kubectl.run(&["registry", "list", "--no-such-flag"]).await?;
    assert_eq!(wrong.code, 2, "{wrong:#?}");
    Ok(())
}
