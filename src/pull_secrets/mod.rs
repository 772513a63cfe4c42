//! Who can use a registry, and how they get its credentials: `spec.availability`, its counts in the status, and the
//! pull Secrets in tenants' namespaces.
//!
//! Owns those Secrets, from validated credentials to removal. Doesn't decide whether credentials are validated
//! (`assess` does), and doesn't write a status (`reconcile` does, with [`PullSecrets::report`]).
//!
//! - `budget`: how often a contested Secret is written. Pure.
//! - `controller`: decides which namespace is next.
//! - `managed_fields`: which fields of a pull Secret are the operator's. Pure.
//! - `namespace_state`: what is known about one namespace. Pure.
//! - `namespace_states`: the namespaces by tenant and by registry, so that an event only costs what it affects. Pure.
//! - `note`: the message about the pull Secrets of a registry. Pure.
//! - [`plan`]: the writes in one namespace. Pure.
//! - [`secret`]: the content of a pull Secret.
//! - `secrets`: reads and writes the Secrets of a namespace.
//! - `spec`: what a registry asks for. Pure.
//! - `watch`: watches the Secrets of a namespace.
//! - `worker`: the work on one namespace.

mod budget;
mod controller;
mod managed_fields;
mod namespace_state;
mod namespace_states;
mod note;
pub mod plan;
pub mod secret;
mod secrets;
mod spec;
mod watch;
mod worker;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use kube::Client;
use registry_api::{RegistryStatus, status::AvailabilityStatus};
use registry_probe::Credentials;
use registry_verdict::{
    assess::{AvailabilityReport, ValidationOutcome},
    object::{RegistryKey, RegistryObject},
};
use tokio::sync::mpsc;

pub use self::secrets::{After, DeliveryError};
use self::{
    controller::DeliveryController,
    note::Tally,
    spec::{DeliveryVerdict, PullSecretSpec, desired_content, pull_secret},
    watch::NamespaceEvent,
};
use crate::{
    kubernetes::watches::WatchPool,
    observability::metrics::Metrics,
    tenancy::{access::Access, audience::Audience},
    work_loop,
};
pub use note::sample_notes;

/// Events of watches that wait for the controller; a watch waits when there are more.
const EVENTS: usize = 256;
/// How often changes are reported to the controller of registries.
const TICK: Duration = Duration::from_millis(200);

/// What the delivery reports to the controller of registries.
#[derive(Debug)]
pub enum PullSecretChange {
    /// The counts in the status of these registries may be outdated.
    Counts(Vec<RegistryKey>),
    /// The pull Secrets of a registry that is being deleted are gone.
    Removed(RegistryKey),
}

/// The delivery, before it runs.
pub struct Delivery {
    client: Client,
    watches: Arc<WatchPool>,
    pull_secrets: Arc<PullSecrets>,
    metrics: Metrics,
    events: mpsc::UnboundedReceiver<DeliveryEvent>,
}

impl Delivery {
    /// Runs until dropped. Everything that it started ends with it.
    pub async fn run(self, changes: mpsc::Sender<PullSecretChange>) {
        let (watched, mut observed) = mpsc::channel(EVENTS);
        let controller = DeliveryController::new(&self, changes, watched);
        let mut events = self.events;
        let events = stream::select(
            stream::poll_fn(move |context| events.poll_recv(context)),
            stream::poll_fn(move |context| observed.poll_recv(context)).map(DeliveryEvent::Observed),
        );
        work_loop::run(controller, events, TICK).await;
    }
}

/// The rest of the operator's access to the delivery: reports what changes, and reads what is known of pull Secrets.
pub struct PullSecrets {
    access: Arc<Access>,
    events: mpsc::UnboundedSender<DeliveryEvent>,
    known: Mutex<DeliveryKnowledge>,
}

#[derive(Default)]
struct DeliveryKnowledge {
    tallies: HashMap<RegistryKey, Tally>,
    removed: HashSet<Arc<str>>,
}

/// An event for the delivery.
enum DeliveryEvent {
    /// A registry exists, and says this about its pull Secrets.
    Spec(Box<PullSecretSpec>),
    /// A registry exists, with that uid, and can't be read.
    Unreadable(RegistryKey, Arc<str>),
    /// A registry no longer exists.
    Gone(RegistryKey),
    /// A registry was validated.
    Verdict(RegistryKey, DeliveryVerdict),
    /// A namespace became, or ceased to be, a tenant's, or is being deleted.
    Namespace(Arc<str>),
    /// A namespace in which the operator still has a RoleBinding is no tenant's any more.
    Left(Arc<str>),
    /// The watch of a namespace observed something.
    Observed(NamespaceEvent),
    /// All registries and all namespaces of tenants were listed.
    Synced,
}

