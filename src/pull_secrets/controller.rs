//! The delivery of pull Secrets: one task that owns what is wished for, what is there, and which namespace's turn it is.
//! What is to be done is [`plan`]'s to say; doing it is `Secrets`'s.
//!
//! A namespace is worked on by one task at a time, tenants take turns, and nothing is written before all registries and
//! all tenants' namespaces have been listed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use kube::Client;
use registry_verdict::object::RegistryKey;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
    time::Instant,
};

use super::{
    DeliveryEvent, PullSecrets,
    namespace_state::{NamespaceState, NoHost, Ownership},
    namespace_states::{NamespaceStates, Offers},
    plan::{DeliveryPlan, DeliveryState, DesiredSecret, plan},
    secrets::Secrets,
    spec::{DeliveryVerdict, Offered, PullSecretSpec, says_the_same},
    watch::{NamespaceEvent, follow},
    worker::{DeliveryReport, DeliveryStep, News, work},
};
use crate::{
    kubernetes::watches::WatchPool,
    observability::metrics::Metrics,
    queue::{Queue, QueueLimits},
    tenancy::{audience::Audience, audiences::Audiences},
};

/// Namespaces that are written to at the same time.
const PLACES: usize = 16;
/// Sights that wait to be taken in; a watch that is faster waits.
const SIGHTS: usize = 256;
/// How often it is looked whether there is something to tell.
const TICK: Duration = Duration::from_millis(200);
/// Counts are told when the work is done, or after this time.
const AT_THE_LATEST: Duration = Duration::from_secs(5);
/// After this time a deleted registry waits for its Secrets no longer: what is left of them is removed when that becomes
/// possible. With the time that a new leader takes to be one, it makes less than half a minute.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the delivery reports to the controller of registries.
#[derive(Debug)]
pub enum PullSecretChange {
    /// What the status of these registries says of their availability may be outdated.
    Counts(Vec<RegistryKey>),
    /// The pull Secrets of a registry that is being deleted are gone.
    Removed(RegistryKey),
}

/// The delivery, before it runs.
pub struct Delivery {
    client: Client,
    watches: Arc<WatchPool>,
    availability: Arc<PullSecrets>,
    metrics: Metrics,
    inbox: mpsc::UnboundedReceiver<DeliveryEvent>,
}

impl Delivery {
    pub(super) fn new(
        (client, watches): (Client, Arc<WatchPool>),
        availability: Arc<PullSecrets>,
        metrics: Metrics,
        inbox: mpsc::UnboundedReceiver<DeliveryEvent>,
    ) -> Self {
        Self { client, watches, availability, metrics, inbox }
    }

    /// Runs until dropped. Everything that it started ends with it.
    pub async fn run(mut self, changes: mpsc::Sender<PullSecretChange>) {
        let (sights, mut seen) = mpsc::channel(SIGHTS);
        let mut controller = DeliveryController::new(&self, changes, sights);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            controller.start_workers();
            let due = controller.queue.next_due();
            tokio::select! {
                Some(told) = self.inbox.recv() => controller.handle(told),
                Some(sight) = seen.recv() => controller.observe(sight),
                Some(report) = controller.workers.join_next() => controller.complete(report),
                () = crate::queue::until(due) => {}
                _ = tick.tick() => controller.notify(),
            }
        }
    }
}

struct DeliveryController {
    client: Client,
    watches: Arc<WatchPool>,
    availability: Arc<PullSecrets>,
    metrics: Metrics,
    changes: mpsc::Sender<PullSecretChange>,
    sights: mpsc::Sender<NamespaceEvent>,
    offers: Offers,
    /// Which of them are for whom.
    audiences: Audiences,
    /// Those whose Secrets are to go.
    clearing: HashSet<RegistryKey>,
    /// Registries that can't be read, with their uids.
    unreadable: HashMap<RegistryKey, Arc<str>>,
    places: NamespaceStates,
    /// Namespaces, by tenant. No registry is asked.
    queue: Queue<Arc<str>, Arc<str>, NoHost>,
    workers: JoinSet<DeliveryReport>,
    synced: bool,
    /// Since when something may have to be told.
    untold: Option<Instant>,
}

