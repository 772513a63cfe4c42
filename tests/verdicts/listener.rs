//! Listeners that record every byte that arrives, over plain HTTP and TLS on the same port.
//!
//! The probe's own scripted server (`support::server`) speaks one of the two on a port, and keeps requests only. Here a
//! credential must be found wherever it arrives: in the clear on a port for TLS, or in half a request.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::{Answer, ReceivedRequest};

/// How requests are answered.
pub type Script = Arc<dyn Fn(&ReceivedRequest) -> Answer + Send + Sync>;

/// How a host takes connections.
#[derive(Clone)]
pub enum ConnectionMode {
    /// HTTP in the clear.
    Clear,
    /// HTTP over TLS.
    Tls(Arc<ServerConfig>),
    /// Either, whichever the client begins with.
    Either(Arc<ServerConfig>),
    /// Accepts connections and sends nothing.
    Mute,
    /// Sends this at once to every client and closes the connection.
    Greets(&'static [u8]),
}

/// One connection: what came over it.
#[derive(Debug, Clone, Default)]
pub struct Arrival {
    /// Where: the role of a host, or `host:port` of a recorder.
    pub place: String,
    /// The TLS handshake came to its end.
    pub secure: bool,
    /// A client certificate was shown.
    pub certificate: bool,
    /// The requests, as far as they could be read.
    pub asked: Vec<ReceivedRequest>,
    /// Every byte, decrypted where the handshake came to its end.
    pub bytes: Vec<u8>,
    /// How many bytes of a flood the client let itself be sent.
    pub flooded: usize,
}

/// What arrived at all places of a row.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Arrival>>>);

impl Log {
    /// All connections so far.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.0.lock().unwrap().clone()
    }

    fn open(&self, place: &str) -> Entry {
        let mut arrivals = self.0.lock().unwrap();
        arrivals.push(Arrival { place: place.to_owned(), ..Arrival::default() });
        Entry { log: self.clone(), index: arrivals.len() - 1 }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    log: Log,
    index: usize,
}

impl Entry {
    fn note(&self, change: impl FnOnce(&mut Arrival)) {
        change(&mut self.log.0.lock().unwrap()[self.index]);
    }
}

/// A listener; it goes with what is dropped.
pub struct RecordingListener {
    task: JoinHandle<()>,
}

impl Drop for RecordingListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds a listener, so that its port is known before it is decided what it says.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

impl RecordingListener {
    /// Takes connections.
    pub fn at(
        listener: TcpListener,
        place: String,
        manner: ConnectionMode,
        script: Script,
        log: Log,
    ) -> Self {
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let entry = log.open(&place);
                connections.spawn(receive(stream, manner.clone(), script.clone(), entry));
            }
        });
        Self { task }
    }
}

async fn receive(
    mut stream: TcpStream,
    manner: ConnectionMode,
    script: Script,
    entry: Entry,
) -> io::Result<()> {
    let config = match manner {
        ConnectionMode::Mute => {
            keep_reading(&mut stream, &entry).await;
            return Ok(());
        }
        ConnectionMode::Greets(words) => {
            stream.write_all(words).await?;
            stream.shutdown().await?;
            keep_reading(&mut stream, &entry).await;
            return Ok(());
        }
        ConnectionMode::Clear if begins_with_tls(&stream).await? => {
            // As web servers answer to what is no request.
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await?;
            stream.shutdown().await?;
            keep_reading(&mut stream, &entry).await;
            return Ok(());
        }
        ConnectionMode::Clear => None,
        ConnectionMode::Tls(config) => {
            if !begins_with_tls(&stream).await? {
                return converse(stream, plain_on_tls(), entry).await;
            }
            Some(config)
        }
        ConnectionMode::Either(config) => begins_with_tls(&stream).await?.then_some(config),
    };
    match config {
        None => converse(stream, script, entry).await,
        Some(config) => {
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            let certificate = stream.get_ref().1.peer_certificates().is_some();
            entry.note(|arrival| (arrival.secure, arrival.certificate) = (true, certificate));
            converse(stream, script, entry).await
        }
    }
}

async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0] == 0x16)
}

/// As Go's servers answer to a request in the clear on a port for TLS.
fn plain_on_tls() -> Script {
    Arc::new(|_| {
        let body = "Client sent an HTTP request to an HTTPS server.\n";
        Answer::Raw(format!("HTTP/1.0 400 Bad Request\r\n\r\n{body}").into_bytes())
    })
}

async fn keep_reading(stream: &mut TcpStream, entry: &Entry) {
    let mut buffer = Vec::new();
    while stream.read_buf(&mut buffer).await.is_ok_and(|length| length > 0) {
        entry.note(|arrival| arrival.bytes.append(&mut buffer));
    }
}

/// A connection that can be reset.
trait Link: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Link for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Link for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Keeps what is read.
struct RecordingStream<L> {
    link: L,
    entry: Entry,
}

impl<L: Link> AsyncRead for RecordingStream<L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.link).poll_read(cx, buf);
        let new = &buf.filled()[before..];
        if !new.is_empty() {
            self.entry.note(|arrival| arrival.bytes.extend_from_slice(new));
        }
        read
    }
}

async fn converse<L: Link>(link: L, script: Script, entry: Entry) -> io::Result<()> {
    let mut stream = RecordingStream { link, entry };
    let mut buffer = Vec::new();
    while let Some(asked) = read_request(&mut stream, &mut buffer).await? {
        let answer = for_method(&asked, script(&asked));
        stream.entry.note(|arrival| arrival.asked.push(asked));
        if !say(&mut stream.link, answer, &stream.entry).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// RFC 9110, section 9.3.2: the answer to HEAD has no body.
fn for_method(asked: &ReceivedRequest, answer: Answer) -> Answer {
    match answer {
        Answer::Reply { status, headers, .. } if asked.method == "HEAD" => {
            Answer::Reply { status, headers, body: Vec::new() }
        }
        answer => answer,
    }
}

/// Answers; `false` if that ends the connection.
async fn say<L: Link>(link: &mut L, answer: Answer, entry: &Entry) -> io::Result<bool> {
    match answer {
        Answer::Reply { status, headers, body } => {
            link.write_all(&render(status, &headers, &body)).await?;
            link.flush().await?;
            return Ok(true);
        }
        Answer::Raw(bytes) => {
            link.write_all(&bytes).await?;
            link.shutdown().await?;
        }
        Answer::Drip(bytes) => {
            for byte in bytes.iter().chain(b"X-More: header\r\n".iter().cycle()) {
                link.write_all(&[*byte]).await?;
                link.flush().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Answer::Flood { head, unit } => {
            link.write_all(&head).await?;
            loop {
                link.write_all(&unit).await?;
                entry.note(|arrival| arrival.flooded += unit.len());
            }
        }
        // No case of the table has an answer that waits.
        Answer::Silence | Answer::Once(..) => std::future::pending().await,
        Answer::Reset => link.tcp().set_zero_linger()?,
        Answer::Close => link.shutdown().await?,
    }
    Ok(false)
}

fn render(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} X\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

/// A request with its body; none if the connection ended before there was a whole one.
async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<ReceivedRequest>> {
    loop {
        if let Some((asked, length)) = parse(buffer) {
            buffer.drain(..length);
            return Ok(Some(asked));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(buffer: &[u8]) -> Option<(ReceivedRequest, usize)> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let length = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let body = buffer.get(end + 4..end + 4 + length)?;
    let body = String::from_utf8_lossy(body).into_owned();
    Some((ReceivedRequest { method, path, headers, body }, end + 4 + length))
}
