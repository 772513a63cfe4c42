//! The fields of a pull Secret that the operator's field manager owns. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::ResourceExt;
use registry_api::PULL_SECRET_MANAGER;
use serde_json::{Value, json};

/// A label, annotation or entry of a Secret, by its key.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SecretField<'a> {
    /// A label.
    Label(&'a str),
    /// An annotation.
    Annotation(&'a str),
    /// An entry of `data`.
    Data(&'a str),
}

/// Fields with their values.
pub type SecretFields<'a> = BTreeMap<SecretField<'a>, &'a [u8]>;

impl<'a> SecretField<'a> {
    /// Returns the name of its map.
    pub fn section(self) -> &'static str {
        match self {
            Self::Label(_) => "labels",
            Self::Annotation(_) => "annotations",
            Self::Data(_) => "data",
        }
    }

    /// Returns its key in that map.
    pub fn key(self) -> &'a str {
        match self {
            Self::Label(key) | Self::Annotation(key) | Self::Data(key) => key,
        }
    }

    /// Returns its path in `managedFields`.
    fn path(self) -> Vec<String> {
        let below = match self {
            Self::Label(_) | Self::Annotation(_) => Some("metadata"),
            Self::Data(_) => None,
        };
        below.into_iter().chain([self.section(), self.key()]).map(|part| format!("f:{part}")).collect()
    }
}

/// The entries of the operator's field manager. A field that another client changes belongs to that client.
pub struct OwnedFields<'a>(Vec<&'a ManagedFieldsEntry>);

impl<'a> OwnedFields<'a> {
    /// The entries in that Secret.
    pub fn of(secret: &'a Secret) -> Self {
        Self(secret.managed_fields().iter().filter(|entry| is_by_operator(entry)).collect())
    }

    /// Returns whether the operator owns that field.
    pub fn has(&self, field: SecretField<'_>) -> bool {
        let path = field.path();
        self.0
            .iter()
            .filter_map(|entry| entry.fields_v1.as_ref())
            .any(|fields| path.iter().try_fold(&fields.0, |at, part| at.get(part)).is_some())
    }

    /// Returns the owned fields with their values.
    pub fn values(&self, secret: &'a Secret) -> SecretFields<'a> {
        let labels = secret.labels().iter().map(|(key, text)| (SecretField::Label(key), text.as_bytes()));
        let annotations = secret.annotations().iter();
        let annotations = annotations.map(|(key, text)| (SecretField::Annotation(key), text.as_bytes()));
        let data = secret.data.iter().flatten().map(|(key, value)| (SecretField::Data(key), &*value.0));
        labels.chain(annotations).chain(data).filter(|(field, _)| self.has(*field)).collect()
    }

    /// Returns whether all owned fields were written by an apply.
    pub fn are_applied(&self) -> bool {
        self.0.iter().all(|entry| entry.operation.as_deref() == Some("Apply"))
    }
}

fn is_by_operator(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(PULL_SECRET_MANAGER)
}

/// Returns the managed fields of a Secret as if the operator had applied all that it owns. An apply removes a field only if
/// an apply wrote it. `kubectl apply --server-side` does the same with fields that `kubectl apply` wrote.
pub fn as_applied(secret: &Secret) -> Vec<ManagedFieldsEntry> {
    let entries = secret.managed_fields().iter().cloned();
    let (own, mut others): (Vec<_>, Vec<_>) = entries.partition(is_by_operator);
    let applied = own.into_iter().reduce(union);
    others.extend(applied.map(|all| ManagedFieldsEntry { operation: Some("Apply".to_owned()), ..all }));
    others
}

fn union(mut all: ManagedFieldsEntry, entry: ManagedFieldsEntry) -> ManagedFieldsEntry {
    if let (Some(all), Some(fields)) = (&mut all.fields_v1, entry.fields_v1) {
        merge(&mut all.0, fields.0);
    }
    all
}

fn merge(all: &mut Value, fields: Value) {
    if let (Value::Object(all), Value::Object(fields)) = (all, fields) {
        for (key, below) in fields {
            merge(all.entry(key).or_insert_with(|| json!({})), below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields})
    }

    fn secret(entries: &Value) -> Secret {
        let metadata = json!({"labels": {"a": "1", "b": "2"}, "managedFields": entries});
        serde_json::from_value(json!({"metadata": metadata, "data": {"c": "Mw=="}})).unwrap()
    }

    fn labels(keys: &[&str]) -> Value {
        let keys: BTreeMap<_, _> = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
        json!({"f:metadata": {"f:labels": keys}})
    }

    #[test]
    fn owns_only_fields_of_own_entries() {
        let secret = secret(&json!([
            entry(PULL_SECRET_MANAGER, "Update", &labels(&["a"])),
            entry("kubectl", "Update", &labels(&["b"])),
            entry(PULL_SECRET_MANAGER, "Apply", &json!({"f:data": {"f:c": {}}})),
        ]));
        let owned = OwnedFields::of(&secret);
        let expected = [(SecretField::Label("a"), &b"1"[..]), (SecretField::Data("c"), b"3")];
        assert_eq!(owned.values(&secret), expected.into());
        assert!(!owned.are_applied());
    }

    #[test]
    fn takes_all_own_fields_by_apply() {
        let theirs = entry("kubectl", "Update", &labels(&["c"]));
        let applied = as_applied(&secret(&json!([
            entry(PULL_SECRET_MANAGER, "Update", &labels(&["a", "b"])),
            theirs,
            entry(PULL_SECRET_MANAGER, "Apply", &labels(&["b", "d"])),
        ])));
        let ours = entry(PULL_SECRET_MANAGER, "Apply", &labels(&["a", "b", "d"]));
        assert_eq!(serde_json::to_value(applied).unwrap(), json!([theirs, ours]));
    }
}
