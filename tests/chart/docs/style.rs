//! Phrases that readers stumble over. Neither texts for users nor comments contain them. To ban another phrase, add a line to
//! `BANNED`.

use std::path::Path;

use anyhow::{Result, ensure};
use registry_testbed::in_repository;
use serde_json::Value;

use super::{
    links::all_pages,
    page::{pages, prose},
};
use crate::programs::text_of;

/// The phrase, in lower case, and what to write instead.
const BANNED: &[(&str, &str)] = &[
    ("all the same", "anyway"),
    ("anew", "again"),
    ("as asked for", "as the spec requests"),
    ("at its word", "literally"),
    ("belong into", "belong in"),
    ("belongs into", "belongs in"),
    ("by who", "by users who"),
    ("everybody", "everyone"),
    ("fence", "egress policy"),
    ("for ever", "forever"),
    ("for who", "for users who"),
    ("has yet to", "has not … yet"),
    ("heed", "honor, use, read"),
    ("heeded", "honored, used, read"),
    ("heeds", "honors, uses, reads"),
    ("in its stead", "instead"),
    ("in the place of", "instead of"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("mends", "fixes"),
    ("nobody's", "of no tenant; that doesn't exist"),
    ("of its own making", "that it created"),
    ("says nothing of", "doesn't mention"),
    ("somebody", "someone, another user"),
    ("speak of", "describe"),
    ("speaks of", "describes"),
    ("stands against", "protects against"),
    ("system level", "system scope"),
    ("to who", "to users who"),
    ("who holds", "users with"),
    ("who lacks", "users without"),
    ("whoever", "anyone who"),
];

/// Where a phrase is right: a quotation of another product, and refusals whose words other tools look for.
const QUOTED: [(&str, &str); 4] = [
    ("docs/migrate-from-palette.md", "system level"),
    ("charts/registry-operator/templates/policies/definitions.yaml", "system level"),
    ("charts/registry-operator/templates/policies/installation.yaml", "system level"),
    ("charts/registry-operator/templates/policies/system-registries.yaml", "system level"),
];

/// The banned phrases that a text contains, with what to write instead.
fn found(text: &str) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let text = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    BANNED.iter().filter(move |(phrase, _)| {
        text.match_indices(phrase).any(|(at, _)| {
            let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-' || c == '_');
            !is_part(text[..at].chars().next_back()) && !is_part(text[at + phrase.len()..].chars().next())
        })
    })
}

/// Prose without code, and without the targets of links.
fn words(page: &str) -> Result<String> {
    let prose = prose(page)?;
    let without_code: String = prose.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let mut parts = without_code.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    Ok(parts.fold(first, |text, part| text + " " + part.split_once(')').map_or(part, |(_, rest)| rest)))
}

/// Every description of a schema.
fn descriptions(schema: &Value, into: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            into.extend(fields.get("description").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| descriptions(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| descriptions(item, into)),
        _ => {}
    }
}

/// The string literals of a Rust file, roughly: without comments, escapes and its unit tests.
fn literals(source: &str) -> String {
    let program = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    let mut text = String::new();
    let mut is_literal = false;
    for line in program.lines() {
        let mut rest = line.char_indices().peekable();
        while let Some((at, c)) = rest.next() {
            match (is_literal, c) {
                (false, '/') if line[at..].starts_with("//") => break,
                (false, '\'') if line[at..].starts_with("'\"'") || line[at..].starts_with("'\\\"'") => {
                    let skipped = if line[at..].starts_with("'\"'") { 2 } else { 3 };
                    rest.nth(skipped - 1);
                }
                (true, '\\') => drop(rest.next()),
                (_, '"') => {
                    is_literal = !is_literal;
                    text.push('\n');
                }
                (true, c) => text.push(c),
                (false, _) => {}
            }
        }
        text.push(' ');
    }
    text
}

/// The comments of a YAML file.
fn comments(text: &str) -> String {
    let comments = text.lines().filter_map(|line| line.split_once('#'));
    comments.map(|(_, comment)| comment).collect::<Vec<_>>().join(" ")
}

/// The comments of a Helm template: those of YAML, and those between `/*` and `*/`.
fn template_comments(text: &str) -> String {
    let blocks = text.split("/*").skip(1).filter_map(|rest| rest.split_once("*/"));
    comments(text) + " " + &blocks.map(|(comment, _)| comment).collect::<Vec<_>>().join(" ")
}

/// The comments of a Rust file that stand on lines of their own.
fn rust_comments(text: &str) -> String {
    let comments = text.lines().filter_map(|line| line.trim_start().strip_prefix("//"));
    comments.map(|comment| comment.trim_start_matches(['/', '!'])).collect::<Vec<_>>().join(" ")
}

