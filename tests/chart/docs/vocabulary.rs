//! Conditions and reasons on the pages: each exists, and the troubleshooting section covers all.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use registry_api::{
    ConditionType, Reason,
    condition::{LAYERS, Layer},
};

use super::page::{blocks, code, pages};
use crate::programs::text_of;

/// The reasons of a layer that are no news are left out of troubleshooting.
fn troubles(layer: &Layer) -> BTreeSet<String> {
    [layer.bad, layer.unknown].concat().into_iter().map(|reason| reason.to_string()).collect()
}

/// The rows below a heading, each as the names in its first cell.
fn rows(page: &str, heading: &str) -> Result<BTreeSet<String>> {
    let text = text_of(page)?;
    let (_, below) =
        text.split_once(&format!("\n{heading}\n")).with_context(|| format!("{page} has no {heading}"))?;
    let section = below.split("\n#").next().unwrap_or(below);
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    Ok(cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect())
}

#[test]
fn troubleshooting_covers_every_reason() -> Result<()> {
    for layer in &LAYERS {
        let found = rows("docs/operations.md", &format!("### {} is not True", layer.condition))?;
        assert_eq!(found, troubles(layer), "{}", layer.condition);
    }
    Ok(())
}

#[test]
fn verdicts_on_pages_exist() -> Result<()> {
    let mut count = 0;
    for page in pages()? {
        for code in code(&page)? {
            let Some((condition, verdict)) =
                code.split_once('=').filter(|(_, verdict)| verdict.contains('/'))
            else {
                continue;
            };
            let Ok(condition) = condition.parse::<ConditionType>() else { continue };
            let (status, reason) = verdict.split_once('/').context(code.clone())?;
            let reason: Reason = reason.parse().with_context(|| format!("{page}: {code}"))?;
            let layer = LAYERS.iter().find(|layer| layer.condition == condition);
            let possible = layer.map(|layer| match status {
                "True" => layer.good,
                "False" => layer.bad,
                _ => layer.unknown,
            });
            ensure!(possible.is_none_or(|reasons| reasons.contains(&reason)), "{page}: {code}");
            count += 1;
        }
    }
    ensure!(count > 1, "{count} verdicts");
    Ok(())
}

/// Words of Kubernetes, of AWS and of ours that look like them.
const OTHERS: [&str; 13] = [
    "Dockerfile",
    "GetAuthorizationToken",
    "Helm",
    "ListImages",
    "Manifest",
    "Opaque",
    "Optional",
    "Pack",
    "SystemRegistry",
    "TenantRegistry",
    "Unknown",
    "ValidatingAdmissionPolicy",
    "Zarf",
];
/// They are written from schemas, and full of the values of enumerations.
const GENERATED: [&str; 2] = ["charts/registry-operator/README.md", "docs/reference.md"];

#[test]
fn words_like_reasons_are_reasons() -> Result<()> {
    let mut unknown = BTreeSet::new();
    for page in pages()?.into_iter().filter(|page| !GENERATED.contains(&&**page)) {
        for code in code(&page)? {
            let is_word = code.chars().all(|c| c.is_ascii_alphabetic())
                && code.starts_with(|c: char| c.is_ascii_uppercase());
            let is_one = code.parse::<Reason>().is_ok() || code.parse::<ConditionType>().is_ok();
            if is_word
                && !is_one
                && code.contains(|c: char| c.is_ascii_lowercase())
                && !OTHERS.contains(&&*code)
            {
                unknown.insert(format!("{page}: {code}"));
            }
        }
    }
    ensure!(unknown.is_empty(), "neither conditions nor reasons: {unknown:#?}");
    Ok(())
}

#[test]
fn commands_wait_for_existing_conditions() -> Result<()> {
    for page in pages()? {
        for block in blocks(&page)?.into_iter().filter(|block| block.text.contains("registry")) {
            for (at, found) in block.text.match_indices("--for=condition=") {
                let rest = &block.text[at + found.len()..];
                let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
                let is_ours = name.parse::<ConditionType>().is_ok() || name == "Established";
                ensure!(is_ours, "{}: there is no condition {name}", block.place());
            }
        }
    }
    Ok(())
}
