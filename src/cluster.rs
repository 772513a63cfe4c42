//! The cluster's own addresses, which no tenant's endpoint may lead to: the API server's, and those of Services.
//!
//! Owns where they are learnt. That they are denied is `validate`'s, and that the denial holds the fence's.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use k8s_openapi::api::{discovery::v1::EndpointSlice, networking::v1::ServiceCIDR};
use kube::{Api, Client, Config, api::ListParams};
use registry_probe::IpNet;

use crate::kubernetes::call::{CallError, CallFailure, call};

/// The API server keeps its own addresses in an EndpointSlice of this name.
const API_SERVER: &str = "kubernetes";
/// New ranges for Services are rare, and made by administrators.
const REFRESH: Duration = Duration::from_mins(5);

/// The cluster's own addresses. Cheap to clone; all clones see what is learnt.
#[derive(Clone, Debug)]
pub struct ClusterAddresses {
    told: Arc<[IpNet]>,
    known: Arc<RwLock<Arc<[IpNet]>>>,
}

impl ClusterAddresses {
    /// Those addresses, until more are learnt.
    pub fn new(told: impl Into<Arc<[IpNet]>>) -> Self {
        let told = told.into();
        Self { known: Arc::new(RwLock::new(told.clone())), told }
    }

    /// What the configuration and the environment of a Pod tell of the API server.
    pub fn told_by(config: &Config, service_host: Option<&str>) -> Self {
        let hosts = config.cluster_url.host().into_iter().chain(service_host);
        let addresses = hosts.filter_map(|host| address(host.trim_matches(['[', ']'])));
        Self::new(addresses.collect::<Arc<[_]>>())
    }

    /// All that are known by now.
    pub fn all(&self) -> Arc<[IpNet]> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the API server. What it doesn't say stays as it was: a tenant gains nothing by an outage.
    pub async fn learn(&self, client: &Client) {
        let (services, servers) = futures::join!(services(client), servers(client));
        let (Some(services), Some(servers)) = (services, servers) else { return };
        let all: Arc<[IpNet]> = self.told.iter().copied().chain(services).chain(servers).collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Learns them again and again.
    pub async fn keep(&self, client: &Client) {
        loop {
            tokio::time::sleep(REFRESH).await;
            self.learn(client).await;
        }
    }
}

/// A loopback address is left to the fence's own rule, since it stands for many servers.
fn address(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().ok()?;
    (!address.is_loopback()).then(|| IpNet::from(address))
}

/// The ranges that Services get their addresses from. The API has them since Kubernetes 1.33.
async fn services(client: &Client) -> Option<Vec<IpNet>> {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    match call(api.list(&ListParams::default())).await {
        Ok(list) => {
            let ranges = list.items.into_iter().filter_map(|range| range.spec?.cidrs).flatten();
            Some(ranges.filter_map(|range| range.parse().ok()).collect())
        }
        Err(error) if error.failure() == CallFailure::Gone => Some(Vec::new()),
        Err(error) => unknown("service ranges", &error),
    }
}

/// Where the API servers are reached behind their Service.
async fn servers(client: &Client) -> Option<Vec<IpNet>> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    match call(api.get_opt(API_SERVER)).await {
        Ok(slice) => {
            let endpoints = slice.map(|slice| slice.endpoints).unwrap_or_default();
            Some(
                endpoints
                    .iter()
                    .flat_map(|endpoint| &endpoint.addresses)
                    .filter_map(|text| address(text))
                    .collect(),
            )
        }
        Err(error) => unknown("API servers", &error),
    }
}

fn unknown<T>(what: &str, error: &CallError) -> Option<T> {
    tracing::warn!(
        %error,
        "the cluster's {what} are not known: tenants' endpoints are kept away from what was known before"
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_is_known_by_configuration_and_environment_and_loopback_is_nobodys() {
        let config = |url: &str| Config::new(url.parse().unwrap());
        let told = |url, host| ClusterAddresses::told_by(&config(url), host).all().to_vec();
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        assert_eq!(told("https://10.0.0.1:6443", Some("10.96.0.1")), nets(&["10.0.0.1/32", "10.96.0.1/32"]));
        assert_eq!(told("https://[fd00::1]:6443", None), nets(&["fd00::1/128"]));
        assert_eq!(told("https://127.0.0.1:6443", Some("kubernetes.default.svc")), nets(&[]));
    }
}
