//! A DNS server with one IPv4 address for each name that it knows, over UDP.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// In seconds, as in a cluster.
const TTL: u32 = 5;
/// A question is far smaller.
const QUESTION: usize = 1232;

/// How a name server answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NameServerOptions {
    /// The time from a question to its answer.
    pub delay: Duration,
    /// Whether questions for IPv6 addresses get no answer, as from some firewalls and home routers. Otherwise, the answer is
    /// that there are none.
    pub silent_about_ipv6: bool,
}

/// A name server that ends when it is dropped.
#[derive(Debug)]
pub struct NameServer(AbortHandle);

impl NameServer {
    /// Answers at port 53 of this address. `lookup` gets names in lower case with a trailing dot; `None` means that the name
    /// doesn't exist.
    pub async fn serve<L, F>(
        address: Ipv4Addr,
        options: NameServerOptions,
        lookup: L,
    ) -> Result<Self, std::io::Error>
    where
        L: Fn(String) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Ipv4Addr>> + Send + 'static,
    {
        let socket = UdpSocket::bind((address, 53)).await?;
        Ok(Self(tokio::spawn(answer_all(socket, options, lookup)).abort_handle()))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer_all<L, F>(socket: UdpSocket, options: NameServerOptions, lookup: L)
where
    L: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Option<Ipv4Addr>> + Send + 'static,
{
    let (socket, lookup) = (Arc::new(socket), Arc::new(lookup));
    let mut question = [0; QUESTION];
    while let Ok((length, from)) = socket.recv_from(&mut question).await {
        let (socket, lookup, question) = (socket.clone(), lookup.clone(), question[..length].to_vec());
        tokio::spawn(async move {
            if let Some(answer) = answer(&*lookup, options, &question).await {
                tokio::time::sleep(options.delay).await;
                // The client may be gone.
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

async fn answer<L, F>(lookup: &L, options: NameServerOptions, question: &[u8]) -> Option<Vec<u8>>
where
    L: Fn(String) -> F,
    F: Future<Output = Option<Ipv4Addr>>,
{
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?;
    if options.silent_about_ipv6 && query.query_type() == RecordType::AAAA {
        return None;
    }
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.add_query(query.clone());
    match lookup(query.name().to_ascii().to_lowercase()).await {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(address) => {
            answer.add_answers(record(query, address));
        }
    }
    answer.to_vec().ok()
}

fn record(query: &Query, address: Ipv4Addr) -> Option<Record> {
    let is_asked = query.query_type() == RecordType::A;
    is_asked.then(|| Record::from_rdata(query.name().clone(), TTL, RData::A(address.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    /// The response code and the addresses, or `None` for silence.
    async fn answered(
        kind: RecordType,
        name: &str,
        silent_about_ipv6: bool,
    ) -> Option<(ResponseCode, Vec<RData>)> {
        let mut question = Message::query();
        question.add_query(Query::query(name.parse().unwrap(), kind));
        let options = NameServerOptions { silent_about_ipv6, ..NameServerOptions::default() };
        let lookup = async |name: String| (name == "registry.test.").then_some(REGISTRY);
        let answer = answer(&lookup, options, &question.to_vec().unwrap()).await?;
        let answer = Message::from_vec(&answer).unwrap();
        let addresses = answer.answers.iter().map(|record| record.data.clone()).collect();
        Some((answer.metadata.response_code, addresses))
    }

    #[tokio::test]
    async fn answers_with_ipv4_addresses_of_known_names() {
        let found = Some((ResponseCode::NoError, vec![RData::A(REGISTRY.into())]));
        let (none, unknown) = ((ResponseCode::NoError, Vec::new()), (ResponseCode::NXDomain, Vec::new()));
        for silent in [false, true] {
            assert_eq!(answered(RecordType::A, "Registry.test.", silent).await, found);
            assert_eq!(answered(RecordType::A, "other.test.", silent).await, Some(unknown.clone()));
        }
        assert_eq!(answered(RecordType::AAAA, "registry.test.", false).await, Some(none));
        assert_eq!(answered(RecordType::AAAA, "registry.test.", true).await, None);
    }
}
