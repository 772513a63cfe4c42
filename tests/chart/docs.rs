//! The documentation, taken at its word: every command of README.md and docs/*.md is run, in its order, by a shell on a real API
//! server, and every manifest is applied to one.
//!
//! What stands in for what: no Pods run, so the operator is started beside the API server as soon as a command has installed
//! it; a registry on loopback stands where the pages write https://registry.example.com. A block that can't be run says so
//! in its first line, with the reason: `sh notest: why`. One for a situation that the page speaks of says how the test gets there:
//! `sh before: command`. One that begins on a new cluster says `sh fresh`. NAMESPACE and TENANT are the test's.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use registry_testbed::{
    Operator, OperatorOptions, Registry, RegistryAuth, RegistryOptions,
    tools::{self, Tool},
};
use serde_json::{Value, json};

use crate::programs::{NAMESPACE, Place, finish, in_repository, template, text_of};

/// The pages that are run, each by a test below.
const RUN: [&str; 7] = [
    "README.md",
    "docs/conditions.md",
    "docs/first-registry.md",
    "docs/install.md",
    "docs/migrate-from-palette.md",
    "docs/operations.md",
    "docs/security.md",
];
/// Pages whose commands are run by tests of their own, or that have none.
const ELSEWHERE: [&str; 7] = [
    "docs/availability.md",
    "docs/ecr.md",
    "docs/image.md",
    "docs/kubectl-registry.md",
    "docs/reference.md",
    "docs/registries.md",
    "docs/tenancy.md",
];

/// A fenced block of a page.
#[derive(Clone, Debug)]
struct Block {
    page: String,
    line: usize,
    /// The fence's words: the language, then what we say of it.
    language: String,
    tag: String,
    text: String,
}

impl Block {
    fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    fn is_shell(&self) -> bool {
        ["sh", "console"].contains(&&*self.language)
    }

    /// Why it is not run.
    fn reason(&self) -> Option<&str> {
        self.tag.strip_prefix("notest:").map(str::trim)
    }

    /// What brings about the situation that it is for.
    fn before(&self) -> Option<&str> {
        self.tag.strip_prefix("before:")
    }

    /// What a person would type.
    fn commands(&self) -> String {
        if self.language == "sh" { self.text.clone() } else { typed(&self.text) }
    }
}

/// The commands of a session: from each `$ ` to the end of its continuations and here-documents. The rest is output.
fn typed(session: &str) -> String {
    let mut commands = String::new();
    let mut is_typed = false;
    let mut until: Option<String> = None;
    for line in session.lines() {
        let begins = line.strip_prefix("$ ").filter(|_| until.is_none());
        if begins.is_none() && !is_typed {
            continue;
        }
        let line = begins.unwrap_or(line);
        commands.push_str(line);
        commands.push('\n');
        if until.as_deref() == Some(line) {
            until = None;
        } else if let Some((_, word)) = line.split_once("<<") {
            until = Some(word.trim().trim_matches(['\'', '"']).to_owned());
        }
        is_typed = until.is_some() || line.ends_with('\\');
    }
    commands
}

fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text_of(page)?.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(words), None) => {
                let (language, tag) = words.split_once(' ').unwrap_or((words, ""));
                let (language, tag) = (language.to_owned(), tag.to_owned());
                open = Some(Block {
                    page: page.to_owned(),
                    line: index + 1,
                    language,
                    tag,
                    text: String::new(),
                });
            }
            (Some(_), Some(block)) => found.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    ensure!(open.is_none(), "{page} has a block without an end");
    Ok(found)
}

/// Somebody who reads a page and types what it says.
struct Reader {
    place: Place,
    desk: tempfile::TempDir,
    registry: Registry,
    operator: Option<Operator>,
}

const PASSWORD: &str = "right";
const SHARED: [&str; 3] = ["charts", "config", "crds"];

impl Reader {
    async fn sits_down() -> Result<Self> {
        let desk = tempfile::tempdir()?;
        for shared in SHARED {
            std::os::unix::fs::symlink(in_repository(shared), desk.path().join(shared))?;
        }
        let auth = RegistryAuth::htpasswd("demo", PASSWORD);
        let registry = Registry::start(RegistryOptions { auth, ..Default::default() }).await?;
        Ok(Self { place: Place::start().await?, desk, registry, operator: None })
    }

