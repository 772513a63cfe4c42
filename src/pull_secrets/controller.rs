//! The controller of pull Secrets. One task owns what registries ask for, what exists, and which namespace's turn it is.
//! [`plan`](super::plan) decides what to do in a namespace, and `Secrets` does it.
//!
//! One task at a time works on a namespace, and tenants take turns. Nothing is written before all registries and all namespaces of
//! tenants were listed.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use kube::Client;
use registry_verdict::object::RegistryKey;
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};

use super::{
    Delivery, DeliveryEvent, PullSecretChange, PullSecrets,
    namespace_state::{NamespaceState, NoHost, Ownership},
    namespace_states::{DeliveryRequests, NamespaceStates},
    plan::{DeliveryState, DesiredSecret},
    secrets::Secrets,
    spec::{DeliveryRequest, DeliveryVerdict, PullSecretSpec, says_the_same},
    watch::{NamespaceEvent, follow},
    worker::{DeliveryReport, DeliveryStep, WorkerFindings, work},
};
use crate::{
    kubernetes::watches::WatchPool,
    observability::metrics::Metrics,
    queue::{Queue, QueueLimits},
    tenancy::{audience::Audience, audiences::Audiences},
    work_loop::{Controller, Turn},
};

/// Namespaces that are written to at the same time.
const PLACES: usize = 16;
/// Counts are reported when there is no work left, or after this time.
const LONGEST_UNREPORTED: Duration = Duration::from_secs(5);
/// How long a deleted registry waits for the removal of its Secrets; the rest is removed when that becomes possible. With the time
/// that a new leader needs to take over, this makes less than half a minute.
const REMOVAL_WAIT: Duration = Duration::from_secs(10);

/// The controller of pull Secrets.
pub(super) struct DeliveryController {
    client: Client,
    watches: Arc<WatchPool>,
    pull_secrets: Arc<PullSecrets>,
    metrics: Metrics,
    changes: mpsc::Sender<PullSecretChange>,
    events: mpsc::Sender<NamespaceEvent>,
    requests: DeliveryRequests,
    /// The registries by the tenants that they are available to.
    audiences: Audiences,
    /// Registries whose Secrets are to be removed.
    clearing: HashSet<RegistryKey>,
    /// Registries that can't be read, with their uids.
    unreadable: HashMap<RegistryKey, Arc<str>>,
    namespaces: NamespaceStates,
    queue: Queue<Arc<str>, Arc<str>, NoHost>,
    synced: bool,
    /// Since when there may be a change to report.
    unreported: Option<Instant>,
}

impl Controller for DeliveryController {
    type Key = Arc<str>;
    type Group = Arc<str>;
    type Host = NoHost;
    type Event = DeliveryEvent;
    type Report = DeliveryReport;

    fn queue(&mut self) -> &mut Queue<Arc<str>, Arc<str>, NoHost> {
        &mut self.queue
    }

    fn is_synced(&self) -> bool {
        self.synced
    }

    fn handle(&mut self, event: DeliveryEvent) {
        match event {
            DeliveryEvent::Spec(spec) => self.spec_changed(*spec),
            DeliveryEvent::Unreadable(key, uid) => {
                self.unreadable.insert(key.clone(), uid);
                self.withdraw(&key);
            }
            DeliveryEvent::Gone(key) => self.gone(&key),
            DeliveryEvent::Verdict(key, verdict) => self.verdict_changed(&key, verdict),
            DeliveryEvent::Namespace(namespace) => self.namespace_changed(&namespace),
            DeliveryEvent::Left(namespace) => self.left(&namespace),
            DeliveryEvent::Observed(event) => self.observe(event),
            DeliveryEvent::Synced => self.synced = true,
        }
    }

    fn start(&mut self, name: &Arc<str>, _waited: Duration) -> Turn<DeliveryReport> {
        let step = self.step(name);
        self.namespaces.changed(name, &self.requests);
        self.mark_unreported();
        let Some(step) = step else {
            return Turn::Pass(self.namespaces.get(name).and_then(NamespaceState::next_check));
        };
        let access = self.pull_secrets.access.clone();
        let secrets = Secrets::of(self.client.clone(), access, name.clone());
        let metrics = self.metrics.clone();
        Turn::Work(async move { work(&secrets, step, &metrics).await }.boxed())
    }

