//! POST, PUT and PATCH.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    delete::is_held,
    fields::{FieldWrite, applied, differ_in_times_only, field_type, updated},
    refusal::{ApiFailure, FieldCause},
    request::{ApiCall, ApiVerb, PatchKind},
    resources::{ResourceNature, index_of},
    rules,
    state::{Answered, ApiAnswer, ServerState},
    store::StoreKey,
    write_record::{AdmissionRequest, WriteTarget},
};

impl ServerState {
    pub fn create(&mut self, call: &ApiCall) -> Answered {
        let mut object = sent_object(call)?;
        if call.is_status() {
            return Err(ApiFailure::unknown("creation of a status"));
        }
        self.name_new(call, &mut object)?;
        self.check_namespace_exists(call)?;
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            rules::remove_metadata(&mut object, field);
        }
        rules::complete(call.kind(), &mut object);
        let object = with_managers(call, "", &self.now(), &rules::empty(call.kind()), object);
        self.insert(call, object)
    }

    /// Stores a new object, whose field managers are set.
    fn insert(&mut self, call: &ApiCall, mut object: Value) -> Answered {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = StoreKey::new(call.resource, &call.namespace, &name);
        object["metadata"]["uid"] = json!(self.next_uid());
        object["metadata"]["creationTimestamp"] = json!(self.now());
        if !call.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(call.namespace);
        }
        rules::begin(call.kind(), &mut object);
        self.check_binding(call, None, &object)?;
        self.admit(call, None, Some(&object))?;
        let causes = rules::problems(call.kind(), "", None, &object);
        if !causes.is_empty() {
            return Err(ApiFailure::invalid(call.kind(), &name, &causes));
        }
        if object["metadata"].get("resourceVersion").is_some() && call.verb == ApiVerb::Create {
            return Err(ApiFailure::internal("resourceVersion should not be set on objects to be created"));
        }
        if self.store.get(&key).is_some() {
            return Err(ApiFailure::already_exists(call.kind(), &name));
        }
        let object = if call.options.dry_run { Arc::new(object) } else { self.put(key, object) };
        Ok(ApiAnswer::Object { code: 201, object })
    }

    pub fn update(&mut self, call: &ApiCall) -> Answered {
        let mut object = sent_object(call)?;
        if object["metadata"]["name"].as_str().unwrap_or_default() != call.name {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let message =
                format!("the name of the object ({name}) does not match the name on the URL ({})", call.name);
            return Err(ApiFailure::bad_request(&message));
        }
        let old = self.found(call)?;
        let expected = object["metadata"]["uid"].as_str().unwrap_or_default();
        let uid = old["metadata"]["uid"].as_str().unwrap_or_default();
        if !expected.is_empty() && expected != uid {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
                 failed: UID in precondition: {expected}, UID in object meta: {uid}",
                etcd_key(call)
            );
            return Err(ApiFailure::conflict(call.kind(), &call.name, &why));
        }
        rules::complete(call.kind(), &mut object);
        let object = with_managers(call, &call.subresource, &self.now(), &old, object);
        self.replace(call, &old, object)
    }

    pub fn patch(&mut self, call: &ApiCall) -> Answered {
        if !call.body.is_object() {
            return Err(ApiFailure::bad_request("the patch is not an object"));
        }
        match call.patch {
            Some(PatchKind::Apply) => self.apply(call),
            Some(PatchKind::Merge) => self.merge(call),
            None => Err(ApiFailure::unknown("a patch without type")),
        }
    }

    fn merge(&mut self, call: &ApiCall) -> Answered {
        let old = self.found(call)?;
        let mut object = (*old).clone();
        merge_patch(&mut object, &call.body);
        rules::complete(call.kind(), &mut object);
        let object = with_managers(call, &call.subresource, &self.now(), &old, object);
        self.replace(call, &old, object)
    }

    fn apply(&mut self, call: &ApiCall) -> Answered {
        let config = sent_object(call)?;
        check_apply(call, &config)?;
        let (api_version, time) = (call.kind().api_version(), self.now());
        let write = field_write(call, &call.subresource, &api_version, &time);
        let Some(old) = self.store.get(&Self::key(call)).cloned() else {
            return self.apply_new(call, &write, &config);
        };
        let mut object = applied(&write, &old, &config, call.options.force)?;
        rules::complete(call.kind(), &mut object);
        self.replace(call, &old, object)
    }

    fn apply_new(&mut self, call: &ApiCall, write: &FieldWrite<'_>, config: &Value) -> Answered {
        if call.is_status() {
            return Err(ApiFailure::not_found(call.kind(), &call.name));
        }
        self.authorize_as(call, ApiVerb::Create)?;
        if let Some(uid) = config["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(ApiFailure::conflict(call.kind(), &call.name, &why));
        }
        self.check_namespace_exists(call)?;
        let mut object = applied(write, &rules::empty(call.kind()), config, call.options.force)?;
        rules::complete(call.kind(), &mut object);
        self.insert(call, object)
    }

    /// Stores another state of an object, whose field managers are set.
    fn replace(&mut self, call: &ApiCall, old: &Arc<Value>, mut object: Value) -> Answered {
        check_version(call, old, &object)?;
        keep_metadata(old, &mut object);
        if call.is_status() {
            object = with_status_of(old, object);
        } else if call.kind().status {
            object = with_old_status(old, object);
        }
        if !call.is_status()
            && let Some(generation) = rules::next_generation(call.kind(), old, &object)
        {
            object["metadata"]["generation"] = json!(generation);
        }
        self.check_binding(call, Some(old), &object)?;
        self.admit(call, Some(old), Some(&object))?;
        let causes = rules::problems(call.kind(), &call.subresource, Some(old), &object);
        if !causes.is_empty() {
            return Err(ApiFailure::invalid(call.kind(), &call.name, &causes));
        }
        if differ_in_times_only(old, &object) {
            return Ok(ApiAnswer::Object { code: 200, object: old.clone() });
        }
        if call.options.dry_run {
            return Ok(ApiAnswer::Object { code: 200, object: Arc::new(object) });
        }
        Ok(ApiAnswer::Object { code: 200, object: self.put_or_finish(&Self::key(call), old, object) })
    }

    /// Stores an object, or removes it if it was only waiting for its last finalizer.
    fn put_or_finish(&mut self, key: &StoreKey, old: &Value, object: Value) -> Arc<Value> {
        let is_deleting = old["metadata"].get("deletionTimestamp").is_some();
        if is_deleting && !is_held(&object) {
            self.remove(key);
            self.finish_definitions();
            return Arc::new(object);
        }
        self.put(key.clone(), object)
    }

    fn name_new(&mut self, call: &ApiCall, object: &mut Value) -> Result<(), ApiFailure> {
        if object["metadata"]["name"].as_str().is_some_and(|name| !name.is_empty()) {
            return Ok(());
        }
        let Some(base) = object["metadata"]["generateName"].as_str().filter(|base| !base.is_empty()) else {
            let cause = FieldCause::required("metadata.name", "name or generateName is required");
            return Err(ApiFailure::invalid(call.kind(), "", &[cause]));
        };
        let name = format!("{base}{}", self.next_suffix());
        object["metadata"]["name"] = json!(name);
        Ok(())
    }

    /// Refuses a new object in a namespace that doesn't exist or is being deleted.
    fn check_namespace_exists(&self, call: &ApiCall) -> Result<(), ApiFailure> {
        if !call.kind().namespaced {
            return Ok(());
        }
        let namespaces = index_of("namespaces");
        let name = &call.namespace;
        let Some(namespace) = self.store.get(&StoreKey::new(namespaces, "", name)) else {
            return Err(ApiFailure::not_found(&super::resources::RESOURCES[namespaces], name));
        };
        if namespace["metadata"].get("deletionTimestamp").is_none() {
            return Ok(());
        }
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let cause = json!({
            "reason": "NamespaceTerminating", "message": format!("namespace {name} is being terminated"),
            "field": "metadata.namespace",
        });
        let name = call.body["metadata"]["name"].as_str().unwrap_or_default();
        Err(ApiFailure::forbidden_because(call.kind(), name, &why, &cause))
    }

    /// Asks the test's policies.
    pub fn admit(
        &self,
        call: &ApiCall,
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> Result<(), ApiFailure> {
        let Some(check) = &self.admission else { return Ok(()) };
        let target = WriteTarget::of(call);
        let Some(refusal) = check(&AdmissionRequest { target: &target, before, after }) else {
            return Ok(());
        };
        let why = format!(
            "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
            refusal.policy, refusal.binding, refusal.message
        );
        Err(ApiFailure::forbidden_because(call.kind(), &target.name, &why, &json!({"message": why})))
    }
}

