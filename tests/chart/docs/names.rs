//! Every name on a page exists: make targets, flags, variables, fields, chart values, metrics,
//! labels, tests. Names are looked up where they are defined; nothing is run.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use clap::CommandFactory as _;
use registry_operator::settings::OperatorCli;
use registry_testbed::in_repository;
use serde_json::Value;

use super::{
    links::all_pages,
    page::{blocks, code, pages},
    structure::all_sources,
};
use crate::{
    monitoring::{exposed, families},
    programs::text_of,
};

/// Calls `check` with each code span of each page, and adds the page to its error.
fn each_code(check: impl Fn(&str) -> Result<()>) -> Result<()> {
    for page in pages()? {
        for code in code(&page)? {
            check(&code).with_context(|| format!("{page}: `{code}`"))?;
        }
    }
    Ok(())
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    let is_between = |c: char| c.is_whitespace() || ['|', ',', ';', '(', ')', '"', '\''].contains(&c);
    code.split(is_between).filter(|word| !word.is_empty())
}

// ---- Programs

#[test]
fn make_targets_exist() -> Result<()> {
    let makefile = text_of("Makefile")?;
    let is_target = |target: &str| makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
    let check = |code: &str| {
        let mut words = words(code);
        while let Some(word) = words.next() {
            let target = (word == "make").then(|| words.next()).flatten();
            // `make` alone, and `make ONCE=1`.
            if let Some(target) = target.filter(|target| !target.contains('=')) {
                ensure!(is_target(target), "the Makefile has no target {target}");
            }
        }
        Ok(())
    };
    for page in all_pages()? {
        // A message in code may have the word too.
        for code in code(&page)?.iter().filter(|code| code.starts_with("make")) {
            check(code).with_context(|| format!("{page}: `{code}`"))?;
        }
        for block in blocks(&page)? {
            for typed in block.commands() {
                check(&typed.command).with_context(|| block.place())?;
            }
        }
    }
    Ok(())
}

/// Flags that every program has, or other programs than ours, and that no page shows in a command.
const FOREIGN_FLAGS: [&str; 2] = ["--help", "--wait"];

/// Commands are checked by running them.
fn flags_in_commands() -> Result<BTreeSet<String>> {
    let mut flags = BTreeSet::new();
    for page in pages()? {
        for block in blocks(&page)? {
            flags.extend(block.text.split_whitespace().filter(|word| word.starts_with("--")).map(flag));
        }
    }
    Ok(flags)
}

/// Flags by themselves, or those of the programs that people run here.
fn is_about_us(code: &str) -> bool {
    let first = code.split(' ').next().unwrap_or_default();
    is_flag(first) || ["helm", "kubectl", "registry-operator"].contains(&first)
}

fn is_flag(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
}

fn flag(word: &str) -> String {
    word.split('=').next().unwrap_or(word).to_owned()
}

#[test]
fn flags_on_pages_exist() -> Result<()> {
    let cli = OperatorCli::command();
    let own: BTreeSet<String> = cli
        .get_arguments()
        .filter_map(|argument| argument.get_long())
        .map(|long| format!("--{long}"))
        .collect();
    let shown = flags_in_commands()?;
    let elsewhere = code("docs/kubectl-registry.md")?;
    for page in pages()?.iter().filter(|page| *page != "docs/kubectl-registry.md") {
        for code in code(page)?.iter().filter(|code| is_about_us(code) && !elsewhere.contains(code)) {
            for flag in words(code).filter(|word| is_flag(word)).map(flag) {
                let is_known =
                    own.contains(&flag) || shown.contains(&flag) || FOREIGN_FLAGS.contains(&&*flag);
                ensure!(is_known, "{page}: `{code}`: nobody has the flag {flag}");
            }
        }
    }
    Ok(())
}

#[test]
fn environment_variables_on_pages_exist() -> Result<()> {
    let cli = OperatorCli::command();
    let read: BTreeSet<String> = cli
        .get_arguments()
        .filter_map(|argument| argument.get_env())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    for page in pages()? {
        let text = text_of(&page)?;
        let is_of_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let names = text.split(|c| !is_of_name(c));
        for name in
            names.filter(|name| name.starts_with("REGISTRY_OPERATOR_") || name.starts_with("AWS_ENDPOINT"))
        {
            ensure!(read.contains(name), "{page}: the operator does not read {name}");
        }
    }
    Ok(())
}

// ---- Fields and values