    /// One for whom the operator is installed, with a registry and a tenant.
    async fn with_an_installation() -> Result<Self> {
        let mut reader = Self::sits_down().await?;
        reader.types("helm install registry-operator charts/registry-operator -n registry-system --create-namespace").await?;
        let pages = ["docs/first-registry.md"];
        for block in blocks(pages[0])?.iter().filter(|block| block.is_shell()) {
            let text = block.commands();
            // All but the tidying up.
            if !text.contains("kubectl delete") {
                reader.types(&text).await.with_context(|| block.place())?;
            }
        }
        Ok(reader)
    }

    async fn reads(mut self, page: &str) -> Result<()> {
        let blocks = blocks(page)?;
        let blocks: Vec<&Block> =
            blocks.iter().filter(|block| block.is_shell() && block.reason().is_none()).collect();
        ensure!(!blocks.is_empty(), "{page} has nothing to type");
        for block in blocks {
            if block.tag == "fresh" {
                drop(self);
                self = Self::sits_down().await?;
            }
            if let Some(before) = block.before() {
                self.types(before).await.with_context(|| block.place())?;
            }
            self.types(&block.commands()).await.with_context(|| block.place())?;
        }
        Ok(())
    }

    async fn types(&mut self, text: &str) -> Result<String> {
        let text = text.replace("https://registry.example.com", &self.registry.url());
        let text = text.replace("NAMESPACE", "team-a").replace("TENANT", "team-a");
        let tools = tools::ensure(&[Tool::Helm, Tool::Kubectl]).await?;
        let bin = tools.get(Tool::Kubectl).parent().unwrap_or(Path::new("/")).display().to_string();
        let mut shell = Command::new("bash");
        shell.args(["-eu", "-o", "pipefail", "-c", &text]).current_dir(self.desk.path());
        shell.env_clear().env("PATH", format!("{bin}:/usr/bin:/bin")).env("PASSWORD", PASSWORD);
        shell.env("HOME", self.desk.path()).env("KUBECONFIG", self.place.control_plane.admin_kubeconfig());
        let said = finish(shell, text, String::new()).await?.ok()?;
        self.starts_what_was_installed().await?;
        Ok(said)
    }

    /// In the place of the Deployment's Pods.
    async fn starts_what_was_installed(&mut self) -> Result<()> {
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.place.control_plane.client().await?, NAMESPACE);
        if self.operator.is_none() && accounts.get_opt("registry-operator").await?.is_some() {
            let kubeconfig = self
                .place
                .control_plane
                .kubeconfig_for_service_account(NAMESPACE, "registry-operator")
                .await?;
            let options = OperatorOptions::new(env!("CARGO_BIN_EXE_registry-operator"), kubeconfig);
            self.operator = Some(Operator::start(options).await?);
        }
        Ok(())
    }
}

#[tokio::test]
async fn what_the_readme_says_works() -> Result<()> {
    Reader::sits_down().await?.reads("README.md").await
}

#[tokio::test]
async fn what_the_page_on_installing_says_works() -> Result<()> {
    Reader::sits_down().await?.reads("docs/install.md").await
}

#[tokio::test]
async fn a_first_registry_is_declared_as_its_page_says() -> Result<()> {
    let mut reader = Reader::sits_down().await?;
    reader
        .types(
            "helm install registry-operator charts/registry-operator -n registry-system --create-namespace",
        )
        .await?;
    let start = std::time::Instant::now();
    reader.reads("docs/first-registry.md").await?;
    ensure!(start.elapsed() < Duration::from_mins(5), "five minutes, it says");
    Ok(())
}

#[tokio::test]
async fn what_the_page_on_operations_says_works() -> Result<()> {
    Reader::with_an_installation().await?.reads("docs/operations.md").await
}

#[tokio::test]
async fn what_the_page_on_security_says_works() -> Result<()> {
    Reader::with_an_installation().await?.reads("docs/security.md").await
}

