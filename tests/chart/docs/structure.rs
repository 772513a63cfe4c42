//! The pages for people who change the code name functions and types by `module::name`, and each of these exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    links::anchors,
    page::{code, pages_below},
};
use crate::programs::{in_repository, text_of};

const PAGES: [&str; 2] = ["docs/architecture.md", "CONTRIBUTING.md"];

/// The keywords of which one comes before a name where it is defined.
const KEYWORDS: [&str; 6] = ["fn", "struct", "enum", "trait", "const", "type"];

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
    for page in PAGES {
        for code in code(page)? {
            let Some((module, name)) = code.split_once("::") else { continue };
            if !is_name(module) || !is_name(name) {
                continue;
            }
            count += 1;
            let mut of_module = files.iter().filter(|file| is_of(file, module));
            if !of_module.any(|file| std::fs::read_to_string(file).is_ok_and(|text| defines(&text, name))) {
                missing.push(format!("{page}: `{code}`"));
            }
        }
    }
    ensure!(missing.is_empty(), "no module in src/ or crates/ defines {missing:#?}");
    ensure!(count > 20, "{count} names");
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
