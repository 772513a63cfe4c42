//! What tests learn of writes.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{
    request::{ApiCall, ApiVerb},
    resources::RESOURCES,
    store::StoreKey,
};

/// The object that a write is about, and who writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WriteTarget {
    /// The user.
    pub user: Arc<str>,
    /// What is done.
    pub verb: ApiVerb,
    /// The plural of the resource.
    pub resource: &'static str,
    /// The namespace; empty for objects that are in none.
    pub namespace: String,
    /// The name; for a creation, that in the object, and empty if it is generated.
    pub name: String,
    /// The subresource; empty for the object itself.
    pub subresource: String,
    /// Whether it is a dry run, which stores nothing.
    pub dry_run: bool,
}

/// The user of the cluster's own controllers.
const CONTROLLERS: &str = "system:kube-controller-manager";

impl WriteTarget {
    pub(super) fn of_controllers(key: &StoreKey, is_deletion: bool) -> Self {
        Self {
            user: CONTROLLERS.into(),
            verb: if is_deletion { ApiVerb::Delete } else { ApiVerb::Update },
            resource: RESOURCES[key.resource].plural,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            subresource: String::new(),
            dry_run: false,
        }
    }

    pub(super) fn of(call: &ApiCall) -> Self {
        let in_body = || call.body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Self {
            user: call.user.clone(),
            verb: call.verb,
            resource: call.kind().plural,
            namespace: call.namespace.clone(),
            name: if call.name.is_empty() { in_body() } else { call.name.clone() },
            subresource: call.subresource.clone(),
            dry_run: call.options.dry_run,
        }
    }
}

/// A request to write, and what became of it.
#[derive(Clone, Debug)]
pub struct WriteRecord {
    /// When, by the server's clock.
    pub time: Timestamp,
    /// Who wanted to write what.
    pub target: WriteTarget,
    /// The object before; `None` if there was none.
    pub before: Option<Arc<Value>>,
    /// The object afterwards; `None` if there is none.
    pub after: Option<Arc<Value>>,
    /// The HTTP status of the answer.
    pub code: u16,
    /// The store's revision afterwards.
    pub revision: u64,
    /// Whether it changed the store.
    pub stored: bool,
}

/// A moment in a write.
#[derive(Clone, Copy, Debug)]
pub enum WritePhase<'a> {
    /// The request has arrived; nothing is checked or stored yet.
    Before(&'a WriteTarget),
    /// It is stored or refused; the answer isn't sent yet.
    After(&'a WriteRecord),
}

/// Called before and after each write of a connection. It may call the server.
pub type WriteHook = Arc<dyn Fn(WritePhase<'_>) + Send + Sync>;

/// An object that is to be written, for admission.
#[derive(Debug)]
pub struct AdmissionRequest<'a> {
    /// Who wants to write what.
    pub target: &'a WriteTarget,
    /// The object as it is stored; `None` for a creation.
    pub before: Option<&'a Value>,
    /// The object as it would be stored; `None` for a deletion.
    pub after: Option<&'a Value>,
}

/// A policy's refusal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyRefusal {
    /// The ValidatingAdmissionPolicy.
    pub policy: String,
    /// Its binding.
    pub binding: String,
    /// Its message.
    pub message: String,
}

/// Decides whether a policy refuses a write.
pub type AdmissionCheck = Arc<dyn Fn(&AdmissionRequest<'_>) -> Option<PolicyRefusal> + Send + Sync>;
