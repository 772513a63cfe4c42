//! Makes the chart's values.yaml and the table in its README from values.schema.json, which has the description, type
//! and default of each value.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    schema::Schema,
    text::{cell, wrap},
};

const WIDTH: usize = 118;
const BEGIN: &str = "<!-- values: written by `make generate` from values.schema.json -->\n";
const END: &str = "<!-- end of values -->";

/// Returns the whole values.yaml.
pub fn values_yaml(schema: &Schema) -> Result<String> {
    let mut text = String::from(
        "# Written by `make generate` from values.schema.json; edit there. README.md has the same as a table.\n",
    );
    for (name, value) in &schema.properties.0 {
        if is_written(value) {
            text.push('\n');
            write_value(&mut text, name, value, 0).with_context(|| format!("the value {name}"))?;
        }
    }
    Ok(text)
}

/// Values without a default belong to a parent chart, and are not written.
fn is_written(schema: &Schema) -> bool {
    schema.default.is_some() || !schema.properties.0.is_empty()
}

fn write_value(text: &mut String, name: &str, schema: &Schema, depth: usize) -> Result<()> {
    ensure!(!schema.description.is_empty(), "{name} has no description");
    let indent = "  ".repeat(depth);
    for line in wrap(&schema.description, WIDTH - indent.len()) {
        writeln!(text, "{indent}# {line}")?;
    }
    if let Some(default) = &schema.default {
        return write_default(text, name, default, &indent);
    }
    writeln!(text, "{indent}{name}:")?;
    for (name, value) in &schema.properties.0 {
        ensure!(is_written(value), "{name} has no default");
        write_value(text, name, value, depth + 1)?;
    }
    Ok(())
}

fn write_default(text: &mut String, name: &str, default: &Value, indent: &str) -> Result<()> {
    match default {
        Value::Null => writeln!(text, "{indent}{name}:")?,
        Value::Object(members) if !members.is_empty() => {
            writeln!(text, "{indent}{name}:")?;
            for (name, value) in members {
                write_default(text, name, value, &format!("{indent}  "))?;
            }
        }
        // JSON is valid YAML.
        value => writeln!(text, "{indent}{name}: {}", scalar(value))?,
    }
    Ok(())
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(word) if is_plain(word) => word.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(scalar).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

/// Returns whether YAML reads the string without quotes as a string.
fn is_plain(word: &str) -> bool {
    let begins = word.starts_with(|first: char| first.is_ascii_alphabetic());
    let goes_on = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    begins && goes_on && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&word)
}

/// Returns the README with a new table between its marks.
pub fn readme(schema: &Schema, readme: &str) -> Result<String> {
    let (before, rest) = readme.split_once(BEGIN).with_context(|| format!("the README has no {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("the README has no {END:?}"))?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", table(schema)?))
}

fn table(schema: &Schema) -> Result<String> {
    let mut text = String::from("| Value | Type | Default | What it is |\n|---|---|---|---|\n");
    rows(&mut text, "", schema)?;
    Ok(text)
}

fn rows(text: &mut String, prefix: &str, schema: &Schema) -> Result<()> {
    for (name, value) in schema.properties.0.iter().filter(|(_, value)| is_written(value)) {
        let path = format!("{prefix}{name}");
        let description = cell(&value.description);
        match &value.default {
            Some(default) => {
                writeln!(
                    text,
                    "| `{path}` | {} | `{}` | {description} |",
                    value.kind(),
                    default_cell(default)
                )?;
            }
            None => writeln!(text, "| **`{path}`** | | | {description} |")?,
        }
        rows(text, &format!("{path}."), value)?;
    }
    Ok(())
}

fn default_cell(default: &Value) -> String {
    if default.is_null() { "null".to_owned() } else { cell(&default.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        serde_json::from_str(
            r#"{"properties": {
                "global": {"type": "object"},
                "zeta": {"description": "The last letter comes first here.", "type": "string", "default": ""},
                "log": {"description": "The log.", "type": "object", "properties": {
                    "level": {"description": "How much.", "enum": ["info", "debug"], "default": "info"},
                    "limit": {"description": "How many.", "type": ["integer", "null"], "default": null}}}}}"#,
        )
        .unwrap()
    }

    #[test]
    fn values_follow_schema_order_with_descriptions() {
        let expected = "\n# The last letter comes first here.\nzeta: \"\"\n\n# The log.\nlog:\n  # How much.\n  level: info\n  \
                        # How many.\n  limit:\n";
        let text = values_yaml(&schema()).unwrap();
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn replaces_only_the_table_between_the_marks() {
        let text = readme(&schema(), &format!("# Before\n{BEGIN}old\n{END}\nafter\n")).unwrap();
        assert!(
            text.starts_with("# Before\n") && text.ends_with("\nafter\n") && !text.contains("old"),
            "{text}"
        );
        assert!(text.contains("| `log.level` | `info` or `debug` | `\"info\"` | How much. |"), "{text}");
        assert!(!text.contains("global"), "{text}");
        assert!(readme(&schema(), "# No marks\n").is_err());
    }

    #[test]
    fn rejects_value_without_description() {
        let schema = serde_json::from_str(r#"{"properties": {"a": {"default": 1}}}"#).unwrap();
        assert!(values_yaml(&schema).is_err());
    }
}