/// A write that names a version only succeeds on that version.
fn check_version(call: &ApiCall, old: &Value, object: &Value) -> Result<(), ApiFailure> {
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    if version.is_empty() {
        if call.kind().unconditional_update {
            return Ok(());
        }
        let why = "must be specified for an update";
        let message = format!("Invalid value: 0: {why}");
        let field = "metadata.resourceVersion".to_owned();
        let cause = FieldCause { reason: "FieldValueInvalid", field, message };
        return Err(ApiFailure::invalid_update(call.kind(), &call.name, &cause));
    }
    let is_current = old["metadata"]["resourceVersion"] == version;
    if is_current { Ok(()) } else { Err(ApiFailure::outdated(call.kind(), &call.name)) }
}

/// Returns the object in the body, if it fits the URL.
fn sent_object(call: &ApiCall) -> Result<Value, ApiFailure> {
    let mut object = call.body.clone();
    if !object.is_object() {
        return Err(ApiFailure::bad_request("the body of the request is not an object"));
    }
    let sent = |field: &str| call.body[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (sent("apiVersion"), sent("kind"));
    let fits = |sent: &str, expected: &str| sent.is_empty() || sent == expected;
    if !fits(&api_version, &call.kind().api_version()) || !fits(&kind, call.kind().kind) {
        return Err(ApiFailure::unknown(&format!("{kind} of {api_version} sent to {}", call.kind().plural)));
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    if !namespace.is_empty() && namespace != call.namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiFailure::bad_request(message));
    }
    if !call.namespace.is_empty() {
        object["metadata"]["namespace"] = json!(call.namespace);
    }
    Ok(object)
}