#[tokio::test]
async fn what_the_page_on_migrating_says_works() -> Result<()> {
    Reader::with_an_installation().await?.reads("docs/migrate-from-palette.md").await
}

#[tokio::test]
async fn what_the_page_on_conditions_says_works() -> Result<()> {
    Reader::with_an_installation().await?.reads("docs/conditions.md").await
}

fn pages() -> Result<Vec<String>> {
    let mut pages = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(in_repository("docs"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        pages.extend(path.extension().is_some_and(|kind| kind == "md").then(|| format!("docs/{name}")));
    }
    pages.sort();
    Ok(pages)
}

#[test]
fn no_page_and_no_block_is_passed_over_in_silence() -> Result<()> {
    let chart = "charts/registry-operator/README.md".to_owned();
    for page in pages()?.into_iter().chain([chart.clone()]) {
        let is_known = RUN.contains(&&*page) || ELSEWHERE.contains(&&*page) || page == chart;
        assert!(is_known, "{page} is neither run nor said to be run elsewhere");
        for block in blocks(&page)? {
            assert!(
                !["bash", "shell", "yml"].contains(&&*block.language),
                "{}: write sh, console or yaml",
                block.place()
            );
            if let Some(reason) = block.reason() {
                assert!(reason.len() > 10, "{}: why is it not run?", block.place());
            } else if block.is_shell() {
                let is_known = ["", "fresh"].contains(&&*block.tag) || block.before().is_some();
                assert!(is_known, "{}: {:?}", block.place(), block.tag);
                assert!(!block.commands().trim().is_empty(), "{}: nothing to type", block.place());
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_manifest_in_the_pages_is_taken_by_the_api_server() -> Result<()> {
    let place = Place::start().await?;
    place.install("registry-operator", &[]).await?.ok()?;
    let tenant = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "team-a", "labels": {"registry.spectrocloud.com/tenant": "team-a"}}});
    place.kubectl(&["apply", "--filename", "-"], &tenant.to_string()).await?.ok()?;
    let mut count = 0;
    // Its manifest stands for one with a whole certificate; the plugin's own tests have one.
    for page in pages()?.into_iter().filter(|page| page != "docs/kubectl-registry.md") {
        for block in
            blocks(&page)?.into_iter().filter(|block| block.language == "yaml" && block.reason().is_none())
        {
            taken(&place, &block).await.with_context(|| block.place())?;
            count += 1;
        }
    }
    ensure!(count >= 5, "{count} manifests");
    Ok(())
}

/// A whole manifest; `yaml spec`, a part of a registry's spec; `yaml values`, values of the chart.
async fn taken(place: &Place, block: &Block) -> Result<()> {
    let text = match &*block.tag {
        "values" => return values_are_taken(&block.text).await,
        "spec" => within_a_registry(&block.text)?,
        "" => block.text.clone(),
        tag => anyhow::bail!("what is {tag:?}?"),
    };
    let dry_run = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", "-"];
    place.kubectl(&dry_run, &text).await?.ok().map(drop)
}

async fn values_are_taken(text: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    template(&["--values", &file.path().display().to_string()]).await?.ok().map(drop)
}

fn within_a_registry(text: &str) -> Result<String> {
    let part: Value = serde_saphyr::from_str(text)?;
    let mut spec = part.get("spec").unwrap_or(&part).clone();
    if spec["endpoint"].is_null() {
        let ecr = "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com";
        let is_ecr = !spec["auth"]["ecr"].is_null();
        spec["endpoint"] = json!(if is_ecr { ecr } else { "https://registry.example.com" });
    }
    let registry = json!({"apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry",
        "metadata": {"name": "part"}, "spec": spec});
    Ok(registry.to_string())
}

#[test]
fn what_is_typed_is_told_from_what_is_answered() {
    let session = "$ one\nanswer\n$ two \\\n    more\nanswer\n$ three <<'EOF'\n$ not a prompt\nEOF\nanswer\n";
    assert_eq!(typed(session), "one\ntwo \\\n    more\nthree <<'EOF'\n$ not a prompt\nEOF\n");
}
