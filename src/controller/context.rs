//! What every reconciliation works with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use registry_probe::{Endpoint, HostPort, Prober};
use registry_verdict::{
    ecr::EcrTokens,
    object::{Group, RegistryObject},
    rejections::{FinishingValidations, Rejections},
    steps::Askers,
    validate::AdminPolicy,
};

use super::{events::Events, quota::Quota, references::References};
use crate::{
    kubernetes::watches::WatchPool, observability::metrics::Metrics, pull_secrets::PullSecrets, queue,
    tenancy::access::Access,
};

/// The lane in which a registry waits for its turn.
pub type RegistryLane = queue::Lane<Group, HostPort>;

/// What every reconciliation works with.
pub struct Context {
    /// The client for the API server.
    pub client: Client,
    /// The watches.
    pub watches: Arc<WatchPool>,
    /// The namespace of the Secrets and ConfigMaps that SystemRegistries refer to.
    pub system_namespace: String,
    /// The administrator's settings for validations.
    pub admin_policy: AdminPolicy,
    /// Which namespace belongs to which tenant.
    pub access: Arc<Access>,
    /// The Secrets and ConfigMaps that registries refer to.
    pub references: Arc<References>,
    /// The delivery of pull Secrets.
    pub pull_secrets: Arc<PullSecrets>,
    /// Probes registries.
    pub prober: Prober,
    /// Tokens from AWS; none in a build without AWS.
    pub tokens: Option<Arc<EcrTokens>>,
    /// Credentials that registries rejected.
    pub rejections: Arc<Rejections>,
    /// Superseded validations whose result for their credentials is still needed.
    pub finishing: FinishingValidations,
    /// Which registries of each tenant are validated.
    pub quota: Mutex<Quota>,
    /// Sends an Event when the verdict on a registry changes.
    pub events: Events,
    /// The operator's metrics.
    pub metrics: Metrics,
    /// Returns the wall-clock time.
    pub clock: fn() -> Timestamp,
    /// Returns a random number from 0 to 1.
    pub jitter: fn() -> f64,
}

impl Context {
    /// Returns the quota of registries, locked.
    pub fn quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tenant of the registry's namespace; none in the system scope and in a namespace without a tenant.
    pub fn tenant(&self, object: &RegistryObject) -> Option<Arc<str>> {
        self.access.tenant(object.key.namespace()?)
    }

    /// Returns the group with which a registry shares its turns and its rejected credentials.
    pub fn group(&self, object: &RegistryObject) -> Group {
        object.key.group(self.tenant(object))
    }

    /// Returns the lane of a registry as it is now. The host is that of the registry; work that doesn't contact the registry,
    /// because it is being deleted or suspended or has no valid endpoint, waits for no host.
    pub fn lane(&self, object: &RegistryObject) -> RegistryLane {
        let is_asked = !object.deleting && !object.spec.suspend;
        let endpoint = is_asked.then(|| Endpoint::parse(&object.spec.endpoint).ok()).flatten();
        let host = endpoint.map(|endpoint| endpoint.server().clone());
        RegistryLane { group: self.group(object), host }
    }

    /// Returns the clients for registries and AWS.
    pub fn askers(&self) -> Askers {
        Askers { prober: self.prober.clone(), tokens: self.tokens.clone(), now: (self.clock)() }
    }
}
