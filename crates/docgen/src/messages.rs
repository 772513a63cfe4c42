//! Makes docs/messages.md: every message of conditions from the functions that make them, and every refusal from the
//! CRDs and the rendered policies.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use registry_api::{
    ConditionType,
    advice::advice,
    crd,
    spec::{System, Tenant},
};
use registry_operator::pull_secrets::sample_notes;
use registry_verdict::assess::{self, SampleMessage};
use serde_json::Value;
use strum::IntoEnumIterator as _;

use crate::cel;

const HEAD: &str = "# Messages

Every message that users see in a condition or as a refusal. Search this page for the fixed part of a message. `make
generate` writes it from the functions and rules that make the messages; [conditions.md](conditions.md) explains the reasons.

A message says what failed, why, and what to do. What differs from case to case is in angle brackets, such as `<registry>` for
the host and port of `spec.endpoint`. `…` stands for another message.

";

/// The values of the samples, with their placeholders; longer values first.
const PLACEHOLDERS: [(&str, &str); 21] = [
    ("CN=packs.example.com", "<subject>"),
    ("CN=example CA", "<issuer>"),
    ("packs.example.com:5000", "<registry>"),
    ("packs.example.com", "<host>"),
    ("https://other.example.com", "<address>"),
    ("other.example.com", "<other host>"),
    ("auth.example.net:443", "<token service>"),
    ("auth.example.net", "<token service>"),
    ("proxy.example.com:3128", "<proxy>"),
    ("proxy.example.com", "<proxy>"),
    ("packs/hello", "<repository>"),
    ("10.96.0.1", "<address>"),
    ("599", "<status>"),
    ("team-a/", "<namespace>/"),
    ("packs-login", "<name>"),
    ("packs-ca", "<name>"),
    ("packs-pull", "<name>"),
    ("-n team-a", "-n <namespace>"),
    ("1970-01-01T00:00:00Z", "<time>"),
    ("1a2b…", "<fingerprint>"),
    ("(eu-central-1)", "(<region>)"),
];

/// Returns the whole page. `installed` is the rendered chart.
pub fn page(installed: &str) -> Result<String> {
    let mut text = String::from(HEAD);
    conditions(&mut text)?;
    fields(&mut text)?;
    policies(&mut text, installed)?;
    Ok(text)
}

fn conditions(text: &mut String) -> Result<()> {
    let messages = assess::messages().map_err(|error| anyhow::anyhow!(error))?;
    for condition in ConditionType::iter() {
        let of_condition: Vec<&SampleMessage> =
            messages.iter().filter(|message| message.condition == condition).collect();
        if of_condition.is_empty() {
            continue;
        }
        writeln!(text, "## {condition}\n")?;
        let mut reasons = Vec::new();
        for message in &of_condition {
            if !reasons.contains(&(message.reason, message.status)) {
                reasons.push((message.reason, message.status));
            }
        }
        for (reason, status) in reasons {
            writeln!(text, "### {condition}={status}/{reason}\n")?;
            writeln!(text, "What to do: {}.\n", advice(condition, reason).unwrap_or("nothing"))?;
            let shown =
                of_condition.iter().filter(|message| (message.reason, message.status) == (reason, status));
            for message in shown {
                writeln!(text, "- `{}`", template(&message.message))?;
            }
            text.push('\n');
        }
    }
    text.push_str(
        "### Messages after those of Ready\n\nWhat to do: see [availability.md](availability.md).\n\n",
    );
    for note in sample_notes() {
        writeln!(text, "- `…; {}`", template(&note))?;
    }
    text.push('\n');
    text.push_str(
        "`Ready` otherwise repeats the message of the first check that failed; so do `Reconciling` and `Stalled`.\n\n",
    );
    Ok(())
}

fn template(message: &str) -> String {
    let replaced = PLACEHOLDERS
        .iter()
        .fold(message.to_owned(), |message, (value, placeholder)| message.replace(value, placeholder));
    replaced.replace('`', "'")
}

/// The API server's messages about invalid fields.
fn fields(text: &mut String) -> Result<()> {
    text.push_str(
        "## Refused fields\n\nThe API server refuses a manifest with a wrong field, by a rule of the CustomResourceDefinitions:\n\n",
    );
    let mut rules = Vec::new();
    for definition in [
        serde_json::to_value(crd::definition::<System>()?)?,
        serde_json::to_value(crd::definition::<Tenant>()?)?,
    ] {
        collect(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut rules);
    }
    ensure!(!rules.is_empty(), "the definitions have no rules");
    for rule in rules {
        writeln!(text, "- `{rule}`")?;
    }
    text.push('\n');
    Ok(())
}

fn collect(schema: &Value, found: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message = rule["message"].as_str().unwrap_or_default().to_owned();
        if !message.is_empty() && !found.contains(&message) {
            found.push(message);
        }
    }
    for property in schema["properties"].as_object().into_iter().flat_map(|properties| properties.values()) {
        collect(property, found);
    }
    if schema["items"].is_object() {
        collect(&schema["items"], found);
    }
}

/// The messages of the admission policies.
fn policies(text: &mut String, installed: &str) -> Result<()> {
    text.push_str(
        "## Refused requests\n\nThe API server refuses requests by these ValidatingAdmissionPolicies:\n\n",
    );
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(installed).context("reading what the chart renders")?;
    let mut policies: Vec<&Value> =
        documents.iter().filter(|document| document["kind"] == "ValidatingAdmissionPolicy").collect();
    ensure!(!policies.is_empty(), "the chart renders no policies");
    policies.sort_by_key(|policy| policy["metadata"]["name"].as_str().unwrap_or_default().to_owned());
    for policy in policies {
        let name = policy["metadata"]["name"].as_str().context("a policy has no name")?;
        writeln!(text, "### {name}\n")?;
        for message in policy_messages(policy).with_context(|| name.to_owned())? {
            writeln!(text, "- `{message}`")?;
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    Ok(())
}

fn policy_messages(policy: &Value) -> Result<Vec<String>> {
    let mut messages = Vec::new();
    for validation in policy["spec"]["validations"].as_array().context("no validations")? {
        let made = match (validation["message"].as_str(), validation["messageExpression"].as_str()) {
            (_, Some(expression)) => cel::templates(expression)?,
            (Some(message), None) => vec![message.to_owned()],
            (None, None) => anyhow::bail!("a validation has no message: {}", validation["expression"]),
        };
        messages.extend(made);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDERED: &str = include_str!("../../../config/install.yaml");

    #[test]
    fn refusals_are_short() {
        let page = page(RENDERED).unwrap();
        let (_, refusals) = page.split_once("## Refused fields").unwrap();
        let long: Vec<&str> = refusals
            .lines()
            .filter(|line| line.starts_with("- `"))
            .filter(|line| {
                line.replace("<create|change|delete>", "change").chars().count() > 160 + "- ``".len()
            })
            .collect();
        assert!(long.is_empty(), "{long:#?}");
    }

    #[test]
    fn lists_every_condition_and_policy() {
        let page = page(RENDERED).unwrap();
        for heading in [
            "### ResolvedRefs=False/SecretInvalid",
            "### CredentialsValidated=True/Validated",
            "### Ready=Unknown/Progressing",
            "## Refused fields",
            "### system-registries.registry.spectrocloud.com",
        ] {
            assert!(page.contains(&format!("{heading}\n")), "{heading}");
        }
        assert!(page.contains("- `<registry> rejected the credentials (401);"), "{page}");
    }
}