fn crd(file: &str) -> Result<Value> {
    let crd: Value = serde_saphyr::from_str(&text_of(&format!("crds/{file}.yaml"))?)?;
    Ok(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
}

fn values() -> Result<Value> {
    Ok(serde_json::from_str(&text_of("charts/registry-operator/values.schema.json")?)?)
}

/// What a schema says of a dotted path. Below an object of any keys, anything may be.
fn lookup<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |at, segment| {
        let at = if at["items"].is_object() { &at["items"] } else { at };
        let name = segment.split('[').next().unwrap_or(segment);
        at["properties"].get(name).or_else(|| at["properties"].is_null().then_some(at))
    })
}

/// Keys of Secrets and hosts that look like paths.
const NO_PATHS: [&str; 3] = ["auth.docker.io", "tls.crt", "tls.key"];

/// The path in words like `spec.tls.ca.inline`, `tenantPolicy.plainHTTP: true`, `auth.ecr.sts.roleARN`.
fn dotted(word: &str) -> Option<&str> {
    let path = word.split([':', '=', '/']).next()?;
    let is_path =
        path.contains('.') && path.split('.').all(|part| part.starts_with(|c: char| c.is_ascii_lowercase()));
    is_path.then_some(path)
}

#[test]
fn fields_and_values_on_pages_exist() -> Result<()> {
    let (registry, chart) = (crd("systemregistries")?, values()?);
    let (of_registry, of_chart) = (&registry["properties"], &chart["properties"]);
    let of_spec = &of_registry["spec"]["properties"];
    each_code(|code| {
        for path in
            words(code).filter_map(dotted).filter(|path| !path.contains('*') && !NO_PATHS.contains(path))
        {
            let first = path.split('.').next().unwrap_or(path);
            let readings = [
                (of_registry.get(first), lookup(&registry, path)),
                (of_spec.get(first), lookup(&registry["properties"]["spec"], path)),
                (of_chart.get(first), lookup(&chart, path)),
            ];
            let mut possible = readings.iter().filter(|(begins, _)| begins.is_some()).peekable();
            if possible.peek().is_some() {
                ensure!(
                    possible.any(|(_, found)| found.is_some()),
                    "neither a registry nor the chart has {path}"
                );
            }
        }
        Ok(())
    })
}

#[test]
fn values_set_on_pages_exist() -> Result<()> {
    let chart = values()?;
    for page in pages()? {
        for block in blocks(&page)? {
            for (_, set) in
                block.text.match_indices("--set ").map(|(at, set)| block.text[at..].split_at(set.len()))
            {
                let path = set.trim_start_matches('\'').split('=').next().unwrap_or_default();
                ensure!(lookup(&chart, path).is_some(), "{}: the chart has no value {path}", block.place());
            }
        }
    }
    Ok(())
}

