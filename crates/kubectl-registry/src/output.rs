//! Objects for programs: JSON, YAML and names. Characters that control a terminal are escaped in JSON, and replaced in
//! YAML.

use registry_api::GROUP;
use registry_check::admission::resource;
use registry_verdict::object::RegistryScope;
use serde_json::{Value, json};
use thiserror::Error;

use crate::page::{acts_on_terminal, clean};

/// Why objects can't be printed.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The JSON can't be written.
    #[error("failed to write JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The YAML can't be written.
    #[error("failed to write YAML: {0}")]
    Yaml(String),
}

/// Returns a List, as `kubectl get` prints it.
pub fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

/// Returns `resource.group/name`, as `kubectl get -o name` prints it.
pub fn name(scope: RegistryScope, name: &str) -> String {
    let singular = resource(scope).kind.to_lowercase();
    format!("{singular}.{GROUP}/{}\n", clean(name))
}

/// Formats as JSON.
pub fn json(value: &Value) -> Result<String, OutputError> {
    let text = serde_json::to_string_pretty(value)?;
    // JSON itself escapes control characters in strings, and outside of strings there are only newlines.
    let escaped = |c: char| match c {
        '\n' => "\n".to_owned(),
        c if acts_on_terminal(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    Ok(text.chars().map(escaped).chain(["\n".to_owned()]).collect())
}

/// Formats as YAML.
pub fn yaml(mut value: Value) -> Result<String, OutputError> {
    clean_all(&mut value);
    serde_saphyr::to_string(&value).map_err(|error| OutputError::Yaml(error.to_string()))
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
fn clean_all(value: &mut Value) {
    match value {
        Value::String(text) if text.chars().any(|c| c != '\n' && acts_on_terminal(c)) => {
            *text = text.split('\n').map(clean).collect::<Vec<_>>().join("\n");
        }
        Value::Array(items) => items.iter_mut().for_each(clean_all),
        Value::Object(fields) => fields.values_mut().for_each(clean_all),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_names_match_kubectl() {
        assert_eq!(name(RegistryScope::System, "packs"), "systemregistry.registry.spectrocloud.com/packs\n");
        assert_eq!(
            name(RegistryScope::Tenant, "a\u{1b}"),
            "tenantregistry.registry.spectrocloud.com/a\u{fffd}\n"
        );
    }

    #[test]
    fn json_escapes_control_characters() {
        let value = json!({"a": "\u{1b}[2J \u{9b} \u{202e} ä\n"});
        let text = json(&value).unwrap();
        assert!(!text.chars().any(|c| c != '\n' && acts_on_terminal(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn yaml_replaces_control_characters() {
        let text = yaml(json!({"pem": "one\ntwo\n", "evil": "\u{9b}31m"})).unwrap();
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, json!({"pem": "one\ntwo\n", "evil": "\u{fffd}31m"}));
    }
}
