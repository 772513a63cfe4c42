//! A registry as the cluster has it, read leniently: one that this program's types can't read is shown all the same.

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};
use registry_api::{RegistrySpec, RegistryStatus};
use registry_verdict::object::RegistryScope;
use serde_json::Value;

/// A registry of the cluster.
#[derive(Clone, Debug)]
pub struct FoundRegistry {
    /// Its scope.
    pub scope: RegistryScope,
    /// All of it.
    pub object: DynamicObject,
}

impl FoundRegistry {
    /// Its name.
    pub fn name(&self) -> String {
        self.object.name_any()
    }

    /// Its namespace.
    pub fn namespace(&self) -> Option<String> {
        self.object.namespace()
    }

    /// The text at a JSON pointer below the object; nothing if it is not there.
    pub fn text(&self, pointer: &str) -> &str {
        self.object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field of the condition of that type.
    pub fn condition(&self, condition: &str, field: &str) -> &str {
        let conditions = self.object.data.pointer("/status/conditions").and_then(Value::as_array);
        let mut conditions = conditions.into_iter().flatten();
        let found = conditions.find(|one| one["type"].as_str() == Some(condition));
        found.and_then(|one| one[field].as_str()).unwrap_or_default()
    }

    /// The tenants that may use it, if it is not all of them.
    pub fn tenants(&self) -> Option<Vec<&str>> {
        let tenants = self.object.data.pointer("/spec/availability/tenants")?.as_array()?;
        Some(tenants.iter().filter_map(Value::as_str).collect())
    }

    /// Its spec, if these types can read it.
    pub fn spec(&self) -> Option<RegistrySpec> {
        serde_json::from_value(self.object.data.get("spec")?.clone()).ok()
    }

    /// Its status, if these types can read it.
    pub fn status(&self) -> Option<RegistryStatus> {
        serde_json::from_value(self.object.data.get("status")?.clone()).ok()
    }

    /// When it was made.
    pub fn created(&self) -> Option<Timestamp> {
        self.object.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// The time at a JSON pointer.
    pub fn time(&self, pointer: &str) -> Option<Timestamp> {
        self.text(pointer).parse().ok()
    }

    /// Without what only the API server reads.
    pub fn for_printing(&self) -> Value {
        let mut object = self.object.clone();
        object.metadata.managed_fields = None;
        serde_json::to_value(&object).unwrap_or_default()
    }
}
