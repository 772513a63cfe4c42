//! The running hosts of a row: each at its own loopback address, with a name on the row's DNS server, and
//! a recorder at every other pair of their addresses and ports.
//!
//! Texts of a row name hosts in braces: `{registry}` is its URL, `{registry.host}`, `{registry.port}` and `{registry.address}`
//! are its parts. They are filled in when all ports are known.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::listener::{ConnectionMode, Log, RecordingListener, Script, bind};
use crate::pki::{CertificateKind, Clients, NAMES, PKI};
use crate::support::dns::{Dns, NameServer};
use crate::support::{Answer, ReceivedRequest};

/// A host of a row.
#[derive(Clone)]
pub struct Host {
    /// What the row calls it.
    pub role: &'static str,
    name: &'static str,
    door: PortBehaviour,
    port: u16,
    dns: Option<Dns>,
    script: Script,
}

/// The listener on a host's port.
#[derive(Debug, Clone, Copy)]
pub enum PortBehaviour {
    /// HTTP in the clear.
    Clear,
    /// HTTPS.
    Tls(CertificateKind, Clients, Versions),
    /// HTTPS, by HTTP/2 only.
    OnlyHttp2,
    /// Accepts connections and sends nothing.
    Mute,
    /// These bytes, to anyone who connects.
    Greets(&'static [u8]),
    /// There is no listener.
    Closed,
    /// So many wait already that no connection comes about.
    Crowded,
    /// Another process listens there, on 127.0.0.1; in the clear, or not.
    Process { port: u16, secure: bool },
}

/// Which versions of TLS a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    Both,
    Only12,
    Only13,
}

impl Versions {
    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Both => ALL_VERSIONS.to_vec(),
            Self::Only12 => vec![&TLS12],
            Self::Only13 => vec![&TLS13],
        }
    }
}

/// A host that answers so, over TLS with a certificate of the company's, by the name that its role usually has.
pub fn host(role: &'static str, script: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) -> Host {
    let name = match role {
        "registry" => NAMES[0],
        "auth" => NAMES[1],
        "tokens" => NAMES[2],
        _ => NAMES[3],
    };
    let door = PortBehaviour::Tls(CertificateKind::Company, Clients::NotAsked, Versions::Both);
    Host { role, name, door, port: 0, dns: None, script: Arc::new(script) }
}

impl Host {
    /// By another name.
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Met otherwise.
    pub fn behind(self, door: PortBehaviour) -> Self {
        Self { door, ..self }
    }

    /// At this port, which others know already.
    pub fn at_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// In the clear.
    pub fn clear(self) -> Self {
        self.behind(PortBehaviour::Clear)
    }

    /// Over TLS, with another certificate.
    pub fn shows(self, shows: CertificateKind) -> Self {
        self.behind(PortBehaviour::Tls(shows, Clients::NotAsked, Versions::Both))
    }

    /// The name server says this of it.
    pub fn resolving_to(self, dns: Dns) -> Self {
        Self { dns: Some(dns), ..self }
    }

    /// Another process, whose log is not ours to read.
    pub fn is_a_process(&self) -> bool {
        matches!(self.door, PortBehaviour::Process { .. })
    }

    fn is_secure(&self) -> bool {
        match self.door {
            PortBehaviour::Tls(..) | PortBehaviour::OnlyHttp2 => true,
            PortBehaviour::Process { secure, .. } => secure,
            _ => false,
        }
    }

    fn manner(&self, address: Ipv4Addr) -> Option<ConnectionMode> {
        let config = |shows, clients, versions: Versions| {
            PKI.server(shows, clients, &versions.list(), &address.to_string())
        };
        Some(match self.door {
            PortBehaviour::Clear => ConnectionMode::Clear,
            PortBehaviour::Tls(shows, clients, versions) => {
                ConnectionMode::Tls(Arc::new(config(shows, clients, versions)))
            }
            PortBehaviour::OnlyHttp2 => {
                let mut config = config(CertificateKind::Company, Clients::NotAsked, Versions::Both);
                config.alpn_protocols = vec![b"h2".to_vec()];
                ConnectionMode::Tls(Arc::new(config))
            }
            PortBehaviour::Mute => ConnectionMode::Mute,
            PortBehaviour::Greets(words) => ConnectionMode::Greets(words),
            PortBehaviour::Closed | PortBehaviour::Crowded | PortBehaviour::Process { .. } => return None,
        })
    }
}

/// A host that is up.
struct RunningHost {
    host: Host,
    address: Ipv4Addr,
    port: u16,
}

