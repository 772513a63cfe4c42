//! Makes the `CustomResourceDefinition`s from the types. `spec`, `status` and `rules` define their content; this module
//! only brings it into the form that the API server accepts.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::schema::StructuralSchemaRewriter;
use schemars::{
    Schema,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    GROUP, RegistrySpec, RegistryStatus,
    spec::{Scope, System, Tenant, VERSION},
};

/// Why the CRDs can't be made or printed.
#[derive(Debug, Error)]
pub enum CrdError {
    /// The generated value is not a CRD, which is a bug in this crate.
    #[error("the generated definition of {kind} is not a CustomResourceDefinition: {source}")]
    Shape {
        /// The kind.
        kind: &'static str,
        /// The error.
        source: serde_json::Error,
    },
    /// The CRD can't be written as YAML.
    #[error("the generated definition of {kind} can't be written as YAML: {message}")]
    Yaml {
        /// The kind.
        kind: &'static str,
        /// The serializer's message.
        message: String,
    },
}

/// Returns both CRDs as YAML documents with their file names in `crds/`.
pub fn files() -> Result<[(&'static str, String); 2], CrdError> {
    Ok([("systemregistries.yaml", yaml::<System>()?), ("tenantregistries.yaml", yaml::<Tenant>()?)])
}

/// Returns the CRD of one scope's kind.
pub fn definition<S: Scope>() -> Result<CustomResourceDefinition, CrdError> {
    serde_json::from_value(value::<S>()).map_err(|source| CrdError::Shape { kind: S::KIND, source })
}

fn yaml<S: Scope>() -> Result<String, CrdError> {
    definition::<S>()?; // what we print must also be what a client can read
    serde_saphyr::to_string(&value::<S>())
        .map_err(|error| CrdError::Yaml { kind: S::KIND, message: error.to_string() })
}

fn value<S: Scope>() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"annotations": kept(), "name": format!("{}.{GROUP}", S::PLURAL)},
        "spec": {
            // Fields that the API server sets by default, for tools that compare text.
            "conversion": {"strategy": "None"},
            "group": GROUP,
            "names": {
                "categories": ["registries"],
                "kind": S::KIND,
                "listKind": format!("{}List", S::KIND),
                "plural": S::PLURAL,
                "shortNames": [S::SHORT],
                "singular": S::SINGULAR,
            },
            "scope": if S::NAMESPACED { "Namespaced" } else { "Cluster" },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(),
                "schema": {"openAPIV3Schema": object_schema::<S>()},
            }],
        },
    })
}

/// Annotations that stop tools from deleting the CRD, and every registry with it, when it is no longer in Git: Argo CD
/// (one option for pruning, one for the deletion of an Application), Config Sync, and Flux' ResourceSet and
/// Kustomization. The chart adds Helm's.
fn kept() -> Value {
    json!({
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "client.lifecycle.config.k8s.io/deletion": "detach",
        "fluxcd.controlplane.io/prune": "disabled",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    })
}

/// The columns of `kubectl get`, in order. Those with priority 1 only appear with `-o wide`.
fn columns() -> Value {
    let condition = |kind: &str, field: &str| format!(".status.conditions[?(@.type==\"{kind}\")].{field}");
    json!([
        {"name": "Endpoint", "type": "string", "jsonPath": ".spec.endpoint"},
        {"name": "Ready", "type": "string", "jsonPath": condition("Ready", "status")},
        {"name": "Credentials", "type": "string", "jsonPath": condition("CredentialsValidated", "status")},
        {"name": "Reason", "type": "string", "jsonPath": condition("Ready", "reason")},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "Content-Path", "type": "string", "jsonPath": ".spec.baseContentPath", "priority": 1},
        {"name": "Type", "type": "string", "jsonPath": ".spec.contentType", "priority": 1},
        {"name": "Last-Validated", "type": "date", "jsonPath": ".status.lastValidationTime", "priority": 1},
        {"name": "Message", "type": "string", "jsonPath": condition("Ready", "message"), "priority": 1},
    ])
}

fn object_schema<S: Scope>() -> Value {
    let mut spec = schema_of::<RegistrySpec>();
    let rules: Vec<Value> = S::rules().into_iter().map(|rule| json!(rule)).collect();
    if let Some(Value::Array(all)) = spec.get_mut("x-kubernetes-validations") {
        all.extend(rules);
    }
    let mut status = schema_of::<RegistryStatus>();
    // A new object has no status yet, which kstatus would report as Current. With a generation that doesn't exist, it
    // reports InProgress, as for Flux's kinds.
    status["default"] = json!({"observedGeneration": -1});
    json!({
        "description": S::DESCRIPTION,
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": spec, "status": status},
    })
}

fn schema_of<T: schemars::JsonSchema>() -> Value {
    let mut generator = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(StructuralSchemaRewriter)
        .with_transform(WithoutNull)
        .into_generator();
    let mut schema = generator.root_schema_for::<T>();
    schema.remove("title");
    schema.to_value()
}

/// Forbids `null`, so that an unset field is absent, and `has()` in a rule works.
#[derive(Clone, Debug)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        schema.remove("nullable");
        if let Some(Value::Array(types)) = schema.get("type") {
            let first = types.iter().find(|t| *t != "null").cloned();
            schema.insert("type".into(), first.unwrap_or(Value::Null));
        }
        if schema.get("default").is_some_and(Value::is_null) {
            schema.remove("default");
        }
    }
}
