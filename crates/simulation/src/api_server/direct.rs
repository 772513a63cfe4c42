//! Direct access for tests, as the superuser: without a connection, without the hook, whether etcd is down or not.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use serde_json::{Value, json};

use super::{
    ApiServer, SUPERUSER, definition,
    refusal::ApiFailure,
    request::parse,
    resources::{RESOURCES, ServedResource, by_kind, by_plural},
    state::ApiAnswer,
    store::StoreKey,
};

/// The field manager of tests.
const MANAGER: &str = "kubectl";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

impl ApiServer {
    /// Returns an object as it is stored. `resource` is the plural; `namespace` is empty for objects that are in none.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = by_plural(resource).ok()?;
        let state = self.lock();
        state.store.get(&StoreKey::new(resource, namespace, name)).map(|object| (**object).clone())
    }

    /// Returns whether an object exists.
    pub fn has(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let key = by_plural(resource).map(|resource| StoreKey::new(resource, namespace, name));
        key.is_ok_and(|key| self.lock().store.get(&key).is_some())
    }

    /// Returns the objects of all namespaces as they are stored, in order.
    pub fn stored(&self, resource: &str) -> Vec<Arc<Value>> {
        let Ok(resource) = by_plural(resource) else { return Vec::new() };
        self.lock().store.of(resource, "").map(|(_, object)| object.clone()).collect()
    }

    /// Returns the objects of a namespace, or of all if it is empty, in order.
    pub fn list(&self, resource: &str, namespace: &str) -> Vec<Value> {
        let Ok(resource) = by_plural(resource) else { return Vec::new() };
        let state = self.lock();
        state.store.of(resource, namespace).map(|(_, object)| (**object).clone()).collect()
    }

    /// Applies an object as `kubectl apply --server-side --force-conflicts` does.
    pub fn apply(&self, object: &Value) -> Result<Value, ApiFailure> {
        let (resource, namespace, name) = place_of(object)?;
        let path = format!("{}/{name}?force=true&fieldManager={MANAGER}", path(resource, namespace));
        self.send(&Method::PATCH, &path, APPLY, object)
    }

    /// Creates an object.
    pub fn create(&self, object: &Value) -> Result<Value, ApiFailure> {
        let (resource, namespace, _) = place_of(object)?;
        self.send(&Method::POST, &path(resource, namespace), JSON, object)
    }

    /// Changes an object by a JSON merge patch.
    pub fn merge(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, ApiFailure> {
        let resource = &RESOURCES[by_plural(resource)?];
        self.send(&Method::PATCH, &format!("{}/{name}", path(resource, namespace)), MERGE, patch)
    }

    /// Changes the status of an object by a JSON merge patch, which has the field `status`.
    pub fn merge_status(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, ApiFailure> {
        let resource = &RESOURCES[by_plural(resource)?];
        self.send(&Method::PATCH, &format!("{}/{name}/status", path(resource, namespace)), MERGE, patch)
    }

    /// Deletes an object. It stays while it has finalizers.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<Value, ApiFailure> {
        let resource = &RESOURCES[by_plural(resource)?];
        self.send(&Method::DELETE, &format!("{}/{name}", path(resource, namespace)), JSON, &Value::Null)
    }

    /// Stores an object as it is, past schema and policies, such as one that an older version stored. Its uid and its times
    /// are set if they aren't in it.
    pub fn store_unchecked(&self, mut object: Value) -> Result<Value, ApiFailure> {
        let resource = by_kind(text(&object, "/apiVersion"), text(&object, "/kind"))?;
        let key =
            StoreKey::new(resource, text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
        let mut state = self.lock();
        if object["metadata"].get("uid").is_none() {
            object["metadata"]["uid"] = json!(state.next_uid());
            object["metadata"]["creationTimestamp"] = json!(state.now());
        }
        Ok((*state.put(key, object)).clone())
    }

    /// Installs the CustomResourceDefinitions of both kinds.
    pub fn install_definitions(&self) -> Result<(), ApiFailure> {
        self.install_definition("systemregistries")?;
        self.install_definition("tenantregistries")
    }

    /// Installs a CustomResourceDefinition, for instance again.
    pub fn install_definition(&self, resource: &str) -> Result<(), ApiFailure> {
        self.create(definition::manifest(&RESOURCES[by_plural(resource)?])).map(drop)
    }

    /// Deletes a CustomResourceDefinition with all its objects. While one of them has a finalizer, none can be created; then
    /// its path isn't served any more.
    pub fn remove_definition(&self, resource: &str) -> Result<(), ApiFailure> {
        let definition = RESOURCES[by_plural(resource)?].qualified();
        self.delete("customresourcedefinitions", "", &definition).map(drop)
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        media_type: &'static str,
        body: &Value,
    ) -> Result<Value, ApiFailure> {
        let uri: Uri = path.parse().map_err(|error| ApiFailure::bad_request(&format!("{path}: {error}")))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(MANAGER));
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let call = parse((SUPERUSER.into(), 0), (method, &uri, &headers), &body)
            .inspect_err(|failure| self.note_unknown(path, failure))?;
        let was_down = std::mem::take(&mut self.lock().unavailable);
        let answer = self.carry_out(&call).0;
        self.lock().unavailable = was_down;
        Ok(match answer.inspect_err(|failure| self.note_unknown(path, failure))? {
            ApiAnswer::Object { object, .. } => (*object).clone(),
            ApiAnswer::Value { value, .. } => value,
            ApiAnswer::Watch(_) => Value::Null,
        })
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the resource, the namespace and the name of an object.
fn place_of(object: &Value) -> Result<(&'static ServedResource, &str, &str), ApiFailure> {
    let resource = &RESOURCES[by_kind(text(object, "/apiVersion"), text(object, "/kind"))?];
    let namespace = text(object, "/metadata/namespace");
    let namespace = if resource.namespaced && namespace.is_empty() { "default" } else { namespace };
    Ok((resource, namespace, text(object, "/metadata/name")))
}

fn path(resource: &ServedResource, namespace: &str) -> String {
    resource.path((!namespace.is_empty()).then_some(namespace))
}
