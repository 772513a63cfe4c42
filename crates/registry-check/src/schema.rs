//! A registry's document against its schema, without a cluster. Pure. No complaint holds a value.
//!
//! [`complaints`] covers the structure (fields, types, lengths, choices), [`broken_rules`] the CEL rules.

use kube_cel::{ErrorKind, Validator};
use registry_api::{
    crd::{self, CrdError},
    spec::{System, Tenant},
};
use registry_verdict::object::RegistryScope;
use serde_json::{Map, Value};

/// Returns what does not fit, each with the path of its field.
pub fn complaints(scope: RegistryScope, document: &Value) -> Result<Vec<String>, CrdError> {
    let schema = schema(scope)?;
    let mut found = Vec::new();
    let Some(spec) = document.get("spec").filter(|spec| !spec.is_null()) else {
        return Ok(vec!["spec is required".to_owned()]);
    };
    walk("spec", &schema["properties"]["spec"], spec, &mut found);
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let fields = document.as_object().into_iter().flat_map(Map::keys);
    found.extend(fields.filter(|field| !known.contains(&field.as_str())).map(|field| unknown(field)));
    Ok(found)
}

/// Returns the messages of the rules that a document violates, as the API server would. Its structure must be valid.
pub fn broken_rules(scope: RegistryScope, document: &Value) -> Result<Vec<String>, CrdError> {
    let schema = &schema(scope)?["properties"]["spec"];
    let errors = Validator::new().validate(schema, &without_nulls(&document["spec"]), None).err();
    // A rule that can't be run here is left to the API server.
    let broken = errors.into_iter().flatten().filter(|error| error.kind == ErrorKind::ValidationFailure);
    Ok(broken.map(|error| error.message).collect())
}

fn schema(scope: RegistryScope) -> Result<Value, CrdError> {
    let definition = match scope {
        RegistryScope::System => crd::definition::<System>()?,
        RegistryScope::Tenant => crd::definition::<Tenant>()?,
    };
    let schema = definition.spec.versions.first().and_then(|version| version.schema.as_ref());
    let schema = schema.and_then(|schema| serde_json::to_value(&schema.open_api_v3_schema).ok());
    Ok(schema.unwrap_or_default())
}

/// Removes fields that are null, as the API server does before it sets defaults.
fn without_nulls(value: &Value) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    let fields = fields.iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.clone(), without_nulls(value))).collect()
}

fn walk(path: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
    match (schema["type"].as_str(), value) {
        // What is null counts as left out.
        (_, Value::Null) | (None, _) | (Some("boolean"), Value::Bool(_)) => {}
        (Some("object"), Value::Object(fields)) => walk_fields(path, schema, fields, found),
        (Some("array"), Value::Array(items)) => walk_items(path, schema, items, found),
        (Some("string"), Value::String(text)) => found.extend(about_text(path, schema, text)),
        (Some("integer"), Value::Number(number)) if number.is_i64() => {}
        (Some(wanted), _) => found.push(format!("{path} must be {}", described(wanted))),
    }
}

fn walk_fields(path: &str, schema: &Value, fields: &Map<String, Value>, found: &mut Vec<String>) {
    for (field, value) in fields {
        match schema["properties"].get(field) {
            Some(schema) => walk(&format!("{path}.{field}"), schema, value, found),
            None => found.push(unknown(&format!("{path}.{field}"))),
        }
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = required.filter(|name| fields.get(*name).is_none_or(Value::is_null));
    found.extend(missing.map(|name| format!("{path}.{name} is required")));
}

fn walk_items(path: &str, schema: &Value, items: &[Value], found: &mut Vec<String>) {
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
        // Nothing more is checked: for a set, the time grows with the square of the number of entries.
        return found.push(format!("{path} must have at most {most} entries"));
    }
    let is_set = schema["x-kubernetes-list-type"] == "set";
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if is_set && items[..index].contains(item) {
            found.push(format!("{path} must not repeat an earlier entry"));
        }
        walk(&path, &schema["items"], item, found);
    }
}

