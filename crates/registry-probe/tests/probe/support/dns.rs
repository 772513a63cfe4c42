//! A scripted name server that counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// What to answer.
#[derive(Debug, Clone, Copy)]
pub enum Dns {
    /// These addresses, which must not be kept.
    Addresses(&'static [Ipv4Addr]),
    /// These IPv6 addresses, which must not be kept.
    V6(&'static [Ipv6Addr]),
    /// What stands here, for so many seconds.
    Lasting(u32, &'static [Ipv4Addr]),
    /// Another name, and its address.
    Alias(&'static str, Ipv4Addr),
    /// NXDOMAIN.
    NoSuchName,
    /// An answer without a record.
    Empty,
    /// An answer that did not fit.
    Truncated,
    /// SERVFAIL.
    Failure,
    /// REFUSED.
    Refused,
    /// No response.
    Silence,
    /// Another answer, after so many milliseconds.
    Late(u64, &'static Dns),
}

/// A question, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub name: String,
    /// 1: IPv4; 28: IPv6.
    pub kind: u16,
    pub over_tcp: bool,
}

/// A name server that runs until it is dropped.
pub struct NameServer {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Question>>>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

type Script = Arc<dyn Fn(&Question, usize) -> Dns + Send + Sync>;

#[derive(Clone)]
struct DnsState {
    asked: Arc<Mutex<Vec<Question>>>,
    script: Script,
}

impl DnsState {
    async fn reply(&self, query: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let (name, kind) = question(query)?;
        let question = Question { name, kind, over_tcp };
        let mut answer = {
            let mut asked = self.asked.lock().unwrap();
            let before = asked.iter().filter(|other| other.name == question.name && other.kind == 1).count();
            asked.push(question.clone());
            (self.script)(&question, before)
        };
        while let Dns::Late(milliseconds, then) = answer {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            answer = *then;
        }
        reply(query, answer)
    }
}

impl NameServer {
    /// Answers questions for IPv4 addresses by name, and by how often an address of that name was asked for before. Any
    /// other question gets the same answer, but no addresses.
    pub async fn start(script: impl Fn(&str, usize) -> Dns + Send + Sync + 'static) -> Self {
        Self::answering(move |question, before| match script(&question.name, before) {
            Dns::Addresses(_) | Dns::Lasting(..) if question.kind != 1 => Dns::Empty,
            answer => answer,
        })
        .await
    }

    /// Answers every question by its kind too.
    pub async fn answering(script: impl Fn(&Question, usize) -> Dns + Send + Sync + 'static) -> Self {
        let (listener, socket) = both_on_one_port().await;
        let address = listener.local_addr().unwrap();
        let desk = DnsState { asked: Arc::default(), script: Arc::new(script) };
        let asked = desk.asked.clone();
        let tasks =
            [tokio::spawn(over_udp(Arc::new(socket), desk.clone())), tokio::spawn(over_tcp(listener, desk))];
        Self { address, asked, tasks }
    }

    /// The names of which IPv4 addresses were asked for.
    pub fn requests(&self) -> Vec<String> {
        let asked = self.questions().into_iter().filter(|question| question.kind == 1);
        asked.map(|question| question.name).collect()
    }

    /// All questions.
    pub fn questions(&self) -> Vec<Question> {
        self.asked.lock().unwrap().clone()
    }
}

async fn both_on_one_port() -> (TcpListener, UdpSocket) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (listener, socket);
        }
    }
}

async fn over_udp(socket: Arc<UdpSocket>, desk: DnsState) {
    let mut replies = tokio::task::JoinSet::new();
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let (query, desk, socket) = (buffer[..length].to_vec(), desk.clone(), socket.clone());
        replies.spawn(async move {
            if let Some(reply) = desk.reply(&query, false).await {
                let _ = socket.send_to(&reply, from).await;
            }
        });
    }
}

async fn over_tcp(listener: TcpListener, desk: DnsState) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let desk = desk.clone();
        connections.spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; length.into()];
                if stream.read_exact(&mut query).await.is_err() {
                    return;
                }
                let Some(reply) = desk.reply(&query, true).await else { continue };
                let framed = [&u16::try_from(reply.len()).unwrap().to_be_bytes()[..], &reply].concat();
                if stream.write_all(&framed).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn question(query: &[u8]) -> Option<(String, u16)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    Some((labels.join("."), u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?])))
}

fn reply(query: &[u8], answer: Dns) -> Option<Vec<u8>> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0)? + 5;
    // A pointer to the name that was asked for.
    let asked = [0xc0, 12].as_slice();
    let (code, records): (u8, Vec<Vec<u8>>) = match answer {
        Dns::Addresses(addresses) => {
            (0, addresses.iter().map(|address| record(asked, 0, (*address).into())).collect())
        }
        Dns::V6(addresses) => {
            (0, addresses.iter().map(|address| record(asked, 0, (*address).into())).collect())
        }
        Dns::Lasting(seconds, addresses) => {
            (0, addresses.iter().map(|address| record(asked, seconds, (*address).into())).collect())
        }
        Dns::Alias(name, address) => {
            let name = wire(name);
            let length = u16::try_from(name.len()).unwrap().to_be_bytes();
            let alias = [asked, &[0, 5, 0, 1, 0, 0, 0, 0], &length, &name].concat();
            (0, vec![alias, record(&name, 300, address.into())])
        }
        Dns::Empty | Dns::Truncated | Dns::Late(..) => (0, Vec::new()),
        Dns::Failure => (2, Vec::new()),
        Dns::NoSuchName => (3, Vec::new()),
        Dns::Refused => (5, Vec::new()),
        Dns::Silence => return None,
    };
    let truncated = if matches!(answer, Dns::Truncated) { 2 } else { 0 };
    let count = u8::try_from(records.len()).unwrap();
    let mut reply = vec![query[0], query[1], 0x81 | truncated, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    reply.extend_from_slice(&query[12..end]);
    reply.extend(records.concat());
    Some(reply)
}

fn wire(name: &str) -> Vec<u8> {
    let labels =
        name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// A record of class IN.
fn record(name: &[u8], seconds: u32, address: IpAddr) -> Vec<u8> {
    let (kind, bytes) = match address {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (28, address.octets().to_vec()),
    };
    let length = u8::try_from(bytes.len()).unwrap();
    [name, &[0, kind, 0, 1], &seconds.to_be_bytes(), &[0, length], &bytes].concat()
}
