//! Requests as clients send them, and their results. Has no assertions about policies.

use anyhow::{Context as _, Result, ensure};
use http::{Method, Request};
use kube::Client;
use registry_api::{GROUP, TENANT_LABEL, spec::VERSION};
use serde_json::{Value, json};

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Option<Value>,
}

impl Call {
    fn new(method: Method, path: &str, content_type: &'static str, body: Option<Value>) -> Self {
        Self { method, path: path.to_owned(), content_type, body }
    }

    /// Reads.
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path, "application/json", None)
    }

    /// Creates in a collection.
    pub fn create(collection: &str, object: Value) -> Self {
        Self::new(Method::POST, collection, "application/json", Some(object))
    }

    /// Replaces an object.
    pub fn replace(path: &str, object: Value) -> Self {
        Self::new(Method::PUT, path, "application/json", Some(object))
    }

    /// Changes it by a JSON patch.
    pub fn json_patch(path: &str, patch: Value) -> Self {
        Self::new(Method::PATCH, path, "application/json-patch+json", Some(patch))
    }

    /// Changes it by a merge patch.
    pub fn merge(path: &str, patch: Value) -> Self {
        Self::new(Method::PATCH, path, "application/merge-patch+json", Some(patch))
    }

    /// Applies it server-side.
    pub fn apply(path: &str, object: Value) -> Self {
        let path = format!("{path}?fieldManager=somebody&force=true");
        Self::new(Method::PATCH, &path, "application/apply-patch+yaml", Some(object))
    }

    /// Deletes an object, or all of a collection.
    pub fn delete(path: &str) -> Self {
        Self::new(Method::DELETE, path, "application/json", None)
    }

    /// Deletes with that propagation.
    pub fn delete_by(path: &str, propagation: &str) -> Self {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation});
        Self::new(Method::DELETE, path, "application/json", Some(options))
    }

    /// The same without effect.
    pub fn dry(mut self) -> Self {
        let join = if self.path.contains('?') { '&' } else { '?' };
        self.path = format!("{}{join}dryRun=All", self.path);
        self
    }
}

/// A user who sends requests.
#[derive(Clone)]
pub struct User {
    name: String,
    client: Client,
}

impl User {
    /// That user.
    pub fn new(name: &str, client: Client) -> Self {
        Self { name: name.to_owned(), client }
    }

    /// Its client, for what is more than one request.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Sends a request. The inner error is the refusal: its code and its message.
    pub async fn send(&self, call: &Call) -> Result<Result<Value, (u16, String)>> {
        let body = call.body.as_ref().map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header(http::header::CONTENT_TYPE, call.content_type)
            .body(body)?;
        match self.client.request::<Value>(request).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(kube::Error::Api(status)) => Ok(Err((status.code, status.message.clone()))),
            Err(error) => Err(error).with_context(|| format!("{call:?}")),
        }
    }

    /// Sends a request that must be granted.
    pub async fn may(&self, call: &Call) -> Result<Value> {
        let answer = self.send(call).await?;
        answer.map_err(|(code, message)| anyhow::anyhow!("{} may not {call:?}: {code} {message}", self.name))
    }

    /// Sends a request that a policy must refuse with exactly that sentence.
    pub async fn may_not(&self, call: &Call, sentence: &str) -> Result<()> {
        is_refused_by_policy(call, &self.refusal(call).await?, sentence)
    }

    /// Sends a request that RBAC must refuse.
    pub async fn has_no_right_to(&self, call: &Call) -> Result<()> {
        let (code, message) = self.refusal(call).await?;
        let by_rbac = code == 403 && !message.contains("denied request");
        ensure!(by_rbac, "{call:?} was answered {code} {message}");
        Ok(())
    }

    /// What a request that must be refused is answered.
    pub async fn refusal(&self, call: &Call) -> Result<(u16, String)> {
        match self.send(call).await? {
            Err(refusal) => Ok(refusal),
            Ok(_) => anyhow::bail!("{} may {call:?}", self.name),
        }
    }
}

/// Whether that answer is a policy's, with exactly that sentence.
pub fn is_refused_by_policy(call: &Call, (code, message): &(u16, String), sentence: &str) -> Result<()> {
    let as_expected = *code == 403 && message.ends_with(&format!("denied request: {sentence}"));
    ensure!(as_expected, "{call:?}\n  was answered {code} {message}\n  not 403 with {sentence}");
    Ok(())
}

/// The URL of all SystemRegistries.
pub fn system_registries() -> String {
    format!("/apis/{GROUP}/{VERSION}/systemregistries")
}

/// The URL of one.
pub fn system_registry(name: &str) -> String {
    format!("{}/{name}", system_registries())
}

/// The URL of a namespace's TenantRegistries.
pub fn tenant_registries(namespace: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/tenantregistries")
}

/// The URL of one.
pub fn tenant_registry(namespace: &str, name: &str) -> String {
    format!("{}/{name}", tenant_registries(namespace))
}

/// A SystemRegistry.
pub fn a_system_registry(name: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "SystemRegistry",
        "metadata": {"name": name, "labels": {"row": name}},
        "spec": {"endpoint": "https://registry.invalid"},
    })
}

/// A TenantRegistry.
pub fn a_tenant_registry(name: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "TenantRegistry",
        "metadata": {"name": name}, "spec": {"endpoint": "https://registry.invalid"},
    })
}

/// A namespace; a tenant's, if one is named.
pub fn a_namespace(name: &str, tenant: Option<&str>) -> Value {
    let labels = tenant.map_or(json!({}), |tenant| json!({TENANT_LABEL: tenant}));
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}
