//! The controller of registries: watches → queue → [`reconcile()`] → status. May use registries and what they refer to.
//!
//! One task owns everything that the operator knows about registries. It decides when to work on a registry; [`reconcile()`] does
//! the work.
//!
//! - [`context`]: what every reconciliation works with.
//! - [`decide`]: what to do about a registry. Pure.
//! - [`error`]: why the work on a registry did not finish.
//! - [`events`]: sends Events.
//! - [`history`]: what is remembered of a registry, and when its next validation is due. Pure.
//! - [`in_flight`]: work that has started and not finished.
//! - `probe`: the probe, while the controller waits for it.
//! - [`publish`]: writes status and finalizer.
//! - [`quota`]: which registries of a tenant are validated. Pure.
//! - `reconcile`: the path of one registry, from its spec to its status.
//! - [`references`]: the cache of Secrets and ConfigMaps.
//! - `registry_index`: the registries by tenant and by reference.
//! - `registry_state`: what the controller knows of one registry.
//! - [`rejection_store`]: stores the rejected credentials in a Secret.
//! - `resolve`: the steps before the probe.
//! - `tenant_watch`: the watch of tenants' namespaces.
//! - [`watch`]: the watches of registries and of what they refer to.
//! - `watched_scopes`: which of these watches run.

pub mod context;
pub mod decide;
pub mod error;
pub mod events;
pub mod history;
pub mod in_flight;
mod probe;
pub mod publish;
pub mod quota;
pub mod reconcile;
pub mod references;
mod registry_index;
mod registry_state;
pub mod rejection_store;
mod resolve;
mod tenant_watch;
pub mod watch;
mod watched_scopes;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use registry_api::spec::{System, Tenant};
use registry_probe::HostPort;
use registry_verdict::{
    object::{Group, RegistryKey, RegistryObject, RegistryScope},
    resolve::{ObservedReference, WatchScope},
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use self::{
    context::Context,
    decide::{StatusDrift, is_pending, on_reference, status_drift},
    error::ReconcileError,
    history::History,
    in_flight::InFlight,
    reconcile::reconcile,
    registry_index::RegistryIndex,
    registry_state::RegistryState,
    watch::{ControllerEvent, ControllerEvents},
};
use crate::{
    observability::server::Health,
    pull_secrets::{Delivery, PullSecretChange},
    queue::{Queue, QueueLimits},
    work_loop::{self, Controller, Turn},
};

/// Events that wait for the controller; a watch waits when there are more.
const EVENTS: usize = 256;
/// Validations of one registry host at the same time, over all tenants. One tenant gets half of them.
const AT_A_HOST: usize = 32;
/// How often the queue is measured and outdated statuses are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Runs the controllers of registries and pull Secrets until dropped. Everything that they started ends with them.
pub async fn run(context: Arc<Context>, places: usize, health: Arc<Health>, delivery: Delivery) {
    let (events, received) = mpsc::channel(EVENTS);
    let (changes, changed) = mpsc::channel(EVENTS);
    let mut tasks = JoinSet::new();
    start_watches(&mut tasks, &context, &events);
    tasks.spawn(delivery.run(changes));
    let received = stream::select(stream_of(received), stream_of(changed).map(ControllerEvent::PullSecrets));
    work_loop::run(RegistryController::new(context, events, places, health), received, TICK).await;
}

fn start_watches(tasks: &mut JoinSet<()>, context: &Context, events: &ControllerEvents) {
    let watches = &context.watches;
    tasks.spawn(tenant_watch::watch_tenants(watches.clone(), context.access.clone(), events.clone()));
    tasks.spawn(watch::registries::<System>(watches.clone(), RegistryScope::System, events.clone()));
    tasks.spawn(watch::registries::<Tenant>(watches.clone(), RegistryScope::Tenant, events.clone()));
    tasks.spawn(watch::cluster_addresses(context.admin_policy.cluster_addresses.clone(), events.clone()));
}

struct RegistryController {
    context: Arc<Context>,
    health: Arc<Health>,
    registries: HashMap<RegistryKey, RegistryState>,
    /// Registries of which nothing but the metadata can be read.
    unreadable: HashSet<RegistryKey>,
    index: RegistryIndex,
    queue: Queue<RegistryKey, Group, HostPort>,
    /// What was not listed yet since the start.
    unlisted: HashSet<InitialList>,
    /// Registries whose status may be outdated because tenants, namespaces or pull Secrets changed.
    recheck: HashSet<RegistryKey>,
}

/// What must be listed before the first registry is validated.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
enum InitialList {
    Registries(RegistryScope),
    Tenants,
}

/// The result of a worker.
struct WorkReport {
    /// The object, as it was written last.
    object: RegistryObject,
    history: History,
    took: Duration,
    result: Result<Option<Duration>, ReconcileError>,
}

impl Controller for RegistryController {
    type Key = RegistryKey;
    type Group = Group;
    type Host = HostPort;
    type Event = ControllerEvent;
    type Report = WorkReport;

    fn queue(&mut self) -> &mut Queue<RegistryKey, Group, HostPort> {
        &mut self.queue
    }

    fn is_synced(&self) -> bool {
        self.unlisted.is_empty()
    }

    fn handle(&mut self, event: ControllerEvent) {
        match event {
            ControllerEvent::Observed(object) => self.observe(*object),
            ControllerEvent::Unreadable(object) => self.unreadable(*object),
            ControllerEvent::Gone(key) => self.removed(&key),
            ControllerEvent::Listed(scope, listed) => {
                self.retain(scope, &listed);
                self.listed(InitialList::Registries(scope));
            }
            ControllerEvent::Reference(observed) => self.reference_changed(&observed),
            ControllerEvent::ScopeListed(scope) => self.scope_listed(&scope),
            ControllerEvent::TenantChanged(namespace) => self.tenant_changed(&namespace),
            ControllerEvent::Terminating(namespace) => self.audience_changed(&namespace),
            ControllerEvent::Left(namespace) => self.context.pull_secrets.left(namespace),
            ControllerEvent::TenantsListed => self.listed(InitialList::Tenants),
            ControllerEvent::AddressesKnown => self.addresses_known(),
            ControllerEvent::PullSecrets(PullSecretChange::Counts(keys)) => self.recheck.extend(keys),
            ControllerEvent::PullSecrets(PullSecretChange::Removed(key)) => self.enqueue(&key),
        }
    }

    fn start(&mut self, key: &RegistryKey, waited: Duration) -> Turn<WorkReport> {
        self.context.metrics.waited(waited);
        let Some(state) = self.registries.get_mut(key) else {
            return Turn::Pass(None);
        };
        let in_flight = Arc::<InFlight>::default();
        state.in_flight = Some(in_flight.clone());
        let (object, history) = (RegistryObject::clone(&state.object), History::clone(&state.history));
        Turn::Work(work(self.context.clone(), object, history, in_flight).boxed())
    }

    fn complete(&mut self, key: &RegistryKey, report: WorkReport) -> Option<Duration> {
        self.context.metrics.reconciled(report.took);
        let state = self.registries.get_mut(key)?;
        state.in_flight = None;
        if state.object.uid != report.object.uid {
            self.enqueue(key);
            return None;
        }
        let again = match report.result {
            Ok(retry) => state.reconciled(report.history, retry),
            Err(ReconcileError::Superseded) => Some(Duration::ZERO),
            // What was not done is done after the pause, or when something else changes.
            Err(error) => return Some(state.failed(&error)),
        };
        self.follow_up(key, report.object);
        again
    }

    fn tick(&mut self) {
        self.context.metrics.queue(self.queue.depth(), self.queue.in_flight());
        for key in std::mem::take(&mut self.recheck) {
            let Some(state) = self.registries.get_mut(&key) else {
                continue;
            };
            if state.in_flight.is_some() {
                // Its result may be of a report from before the change.
                self.recheck.insert(key);
                continue;
            }
            let report = self.context.pull_secrets.report(&state.object);
            match status_drift(&state.object, &state.history, &report) {
                StatusDrift::None => {}
                StatusDrift::Overwritten if !state.may_correct(Instant::now()) => {
                    self.recheck.insert(key);
                }
                StatusDrift::Overwritten | StatusDrift::PullSecrets => self.enqueue(&key),
            }
        }
    }
}

impl RegistryController {
    fn new(context: Arc<Context>, events: ControllerEvents, places: usize, health: Arc<Health>) -> Self {
        let [system, tenant] = [RegistryScope::System, RegistryScope::Tenant].map(InitialList::Registries);
        Self {
            index: RegistryIndex::new(context.clone(), events),
            context,
            health,
            registries: HashMap::new(),
            unreadable: HashSet::new(),
            queue: Queue::new(QueueLimits { places, at_a_host: AT_A_HOST }),
            unlisted: [system, tenant, InitialList::Tenants].into(),
            recheck: HashSet::new(),
        }
    }

    fn enqueue(&mut self, key: &RegistryKey) {
        if let Some(state) = self.registries.get(key) {
            self.queue.now(key, &self.context.lane(&state.object), Instant::now());
        }
    }

    /// Cancels the work in flight on a registry. It starts again when it has ended.
    fn supersede(&self, key: &RegistryKey) {
        if let Some(in_flight) = self.registries.get(key).and_then(|state| state.in_flight.as_ref()) {
            in_flight.supersede();
        }
    }

    /// Notes that a list is complete. When all of them are, work starts.
    fn listed(&mut self, list: InitialList) {
        if self.unlisted.remove(&list) && self.unlisted.is_empty() {
            self.context.pull_secrets.synced();
            self.health.synced();
        }
    }

    /// Stores a registry, unless a newer version is known, and works on it if it asks for anything new.
    fn observe(&mut self, object: RegistryObject) {
        let key = object.key.clone();
        match self.registries.get(&key) {
            Some(state) if state.is_newer_than(&object) => return,
            Some(state) if state.object.uid != object.uid => self.removed(&key),
            Some(state) if !state.object.asks_the_same_as(&object) => self.supersede(&key),
            _ => {}
        }
        let object = Arc::new(object.trimmed());
        self.count_towards_quota(&object);
        self.unreadable.remove(&key);
        self.context.pull_secrets.observe(&object);
        self.context.metrics.registry(&object);
        self.index.update(&key, self.registries.get(&key).map(|state| &*state.object), Some(&object));
        match self.registries.get_mut(&key) {
            Some(state) => state.update(object),
            None => drop(self.registries.insert(key.clone(), RegistryState::new(object))),
        }
        self.recheck.insert(key.clone());
        self.enqueue_if_pending(&key);
    }

    /// Forgets what was known of a registry that can't be read any more; but its deletion must not wait until it can.
    fn unreadable(&mut self, object: RegistryObject) {
        if object.deleting && object.finalizer {
            return self.observe(object);
        }
        self.context.pull_secrets.unreadable(&object);
        self.forget(&object.key);
        self.unreadable.insert(object.key);
    }

    fn removed(&mut self, key: &RegistryKey) {
        let uid = self.registries.get(key).map(|state| state.object.uid.as_str());
        self.context.pull_secrets.gone(key, uid.unwrap_or_default());
        self.forget(key);
    }

    fn forget(&mut self, key: &RegistryKey) {
        self.unreadable.remove(key);
        self.supersede(key);
        if let Some(state) = self.registries.remove(key) {
            self.index.update(key, Some(&state.object), None);
        }
        self.queue.forget(key);
        self.context.metrics.forget(key);
        let promoted = self.context.quota().forget(key);
        for key in &promoted {
            self.enqueue(key);
        }
    }

    /// Forgets the registries of a scope that are not in the list.
    fn retain(&mut self, scope: RegistryScope, listed: &HashSet<RegistryKey>) {
        let is_gone = |key: &&RegistryKey| key.scope() == scope && !listed.contains(*key);
        let known = self.registries.keys().chain(&self.unreadable);
        let gone: Vec<RegistryKey> = known.filter(is_gone).cloned().collect();
        for key in &gone {
            self.removed(key);
        }
    }

    /// Counts a registry towards its tenant's quota, and works on the registries that this moves across the limit.
    fn count_towards_quota(&mut self, object: &RegistryObject) {
        let tenant = self.context.tenant(object);
        let changed = self.context.quota().observe(&object.key, object.created, tenant);
        for key in &changed {
            self.enqueue(key);
        }
    }

    /// Works on the registries with a reference, if their last result is based on another version of it.
    fn reference_changed(&mut self, observed: &ObservedReference) {
        for key in self.index.scopes.registries_with(&observed.reference) {
            let Some(state) = self.registries.get(&key) else {
                continue;
            };
            let next = on_reference(observed, state.in_flight.as_deref(), state.history.inputs.as_ref());
            if next.supersede {
                self.supersede(&key);
            }
            if next.look {
                self.enqueue(&key);
            }
        }
    }

    fn scope_listed(&mut self, scope: &WatchScope) {
        for reference in self.index.scopes.references_in(scope) {
            let version = self.context.references.version(&reference);
            self.reference_changed(&ObservedReference { reference, version });
        }
    }

    /// Works on the registries of a namespace that became, or ceased to be, a tenant's.
    fn tenant_changed(&mut self, namespace: &Arc<str>) {
        self.audience_changed(namespace);
        for key in &self.index.in_namespace(namespace) {
            if let Some(object) = self.registries.get(key).map(|state| state.object.clone()) {
                self.count_towards_quota(&object);
            }
            self.supersede(key);
            self.enqueue(key);
        }
    }

    /// Rechecks the registries that a namespace belongs to, through its tenant now or before.
    fn audience_changed(&mut self, namespace: &Arc<str>) {
        self.context.pull_secrets.namespace(namespace);
        self.recheck.extend(self.index.tenant_changed(namespace));
    }

    /// Validates the TenantRegistries, which are not connected to before the cluster's own addresses are known.
    fn addresses_known(&mut self) {
        let is_tenants = |key: &&RegistryKey| key.scope() == RegistryScope::Tenant;
        let keys: Vec<RegistryKey> = self.registries.keys().filter(is_tenants).cloned().collect();
        for key in &keys {
            self.registries.get_mut(key).into_iter().for_each(RegistryState::make_due);
            self.enqueue(key);
        }
    }

    /// Works on a registry again if something changed while it was worked on. `object` is its state as written.
    fn follow_up(&mut self, key: &RegistryKey, object: RegistryObject) {
        let Some(state) = self.registries.get(key) else {
            return;
        };
        // A reference may have changed after it was read, when no result was based on it yet.
        let is_outdated =
            state.history.inputs.as_ref().is_some_and(|inputs| {
                inputs.is_outdated(|reference| self.context.references.version(reference))
            });
        if state.object.resource_version != object.resource_version {
            self.observe(object);
        }
        if is_outdated {
            self.enqueue(key);
        }
        self.enqueue_if_pending(key);
    }

    /// Works on a registry if it asks for something that was not done.
    fn enqueue_if_pending(&mut self, key: &RegistryKey) {
        let is_pending = self.registries.get(key).is_some_and(|state| {
            let removed = self.context.pull_secrets.are_removed(&state.object.uid);
            is_pending(&state.object, &state.history, removed)
        });
        if is_pending {
            self.enqueue(key);
        }
    }
}

async fn work(
    context: Arc<Context>,
    mut object: RegistryObject,
    mut history: History,
    in_flight: Arc<InFlight>,
) -> WorkReport {
    let started = Instant::now();
    let result = reconcile(&context, &mut object, &mut history, &in_flight).await;
    WorkReport { object, history, took: started.elapsed(), result }
}

/// Returns a channel's messages as a stream.
fn stream_of<T>(mut receiver: mpsc::Receiver<T>) -> impl stream::Stream<Item = T> {
    stream::poll_fn(move |context| receiver.poll_recv(context))
}
