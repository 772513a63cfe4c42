//! The controller of registries, a room: watches → queue → [`reconcile()`] → status. May touch registries and what they refer to.
//!
//! Here, one task that owns what is known of every registry, hands registries to workers in the queue's
//! order, and takes their results. Owns when; what is done is [`reconcile()`].

pub mod decide;
pub mod events;
pub mod publish;
pub mod quota;
pub mod reconcile;
pub mod references;
pub mod rejection_store;
pub mod schedule;
pub mod watch;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use registry_api::spec::{System, Tenant};
use registry_probe::{Backoff, HostPort};
use registry_verdict::{
    object::{Group, RegistryKey, RegistryObject, RegistryScope},
    resolve::{ObservedReference, Reference, ReferenceKind, WatchScope, policy_reference, references},
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use crate::{
    controller::{
        decide::{is_miscounted, is_pending, on_reference},
        reconcile::{Context, Done, InFlight, ReconcileError, reconcile},
        schedule::History,
        watch::{ControllerEvent, ControllerEvents},
    },
    observability::server::Health,
    pull_secrets::{Delivery, PullSecretChange},
    queue::{Queue, QueueLimits, until},
    tenancy::{audience::Audience, audiences::Audiences},
};

/// What is known of one registry.
struct RegistryState {
    object: Arc<RegistryObject>,
    history: Arc<History>,
    /// When its next validation is due.
    due: Option<Instant>,
    /// Reconciliations in a row that could not be brought to their end.
    errors: u32,
}

/// A registry that is being worked on.
struct RunningWork {
    object: Arc<RegistryObject>,
    attempt: Arc<InFlight>,
}

/// What a worker brings back.
struct WorkReport {
    key: RegistryKey,
    uid: String,
    took: Duration,
    result: Result<Done, ReconcileError>,
}

struct RegistryController {
    context: Arc<Context>,
    signals: ControllerEvents,
    entries: HashMap<RegistryKey, RegistryState>,
    /// Registries of which nothing but the metadata can be read.
    unreadable: HashSet<RegistryKey>,
    scopes: HashMap<WatchScope, WatchedScope>,
    /// Which registries are for whom.
    audiences: Audiences,
    /// Whose each namespace was when it was last looked at.
    tenants: HashMap<Arc<str>, Arc<str>>,
    queue: Queue<RegistryKey, Group, HostPort>,
    workers: JoinSet<WorkReport>,
    running: HashMap<RegistryKey, RunningWork>,
    unsynced: HashSet<Sync>,
    /// Whether everything was once listed.
    synced: bool,
    /// Registries whose status may say other counts of tenants, namespaces and pull Secrets than there are.
    recount: HashSet<RegistryKey>,
}

/// What must be listed before the first registry is judged.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum Sync {
    Registries(RegistryScope),
    Tenants,
}

/// Which registries name what on a scope, and the watch over it while the operator may have one.
#[derive(Default)]
struct WatchedScope {
    named_by: HashMap<Arc<str>, HashSet<RegistryKey>>,
    task: Option<AbortHandle>,
}