impl DeliveryController {
    fn new(
        delivery: &Delivery,
        changes: mpsc::Sender<PullSecretChange>,
        sights: mpsc::Sender<NamespaceEvent>,
    ) -> Self {
        Self {
            client: delivery.client.clone(),
            watches: delivery.watches.clone(),
            availability: delivery.availability.clone(),
            metrics: delivery.metrics.clone(),
            changes,
            sights,
            offers: Offers::new(),
            audiences: Audiences::default(),
            clearing: HashSet::new(),
            unreadable: HashMap::new(),
            places: NamespaceStates::default(),
            queue: Queue::new(QueueLimits { places: PLACES, at_a_host: PLACES }),
            workers: JoinSet::new(),
            synced: false,
            untold: None,
        }
    }

    fn handle(&mut self, told: DeliveryEvent) {
        match told {
            DeliveryEvent::Offer(offer) => self.spec_changed(*offer),
            DeliveryEvent::Unreadable(key, uid) => {
                self.unreadable.insert(key.clone(), uid);
                self.withdrawn(&key);
            }
            DeliveryEvent::Gone(key) => self.gone(&key),
            DeliveryEvent::Verdict(key, verdict) => self.verdict_changed(&key, verdict),
            DeliveryEvent::Namespace(namespace) => self.namespace(&namespace),
            DeliveryEvent::Left(namespace) => self.left(&namespace),
            DeliveryEvent::Synced => self.synced = true,
        }
    }

    fn gone(&mut self, key: &RegistryKey) {
        if let Some(uid) = self.unreadable.remove(key) {
            self.affected(&uid, &Audience::All);
        }
        self.withdrawn(key);
    }

    fn spec_changed(&mut self, offer: PullSecretSpec) {
        let key = offer.key.clone();
        if let Some(uid) = self.unreadable.remove(&key) {
            self.affected(&uid, &offer.audience);
        }
        if self.offers.get(&key).is_some_and(|before| before.offer == offer) {
            return;
        }
        // A verdict on a predecessor of the same name is none on this one.
        let before = self.withdrawn(&key).filter(|before| before.offer.uid == offer.uid);
        if offer.is_clearing() {
            let since = before.as_ref().and_then(|before| before.clearing).unwrap_or_else(Instant::now);
            self.insert(offer, None, Some(since));
        } else if offer.name.is_some() {
            self.insert(offer, before.and_then(|before| before.verdict), None);
        }
    }

    fn insert(&mut self, offer: PullSecretSpec, verdict: Option<DeliveryVerdict>, clearing: Option<Instant>) {
        let (key, uid, audience) = (offer.key.clone(), offer.uid.clone(), offer.audience.clone());
        self.audiences.insert(&key, &audience);
        if clearing.is_some() {
            self.clearing.insert(key.clone());
        }
        self.offers.insert(key, Offered { offer, verdict, clearing });
        self.affected(&uid, &audience);
    }

    fn withdrawn(&mut self, key: &RegistryKey) -> Option<Offered> {
        let gone = self.offers.remove(key)?;
        self.audiences.remove(key, &gone.offer.audience);
        self.clearing.remove(key);
        self.affected(&gone.offer.uid, &gone.offer.audience);
        Some(gone)
    }

    fn verdict_changed(&mut self, key: &RegistryKey, verdict: DeliveryVerdict) {
        let Some(offered) = self.offers.get_mut(key).filter(|offered| offered.offer.uid == verdict.uid)
        else {
            return;
        };
        let before = offered.holding();
        offered.verdict = Some(verdict);
        if !says_the_same(&before, &offered.holding()) {
            let (uid, audience) = (offered.offer.uid.clone(), offered.offer.audience.clone());
            self.affected(&uid, &audience);
        }
    }

    /// Looks again at the namespaces that such a registry reaches, and at those that have a Secret of its.
    fn affected(&mut self, uid: &Arc<str>, audience: &Audience) {
        let mut names: HashSet<Arc<str>> = self.places.with_secret_of(uid).cloned().collect();
        match audience {
            Audience::All => names.extend(self.places.of_tenants().cloned()),
            Audience::Listed(tenants) => {
                names.extend(tenants.iter().flat_map(|tenant| self.places.of_tenant(tenant)).cloned());
            }
            Audience::TenantOf(namespace) => {
                let tenant = self.availability.access.open_tenant(namespace);
                names.extend(tenant.iter().flat_map(|tenant| self.places.of_tenant(tenant)).cloned());
            }
        }
        for name in names {
            self.now(&name);
        }
        self.untold.get_or_insert_with(Instant::now);
    }