    fn complete(&mut self, name: &Arc<str>, report: DeliveryReport) -> Option<Duration> {
        self.mark_unreported();
        let DeliveryReport { findings, error } = report;
        let is_left = |namespace: &NamespaceState| namespace.ownership == Ownership::Left;
        if matches!(findings, WorkerFindings::Gone) && self.namespaces.get(name).is_some_and(is_left) {
            self.namespaces.remove(name, &self.requests);
        }
        let namespace = self.namespaces.get_mut(name)?;
        namespace.learn(findings, Instant::now());
        let again = namespace.failed(name, error.as_ref());
        self.namespaces.changed(name, &self.requests);
        again.or(Some(Duration::ZERO))
    }

    fn tick(&mut self) {
        if self.synced {
            self.report_removed();
            self.report_counts();
        }
    }
}

impl DeliveryController {
    /// Returns a controller that knows nothing yet. It reports `changes`; its watches send to `events`.
    pub fn new(
        delivery: &Delivery,
        changes: mpsc::Sender<PullSecretChange>,
        events: mpsc::Sender<NamespaceEvent>,
    ) -> Self {
        Self {
            client: delivery.client.clone(),
            watches: delivery.watches.clone(),
            pull_secrets: delivery.pull_secrets.clone(),
            metrics: delivery.metrics.clone(),
            changes,
            events,
            requests: DeliveryRequests::new(),
            audiences: Audiences::default(),
            clearing: HashSet::new(),
            unreadable: HashMap::new(),
            namespaces: NamespaceStates::default(),
            queue: Queue::new(QueueLimits { places: PLACES, at_a_host: PLACES }),
            synced: false,
            unreported: None,
        }
    }

    /// Wakes the namespaces of a registry that no longer exists.
    fn gone(&mut self, key: &RegistryKey) {
        if let Some(uid) = self.unreadable.remove(key) {
            self.wake_reached(&uid, &Audience::All);
        }
        self.withdraw(key);
    }

    fn spec_changed(&mut self, spec: PullSecretSpec) {
        if let Some(uid) = self.unreadable.remove(&spec.key) {
            self.wake_reached(&uid, &spec.audience);
        }
        if self.requests.get(&spec.key).is_some_and(|before| before.spec == spec) {
            return;
        }
        // What is known of another registry of the same name says nothing about this one.
        let before = self.withdraw(&spec.key).filter(|before| before.spec.uid == spec.uid);
        if spec.is_clearing() {
            let since = before.and_then(|before| before.clearing).unwrap_or_else(Instant::now);
            self.insert(DeliveryRequest { spec, verdict: None, clearing: Some(since) });
        } else if spec.name.is_some() {
            let verdict = before.and_then(|before| before.verdict);
            self.insert(DeliveryRequest { spec, verdict, clearing: None });
        }
    }

    fn insert(&mut self, request: DeliveryRequest) {
        let PullSecretSpec { key, uid, audience, .. } = request.spec.clone();
        self.audiences.insert(&key, &audience);
        if request.clearing.is_some() {
            self.clearing.insert(key.clone());
        }
        self.requests.insert(key, request);
        self.wake_reached(&uid, &audience);
    }

    fn withdraw(&mut self, key: &RegistryKey) -> Option<DeliveryRequest> {
        let request = self.requests.remove(key)?;
        self.audiences.remove(key, &request.spec.audience);
        self.clearing.remove(key);
        self.wake_reached(&request.spec.uid, &request.spec.audience);
        Some(request)
    }

    fn verdict_changed(&mut self, key: &RegistryKey, verdict: DeliveryVerdict) {
        let request = self.requests.get_mut(key).filter(|request| request.spec.uid == verdict.uid);
        let Some(request) = request else {
            return;
        };
        let before = request.content();
        request.verdict = Some(verdict);
        if !says_the_same(&before, &request.content()) {
            let (uid, audience) = (request.spec.uid.clone(), request.spec.audience.clone());
            self.wake_reached(&uid, &audience);
        }
    }

