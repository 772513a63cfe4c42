//! The objects that the chart installs, as config/install.yaml has them: the operator's roles, its Secret, and the policies, which are
//! installed here but decide nothing.

use std::sync::LazyLock;

use serde_json::Value;

/// The chart, rendered with its defaults.
const RENDERED: &str = include_str!("../../../../config/install.yaml");

/// What of it a history needs. The definitions are installed by the API server in memory.
const KINDS: [&str; 9] = [
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let documents = RENDERED.split("\n---\n").filter_map(|text| serde_saphyr::from_str::<Value>(text).ok());
    documents.filter(|object| KINDS.iter().any(|kind| object["kind"] == *kind)).collect()
});

/// Returns the objects.
pub(super) fn objects() -> &'static [Value] {
    &OBJECTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_every_kind() {
        for kind in KINDS {
            assert!(objects().iter().any(|object| object["kind"] == kind), "{kind}");
        }
    }
}
