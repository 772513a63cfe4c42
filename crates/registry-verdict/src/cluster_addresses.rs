//! The cluster's own addresses, which no tenant's endpoint may lead to: the API server's, and those of Services.
//!
//! Owns whether they are known: until each kind has been learnt, tenants' registries are not connected to, so that a missing
//! right opens nothing. Who learns them is the operator's `tenancy`; that they are denied is `validate`'s. No I/O.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use kube::Config;
use registry_probe::IpNet;
use tokio::sync::watch;

/// The cluster's own addresses. Cheap to clone; all clones see what is learnt.
#[derive(Clone, Debug)]
pub struct ClusterAddresses {
    told: Arc<[IpNet]>,
    /// Whether the ranges of Services are among those that were told.
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

/// What is known of one kind of address.
#[derive(Clone, Debug)]
pub enum Knowledge {
    /// Nothing, for this reason.
    Missing(Arc<str>),
    /// This API server can't say.
    Unsaid,
    /// All of them.
    Known(Vec<IpNet>),
}

/// What the API server answered. The error says what failed and why.
pub type LearnedAddresses = Result<Knowledge, String>;

impl Knowledge {
    /// What is known stays so when it can't be asked for: a tenant gains nothing by an outage.
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
    /// Those addresses, and no others.
    pub fn new(told: impl Into<Arc<[IpNet]>>) -> Self {
        Self::with(told.into(), Knowledge::Known(Vec::new()))
    }

    fn with(told: Arc<[IpNet]>, others: Knowledge) -> Self {
        let known = KnownAddresses { services: others.clone(), servers: others, all: told.clone() };
        let complete = watch::Sender::new(known.services.missing().is_none());
        Self { told, services_are_told: false, known: Arc::new(RwLock::new(known)), complete }
    }

    /// What the configuration and the environment of a Pod tell of the API server, until the rest is learnt.
    pub fn told_by(config: &Config, service_host: Option<&str>) -> Self {
        let hosts = config.cluster_url.host().into_iter().chain(service_host);
        let addresses = hosts.filter_map(|host| address(host.trim_matches(['[', ']'])));
        Self::with(addresses.collect(), Knowledge::Missing("not read yet".into()))
    }

    /// With the ranges of Services as the administrator gave them, if any.
    #[must_use]
    pub fn with_service_ranges(mut self, ranges: &[IpNet]) -> Self {
        self.told = self.told.iter().chain(ranges).copied().collect();
        self.services_are_told = !ranges.is_empty();
        self.write(|_| ());
        self
    }

    /// All that are known by now.
    pub fn all(&self) -> Arc<[IpNet]> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// Why tenants can't be kept away from all of them yet; none when they can be.
    pub fn gap(&self) -> Option<Arc<str>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let services = known.services.missing().filter(|_| !self.services_are_told);
        services.or_else(|| known.servers.missing()).cloned()
    }

    /// Waits until there is no gap.
    pub async fn completed(&self) {
        // The sender is this very object.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// Takes in what the API server answered of the two kinds: the ranges of Services, and its own addresses.
    pub fn learn(&self, services: LearnedAddresses, servers: LearnedAddresses) {
        self.write(|known| {
            known.services.learn(services);
            known.servers.learn(servers);
        });
        self.complete.send_replace(self.gap().is_none());
    }

    /// Whether the ranges of Services are known, and whether the API server's own addresses are.
    pub fn are_known(&self) -> (bool, bool) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_known = |knowledge: &Knowledge| matches!(knowledge, Knowledge::Known(_));
        (self.services_are_told || is_known(&known.services), is_known(&known.servers))
    }

    /// Whether the ranges of Services can't be learnt here, and nobody gave them.
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

/// The address in `text`. A loopback address is left to the egress policy's own rule, since it stands for many servers.
pub fn address(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().ok()?;
    (!address.is_loopback()).then(|| IpNet::from(address))
}

#[cfg(test)]
mod tests;