    fn namespace(&mut self, name: &Arc<str>) {
        let before = self.places.get(name).and_then(|place| place.tenant().cloned());
        let after = self.availability.access.open_tenant(name);
        match &after {
            Some(tenant) => match self.places.get_mut(name).filter(|place| place.tenant().is_some()) {
                Some(place) => {
                    place.belongs = Ownership::To(tenant.clone());
                    self.places.changed(name, &self.offers);
                }
                None => {
                    self.places.insert(
                        name,
                        NamespaceState::new(Ownership::To(tenant.clone())),
                        &self.offers,
                    );
                }
            },
            None => self.forget(name),
        }
        self.now(name);
        self.untold.get_or_insert_with(Instant::now);
        if before != after {
            self.changed_hands(name, &[before, after]);
        }
    }

    /// The registries in a namespace are for the tenant whose it is.
    fn changed_hands(&mut self, name: &Arc<str>, tenants: &[Option<Arc<str>>; 2]) {
        if self.audiences.in_namespace(name).next().is_none() {
            return;
        }
        let names: Vec<Arc<str>> =
            tenants.iter().flatten().flat_map(|tenant| self.places.of_tenant(tenant)).cloned().collect();
        for name in names {
            self.now(&name);
        }
    }

    fn forget(&mut self, name: &Arc<str>) {
        self.places.remove(name, &self.offers);
        self.queue.forget(name);
    }

    fn left(&mut self, name: &Arc<str>) {
        if self.availability.access.open_tenant(name).is_none() {
            self.places.insert(name, NamespaceState::new(Ownership::Left), &self.offers);
            self.now(name);
        }
    }

    fn observe(&mut self, NamespaceEvent { namespace, what }: NamespaceEvent) {
        let Some(place) = self.places.get_mut(&namespace).filter(|place| place.watch.is_some()) else {
            return;
        };
        self.untold.get_or_insert_with(Instant::now);
        place.observe(what);
        let patience = place.backoff_when_failed();
        self.places.changed(&namespace, &self.offers);
        match patience {
            None => self.now(&namespace),
            Some(pause) => self.later(&namespace, pause),
        }
    }

    fn now(&mut self, name: &Arc<str>) {
        if let Some(place) = self.places.get(name) {
            self.queue.now(name, &place.lane(name), Instant::now());
        }
    }

    fn later(&mut self, name: &Arc<str>, pause: Duration) {
        if let Some(place) = self.places.get(name) {
            self.queue.at(name, &place.lane(name), Instant::now() + pause);
        }
    }

    fn start_workers(&mut self) {
        if !self.synced {
            return;
        }
        while let Some((name, _)) = self.queue.next(Instant::now()) {
            let step = self.step(&name);
            self.places.changed(&name, &self.offers);
            if let Some(step) = step {
                self.start(name, step);
            } else {
                let again = self.places.get(&name).and_then(NamespaceState::next_check);
                self.queue.done(&name, Instant::now(), again);
            }
        }
    }

