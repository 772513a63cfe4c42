//! Learns the cluster's own addresses from the API server, at start and regularly afterwards.

mod service_ranges;

pub use self::service_ranges::NAME as SERVICE_RANGE;

use std::time::Duration;

use k8s_openapi::api::{discovery::v1::EndpointSlice, networking::v1::ServiceCIDR};
use kube::{Api, Client, api::ListParams};
use registry_verdict::cluster_addresses::{
    API_SERVER, ClusterAddresses, Knowledge, LearnedAddresses, server_addresses,
    service_ranges as listed_ranges,
};

use crate::{
    kubernetes::call::{CallError, CallFailure, call},
    observability::metrics::Metrics,
};

/// How often to refresh known addresses. Administrators rarely add ranges for Services.
const REFRESH: Duration = Duration::from_mins(5);
/// How often to retry while addresses are unknown, because tenants' registries wait for them.
const RETRY: Duration = Duration::from_secs(5);

/// Asks the API server once. `namespace` is the operator's own.
pub async fn learn(addresses: &ClusterAddresses, client: &Client, namespace: &str, metrics: &Metrics) {
    let (services, servers) = futures::join!(services(client, namespace), servers(client));
    addresses.learn(services, servers);
    let (services_known, servers_known) = addresses.are_known();
    metrics.cluster_addresses_known("services", services_known);
    metrics.cluster_addresses_known("api-servers", servers_known);
}

/// Asks again at intervals. Never returns.
pub async fn keep_learning(
    addresses: &ClusterAddresses,
    client: &Client,
    namespace: &str,
    metrics: &Metrics,
) {
    if addresses.services_are_unsaid() {
        tracing::warn!(
            "Service address ranges are unknown, so tenants' registries can reach them: this Kubernetes has no \
             ServiceCIDRs; set egress.serviceCIDRs in the chart, or --service-cidr"
        );
    }
    loop {
        tokio::time::sleep(if addresses.gap().is_some() { RETRY } else { REFRESH }).await;
        learn(addresses, client, namespace, metrics).await;
    }
}

/// Reads the address ranges of Services. The API has them since Kubernetes 1.33.
async fn services(client: &Client, namespace: &str) -> LearnedAddresses {
    let api: Api<ServiceCIDR> = Api::all(client.clone());
    match call(api.list(&ListParams::default())).await {
        Ok(list) => Ok(listed_ranges(list.items)),
        Err(error) if error.failure() == CallFailure::Gone => {
            let learnt = service_ranges::by_refusal(client, namespace).await;
            Ok(if learnt.is_empty() { Knowledge::Unsaid } else { Knowledge::Known(learnt) })
        }
        Err(error) => Err(failed("list servicecidrs.networking.k8s.io", &error)),
    }
}

/// Reads the addresses of the API servers behind their Service.
async fn servers(client: &Client) -> LearnedAddresses {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    match call(api.get_opt(API_SERVER)).await {
        Ok(slice) => Ok(server_addresses(slice)),
        Err(error) => Err(failed("get endpointslices.discovery.k8s.io default/kubernetes", &error)),
    }
}

/// Describes a failure. The same failure has the same text, because it becomes part of a status.
fn failed(what: &str, error: &CallError) -> String {
    match error.failure() {
        CallFailure::Forbidden => format!(
            "the operator may not {what} (403); an administrator restores the chart's ClusterRole registry-operator"
        ),
        CallFailure::Gone
        | CallFailure::Conflict
        | CallFailure::Terminating
        | CallFailure::Quota
        | CallFailure::Throttled
        | CallFailure::NoAnswer
        | CallFailure::Other => format!("failed to {what}; retrying"),
    }
}
