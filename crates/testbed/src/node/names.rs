//! The names of Services, as the DNS of a cluster has them; every other name is unknown. What Pods look up, and no more: one address
//! for a Service, over UDP.

use std::net::Ipv4Addr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// The domain of the cluster's names.
pub(super) const DOMAIN: &str = "cluster.local";
const TTL: u32 = 5;
/// A question is far smaller.
const QUESTION: usize = 1232;

/// A name server that ends when it is dropped.
#[derive(Debug)]
pub(super) struct NodeNameServer(AbortHandle);

impl NodeNameServer {
    /// Answers at port 53 of this address by what the API server says.
    pub(super) async fn serve(address: Ipv4Addr, client: Client) -> Result<Self, std::io::Error> {
        let socket = UdpSocket::bind((address, 53)).await?;
        Ok(Self(tokio::spawn(answer_all(socket, client)).abort_handle()))
    }
}

impl Drop for NodeNameServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer_all(socket: UdpSocket, client: Client) {
    let mut question = [0; QUESTION];
    while let Ok((length, from)) = socket.recv_from(&mut question).await {
        if let Some(answer) = answer(&client, &question[..length]).await {
            // The client may be gone.
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn answer(client: &Client, question: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?;
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.add_query(query.clone());
    match address(client, query.name()).await {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(address) if query.query_type() == RecordType::A => {
            answer.add_answer(Record::from_rdata(query.name().clone(), TTL, RData::A(address.into())));
        }
        Some(_) => {}
    }
    answer.to_vec().ok()
}

async fn address(client: &Client, name: &Name) -> Option<Ipv4Addr> {
    let name = name.to_ascii().to_lowercase();
    let (service, namespace) = service(&name)?;
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
