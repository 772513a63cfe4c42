//! Helpers: runs the programs that users have, as users run them, against a control plane. Has no assertions of its own.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{
    ControlPlane, ControlPlaneOptions, in_repository, manifests,
    tools::{self, Tool},
};
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The chart, as it lies in the repository.
pub const CHART: &str = "charts/registry-operator";
/// Where it is installed.
pub const NAMESPACE: &str = "registry-system";

/// The text of a file of this repository.
pub fn text_of(path: &str) -> Result<String> {
    std::fs::read_to_string(in_repository(path)).with_context(|| format!("reading {path}"))
}

/// A program's output and exit status.
pub struct Ended {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    success: bool,
    what: String,
}

impl Ended {
    /// Its output; fails if the program failed.
    pub fn ok(self) -> Result<String> {
        ensure!(self.success, "{}: {}{}", self.what, self.out, self.err);
        Ok(self.out)
    }

    /// Its error output; fails if the program succeeded.
    pub fn refused(self) -> Result<String> {
        ensure!(!self.success, "{} was expected to fail: {}", self.what, self.out);
        Ok(self.err)
    }
}

/// Runs a built tool in the repository's root, with that environment and that input.
pub async fn run(
    tool: Tool,
    arguments: &[&str],
    environment: &[(&str, &Path)],
    input: &str,
) -> Result<Ended> {
    let paths = tools::ensure(&[tool]).await?;
    let mut command = Command::new(paths.get(tool));
    command.args(arguments).envs(environment.iter().copied()).current_dir(in_repository("."));
    let what = format!("{} {}", tool.name(), arguments.join(" "));
    finish(command, what, input.to_owned()).await
}

/// Runs a command to its end, with that input.
pub async fn finish(mut command: Command, what: String, input: String) -> Result<Ended> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || -> std::io::Result<Output> {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that exits without reading its input is fine.
            let _ = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        }
        child.wait_with_output()
    });
    let output = output.await?.with_context(|| format!("starting {what}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { out: text(&output.stdout), err: text(&output.stderr), success: output.status.success(), what })
}

/// Renders the chart as `helm template` does, without a cluster.
pub async fn template(arguments: &[&str]) -> Result<Ended> {
    let home = tempfile::tempdir()?;
    let mut all = vec!["template", "registry-operator", CHART, "--namespace", NAMESPACE];
    all.extend(arguments);
    run(Tool::Helm, &all, &[("HOME", home.path())], "").await
}

/// A control plane for one test, used as a cluster administrator.
pub struct TestCluster {
    /// The servers.
    pub control_plane: ControlPlane,
    _turn: SemaphorePermit<'static>,
}

/// A chart is installed once in a cluster, so each test needs its own; more than two at once are slower, not faster.
static TURNS: Semaphore = Semaphore::const_new(2);

impl TestCluster {
    /// Starts one, with a controller manager.
    pub async fn start() -> Result<Self> {
        let turn = TURNS.acquire().await?;
        let options = ControlPlaneOptions { controller_manager: true, ..Default::default() };
        Ok(Self { control_plane: ControlPlane::start(options).await?, _turn: turn })
    }

    /// Runs helm against it.
    pub async fn helm(&self, arguments: &[&str]) -> Result<Ended> {
        self.run(Tool::Helm, arguments, "").await
    }

    /// Runs kubectl against it, with that input.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<Ended> {
        self.run(Tool::Kubectl, arguments, input).await
    }

    async fn run(&self, tool: Tool, arguments: &[&str], input: &str) -> Result<Ended> {
        let kubeconfig = self.control_plane.admin_kubeconfig();
        let environment = [("KUBECONFIG", &*kubeconfig), ("HOME", self.control_plane.directory())];
        run(tool, arguments, &environment, input).await
    }

    /// Runs a script of the documentation against it, with our kubectl.
    pub async fn shell(&self, script: &str) -> Result<Ended> {
        let paths = tools::ensure(&[Tool::Kubectl]).await?;
        let programs = paths.get(Tool::Kubectl).parent().context("a directory")?;
        let with_path = format!("PATH={}:$PATH\n{script}", programs.display());
        let mut command = Command::new("bash");
        command.args(["-eu", "-o", "pipefail", "-c", &with_path]);
        command
            .env("KUBECONFIG", self.control_plane.admin_kubeconfig())
            .env("HOME", self.control_plane.directory());
        finish(command, script.to_owned(), String::new()).await
    }

    /// `helm install` of the chart in the repository, under that name, with further arguments.
    pub async fn install(&self, release: &str, further: &[&str]) -> Result<Ended> {
        let mut arguments = vec!["install", release, CHART, "--namespace", NAMESPACE, "--create-namespace"];
        arguments.extend(further);
        self.helm(&arguments).await
    }

    /// Waits until registries are served: a definition is taken a moment before.
    pub async fn serves_registries(&self) -> Result<()> {
        let client = self.control_plane.client().await?;
        for kind in ["SystemRegistry", "TenantRegistry"] {
            let any = json!({"apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": kind, "metadata": {"name": "any"}});
            manifests::api_of(&client, &serde_json::from_value(any)?).await?;
        }
        Ok(())
    }

    /// One field of one object, as `kubectl get -o jsonpath` prints it.
    pub async fn field(&self, object: &str, path: &str) -> Result<String> {
        let output = format!("jsonpath={{{path}}}");
        self.kubectl(&["get", object, "--namespace", NAMESPACE, "--output", &output], "").await?.ok()
    }
}
