//! A reader of a page, who runs its commands against a real API server and compares the output with the page.
//!
//! No Pods run, so the operator runs beside the API server for as long as there is a Deployment of it, with the arguments and
//! the environment that stand there. A registry on loopback stands where the pages write https://registry.example.com.

use std::{fmt::Write as _, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Container};
use kube::Api;
use registry_testbed::{
    Moto, Operator, OperatorOptions, RegistryAuth, RegistryOptions, TestRegistry, in_repository,
    tools::{self, Tool},
};

use super::{
    page::{Block, Purpose, SessionCommand, blocks},
    shown::is_printed,
};
use crate::programs::{NAMESPACE, TestCluster, finish};

/// The reader of a page.
pub struct Reader {
    place: TestCluster,
    desk: tempfile::TempDir,
    registry: TestRegistry,
    operator: Option<Running>,
    aws: Option<Moto>,
    /// Replacements in commands: the text on the page, and the text that is run.
    typed: Vec<(String, String)>,
    /// Replacements in output: the reverse.
    answered: Vec<(String, String)>,
}

/// An operator, and what its Deployment says of how it is run.
struct Running {
    container: Container,
    operator: Operator,
}

/// What the registry's user shows, and the pages call `$PASSWORD`.
const PASSWORD: &str = "right";
const SHARED: [&str; 3] = ["charts", "config", "crds"];
/// Stands behind each command's output, before its exit code.
const END: char = '\u{1e}';

impl Reader {
    /// A reader with only a cluster and a checkout of the repository.
    pub async fn sits_down() -> Result<Self> {
        Self::sits_down_before(RegistryAuth::htpasswd("demo", PASSWORD)).await
    }

    /// The same, where the registry wants to see something else.
    pub async fn sits_down_before(auth: RegistryAuth) -> Result<Self> {
        let desk = tempfile::tempdir()?;
        for shared in SHARED {
            std::os::unix::fs::symlink(in_repository(shared), desk.path().join(shared))?;
        }
        let registry = TestRegistry::start(RegistryOptions { auth, ..Default::default() }).await?;
        let host = registry.host_port();
        let mut reader = Self {
            place: TestCluster::start().await?,
            desk,
            registry,
            operator: None,
            aws: None,
            typed: Vec::new(),
            answered: vec![(host, "registry.example.com".to_owned())],
        };
        reader.finds_the_registry_at("https://registry.example.com");
        reader.takes("NAMESPACE", "team-a");
        reader.takes("TENANT", "team-a");
        reader.takes("demo-password", PASSWORD);
        Ok(reader)
    }

    /// A reader with an installed operator.
    pub async fn with_an_operator() -> Result<Self> {
        let mut reader = Self::sits_down().await?;
        reader.installs("").await?;
        Ok(reader)
    }

    /// A reader with an installed operator, a registry and a tenant.
    pub async fn with_registries() -> Result<Self> {
        let mut reader = Self::with_an_operator().await?;
        for block in blocks("docs/first-registry.md")? {
            // All but the tidying up.
            if block.is_done()? && !block.text.contains("kubectl delete") {
                reader.does(&block).await.with_context(|| block.place())?;
            }
        }
        Ok(reader)
    }

    /// Installs the chart, with these further arguments.
    pub async fn installs(&mut self, further: &str) -> Result<()> {
        let install = format!(
            "helm install registry-operator charts/registry-operator -n {NAMESPACE} --create-namespace {further}"
        );
        self.types(&[SessionCommand { command: install, shown: String::new() }]).await.map(drop)
    }

    /// Where the page writes this, the registry is meant.
    pub fn finds_the_registry_at(&mut self, written: &str) {
        let url = self.registry.url();
        self.takes(written, &url);
        self.answered.insert(0, (url, written.to_owned()));
    }

    /// Where the page writes the one, the other stands for it here.
    pub fn takes(&mut self, written: &str, here: &str) {
        self.typed.push((written.to_owned(), here.to_owned()));
    }

    /// AWS stays for as long as the reader does.
    pub fn keeps(&mut self, aws: Moto) {
        self.aws = Some(aws);
    }

    /// Where the registry is.
    pub fn registry(&self) -> &TestRegistry {
        &self.registry
    }

    /// Runs all blocks of the page in order.
    pub async fn reads(mut self, page: &str) -> Result<()> {
        let start = std::time::Instant::now();
        let blocks: Vec<Block> =
            blocks(page)?.into_iter().filter(|block| block.is_done().unwrap_or(true)).collect();
        ensure!(!blocks.is_empty(), "{page} has nothing to do");
        for block in blocks {
            if block.purpose()? == Purpose::TypedAfresh {
                drop(self);
                self = Self::sits_down().await?;
            }
            self.does(&block).await.with_context(|| block.place())?;
        }
        ensure!(
            start.elapsed() < Duration::from_mins(15),
            "no page takes a quarter of an hour to go through"
        );
        Ok(())
    }

