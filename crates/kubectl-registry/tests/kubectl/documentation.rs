//! Runs the commands of docs/kubectl-registry.md in order, and compares their output with the page, except for numbers,
//! fingerprints and durations.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use registry_testbed::tools;
use serde_json::{Value, json};

use crate::{
    bed::{Cluster, Installation, SYSTEM_NAMESPACE, finished},
    cluster::told,
    kubectl::Kubectl,
    registries::{PASSWORD, Protected, login, system, tenant},
};

const PAGE: &str = "docs/kubectl-registry.md";

#[tokio::test]
async fn page_shows_what_the_commands_print() -> Result<()> {
    let installation = Installation::start().await?;
    let kubectl = Kubectl::start(&installation).await?;
    let (protected, open) = (Protected::start().await?, Protected::open().await?);
    let cluster = installation.cluster().await?;
    prepare(&cluster, &kubectl, &protected, &open).await?;

    let written = std::fs::read_to_string(tools::repository().join(PAGE))?;
    let mut shown = String::new();
    for part in parts(&written) {
        match part {
            Part::Text(text) => shown.push_str(text),
            Part::Command(command) => {
                if command.contains("registry describe packs") {
                    // The page shows the newest Event, which is written after the status.
                    told(&cluster, "default", "packs", "Available").await?;
                }
                let shell = kubectl.command("sh", &["-c", command]);
                let run = finished(shell, "").await?;
                write!(shown, "$ {command}\n{}{}", run.stdout, run.stderr)?;
            }
        }
    }
    if normal(&shown) != normal(&written) {
        let made = tools::repository().join("target").join(Path::new(PAGE).file_name().context("a name")?);
        std::fs::write(&made, &shown)?;
        let differs = normal(&shown).into_iter().zip(normal(&written)).find(|(now, then)| now != then);
        bail!(
            "{PAGE} is not what is printed; that is in {}. The first difference: {differs:#?}",
            made.display()
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_block_of_the_page_is_run_or_exempt() -> Result<()> {
    let installation = Installation::shared().await?;
    let kubectl = Kubectl::start(installation).await?;
    let written = std::fs::read_to_string(tools::repository().join(PAGE))?;
    for block in written.split("\n```").skip(1).step_by(2) {
        let (fence, text) = block.split_once('\n').context("a block without a line")?;
        let reason = fence.split_once("notest: ").map_or("", |(_, reason)| reason);
        if fence == "sh" {
            let shell = kubectl.command("bash", &["-eu", "-o", "pipefail", "-c", text]);
            let run = finished(shell, "").await?;
            ensure!(run.code == 0, "{text}: {run:#?}");
        } else {
            ensure!(
                fence == "console" || reason.len() > 10,
                "{PAGE}: nothing is done with `{fence}`: {text}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn flags_on_the_page_exist() -> Result<()> {
    let desk = crate::bed::Desk::new()?;
    let mut help = String::new();
    for command in ["list", "validate", "describe", "completion"] {
        help.push_str(&desk.run(&[command, "--help"]).await?.stdout);
    }
    let known: Vec<&str> = help.split(|c: char| c != '-' && !c.is_ascii_lowercase()).collect();
    let written = std::fs::read_to_string(tools::repository().join(PAGE))?;
    let code = written.split('`').skip(1).step_by(2);
    let flags: Vec<&str> = code.filter(|code| code.starts_with("--")).collect();
    ensure!(flags.len() > 5, "{flags:?}");
    for flag in flags {
        ensure!(known.contains(&flag), "{PAGE}: the plugin has no {flag}");
    }
    Ok(())
}

/// Creates what the page assumes: a tenant with a registry, and the files.
async fn prepare(
    cluster: &Cluster,
    kubectl: &Kubectl,
    protected: &Protected,
    open: &Protected,
) -> Result<()> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "team-a", "labels": {"registry.spectrocloud.com/tenant": "team-a"}},
    });
    cluster.apply(&format!("{namespace}\n---\n{}", tenant("team-a", "charts", &open.open_spec()))).await?;
    cluster.becomes(&cluster.tenant("team-a"), "charts", "Ready=True/Available").await?;
    let secret = login("login", Some(SYSTEM_NAMESPACE), PASSWORD);
    let without_ca = json!({"endpoint": protected.registry.url(), "auth": protected.spec()["auth"]});
    let mut too_often = protected.spec();
    too_often["validation"] = json!({"interval": "10s"});
    for (file, spec) in
        [("packs.yaml", &protected.spec()), ("without-ca.yaml", &without_ca), ("too-often.yaml", &too_often)]
    {
        kubectl.desk.file(file, &(secret.clone() + &system("packs", spec)))?;
    }
    kubectl.desk.file("registry-only.yaml", &system("packs", &protected.spec()))?;
    kubectl.desk.file("password.txt", PASSWORD)?;
    Ok(())
}

/// A part of the page.
enum Part<'a> {
    /// Text.
    Text(&'a str),
    /// A command. Its output follows on the page.
    Command(&'a str),
}

/// Returns the page without the output of commands. Only blocks marked `console` are run.
fn parts(page: &str) -> Vec<Part<'_>> {
    let (mut parts, mut in_console, mut behind_command) = (Vec::new(), false, false);
    for line in page.split_inclusive('\n') {
        if line.starts_with("```") {
            in_console = line.trim_end() == "```console";
            behind_command = false;
            parts.push(Part::Text(line));
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| in_console) {
            behind_command = true;
            parts.push(Part::Command(command.trim_end()));
        } else if !behind_command {
            parts.push(Part::Text(line));
        }
    }
    parts
}

/// Returns the words of each line, without values that differ in each run.
fn normal(page: &str) -> Vec<Vec<String>> {
    page.lines().map(|line| line.split_whitespace().map(word).collect()).collect()
}

fn word(word: &str) -> String {
    let is_hex = |part: &str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex(word.trim_end_matches([')', ';'])) {
        return "FINGERPRINT".to_owned();
    }
    let mut normal = String::new();
    for c in word.chars() {
        match c {
            '0'..='9' if normal.ends_with('0') => {}
            '0'..='9' => normal.push('0'),
            c => normal.push(c),
        }
    }
    // A duration such as 10m or 3m20s.
    let parts = normal.trim_matches(['(', ')']).split_inclusive(|c: char| c.is_ascii_lowercase());
    let is_age = parts.into_iter().all(|part| ["0s", "0m", "0h", "0d"].contains(&part));
    if is_age && !normal.is_empty() { "AGE".to_owned() } else { normal }
}

#[test]
fn ignores_only_what_differs_between_runs() {
    let same = |one: &str, other: &str| normal(one) == normal(other);
    assert!(same(
        "  valid until 2026-11-22T10:40:16Z (in 364d)",
        "  valid  until 2027-01-02T03:04:05Z (in 23h)"
    ));
    assert!(same("https://127.0.0.1:22914 3m20s", "https://127.0.0.1:5000 8s"));
    assert!(!same("✓ Credentials validated", "? Credentials validated"));
    assert!(!same("a Secret", "Secret"));
}

#[tokio::test]
async fn json_output_holds_the_conditions() -> Result<()> {
    let (desk, open) = (crate::bed::Desk::new()?, Protected::open().await?);
    let file = desk.file("open.yaml", &system("open", &open.open_spec()))?;
    let run = desk.run(&["validate", "--offline", "-f", &file, "-o", "json"]).await?;
    let object: Value = serde_json::from_str(&run.stdout)?;
    assert_eq!(object["usable"], json!(true));
    assert_eq!(object["status"]["conditions"][0]["type"], json!("ResolvedRefs"));
    assert_eq!(object["manifest"]["result"], json!("NotAsked"));
    assert_eq!(object["presented"]["subject"], json!("CN=registry"));
    Ok(())
}