/// All hosts of a row, up, with what arrives there.
pub struct Stage {
    places: Vec<RunningHost>,
    /// What arrived.
    pub log: Log,
    /// The row's name server.
    pub names: NameServer,
    _posts: Vec<RecordingListener>,
    _crowd: Vec<(TcpListener, Vec<TcpStream>)>,
}

/// What every recorder says: it gives whatever is asked for, so that who goes there is led on.
fn tempting(asked: &ReceivedRequest) -> Answer {
    let body = match asked.path.contains("/tags/list") {
        true => r#"{"name":"hello","tags":["1.0"]}"#.to_owned(),
        false => {
            format!(r#"{{"token":"a.b.{seal}","access_token":"a.b.{seal}"}}"#, seal = crate::secrets::SEAL)
        }
    };
    Answer::granted().body(body)
}

impl Stage {
    /// Puts up the hosts of row number `index`, with one more, `elsewhere`, that no row permits anything to.
    pub async fn set(hosts: &[Host], index: usize) -> Self {
        let mut hosts = hosts.to_vec();
        hosts.push(host("elsewhere", tempting));
        for _ in 0..10 {
            match Self::try_set(&hosts, index).await {
                Ok(stage) => return stage,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => panic!("the hosts of row {index} can't be put up: {error}"),
            }
        }
        panic!("no free ports for the hosts of row {index}");
    }

    async fn try_set(hosts: &[Host], index: usize) -> io::Result<Self> {
        let mut listeners = Vec::new();
        let mut places = Vec::new();
        for (number, host) in hosts.iter().enumerate() {
            let own = address_of(index, number);
            let (address, listener) = match host.door {
                PortBehaviour::Process { .. } => (Ipv4Addr::LOCALHOST, None),
                PortBehaviour::Crowded => (own, Some(crowded(own)?)),
                _ => (own, Some(bind(SocketAddr::from((own, host.port))).await?)),
            };
            let port = match (&listener, host.door) {
                (None, PortBehaviour::Process { port, .. }) => port,
                (Some(listener), _) => listener.local_addr()?.port(),
                (None, _) => 0,
            };
            places.push(RunningHost { host: host.clone(), address, port });
            listeners.push(listener);
        }
        Self::open(places, listeners).await
    }

    async fn open(places: Vec<RunningHost>, listeners: Vec<Option<TcpListener>>) -> io::Result<Self> {
        let (log, words) = (Log::default(), Arc::new(Substitutions::of(&places)));
        let (mut posts, mut crowd) = (recorders(&places, &log).await?, Vec::new());
        for (place, listener) in places.iter().zip(listeners) {
            let Some(listener) = listener else { continue };
            match (place.host.manner(place.address), place.host.door) {
                (Some(manner), _) => {
                    let script = filling(place.host.script.clone(), words.clone());
                    posts.push(RecordingListener::at(
                        listener,
                        place.host.role.to_owned(),
                        manner,
                        script,
                        log.clone(),
                    ));
                }
                (None, PortBehaviour::Crowded) => crowd.push(crowd_at(listener).await),
                // Bound and let go: nobody listens there.
                _ => drop(listener),
            }
        }
        let names = name_server(&places).await;
        Ok(Self { places, log, names, _posts: posts, _crowd: crowd })
    }

    /// `text` with all hosts filled in.
    pub fn fill(&self, text: &str) -> String {
        Substitutions::of(&self.places).fill(text)
    }

    /// How many connections a host took.
    pub fn connections(&self, role: &str) -> usize {
        self.log.arrivals().iter().filter(|arrival| arrival.place == role).count()
    }

    /// How many requests a host got.
    pub fn requests(&self, role: &str) -> usize {
        self.log
            .arrivals()
            .iter()
            .filter(|arrival| arrival.place == role)
            .map(|arrival| arrival.asked.len())
            .sum()
    }
}

/// Every row has its own addresses, so that rows run beside each other and every recorder is one row's.
fn address_of(index: usize, number: usize) -> Ipv4Addr {
    let octet = |value: usize| u8::try_from(value).unwrap();
    Ipv4Addr::new(127, 64 + octet(index / 250), 1 + octet(index % 250), 1 + octet(number))
}

/// A recorder at every pair of one host's address and another's port; and at the ports that URLs without one mean, where
/// this user may listen there.
async fn recorders(places: &[RunningHost], log: &Log) -> io::Result<Vec<RecordingListener>> {
    let mut posts = Vec::new();
    for place in places.iter().filter(|place| !place.address.is_loopback_itself()) {
        let others = places.iter().map(|other| other.port).filter(|port| *port != place.port);
        for port in others {
            posts.push(recorder(place.address, port, log).await?);
        }
        for port in [80, 443] {
            posts.extend(recorder(place.address, port, log).await.ok());
        }
    }
    Ok(posts)
}

trait IsLoopbackItself {
    fn is_loopback_itself(&self) -> bool;
}

impl IsLoopbackItself for Ipv4Addr {
    fn is_loopback_itself(&self) -> bool {
        *self == Self::LOCALHOST
    }
}

async fn recorder(address: Ipv4Addr, port: u16, log: &Log) -> io::Result<RecordingListener> {
    let listener = bind(SocketAddr::from((address, port))).await?;
    let config = PKI.server(CertificateKind::Company, Clients::Welcome, ALL_VERSIONS, &address.to_string());
    let manner = ConnectionMode::Either(Arc::new(config));
    Ok(RecordingListener::at(listener, format!("{address}:{port}"), manner, Arc::new(tempting), log.clone()))
}

/// A listener that takes no more connections than one.
fn crowded(address: Ipv4Addr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((address, 0)))?;
    socket.listen(0)
}