#[test]
fn migration_page_covers_every_console_field() -> Result<()> {
    let page = text_of("docs/migrate-from-palette.md")?;
    let registry = crd("systemregistries")?;
    let spec = registry["properties"]["spec"]["properties"].as_object().context("a spec")?;
    for (name, field) in spec {
        let below = field["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(below, _)| format!("spec.{name}.{below}"));
        for path in below.chain([format!("spec.{name}")]) {
            let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let is_named = [&*path, parent].iter().any(|path| page.contains(&format!("`{path}`")));
            ensure!(
                is_named || page.contains(&format!("`{path}.")),
                "docs/migrate-from-palette.md does not name {path}"
            );
        }
    }
    Ok(())
}

// ---- What is seen from outside

#[test]
fn metrics_and_labels_on_pages_exist() -> Result<()> {
    let exposed = exposed()?;
    let find = |metric: &str| {
        ["", "_bucket", "_total"].iter().find_map(|suffix| exposed.get(&format!("{metric}{suffix}")))
    };
    each_code(|code| {
        for metric in words(code).filter(|word| word.starts_with("registry_operator_")) {
            find(metric).with_context(|| format!("the operator has no metric {metric}"))?;
        }
        Ok(())
    })?;
    let table = text_of("docs/operations.md")?;
    for row in table.lines().filter(|line| line.starts_with("| `registry_operator_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names =
            |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
        let metric = cells[1].trim_matches('`');
        let mut labels = find(metric).with_context(|| format!("no metric {metric}"))?.clone();
        // A histogram's own.
        labels.remove("le");
        ensure!(names(cells[2]) == labels, "docs/operations.md: {metric} has the labels {labels:?}");
    }
    Ok(())
}

#[test]
fn metrics_are_in_the_table() -> Result<()> {
    let page = text_of("docs/operations.md")?;
    let families = families()?;
    ensure!(families.contains("registry_operator_validations_total"), "no metrics are found: {families:?}");
    for metric in families {
        ensure!(page.contains(&format!("\n| `{metric}` |")), "docs/operations.md has no row for {metric}");
    }
    Ok(())
}

#[test]
fn labels_and_annotations_on_pages_exist() -> Result<()> {
    let known = [
        registry_api::TENANT_LABEL,
        registry_api::REQUESTED_AT,
        registry_api::FINALIZER,
        registry_api::REGISTRY_UID_LABEL,
        registry_api::REGISTRY_ANNOTATION,
        registry_api::HOSTS_ANNOTATION,
        registry_api::TOKEN_SECRET_TYPE,
        // The reporting controller of Events.
        "registry.spectrocloud.com/registry-operator",
        // The API's own version.
        "registry.spectrocloud.com/v1alpha1",
    ];
    for page in pages()? {
        let text = text_of(&page)?;
        for (at, _) in text.match_indices("registry.spectrocloud.com/") {
            let is_of_name = |c: &char| c.is_ascii_alphanumeric() || "./-".contains(*c);
            let name: String = text[at..].chars().take_while(is_of_name).collect();
            let name = name.trim_end_matches('.');
            // `systemregistry.registry.spectrocloud.com/packs` is an object.
            let is_object = text[..at].ends_with('.');
            ensure!(is_object || known.contains(&name), "{page}: nobody knows {name}");
        }
    }
    Ok(())
}

#[test]
fn tests_on_the_tenancy_page_exist() -> Result<()> {
    let mut count = 0;
    for code in code("docs/tenancy.md")? {
        let Some((file, test)) = code.split_once("::") else { continue };
        let path = format!("tests/tenancy/{file}.rs");
        ensure!(in_repository(&path).exists(), "docs/tenancy.md: {code}: there is no {path}");
        let begins = test.trim_end_matches(['…', '*']);
        if !text_of(&path)?.contains(&format!("fn {begins}")) {
            bail!("docs/tenancy.md: {path} has no test {test}");
        }
        count += 1;
    }
    ensure!(count > 10, "{count} tests");
    Ok(())
}

// ---- Faults

/// The page on faults, whose tables name tests.
const RELIABILITY: &str = "docs/reliability.md";
/// How many faults there are.
const FAULTS: usize = 28;

/// The text of every Rust file.
fn sources() -> Result<String> {
    let files = all_sources(["src", "crates", "tests"].map(in_repository))?;
    files.into_iter().map(|file| Ok(std::fs::read_to_string(file)?)).collect()
}

/// The functions of that text whose names begin so.
fn functions<'a>(text: &'a str, beginning: &str) -> BTreeSet<&'a str> {
    let named = text.match_indices("fn ").map(|(at, keyword)| &text[at + keyword.len()..]);
    let name = |rest: &'a str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
    named.filter_map(name).filter(|name| name.starts_with(beginning)).collect()
}

/// The rows of the page's tables, without heads and rules, each with its first cell and the code in its last one.
fn rows(page: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = rows.filter_map(|row| Some((row.split(" | ").next()?, row.rsplit(" | ").next()?)));
    cells.map(|(first, last)| (first, last.split('`').skip(1).step_by(2).collect())).collect()
}

#[test]
fn tests_on_the_reliability_page_exist() -> Result<()> {
    let (page, sources) = (text_of(RELIABILITY)?, sources()?);
    let all = functions(&sources, "");
    let rows = rows(page.split_once("## How it is tested").context("the tables")?.1);
    for (first, tests) in &rows {
        for test in tests {
            ensure!(all.contains(test), "{RELIABILITY}: row {first}: there is no test {test}");
        }
    }
    for number in 1..=FAULTS {
        let row = rows.iter().find(|(first, _)| *first == number.to_string());
        let (_, tests) = row.with_context(|| format!("{RELIABILITY} has no row {number}"))?;
        for test in functions(&sources, &format!("fault_{number:02}_")) {
            let is_elsewhere = number == FAULTS && rows.iter().any(|(_, tests)| tests.contains(&test));
            ensure!(is_elsewhere || tests.contains(&test), "{RELIABILITY}: row {number} lacks {test}");
        }
    }
    Ok(())
}
