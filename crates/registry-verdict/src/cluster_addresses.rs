//! The cluster's own addresses, which tenants' registries must not reach: the API servers' and those of Services. No
//! I/O.
//!
//! Owns whether they are known. Until each kind is, the operator doesn't connect to tenants' registries, so that a
//! missing permission opens nothing. The operator's `tenancy` learns them; `validate` puts them in the egress policy.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use k8s_openapi::api::{discovery::v1::EndpointSlice, networking::v1::ServiceCIDR};
use kube::Config;
use registry_probe::IpNet;
use tokio::sync::watch;

/// The EndpointSlice with the API servers' addresses, in the namespace `default`.
pub const API_SERVER: &str = "kubernetes";

/// The cluster's own addresses. Clones share them.
#[derive(Clone, Debug)]
pub struct ClusterAddresses {
    told: Arc<[IpNet]>,
    /// Whether an administrator or the configuration provided the ranges of Services.
    services_are_told: bool,
    known: Arc<RwLock<KnownAddresses>>,
    complete: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
struct KnownAddresses {
    services: Knowledge,
    servers: Knowledge,
    all: Arc<[IpNet]>,
}

/// What is known about one kind of address.
#[derive(Clone, Debug)]
pub enum Knowledge {
    /// Nothing, for this reason.
    Missing(Arc<str>),
    /// This API server doesn't expose them.
    Unsaid,
    /// All of them.
    Known(Vec<IpNet>),
}

/// The result of asking the API server. The error says what failed and why.
pub type LearnedAddresses = Result<Knowledge, String>;

impl Knowledge {
    /// Records a result. A failure doesn't change what is known, so a tenant gains nothing by an outage.
    fn learn(&mut self, answer: LearnedAddresses) {
        match answer {
            Ok(news) => *self = news,
            Err(error) => {
                tracing::warn!(error, "failed to read the cluster's own addresses, retrying");
                if let Self::Missing(why) = self {
                    *why = error.into();
                }
            }
        }
    }

    fn addresses(&self) -> &[IpNet] {
        match self {
            Self::Known(addresses) => addresses,
            Self::Missing(_) | Self::Unsaid => &[],
        }
    }

    fn missing(&self) -> Option<&Arc<str>> {
        match self {
            Self::Missing(why) => Some(why),
            Self::Unsaid | Self::Known(_) => None,
        }
    }
}

impl ClusterAddresses {
    /// Exactly these addresses.
    pub fn new(told: impl Into<Arc<[IpNet]>>) -> Self {
        Self::with(told.into(), Knowledge::Known(Vec::new()))
    }

    fn with(told: Arc<[IpNet]>, others: Knowledge) -> Self {
        let known = KnownAddresses { services: others.clone(), servers: others, all: told.clone() };
        let complete = watch::Sender::new(known.services.missing().is_none());
        Self { told, services_are_told: false, known: Arc::new(RwLock::new(known)), complete }
    }

    /// The addresses in the configuration and environment of a Pod, until the others are known.
    pub fn told_by(config: &Config, service_host: Option<&str>) -> Self {
        let hosts = config.cluster_url.host().into_iter().chain(service_host);
        let addresses = hosts.filter_map(|host| address(host.trim_matches(['[', ']'])));
        Self::with(addresses.collect(), Knowledge::Missing("not read yet".into()))
    }

    /// Adds the ranges of Services that the administrator provided, if any.
    #[must_use]
    pub fn with_service_ranges(mut self, ranges: &[IpNet]) -> Self {
        self.told = self.told.iter().chain(ranges).copied().collect();
        self.services_are_told = !ranges.is_empty();
        self.write(|_| ());
        self
    }

    /// Returns all addresses that are known so far.
    pub fn all(&self) -> Arc<[IpNet]> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// Returns why tenants can't be kept away from all addresses yet; `None` if they can.
    pub fn gap(&self) -> Option<Arc<str>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let services = known.services.missing().filter(|_| !self.services_are_told);
        services.or_else(|| known.servers.missing()).cloned()
    }

    /// Waits until there is no gap.
    pub async fn completed(&self) {
        // The sender belongs to this object, so it can't be closed.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// Records what the API server answered about the ranges of Services and about its own addresses.
    pub fn learn(&self, services: LearnedAddresses, servers: LearnedAddresses) {
        self.write(|known| {
            known.services.learn(services);
            known.servers.learn(servers);
        });
        self.complete.send_replace(self.gap().is_none());
    }

    /// Returns whether the ranges of Services are known, and whether the API servers' addresses are.
    pub fn are_known(&self) -> (bool, bool) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_known = |knowledge: &Knowledge| matches!(knowledge, Knowledge::Known(_));
        (self.services_are_told || is_known(&known.services), is_known(&known.servers))
    }

    /// Returns whether the API server doesn't expose the ranges of Services, and the administrator didn't provide them.
    pub fn services_are_unsaid(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        matches!(known.services, Knowledge::Unsaid) && !self.services_are_told
    }

    fn write(&self, change: impl FnOnce(&mut KnownAddresses)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let learnt = known.services.addresses().iter().chain(known.servers.addresses());
        known.all = self.told.iter().chain(learnt).copied().collect();
    }
}

/// Returns the address ranges of Services.
pub fn service_ranges(ranges: Vec<ServiceCIDR>) -> Knowledge {
    let ranges = ranges.into_iter().filter_map(|range| range.spec?.cidrs).flatten();
    Knowledge::Known(ranges.filter_map(|range| range.parse().ok()).collect())
}

/// Returns the API servers' addresses in their EndpointSlice.
pub fn server_addresses(slice: Option<EndpointSlice>) -> Knowledge {
    let endpoints = slice.map(|slice| slice.endpoints).unwrap_or_default();
    let addresses = endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    Knowledge::Known(addresses.filter_map(|text| address(text)).collect())
}

/// Parses an address. Ignores a loopback address, for which the egress policy has its own rule.
fn address(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().ok()?;
    (!address.is_loopback()).then(|| IpNet::from(address))
}

#[cfg(test)]
mod tests;
