//! The server as a whole: connections to it, and what can happen to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;

use super::{
    ApiConnection,
    refusal::ApiFailure,
    request::ApiCall,
    state::{Answered, ServerState},
    write_record::{AdmissionCheck, WriteHook, WriteRecord, WriteTarget},
};

/// A Kubernetes API server in memory, or several on one etcd. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<ServerState>>,
    hook: Arc<Mutex<Option<WriteHook>>>,
}

impl ApiServer {
    /// A cluster without registries' definitions and without roles. Its times are those of `clock`.
    pub fn new(clock: fn() -> Timestamp) -> Self {
        Self { state: Arc::new(Mutex::new(ServerState::new(clock))), hook: Arc::default() }
    }

    /// Returns another cluster with the same objects, in which anything else may happen from now on.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.lock().fork())), hook: Arc::default() }
    }

    /// A connection of that user to the first API server. Without bindings in the store, only
    /// [`SUPERUSER`](super::SUPERUSER) may do anything.
    pub fn connect(&self, user: &str) -> ApiConnection {
        self.connect_to(0, user)
    }

    /// A connection of that user to one of several API servers, which have the same etcd.
    pub fn connect_to(&self, replica: usize, user: &str) -> ApiConnection {
        ApiConnection::new(self.clone(), replica, user)
    }

    /// Calls `hook` before and after each write of a connection, instead of the hook before.
    pub fn on_write(&self, hook: WriteHook) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(hook);
    }

    pub(super) fn hook(&self) -> Option<WriteHook> {
        self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets `check` refuse writes, as a ValidatingAdmissionPolicy does. Writes of the superuser are checked too.
    pub fn admit_by(&self, check: AdmissionCheck) {
        self.lock().admission = Some(check);
    }

    /// Returns the newest revision.
    pub fn revision(&self) -> u64 {
        self.lock().store.revision()
    }

    /// Compacts etcd: pages of older lists, and watches from older versions, are answered with 410. Open watches go on.
    pub fn compact(&self) {
        self.lock().store.compact();
    }

    /// Stops the watch cache of a replica: its watches are silent, and what is read from the cache is old. Writes, and reads of
    /// the newest state, go on.
    pub fn freeze(&self, replica: usize) {
        let mut state = self.lock();
        let revision = state.store.revision();
        state.replicas.entry(replica).or_default().frozen = Some(revision);
    }

    /// Lets the watch cache of a replica catch up.
    pub fn thaw(&self, replica: usize) {
        let mut state = self.lock();
        state.replicas.entry(replica).or_default().frozen = None;
        state.wake_all();
    }

    /// Restores etcd from a backup of that revision, with the API servers stopped meanwhile: everything later never
    /// happened, watches break, and the next change gets the next revision, which was used before. Uids are never used
    /// again.
    pub fn restore(&self, revision: u64) {
        let mut state = self.lock();
        state.store.restore(revision);
        for view in state.replicas.values_mut() {
            view.frozen = None;
        }
        state.end_watches(true);
    }

    /// Ends all watches without an error, as an API server does that shuts down.
    pub fn end_watches(&self) {
        self.lock().end_watches(false);
    }

    /// Makes etcd unavailable, or available again. Meanwhile, every request fails with 500, and watches are silent.
    pub fn unavailable(&self, is_down: bool) {
        self.lock().unavailable = is_down;
    }

    /// Returns all writes so far, with those that were refused and those of tests.
    pub fn writes(&self) -> Vec<WriteRecord> {
        self.lock().records.clone()
    }

    /// Does what the namespace controller and the garbage collector do: deletes what is in namespaces that are being
    /// deleted, those namespaces when they are empty, and objects whose owners are gone.
    pub fn run_controllers(&self) {
        let mut state = self.lock();
        if !state.unavailable {
            let before = state.store.revision();
            state.finish_namespaces();
            state.collect_garbage();
            state.record_controllers(before);
        }
    }

    /// Returns the requests that the server doesn't know, which it answered with 501.
    pub fn unknown_requests(&self) -> Vec<String> {
        self.lock().unknown_requests.clone()
    }

    pub(super) fn note_unknown(&self, request: &str, failure: &ApiFailure) {
        if failure.code() == 501 {
            self.lock().unknown_requests.push(request.to_owned());
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request. For a write, there is a record too.
    pub(super) fn carry_out(&self, call: &ApiCall) -> (Answered, Option<WriteRecord>) {
        let mut state = self.lock();
        if !call.verb.writes() {
            return (state.answer(call), None);
        }
        let target = WriteTarget::of(call);
        let before = state.store.revision();
        let answer = state.answer(call);
        let record = state.record(target, before, &answer);
        state.records.push(record.clone());
        (answer, Some(record))
    }
}

impl ServerState {
    /// Describes what the cluster's own controllers have done since a revision.
    fn record_controllers(&mut self, revision_before: u64) {
        let changes = self.store.changes_from(self.store.index_after(revision_before));
        let records: Vec<WriteRecord> = changes
            .iter()
            .map(|change| WriteRecord {
                time: (self.clock)(),
                before: change.before.clone(),
                after: (!change.deleted).then(|| change.object.clone()),
                code: 200,
                revision: change.revision,
                stored: true,
                target: WriteTarget::of_controllers(&change.key, change.deleted),
            })
            .collect();
        self.records.extend(records);
    }

    /// Describes a write that was answered.
    fn record(&self, target: WriteTarget, revision_before: u64, answer: &Answered) -> WriteRecord {
        let from = self.store.index_after(revision_before);
        let changes = self.store.changes_from(from);
        WriteRecord {
            time: (self.clock)(),
            before: changes.first().and_then(|change| change.before.clone()),
            after: changes.last().filter(|change| !change.deleted).map(|change| change.object.clone()),
            code: answer.as_ref().map_or_else(ApiFailure::code, super::state::ApiAnswer::code),
            revision: self.store.revision(),
            stored: !changes.is_empty(),
            target,
        }
    }
}