impl Drop for WatchedScope {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Signals that wait for the controller; a watch that is faster waits.
const SIGNALS: usize = 256;
/// How many validations may be under way at one registry host, over all tenants: half of them for one alone.
const AT_A_HOST: usize = 32;
/// A tick at which the queue's gauges are set.
const GAUGES: Duration = Duration::from_secs(1);

/// Runs until dropped. Everything that it started ends with it.
pub async fn run(context: Arc<Context>, places: usize, health: Arc<Health>, delivery: Delivery) {
    let (signals, mut inbox) = mpsc::channel(SIGNALS);
    let mut watches = JoinSet::new();
    watches.spawn(watch::tenants(context.watches.clone(), context.access.clone(), signals.clone()));
    watches.spawn(watch::registries::<System>(
        context.watches.clone(),
        RegistryScope::System,
        signals.clone(),
    ));
    watches.spawn(watch::registries::<Tenant>(
        context.watches.clone(),
        RegistryScope::Tenant,
        signals.clone(),
    ));

    let (changes, mut changed) = mpsc::channel(SIGNALS);
    watches.spawn(delivery.run(changes));
    watches.spawn(watch::cluster_addresses(context.admin_policy.cluster_addresses.clone(), signals.clone()));

    let mut controller = RegistryController::new(context, signals, places);
    let mut gauges = tokio::time::interval(GAUGES);
    loop {
        controller.start_workers();
        let due = controller.queue.next_due();
        tokio::select! {
            Some(signal) = inbox.recv() => controller.handle(signal, &health),
            Some(change) = changed.recv() => controller.pull_secrets_changed(change),
            Some(report) = controller.workers.join_next() => controller.complete(report),
            () = until(due) => {}
            _ = gauges.tick() => controller.tick(),
        }
    }
}

impl RegistryController {
    fn new(context: Arc<Context>, signals: ControllerEvents, places: usize) -> Self {
        let unsynced =
            [Sync::Registries(RegistryScope::System), Sync::Registries(RegistryScope::Tenant), Sync::Tenants];
        Self {
            context,
            signals,
            entries: HashMap::new(),
            unreadable: HashSet::new(),
            scopes: HashMap::new(),
            audiences: Audiences::default(),
            tenants: HashMap::new(),
            queue: Queue::new(QueueLimits { places, at_a_host: AT_A_HOST }),
            workers: JoinSet::new(),
            running: HashMap::new(),
            unsynced: unsynced.into(),
            synced: false,
            recount: HashSet::new(),
        }
    }

    fn handle(&mut self, signal: ControllerEvent, health: &Health) {
        match signal {
            ControllerEvent::Seen(object) => self.observe(*object),
            // What was known of it holds no longer; its deletion must not wait for anybody to mend it.
            ControllerEvent::Unreadable(object) if object.deleting && object.finalizer => {
                self.observe(*object);
            }
            ControllerEvent::Unreadable(object) => {
                self.context.availability.unreadable(&object);
                self.forget(&object.key);
                self.unreadable.insert(object.key);
            }
            ControllerEvent::Gone(key) => self.removed(&key),
            ControllerEvent::Listed(scope, listed) => {
                self.retain(scope, &listed);
                self.unsynced.remove(&Sync::Registries(scope));
            }
            ControllerEvent::Reference(reading) => self.reference_changed(&reading),
            ControllerEvent::ScopeListed(listed) => self.scope_listed(&listed),
            ControllerEvent::Tenant(namespace) => self.tenant_changed(&namespace),
            ControllerEvent::Closing(namespace) => self.audience_changed(&namespace),
            ControllerEvent::Left(namespace) => self.context.availability.left(namespace),
            ControllerEvent::Tenants => {
                self.unsynced.remove(&Sync::Tenants);
            }
            ControllerEvent::Fenced => self.addresses_known(),
        }
        if !self.synced && self.unsynced.is_empty() {
            self.synced = true;
            self.context.availability.synced();
        }
        if self.unsynced.is_empty() {
            health.synced();
        }
    }

    fn pull_secrets_changed(&mut self, change: PullSecretChange) {
        match change {
            PullSecretChange::Counts(keys) => self.recount.extend(keys),
            PullSecretChange::Removed(key) => self.enqueue(&key),
        }
    }

    /// Whom registries reach has changed with that namespace: those of the tenant whose it was, and whose it is.
    fn audience_changed(&mut self, namespace: &Arc<str>) {
        self.context.availability.namespace(namespace);
        let after = self.context.access.open_tenant(namespace);
        let before = match &after {
            Some(tenant) => self.tenants.insert(namespace.clone(), tenant.clone()),
            None => self.tenants.remove(namespace),
        };
        self.recount.extend(self.audiences.in_namespace(namespace).cloned());
        for tenant in before.iter().chain(&after) {
            self.context.access.with_tenant_index(|index| {
                let reached = self.audiences.of_tenant(tenant, index.namespaces_of(tenant));
                self.recount.extend(reached.cloned());
            });
        }
    }

