//! Custom resources: their definitions, defaults, unknown fields, and the types of their fields.

use std::sync::LazyLock;

use registry_api::{
    crd,
    spec::{System, Tenant},
};
use serde_json::{Value, json};

use super::{
    refusal::FieldCause,
    resources::{ServedResource, index_of},
    store::StoreKey,
};

static SYSTEM: LazyLock<Value> = LazyLock::new(|| json!(crd::definition::<System>().ok()));
static TENANT: LazyLock<Value> = LazyLock::new(|| json!(crd::definition::<Tenant>().ok()));

/// Returns the CustomResourceDefinition of a custom resource, as the chart installs it.
pub(super) fn manifest(resource: &ServedResource) -> &'static Value {
    if resource.namespaced { &TENANT } else { &SYSTEM }
}

/// Returns where the CustomResourceDefinition of a resource is stored.
pub(super) fn key(resource: &ServedResource) -> StoreKey {
    StoreKey::new(index_of("customresourcedefinitions"), "", &resource.qualified())
}

fn schema(resource: &ServedResource) -> &'static Value {
    &manifest(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// Removes unknown fields, and adds defaults.
pub(super) fn complete(resource: &ServedResource, object: &mut Value) {
    prune(schema(resource), object, &["apiVersion", "kind", "metadata"]);
    set_defaults(schema(resource), object);
}

/// Adds defaults only, as to an object that was stored before.
pub(super) fn set_defaults(schema: &Value, value: &mut Value) {
    if let Some(list) = value.as_array_mut() {
        for item in list {
            set_defaults(&schema["items"], item);
        }
    }
    let Some(map) = value.as_object_mut() else { return };
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(default) = below.get("default")
            && map.get(name).is_none_or(Value::is_null)
        {
            map.insert(name.clone(), default.clone());
        }
        if let Some(value) = map.get_mut(name) {
            set_defaults(below, value);
        }
    }
}

fn prune(schema: &Value, value: &mut Value, kept: &[&str]) {
    if let Some(list) = value.as_array_mut() {
        for item in list {
            prune(&schema["items"], item, &[]);
        }
    }
    let Some(map) = value.as_object_mut() else { return };
    if let Some(properties) = schema["properties"].as_object() {
        map.retain(|name, _| properties.contains_key(name) || kept.contains(&name.as_str()));
        for (name, value) in map.iter_mut() {
            properties.get(name).into_iter().for_each(|below| prune(below, value, &[]));
        }
    }
}

/// Returns why an object doesn't fit the schema: fields that are missing or have another type. Rules and patterns aren't
/// checked.
pub(super) fn problems(resource: &ServedResource, subresource: &str, object: &Value) -> Vec<FieldCause> {
    let mut causes = Vec::new();
    check(schema(resource), object, "", &mut causes);
    for cause in &mut causes {
        // A status is checked alone, so the message names its fields from there.
        cause.message = cause.message.replace(&format!(": {subresource}."), ": ");
    }
    if !causes.is_empty() {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors to \
                   complete validation";
        causes.push(FieldCause::invalid("<nil>", &Value::Null, why));
    }
    causes
}

fn check(schema: &Value, value: &Value, path: &str, causes: &mut Vec<FieldCause>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let expected = schema["type"].as_str().unwrap_or_default();
    if !has_type(expected, value) {
        let found = type_of(value);
        causes.push(FieldCause {
            reason: "FieldValueTypeInvalid",
            field: path.to_owned(),
            message: format!(
                "Invalid value: \"{found}\": {path} in body must be of type {expected}: \"{found}\""
            ),
        });
        return;
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            causes.push(FieldCause::required(&below(name), ""));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        value.get(name).into_iter().for_each(|value| check(schema, value, &below(name), causes));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{path}[{index}]"), causes);
    }
}

fn has_type(expected: &str, value: &Value) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => true,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