    /// Runs a block.
    pub async fn does(&mut self, block: &Block) -> Result<()> {
        if block.purpose()? == Purpose::Applied {
            let manifest = replaced(&block.text, &self.typed);
            return self.place.kubectl(&["apply", "--filename", "-"], &manifest).await?.ok().map(drop);
        }
        if let Purpose::SessionCommand { before: Some(before) } = block.purpose()? {
            self.types(&[SessionCommand { command: before.to_owned(), shown: String::new() }]).await?;
        }
        self.types(&block.commands()).await
    }

    /// Runs these commands in one shell and reads their output.
    pub async fn types(&mut self, session: &[SessionCommand]) -> Result<()> {
        let mut script = "exec 2>&1\nset -u -o pipefail\n".to_owned();
        for SessionCommand { command, .. } in session {
            write!(script, "{}\nprintf '{END}%d{END}' $?\n", replaced(command, &self.typed))?;
        }
        let printed = finish(self.shell(&script).await?, script, String::new()).await?.ok()?;
        let mut answers = printed.split(END);
        for typed in session {
            let (answer, code) = (answers.next().unwrap_or_default(), answers.next().unwrap_or("no"));
            if let Err(error) = judge(typed, &replaced(answer, &self.answered), code) {
                let registries = ["get", "registries", "--all-namespaces", "--output", "wide"];
                let then = self.place.kubectl(&registries, "").await?.ok().unwrap_or_default();
                return Err(error.context(format!("when it was so:\n{then}")));
            }
        }
        self.runs_what_is_installed().await
    }

    async fn shell(&self, script: &str) -> Result<Command> {
        let tools = tools::ensure(&[Tool::Helm, Tool::Kubectl]).await?;
        let bin = tools.get(Tool::Kubectl).parent().unwrap_or(Path::new("/")).display().to_string();
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).current_dir(self.desk.path());
        shell.env_clear().env("PATH", format!("{bin}:/usr/bin:/bin")).env("PASSWORD", PASSWORD);
        shell.env("HOME", self.desk.path()).env("KUBECONFIG", self.place.control_plane.admin_kubeconfig());
        Ok(shell)
    }

    /// Runs the operator in place of the Deployment's Pods.
    async fn runs_what_is_installed(&mut self) -> Result<()> {
        let client = self.place.control_plane.client().await?;
        let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
        let container = deployments.get_opt("registry-operator").await?.map(container).transpose()?;
        if self.operator.as_ref().map(|running| &running.container) == container.as_ref() {
            return Ok(());
        }
        if let Some(Running { operator, .. }) = self.operator.take() {
            operator.stop().await?;
        }
        if let Some(container) = container {
            let operator = self.operator(&container).await?;
            self.operator = Some(Running { container, operator });
        }
        Ok(())
    }

    async fn operator(&self, container: &Container) -> Result<Operator> {
        let control_plane = &self.place.control_plane;
        let kubeconfig = control_plane.kubeconfig_for_service_account(NAMESPACE, "registry-operator").await?;
        let mut options = OperatorOptions::new(env!("CARGO_BIN_EXE_operator-in-tests"), kubeconfig);
        options.args.extend(container.args.iter().flatten().map(Into::into));
        for variable in container.env.iter().flatten() {
            let value = variable.value.as_ref().context("a variable without a value")?;
            options = options.env(&variable.name, value);
        }
        Ok(Operator::start(options).await?)
    }
}

fn replaced(text: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn container(deployment: Deployment) -> Result<Container> {
    let template = deployment.spec.map(|spec| spec.template).and_then(|template| template.spec);
    template.and_then(|pod| pod.containers.into_iter().next()).context("a Deployment without a container")
}

/// Checks that a command fails if and only if the page shows a failure, and that its output matches the page.
fn judge(SessionCommand { command, shown }: &SessionCommand, answer: &str, code: &str) -> Result<()> {
    // `kubectl auth can-i` ends so.
    let is_refusal = shown.starts_with("Error") || shown.lines().last() == Some("no");
    ensure!((code == "0") != is_refusal, "{command}ended with {code}:\n{answer}");
    ensure!(
        shown.is_empty() || is_printed(shown, answer),
        "{command}printed\n{answer}\nand the page shows\n{shown}"
    );
    Ok(())
}
