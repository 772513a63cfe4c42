//! Requests as clients send them.

use http::{Method, Request, header};
use kube::client::Body;
use serde_json::Value;

/// What is sent as user agent: the field manager where none is named.
const AGENT: &str = "tester/1.0";

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub user: &'static str,
    media_type: &'static str,
    accept: &'static str,
    body: Option<Value>,
    /// Whether only the code and the reason are compared.
    pub code_only: bool,
}

impl Call {
    fn new(method: Method, path: impl Into<String>, media_type: &'static str, body: Option<&Value>) -> Self {
        let (path, body) = (path.into(), body.cloned());
        Self { method, path, user: "admin", media_type, accept: "application/json", body, code_only: false }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, "application/json", None)
    }

    pub fn create(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::POST, path, "application/json", Some(object))
    }

    pub fn replace(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::PUT, path, "application/json", Some(object))
    }

    pub fn merge(path: impl Into<String>, patch: &Value) -> Self {
        Self::new(Method::PATCH, path, "application/merge-patch+json", Some(patch))
    }

    pub fn apply(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::PATCH, path, "application/apply-patch+yaml", Some(object))
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, "application/json", None)
    }

    pub fn delete_with(path: impl Into<String>, options: &Value) -> Self {
        Self::new(Method::DELETE, path, "application/json", Some(options))
    }

    /// As another user than the administrator.
    pub fn by(self, user: &'static str) -> Self {
        Self { user, ..self }
    }

    /// Asks for the metadata only.
    pub fn metadata(self) -> Self {
        Self { accept: "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", ..self }
    }

    /// Asks for the metadata of a list only.
    pub fn list_metadata(self) -> Self {
        Self { accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", ..self }
    }

    /// Compares the code and the reason only.
    pub fn code_only(self) -> Self {
        Self { code_only: true, ..self }
    }

    pub fn request(&self) -> Result<Request<Body>, http::Error> {
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(header::CONTENT_TYPE, self.media_type)
            .header(header::ACCEPT, self.accept)
            .header(header::USER_AGENT, AGENT)
            .body(Body::from(body.into_bytes()))
    }
}
