//! What the server has in memory, and how it answers one request.

use std::{collections::BTreeMap, sync::Arc, task::Waker};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    definition,
    rbac::AccessRequest,
    refusal::ApiFailure,
    request::{ApiCall, ApiVerb},
    resources::{RESOURCES, ResourceIndex, ResourceNature},
    store::{RevisionStore, StoreKey},
    watch::WatchStart,
    write_record::{AdmissionCheck, WriteRecord},
};

/// An answer to a request.
pub(super) enum ApiAnswer {
    Object {
        code: u16,
        object: Arc<Value>,
    },
    /// A list or another object that isn't stored.
    Value {
        code: u16,
        value: Value,
    },
    Watch(Box<WatchStart>),
}

impl ApiAnswer {
    pub fn code(&self) -> u16 {
        match self {
            Self::Object { code, .. } | Self::Value { code, .. } => *code,
            Self::Watch(_) => 200,
        }
    }
}

pub(super) type Answered = Result<ApiAnswer, ApiFailure>;

/// One API server's view of the store.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplicaView {
    /// The revision at which the watch cache stopped.
    pub frozen: Option<u64>,
}

pub(super) struct ServerState {
    pub store: RevisionStore,
    pub clock: fn() -> Timestamp,
    pub replicas: BTreeMap<usize, ReplicaView>,
    pub records: Vec<WriteRecord>,
    /// What was answered with 501.
    pub unknown_requests: Vec<String>,
    pub admission: Option<AdmissionCheck>,
    /// Whether etcd is down.
    pub unavailable: bool,
    /// Grows whenever all watches end.
    pub watch_era: u64,
    /// Whether the watches of earlier eras end with an error.
    pub watches_broke: bool,
    wakers: Vec<(ResourceIndex, Waker)>,
    /// How many uids and generated names there are.
    identities: u64,
}

impl ServerState {
    pub fn new(clock: fn() -> Timestamp) -> Self {
        let mut state = Self {
            store: RevisionStore::new(),
            clock,
            replicas: BTreeMap::new(),
            records: Vec::new(),
            unknown_requests: Vec::new(),
            admission: None,
            unavailable: false,
            watch_era: 0,
            watches_broke: false,
            wakers: Vec::new(),
            identities: 0,
        };
        state.populate();
        state
    }

    /// Returns the same state without what waits for it to change. The objects are shared.
    pub fn fork(&self) -> Self {
        Self {
            store: self.store.clone(),
            clock: self.clock,
            replicas: self.replicas.clone(),
            records: self.records.clone(),
            unknown_requests: self.unknown_requests.clone(),
            admission: self.admission.clone(),
            unavailable: self.unavailable,
            watch_era: self.watch_era,
            watches_broke: self.watches_broke,
            wakers: Vec::new(),
            identities: self.identities,
        }
    }

    /// Answers a request that was parsed.
    pub fn answer(&mut self, call: &ApiCall) -> Answered {
        if self.unavailable {
            return Err(ApiFailure::store_is_down());
        }
        self.authorize(call)?;
        if call.kind().nature == ResourceNature::Review {
            return Ok(self.review(call));
        }
        self.check_served(call)?;
        match call.verb {
            ApiVerb::Get => self.get(call),
            ApiVerb::List => self.list(call),
            ApiVerb::Watch => self.watch(call),
            ApiVerb::Create => self.create(call),
            ApiVerb::Update => self.update(call),
            ApiVerb::Patch => self.patch(call),
            ApiVerb::Delete => self.delete(call),
            ApiVerb::DeleteCollection => self.delete_collection(call),
        }
    }

    /// Refuses what RBAC doesn't allow.
    pub fn authorize(&self, call: &ApiCall) -> Result<(), ApiFailure> {
        self.authorize_as(call, call.verb)
    }

    /// The same, for another verb than the request's.
    pub fn authorize_as(&self, call: &ApiCall, verb: ApiVerb) -> Result<(), ApiFailure> {
        let resource = match call.subresource.as_str() {
            "" => call.kind().plural.to_owned(),
            subresource => format!("{}/{subresource}", call.kind().plural),
        };
        let request = AccessRequest {
            user: &call.user,
            verb: verb.name(),
            group: call.kind().group,
            resource: &resource,
            name: &call.name,
            namespace: &call.namespace,
        };
        if self.allows(&request) {
            return Ok(());
        }
        Err(ApiFailure::forbidden(call.kind(), &call.name, &request.refusal()))
    }

