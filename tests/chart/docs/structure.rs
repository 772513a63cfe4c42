//! The pages for people who change the code name functions and types by `module::name` or `Type::name`, and each of these
//! exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use registry_testbed::in_repository;

use super::{
    links::anchors,
    page::{code, pages_below},
};
use crate::programs::text_of;

const PAGES: [&str; 2] = ["docs/architecture.md", "CONTRIBUTING.md"];

/// The keywords that come before a name where it is defined.
const KEYWORDS: [&str; 7] = ["fn", "struct", "enum", "trait", "const", "type", "mod"];

/// Every Rust file below a directory.
fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Whether the file is `module.rs` or in the directory `module/`.
fn is_of(file: &Path, module: &str) -> bool {
    let is = |name: Option<&std::ffi::OsStr>| name.is_some_and(|name| name == module);
    is(file.file_stem()) || is(file.parent().and_then(Path::file_name))
}

/// Whether the text defines that name.
fn defines(text: &str, name: &str) -> bool {
    KEYWORDS.iter().any(|keyword| {
        let definition = format!("{keyword} {name}");
        text.match_indices(&definition).any(|(at, _)| {
            let next = text[at + definition.len()..].chars().next();
            !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    })
}

/// Whether the file defines the name, in the module or next to the type `owner`.
fn defines_in(file: &Path, owner: &str, name: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let is_type = owner.starts_with(|c: char| c.is_ascii_uppercase());
    (if is_type { defines(&text, owner) } else { is_of(file, owner) }) && defines(&text, name)
}

/// Every Rust file below these directories.
pub fn all_sources(directories: impl IntoIterator<Item = PathBuf>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in directories {
        found.extend(sources(&directory)?);
    }
    Ok(found)
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[test]
fn names_on_the_developers_pages_exist() -> Result<()> {
    let files = all_sources(["src", "crates"].map(in_repository))?;
    let (mut count, mut missing) = (0, Vec::new());
    let decisions = pages_below("docs/decisions")?;
    for page in PAGES.into_iter().chain(decisions.iter().map(String::as_str)) {
        for code in code(page)? {
            let Some((owner, name)) =
                code.split_once("::").filter(|(owner, name)| is_name(owner) && is_name(name))
            else {
                continue;
            };
            count += 1;
            if !files.iter().any(|file| defines_in(file, owner, name)) {
                missing.push(format!("{page}: `{code}`"));
            }
        }
    }
    ensure!(missing.is_empty(), "no module in src/ or crates/ defines {missing:#?}");
    ensure!(count > 35, "{count} names");
    Ok(())
}

#[test]
fn every_decision_is_listed_with_its_title() -> Result<()> {
    let list = text_of("docs/decisions/README.md")?;
    let mut count = 0;
    for page in pages_below("docs/decisions")?.iter().filter(|page| !page.ends_with("README.md")) {
        let text = text_of(page)?;
        let title = text.lines().next().and_then(|line| line.strip_prefix("# ")?.split_once(' '));
        let (number, title) = title.with_context(|| format!("{page} has no title"))?;
        let file = page.rsplit('/').next().unwrap_or_default();
        let row = format!("| [{number}]({file}) | {title} |");
        ensure!(list.contains(&row), "docs/decisions/README.md has no row {row}");
        count += 1;
    }
    ensure!(count > 50, "{count} decisions");
    Ok(())
}

#[test]
fn finds_definitions_by_whole_name() {
    assert!(defines("pub async fn run(context", "run"));
    assert!(defines("pub struct Queue<K>", "Queue"));
    assert!(!defines("fn runs()", "run") && !defines("let run = 1;", "run"));
    assert!(is_of(Path::new("src/queue.rs"), "queue") && is_of(Path::new("src/queue/tests.rs"), "queue"));
    assert!(!is_of(Path::new("src/queues.rs"), "queue"));
}

/// Comments in the code send readers to sections of pages. `docs/page.md#anchor`, in any Rust file.
#[test]
fn sections_that_comments_name_exist() -> Result<()> {
    let files = all_sources(["src", "crates", "tests"].map(in_repository))?;
    let mut count = 0;
    for file in files.iter().filter(|file| !file.ends_with("structure.rs")) {
        let text = std::fs::read_to_string(file)?;
        for (at, _) in text.match_indices("docs/").filter(|(at, _)| !text[..*at].ends_with('/')) {
            let is_of_link = |c: &char| c.is_ascii_alphanumeric() || "/-._#".contains(*c);
            let link: String = text[at..].chars().take_while(is_of_link).collect();
            let Some((page, anchor)) = link.split_once('#') else { continue };
            let anchor = anchor.trim_end_matches('.');
            ensure!(anchors(page)?.iter().any(|known| known == anchor), "{}: {link}", file.display());
            count += 1;
        }
    }
    ensure!(count > 5, "{count} links");
    Ok(())
}

#[test]
fn each_type_name_is_used_once() -> Result<()> {
    let mut files = sources(&in_repository("src"))?;
    for entry in std::fs::read_dir(in_repository("crates"))? {
        files.extend(sources(&entry?.path().join("src"))?);
    }
    let mut places: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in files {
        for name in std::fs::read_to_string(&file)?.lines().filter_map(defined_type) {
            places.entry(name.to_owned()).or_default().insert(file.clone());
        }
    }
    ensure!(places.len() > 500, "only {} types were found", places.len());
    places.retain(|_, files| files.len() > 1);
    ensure!(places.is_empty(), "one word for several things; rename all but one: {places:#?}");
    Ok(())
}

/// The type that a line defines. The name of an associated type, whose line is indented, is its trait's to choose.
fn defined_type(line: &str) -> Option<&str> {
    let is_indented = line.starts_with(' ');
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    let keyword = words.next()?;
    let is_definition = ["struct", "enum", "trait"].contains(&keyword) || (keyword == "type" && !is_indented);
    let name = words.next().filter(|_| is_definition)?;
    name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
}

/// The modules that a module comment lists, one a line: ``- `name`: …`` or ``- [`name`]: …``.
fn listed_modules(line: &str) -> Vec<&str> {
    let Some(item) = line.strip_prefix("//! - ") else { return Vec::new() };
    let Some((names, _)) = item.split_once(':') else { return Vec::new() };
    names.split('`').skip(1).step_by(2).filter(|name| is_name(name)).collect()
}

/// The module comment of a directory is its table of contents: it lists every module, and none that doesn't exist.
#[test]
fn module_comments_list_the_modules() -> Result<()> {
    let files = all_sources(["src", "crates"].map(in_repository))?;
    let (mut lists, mut wrong) = (0, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let listed: BTreeSet<&str> = text.lines().flat_map(listed_modules).collect();
        let is_directory_of_src = file.ends_with("mod.rs") && file.starts_with(in_repository("src"));
        if listed.is_empty() && !is_directory_of_src {
            continue;
        }
        lists += 1;
        let declared: BTreeSet<&str> = text.lines().filter_map(declared_module).collect();
        for name in listed.symmetric_difference(&declared) {
            wrong.push(format!("{}: {name}", file.display()));
        }
    }
    ensure!(wrong.is_empty(), "listed but not declared, or declared but not listed: {wrong:#?}");
    ensure!(lists > 10, "{lists} lists");
    Ok(())
}

/// The module that a line declares, unless it has only tests.
fn declared_module(line: &str) -> Option<&str> {
    let name = line.split_once("mod ").filter(|(before, _)| ["", "pub ", "pub(crate) "].contains(before))?.1;
    name.strip_suffix(';').filter(|name| *name != "tests")
}

#[test]
fn reads_module_comments() {
    assert_eq!(
        listed_modules("//! - [`account`] and `self_subject`: the account"),
        ["account", "self_subject"]
    );
    assert!(listed_modules("//! The `account`: it").is_empty());
    assert_eq!(declared_module("pub mod call;"), Some("call"));
    assert_eq!(declared_module("mod tests;"), None);
}

const LONGEST_TEST_NAME: usize = 60;

#[test]
fn test_names_are_short() -> Result<()> {
    let mut names = BTreeSet::new();
    for directory in ["src", "crates", "tests"] {
        for file in sources(&in_repository(directory))? {
            names.extend(tests_of(&std::fs::read_to_string(&file)?));
        }
    }
    ensure!(names.len() > 900, "only {} tests were found", names.len());
    let long: Vec<_> = names.iter().filter(|name| name.len() > LONGEST_TEST_NAME).collect();
    ensure!(long.is_empty(), "names of tests with more than {LONGEST_TEST_NAME} characters: {long:#?}");
    Ok(())
}

/// The names of the functions that follow an attribute `#[test]` or `#[tokio::test]`.
fn tests_of(text: &str) -> BTreeSet<String> {
    let mut lines = text.lines().map(str::trim_start);
    let mut names = BTreeSet::new();
    while let Some(line) = lines.next() {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            let function = lines.find(|line| line.starts_with("fn ") || line.starts_with("async fn "));
            names.extend(function.map(|line| name_of_function(line).to_owned()));
        }
    }
    names
}

fn name_of_function(line: &str) -> &str {
    let name = line.trim_start_matches("async ").trim_start_matches("fn ");
    name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

#[test]
fn finds_names_of_tests() {
    let text = "#[test]\nfn one() {}\nfn other() {}\n    #[tokio::test(start_paused = true)]\n    #[ignore]\n    async fn two() {";
    assert_eq!(tests_of(text), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
}