    /// A registry is there, in this state; one that is older than what we know is not news.
    fn observe(&mut self, object: RegistryObject) {
        let key = object.key.clone();
        let known = self.entries.get(&key);
        if known.is_some_and(|entry| entry.object.uid == object.uid && is_older(&object, &entry.object)) {
            return;
        }
        if known.is_some_and(|entry| entry.object.uid != object.uid) {
            self.removed(&key);
        }
        let object = Arc::new(object.trimmed());
        self.count_towards_quota(&object);
        self.unreadable.remove(&key);
        self.context.availability.observe(&object);
        if self.running.get(&key).is_some_and(|running| !running.object.asks_the_same_as(&object)) {
            self.supersede(&key);
        }
        self.context.metrics.registry(&object);
        self.reindex(&key, Some(&object));
        let entry = self.entries.entry(key.clone()).or_insert_with(|| RegistryState {
            object: object.clone(),
            history: Arc::default(),
            due: None,
            errors: 0,
        });
        entry.object = object;
        self.recount.insert(key.clone());
        if self.wants_work(&key) {
            self.enqueue(&key);
        }
    }

    fn removed(&mut self, key: &RegistryKey) {
        let uid = self.entries.get(key).map(|entry| entry.object.uid.as_str());
        self.context.availability.gone(key, uid.unwrap_or_default());
        self.forget(key);
    }

    fn forget(&mut self, key: &RegistryKey) {
        self.unreadable.remove(key);
        self.supersede(key);
        self.reindex(key, None);
        self.entries.remove(key);
        self.queue.forget(key);
        self.context.metrics.forget(key);
        let promoted = self.context.quota().forget(key);
        for key in &promoted {
            self.enqueue(key);
        }
    }

    /// Forgets the registries of a scope that are not listed.
    fn retain(&mut self, scope: RegistryScope, listed: &HashSet<RegistryKey>) {
        let is_gone = |key: &&RegistryKey| key.scope() == scope && !listed.contains(*key);
        let known = self.entries.keys().chain(&self.unreadable);
        let gone: Vec<RegistryKey> = known.filter(is_gone).cloned().collect();
        for key in &gone {
            self.removed(key);
        }
    }

    /// Brings up to date whom `key` is for, which references it names, and which scopes are watched.
    fn reindex(&mut self, key: &RegistryKey, object: Option<&RegistryObject>) {
        if let Some(entry) = self.entries.get(key) {
            self.audiences.remove(key, &Audience::of(&entry.object));
        }
        if let Some(object) = object {
            self.audiences.insert(key, &Audience::of(object));
        }
        let named = |object: &RegistryObject| -> HashSet<Reference> {
            let namespace = key.references_namespace(&self.context.system_namespace);
            let policy = policy_reference(key, &object.spec, &self.context.system_namespace);
            references(&object.spec, namespace).into_iter().chain(policy).collect()
        };
        let before = self.entries.get(key).map(|entry| named(&entry.object)).unwrap_or_default();
        let after = object.map(named).unwrap_or_default();
        for reference in after.difference(&before) {
            self.watch(reference, key);
        }
        for reference in before.difference(&after) {
            self.unwatch(reference, key);
        }
    }

    fn watch(&mut self, reference: &Reference, key: &RegistryKey) {
        let scope = &reference.scope;
        let may_watch = self.may_watch(&scope.namespace);
        let watched = self.scopes.entry(scope.clone()).or_default();
        watched.named_by.entry(reference.name.clone()).or_default().insert(key.clone());
        if may_watch && watched.task.is_none() {
            watched.task = Some(follow(&self.context, &self.signals, scope));
        }
    }

    fn unwatch(&mut self, reference: &Reference, key: &RegistryKey) {
        let Some(watched) = self.scopes.get_mut(&reference.scope) else {
            return;
        };
        if let Some(keys) = watched.named_by.get_mut(&reference.name) {
            keys.remove(key);
            if keys.is_empty() {
                watched.named_by.remove(&reference.name);
            }
        }
        if watched.named_by.is_empty() {
            self.scopes.remove(&reference.scope);
            self.context.references.unwatched(&reference.scope);
        }
    }

    /// The operator has rights in its own namespace and in tenants'; elsewhere it would only be refused.
    fn may_watch(&self, namespace: &str) -> bool {
        namespace == self.context.system_namespace || self.context.access.tenant(namespace).is_some()
    }

