//! Every internal link and every path on a page exists. External pages are not requested.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use anyhow::{Result, ensure};
use registry_testbed::in_repository;

use super::page::{code, pages, pages_below, prose};
use crate::programs::text_of;

/// The pages for users and for developers.
pub fn all_pages() -> Result<Vec<String>> {
    let mut all = pages()?;
    for directory in ["docs/decisions", "tests"] {
        all.extend(pages_below(directory)?);
    }
    all.extend(["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned));
    Ok(all)
}

/// The targets of `[text](target)`.
fn links(page: &str) -> Result<Vec<String>> {
    let prose = prose(page)?;
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    Ok(targets.map(|(target, _)| target.to_owned()).collect())
}

/// The anchors of a page's headings, as GitHub makes them.
pub fn anchors(page: &str) -> Result<Vec<String>> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut anchors = Vec::new();
    for heading in prose(page)?.lines().filter(|line| line.starts_with('#')) {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(anchor.clone()).or_default();
        anchors.push(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    Ok(anchors)
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, component| {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
        plain
    })
}

fn leads_somewhere(page: &str, link: &str) -> Result<()> {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let there = match file {
        "" => PathBuf::from(page),
        file => plain(&Path::new(page).parent().unwrap_or(Path::new("")).join(file)),
    };
    let there = there.display().to_string();
    ensure!(in_repository(&there).exists(), "{page} links to {link}: there is no {there}");
    if !anchor.is_empty() {
        ensure!(
            anchors(&there)?.iter().any(|known| known == anchor),
            "{page}: {there} has no heading #{anchor}"
        );
    }
    Ok(())
}

#[test]
fn internal_links_resolve() -> Result<()> {
    let mut count = 0;
    for page in all_pages()? {
        for link in links(&page)?.iter().filter(|link| !link.contains(':')) {
            leads_somewhere(&page, link)?;
            count += 1;
        }
    }
    ensure!(count > 50, "{count} links");
    Ok(())
}

/// Directories whose files pages name by their path from the root.
const OURS: [&str; 9] =
    ["benches/", "charts/", "config/", "crates/", "crds/", "docs/", "packaging/", "src/", "tests/"];

fn is_ours(word: &str) -> bool {
    OURS.iter().any(|directory| word.starts_with(directory)) && !word.contains(['*', '<', '…', '{', '$'])
}

#[test]
fn paths_on_pages_exist() -> Result<()> {
    for page in all_pages()? {
        for code in code(&page)? {
            for path in code.split([' ', ',']).filter(|word| is_ours(word)) {
                ensure!(in_repository(path).exists(), "{page} names {path}, and it is not there");
            }
        }
    }
    Ok(())
}

/// Texts outside of the documentation that refer to a page.
const TEXTS: [&str; 4] = [
    "charts/registry-operator/values.schema.json",
    "charts/registry-operator/Chart.yaml",
    "charts/registry-operator/files/alerts.yaml",
    "config/install.yaml",
];

#[test]
fn pages_named_in_other_texts_exist() -> Result<()> {
    let mut count = 0;
    for text in TEXTS {
        let text_of_it = text_of(text)?;
        for (at, _) in text_of_it.match_indices("docs/") {
            let name: String = text_of_it[at..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || "/-._".contains(*c))
                .collect();
            let page = name.trim_end_matches('.');
            ensure!(in_repository(page).exists(), "{text} sends people to {page}, and it is not there");
            count += 1;
        }
    }
    ensure!(count > 3, "{count} mentions");
    Ok(())
}

#[test]
fn computes_anchors_as_github_does() -> Result<()> {
    let anchors = anchors("docs/conditions.md")?;
    for known in
        ["why-is-my-registry-not-ready", "reconciling-and-stalled", "expired", "expired-1", "cabundleinvalid"]
    {
        ensure!(anchors.iter().any(|anchor| anchor == known), "{known}: {anchors:?}");
    }
    Ok(())
}