    /// What is to be done in a namespace, if anything.
    fn step(&mut self, name: &Arc<str>) -> Option<DeliveryStep> {
        let Ownership::To(tenant) = self.places.get(name)?.belongs.clone() else {
            return Some(DeliveryStep::Leave);
        };
        let wishes = self.wishes(&tenant);
        let follow = || self.follow(name);
        let watch = (!wishes.is_empty() && !self.places.get(name)?.is_watched()).then(follow);
        let place = self.places.get_mut(name)?;
        if let Some(watch) = watch {
            // What was seen without a watch is not vouched for: it lists first.
            place.watch = Some(watch);
            place.scene = None;
        }
        let foreign = place.foreign();
        let Some(scene) = &mut place.scene else {
            place.standings =
                wishes.iter().map(|wish| (wish.registry.clone(), DeliveryState::Away)).collect();
            return wishes.is_empty().then_some(DeliveryStep::Look);
        };
        scene.foreign = foreign;
        scene.remember(std::mem::take(&mut place.held), &wishes);
        place.held = scene.held.clone();
        scene.unreadable = self.unreadable.values().cloned().collect();
        let DeliveryPlan { actions, standings } = plan(&wishes, scene);
        place.standings = standings;
        place.keep_checks(&wishes);
        if wishes.is_empty() && actions.is_empty() {
            place.unwatch();
        }
        let now = Instant::now();
        let (actions, news) = place.afford(name, actions, now);
        let checks = place.due_checks();
        if news {
            self.untold.get_or_insert(now);
        }
        (!actions.is_empty() || !checks.is_empty()).then_some(DeliveryStep::Work(actions, checks))
    }

    fn wishes(&self, tenant: &Arc<str>) -> Vec<DesiredSecret> {
        self.availability.access.with_tenant_index(|index| {
            let reached = self.audiences.of_tenant(tenant, index.namespaces_of(tenant));
            reached.filter_map(|key| self.offers.get(key)?.wish()).collect()
        })
    }

    fn follow(&self, name: &Arc<str>) -> AbortHandle {
        let access = self.availability.access.clone();
        let watch = follow(self.watches.clone(), access, name.clone(), self.sights.clone());
        tokio::spawn(watch).abort_handle()
    }

    fn start(&mut self, namespace: Arc<str>, step: DeliveryStep) {
        let access = self.availability.access.clone();
        let secrets = Secrets::of(self.client.clone(), access, namespace.clone());
        let metrics = self.metrics.clone();
        self.workers.spawn(async move { work(&secrets, namespace, step, &metrics).await });
    }

    fn complete(&mut self, report: Result<DeliveryReport, JoinError>) {
        let DeliveryReport { namespace, news, error } = match report {
            Ok(report) => report,
            Err(error) => return tracing::error!(%error, "a pull Secret worker failed"),
        };
        self.untold.get_or_insert_with(Instant::now);
        let now = Instant::now();
        if matches!((&news, self.places.get(&namespace)), (News::Gone, Some(place)) if place.belongs == Ownership::Left)
        {
            self.places.remove(&namespace, &self.offers);
        }
        let Some(place) = self.places.get_mut(&namespace) else {
            return self.queue.done(&namespace, now, None);
        };
        place.learn(news, now);
        let again = place.failed(&namespace, error.as_ref());
        self.places.changed(&namespace, &self.offers);
        self.queue.done(&namespace, now, again.or(Some(Duration::ZERO)));
    }

    /// Tells what has changed: that a registry's Secrets are gone at once, counts when there is nothing more to be done.
    fn notify(&mut self) {
        self.notify_removed();
        let Some(since) = self.untold else { return };
        let busy = self.queue.depth() + self.queue.in_flight() > 0;
        if !self.synced || (busy && since.elapsed() < AT_THE_LATEST) {
            return;
        }
        let tallies = self.places.take_unreported();
        let keys: Vec<RegistryKey> = tallies.iter().map(|(key, _)| key.clone()).collect();
        self.metrics.pull_secrets(self.places.there());
        self.availability.count(tallies);
        match self.changes.try_send(PullSecretChange::Counts(keys.clone())) {
            Ok(()) => self.untold = None,
            Err(_) => self.places.mark_unreported(keys),
        }
    }

