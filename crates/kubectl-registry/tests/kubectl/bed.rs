//! Runs the program with its own environment, and provides a cluster with the operator. Owns no expectations.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    runtime::wait::{await_condition, conditions},
};
use registry_api::{
    GROUP, crd,
    spec::{Registry, Scope, System, Tenant},
};
use registry_testbed::{
    ControlPlane, ControlPlaneOptions, Operator, OperatorOptions, eventually,
    manifests::{self, Placeholders},
    tools,
};
use tokio::{io::AsyncWriteExt as _, process::Command, sync::OnceCell};

/// The program of this build.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_kubectl-registry");
/// The namespace of SystemRegistries' Secrets.
pub const SYSTEM_NAMESPACE: &str = "registry-system";
const PATIENCE: Duration = Duration::from_mins(2);

/// The result of a program.
#[derive(Debug)]
pub struct Run {
    /// The exit code.
    pub code: i32,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

impl Run {
    /// Returns the last line of standard output.
    pub fn last_line(&self) -> &str {
        self.stdout.trim_end().lines().last().unwrap_or_default()
    }

    /// Returns the line of a layer, or the line that contains these words.
    pub fn line(&self, words: &str) -> &str {
        self.stdout.lines().find(|line| line.contains(words)).unwrap_or_default()
    }

    /// Returns the line that begins with this word.
    pub fn field(&self, name: &str) -> &str {
        self.stdout.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_default()
    }

    /// Returns everything that it printed.
    pub fn everything(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A directory for manifests, in which a program runs.
#[derive(Debug)]
pub struct Desk {
    directory: tempfile::TempDir,
    kubeconfig: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Desk {
    /// Without a cluster.
    pub fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()?, kubeconfig: None, environment: Vec::new() })
    }

    /// With that cluster.
    pub fn at(kubeconfig: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self { kubeconfig: Some(kubeconfig.into()), ..Self::new()? })
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Writes a file, and returns its path.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Returns a command with only this environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.directory.path())
            .env("PATH", search_path())
            .env("TERM", "xterm")
            .current_dir(self.directory.path())
            .kill_on_drop(true);
        command.env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(Path::new("/nonexistent/kubeconfig")));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `kubectl-registry` with these arguments.
    pub async fn run(&self, arguments: &[&str]) -> Result<Run> {
        self.run_with(arguments, "").await
    }

    /// Runs it with this standard input.
    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Result<Run> {
        let mut command = self.command(PROGRAM);
        command.args(arguments);
        finished(command, input).await
    }

    /// Validates the manifests without a cluster.
    pub async fn validate(&self, manifests: &str) -> Result<Run> {
        let file = self.file("manifests.yaml", manifests)?;
        self.run(&["validate", "--offline", "-f", &file]).await
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the programs that the tests need besides: env, script, sh, man"
)]
fn search_path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// Runs a command until it ends.
pub async fn finished(mut command: Command, input: &str) -> Result<Run> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // The program may end without reading its input.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.with_context(|| format!("still running after {PATIENCE:?}"))??;
    Ok(Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// A control plane with the chart's objects, and the operator.
pub struct Installation {
    control_plane: ControlPlane,
    _operator: Operator,
}

impl Installation {
    /// Returns the one that all tests share.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Installation> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Starts a separate one.
    pub async fn start() -> Result<Self> {
        let options = ControlPlaneOptions { controller_manager: true, ..Default::default() };
        let control_plane = ControlPlane::start(options).await?;
        install(&control_plane.client().await?).await.context("installing the chart's render")?;
        let kubeconfig =
            control_plane.kubeconfig_for_service_account(SYSTEM_NAMESPACE, "registry-operator").await?;
        let operator = Operator::start(OperatorOptions::new(operator_binary()?, kubeconfig)).await?;
        Ok(Self { control_plane, _operator: operator })
    }

    /// Returns the servers.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// Returns a client of the cluster for one test.
    pub async fn cluster(&self) -> Result<Cluster> {
        static TESTS: AtomicUsize = AtomicUsize::new(1);
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        Ok(Cluster { client: self.control_plane.client().await?, number })
    }

    /// Returns a desk with the permissions of the cluster's administrator.
    pub fn desk(&self) -> Result<Desk> {
        Desk::at(self.control_plane.admin_kubeconfig())
    }
}

/// Next to this test program. `cargo test --workspace` and `cargo build` build it.
fn operator_binary() -> Result<PathBuf> {
    let path = Path::new(PROGRAM).with_file_name("registry-operator");
    ensure!(
        path.is_file(),
        "there is no {}: cargo build --package registry-operator makes it",
        path.display()
    );
    Ok(path)
}

async fn install(client: &Client) -> Result<()> {
    let render = tools::repository().join("config/install.yaml");
    let mut render = manifests::read_file(&render, &Placeholders::default())?;
    render.retain(|object| !matches!(manifests::kind(object), "Deployment" | "CustomResourceDefinition"));
    let definitions = crd::files()?;
    for (name, yaml) in &definitions {
        manifests::apply(client, manifests::parse(name, yaml)?).await?;
    }
    manifests::apply(client, render).await?;
    established::<System>(client).await?;
    established::<Tenant>(client).await
}

async fn established<S: Scope>(client: &Client) -> Result<()> {
    let name = format!("{}.{GROUP}", S::PLURAL);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let established = await_condition(definitions, &name, conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, established).await.with_context(|| format!("{name} is not served"))??;
    Ok(())
}

/// A client of the cluster for one test, with names that no other test uses.
pub struct Cluster {
    /// A client with administrator permissions.
    pub client: Client,
    number: usize,
}

impl Cluster {
    /// Returns a name that no other test uses.
    pub fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.number)
    }

    /// Applies every document of a YAML text.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        Ok(manifests::apply(&self.client, manifests::parse("the test's manifest", yaml)?).await?)
    }

    /// Creates a namespace of that tenant; both get unique names.
    pub async fn tenant_namespace(&self, tenant: &str, namespace: &str) -> Result<String> {
        let (tenant, name) = (self.unique(tenant), self.unique(namespace));
        self.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: \
             {{registry.spectrocloud.com/tenant: {tenant}}}}}}}"
        ))
        .await?;
        Ok(name)
    }

    /// Waits until a registry has a condition such as `Ready=False/Rejected`.
    pub async fn becomes<S: Scope>(
        &self,
        api: &Api<Registry<S>>,
        name: &str,
        expected: &str,
    ) -> Result<Registry<S>> {
        let look = || async {
            let found = api.get(name).await?;
            let conditions = found.status.clone().unwrap_or_default().conditions;
            let said: Vec<String> =
                conditions.iter().map(|one| format!("{}={}/{}", one.type_, one.status, one.reason)).collect();
            if said.iter().any(|one| one == expected) { Ok(found) } else { bail!("{said:?}") }
        };
        Ok(eventually(format!("{name} is {expected}"), look).await?)
    }

    /// Returns the API of SystemRegistries.
    pub fn system(&self) -> Api<Registry<System>> {
        Api::all(self.client.clone())
    }

    /// Returns the API of TenantRegistries in a namespace.
    pub fn tenant(&self, namespace: &str) -> Api<Registry<Tenant>> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
