//! A scripted name server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

/// What to answer to a question for an IPv4 address; any other question gets an empty answer.
#[derive(Debug, Clone, Copy)]
pub enum Dns {
    /// These addresses.
    Addresses(&'static [Ipv4Addr]),
    /// NXDOMAIN.
    NoSuchName,
    /// An answer without a record.
    Empty,
    /// SERVFAIL.
    Failure,
    /// REFUSED.
    Refused,
    /// Nothing.
    Silence,
}

/// A name server that runs until it is dropped.
pub struct NameServer {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    /// Answers by name, and by how often an address of that name was asked for before.
    pub async fn start(script: impl Fn(&str, usize) -> Dns + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let Some((name, kind)) = question(&buffer[..length]) else { continue };
                let before = log.lock().unwrap().iter().filter(|asked| **asked == name).count();
                let answer = if kind == 1 {
                    log.lock().unwrap().push(name.clone());
                    script(&name, before)
                } else {
                    match script(&name, before) {
                        Dns::Addresses(_) => Dns::Empty,
                        other => other,
                    }
                };
                if let Some(reply) = reply(&buffer[..length], answer) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        Self { address, asked, task }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
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
    let (code, addresses): (u8, &[Ipv4Addr]) = match answer {
        Dns::Addresses(addresses) => (0, addresses),
        Dns::Empty => (0, &[]),
        Dns::Failure => (2, &[]),
        Dns::NoSuchName => (3, &[]),
        Dns::Refused => (5, &[]),
        Dns::Silence => return None,
    };
    let mut reply = vec![
        query[0],
        query[1],
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::try_from(addresses.len()).unwrap(),
        0,
        0,
        0,
        0,
    ];
    reply.extend_from_slice(&query[12..end]);
    for address in addresses {
        // A pointer to the name, an A record of class IN, no time to live.
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    Some(reply)
}
