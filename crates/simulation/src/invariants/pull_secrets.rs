//! What happens to pull Secrets, and to those of other owners.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use crate::{
    cast::SYSTEM_NAMESPACE,
    trace::{AcceptedWrite, HistoryTrace},
};

/// How long the operator waits for the removal of pull Secrets, if the API server doesn't answer.
const REMOVAL: Duration = Duration::from_secs(10);

/// The finalizer stays until the registry's pull Secrets are gone, or could not be removed in time.
pub fn finalizer_outlives_pull_secrets(trace: &HistoryTrace) -> Vec<String> {
    if trace.has_restored() {
        return Vec::new(); // the writes don't say what was restored
    }
    let mut own: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut unwanted: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut early = Vec::new();
    for write in &trace.writes {
        if write.kind == "Secret" {
            let place = (write.namespace.clone(), write.name.clone());
            match write.after.as_deref().and_then(owner) {
                Some(uid) => drop(own.insert(place, uid)),
                None => drop(own.remove(&place)),
            }
        }
        if !write.is_registry() {
            continue;
        }
        let left: BTreeSet<_> = own.iter().filter(|(_, uid)| *uid == write.uid()).map(|(at, _)| at).collect();
        let waited = write.at.saturating_sub(*unwanted.entry(write.uid()).or_insert(write.at));
        if write.after.as_deref().is_some_and(wants) {
            unwanted.remove(write.uid());
        }
        if write.by_operator
            && is_released(write)
            && !left.is_empty()
            && waited < REMOVAL
            && trace.is_undisturbed(write.at)
        {
            early.push(format!("at {:?}, {} lost its finalizer before {left:?}", write.at, write.name));
        }
    }
    early
}

/// Returns the uid of the registry that a pull Secret is for; none if it isn't the operator's.
fn owner(secret: &Value) -> Option<String> {
    secret["metadata"]["labels"][registry_api::REGISTRY_UID_LABEL].as_str().map(ToOwned::to_owned)
}

/// Whether a registry wants pull Secrets.
fn wants(object: &Value) -> bool {
    object.pointer("/spec/availability/pullSecret").is_some()
        && object.pointer("/metadata/deletionTimestamp").is_none()
}

fn is_released(write: &AcceptedWrite) -> bool {
    let is_held = |object: &Value| {
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        finalizers.is_some_and(|all| all.iter().any(|finalizer| finalizer == registry_api::FINALIZER))
    };
    write.before.as_deref().is_some_and(is_held) && !write.after.as_deref().is_some_and(is_held)
}

/// The operator changes and deletes only its own Secrets.
pub fn secrets_of_others_stay(trace: &HistoryTrace) -> Vec<String> {
    let changed = trace
        .writes
        .iter()
        .filter(|write| write.by_operator && write.kind == "Secret" && write.namespace != SYSTEM_NAMESPACE);
    let foreign = changed.filter(|write| write.before.as_deref().is_some_and(|old| owner(old).is_none()));
    foreign
        .map(|write| format!("at {:?}, wrote {:?}, which isn't the operator's", write.at, write.key()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::invariants::samples::{minute, registry, trace, write};

    fn secret(at: u64, before: Option<Value>, after: Option<Value>) -> AcceptedWrite {
        AcceptedWrite {
            kind: "Secret".to_owned(),
            namespace: "alpha-1".to_owned(),
            name: "system-a-pull".to_owned(),
            ..write(minute(at), "", before, after)
        }
    }

    fn own() -> Value {
        json!({"metadata": {"labels": {registry_api::REGISTRY_UID_LABEL: "uid-1"}}})
    }

    #[test]
    fn finds_finalizers_that_are_removed_too_early() {
        let mut held = registry(1);
        held["metadata"]["finalizers"] = json!([registry_api::FINALIZER]);
        let mut trace = trace();
        let (create, delete) = (secret(1, None, Some(own())), secret(2, Some(own()), None));
        let mut deleting = held.clone();
        deleting["metadata"]["deletionTimestamp"] = json!("now");
        let ask = write(Duration::from_secs(171), "", Some(held), Some(deleting.clone()));
        let release = write(minute(3), "", Some(deleting), None);
        trace.writes = vec![create.clone(), delete, ask.clone(), release.clone()];
        assert!(finalizer_outlives_pull_secrets(&trace).is_empty());
        trace.writes = vec![create.clone(), ask.clone(), release.clone()];
        assert_eq!(finalizer_outlives_pull_secrets(&trace).len(), 1);
        trace.writes = vec![create, AcceptedWrite { at: minute(2), ..ask }, release];
        assert!(finalizer_outlives_pull_secrets(&trace).is_empty(), "it could not be removed in time");
    }

    #[test]
    fn finds_writes_to_secrets_of_others() {
        let mut trace = trace();
        trace.writes = vec![secret(1, None, Some(own())), secret(2, Some(own()), None)];
        assert!(secrets_of_others_stay(&trace).is_empty());
        trace.writes = vec![secret(1, Some(json!({"metadata": {}})), Some(own()))];
        assert_eq!(secrets_of_others_stay(&trace).len(), 1);
    }
}