    /// A reference was seen in some version: whoever's verdict rests on another is validated anew, at once.
    fn reference_changed(&mut self, reading: &ObservedReference) {
        let Reference { scope, name } = &reading.reference;
        let named_by = self.scopes.get(scope).and_then(|watched| watched.named_by.get(name));
        let keys: Vec<RegistryKey> = named_by.into_iter().flatten().cloned().collect();
        for key in keys {
            let running = self.running.get(&key).map(|running| &*running.attempt);
            let last = self.entries.get(&key).and_then(|entry| entry.history.inputs.as_ref());
            let next = on_reference(reading, running, last);
            if next.supersede {
                self.supersede(&key);
            }
            if next.look {
                self.enqueue(&key);
            }
        }
    }

    /// Work under way on `key` is of no use any more; it is begun anew.
    fn supersede(&mut self, key: &RegistryKey) {
        if let Some(running) = self.running.get(key) {
            running.attempt.supersede();
        }
    }

    fn scope_listed(&mut self, scope: &WatchScope) {
        let names: Vec<Arc<str>> =
            self.scopes.get(scope).into_iter().flat_map(|watched| watched.named_by.keys().cloned()).collect();
        for name in names {
            let reference = Reference { scope: scope.clone(), name };
            let version = self.context.references.version(&reference);
            self.reference_changed(&ObservedReference { reference, version });
        }
    }

    /// Counts a registry in, and looks at those for which that decides anew.
    fn count_towards_quota(&mut self, object: &RegistryObject) {
        let tenant = object.key.namespace().and_then(|namespace| self.context.access.tenant(namespace));
        let changed = self.context.quota().observe(&object.key, object.created, tenant);
        for key in &changed {
            self.enqueue(key);
        }
    }

    /// A namespace became, or ceased to be, a tenant's: its watches start or stop, and its registries are looked at.
    fn tenant_changed(&mut self, namespace: &Arc<str>) {
        self.audience_changed(namespace);
        let may_watch = self.may_watch(namespace);
        for kind in [ReferenceKind::Secret, ReferenceKind::ConfigMap] {
            let scope = &WatchScope { kind, namespace: namespace.clone() };
            let Some(watched) = self.scopes.get_mut(scope) else { continue };
            match &watched.task {
                None if may_watch => watched.task = Some(follow(&self.context, &self.signals, scope)),
                Some(task) if !may_watch => {
                    task.abort();
                    watched.task = None;
                    self.context.references.unwatched(scope);
                }
                _ => {}
            }
        }
        let keys: Vec<RegistryKey> = self.audiences.in_namespace(namespace).cloned().collect();
        for key in &keys {
            if let Some(object) = self.entries.get(key).map(|entry| entry.object.clone()) {
                self.count_towards_quota(&object);
            }
            self.supersede(key);
            self.enqueue(key);
        }
    }

    /// Tenants' registries, none of which was connected to until now, are validated.
    fn addresses_known(&mut self) {
        let tenants = self.entries.iter_mut().filter(|(key, _)| key.scope() == RegistryScope::Tenant);
        let keys: Vec<RegistryKey> = tenants
            .map(|(key, entry)| {
                entry.due = None;
                key.clone()
            })
            .collect();
        for key in &keys {
            self.enqueue(key);
        }
    }

    fn enqueue(&mut self, key: &RegistryKey) {
        if let Some(entry) = self.entries.get(key) {
            self.queue.now(key, &self.context.lane(&entry.object), Instant::now());
        }
    }

    fn start_workers(&mut self) {
        if !self.unsynced.is_empty() {
            return;
        }
        while let Some((key, waited)) = self.queue.next(Instant::now()) {
            self.context.metrics.waited(waited);
            let Some(entry) = self.entries.get(&key) else {
                self.queue.done(&key, Instant::now(), None);
                continue;
            };
            let left = entry.due.map(|due| due.saturating_duration_since(Instant::now()));
            let running = RunningWork { object: entry.object.clone(), attempt: Arc::default() };
            let attempt = running.attempt.clone();
            let work = work(self.context.clone(), entry.object.clone(), entry.history.clone(), left, attempt);
            self.running.insert(key, running);
            self.workers.spawn(work);
        }
    }

