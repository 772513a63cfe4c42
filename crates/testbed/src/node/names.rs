//! The names of Services, as the DNS of a cluster has them; every other name is unknown. What Pods look up, and no more: one address
//! for a Service, over UDP.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};

use crate::name_server::{NameServer, NameServerOptions};

/// The domain of the cluster's names.
pub(super) const DOMAIN: &str = "cluster.local";

/// Answers at port 53 of this address by what the API server says.
pub(super) async fn serve(address: Ipv4Addr, client: Client) -> Result<NameServer, std::io::Error> {
    let look_up = move |name: String| {
        let client = client.clone();
        async move { service_address(&client, &name).await }
    };
    NameServer::serve(address, NameServerOptions::default(), look_up).await
}

async fn service_address(client: &Client, name: &str) -> Option<Ipv4Addr> {
    let (service, namespace) = service(name)?;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    services.get_opt(service).await.ok()??.spec?.cluster_ip?.parse().ok()
}

/// `<service>.<namespace>.svc.cluster.local.`
fn service(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_suffix('.').unwrap_or(name).strip_suffix(DOMAIN)?.strip_suffix(".svc.")?;
    name.split_once('.').filter(|(_, namespace)| !namespace.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cluster_services_resolve() {
        assert_eq!(service("web.team-a.svc.cluster.local."), Some(("web", "team-a")));
        assert_eq!(service("web.team-a.svc.cluster.local"), Some(("web", "team-a")));
        for other in [
            "web.team-a.svc.",
            "web.svc.cluster.local.",
            "a.web.team-a.svc.cluster.local.",
            "example.com.",
            ".",
        ] {
            assert_eq!(service(other), None, "{other}");
        }
    }
}
