//! Everything that happened in a history, for the invariants.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use crate::{history::SimulatedHistory, registries::ServerRecord, wire::log::SentRequest};

/// How long after the last fault everything works as before.
pub const RECOVERY: Duration = Duration::from_mins(1);

/// A write that the API server has accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedWrite {
    /// When, since the history began.
    pub at: Duration,
    /// Whether the operator wrote it.
    pub by_operator: bool,
    /// The kind.
    pub kind: String,
    /// The namespace; empty if it has none.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The subresource, such as `status`; empty if none.
    pub subresource: String,
    /// The object before; none if it was created.
    pub before: Option<Arc<Value>>,
    /// The object afterwards; none if it was deleted.
    pub after: Option<Arc<Value>>,
}

impl AcceptedWrite {
    /// Returns the object's identity: kind, namespace and name.
    pub fn key(&self) -> (String, String, String) {
        (self.kind.clone(), self.namespace.clone(), self.name.clone())
    }

    /// Returns the object, as it is or was.
    pub fn object(&self) -> Option<&Value> {
        self.after.as_deref().or(self.before.as_deref())
    }

    /// Returns a field of the object.
    pub fn field(&self, pointer: &str) -> Option<&Value> {
        self.object()?.pointer(pointer)
    }

    /// Returns the object's uid.
    pub fn uid(&self) -> &str {
        self.field("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it is of a registry.
    pub fn is_registry(&self) -> bool {
        matches!(&*self.kind, "SystemRegistry" | "TenantRegistry")
    }
}

/// The state of a registry, and what it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegistryView {
    /// Kind, namespace and name.
    pub key: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The generation.
    pub generation: i64,
    /// The generation in its status.
    pub observed: Option<i64>,
    /// Status and reason of Ready.
    pub ready: (String, String),
    /// What status and reason of Ready should be; none if nothing is promised, as for a suspended registry.
    pub desired: Option<(String, String)>,
    /// The namespaces with its pull Secret.
    pub delivered: Vec<String>,
    /// The namespaces that should have it; none if nothing is promised.
    pub audience: Option<Vec<String>>,
}

/// The state of all registries at one time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// When, since the history began.
    pub at: Duration,
    /// The registries.
    pub registries: Vec<RegistryView>,
    /// All objects that users see, without what differs between two runs, such as uids and times.
    pub state: Value,
}

/// Everything that happened in a history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryTrace {
    /// The history.
    pub history: SimulatedHistory,
    /// The accepted writes.
    pub writes: Vec<AcceptedWrite>,
    /// What the replicas sent to the API server.
    pub requests: Vec<SentRequest>,
    /// What the registries got.
    pub served: Vec<ServerRecord>,
    /// When replicas were started, and when each of them ended.
    pub starts: Vec<Duration>,
    /// Why processes didn't start, or ended by themselves.
    pub crashes: Vec<String>,
    /// What users did, in order, and whether creations were accepted: they aren't while an object of the same name is being deleted.
    pub user_actions: Vec<String>,
    /// The state a minute after the end of all events, and at the end.
    pub snapshots: Vec<Snapshot>,
}

impl HistoryTrace {
    /// Returns when the last event may have happened, and the calm began.
    pub fn end_of_events(&self) -> Duration {
        self.history.active
    }

    /// Whether nothing has gone wrong before, or so long ago that the operator knows everything again.
    pub fn is_undisturbed(&self, at: Duration) -> bool {
        let first = self.history.events.iter().find(|event| event.event.disturbs());
        first.is_none_or(|event| at < event.at) || at >= self.end_of_events() + RECOVERY
    }

    /// Returns a number that differs if anything differs in what was sent, and when.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for request in &self.requests {
            (request.at, request.replica, request.incarnation, &request.method, &request.path)
                .hash(&mut hasher);
        }
        for record in &self.served {
            (record.at, &record.host, &record.request.path, &record.request.authorization, record.status)
                .hash(&mut hasher);
        }
        for write in &self.writes {
            let version = write.field("/metadata/resourceVersion").map(Value::to_string);
            (write.at, write.by_operator, write.key(), version).hash(&mut hasher);
        }
        hasher.finish()
    }
}
