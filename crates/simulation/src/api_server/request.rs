//! What a request asks for: verb, resource, name, options.

use std::sync::Arc;

use http::{HeaderMap, Method, Uri, header};
use serde_json::Value;
use url::form_urlencoded;

use super::{
    refusal::ApiFailure,
    resources::{RESOURCES, ResourceIndex, ServedResource, by_path},
};

/// What is to be done, as RBAC names it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ApiVerb {
    /// One object.
    Get,
    /// All objects.
    List,
    /// The changes.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH, of any type.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
}

impl ApiVerb {
    /// Returns its name in RBAC.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Returns whether it changes something.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// The type of a patch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PatchKind {
    Merge,
    Apply,
}

/// The parameters in the URL.
#[allow(clippy::struct_excessive_bools, reason = "each is a parameter of the API")]
#[derive(Clone, Debug, Default)]
pub(super) struct CallOptions {
    pub limit: usize,
    pub continue_token: String,
    pub labels: String,
    pub fields: String,
    pub version: String,
    pub exact_version: bool,
    pub timeout: Option<u64>,
    pub bookmarks: bool,
    pub watch: bool,
    pub dry_run: bool,
    /// Empty if none was named.
    pub field_manager: String,
    /// The first part of the user agent.
    pub agent: String,
    pub force: bool,
}

/// One request, parsed.
#[derive(Clone, Debug)]
pub(super) struct ApiCall {
    pub user: Arc<str>,
    pub replica: usize,
    pub verb: ApiVerb,
    pub resource: ResourceIndex,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
    pub options: CallOptions,
    pub metadata_only: bool,
    pub patch: Option<PatchKind>,
    pub body: Value,
}

impl ApiCall {
    pub fn kind(&self) -> &'static ServedResource {
        &RESOURCES[self.resource]
    }

    pub fn is_status(&self) -> bool {
        self.subresource == "status"
    }

    /// Returns the field manager; without one, the first part of the user agent.
    pub fn manager(&self) -> &str {
        match (self.options.field_manager.as_str(), self.options.agent.as_str()) {
            ("", "") => "unknown",
            ("", agent) => agent,
            (manager, _) => manager,
        }
    }
}

/// What the URL path names.
struct ResourcePath {
    resource: ResourceIndex,
    namespace: String,
    name: String,
    subresource: String,
}

/// Parses a request. `/version` and the like are not for this function.
pub(super) fn parse(
    (user, replica): (Arc<str>, usize),
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
    body: &[u8],
) -> Result<ApiCall, ApiFailure> {
    let path = parse_path(uri.path())?;
    let options = parse_options(uri.query().unwrap_or_default(), headers)?;
    let verb = verb(method, !path.name.is_empty(), options.watch)?;
    let kind = &RESOURCES[path.resource];
    if !path.subresource.is_empty() && (path.subresource != "status" || !kind.status) {
        return Err(ApiFailure::unknown(&format!("subresource {}/{}", kind.plural, path.subresource)));
    }
    let mut call = ApiCall {
        user,
        replica,
        verb,
        resource: path.resource,
        namespace: path.namespace,
        name: path.name,
        subresource: path.subresource,
        options,
        metadata_only: metadata_only(headers),
        patch: None,
        body: Value::Null,
    };
    read_body(&mut call, headers, body)?;
    name_by_selector(&mut call);
    Ok(call)
}

fn read_body(call: &mut ApiCall, headers: &HeaderMap, body: &[u8]) -> Result<(), ApiFailure> {
    if call.verb == ApiVerb::Patch {
        call.patch = Some(patch_kind(headers)?);
    }
    if !call.verb.writes() || body.is_empty() {
        return Ok(());
    }
    call.body = serde_json::from_slice(body).map_err(|error| {
        ApiFailure::bad_request(&format!("the body of the request was not JSON: {error}"))
    })?;
    Ok(())
}

/// A request for a collection with a field selector for one name counts as one for that name.
fn name_by_selector(call: &mut ApiCall) {
    let is_collection = matches!(call.verb, ApiVerb::List | ApiVerb::Watch | ApiVerb::DeleteCollection);
    if is_collection && let Some(name) = call.options.fields.strip_prefix("metadata.name=") {
        name.trim_start_matches('=').clone_into(&mut call.name);
    }
}

