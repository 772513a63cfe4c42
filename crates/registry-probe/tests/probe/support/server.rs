//! A scripted HTTP/1.1 server that records what it is asked, over TLS or not.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// A request, as it arrived.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl ReceivedRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A response with a length.
    Reply { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// These bytes as they are, and then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, and then one more of them every so often, forever.
    Drip(Vec<u8>),
    /// These bytes again and again, as fast as they go.
    Flood { head: Vec<u8>, unit: Vec<u8> },
    /// No answer at all, the connection kept.
    Silence,
    /// That answer, once notified.
    Once(Arc<Notify>, Box<Self>),
    /// The end of the connection, without an answer.
    Close,
    /// A reset of the connection.
    Reset,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self::Reply { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Reply { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }

    pub fn body(mut self, text: impl Into<Vec<u8>>) -> Self {
        if let Self::Reply { body, .. } = &mut self {
            *body = text.into();
        }
        self
    }

    /// As distribution answers `/v2/` when it grants it.
    pub fn granted() -> Self {
        Self::status(200).header("Docker-Distribution-Api-Version", "registry/2.0").body("{}")
    }

    /// 401 with a challenge.
    pub fn challenge(challenge: &str) -> Self {
        Self::status(401)
            .header("WWW-Authenticate", challenge)
            .body(r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
    }

    /// A list of tags.
    pub fn tags() -> Self {
        Self::status(200).body(r#"{"name":"hello","tags":["1.0"]}"#)
    }

    pub fn error(status: u16, code: &str) -> Self {
        Self::status(status).body(format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#))
    }
}

type Script = Arc<dyn Fn(&ReceivedRequest) -> Answer + Send + Sync>;

/// A server that runs until it is dropped.
pub struct Server {
    pub port: u16,
    pub scheme: &'static str,
    asked: Arc<Mutex<Vec<ReceivedRequest>>>,
    accepted: Arc<AtomicUsize>,
    shaken: Arc<AtomicUsize>,
    identified: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// In the clear.
    pub async fn http(script: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(script)).await
    }

    /// Over TLS.
    pub async fn https(
        config: rustls::ServerConfig,
        script: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(TlsAcceptor::from(Arc::new(config))), Arc::new(script)).await
    }

    /// In the clear, on another address of loopback.
    pub async fn http_on(
        address: &str,
        port: u16,
        script: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::serve_on(TcpListener::bind((address, port)).await.unwrap(), None, Arc::new(script))
    }

    async fn start(tls: Option<TlsAcceptor>, script: Script) -> Self {
        Self::serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls, script)
    }

    fn serve_on(listener: TcpListener, tls: Option<TlsAcceptor>, script: Script) -> Self {
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (asked, accepted): (Arc<Mutex<Vec<ReceivedRequest>>>, Arc<AtomicUsize>) = Default::default();
        let (shaken, identified): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let log = Log { asked: asked.clone(), shaken: shaken.clone(), identified: identified.clone() };
        let counter = accepted.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, tls.clone(), script.clone(), log.clone()));
            }
        });
        Self { port, scheme, asked, accepted, shaken, identified, task }
    }

    /// `scheme://host:port`, by a host name or address that leads here.
    pub fn at(&self, host: &str) -> String {
        format!("{}://{host}:{}", self.scheme, self.port)
    }

    /// `scheme://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.at("127.0.0.1")
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.asked.lock().unwrap().clone()
    }

    /// `GET /v2/` for each request, in order.
    pub fn log(&self) -> Vec<String> {
        self.requests().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    /// How many connections it accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many TLS handshakes came to their end.
    pub fn shaken(&self) -> usize {
        self.shaken.load(Ordering::SeqCst)
    }

    /// How many clients showed a certificate.
    pub fn identified(&self) -> usize {
        self.identified.load(Ordering::SeqCst)
    }

    /// Whether any part of any request contained this text.
    pub fn received(&self, text: &str) -> bool {
        format!("{:?}", self.requests()).contains(text)
    }

    /// Whether any credential arrived.
    pub fn received_credentials(&self) -> bool {
        let authorized = self.requests().iter().any(|asked| asked.authorization().is_some());
        authorized || self.received(super::PASSWORD)
    }
}

#[derive(Clone)]
struct Log {
    asked: Arc<Mutex<Vec<ReceivedRequest>>>,
    shaken: Arc<AtomicUsize>,
    identified: Arc<AtomicUsize>,
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, script: Script, log: Log) {
    stream.set_nodelay(true).unwrap();
    match tls {
        None => drop(converse(stream, script, log).await),
        Some(acceptor) => {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            log.shaken.fetch_add(1, Ordering::SeqCst);
            if stream.get_ref().1.peer_certificates().is_some() {
                log.identified.fetch_add(1, Ordering::SeqCst);
            }
            drop(converse(stream, script, log).await);
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    script: Script,
    log: Log,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(asked) = read_request(&mut stream, &mut buffer).await? {
        log.asked.lock().unwrap().push(asked.clone());
        let mut answer = script(&asked);
        while let Answer::Once(notified, then) = answer {
            notified.notified().await;
            answer = *then;
        }
        match answer {
            Answer::Reply { status, headers, body } => {
                let whole = render(status, &headers, &body);
                // RFC 9110, section 9.3.2.
                let sent = if asked.method == "HEAD" { whole.len() - body.len() } else { whole.len() };
                stream.write_all(&whole[..sent]).await?;
                stream.flush().await?;
            }
            Answer::Raw(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Answer::Drip(bytes) => loop {
                stream.write_all(&bytes[..1.min(bytes.len())]).await?;
                stream.flush().await?;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            },
            Answer::Flood { head, unit } => {
                stream.write_all(&head).await?;
                loop {
                    stream.write_all(&unit).await?;
                }
            }
            Answer::Silence => std::future::pending().await,
            Answer::Close | Answer::Reset | Answer::Once(..) => return Ok(()),
        }
    }
    Ok(())
}

fn render(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} X\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<ReceivedRequest>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap_or_default().to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let length = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = String::from_utf8_lossy(&buffer.drain(..length).collect::<Vec<_>>()).into_owned();
    Ok(Some(ReceivedRequest { method, path, headers, body }))
}

/// A server that answers any input with this text and closes the connection.
pub async fn greeting(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

/// A port without a listener, which no other process can use while this is held: it is only bound.
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        Self(socket)
    }

    pub fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

/// A port of 127.0.0.1 whose backlog is full, so that it accepts no connection.
pub struct FullBacklog {
    listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl FullBacklog {
    pub async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        let patience = std::time::Duration::from_millis(300);
        while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
            waiting.push(stream.unwrap());
        }
        Self { listener, _waiting: waiting }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }
}
