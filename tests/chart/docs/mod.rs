//! Runs the documentation: every command of README.md, docs/*.md and the chart's README is run, in order, by a
//! shell against a real API server, its output is compared with the output on the page, and every manifest is applied.
//!
//! The info string of a code block says what is done with it:
//!
//! | Info string | What is done |
//! |---|---|
//! | `sh`, `console` | typed by the reader of the page; in `console`, what stands below a command is its answer |
//! | `sh fresh` | the same, on a new cluster |
//! | `sh before: command` | the same, in a situation that the page describes and that this command brings about |
//! | `yaml` | a manifest that the API server would take |
//! | `yaml apply` | a manifest that the reader applies |
//! | `yaml spec`, `yaml values` | a part of a registry's spec; values of the chart |
//! | `json` | JSON |
//! | any, with `notest: reason` | nothing |
//!
//! NAMESPACE and TENANT are the test's. `reader` says what else stands for what, `shown` what counts as shown.

mod aws;
mod links;
mod names;
mod numbers;
mod page;
mod reader;
mod shown;
mod structure;
mod style;
mod vocabulary;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use self::{
    page::{Block, Purpose, SessionCommand, blocks, pages, pages_below},
    reader::Reader,
};
use crate::programs::{TestCluster, template, text_of};

/// A test for each page whose commands are run here, with the reader's starting point.
macro_rules! read {
    ($($test:ident: $page:literal, $reader:expr;)*) => {
        const READ: &[&str] = &[$($page),*];
        $(#[tokio::test]
        async fn $test() -> Result<()> {
            $reader.await?.reads($page).await
        })*
    };
}

read! {
    what_the_readme_says_works: "README.md", Reader::sits_down();
    what_the_charts_readme_says_works: "charts/registry-operator/README.md", Reader::sits_down();
    who_can_use_a_registry_is_as_its_page_says: "docs/availability.md", Reader::with_registries();
    what_the_page_on_conditions_says_works: "docs/conditions.md", Reader::with_registries();
    a_registry_of_ecr_is_declared_as_its_page_says: "docs/ecr.md", aws::reader();
    a_first_registry_is_declared_as_its_page_says: "docs/first-registry.md", Reader::with_an_operator();
    what_the_page_on_installing_says_works: "docs/install.md", Reader::sits_down();
    what_the_page_on_migrating_says_works: "docs/migrate-from-palette.md", Reader::with_an_operator();
    what_the_page_on_operations_says_works: "docs/operations.md", Reader::with_registries();
    what_the_page_on_registries_says_works: "docs/registries.md", Reader::with_an_operator();
    what_the_page_on_security_says_works: "docs/security.md", Reader::with_registries();
    tenants_are_brought_in_as_their_page_says: "docs/tenancy.md", reader_beside_mallory();
}

/// `mallory` may do everything to everything, by name of each verb; only `administer` is missing.
const MALLORY: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: everything-but-administer}
rules:
  - {apiGroups: ["*"], resources: ["*"], verbs: [get, list, watch, create, update, patch, delete, deletecollection]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: mallory}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: everything-but-administer}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: mallory}]
---
apiVersion: registry.spectrocloud.com/v1alpha1
kind: SystemRegistry
metadata: {name: packs}
spec: {endpoint: "https://registry.example.com"}
"#;

async fn reader_beside_mallory() -> Result<Reader> {
    let mut reader = Reader::with_an_operator().await?;
    let command = format!("kubectl apply -f - <<'EOF'{MALLORY}EOF\n");
    reader.types(&[SessionCommand { command, shown: String::new() }]).await?;
    Ok(reader)
}

/// Pages whose commands are run by other tests, and where those are.
const READ_ELSEWHERE: [(&str, &str); 2] = [
    ("docs/image.md", "tests/chart/image.rs"),
    ("docs/kubectl-registry.md", "crates/kubectl-registry/tests/kubectl/documentation.rs"),
];

#[test]
fn covers_every_page_and_code_block() -> Result<()> {
    for page in pages()? {
        let mut is_read = READ.contains(&&*page);
        if let Some((_, test)) = READ_ELSEWHERE.iter().find(|(other, _)| *other == page) {
            ensure!(text_of(test)?.contains(&page), "{test} does not speak of {page}");
            is_read = true;
        }
        for block in blocks(&page)? {
            let is_done = block.is_done()?;
            ensure!(is_read || !is_done, "{}: no test reads this page", block.place());
            let says = block.commands().iter().all(|typed| !typed.command.trim().is_empty());
            ensure!(says && !block.commands().is_empty(), "{}: nothing is said", block.place());
        }
    }
    Ok(())
}

#[test]
fn developer_pages_have_no_untested_commands() -> Result<()> {
    let others: Vec<String> = ["docs", "tests", "crates", "charts", "config", "packaging"]
        .into_iter()
        .map(pages_below)
        .collect::<Result<Vec<_>>>()?
        .concat();
    let read = pages()?;
    for page in others.iter().filter(|page| !read.contains(page)) {
        for block in blocks(page)? {
            ensure!(!block.is_done()?, "{}: no test reads this page", block.place());
        }
    }
    Ok(())
}

#[tokio::test]
async fn helm_notes_commands_work() -> Result<()> {
    let mut reader = Reader::with_an_operator().await?;
    let notes = text_of("charts/registry-operator/templates/NOTES.txt")?;
    let notes = notes.replace("{{ .Release.Namespace }}", crate::programs::NAMESPACE);
    // Its commands are indented. Those that wait for Pods can't be run.
    let commands = notes.lines().filter_map(|line| line.strip_prefix("  "));
    let commands: Vec<&str> =
        commands.filter(|line| !line.contains("rollout") && !line.starts_with("helm test")).collect();
    ensure!(commands.len() > 5, "{commands:?}");
    reader.types(&[SessionCommand { command: commands.join("\n"), shown: String::new() }]).await
}

#[tokio::test]
async fn api_server_accepts_manifests_on_pages() -> Result<()> {
    let place = TestCluster::start().await?;
    place.install("registry-operator", &[]).await?.ok()?;
    place.serves_registries().await?;
    let tenant = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "team-a", "labels": {"registry.spectrocloud.com/tenant": "team-a"}}});
    place.kubectl(&["apply", "--filename", "-"], &tenant.to_string()).await?.ok()?;
    let mut count = 0;
    for page in pages()? {
        for block in blocks(&page)? {
            count += usize::from(is_taken(&place, &block).await.with_context(|| block.place())?);
        }
    }
    ensure!(count >= 5, "{count} manifests");
    Ok(())
}

/// Whether it is a manifest; fails if the API server rejects it.
async fn is_taken(place: &TestCluster, block: &Block) -> Result<bool> {
    let text = match block.purpose()? {
        Purpose::Manifest | Purpose::Applied => block.text.clone(),
        Purpose::Spec => within_a_registry(&block.text)?,
        Purpose::Values => return values_are_taken(&block.text).await.map(|()| true),
        Purpose::Json => return Ok(serde_json::from_str::<Value>(&block.text).map(|_| true)?),
        Purpose::SessionCommand { .. } | Purpose::TypedAfresh | Purpose::Nothing { .. } => return Ok(false),
    };
    let dry_run = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", "-"];
    place.kubectl(&dry_run, &text).await?.ok().map(|_| true)
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