pub(super) fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// Returns where etcd has the object, as some messages say.
fn etcd_key(call: &ApiCall) -> String {
    let group = if call.kind().nature == ResourceNature::Custom { call.kind().group } else { "" };
    let parts = ["/registry", group, call.kind().plural, &call.namespace, &call.name];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

fn check_apply(call: &ApiCall, config: &Value) -> Result<(), ApiFailure> {
    if call.options.field_manager.is_empty() {
        let cause = FieldCause::required("fieldManager", "is required for apply patch");
        return Err(ApiFailure::invalid_options("PatchOptions", &[cause]));
    }
    if config["metadata"].get("managedFields").is_some() {
        return Err(ApiFailure::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

fn with_managers(call: &ApiCall, subresource: &str, time: &str, live: &Value, object: Value) -> Value {
    let api_version = call.kind().api_version();
    updated(&field_write(call, subresource, &api_version, time), live, object)
}

fn field_write<'a>(
    call: &'a ApiCall,
    subresource: &'a str,
    api_version: &'a str,
    time: &'a str,
) -> FieldWrite<'a> {
    let ignored: &[&str] = match (call.kind().status, subresource) {
        (true, "") => &["f:status"],
        (true, _) if call.kind().nature == ResourceNature::Custom => &["f:metadata", "f:spec"],
        (true, _) => &["f:spec"],
        (false, _) => &[],
    };
    let manager = call.manager();
    FieldWrite { field_type: field_type(call.resource), api_version, manager, subresource, ignored, time }
}

/// Keeps what an update can't change.
fn keep_metadata(old: &Value, object: &mut Value) {
    if object["metadata"].get("uid").is_none_or(|uid| uid == "") {
        object["metadata"]["uid"] = old["metadata"]["uid"].clone();
    }
    for field in [
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match old["metadata"].get(field) {
            Some(value) => object["metadata"][field] = value.clone(),
            None => rules::remove_metadata(object, field),
        }
    }
}

/// A write of the status changes nothing but the status.
fn with_status_of(old: &Value, mut object: Value) -> Value {
    let mut kept = old.clone();
    let managed_fields = object["metadata"]["managedFields"].take();
    if managed_fields.is_array() {
        kept["metadata"]["managedFields"] = managed_fields;
    } else {
        rules::remove_metadata(&mut kept, "managedFields");
    }
    match object.get_mut("status") {
        Some(status) => kept["status"] = status.take(),
        None => remove(&mut kept, "status"),
    }
    kept
}

fn with_old_status(old: &Value, mut object: Value) -> Value {
    match old.get("status") {
        Some(status) => object["status"] = status.clone(),
        None => remove(&mut object, "status"),
    }
    object
}

fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

/// Applies a JSON merge patch (RFC 7386).
pub(super) fn merge_patch(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            remove(target, key);
        } else {
            merge_patch(&mut target[key], value);
        }
    }
}
