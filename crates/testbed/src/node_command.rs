//! `testbed node`: a cluster of one real node, for a command or to look around in.

use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::Instant;

use registry_testbed::node::{self, Node, NodeError};
use tokio::signal::unix::{SignalKind, signal};

use crate::print_line;

/// Starts a cluster of one real node in namespaces of its own, without a container engine. Needs root.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArguments {
    /// What to run in there, with KUBECONFIG and the tools on PATH; the node ends with it. Without it, the node stays until
    /// Ctrl-C.
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(crate) async fn run(arguments: NodeArguments) -> Result<ExitCode, NodeError> {
    if node::is_inside() {
        return inside(arguments).await;
    }
    node::prepare().await?;
    let myself = std::env::current_exe().map_err(NodeError::Namespaces)?;
    let command = [OsString::from("node"), OsString::from("--")].into_iter().chain(arguments.command);
    let status = node::enclose(&myself, command)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn inside(arguments: NodeArguments) -> Result<ExitCode, NodeError> {
    let start = Instant::now();
    let node = Node::start().await?;
    print_line(&format!("The node is Ready after {:.1} s.", start.elapsed().as_secs_f32()));
    let kubeconfig = node.control_plane().admin_kubeconfig();
    let Some((program, args)) = arguments.command.split_first() else {
        print_line(&format!(
            "Enter it, as root, with: nsenter --target \"$(pgrep --newest --full 'testbed node')\" --all\n\
             KUBECONFIG={}; every image is pulled from the node's own registry, http://{}.",
            kubeconfig.display(),
            node.images(),
        ));
        let interrupted = signal(SignalKind::interrupt()).map_err(NodeError::Namespaces)?.recv().await;
        return Ok(interrupted.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS));
    };
    let status = Command::new(program)
        .args(args)
        .env("KUBECONFIG", &kubeconfig)
        .env("NODE_DIRECTORY", node.directory())
        .env("NODE_IMAGES", node.images())
        .status()
        .map_err(NodeError::Namespaces)?;
    node.stop().await?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
