//! Who can use a registry, and how they get its credentials: `spec.availability`, its counts in the status, and the
//! pull Secrets in tenants' namespaces.
//!
//! Owns those Secrets, from validated credentials to removal. Doesn't decide whether credentials are validated
//! (`assess` does), and doesn't write a status (`reconcile` does, with [`PullSecrets::report`]).
//!
//! - `namespace_states`: the namespaces by tenant and by registry, so that an event only costs what it affects. Pure.
//! - [`plan`]: the writes in one namespace. Pure.
//! - [`secret`]: the content of a pull Secret.
//! - `managed_fields`: which fields of a pull Secret are the operator's. Pure.
//! - [`controller`]: decides which namespace is next; `worker` does the work, `watch` watches.

mod budget;
pub mod controller;
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
};

use kube::Client;
use registry_api::{RegistryStatus, status::AvailabilityStatus};
use registry_probe::Credentials;
use registry_verdict::{
    assess::{AvailabilityReport, ValidationOutcome},
    object::{RegistryKey, RegistryObject},
};
use tokio::sync::mpsc;

pub use self::{
    controller::{Delivery, PullSecretChange},
    secrets::{After, DeliveryError},
};
use self::{
    note::Tally,
    spec::{DeliveryVerdict, PullSecretSpec, holding, pull_secret},
};
use crate::{
    kubernetes::watches::WatchPool,
    observability::metrics::Metrics,
    tenancy::{access::Access, audience::Audience},
};
pub use note::sample_notes;

/// The interface of the delivery for the rest of the operator.
pub struct PullSecrets {
    access: Arc<Access>,
    told: mpsc::UnboundedSender<DeliveryEvent>,
    known: Mutex<DeliveryKnowledge>,
}

#[derive(Default)]
struct DeliveryKnowledge {
    tallies: HashMap<RegistryKey, Tally>,
    removed: HashSet<Arc<str>>,
}

/// An event for the delivery.
enum DeliveryEvent {
    Offer(Box<PullSecretSpec>),
    Unreadable(RegistryKey, Arc<str>),
    Gone(RegistryKey),
    Verdict(RegistryKey, DeliveryVerdict),
    Namespace(Arc<str>),
    Left(Arc<str>),
    Synced,
}

impl PullSecrets {
    /// Creates the delivery. Nothing is delivered before it runs.
    pub fn start(
        client: Client,
        watches: Arc<WatchPool>,
        access: Arc<Access>,
        metrics: Metrics,
    ) -> (Arc<Self>, Delivery) {
        let (told, inbox) = mpsc::unbounded_channel();
        let availability = Arc::new(Self { access, told, known: Mutex::default() });
        (availability.clone(), Delivery::new((client, watches), availability, metrics, inbox))
    }

    /// A registry exists, in this state.
    pub fn observe(&self, object: &RegistryObject) {
        let offer = PullSecretSpec::of(object);
        if !offer.is_clearing() {
            self.lock().removed.remove(&offer.uid);
        }
        self.send(DeliveryEvent::Offer(Box::new(offer)));
    }

    /// A registry exists and can't be parsed. What it wants isn't known, so its Secrets stay.
    pub fn unreadable(&self, object: &RegistryObject) {
        self.send(DeliveryEvent::Unreadable(object.key.clone(), object.uid.as_str().into()));
    }

    /// A registry is gone.
    pub fn gone(&self, key: &RegistryKey, uid: &str) {
        let mut known = self.lock();
        known.removed.remove(uid);
        known.tallies.remove(key);
        drop(known);
        self.send(DeliveryEvent::Gone(key.clone()));
    }

    /// A registry was validated with these credentials.
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
        if let Some(holding) = holding(object, status, outcome, used) {
            let verdict =
                DeliveryVerdict { uid: object.uid.as_str().into(), generation: object.generation, holding };
            self.send(DeliveryEvent::Verdict(object.key.clone(), verdict));
        }
    }

    /// A namespace now belongs to a tenant, or no longer, or is being deleted.
    pub fn namespace(&self, namespace: &Arc<str>) {
        self.send(DeliveryEvent::Namespace(namespace.clone()));
    }

    /// A namespace exists without a tenant, and the operator is still bound there.
    pub fn left(&self, namespace: Arc<str>) {
        self.send(DeliveryEvent::Left(namespace));
    }

    /// All registries and all namespaces of tenants have been listed.
    pub fn synced(&self) {
        self.send(DeliveryEvent::Synced);
    }

    /// Returns whether a registry that is being deleted, or no longer wants pull Secrets, has none left.
    pub fn are_removed(&self, uid: &str) -> bool {
        self.lock().removed.contains(uid)
    }

    /// Returns what the status says about a registry's availability.
    pub fn report(&self, object: &RegistryObject) -> AvailabilityReport {
        let reach = self.access.with_tenant_index(|index| index.reach(&Audience::of(object)));
        let tally = self.lock().tallies.get(&object.key).cloned().unwrap_or_default();
        let asks = pull_secret(object);
        let counts = AvailabilityStatus {
            tenants: i64::try_from(reach.tenants).ok(),
            namespaces: i64::try_from(reach.namespaces).ok(),
            pull_secrets: asks.map(|_| i64::try_from(tally.there).unwrap_or(i64::MAX)),
        };
        AvailabilityReport { counts, note: note::note(&object.key, asks, &reach, &tally) }
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

    /// Sends an event. After the controller has stopped, nobody receives it.
    fn send(&self, told: DeliveryEvent) {
        let _ = self.told.send(told);
    }

    fn lock(&self) -> MutexGuard<'_, DeliveryKnowledge> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
