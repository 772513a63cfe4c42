//! Error responses: `Status` objects with the reasons, codes and sentences of the real API server.

use std::{collections::BTreeSet, fmt};

use serde_json::{Value, json};

use super::resources::ServedResource;

/// A refused request.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiFailure {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
    details: Value,
    continue_token: Option<String>,
    /// Whether the body is plain text, as where no resource is served.
    plain: bool,
}

/// One reason why an object or a request is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FieldCause {
    pub reason: &'static str,
    pub field: String,
    pub message: String,
}

impl FieldCause {
    pub fn invalid(field: &str, value: &Value, why: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.to_owned(),
            message: format!("Invalid value: {value}: {why}"),
        }
    }

    pub fn required(field: &str, why: &str) -> Self {
        let message =
            if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired", field: field.to_owned(), message }
    }

    pub fn forbidden(field: &str, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.to_owned(), message: format!("Forbidden: {why}") }
    }

    fn json(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

impl ApiFailure {
    fn new(code: u16, reason: &'static str, message: String, details: Value) -> Self {
        Self { code, reason, message, details, continue_token: None, plain: false }
    }

    fn about(resource: &ServedResource, name: &str) -> Value {
        let mut details = json!({"kind": resource.plural});
        insert_unless_empty(&mut details, "name", name);
        insert_unless_empty(&mut details, "group", resource.group);
        details
    }

    /// The server doesn't know what is asked: 501, which no real server answers, so that a test fails.
    pub(super) fn unknown(what: &str) -> Self {
        let message = format!("the simulated API server doesn't know {what}");
        Self::new(501, "NotImplemented", message, Value::Null)
    }

    /// No resource is served at that path.
    pub(super) fn no_such_path() -> Self {
        Self { plain: true, ..Self::new(404, "NotFound", "404 page not found\n".to_owned(), Value::Null) }
    }

    pub(super) fn not_found(resource: &ServedResource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.qualified());
        Self::new(404, "NotFound", message, Self::about(resource, name))
    }

    pub(super) fn already_exists(resource: &ServedResource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message, Self::about(resource, name))
    }

    pub(super) fn conflict(resource: &ServedResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
        Self::new(409, "Conflict", message, Self::about(resource, name))
    }

    pub(super) fn outdated(resource: &ServedResource, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// An apply without force changes fields of other managers: the manager and the field of each.
    pub(super) fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let causes = conflicts.iter().map(|(manager, field)| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {manager}"), "field": field})
        });
        let causes: Vec<Value> = causes.collect();
        let message = match conflicts {
            [(manager, field)] => format!("Apply failed with 1 conflict: conflict with {manager}: {field}"),
            several => {
                let count = several.len();
                format!("Apply failed with {count} conflicts: {}", listed_by_manager(several))
            }
        };
        Self::new(409, "Conflict", message, json!({"causes": causes}))
    }

    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(400, "BadRequest", message.to_owned(), Value::Null)
    }

    pub(super) fn forbidden(resource: &ServedResource, name: &str, why: &str) -> Self {
        let named = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
        let message = format!("{}{named} is forbidden: {why}", resource.qualified());
        Self::new(403, "Forbidden", message, Self::about(resource, name))
    }

    /// Forbidden, with one cause.
    pub(super) fn forbidden_because(resource: &ServedResource, name: &str, why: &str, cause: &Value) -> Self {
        let mut refusal = Self::forbidden(resource, name, why);
        refusal.details["causes"] = json!([cause]);
        refusal
    }

    pub(super) fn invalid(resource: &ServedResource, name: &str, causes: &[FieldCause]) -> Self {
        Self::invalid_kind(resource.kind, resource.group, &resource.qualified_kind(), name, causes)
    }

    /// An update lacks something, which is said with the plural in place of the kind.
    pub(super) fn invalid_update(resource: &ServedResource, name: &str, cause: &FieldCause) -> Self {
        let causes = std::slice::from_ref(cause);
        Self::invalid_kind(resource.plural, resource.group, &resource.qualified(), name, causes)
    }

    /// The options of a request are invalid.
    pub(super) fn invalid_options(kind: &str, causes: &[FieldCause]) -> Self {
        Self::invalid_kind(kind, "meta.k8s.io", &format!("{kind}.meta.k8s.io"), "", causes)
    }

    fn invalid_kind(kind: &str, group: &str, qualified: &str, name: &str, causes: &[FieldCause]) -> Self {
        let mut details =
            json!({"kind": kind, "causes": causes.iter().map(FieldCause::json).collect::<Vec<_>>()});
        insert_unless_empty(&mut details, "name", name);
        insert_unless_empty(&mut details, "group", group);
        let mut listed: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        listed.dedup();
        let listed = if listed.len() == 1 { listed.concat() } else { format!("[{}]", listed.join(", ")) };
        Self::new(422, "Invalid", format!("{qualified} \"{name}\" is invalid: {listed}"), details)
    }

    /// The precondition of a deletion fails, which is said with the kind in place of the plural.
    pub(super) fn deletion_conflict(resource: &ServedResource, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified_kind());
        let mut details = Self::about(resource, name);
        details["kind"] = json!(resource.kind);
        Self::new(409, "Conflict", message, details)
    }

    pub(super) fn unsupported_media_type(message: &str) -> Self {
        Self::new(415, "UnsupportedMediaType", message.to_owned(), Value::Null)
    }

    pub(super) fn expired(message: &str) -> Self {
        Self::new(410, "Expired", message.to_owned(), Value::Null)
    }

    /// The rest of a list is no longer there in the state of its first page.
    pub(super) fn expired_list(continue_token: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a \
                       new list without the continue parameter, or use the continue token in this response to retrieve \
                       the remainder of the results. Continuing with the provided token results in an inconsistent list \
                       - objects that were created, modified, or deleted between the time the first chunk was returned \
                       and now may show up in the list.";
        Self { continue_token: Some(continue_token), ..Self::expired(message) }
    }

    /// A list from a version that the replica doesn't have yet.
    pub(super) fn too_large_version(version: u64, current: u64) -> Self {
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        let message = format!("Too large resource version: {version}, current: {current}");
        Self::new(504, "Timeout", message, json!({"retryAfterSeconds": 1, "causes": [cause]}))
    }

    pub(super) fn store_is_down() -> Self {
        let message = "etcdserver: request timed out".to_owned();
        Self::new(500, "", message, Value::Null)
    }

    pub(super) fn internal(message: &str) -> Self {
        Self::new(500, "", message.to_owned(), Value::Null)
    }

    /// Returns the HTTP status.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Returns the `Status` object.
    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        insert_unless_empty(&mut status, "reason", self.reason);
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        if let Some(token) = &self.continue_token {
            status["metadata"]["continue"] = json!(token);
        }
        status
    }

    /// Returns the body of the response and its media type.
    pub(super) fn body(&self) -> (Vec<u8>, &'static str) {
        if self.plain {
            return (self.message.clone().into_bytes(), "text/plain; charset=utf-8");
        }
        (self.status().to_string().into_bytes(), "application/json")
    }
}

impl fmt::Display for ApiFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for ApiFailure {}

fn listed_by_manager(conflicts: &[(String, String)]) -> String {
    let managers: BTreeSet<&String> = conflicts.iter().map(|(manager, _)| manager).collect();
    let lines = managers.into_iter().flat_map(|manager| {
        let fields =
            conflicts.iter().filter(move |(its, _)| its == manager).map(|(_, field)| format!("- {field}"));
        std::iter::once(format!("conflicts with {manager}:")).chain(fields)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn insert_unless_empty(details: &mut Value, key: &str, value: &str) {
    if !value.is_empty() {
        details[key] = json!(value);
    }
}