    /// Wakes the namespaces that a registry is available to, and those that have a Secret of it.
    fn wake_reached(&mut self, uid: &Arc<str>, audience: &Audience) {
        let mut names: HashSet<Arc<str>> = self.namespaces.with_secret_of(uid).cloned().collect();
        match audience {
            Audience::All => names.extend(self.namespaces.of_tenants().cloned()),
            Audience::Listed(tenants) => {
                names.extend(tenants.iter().flat_map(|tenant| self.namespaces.of_tenant(tenant)).cloned());
            }
            Audience::TenantOf(namespace) => {
                let tenant = self.pull_secrets.access.open_tenant(namespace);
                names.extend(tenant.iter().flat_map(|tenant| self.namespaces.of_tenant(tenant)).cloned());
            }
        }
        for name in names {
            self.wake(&name);
        }
        self.mark_unreported();
    }

    fn namespace_changed(&mut self, name: &Arc<str>) {
        let before = self.namespaces.get(name).and_then(|namespace| namespace.tenant().cloned());
        let after = self.pull_secrets.access.open_tenant(name);
        match &after {
            Some(tenant) => self.set_tenant(name, tenant),
            None => self.forget(name),
        }
        self.wake(name);
        self.mark_unreported();
        if before != after {
            self.wake_tenants(name, before.iter().chain(&after));
        }
    }

    fn set_tenant(&mut self, name: &Arc<str>, tenant: &Arc<str>) {
        let ownership = Ownership::To(tenant.clone());
        match self.namespaces.get_mut(name).filter(|namespace| namespace.tenant().is_some()) {
            Some(namespace) => {
                namespace.ownership = ownership;
                self.namespaces.changed(name, &self.requests);
            }
            None => self.namespaces.insert(name, NamespaceState::new(ownership), &self.requests),
        }
    }

