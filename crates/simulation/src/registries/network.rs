//! The prober's network in memory: names, addresses, connections, and a server behind each.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use registry_probe::{ByteStream, DnsFailure, Host, Network};
use tokio::io::{AsyncWriteExt as _, BufReader, DuplexStream, duplex};

use super::{
    behaviour::{RegistryAnswer, RegistryBehaviour, ServerCondition},
    http::{HttpRequest, read_request, response},
};
use crate::clock;

/// The port of every server.
pub const PORT: u16 = 80;
/// How long a connection takes, and how long each answer does, at least.
const LATENCY: Duration = Duration::from_millis(1);
/// The bytes that wait in a connection.
const BUFFER: usize = 16 * 1024;
/// How long a name server that doesn't answer is waited for.
const LOOK_UP: Duration = Duration::from_secs(5);

/// A request that a server got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerRecord {
    /// When, since the history began.
    pub at: Duration,
    /// The host name of the server.
    pub host: String,
    /// The request.
    pub request: HttpRequest,
    /// The status of the answer; none if there was no answer.
    pub status: Option<u16>,
    /// How many seconds the answer asks to wait.
    pub retry_after: Option<u64>,
}

/// A change of a server's behaviour.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerChange {
    /// When, since the history began.
    pub at: Duration,
    /// Its behaviour from then on.
    pub behaviour: RegistryBehaviour,
}

/// All servers of a history. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Registries(Arc<Mutex<Servers>>);

#[derive(Debug, Default)]
struct Servers {
    /// By the order in which they were added, from which their addresses follow.
    behaviours: Vec<RegistryBehaviour>,
    names: BTreeMap<String, usize>,
    records: Vec<ServerRecord>,
    changes: Vec<ServerChange>,
}

impl Registries {
    /// Adds a server, or replaces the behaviour of the one with that host name.
    pub fn set(&self, behaviour: RegistryBehaviour) {
        let mut servers = self.servers();
        if let Some(index) = servers.names.get(&behaviour.host).copied() {
            servers.behaviours[index] = behaviour;
            return;
        }
        let index = servers.behaviours.len();
        servers.names.insert(behaviour.host.clone(), index);
        servers.behaviours.push(behaviour);
    }

    /// Changes the behaviour of the server with that host name.
    pub fn change(&self, host: &str, change: impl FnOnce(&mut RegistryBehaviour)) {
        let mut servers = self.servers();
        if let Some(index) = servers.names.get(host).copied() {
            let before = servers.behaviours[index].clone();
            change(&mut servers.behaviours[index]);
            let behaviour = servers.behaviours[index].clone();
            if behaviour != before {
                servers.changes.push(ServerChange { at: clock::elapsed(), behaviour });
            }
        }
    }

    /// Returns all changes of behaviour so far.
    pub fn changes(&self) -> Vec<ServerChange> {
        self.servers().changes.clone()
    }

    /// Returns when the server with that host name changed last.
    pub fn changed(&self, host: &str) -> Option<Duration> {
        let servers = self.servers();
        servers.changes.iter().rfind(|change| change.behaviour.host == host).map(|change| change.at)
    }

    /// Returns the behaviour of the server with that host name.
    pub fn behaviour(&self, host: &str) -> Option<RegistryBehaviour> {
        let servers = self.servers();
        servers.names.get(host).map(|index| servers.behaviours[*index].clone())
    }

    /// Returns all requests, which are forgotten then.
    pub fn take_records(&self) -> Vec<ServerRecord> {
        std::mem::take(&mut self.servers().records)
    }

    /// Reads all requests so far. `read` must not use the servers otherwise.
    pub fn with_records<T>(&self, read: impl FnOnce(&[ServerRecord]) -> T) -> T {
        read(&self.servers().records)
    }

    fn at(&self, address: SocketAddr) -> Option<RegistryBehaviour> {
        let IpAddr::V4(v4) = address.ip() else { return None };
        let index = usize::from(v4.octets()[3]);
        self.servers().behaviours.get(index).filter(|_| address.port() == PORT).cloned()
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a connection until its client closes it.
    async fn serve(self, host: String, stream: DuplexStream) {
        let mut stream = BufReader::new(stream);
        while let Ok(Some(request)) = read_request(&mut stream).await {
            let Some(behaviour) = self.behaviour(&host) else { return };
            let answer = behaviour.answer(&request);
            self.record(&host, request, &answer);
            match answer {
                RegistryAnswer::Send { after, status, headers, body } => {
                    tokio::time::sleep(after + LATENCY).await;
                    let bytes = response(status, &headers, &body);
                    if stream.get_mut().write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                RegistryAnswer::Nothing => {}
                RegistryAnswer::Close => return,
            }
        }
    }

    fn record(&self, host: &str, request: HttpRequest, answer: &RegistryAnswer) {
        let (status, retry_after) = match answer {
            RegistryAnswer::Send { status, headers, .. } => (Some(*status), asked_pause(headers)),
            RegistryAnswer::Nothing | RegistryAnswer::Close => (None, None),
        };
        let record =
            ServerRecord { at: clock::elapsed(), host: host.to_owned(), request, status, retry_after };
        self.servers().records.push(record);
    }

    async fn accept(self, address: SocketAddr) -> io::Result<Box<dyn ByteStream>> {
        tokio::time::sleep(LATENCY).await;
        match self.at(address) {
            Some(behaviour) if behaviour.condition != ServerCondition::Refusing => {
                let (client, server) = duplex(BUFFER);
                tokio::spawn(self.serve(behaviour.host, server));
                Ok(Box::new(client))
            }
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn look_up(&self, host: &Host) -> Result<Arc<[IpAddr]>, DnsFailure> {
        let name = match host {
            Host::Address(address) => return Ok(Arc::from([*address])),
            Host::Name(name) => name,
        };
        let servers = self.servers();
        let index = servers.names.get(name).ok_or(DnsFailure::NoSuchName)?;
        if servers.behaviours[*index].condition == ServerCondition::Unnamed {
            return Err(DnsFailure::NoSuchName);
        }
        let last = u8::try_from(*index).map_err(|_| DnsFailure::ServerFailure)?;
        Ok(Arc::from([IpAddr::from(Ipv4Addr::new(20, 0, 0, last))]))
    }
}

fn asked_pause(headers: &[(&'static str, String)]) -> Option<u64> {
    headers.iter().find(|(name, _)| *name == "retry-after").and_then(|(_, value)| value.parse().ok())
}

impl Network for Registries {
    fn addresses<'a>(
        &'a self,
        host: &'a Host,
        _absolute: bool,
    ) -> BoxFuture<'a, Result<Arc<[IpAddr]>, DnsFailure>> {
        async move {
            tokio::time::sleep(LATENCY).await;
            self.look_up(host)
        }
        .boxed()
    }

    fn longest_lookup(&self) -> Duration {
        LOOK_UP
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        self.clone().accept(address).boxed()
    }
}
