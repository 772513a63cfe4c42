//! Everything that happened in a history, for the invariants.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use crate::{
    history::{HistoryEvent, InjectedFault, SimulatedHistory, TimedEvent, UserStep},
    registries::{ServerChange, ServerRecord},
    wire::{fate::Fate, log::SentRequest},
};

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
    /// The namespaces whose pull Secret has other contents than it should.
    pub wrong: Vec<String>,
    /// When all of this must be so, at the latest.
    pub due: Duration,
}

/// The state of all registries at one time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// When, since the history began.
    pub at: Duration,
    /// The registries.
    pub registries: Vec<RegistryView>,
    /// All objects that users see, without what differs between two runs, such as uids and times; null before the end.
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
    /// The writes of the operator that were accepted and changed nothing.
    pub idle_writes: Vec<AcceptedWrite>,
    /// What the registries got.
    pub served: Vec<ServerRecord>,
    /// When registries began to behave otherwise.
    pub changes: Vec<ServerChange>,
    /// What the simulation can't go on from: panics, and requests that the API server in memory doesn't know.
    pub broken: Vec<String>,
    /// The state between events, when those have had the time to show.
    pub looks: Vec<Snapshot>,
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

    /// Whether nothing goes wrong at a time, and nothing has a while before.
    pub fn is_undisturbed(&self, at: Duration) -> bool {
        self.is_undisturbed_between(at, at)
    }

    /// Whether nothing goes wrong in a time, and nothing has a while before.
    pub fn is_undisturbed_between(&self, from: Duration, to: Duration) -> bool {
        !self.disturbances().any(|(begin, end)| begin <= to && from < end + RECOVERY)
    }

    /// Whether nothing goes wrong in a time but one event, at `except`.
    pub fn is_calm_but_for(&self, except: Duration, from: Duration, to: Duration) -> bool {
        let goes_wrong = |(begin, end): &(Duration, Duration)| *begin <= to && from < *end + RECOVERY;
        let mut wrong = self.disturbances().filter(goes_wrong);
        wrong.next().is_none_or(|(begin, _)| begin == except) && wrong.next().is_none()
    }

    /// Whether the operator's clock has jumped.
    pub fn has_jumped(&self) -> bool {
        let is_jump = |event: &TimedEvent| matches!(event.event, HistoryEvent::Fault(InjectedFault::Jump(_)));
        self.history.events.iter().any(is_jump)
    }

    /// Whether the API server's store was set back.
    pub fn has_restored(&self) -> bool {
        self.was_restored_between(Duration::ZERO, Duration::MAX)
    }

    /// Whether the API server's store was set back in a time.
    pub fn was_restored_between(&self, from: Duration, to: Duration) -> bool {
        let is_restore = |event: &TimedEvent| matches!(event.event, HistoryEvent::Step(UserStep::Restore(_)));
        self.history.events.iter().any(|event| is_restore(event) && (from..=to).contains(&event.at))
    }

    /// Returns from when until when something went wrong: as the history says, or as single requests have met it.
    fn disturbances(&self) -> impl Iterator<Item = (Duration, Duration)> {
        let events = self.history.events.iter().filter_map(|event| {
            let end = event.at + event.event.disturbs_for()?;
            Some((event.at, end.min(self.end_of_events().max(event.at))))
        });
        let met = self.requests.iter().filter_map(|request| match request.fate {
            Fate::Arrive => None,
            Fate::Late(late) => Some((request.at, request.at + late)),
            _ => Some((request.at, request.at)),
        });
        events.chain(met)
    }

    /// Returns a number that differs if anything differs in what was sent, what is stored, and when.
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
            let object = write.object().map(Value::to_string);
            (write.at, write.by_operator, write.key(), object).hash(&mut hasher);
        }
        hasher.finish()
    }
}