    /// A custom resource is served while its definition exists.
    fn check_served(&self, call: &ApiCall) -> Result<(), ApiFailure> {
        if call.kind().nature != ResourceNature::Custom {
            return Ok(());
        }
        match self.store.get(&definition::key(call.kind())) {
            None => Err(ApiFailure::no_such_path()),
            Some(definition)
                if call.verb == ApiVerb::Create
                    && definition["metadata"].get("deletionTimestamp").is_some() =>
            {
                let name = call.body["metadata"]["name"].as_str().unwrap_or_default();
                let why = "create not allowed while custom resource definition is terminating";
                Err(ApiFailure::forbidden(call.kind(), name, why))
            }
            Some(_) => Ok(()),
        }
    }

    pub fn key(call: &ApiCall) -> StoreKey {
        StoreKey::new(call.resource, &call.namespace, &call.name)
    }

    /// Returns the object that a request names.
    pub fn found(&self, call: &ApiCall) -> Result<Arc<Value>, ApiFailure> {
        let found = self.store.get(&Self::key(call)).cloned();
        found.ok_or_else(|| ApiFailure::not_found(call.kind(), &call.name))
    }

    /// Stores an object and tells the watches.
    pub fn put(&mut self, key: StoreKey, object: Value) -> Arc<Value> {
        let resource = key.resource;
        let stored = self.store.put(key, object);
        self.wake(resource);
        stored
    }

    /// Removes an object and tells the watches.
    pub fn remove(&mut self, key: &StoreKey) -> Option<Arc<Value>> {
        let removed = self.store.remove(key);
        self.wake(key.resource);
        removed
    }

    /// Registers a watch that waits for changes of a resource.
    pub fn await_change(&mut self, resource: ResourceIndex, waker: &Waker) {
        let known = self.wakers.iter().any(|(its, known)| *its == resource && known.will_wake(waker));
        if !known {
            self.wakers.push((resource, waker.clone()));
        }
    }

    pub fn wake(&mut self, resource: ResourceIndex) {
        let (woken, rest) =
            std::mem::take(&mut self.wakers).into_iter().partition(|(its, _)| *its == resource);
        self.wakers = rest;
        let woken: Vec<(ResourceIndex, Waker)> = woken;
        for (_, waker) in woken {
            waker.wake();
        }
    }

    pub fn wake_all(&mut self) {
        for (_, waker) in std::mem::take(&mut self.wakers) {
            waker.wake();
        }
    }

    /// Ends all watches: with an error if the connections break, and otherwise as at their timeout.
    pub fn end_watches(&mut self, broke: bool) {
        self.watch_era += 1;
        self.watches_broke = broke;
        self.wake_all();
    }

    /// Returns the newest revision that a replica's watch cache has.
    pub fn visible(&self, replica: usize) -> u64 {
        let frozen = self.replicas.get(&replica).and_then(|view| view.frozen);
        frozen.map_or(self.store.revision(), |frozen| frozen.min(self.store.revision()))
    }

    /// Returns the time, in whole seconds, as in metadata.
    pub fn now(&self) -> String {
        (self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    pub fn next_uid(&mut self) -> String {
        self.identities += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.identities)
    }

    /// Returns five characters for a generated name.
    pub fn next_suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.identities += 1;
        let mut rest = self.identities;
        let mut letter = || {
            let at = usize::try_from(rest % LETTERS.len() as u64).unwrap_or_default();
            rest /= LETTERS.len() as u64;
            char::from(LETTERS[at])
        };
        (0..5).map(|_| letter()).collect()
    }

    /// Creates what every cluster has.
    fn populate(&mut self) {
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            });
            self.put_new("namespaces", namespace);
        }
        let range = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": ["10.0.0.0/24"]},
        });
        self.put_new("servicecidrs", range);
    }

    fn put_new(&mut self, plural: &str, mut object: Value) {
        let resource = super::resources::index_of(plural);
        let (uid, now) = (self.next_uid(), self.now());
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["creationTimestamp"] = json!(now);
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if resource < RESOURCES.len() {
            self.put(StoreKey::new(resource, "", &name), object);
        }
    }
}
