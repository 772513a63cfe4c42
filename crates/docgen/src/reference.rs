//! Makes docs/reference.md from the CustomResourceDefinitions: every field of both resources, and the messages about
//! invalid fields.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use registry_api::{
    crd,
    spec::{Scope, System, Tenant},
};
use serde_json::Value;

use crate::{
    schema::Schema,
    text::{cell, wrap},
};

const HEAD: &str = "# Reference

Written by `make generate` from the types in `crates/registry-api`; `kubectl explain systemregistry.spec` has the same text.
[conditions.md](conditions.md) explains `status.conditions`.
";

/// Returns the whole page.
pub fn page() -> Result<String> {
    let mut text = String::from(HEAD);
    kind::<System>(&mut text)?;
    kind::<Tenant>(&mut text)?;
    Ok(text)
}

fn kind<S: Scope>(text: &mut String) -> Result<()> {
    let definition = serde_json::to_value(crd::definition::<S>()?)?;
    let version = &definition["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    writeln!(text, "\n## {}\n", S::KIND)?;
    writeln!(text, "{}\n", paragraph(schema["description"].as_str().unwrap_or_default()))?;
    writeln!(text, "{}\n", names(&definition)?)?;
    for part in ["spec", "status"] {
        let part_schema = &schema["properties"][part];
        writeln!(text, "### {} {part}\n", S::KIND)?;
        fields(text, part, &serde_json::from_value(part_schema.clone())?)?;
        rules(text, part_schema)?;
    }
    columns(text, version)
}

fn names(definition: &Value) -> Result<String> {
    let (spec, word) = (&definition["spec"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
    let short = spec["names"]["shortNames"].as_array().context("shortNames")?;
    let short: Vec<String> = short.iter().map(|name| format!("`{}`", word(name))).collect();
    Ok(format!(
        "`apiVersion: {}/{}`, {}, plural `{}`, short {}, in the category `registries`.",
        word(&spec["group"]),
        word(&spec["versions"][0]["name"]),
        if spec["scope"] == "Cluster" { "cluster-scoped" } else { "namespaced" },
        word(&spec["names"]["plural"]),
        short.join(", "),
    ))
}

fn fields(text: &mut String, path: &str, schema: &Schema) -> Result<()> {
    text.push_str("| Field | Type | Default | What it is |\n|---|---|---|---|\n");
    rows(text, path, schema)?;
    text.push('\n');
    Ok(())
}

fn rows(text: &mut String, path: &str, schema: &Schema) -> Result<()> {
    for (name, field) in &schema.properties.0 {
        let path = format!("{path}.{name}");
        let required = if schema.required.contains(name) { "**required**" } else { "" };
        let default =
            field.default.as_ref().map_or_else(|| required.to_owned(), |default| format!("`{default}`"));
        writeln!(text, "| `{path}` | {} | {default} | {} |", field.kind(), cell(&field.description))?;
        rows(text, &path, field)?;
        if let Some(items) = &field.items {
            rows(text, &format!("{path}[]"), items)?;
        }
    }
    Ok(())
}

/// The rules' messages, each once.
fn rules(text: &mut String, schema: &Value) -> Result<()> {
    let mut found = Vec::new();
    collect(schema, &mut found);
    if found.is_empty() {
        return Ok(());
    }
    text.push_str("The API server refuses a manifest that breaks a rule, with one of these messages:\n\n");
    for message in found {
        writeln!(text, "- {}", cell(&message))?;
    }
    text.push('\n');
    Ok(())
}

fn collect(schema: &Value, found: &mut Vec<String>) {
    let rules = schema["x-kubernetes-validations"].as_array();
    for rule in rules.into_iter().flatten() {
        let message = rule["message"].as_str().or(rule["messageExpression"].as_str()).unwrap_or_default();
        if !message.is_empty() && !found.iter().any(|known| known == message) {
            found.push(message.to_owned());
        }
    }
    for property in schema["properties"].as_object().into_iter().flat_map(|properties| properties.values()) {
        collect(property, found);
    }
    if schema["items"].is_object() {
        collect(&schema["items"], found);
    }
}

fn columns(text: &mut String, version: &Value) -> Result<()> {
    writeln!(text, "Columns of `kubectl get`, and with `-o wide`:\n")?;
    text.push_str("| Column | From | |\n|---|---|---|\n");
    for column in version["additionalPrinterColumns"].as_array().context("columns")? {
        let (name, path) = (column["name"].as_str().unwrap_or_default(), column["jsonPath"].as_str());
        let wide = if column["priority"] == 1 { "wide" } else { "" };
        writeln!(text, "| {} | `{}` | {wide} |", name.to_uppercase(), path.unwrap_or_default())?;
    }
    Ok(())
}

fn paragraph(text: &str) -> String {
    wrap(text, 118).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_every_field_of_both_kinds() {
        let page = page().unwrap();
        for field in [
            "spec.endpoint` | string | **required**",
            "spec.auth.ecr.sts.roleARN` | string",
            "status.conditions[].reason` | string",
        ] {
            assert_eq!(page.matches(field).count(), 2, "{field}");
        }
        let described =
            page.lines().filter(|line| line.starts_with("| `spec.") || line.starts_with("| `status."));
        for line in described {
            assert!(!line.ends_with("|  |"), "no description: {line}");
        }
    }

    #[test]
    fn lists_validation_messages() {
        assert!(page().unwrap().contains("- spec.auth must have at most one of basic, token and ecr"));
    }
}