fn parse_path(path: &str) -> Result<ResourcePath, ApiFailure> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Err(ApiFailure::unknown(&format!("path {path}"))),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() && !is_of_namespace(rest) => {
            (*namespace, rest)
        }
        rest => ("", rest),
    };
    let [plural, rest @ ..] = rest else { return Err(ApiFailure::unknown(&format!("path {path}"))) };
    let resource = by_path(group, version, plural).ok_or_else(|| unserved(group, version, plural))?;
    let part = |at: usize| rest.get(at).copied().unwrap_or_default().to_owned();
    if rest.len() > 2 {
        return Err(ApiFailure::unknown(&format!("path {path}")));
    }
    Ok(ResourcePath { resource, namespace: namespace.to_owned(), name: part(0), subresource: part(1) })
}

/// `/namespaces/NAME/status` is the namespace's status.
fn is_of_namespace(rest: &[&str]) -> bool {
    matches!(rest, ["status" | "finalize"])
}

/// The operator asks for versions of mutating policies that the API server doesn't serve; anything else is a mistake.
fn unserved(group: &str, version: &str, plural: &str) -> ApiFailure {
    match (version, plural) {
        ("v1beta1" | "v1alpha1", "mutatingadmissionpolicies") => ApiFailure::no_such_path(),
        _ => ApiFailure::unknown(&format!("resource {plural} of {group}/{version}")),
    }
}

fn verb(method: &Method, named: bool, watch: bool) -> Result<ApiVerb, ApiFailure> {
    Ok(match (method.as_str(), named) {
        ("GET", true) if !watch => ApiVerb::Get,
        ("GET", false) if watch => ApiVerb::Watch,
        ("GET", false) => ApiVerb::List,
        ("POST", false) => ApiVerb::Create,
        ("PUT", true) => ApiVerb::Update,
        ("PATCH", true) => ApiVerb::Patch,
        ("DELETE", true) => ApiVerb::Delete,
        ("DELETE", false) => ApiVerb::DeleteCollection,
        _ => return Err(ApiFailure::unknown(&format!("method {method}, on a name: {named}"))),
    })
}

fn parse_options(query: &str, headers: &HeaderMap) -> Result<CallOptions, ApiFailure> {
    let mut options = CallOptions::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        set_option(&mut options, &key, &value)?;
    }
    options.agent = agent(headers);
    Ok(options)
}

fn set_option(options: &mut CallOptions, key: &str, value: &str) -> Result<(), ApiFailure> {
    let is_on = value == "true" || value == "1";
    match key {
        "limit" => options.limit = number(value)?,
        "continue" => value.clone_into(&mut options.continue_token),
        "labelSelector" => value.clone_into(&mut options.labels),
        "fieldSelector" => value.clone_into(&mut options.fields),
        "resourceVersion" => value.clone_into(&mut options.version),
        "resourceVersionMatch" => options.exact_version = value == "Exact",
        "timeoutSeconds" => options.timeout = Some(number(value)?),
        "allowWatchBookmarks" => options.bookmarks = is_on,
        "watch" => options.watch = is_on,
        "dryRun" => options.dry_run = value == "All",
        "fieldManager" => value.clone_into(&mut options.field_manager),
        "force" => options.force = is_on,
        "fieldValidation" | "pretty" => {}
        _ => return Err(ApiFailure::unknown(&format!("parameter {key}={value}"))),
    }
    Ok(())
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, ApiFailure> {
    value.parse().map_err(|_| ApiFailure::bad_request(&format!("{value} is not a number")))
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    agent.split('/').next().unwrap_or_default().to_owned()
}

fn metadata_only(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.contains("as=PartialObjectMetadata")
}

fn patch_kind(headers: &HeaderMap) -> Result<PatchKind, ApiFailure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default() {
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        "application/json-patch+json" | "application/strategic-merge-patch+json" => {
            Err(ApiFailure::unknown(&format!("patches of type {kind}")))
        }
        _ => Err(ApiFailure::unsupported_media_type(&format!(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
             application/merge-patch+json, application/apply-patch+yaml, not {kind}"
        ))),
    }
}