/// Fills the queue, so that the next connection attempt gets no answer.
async fn crowd_at(listener: TcpListener) -> (TcpListener, Vec<TcpStream>) {
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let attempt = TcpStream::connect(address);
        let Ok(Ok(stream)) = tokio::time::timeout(std::time::Duration::from_secs(1), attempt).await else {
            break;
        };
        waiting.push(stream);
    }
    (listener, waiting)
}

async fn name_server(places: &[RunningHost]) -> NameServer {
    let known: Vec<(&'static str, Dns)> = places
        .iter()
        .map(|place| {
            let own: &'static [Ipv4Addr] = Box::leak(Box::new([place.address]));
            (place.host.name, place.host.dns.unwrap_or(Dns::Addresses(own)))
        })
        .collect();
    NameServer::start(move |name, _| {
        known.iter().find(|(known, _)| *known == name).map_or(Dns::NoSuchName, |(_, answer)| *answer)
    })
    .await
}

/// What stands for what in the texts of a row.
struct Substitutions(Vec<(String, String)>);

impl Substitutions {
    fn of(places: &[RunningHost]) -> Self {
        Self(places.iter().flat_map(words_of).collect())
    }

    fn fill(&self, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        self.0.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
    }
}

fn words_of(RunningHost { host, address, port }: &RunningHost) -> Vec<(String, String)> {
    let scheme = if host.is_secure() { "https" } else { "http" };
    let name = host.name;
    let [a, b, c, d] = address.octets();
    let number = u32::from(*address);
    let word = |key: &str, meaning: String| (format!("{{{}{key}}}", host.role), meaning);
    vec![
        word("", format!("{scheme}://{name}:{port}")),
        word(".host", name.to_owned()),
        word(".port", port.to_string()),
        word(".address", address.to_string()),
        word(".decimal", number.to_string()),
        word(".hex", format!("{number:#x}")),
        word(".octal", format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}")),
        word(".mixed", format!("{a}.{:#x}", number & 0x00ff_ffff)),
        word(".mapped", format!("[::ffff:{address}]")),
        word(".mapped-hex", format!("[::ffff:{:x}:{:x}]", number >> 16, number & 0xffff)),
        word(".compatible", format!("[::{address}]")),
        word(".nat64", format!("[64:ff9b::{:x}:{:x}]", number >> 16, number & 0xffff)),
        word(".6to4", format!("[2002:{:x}:{:x}::]", number >> 16, number & 0xffff)),
        word(".fullwidth", fullwidth(IpAddr::from(*address))),
    ]
}

fn fullwidth(address: IpAddr) -> String {
    let wide = |c: char| c.to_digit(10).and_then(|digit| char::from_u32(0xff10 + digit)).unwrap_or(c);
    address.to_string().chars().map(wide).collect()
}

/// Fills in hosts in what a script answers.
fn filling(script: Script, words: Arc<Substitutions>) -> Script {
    Arc::new(move |asked| match script(asked) {
        Answer::Reply { status, headers, body } => {
            let headers = headers.into_iter().map(|(name, value)| (name, words.fill(&value))).collect();
            let body = String::from_utf8(body)
                .map_or_else(|raw| raw.into_bytes(), |text| words.fill(&text).into_bytes());
            Answer::Reply { status, headers, body }
        }
        answer => answer,
    })
}
