//! `kubectl registry validate`: checks the registries in files from this machine, before they are applied.
//!
//! Owns what comes from the command line. [`registry_check`] makes the checks, and [`report`](crate::report) the
//! output.

use std::{
    io::{self, Read as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use k8s_openapi::jiff::Timestamp;
use registry_check::{
    advice::CheckOutcome,
    cluster::Cluster,
    manifest::{Declared, Manifests},
    report::CheckReport,
    session::{CheckSession, Progress as _},
    supply::{FetchedReferences, Supply},
};
use secrecy::SecretString;

use crate::{
    cli::{ClusterArgs, UserName, ValidateArgs},
    cluster::{ClusterError, config, configured, offline_namespace},
    from_console::{self, ConsoleRequest, ConsoleUrl},
    progress::OnStandardError,
    prompt::Terminal,
};

/// The maximum size of standard input, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Checks all registries in the files.
pub async fn run(
    args: &ValidateArgs,
    cluster: &ClusterArgs,
    clock: fn() -> Timestamp,
) -> anyhow::Result<Vec<CheckReport>> {
    let manifests = read(args)?;
    if manifests.registries.is_empty() {
        bail!("no SystemRegistry or TenantRegistry in the files given with -f");
    }
    let connected = connect(args, cluster).await?;
    let namespace = match &connected {
        Ok(connected) => connected.namespace.clone(),
        Err(_) => offline_namespace(cluster),
    };
    let password = password(args, &manifests)?;
    let mut session = CheckSession {
        checker: args.check.checker("kubectl-registry", clock, fastrand::f64)?,
        system_namespace: &cluster.system_namespace,
        supply: Supply {
            manifests: &manifests,
            cluster: connected.as_ref().map_err(Clone::clone),
            namespace: &namespace,
            password,
            username: args.username.as_ref().map(|UserName(name)| name.clone()),
            prompt: Terminal::of_this_program,
            typed: std::collections::HashMap::new(),
            fetched: FetchedReferences::new(),
            notes: Vec::new(),
            on_behalf: false,
        },
        progress: OnStandardError,
        learned: None,
    };
    if let Some(url) = &args.from {
        return Box::pin(from_cluster(args, cluster, url, session)).await;
    }
    let mut reports = Vec::new();
    for declared in &manifests.registries {
        reports.push(Box::pin(session.report(declared)).await?);
    }
    Ok(reports)
}

/// Lets the console check the registries, with all that they refer to. Those that refer to what doesn't exist, or can't be read, are
/// checked here, where the reason is known. Nothing is sent to their endpoints.
async fn from_cluster(
    args: &ValidateArgs,
    cluster: &ClusterArgs,
    url: &ConsoleUrl,
    mut session: CheckSession<'_, OnStandardError>,
) -> anyhow::Result<Vec<CheckReport>> {
    let auth = match &args.token_file {
        Some(file) => from_console::token_in(file)?,
        None => from_console::token_of(&config(cluster).await?.auth_info)?,
    };
    let client = from_console::client(url, args.from_ca_file.as_deref(), auth)?;
    let registries = &session.supply.manifests.registries;
    let (mut request, mut reports) = (ConsoleRequest::default(), Vec::new());
    for declared in registries {
        reports.push(match session.references(declared).await? {
            Some(contents) => {
                let notes = std::mem::take(&mut session.supply.notes);
                request.add(declared, session.manifest_in_namespace(declared), contents, notes);
                None
            }
            None => Some(checked_here(&mut session, declared, url).await?),
        });
    }
    let asking = from_console::ask(&client, url, request);
    let mut answers = session.progress.shown("Asking the console", asking).await?.into_iter();
    Ok(reports.into_iter().filter_map(|report| report.or_else(|| answers.next())).collect())
}

async fn checked_here(
    session: &mut CheckSession<'_, OnStandardError>,
    declared: &Declared,
    url: &ConsoleUrl,
) -> anyhow::Result<CheckReport> {
    session.supply.notes.clear();
    let mut report = Box::pin(session.report(declared)).await?;
    report.notes.push(format!("Not sent to {url}, which needs everything that the registry refers to"));
    Ok(report)
}

fn read(args: &ValidateArgs) -> anyhow::Result<Manifests> {
    let mut manifests = Manifests::default();
    for file in &args.files {
        let from_stdin = file == Path::new("-");
        if from_stdin && args.password_stdin {
            bail!("standard input can't be both the file and the password; put one of them in a file");
        }
        let shown = if from_stdin { "standard input".to_owned() } else { file.display().to_string() };
        let text = if from_stdin { from_standard_input() } else { std::fs::read_to_string(file) };
        manifests.read(&shown, &text.with_context(|| format!("failed to read {shown}"))?)?;
    }
    Ok(manifests)
}

fn from_standard_input() -> io::Result<String> {
    let mut text = String::new();
    io::stdin().lock().take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads the password from standard input, without the newline at the end.
fn password(args: &ValidateArgs, manifests: &Manifests) -> anyhow::Result<Option<SecretString>> {
    if !args.password_stdin {
        return Ok(None);
    }
    if manifests.registries.len() > 1 {
        bail!("--password-stdin works for one registry, but the files have {}", manifests.registries.len());
    }
    let text = SecretString::from(from_standard_input().context("failed to read the password")?);
    let password = secrecy::ExposeSecret::expose_secret(&text).trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("--password-stdin: standard input is empty");
    }
    Ok(Some(SecretString::from(password)))
}

/// Returns the cluster, or why it isn't used. If the user names a cluster, it must be usable.
async fn connect(args: &ValidateArgs, cluster: &ClusterArgs) -> anyhow::Result<Result<Cluster, String>> {
    if args.offline {
        return Ok(Err("the cluster is not used (--offline)".to_owned()));
    }
    let nobody_asked = cluster.kubeconfig.is_none() && cluster.context.is_none();
    match configured(cluster).await {
        Ok(connected) => Ok(Ok(connected)),
        Err(ClusterError::NotConfigured(_)) if nobody_asked => Ok(Err("no cluster is configured".to_owned())),
        Err(error) => Err(error.into()),
    }
}

/// Returns the worst result.
pub fn outcome(reports: &[CheckReport]) -> CheckOutcome {
    reports.iter().map(CheckReport::outcome).max().unwrap_or(CheckOutcome::Unclear)
}
