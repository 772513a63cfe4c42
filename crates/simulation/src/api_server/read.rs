//! GET of one object, and lists with their pages.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    refusal::ApiFailure,
    request::ApiCall,
    resources::ResourceNature,
    selector::ObjectSelector,
    state::{Answered, ApiAnswer, ServerState},
    store::{StoreKey, StoredObjects},
};

/// Which state a list shows.
enum ListedState {
    /// The newest one.
    Newest,
    /// That of the replica's watch cache, which may be old.
    Cached,
    /// That of a revision.
    At(u64),
}

/// A page of a list.
struct ObjectPage {
    items: Vec<Arc<Value>>,
    /// The last object of the page, if there are more.
    last: Option<StoreKey>,
    remaining: usize,
}

impl ServerState {
    pub fn get(&self, call: &ApiCall) -> Answered {
        let object = if call.options.version == "0" {
            let cached = self.store.at(self.visible(call.replica), call.resource, &call.namespace);
            let found = cached.get(&Self::key(call)).cloned();
            found.ok_or_else(|| ApiFailure::not_found(call.kind(), &call.name))?
        } else {
            self.found(call)?
        };
        let object = if call.metadata_only { Arc::new(metadata_of(&object)) } else { object };
        Ok(ApiAnswer::Object { code: 200, object })
    }

    pub fn list(&self, call: &ApiCall) -> Answered {
        let selector = ObjectSelector::parse(&call.options.labels, &call.options.fields)?;
        let (start, state) = self.listed_state(call)?;
        let revision = self.revision_of(call, &state)?;
        let page = if revision == self.store.revision() {
            let all = self.store.of(call.resource, &call.namespace);
            page(all, start.as_ref(), call.options.limit, &selector)
        } else {
            let then: StoredObjects = self.store.at(revision, call.resource, &call.namespace);
            page(then.iter(), start.as_ref(), call.options.limit, &selector)
        };
        let items = page.items.iter().map(|object| Self::item(call, object)).collect();
        let mut list = self.as_list(call, items);
        list["metadata"]["resourceVersion"] = json!(revision.to_string());
        if let Some(last) = page.last {
            list["metadata"]["continue"] = json!(continue_token(revision, &last));
            if selector.is_empty() {
                list["metadata"]["remainingItemCount"] = json!(page.remaining);
            }
        }
        Ok(ApiAnswer::Value { code: 200, value: list })
    }

    /// Returns where a list begins, and the state that it shows.
    fn listed_state(&self, call: &ApiCall) -> Result<(Option<StoreKey>, ListedState), ApiFailure> {
        if !call.options.continue_token.is_empty() {
            let (revision, start) = parse_token(call)?;
            if revision == 0 {
                return Ok((Some(start), ListedState::Newest));
            }
            if revision < self.store.compacted() {
                return Err(ApiFailure::expired_list(continue_token(0, &start)));
            }
            return Ok((Some(start), ListedState::At(revision)));
        }
        let state = match call.options.version.as_str() {
            "" => ListedState::Newest,
            "0" => ListedState::Cached,
            version if call.options.exact_version => ListedState::At(parse_version(version)?),
            version => {
                let (version, visible) = (parse_version(version)?, self.visible(call.replica));
                if version > visible {
                    return Err(ApiFailure::too_large_version(version, visible));
                }
                ListedState::Cached
            }
        };
        Ok((None, state))
    }

    fn revision_of(&self, call: &ApiCall, state: &ListedState) -> Result<u64, ApiFailure> {
        match *state {
            ListedState::Newest => Ok(self.store.revision()),
            ListedState::Cached => Ok(self.visible(call.replica)),
            ListedState::At(revision) if revision > self.store.revision() => {
                Err(ApiFailure::too_large_version(revision, self.store.revision()))
            }
            ListedState::At(revision) if revision < self.store.compacted() => {
                Err(ApiFailure::expired("The resourceVersion for the provided list is too old."))
            }
            ListedState::At(revision) => Ok(revision),
        }
    }

    /// Returns an object as an item of a list: built-in kinds have neither `apiVersion` nor `kind` there.
    pub fn item(call: &ApiCall, object: &Value) -> Value {
        if call.metadata_only {
            return metadata_of(object);
        }
        let mut item = object.clone();
        if call.kind().nature != ResourceNature::Custom
            && let Some(fields) = item.as_object_mut()
        {
            fields.remove("apiVersion");
            fields.remove("kind");
        }
        item
    }

    pub fn as_list(&self, call: &ApiCall, items: Vec<Value>) -> Value {
        let (api_version, kind) = if call.metadata_only {
            ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
        } else {
            (call.kind().api_version(), format!("{}List", call.kind().kind))
        };
        let revision = self.store.revision().to_string();
        let mut list =
            json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": revision}});
        list["items"] = Value::Array(items);
        list
    }
}

/// Returns the objects after `start` that are selected, at most `limit`; all if it is 0.
fn page<'a>(
    all: impl Iterator<Item = (&'a StoreKey, &'a Arc<Value>)>,
    start: Option<&StoreKey>,
    limit: usize,
    selector: &ObjectSelector,
) -> ObjectPage {
    let mut page = ObjectPage { items: Vec::new(), last: None, remaining: 0 };
    let mut last = None;
    for (key, object) in all.skip_while(|(key, _)| start.is_some_and(|start| *key <= start)) {
        if !selector.matches(object) {
            continue;
        }
        if limit > 0 && page.items.len() == limit {
            page.remaining += 1;
            continue;
        }
        page.items.push(object.clone());
        last = Some(key.clone());
    }
    if page.remaining > 0 {
        page.last = last;
    }
    page
}

/// Returns the metadata of an object, in the form that `as=PartialObjectMetadata` asks for.
pub(super) fn metadata_of(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

pub(super) fn parse_version(version: &str) -> Result<u64, ApiFailure> {
    version
        .parse()
        .map_err(|_| ApiFailure::bad_request(&format!("resourceVersion: Invalid value: \"{version}\"")))
}

fn continue_token(revision: u64, last: &StoreKey) -> String {
    let token =
        json!({"v": "meta.k8s.io/v1", "rv": revision, "namespace": last.namespace, "name": last.name});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

/// Returns the revision in a token, and the last object of the page before.
fn parse_token(call: &ApiCall) -> Result<(u64, StoreKey), ApiFailure> {
    let bytes = URL_SAFE_NO_PAD.decode(&call.options.continue_token).unwrap_or_default();
    let token: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |field: &str| token[field].as_str();
    match (token["rv"].as_u64(), text("namespace"), text("name")) {
        (Some(revision), Some(namespace), Some(name)) => {
            Ok((revision, StoreKey::new(call.resource, namespace, name)))
        }
        _ => Err(ApiFailure::bad_request("continue key is not valid: decoding failed")),
    }
}
