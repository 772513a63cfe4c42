//! A registry in the cluster, parsed leniently: one that this program's types can't parse is shown too.

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};
use registry_api::{RegistrySpec, RegistryStatus};
use registry_verdict::object::RegistryScope;
use serde_json::Value;

/// A registry in the cluster.
#[derive(Clone, Debug)]
pub struct FoundRegistry {
    /// Its scope.
    pub scope: RegistryScope,
    /// The complete object.
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

    /// Returns the text at a JSON pointer; empty if there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns a field of a condition.
    pub fn condition(&self, condition: &str, field: &str) -> &str {
        let conditions = self.object.data.pointer("/status/conditions").and_then(Value::as_array);
        let mut conditions = conditions.into_iter().flatten();
        let found = conditions.find(|one| one["type"].as_str() == Some(condition));
        found.and_then(|one| one[field].as_str()).unwrap_or_default()
    }

    /// Returns the tenants that can use it, unless all can.
    pub fn tenants(&self) -> Option<Vec<&str>> {
        let tenants = self.object.data.pointer("/spec/availability/tenants")?.as_array()?;
        Some(tenants.iter().filter_map(Value::as_str).collect())
    }

    /// Returns its spec, if this program can parse it.
    pub fn spec(&self) -> Option<RegistrySpec> {
        serde_json::from_value(self.object.data.get("spec")?.clone()).ok()
    }

    /// Returns its status, if this program can parse it.
    pub fn status(&self) -> Option<RegistryStatus> {
        serde_json::from_value(self.object.data.get("status")?.clone()).ok()
    }

    /// Returns when it was created.
    pub fn created(&self) -> Option<Timestamp> {
        self.object.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// Returns the time at a JSON pointer.
    pub fn time(&self, pointer: &str) -> Option<Timestamp> {
        self.text(pointer).parse().ok()
    }

    /// Removes fields that only the API server needs.
    pub fn for_printing(&self) -> Value {
        let mut object = self.object.clone();
        object.metadata.managed_fields = None;
        serde_json::to_value(&object).unwrap_or_default()
    }
}