impl PullSecrets {
    /// Returns the access to a delivery that knows nothing yet, and the delivery, which does nothing before it runs.
    pub fn start(
        client: Client,
        watches: Arc<WatchPool>,
        access: Arc<Access>,
        metrics: Metrics,
    ) -> (Arc<Self>, Delivery) {
        let (sender, events) = mpsc::unbounded_channel();
        let pull_secrets = Arc::new(Self { access, events: sender, known: Mutex::default() });
        (pull_secrets.clone(), Delivery { client, watches, pull_secrets, metrics, events })
    }

    /// Notes a registry in a new state.
    pub fn observe(&self, object: &RegistryObject) {
        let spec = PullSecretSpec::of(object);
        if !spec.is_clearing() {
            self.lock().removed.remove(&spec.uid);
        }
        self.send(DeliveryEvent::Spec(Box::new(spec)));
    }

    /// Notes that a registry can't be read: it is unknown what it asks for, so its Secrets stay.
    pub fn unreadable(&self, object: &RegistryObject) {
        self.send(DeliveryEvent::Unreadable(object.key.clone(), object.uid.as_str().into()));
    }

    /// Notes that a registry is gone.
    pub fn gone(&self, key: &RegistryKey, uid: &str) {
        let mut known = self.lock();
        known.removed.remove(uid);
        known.tallies.remove(key);
        drop(known);
        self.send(DeliveryEvent::Gone(key.clone()));
    }

    /// Notes the result of a validation with these credentials.
    pub fn validated(
        &self,
        object: &RegistryObject,
        status: &RegistryStatus,
        outcome: ValidationOutcome,
        used: Option<&Credentials>,
    ) {
        if pull_secret(object).is_none() {
            return;
        }
        if let Some(content) = desired_content(object, status, outcome, used) {
            let verdict =
                DeliveryVerdict { uid: object.uid.as_str().into(), generation: object.generation, content };
            self.send(DeliveryEvent::Verdict(object.key.clone(), verdict));
        }
    }

    /// Notes that a namespace became, or ceased to be, a tenant's, or is being deleted.
    pub fn namespace(&self, namespace: &Arc<str>) {
        self.send(DeliveryEvent::Namespace(namespace.clone()));
    }

    /// Notes that a namespace in which the operator still has a RoleBinding is no tenant's any more.
    pub fn left(&self, namespace: Arc<str>) {
        self.send(DeliveryEvent::Left(namespace));
    }

    /// Notes that all registries and all namespaces of tenants were listed.
    pub fn synced(&self) {
        self.send(DeliveryEvent::Synced);
    }

    /// Whether a registry that is being deleted, or asks for no pull Secret any more, has none left.
    pub fn are_removed(&self, uid: &str) -> bool {
        self.lock().removed.contains(uid)
    }

    /// Returns who can use a registry now, and the state of its pull Secrets.
    pub fn report(&self, object: &RegistryObject) -> AvailabilityReport {
        let reach = self.access.with_tenant_index(|index| index.reach(&Audience::of(object)));
        let tally = self.lock().tallies.get(&object.key).cloned().unwrap_or_default();
        let asks = pull_secret(object);
        let counts = AvailabilityStatus {
            tenants: i64::try_from(reach.tenants).ok(),
            namespaces: i64::try_from(reach.namespaces).ok(),
            pull_secrets: asks.map(|_| i64::try_from(tally.there).unwrap_or(i64::MAX)),
        };
        AvailabilityReport { counts: Some(counts), note: note::note(&object.key, asks, &reach, &tally) }
    }

    fn count(&self, tallies: Vec<(RegistryKey, Tally)>) {
        let mut known = self.lock();
        for (key, tally) in tallies {
            if tally == Tally::default() {
                known.tallies.remove(&key);
            } else {
                known.tallies.insert(key, tally);
            }
        }
    }

    fn mark_removed(&self, uid: &Arc<str>) -> bool {
        self.lock().removed.insert(uid.clone())
    }

    /// Sends an event to the delivery, if it still runs.
    fn send(&self, event: DeliveryEvent) {
        let _ = self.events.send(event);
    }

    fn lock(&self) -> MutexGuard<'_, DeliveryKnowledge> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
