//! What the API server does to an object of each kind before it is stored: defaults, immutable fields, checks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    definition,
    refusal::FieldCause,
    resources::{ResourceNature, ServedResource},
};

/// Sets what the API server sets by default, and converts what it stores in another form.
pub(super) fn complete(resource: &ServedResource, object: &mut Value) {
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind);
    remove_empty(object);
    match resource.kind {
        "Secret" => complete_secret(object),
        "Namespace" => complete_namespace(object),
        "RoleBinding" | "ClusterRoleBinding" => complete_binding(object),
        _ if resource.nature == ResourceNature::Custom => definition::complete(resource, object),
        _ => {}
    }
}

/// Removes maps and lists without content, which the API server omits.
fn remove_empty(object: &mut Value) {
    let is_empty = |value: &Value| {
        value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
    };
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|_, value| !is_empty(value));
    }
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|field, value| field != "data" || !is_empty(value));
    }
}

fn complete_secret(object: &mut Value) {
    let Some(secret) = object.as_object_mut() else { return };
    for (key, text) in secret.remove("stringData").as_ref().and_then(Value::as_object).into_iter().flatten() {
        let data = secret.entry("data").or_insert_with(|| json!({}));
        data[key] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
    }
    secret.entry("type").or_insert_with(|| json!("Opaque"));
}

fn complete_namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
}

fn complete_binding(object: &mut Value) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    for subject in object["subjects"].as_array_mut().into_iter().flatten() {
        let is_user = subject["kind"] == "User" || subject["kind"] == "Group";
        if is_user && subject.get("apiGroup").is_none() {
            subject["apiGroup"] = json!(GROUP);
        }
    }
    if object["roleRef"].is_object() && object["roleRef"].get("apiGroup").is_none() {
        object["roleRef"]["apiGroup"] = json!(GROUP);
    }
}

/// Returns the object of a kind before anything is set: a built-in kind has its parts already.
pub(super) fn empty(resource: &ServedResource) -> Value {
    match resource.kind {
        "Lease" | "ValidatingAdmissionPolicyBinding" => json!({"spec": {}}),
        "Namespace" => json!({"spec": {}, "status": {}}),
        _ => json!({}),
    }
}

/// Sets what a new object gets, whatever the client sent.
pub(super) fn begin(resource: &ServedResource, object: &mut Value) {
    if resource.status
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    match resource.nature {
        ResourceNature::Versioned | ResourceNature::Custom => object["metadata"]["generation"] = json!(1),
        ResourceNature::Plain | ResourceNature::Review => {}
    }
    match resource.kind {
        "Namespace" => {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        "CustomResourceDefinition" => object["status"] = established(object),
        _ if resource.nature == ResourceNature::Custom => definition::complete(resource, object),
        _ => {}
    }
}

/// The status of a definition whose resource is served, which it is at once.
fn established(definition: &Value) -> Value {
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason});
    json!({
        "acceptedNames": definition["spec"]["names"],
        "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
        "storedVersions": [definition["spec"]["versions"][0]["name"]],
    })
}

pub(super) fn remove_metadata(object: &mut Value, field: &str) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove(field);
    }
}

/// Returns the new generation after an update of the object itself.
pub(super) fn next_generation(resource: &ServedResource, old: &Value, new: &Value) -> Option<i64> {
    let generation = old["metadata"]["generation"].as_i64()?;
    let is_content =
        |(field, _): &(&String, &Value)| *field != "metadata" && !(resource.status && *field == "status");
    let content = |object| Value::as_object(object).into_iter().flatten().filter(is_content);
    Some(if content(old).eq(content(new)) { generation } else { generation + 1 })
}

/// Returns what is wrong with an object, in the order in which the API server says it.
pub(super) fn problems(
    resource: &ServedResource,
    subresource: &str,
    old: Option<&Value>,
    new: &Value,
) -> Vec<FieldCause> {
    let mut causes = Vec::new();
    if let Some(old) = old {
        // The API server checks the metadata twice, and says it twice.
        causes.extend(metadata_problems(old, new));
        causes.extend(metadata_problems(old, new));
    }
    match resource.kind {
        "Secret" => causes.extend(secret_problems(old, new)),
        "RoleBinding" | "ClusterRoleBinding" => causes.extend(binding_problems(old, new)),
        "Lease" => causes.extend(lease_problems(new)),
        _ if resource.nature == ResourceNature::Custom => {
            causes.extend(definition::problems(resource, subresource, new));
        }
        _ => {}
    }
    causes
}