    fn complete(&mut self, report: Result<WorkReport, tokio::task::JoinError>) {
        let report = match report {
            Ok(report) => report,
            // With panic = "abort" there is nothing to come here in a release; a test build says what happened.
            Err(error) => return tracing::error!(%error, "a reconcile worker failed"),
        };
        self.running.remove(&report.key);
        self.context.metrics.reconciled(report.took);
        let now = Instant::now();
        let entry = self.entries.get_mut(&report.key).filter(|entry| entry.object.uid == report.uid);
        let Some(entry) = entry else {
            self.queue.done(&report.key, now, None);
            if self.entries.contains_key(&report.key) {
                self.enqueue(&report.key);
            }
            return;
        };
        let failed = report.result.is_err();
        let (again, written) = entry.file(report.result, now);
        self.queue.done(&report.key, now, again);
        if failed {
            // What has not been done is still wanted; but not before the pause is over, or something else changes.
            return;
        }
        match written {
            Some(object) => self.observe(object),
            None if self.wants_work(&report.key) => self.enqueue(&report.key),
            None => {}
        }
        self.recheck(&report.key);
    }

    /// A reference may have changed while it was being used, when nobody rested on it yet.
    fn recheck(&mut self, key: &RegistryKey) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let Some(basis) = entry.history.inputs.as_ref() else {
            return;
        };
        if basis.is_outdated(|reference| self.context.references.version(reference)) {
            self.enqueue(key);
        }
    }

    fn wants_work(&self, key: &RegistryKey) -> bool {
        self.entries.get(key).is_some_and(|RegistryState { object, history, .. }| {
            is_pending(object, history, self.context.availability.are_removed(&object.uid))
        })
    }

    fn tick(&mut self) {
        self.context.metrics.queue(self.queue.depth(), self.queue.in_flight());
        for key in std::mem::take(&mut self.recount) {
            let Some(RegistryState { object, history, .. }) = self.entries.get(&key) else {
                continue;
            };
            if is_miscounted(object, history, &self.context.availability.report(object)) {
                self.enqueue(&key);
            }
        }
    }
}

/// Starts a watch over a scope.
fn follow(context: &Context, signals: &ControllerEvents, scope: &WatchScope) -> AbortHandle {
    let (watches, access) = (context.watches.clone(), context.access.clone());
    let watch =
        watch::watch_scope(watches, access, scope.clone(), context.references.clone(), signals.clone());
    tokio::spawn(watch).abort_handle()
}

async fn work(
    context: Arc<Context>,
    object: Arc<RegistryObject>,
    history: Arc<History>,
    left: Option<Duration>,
    attempt: Arc<InFlight>,
) -> WorkReport {
    let started = Instant::now();
    let result = reconcile(&context, &object, &history, left, &attempt).await;
    WorkReport { key: object.key.clone(), uid: object.uid.clone(), took: started.elapsed(), result }
}

impl RegistryState {
    /// Takes a result; says when there is something to be done again, and what was written.
    fn file(
        &mut self,
        result: Result<Done, ReconcileError>,
        now: Instant,
    ) -> (Option<Duration>, Option<RegistryObject>) {
        match result {
            Ok(done) => {
                self.errors = 0;
                self.history = Arc::new(done.history);
                self.due = done.due.map(|due| now + due);
                (done.sooner.into_iter().chain(done.due).min(), done.written)
            }
            Err(ReconcileError::Superseded) => (Some(Duration::ZERO), None),
            Err(ReconcileError::TenantUnseen) => {
                self.errors = self.errors.saturating_add(1);
                if self.errors == UNSEEN_FOR_LONG {
                    let registry = &self.object.key;
                    tracing::warn!(%registry, "namespace has the tenant label, but the watch does not show it; \
                        retrying");
                }
                (Some(Backoff::TENANT_UNSEEN.after(self.errors)), None)
            }
            Err(error) => {
                tracing::warn!(registry = %self.object.key, %error, "failed to reconcile, retrying");
                self.errors = self.errors.saturating_add(1);
                (Some(error.pause(self.errors)), None)
            }
        }
    }
}

/// So many looks in a row, over three seconds, are worth a line in the log.
const UNSEEN_FOR_LONG: u32 = 5;

/// Whether `new` is an older version of the object than `known`. Resource versions of one kind are comparable numbers
/// (KEP-5504); where they are not numbers, what comes later is taken to be newer.
fn is_older(new: &RegistryObject, known: &RegistryObject) -> bool {
    let number = |object: &RegistryObject| object.resource_version.parse::<u64>().ok();
    matches!((number(new), number(known)), (Some(new), Some(known)) if new < known)
}
