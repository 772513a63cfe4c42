//! The web console. The edge: command line, clock, random numbers, standard output, Ctrl-C.

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    process::ExitCode,
};

use k8s_openapi::jiff::Timestamp;
use registry_console::{cli::ConsoleCli, edge::Edge, serve};
use tracing::Level;

/// The program was started wrongly, or can't serve.
const UNABLE: u8 = 2;

/// Starts the console; the program ends with it.
pub fn main() -> ExitCode {
    let cli = match ConsoleCli::read(env!("CARGO_BIN_NAME"), is_empty) {
        Ok(cli) => cli,
        Err(error) => {
            // It can't be said where nobody reads it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(UNABLE));
        }
    };
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("error: {error:#}"));
            ExitCode::from(UNABLE)
        }
    }
}

fn start(cli: &ConsoleCli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let edge = Edge { now, random };
    let served = match cli.serve.listen.zip(cli.serve.public_url.as_ref()) {
        None => runtime.block_on(serve::laptop(cli, edge, print)),
        Some(place) => {
            log();
            runtime.block_on(serve::cluster(cli, place, edge, service_host().as_deref(), print))
        }
    };
    // Name lookups and credential plugins block their threads, and must not delay the exit.
    runtime.shutdown_background();
    served
}

#[expect(clippy::disallowed_methods, reason = "clap reads the variables; this looks for the empty ones")]
fn is_empty(name: &OsStr) -> bool {
    std::env::var_os(name).is_some_and(|value| value.is_empty())
}

/// Logs to standard error. Below `warn`, the AWS SDK logs what it signs and receives, including tokens, so that is never on.
fn log() {
    use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};
    let discreet = Targets::new().with_default(Level::INFO).with_target("aws_", Level::WARN);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(discreet).with(lines).init();
}

/// The address of the Service `kubernetes`, from the environment that the kubelet sets in every Pod.
#[expect(clippy::disallowed_methods, reason = "this is the edge")]
fn service_host() -> Option<String> {
    std::env::var("KUBERNETES_SERVICE_HOST").ok()
}

#[expect(clippy::disallowed_methods, reason = "this is the edge")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn random() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok().map(|()| bytes)
}

fn print(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

#[expect(clippy::print_stderr, reason = "this is the edge")]
fn print_error(line: &str) {
    eprintln!("{line}");
}
