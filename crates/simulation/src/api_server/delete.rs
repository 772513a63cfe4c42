//! DELETE, and what follows from it: finalizers, namespaces, definitions.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    refusal::ApiFailure,
    request::{ApiCall, ApiVerb},
    resources::{RESOURCES, ResourceIndex, index_of},
    selector::ObjectSelector,
    state::{Answered, ApiAnswer, ServerState},
    store::StoreKey,
    write::has_finalizers,
};

/// Namespaces that can't be deleted.
const PERMANENT: [&str; 3] = ["default", "kube-public", "kube-system"];

impl ServerState {
    pub fn delete(&mut self, call: &ApiCall) -> Answered {
        let old = self.found(call)?;
        check_options(call)?;
        if call.kind().plural == "namespaces" && PERMANENT.contains(&call.name.as_str()) {
            return Err(ApiFailure::forbidden(call.kind(), &call.name, "this namespace may not be deleted"));
        }
        self.admit(call, Some(&old), None)?;
        check_preconditions(call, &old)?;
        let key = Self::key(call);
        if is_held(&old) {
            let object = if is_dry_run(call) { old } else { self.mark_deleted(&key, &old) };
            self.finish_definitions();
            return Ok(ApiAnswer::Object { code: 200, object });
        }
        if !is_dry_run(call) {
            self.remove(&key);
            self.finish_definitions();
        }
        Ok(ApiAnswer::Value { code: 200, value: deleted(call, &old) })
    }

    /// Deletes all objects that a request selects.
    pub fn delete_collection(&mut self, call: &ApiCall) -> Answered {
        let selector = ObjectSelector::parse(&call.options.labels, &call.options.fields)?;
        let of_kind = self.store.of(call.resource, &call.namespace);
        let found: Vec<(StoreKey, Arc<Value>)> = of_kind
            .filter(|(_, object)| selector.matches(object))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for (key, object) in &found {
            let one = ApiCall { name: key.name.clone(), verb: ApiVerb::Delete, ..call.clone() };
            self.admit(&one, Some(object), None)?;
        }
        for (key, object) in &found {
            self.delete_or_mark(key, object);
        }
        let items = found.iter().map(|(_, object)| Self::item(call, object)).collect();
        Ok(ApiAnswer::Value { code: 200, value: self.as_list(call, items) })
    }

    /// Deletes an object, or marks it as deleted while it has finalizers.
    pub fn delete_or_mark(&mut self, key: &StoreKey, object: &Arc<Value>) {
        if is_held(object) {
            self.mark_deleted(key, object);
        } else {
            self.remove(key);
        }
    }

    fn mark_deleted(&mut self, key: &StoreKey, old: &Arc<Value>) -> Arc<Value> {
        if old["metadata"].get("deletionTimestamp").is_some() {
            return old.clone();
        }
        let mut object = (**old).clone();
        object["metadata"]["deletionTimestamp"] = json!(self.now());
        if object["kind"] == "Namespace" {
            object["status"]["phase"] = json!("Terminating");
        } else {
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        }
        if let Some(generation) = object["metadata"]["generation"].as_i64() {
            object["metadata"]["generation"] = json!(generation + 1);
        }
        self.put(key.clone(), object)
    }

    /// Does what the namespace controller does: deletes what is in namespaces that are being deleted, and the namespaces
    /// that are empty.
    pub fn finish_namespaces(&mut self) {
        let namespaces = index_of("namespaces");
        let is_terminating = |object: &Value| object["metadata"].get("deletionTimestamp").is_some();
        let terminating: Vec<StoreKey> = self
            .store
            .of(namespaces, "")
            .filter(|(_, object)| is_terminating(object))
            .map(|(key, _)| key.clone())
            .collect();
        for namespace in terminating {
            for (key, object) in self.inside(&namespace.name) {
                self.delete_or_mark(&key, &object);
            }
            if self.inside(&namespace.name).is_empty() {
                self.remove(&namespace);
            }
        }
    }

