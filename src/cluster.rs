//! The cluster's own addresses, which no tenant's endpoint may lead to: the API server's, and those of Services.
//!
//! Owns where they are learnt, and whether they are known: until each kind has been, tenants' registries are not connected to, so
//! that a right that is missing opens nothing. That they are denied is `validate`'s, and that the denial holds the fence's.

mod service_ranges;

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use k8s_openapi::api::{discovery::v1::EndpointSlice, networking::v1::ServiceCIDR};
use kube::{Api, Client, Config, api::ListParams};
use registry_probe::IpNet;
use tokio::sync::watch;

use crate::{
    kubernetes::call::{CallError, CallFailure, call},
    metrics::Metrics,
};

/// The API server keeps its own addresses in an EndpointSlice of this name.
const API_SERVER: &str = "kubernetes";
/// New ranges for Services are rare, and made by administrators.
const REFRESH: Duration = Duration::from_mins(5);
/// While something is not known, tenants wait for it.
const RETRY: Duration = Duration::from_secs(5);

/// The cluster's own addresses. Cheap to clone; all clones see what is learnt.
#[derive(Clone, Debug)]
pub struct ClusterAddresses {
    told: Arc<[IpNet]>,
    /// Whether the ranges of Services are among those that were told.
    services_are_told: bool,
    known: Arc<RwLock<Known>>,
    complete: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
struct Known {
    services: Knowledge,
    servers: Knowledge,
    all: Arc<[IpNet]>,
}

/// What is known of one kind of address.
#[derive(Clone, Debug)]
enum Knowledge {
    /// Nothing, for this reason.
    Missing(Arc<str>),
    /// This API server can't say.
    Unsaid,
    Known(Vec<IpNet>),
}

/// What the API server answered. The error says what failed and why.
type Answer = Result<Knowledge, String>;

impl Knowledge {
    /// What is known stays so when it can't be asked for: a tenant gains nothing by an outage.
    fn learn(&mut self, answer: Answer) {
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
        let known = Known { services: others.clone(), servers: others, all: told.clone() };
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

    /// Asks the API server. `namespace` is the operator's own.
    pub async fn learn(&self, client: &Client, namespace: &str, metrics: &Metrics) {
        let (services, servers) = futures::join!(services(client, namespace), servers(client));
        self.write(|known| {
            known.services.learn(services);
            known.servers.learn(servers);
        });
        self.tell(metrics);
        self.complete.send_replace(self.gap().is_none());
    }

    fn write(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let learnt = known.services.addresses().iter().chain(known.servers.addresses());
        known.all = self.told.iter().chain(learnt).copied().collect();
    }

    fn tell(&self, metrics: &Metrics) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_known = |knowledge: &Knowledge| matches!(knowledge, Knowledge::Known(_));
        metrics.cluster_addresses_known("services", self.services_are_told || is_known(&known.services));
        metrics.cluster_addresses_known("api-servers", is_known(&known.servers));
    }

    /// Learns them again and again.
    pub async fn keep(&self, client: &Client, namespace: &str, metrics: &Metrics) {
        self.warn_of_unsaid_services();
        loop {
            tokio::time::sleep(if self.gap().is_some() { RETRY } else { REFRESH }).await;
            self.learn(client, namespace, metrics).await;
        }
    }

    fn warn_of_unsaid_services(&self) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if matches!(known.services, Knowledge::Unsaid) && !self.services_are_told {
            tracing::warn!(
                "Service address ranges are unknown, so tenants' registries can reach them: this Kubernetes \
                 has no ServiceCIDRs; set egress.serviceCIDRs in the chart, or --service-cidr"
            );
        }
    }
}

/// A loopback address is left to the fence's own rule, since it stands for many servers.
fn address(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().ok()?;
    (!address.is_loopback()).then(|| IpNet::from(address))
}

/// The ranges that Services get their addresses from. The API has them since Kubernetes 1.33.
async fn services(client: &Client, namespace: &str) -> Answer {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    match call(api.list(&ListParams::default())).await {
        Ok(list) => {
            let ranges = list.items.into_iter().filter_map(|range| range.spec?.cidrs).flatten();
            Ok(Knowledge::Known(ranges.filter_map(|range| range.parse().ok()).collect()))
        }
        Err(error) if error.failure() == CallFailure::Gone => {
            let learnt = service_ranges::by_refusal(client, namespace).await;
            Ok(if learnt.is_empty() { Knowledge::Unsaid } else { Knowledge::Known(learnt) })
        }
        Err(error) => Err(failed("list servicecidrs.networking.k8s.io", &error)),
    }
}

/// Where the API servers are reached behind their Service.
async fn servers(client: &Client) -> Answer {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    match call(api.get_opt(API_SERVER)).await {
        Ok(slice) => {
            let endpoints = slice.map(|slice| slice.endpoints).unwrap_or_default();
            let addresses = endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
            Ok(Knowledge::Known(addresses.filter_map(|text| address(text)).collect()))
        }
        Err(error) => Err(failed("get endpointslices.discovery.k8s.io default/kubernetes", &error)),
    }
}

/// The same words for the same failure, for they get into a status.
fn failed(what: &str, error: &CallError) -> String {
    match error.failure() {
        CallFailure::Forbidden => format!(
            "the operator may not {what} (403); an administrator restores the chart's ClusterRole registry-operator"
        ),
        _ => format!("failed to {what}; retrying"),
    }
}

#[cfg(test)]
mod tests;