    fn notify_removed(&mut self) {
        if !self.synced {
            return;
        }
        for Offered { offer, clearing, .. } in self.clearing.iter().filter_map(|key| self.offers.get(key)) {
            let cleared = self.places.is_without(&offer.uid);
            if !cleared && clearing.is_some_and(|since| since.elapsed() < PATIENCE) {
                continue;
            }
            if self.availability.mark_removed(&offer.uid) && !cleared {
                tracing::warn!(registry = %offer.key, "pull Secrets not all deleted in time; deleting the rest \
                    later");
            }
            // Told again with the next tick, if the controller has no ear for it now.
            let _ = self.changes.try_send(PullSecretChange::Removed(offer.key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use registry_api::{RegistrySpec, TenantRegistry};

    use super::*;
    use crate::{kubernetes::http2::Http2ClientPool, settings::TenantAccess, tenancy::access::Access};
    use registry_verdict::object::RegistryObject;

    /// An API server that knows the operator, and nothing else.
    fn client() -> Client {
        Client::new(
            tower::service_fn(|_: http::Request<kube::client::Body>| async {
                let answer = br#"{"metadata": {}, "status": {"userInfo": {"username": "operator"}}}"#;
                let body = http_body_util::Full::new(bytes::Bytes::from_static(answer));
                Ok::<_, std::convert::Infallible>(http::Response::new(body))
            }),
            "default",
        )
    }

    /// So many tenants, each with a namespace, and a registry there that asks for a pull Secret.
    async fn with_tenants(count: usize) -> DeliveryController {
        let (client, metrics) = (client(), Metrics::new());
        let access =
            Arc::new(Access::new(client.clone(), TenantAccess::Bound, "registry-system").await.unwrap());
        let config = Config::new("http://127.0.0.1:1".parse().unwrap());
        let clients = Http2ClientPool::new(config, metrics.clone(), client.clone());
        let watches = Arc::new(WatchPool::new(clients, || 0.5));
        let (_, delivery) = PullSecrets::start(client, watches, access.clone(), metrics);
        let (changes, sights) = (mpsc::channel(1).0, mpsc::channel(1).0);
        let mut controller = DeliveryController::new(&delivery, changes, sights);
        controller.synced = true;
        for number in 0..count {
            access.labelled(namespace(number), format!("tenant-{number}").into());
            controller.namespace(&namespace(number));
            controller.spec_changed(offer(number, 1));
            look(&mut controller, number);
        }
        controller
    }

    fn namespace(number: usize) -> Arc<str> {
        format!("ns-{number}").into()
    }

    fn offer(number: usize, generation: i64) -> PullSecretSpec {
        let spec = RegistrySpec {
            endpoint: "https://registry.example".to_owned(),
            availability: serde_json::from_value(serde_json::json!({"pullSecret": {"name": "pull"}}))
                .unwrap(),
            ..RegistrySpec::default()
        };
        let mut registry = TenantRegistry::new("packs", spec);
        registry.metadata.namespace = Some(namespace(number).to_string());
        registry.metadata.uid = Some(format!("uid-{number}"));
        registry.metadata.generation = Some(generation);
        PullSecretSpec::of(&RegistryObject::of(registry))
    }

    fn look(controller: &mut DeliveryController, number: usize) {
        controller.step(&namespace(number));
        controller.places.changed(&namespace(number), &controller.offers);
    }

    /// The time that a hundred changes of a registry, and of whose its namespace is, take.
    fn time_of_changes(controller: &mut DeliveryController, generation: i64) -> Duration {
        let began = Instant::now();
        for number in 0..100 {
            controller.spec_changed(offer(number, generation));
            controller.namespace(&namespace(number));
            look(controller, number);
        }
        let told = controller.places.take_unreported();
        assert!(told.len() <= 100, "{} registries were touched", told.len());
        began.elapsed()
    }

    #[tokio::test]
    async fn change_touches_only_affected_namespaces() {
        let (mut few, mut many) = (with_tenants(100).await, with_tenants(10_000).await);
        few.places.take_unreported();
        many.places.take_unreported();
        let least = |controller: &mut DeliveryController| {
            (2..12).map(|generation| time_of_changes(controller, generation)).min().unwrap_or_default()
        };
        let (with_few, with_many) = (least(&mut few), least(&mut many));
        assert!(with_many < with_few * 10, "{with_few:?} with 100 tenants, {with_many:?} with 10,000");
    }

    #[tokio::test]
    async fn change_wakes_namespaces_of_its_tenant_only() {
        let mut controller = with_tenants(100).await;
        while let Some((name, _)) = controller.queue.next(Instant::now()) {
            controller.queue.done(&name, Instant::now(), None);
        }
        controller.spec_changed(offer(7, 2));
        assert_eq!(controller.queue.depth(), 1);
        assert_eq!(controller.queue.next(Instant::now()).map(|(name, _)| name), Some(namespace(7)));
    }
}
