//! `testbed run`, which is `make run`: the operator, the web console, real registries and the samples, on a real API server.

mod cluster;
mod demo;
mod registries;
mod verdicts;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::FalseyValueParser;
use registry_testbed::console::{ConsoleProcess, ConsoleProcessError};
use registry_testbed::control_plane::ControlPlaneError;
use registry_testbed::in_repository;
use registry_testbed::manifests::{self, ApplyError};
use registry_testbed::operator::{Operator, OperatorError, OperatorOptions};
use registry_testbed::samples;
use registry_testbed::tools::{Tool, ToolBuilder, ToolsError};
use tokio::signal::unix::{SignalKind, signal};

use crate::print_line;
use cluster::RunCluster;
use demo::Demo;
use registries::RunRegistries;
use verdicts::Verdicts;

const SYSTEM_NAMESPACE: &str = "registry-system";
const OPERATOR_ACCOUNT: &str = "registry-operator";
/// The longest that a sample's verdict may take.
const VERDICT_TIMEOUT: Duration = Duration::from_mins(1);
/// How often the verdicts are looked at.
const POLL: Duration = Duration::from_millis(250);
/// How long a registry may take to go: what the operator promises.
const DELETION: Duration = Duration::from_secs(30);

/// Runs the operator and the samples on a real API server, without a container engine.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    /// End as soon as every sample has the verdict that is expected of it (exit 0), or has not got it in time (exit 1).
    #[arg(long, env = "ONCE", value_parser = FalseyValueParser::new())]
    once: bool,
    /// Use the cluster of KUBECONFIG instead of a control plane of our own.
    #[arg(long, env = "EXISTING", value_parser = FalseyValueParser::new())]
    existing: bool,
    /// The existing cluster.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The operator's program.
    #[arg(long, default_value_os_t = in_repository("target/release/registry-operator"))]
    operator: PathBuf,
    /// The web console's program.
    #[arg(long, default_value_os_t = in_repository("target/release/kubectl-registry-console"))]
    console: PathBuf,
    /// What is installed before the operator is started; its workloads are left out.
    #[arg(long, default_value_os_t = in_repository("config/install.yaml"))]
    install: PathBuf,
    /// The manifests that are applied, with the hosts of local registries in them.
    #[arg(long, default_value_os_t = samples::directory())]
    samples: PathBuf,
    /// Further arguments of the operator.
    #[arg(last = true)]
    operator_args: Vec<OsString>,
}

