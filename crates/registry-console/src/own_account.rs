//! The console's own account in the cluster. Its client never leaves this module: it lists ServiceCIDRs and gets the EndpointSlice of
//! the API server, so that the egress policy can refuse tenants the cluster's own addresses.

use std::time::Duration;

use k8s_openapi::api::{discovery::v1::EndpointSlice, networking::v1::ServiceCIDR};
use kube::{Api, Client, Config, api::ListParams};
use registry_check::cluster::is_forbidden;
use registry_verdict::cluster_addresses::{
    API_SERVER, ClusterAddresses, LearnedAddresses, server_addresses, service_ranges,
};

/// How often known addresses are read again. Administrators rarely add ranges for Services.
const REFRESH: Duration = Duration::from_mins(5);
/// How often unknown ones are read again, because tenants' validations wait for them.
const RETRY: Duration = Duration::from_secs(5);
/// Deadline for a call, because a connection can die without notice.
const DEADLINE: Duration = Duration::from_secs(10);

/// The account of the Pod.
pub struct OwnAccount(Client);

impl OwnAccount {
    /// The account that a configuration has credentials for.
    pub fn new(config: Config) -> Result<Self, kube::Error> {
        Client::try_from(config).map(Self)
    }

    /// Reads the cluster's own addresses again and again. Never returns.
    pub async fn keep_learning(&self, addresses: &ClusterAddresses) {
        loop {
            let (services, servers) = futures::join!(self.services(), self.servers());
            addresses.learn(services, servers);
            tokio::time::sleep(if addresses.gap().is_some() { RETRY } else { REFRESH }).await;
        }
    }

    async fn services(&self) -> LearnedAddresses {
        let api: Api<ServiceCIDR> = Api::all(self.0.clone());
        let listed = tokio::time::timeout(DEADLINE, api.list(&ListParams::default())).await;
        match listed {
            Ok(Ok(list)) => Ok(service_ranges(list.items)),
            // Kubernetes before 1.33. The operator asks by a dry run, which this account may not.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                Err("this Kubernetes has no ServiceCIDRs; set egress.serviceCIDRs in the chart, or --service-cidr".to_owned())
            }
            Ok(Err(error)) => Err(failed("list servicecidrs.networking.k8s.io", Some(&error))),
            Err(_) => Err(failed("list servicecidrs.networking.k8s.io", None)),
        }
    }

    async fn servers(&self) -> LearnedAddresses {
        let api: Api<EndpointSlice> = Api::namespaced(self.0.clone(), "default");
        match tokio::time::timeout(DEADLINE, api.get_opt(API_SERVER)).await {
            Ok(Ok(slice)) => Ok(server_addresses(slice)),
            Ok(Err(error)) => {
                Err(failed("get endpointslices.discovery.k8s.io default/kubernetes", Some(&error)))
            }
            Err(_) => Err(failed("get endpointslices.discovery.k8s.io default/kubernetes", None)),
        }
    }
}

/// Describes a failure to users: without the text of the error, which could change with every attempt.
fn failed(what: &str, error: Option<&kube::Error>) -> String {
    if error.is_some_and(is_forbidden) {
        return format!(
            "the console may not {what} (403); an administrator restores the chart's ClusterRole registry-console and the Role registry-console in default"
        );
    }
    format!("the console failed to {what}; retrying")
}
