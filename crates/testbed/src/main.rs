//! `testbed`: builds the tools of the testbed, and runs the operator on it.

mod image_command;
mod node_command;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use registry_testbed::tools::{self, Tool};

/// Builds the tools of the testbed, and runs the operator on it.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: TestbedCommand,
}

#[derive(Debug, Subcommand)]
enum TestbedCommand {
    /// Builds the tools that are missing or out of date, into target/tools/bin.
    Tools {
        /// Which; those of the control plane when none is named.
        names: Vec<Tool>,
        /// Those of a node too.
        #[arg(long)]
        node: bool,
    },
    /// Runs the operator and the samples on a real API server, without a container engine.
    Run(run::RunArguments),
    Node(node_command::NodeArguments),
    Image(image_command::ImageArguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match act(Arguments::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            report(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn act(command: TestbedCommand) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match command {
        TestbedCommand::Tools { names, node } => build_tools(names, node).await,
        TestbedCommand::Run(arguments) => Ok(Box::pin(run::run(arguments)).await?),
        TestbedCommand::Image(arguments) => Ok(image_command::run(&arguments)?),
        TestbedCommand::Node(arguments) => Ok(node_command::run(arguments).await?),
    }
}

async fn build_tools(names: Vec<Tool>, node: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut wanted = if names.is_empty() { Tool::ALL.to_vec() } else { names };
    wanted.extend(node.then_some(Tool::NODE).into_iter().flatten());
    let paths = tools::ensure(&wanted).await?;
    for tool in wanted {
        print_line(&paths.get(tool).display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "a command line program")]
fn print_line(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "a command line program")]
fn report(line: &str) {
    eprintln!("error: {line}");
}