fn metadata_problems(old: &Value, new: &Value) -> Vec<FieldCause> {
    let (old, new) = (&old["metadata"], &new["metadata"]);
    let mut causes = Vec::new();
    for field in ["uid", "name"] {
        if old[field] != new[field] {
            let path = format!("metadata.{field}");
            causes.push(FieldCause::invalid(&path, &new[field], "field is immutable"));
        }
    }
    let finalizers = |metadata: &Value| -> Vec<String> {
        let all = metadata["finalizers"].as_array().into_iter().flatten();
        all.filter_map(|finalizer| finalizer.as_str().map(str::to_owned)).collect()
    };
    let before = finalizers(old);
    let mut added: Vec<String> = finalizers(new).into_iter().filter(|its| !before.contains(its)).collect();
    added.sort();
    if old.get("deletionTimestamp").is_some() && !added.is_empty() {
        let listed = added.iter().map(|its| format!("{its:?}")).collect::<Vec<_>>().join(", ");
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
        );
        causes.push(FieldCause::forbidden("metadata.finalizers", &why));
    }
    causes
}

const DOCKER_CONFIG: &str = ".dockerconfigjson";

fn secret_problems(old: Option<&Value>, new: &Value) -> Vec<FieldCause> {
    let mut causes = Vec::new();
    if let Some(old) = old {
        if old["type"] != new["type"] {
            causes.push(FieldCause::invalid("type", &new["type"], "field is immutable"));
        }
        if old["immutable"] == true {
            causes.extend(immutable_problems(old, new));
        }
    }
    causes.extend(match new["type"].as_str().unwrap_or_default() {
        "kubernetes.io/dockerconfigjson" => docker_config_problem(new),
        "kubernetes.io/basic-auth" => {
            let named = ["username", "password"].iter().any(|key| new["data"].get(key).is_some());
            (!named).then(|| FieldCause::required("data[username]", ""))
        }
        _ => None,
    });
    causes
}

fn immutable_problems(old: &Value, new: &Value) -> Vec<FieldCause> {
    let mut causes = Vec::new();
    if new["immutable"] != true {
        causes.push(FieldCause::forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    if old["data"] != new["data"] {
        causes.push(FieldCause::forbidden("data", "field is immutable when `immutable` is set"));
    }
    causes
}

fn docker_config_problem(secret: &Value) -> Option<FieldCause> {
    let field = format!("data[{DOCKER_CONFIG}]");
    let Some(encoded) = secret["data"].get(DOCKER_CONFIG).and_then(Value::as_str) else {
        return Some(FieldCause::required(&field, ""));
    };
    let config = STANDARD.decode(encoded).unwrap_or_default();
    let error = serde_json::from_slice::<Value>(&config).err()?;
    Some(FieldCause::invalid(&field, &json!("<secret contents redacted>"), &error.to_string()))
}

fn binding_problems(old: Option<&Value>, new: &Value) -> Option<FieldCause> {
    let old = old?;
    let role = &new["roleRef"];
    // With the names of the fields in Go.
    let shown = json!({"APIGroup": role["apiGroup"], "Kind": role["kind"], "Name": role["name"]});
    (old["roleRef"] != *role).then(|| FieldCause::invalid("roleRef", &shown, "cannot change roleRef"))
}

fn lease_problems(lease: &Value) -> Vec<FieldCause> {
    let mut causes = Vec::new();
    let spec = &lease["spec"];
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        let path = "spec.leaseDurationSeconds";
        causes.push(FieldCause::invalid(path, &spec["leaseDurationSeconds"], "must be greater than 0"));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|changes| changes < 0) {
        let path = "spec.leaseTransitions";
        causes.push(FieldCause::invalid(
            path,
            &spec["leaseTransitions"],
            "must be greater than or equal to 0",
        ));
    }
    causes
}
