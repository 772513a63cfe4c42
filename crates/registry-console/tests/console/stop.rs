//! The console on a user's machine ends at once when it is told to, whatever is under way.

use std::{fs::File, path::Path, process::Command, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, stream::FuturesUnordered};
use http::Method;
use registry_testbed::{ControlPlane, ControlPlaneOptions, eventually};
use rustix::process::Signal;
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    bed::{self, Browser, Cluster, DRAFT, PASSWORD, USER},
    live::{attribute, read_until, stalling_registry},
};

/// How many tables of a session wait for changes at once.
const TABLES: usize = 4;

/// A cluster in which no registry changes.
async fn quiet_cluster() -> Result<Cluster> {
    static QUIET: OnceCell<ControlPlane> = OnceCell::const_new();
    Cluster::of(QUIET.get_or_try_init(|| bed::start(ControlPlaneOptions::default())).await?).await
}

/// Ends a console with as many waiting tables as it takes, and a validation of a registry that says nothing.
async fn ends_at_once(signal: Signal) -> Result<()> {
    let mut browser = quiet_cluster().await?.administrator().await?;
    let page = browser.get("/system/registries").await?;
    let changes = format!("{}since={}", attribute(&page, "data-changes")?, attribute(&page, "data-since")?);
    let wait = |_| tokio::spawn(browser.request(Method::GET, &changes).send());
    let mut waiting: FuturesUnordered<_> = (0..=TABLES).map(wait).collect();
    // One more than it takes is refused when the others are waiting.
    let refused = waiting.next().await.context("none is refused")???;
    ensure!(refused.status() == 429, "{refused:?}");

    let endpoint = stalling_registry(Arc::new(Semaphore::new(0))).await?;
    let fields = [
        ("action", "validate"),
        ("content_type", "Pack"),
        ("draft", DRAFT),
        ("name", "stalls"),
        ("endpoint", &endpoint),
        ("username", USER),
        ("password", PASSWORD),
    ];
    let mut answer = browser.begin("/system/add/basic", &fields).await?;
    read_until(&mut answer, &mut String::new(), "<b>TLSVerified</b>").await?;

    let status = browser.end(signal).await?;
    ensure!(status.success(), "{status}: {}", browser.output());
    ensure!(waiting.len() == TABLES, "{} tables were waiting", waiting.len());
    while let Some(table) = waiting.next().await {
        ensure!(table?.is_err(), "a table was told of a change");
    }
    Ok(())
}

#[tokio::test]
async fn ends_at_once_with_waiting_pages_by_sigterm() -> Result<()> {
    ends_at_once(Signal::TERM).await
}

#[tokio::test]
async fn ends_at_once_with_waiting_pages_by_sigint() -> Result<()> {
    ends_at_once(Signal::INT).await
}

/// A kubeconfig whose user gets a token by a plugin that writes the file `begun`, and waits for the pipe to end.
fn with_hanging_plugin(cluster: &Cluster, begun: &Path, pipe: &Path) -> Result<String> {
    let exec = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, interactiveMode: Never, \
         args: [-c, 'echo > {}; cat {}']}}",
        begun.display(),
        pipe.display()
    );
    Ok(std::fs::read_to_string(cluster.token_kubeconfig("PLACEHOLDER")?)?
        .replace("token: PLACEHOLDER", &exec))
}

#[tokio::test]
async fn ends_at_once_while_a_credential_plugin_hangs() -> Result<()> {
    let (cluster, directory) = (Cluster::shared().await?, tempfile::tempdir()?);
    let [kubeconfig, begun, pipe] = ["kubeconfig", "begun", "pipe"].map(|name| directory.path().join(name));
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    // Until this ends.
    let _open = File::options().read(true).write(true).open(&pipe)?;
    std::fs::write(&kubeconfig, with_hanging_plugin(&cluster, &begun, &pipe)?)?;
    let mut browser = Browser::at(&kubeconfig, &[]).await?;
    let signing_in = tokio::spawn(browser.request(Method::GET, &browser.url[browser.origin.len()..]).send());
    let has_begun = || async { if begun.exists() { Ok(()) } else { Err("the plugin is not called") } };
    eventually("the plugin is called", has_begun).await?;
    let status = browser.end(Signal::TERM).await?;
    ensure!(status.success(), "{status}: {}", browser.output());
    ensure!(signing_in.await?.is_err(), "nobody is signed in");
    Ok(())
}
