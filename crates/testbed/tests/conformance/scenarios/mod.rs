//! What is sent to both servers.

pub mod access;
pub mod definitions;
pub mod leases;
pub mod lists;
pub mod namespaces;
pub mod policies;
pub mod pull_secrets;
pub mod registries;
pub mod secrets;
pub mod watches;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{call::Call, side::Side};

const NAMESPACES: &str = "/api/v1/namespaces";

/// Creates a namespace for one scenario.
async fn namespace(side: &mut Side, name: &str) -> Result<()> {
    let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    side.ask(&Call::create(NAMESPACES, &manifest)).await?;
    Ok(())
}

fn path(namespace: &str, plural: &str) -> String {
    format!("{NAMESPACES}/{namespace}/{plural}")
}

fn custom(namespace: &str) -> String {
    format!("/apis/registry.spectrocloud.com/v1alpha1/namespaces/{namespace}/tenantregistries")
}

fn secret(name: &str, fields: Value) -> Value {
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    merge(&mut secret, fields);
    secret
}

fn registry(name: &str, fields: Value) -> Value {
    let mut registry = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": name}, "spec": {"endpoint": "https://r.example"},
    });
    merge(&mut registry, fields);
    registry
}

/// Adds fields to an object, and removes those that are null.
fn merge(object: &mut Value, fields: Value) {
    match (object, fields) {
        (Value::Object(object), Value::Object(fields)) => {
            for (key, value) in fields {
                if value.is_null() {
                    object.remove(&key);
                    continue;
                }
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, fields) => *object = fields,
    }
}