/// Every file below a directory, with its path in the repository.
fn files_below(directory: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(in_repository(directory))? {
        let entry = entry?;
        let path = format!("{directory}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() { found.extend(files_below(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

fn assert_plain(texts: Vec<(String, String)>) -> Result<()> {
    let mut wrong = Vec::new();
    for (place, text) in texts {
        let allowed = |phrase: &str| QUOTED.contains(&(&*place, phrase));
        wrong.extend(
            found(&text)
                .filter(|(phrase, _)| !allowed(phrase))
                .map(|(phrase, instead)| format!("{place}: “{phrase}”; write: {instead}")),
        );
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn pages_have_no_banned_phrases() -> Result<()> {
    let mut all = [all_pages()?, pages()?].concat();
    // Written for the people who maintain the tools, and by others.
    all.retain(|page| !page.starts_with("tests/"));
    all.sort();
    all.dedup();
    assert_plain(all.into_iter().map(|page| Ok((page.clone(), words(&page)?))).collect::<Result<_>>()?)
}

#[test]
fn the_chart_has_no_banned_phrases() -> Result<()> {
    let chart = "charts/registry-operator";
    let schema = format!("{chart}/values.schema.json");
    let mut described = Vec::new();
    descriptions(&serde_json::from_str(&text_of(&schema)?)?, &mut described);
    let mut texts = vec![(schema, described.join("\n"))];
    for file in ["Chart.yaml", "files/alerts.yaml", "templates/NOTES.txt"] {
        texts.push((format!("{chart}/{file}"), text_of(&format!("{chart}/{file}"))?));
    }
    assert_plain(texts)
}

#[test]
fn the_samples_have_no_banned_phrases() -> Result<()> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(in_repository("config/samples"))? {
        let path = entry?.path();
        texts.push((path.display().to_string(), comments(&std::fs::read_to_string(&path)?)));
    }
    ensure!(texts.len() > 5, "{} samples", texts.len());
    assert_plain(texts)
}

#[test]
fn comments_in_the_code_have_no_banned_phrases() -> Result<()> {
    let mut texts = Vec::new();
    for directory in ["benches", "crates", "src", "tests"] {
        let is_source = |file: &String| {
            !file.ends_with("docs/style.rs") && Path::new(file).extension().is_some_and(|kind| kind == "rs")
        };
        for file in files_below(directory)?.into_iter().filter(is_source) {
            texts.push((file.clone(), rust_comments(&text_of(&file)?)));
        }
    }
    ensure!(texts.len() > 300, "{} files", texts.len());
    assert_plain(texts)
}

#[test]
fn comments_in_manifests_have_no_banned_phrases() -> Result<()> {
    let templates = files_below("charts/registry-operator/templates")?;
    let examples = files_below("config/gitops")?.into_iter().filter(|file| !file.ends_with("install.yaml"));
    let roots = [".ci/run", "Cargo.toml", "Dockerfile", "Makefile", "clippy.toml", "deny.toml"];
    let all = templates.into_iter().chain(examples).chain(roots.map(str::to_owned));
    let texts =
        all.map(|file| Ok((file.clone(), template_comments(&text_of(&file)?)))).collect::<Result<_>>()?;
    assert_plain(texts)
}

#[test]
fn phrases_are_found_as_whole_words() {
    let phrases = |text: &str| found(text).map(|(phrase, _)| *phrase).collect::<Vec<_>>();
    assert_eq!(phrases("Registries of the System\n  Level, for ever."), ["for ever", "system level"]);
    assert!(phrases("a defence, a fenced block, the ecosystem levels out").is_empty());
    assert_eq!(literals("let a = \"one \\\" two\"; // \"three\"\n").trim(), "one  two");
}

/// Rust files whose strings users read: those of the programs, without their tests.
fn programs(directory: &std::path::Path, into: &mut Vec<std::path::PathBuf>) -> Result<()> {
    const NOT_FOR_USERS: [&str; 4] = ["target", "tests", "testbed", "docgen"];
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let is_skipped = NOT_FOR_USERS.iter().any(|name| path.file_stem().is_some_and(|stem| stem == *name));
        if is_skipped {
            continue;
        }
        if path.is_dir() {
            programs(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

#[test]
fn strings_of_the_programs_have_no_banned_phrases() -> Result<()> {
    let mut files = Vec::new();
    programs(&in_repository("src"), &mut files)?;
    programs(&in_repository("crates"), &mut files)?;
    ensure!(files.len() > 50, "{} files", files.len());
    let texts = files
        .into_iter()
        .map(|file| Ok((file.display().to_string(), literals(&std::fs::read_to_string(&file)?))));
    assert_plain(texts.collect::<Result<_>>()?)
}

/// The sentences that a policy answers with, which are strings in YAML or CEL.
#[test]
fn policies_have_no_banned_phrases() -> Result<()> {
    let policies = files_below("charts/registry-operator/templates/policies")?;
    ensure!(policies.len() > 5, "{} policies", policies.len());
    assert_plain(policies.into_iter().map(|file| Ok((file.clone(), text_of(&file)?))).collect::<Result<_>>()?)
}