/// Why the demonstration failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// A program is missing.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// There is no cluster.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// The existing cluster cannot be used.
    #[error(transparent)]
    Cluster(#[from] cluster::RunClusterError),
    /// The registries cannot be set up.
    #[error(transparent)]
    Setup(#[from] registries::SetupError),
    /// A manifest cannot be applied.
    #[error(transparent)]
    Manifest(#[from] ApplyError),
    /// The operator does not come up.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The web console does not come up, or does not answer.
    #[error(transparent)]
    Console(#[from] ConsoleProcessError),
    /// The web console lacks registries.
    #[error("the web console's table lacks {0}")]
    Table(String),
    /// The web console ended.
    #[error("the web console ended ({status}). Its log:\n{log}")]
    ConsoleEnded {
        /// How it ended.
        status: String,
        /// All that it said.
        log: String,
    },
    /// The operator ended.
    #[error("the operator ended ({status}). Its log:\n{log}")]
    OperatorEnded {
        /// How it ended.
        status: String,
        /// All that it said.
        log: String,
    },
    /// Signals cannot be received.
    #[error("cannot wait for Ctrl-C: {0}")]
    Signal(#[from] std::io::Error),
}

/// Runs the demonstration.
pub(crate) async fn run(arguments: RunArguments) -> Result<ExitCode, RunError> {
    if !arguments.operator.is_file() {
        return Err(OperatorError::NoBinary(arguments.operator).into());
    }
    announce(&arguments)?;
    let registries = RunRegistries::start().await?;
    let cluster = RunCluster::start(arguments.existing, arguments.kubeconfig.clone()).await?;
    let client = cluster.client().await?;

    let mut installed = manifests::read_file(&arguments.install, &manifests::Placeholders::default())?;
    installed.retain(|object| manifests::kind(object) != "Deployment");
    manifests::apply(&client, installed).await?;
    let operator = start_operator(&arguments, &cluster, registries.aws()).await?;

    let console = start_console(&arguments, &cluster, registries.aws()).await?;
    let overlay = registries.overlay();
    let samples = overlay.apply(&arguments.samples)?;
    manifests::apply(&client, samples.clone()).await?;
    let mut verdicts = Verdicts::of(&client, &samples, &overlay).await?;
    let demo = Demo { operator, console, cluster, registries };
    let code = stay(arguments.once, &mut verdicts, &demo).await;
    // After a failure too: in an existing cluster, the samples' finalizers would stay without the operator.
    tidy_up(demo, verdicts).await?;
    code
}

/// Announces steps that take long.
fn announce(arguments: &RunArguments) -> Result<(), RunError> {
    let needed = if arguments.existing {
        print_line("Runs the operator against the cluster of KUBECONFIG, with registries on this machine.");
        &[Tool::Registry][..]
    } else {
        print_line(
            "Runs the operator on a Kubernetes API server and registries of its own: no cluster, no container engine.",
        );
        &[Tool::Etcd, Tool::KubeApiserver, Tool::Registry][..]
    };
    let missing = ToolBuilder::of_this_repository().missing(needed)?;
    if !missing.is_empty() {
        let list: Vec<String> =
            missing.iter().map(|tool| format!("{} ({})", tool.name(), tool.expected_build_time())).collect();
        print_line(&format!(
            "To be built first, once, from Go modules: {}, measured on 4 cores.",
            list.join(", ")
        ));
    }
    Ok(())
}

/// Starts the operator with its service account, never as an administrator.
async fn start_operator(
    arguments: &RunArguments,
    cluster: &RunCluster,
    aws: Option<String>,
) -> Result<Operator, RunError> {
    let kubeconfig = cluster.kubeconfig_for_service_account(SYSTEM_NAMESPACE, OPERATOR_ACCOUNT).await?;
    let mut options = OperatorOptions::new(&arguments.operator, kubeconfig);
    options.args.push(format!("--system-namespace={SYSTEM_NAMESPACE}").into());
    options.args.extend(arguments.operator_args.iter().cloned());
    options.env = aws_environment(aws.as_deref());
    let start = Instant::now();
    let operator = Operator::start(options).await?;
    print_line(&format!(
        "The operator is ready after {:.1} s, as the service account {SYSTEM_NAMESPACE}/{OPERATOR_ACCOUNT}.\n",
        start.elapsed().as_secs_f32()
    ));
    Ok(operator)
}

/// The emulated AWS, if there is one.
fn aws_environment(aws: Option<&str>) -> Vec<(OsString, OsString)> {
    let names = ["AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL_STS"];
    aws.into_iter().flat_map(|url| names.map(|name| (name.into(), url.into()))).collect()
}

/// Starts the web console as the cluster's administrator would.
async fn start_console(
    arguments: &RunArguments,
    cluster: &RunCluster,
    aws: Option<String>,
) -> Result<ConsoleProcess, RunError> {
    // An existing cluster's kubeconfig may name programs that need the user's environment.
    let inherited = cluster.is_existing().then(std::env::vars_os);
    let env = inherited.into_iter().flatten().chain(aws_environment(aws.as_deref())).collect();
    Ok(ConsoleProcess::start(&arguments.console, &cluster.kubeconfig(), env).await?)
}

/// Shows the verdicts as they come, until they are all there (once) or until Ctrl-C.
async fn stay(once: bool, verdicts: &mut Verdicts, demo: &Demo) -> Result<ExitCode, RunError> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let start = Instant::now();
    let mut concluded = false;
    verdicts.print_header();
    loop {
        verdicts.look().await;
        demo.is_running().await?;
        if !concluded && (verdicts.are_as_expected() || start.elapsed() > VERDICT_TIMEOUT) {
            concluded = true;
            print_line(&verdicts.conclusion(start.elapsed()));
            if once && verdicts.are_as_expected() {
                print_line(&demo.check_console(&verdicts.system_names()).await?);
                return Ok(ExitCode::SUCCESS);
            }
            if once {
                print_line(&format!("\nThe operator's log:\n{}", demo.operator.log()));
                return Ok(ExitCode::FAILURE);
            }
            print_line(&demo.how_to_go_on());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = interrupted.recv() => return Ok(ExitCode::SUCCESS),
            _ = terminated.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// In an existing cluster, the samples are deleted while the operator runs, because it removes their finalizers.
async fn tidy_up(demo: Demo, verdicts: Verdicts) -> Result<(), RunError> {
    if demo.cluster.is_existing() {
        let left = verdicts.delete(DELETION).await;
        print_line(&match left.as_slice() {
            [] => String::from("The sample registries are deleted; all else that was applied is left."),
            left => format!("Not deleted within {DELETION:?}: {}.", left.join(", ")),
        });
    }
    let took = demo.operator.stop().await?;
    print_line(&format!("The operator ended in {:.1} s.", took.as_secs_f32()));
    demo.console.stop().await?;
    Ok(())
}
