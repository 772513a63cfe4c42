//! `kubectl registry`: lists, describes and validates registries. The edge: reads the clock, the terminal and the
//! environment, prints, and exits with a code.

// So that a new finding, reply, reason or cause doesn't compile until each match handles it.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod age;
mod cli;
mod cluster;
mod completion;
mod describe;
mod description;
mod from_console;
mod list;
mod object;
mod output;
mod page;
mod progress;
mod prompt;
mod report;
mod validate;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use clap::{CommandFactory as _, Parser as _};
use k8s_openapi::jiff::Timestamp;
use registry_check::{
    advice::CheckOutcome,
    prompt::PromptError,
    report::{CheckReport, objects},
    session::SessionError,
};

use crate::{
    cli::{ClusterArgs, DescribeArgs, ListArgs, ObjectFormat, PluginCli, PluginCommand, ValidateArgs},
    describe::DescribeRequest,
    page::{Page, Tone, plain, span},
};

/// The exit code for a negative result.
const NO: u8 = 1;
/// The exit code if there is no result, or for invalid usage.
const UNABLE: u8 = 2;
/// The exit code after Ctrl-C: 128 plus the number of SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = PluginCli::parse();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            if matches!(error.downcast_ref(), Some(SessionError::Prompt(PromptError::Interrupted))) {
                return ExitCode::from(INTERRUPTED);
            }
            let mut page = Page::default();
            page.line([span(Tone::Bad, "error:"), plain(format!(" {error:#}"))]);
            print_error(&page);
            ExitCode::from(UNABLE)
        }
    }
}

fn start(cli: PluginCli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("failed to start the runtime")?;
    let result = runtime.block_on(run(cli));
    // A name lookup that was given up, as for a completion, must not delay the exit.
    runtime.shutdown_background();
    result
}

async fn run(PluginCli { command, cluster }: PluginCli) -> anyhow::Result<ExitCode> {
    match command {
        PluginCommand::List(args) => list(&args, &cluster).await,
        PluginCommand::Validate(args) => Box::pin(validate(&args, &cluster)).await,
        PluginCommand::Describe(args) => describe(&args, &cluster).await,
        PluginCommand::Completion { shell } => print(&completion::script(shell)),
        PluginCommand::Man { command } => print(&manual(command.as_deref())?),
        PluginCommand::Complete { words } => {
            let names = completion::names(&words).await;
            print(completion::candidates(&words, &names).as_bytes())
        }
    }
}

async fn list(args: &ListArgs, cluster: &ClusterArgs) -> anyhow::Result<ExitCode> {
    let cluster = cluster::configured(cluster).await?;
    let listing = progress::shown("Asking the API server", list::run(args, &cluster)).await?;
    note(&listing.notes);
    if args.output.is_none() {
        note(listing.nothing().as_slice());
    }
    print(listing.render(args, now())?.as_bytes())
}

async fn validate(args: &ValidateArgs, cluster: &ClusterArgs) -> anyhow::Result<ExitCode> {
    let reports = validate::run(args, cluster, now).await?;
    let text = match args.output {
        None => in_words(&reports).render(),
        Some(ObjectFormat::Json) => output::json(&objects(&reports))?,
        Some(ObjectFormat::Yaml) => output::yaml(objects(&reports))?,
        Some(ObjectFormat::Name) => {
            let usable = reports.iter().filter(|report| report.outcome() == CheckOutcome::Usable);
            usable.map(|report| output::name(report.scope, &report.name)).collect()
        }
    };
    print(text.as_bytes())?;
    Ok(match validate::outcome(&reports) {
        CheckOutcome::Usable => ExitCode::SUCCESS,
        CheckOutcome::Unusable => ExitCode::from(NO),
        CheckOutcome::Unclear => ExitCode::from(UNABLE),
    })
}

fn in_words(reports: &[CheckReport]) -> Page {
    let mut page = Page::default();
    for report in reports {
        page.gap();
        page.append(report::page(report));
    }
    page
}

async fn describe(args: &DescribeArgs, cluster: &ClusterArgs) -> anyhow::Result<ExitCode> {
    let asked =
        DescribeRequest::parse(&args.registry, cluster.namespace.is_some()).map_err(|why| anyhow!(why))?;
    let cluster = cluster::configured(cluster).await?;
    let described = progress::shown("Asking the API server", describe::run(&asked, &cluster)).await?;
    let Some(description) = described else {
        note(&[format!("Registry {} not found from namespace {}", asked.name, cluster.namespace)]);
        return Ok(ExitCode::from(NO));
    };
    note(&description.notes);
    let text = match args.output {
        None => description.page(now()).render(),
        Some(ObjectFormat::Json) => output::json(&description.found.for_printing())?,
        Some(ObjectFormat::Yaml) => output::yaml(description.found.for_printing())?,
        Some(ObjectFormat::Name) => output::name(description.found.scope, &description.found.name()),
    };
    print(text.as_bytes())
}

fn manual(command: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let mut cli = PluginCli::command();
    cli.build();
    let page = match command {
        None => cli,
        Some(name) => {
            let found = cli.get_subcommands().find(|one| one.get_name() == name).cloned();
            found.ok_or_else(|| anyhow!("unknown command {name}"))?
        }
    };
    let mut roff = Vec::new();
    clap_mangen::Man::new(page).render(&mut roff).context("failed to write the manual page")?;
    Ok(roff)
}

/// Prints, with colours if the stream takes them. A reader that closes the pipe, such as `head`, is not an error.
fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    let mut output = anstream::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("failed to write the output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints notes to standard error, unless programs read the output.
fn note(lines: &[String]) {
    let mut page = Page::default();
    for line in lines {
        page.text(line);
    }
    print_error(&page);
}

fn print_error(page: &Page) {
    let _ = anstream::stderr().lock().write_all(page.render().as_bytes());
}

#[expect(clippy::disallowed_methods, reason = "this is the edge")]
fn now() -> Timestamp {
    Timestamp::now()
}