fn about_text(path: &str, schema: &Value, text: &str) -> Option<String> {
    let longest = schema["maxLength"].as_u64().and_then(|longest| usize::try_from(longest).ok());
    if let Some(longest) = longest.filter(|longest| text.chars().count() > *longest) {
        return Some(format!("{path} must have at most {longest} characters"));
    }
    let choices: Vec<&str> = schema["enum"].as_array()?.iter().filter_map(Value::as_str).collect();
    (!choices.contains(&text)).then(|| format!("{path} must be one of {}", choices.join(", ")))
}

fn unknown(path: &str) -> String {
    format!("{path}: unknown field")
}

fn described(wanted: &str) -> &'static str {
    match wanted {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a string (quote numbers)",
        "boolean" => "true or false",
        _ => "an integer",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn about(spec: &Value) -> Vec<String> {
        complaints(RegistryScope::System, &json!({"metadata": {"name": "x"}, "spec": spec})).unwrap()
    }

    #[test]
    fn accepts_complete_registry() {
        let spec = json!({
            "endpoint": "https://a", "contentType": "Helm", "baseContentPath": null,
            "auth": {"basic": {"secretRef": {"name": "s"}}},
            "tls": {"insecureSkipVerify": true, "ca": {"inline": "x"}},
            "validation": {"interval": "10m", "failureThreshold": 3},
            "availability": {"tenants": ["a"], "pullSecret": {"name": "p"}},
        });
        assert_eq!(about(&spec), Vec::<String>::new());
    }

    #[test]
    fn names_each_violation_by_path_without_value() {
        let spec = json!({
            "contentType": "hunter2", "auth": "hunter2", "tls": {"insecureSkipVerify": "hunter2"},
            "validation": {"failureThreshold": 1.5, "interval": 10}, "password": "hunter2",
            "availability": {"tenants": [1, "hunter2", "hunter2"], "pullSecret": {}},
        });
        let mut found = about(&spec);
        found.sort();
        assert_eq!(
            found,
            [
                "spec.auth must be a mapping",
                "spec.availability.pullSecret.name is required",
                "spec.availability.tenants[0] must be a string (quote numbers)",
                "spec.availability.tenants[2] must not repeat an earlier entry",
                "spec.contentType must be one of Pack, Helm, Zarf",
                "spec.endpoint is required",
                "spec.password: unknown field",
                "spec.tls.insecureSkipVerify must be true or false",
                "spec.validation.failureThreshold must be an integer",
                "spec.validation.interval must be a string (quote numbers)",
            ]
        );
    }

    #[test]
    fn long_list_is_one_violation() {
        let items = vec![json!("same"); 3];
        let mut found = Vec::new();
        let schema = json!({"maxItems": 2, "x-kubernetes-list-type": "set", "items": {"type": "integer"}});
        walk_items("spec.x", &schema, &items, &mut found);
        assert_eq!(found, ["spec.x must have at most 2 entries"]);
    }

    #[test]
    fn runs_rules_on_existing_fields() {
        let broken = |scope, spec| broken_rules(scope, &json!({"spec": spec})).unwrap();
        let fits =
            json!({"endpoint": "https://a", "baseContentPath": null, "auth": {"basic": null, "ecr": {}}});
        assert_eq!(broken(RegistryScope::System, fits), Vec::<String>::new());
        let several = json!({"endpoint": "https://a:0", "validation": {"interval": "1s"}, "availability": {"tenants": ["a"]}});
        let interval = "spec.validation.interval must be from 1m to 24h";
        let port = "spec.endpoint must have a port from 1 to 65535, or none";
        assert_eq!(broken(RegistryScope::System, several.clone()), [port, interval]);
        assert_eq!(broken(RegistryScope::Tenant, several).len(), 3);
    }

    #[test]
    fn rejects_missing_spec_and_unknown_field() {
        let about = |document| complaints(RegistryScope::Tenant, &document).unwrap();
        assert_eq!(about(json!({"metadata": {}})), ["spec is required"]);
        let outside = json!({"spec": {"endpoint": "https://a"}, "data": {}});
        assert_eq!(about(outside), ["data: unknown field"]);
    }
}