    /// Wakes the namespaces of these tenants if there are registries in a namespace that changed hands: they are available to the
    /// namespace's tenant.
    fn wake_tenants<'a>(&mut self, name: &Arc<str>, tenants: impl Iterator<Item = &'a Arc<str>>) {
        if self.audiences.in_namespace(name).next().is_none() {
            return;
        }
        let names: Vec<Arc<str>> =
            tenants.flat_map(|tenant| self.namespaces.of_tenant(tenant)).cloned().collect();
        for name in names {
            self.wake(&name);
        }
    }

    fn forget(&mut self, name: &Arc<str>) {
        self.namespaces.remove(name, &self.requests);
        self.queue.forget(name);
    }

    fn left(&mut self, name: &Arc<str>) {
        if self.pull_secrets.access.open_tenant(name).is_none() {
            self.namespaces.insert(name, NamespaceState::new(Ownership::Left), &self.requests);
            self.wake(name);
        }
    }

    fn observe(&mut self, NamespaceEvent { namespace: name, event }: NamespaceEvent) {
        let namespace = self.namespaces.get_mut(&name).filter(|namespace| namespace.is_watched());
        let Some(namespace) = namespace else {
            return;
        };
        namespace.observe(event);
        let pause = namespace.backoff_when_failed();
        self.namespaces.changed(&name, &self.requests);
        self.mark_unreported();
        match pause {
            None => self.wake(&name),
            Some(pause) => self.wake_after(&name, pause),
        }
    }

    /// Works on a namespace as soon as it is its turn.
    fn wake(&mut self, name: &Arc<str>) {
        if let Some(namespace) = self.namespaces.get(name) {
            self.queue.now(name, &namespace.lane(name), Instant::now());
        }
    }

    fn wake_after(&mut self, name: &Arc<str>, pause: Duration) {
        if let Some(namespace) = self.namespaces.get(name) {
            self.queue.at(name, &namespace.lane(name), Instant::now() + pause);
        }
    }

    /// Decides what to do in a namespace, if anything.
    fn step(&mut self, name: &Arc<str>) -> Option<DeliveryStep> {
        let tenant = match &self.namespaces.get(name)?.ownership {
            Ownership::To(tenant) => tenant.clone(),
            Ownership::Left => return Some(DeliveryStep::Leave),
        };
        let desired = self.desired(&tenant);
        if !desired.is_empty() && !self.namespaces.get(name)?.is_watched() {
            let watch = self.start_watch(name);
            self.namespaces.get_mut(name)?.set_watch(watch);
        }
        if self.namespaces.get(name)?.observed.is_some() {
            return self.write_step(name, &desired);
        }
        let away = |secret: &DesiredSecret| (secret.registry.clone(), DeliveryState::Away);
        self.namespaces.get_mut(name)?.states = desired.iter().map(away).collect();
        desired.is_empty().then_some(DeliveryStep::Look)
    }

    /// Decides what to write in a namespace, and which names to look at again.
    fn write_step(&mut self, name: &Arc<str>, desired: &[DesiredSecret]) -> Option<DeliveryStep> {
        let unreadable = self.unreadable.values().cloned().collect();
        let namespace = self.namespaces.get_mut(name)?;
        let actions = namespace.plan(desired, unreadable);
        if actions.is_empty() {
            // A write whose answer was lost may have succeeded.
            namespace.failures = 0;
        }
        if desired.is_empty() && actions.is_empty() {
            namespace.unwatch_when_settled(Instant::now());
        }
        let (actions, is_new) = namespace.afford(name, actions, Instant::now());
        let checks = namespace.due_checks();
        if is_new {
            self.mark_unreported();
        }
        if actions.is_empty() && checks.is_empty() {
            return None;
        }
        self.namespaces.get_mut(name)?.begin_work();
        Some(DeliveryStep::Work(actions, checks))
    }

    /// Returns the pull Secrets that should exist in the namespaces of a tenant.
    fn desired(&self, tenant: &Arc<str>) -> Vec<DesiredSecret> {
        self.pull_secrets.access.with_tenant_index(|index| {
            let available = self.audiences.of_tenant(tenant, index.namespaces_of(tenant));
            available.filter_map(|key| self.requests.get(key)?.desired_secret()).collect()
        })
    }

    fn start_watch(&self, name: &Arc<str>) -> AbortHandle {
        let access = self.pull_secrets.access.clone();
        let watch = follow(self.watches.clone(), access, name.clone(), self.events.clone());
        tokio::spawn(watch).abort_handle()
    }

    fn mark_unreported(&mut self) {
        self.unreported.get_or_insert_with(Instant::now);
    }

    /// Reports the registries whose counts changed, when there is no work left or it takes long.
    fn report_counts(&mut self) {
        let Some(since) = self.unreported else { return };
        let is_busy = self.queue.depth() + self.queue.in_flight() > 0;
        if is_busy && since.elapsed() < LONGEST_UNREPORTED {
            return;
        }
        let tallies = self.namespaces.take_unreported();
        let keys: Vec<RegistryKey> = tallies.iter().map(|(key, _)| key.clone()).collect();
        self.metrics.pull_secrets(self.namespaces.there());
        self.pull_secrets.count(tallies);
        match self.changes.try_send(PullSecretChange::Counts(keys.clone())) {
            Ok(()) => self.unreported = None,
            Err(_) => self.namespaces.mark_unreported(keys),
        }
    }

    /// Reports the registries whose Secrets are gone, or have been waited for long enough.
    fn report_removed(&self) {
        for DeliveryRequest { spec, clearing, .. } in
            self.clearing.iter().filter_map(|key| self.requests.get(key))
        {
            let is_removed = self.namespaces.is_without(&spec.uid);
            if !is_removed && clearing.is_some_and(|since| since.elapsed() < REMOVAL_WAIT) {
                continue;
            }
            if self.pull_secrets.mark_removed(&spec.uid) && !is_removed {
                tracing::warn!(registry = %spec.key, "pull Secrets not all deleted in time; deleting the rest \
                    later");
            }
            // If the channel is full, the next tick repeats it.
            let _ = self.changes.try_send(PullSecretChange::Removed(spec.key.clone()));
        }
    }
}