    fn inside(&self, namespace: &str) -> Vec<(StoreKey, Arc<Value>)> {
        let all = self.store.all().iter().filter(|(key, _)| key.namespace == namespace);
        all.map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Does what the garbage collector does: deletes objects all of whose owners are gone.
    pub fn collect_garbage(&mut self) {
        let uids: std::collections::BTreeSet<String> =
            self.store.all().values().filter_map(|object| uid_of(&object["metadata"])).collect();
        let is_orphan = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.is_some_and(|owners| {
                !owners.is_empty() && !owners.iter().filter_map(uid_of).any(|uid| uids.contains(&uid))
            })
        };
        let orphans = self.store.all().iter().filter(|(_, object)| is_orphan(object));
        let orphans: Vec<(StoreKey, Arc<Value>)> =
            orphans.map(|(key, object)| (key.clone(), object.clone())).collect();
        for (key, object) in orphans {
            self.delete_or_mark(&key, &object);
        }
    }

    /// Deletes the objects of definitions that are being deleted, and the definitions without objects.
    pub fn finish_definitions(&mut self) {
        let definitions = index_of("customresourcedefinitions");
        let is_terminating = |object: &Value| object["metadata"].get("deletionTimestamp").is_some();
        let terminating: Vec<StoreKey> = self
            .store
            .of(definitions, "")
            .filter(|(_, object)| is_terminating(object))
            .map(|(key, _)| key.clone())
            .collect();
        for definition in terminating {
            if let Some(resource) = RESOURCES.iter().position(|its| its.qualified() == definition.name) {
                self.finish_definition(&definition, resource);
            }
        }
    }

    fn finish_definition(&mut self, definition: &StoreKey, resource: ResourceIndex) {
        let objects = |state: &Self| -> Vec<(StoreKey, Arc<Value>)> {
            let all = state.store.of(resource, "");
            all.map(|(key, object)| (key.clone(), object.clone())).collect()
        };
        for (key, object) in objects(self) {
            self.delete_or_mark(&key, &object);
        }
        if objects(self).is_empty() {
            self.remove(definition);
            self.wake(resource); // its watches end
        }
    }
}

fn uid_of(named: &Value) -> Option<String> {
    named["uid"].as_str().map(str::to_owned)
}

/// Returns whether an object stays, marked as deleted, until something is done.
pub(super) fn is_held(object: &Value) -> bool {
    has_finalizers(object) || object["kind"] == "Namespace" || object["kind"] == "CustomResourceDefinition"
}

fn is_dry_run(call: &ApiCall) -> bool {
    call.options.dry_run || call.body["dryRun"] == json!(["All"])
}

fn check_options(call: &ApiCall) -> Result<(), ApiFailure> {
    let known = ["apiVersion", "kind", "preconditions", "propagationPolicy", "dryRun", "gracePeriodSeconds"];
    for (option, value) in call.body.as_object().into_iter().flatten() {
        let is_known = known.contains(&option.as_str());
        let is_background = option != "propagationPolicy" || value == "Background";
        if !is_known || !is_background {
            return Err(ApiFailure::unknown(&format!("the option {option}: {value} of a deletion")));
        }
    }
    Ok(())
}

fn check_preconditions(call: &ApiCall, old: &Value) -> Result<(), ApiFailure> {
    let metadata = &old["metadata"];
    let expected = |field: &str| call.body["preconditions"][field].as_str().unwrap_or_default();
    let found = |field: &str| metadata[field].as_str().unwrap_or_default();
    let differs = |field: &str| !expected(field).is_empty() && expected(field) != found(field);
    let why = if differs("uid") {
        format!(
            "the UID in the precondition ({}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            expected("uid"),
            found("uid")
        )
    } else if differs("resourceVersion") {
        format!(
            "the ResourceVersion in the precondition ({}) does not match the ResourceVersion in record ({}). The \
             object might have been modified",
            expected("resourceVersion"),
            found("resourceVersion")
        )
    } else {
        return Ok(());
    };
    Err(ApiFailure::deletion_conflict(call.kind(), &call.name, &why))
}

/// Returns the answer to the deletion of an object that is gone at once.
fn deleted(call: &ApiCall, old: &Value) -> Value {
    let mut details = json!({
        "name": call.name, "kind": call.kind().plural, "uid": old["metadata"]["uid"],
    });
    if !call.kind().group.is_empty() {
        details["group"] = json!(call.kind().group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
