//! A scripted forward proxy that records its requests. It supports CONNECT and absolute URLs for
//! real: bytes go through it to the server.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What to do with a request.
#[derive(Debug, Clone, Copy)]
pub enum ProxyAction {
    /// Let it through to this port of 127.0.0.1, whatever host it names.
    Through(u16),
    /// Answer with these bytes and hang up.
    Say(&'static str),
    /// Close the connection.
    Close,
    /// Send nothing, and keep the connection.
    Silence,
}

/// A request's head, line by line.
#[derive(Debug, Clone)]
pub struct Head(pub Vec<String>);

impl Head {
    /// Method and target.
    pub fn line(&self) -> &str {
        self.0[0].trim_end_matches(" HTTP/1.1")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it =
            |line: &&String| line.split_once(": ").is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.0.iter().find(is_it).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }
}

type Script = Arc<dyn Fn(&Head) -> ProxyAction + Send + Sync>;

/// A proxy that runs until it is dropped.
pub struct ForwardProxy {
    pub port: u16,
    heads: Arc<Mutex<Vec<Head>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ForwardProxy {
    pub async fn start(script: impl Fn(&Head) -> ProxyAction + Send + Sync + 'static) -> Self {
        Self::serve(None, Arc::new(script)).await
    }

    /// Over TLS itself.
    pub async fn over_tls(
        config: rustls::ServerConfig,
        script: impl Fn(&Head) -> ProxyAction + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Some(TlsAcceptor::from(Arc::new(config))), Arc::new(script)).await
    }

    async fn serve(tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<Head>>> = Arc::default();
        let log = heads.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, script, log) = (tls.clone(), script.clone(), log.clone());
                connections.spawn(async move {
                    match tls {
                        None => relay(stream, &script, &log).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => relay(stream, &script, &log).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { port, heads, task }
    }

    /// The requests so far.
    pub fn heads(&self) -> Vec<Head> {
        self.heads.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.heads().iter().map(|head| head.line().to_owned()).collect()
    }
}

async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: S,
    script: &Script,
    log: &Mutex<Vec<Head>>,
) -> Option<()> {
    loop {
        let bytes = read_head(&mut client).await?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let head = Head(text.trim_end().split("\r\n").map(ToOwned::to_owned).collect());
        log.lock().unwrap().push(head.clone());
        match script(&head) {
            ProxyAction::Through(port) => {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
                if head.line().starts_with("CONNECT ") {
                    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
                    copy_bidirectional(&mut client, &mut server).await.ok()?;
                    return None;
                }
                server.write_all(forwarded(&head).as_bytes()).await.ok()?;
                client.write_all(&read_answer(&mut server).await?).await.ok()?;
            }
            ProxyAction::Say(text) => {
                client.write_all(text.as_bytes()).await.ok()?;
                client.shutdown().await.ok()?;
                return None;
            }
            ProxyAction::Close => return None,
            ProxyAction::Silence => std::future::pending().await,
        }
    }
}

/// A head, and a body of the length that it says.
async fn read_answer(server: &mut TcpStream) -> Option<Vec<u8>> {
    let mut answer = read_head(server).await?;
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    server.read_exact(&mut body).await.ok()?;
    answer.extend(body);
    Some(answer)
}

/// `GET http://host/path` → `GET /path`, without what is for the proxy.
fn forwarded(head: &Head) -> String {
    let mut words = head.0[0].split(' ');
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    let headers = head.0[1..]
        .iter()
        .map(String::as_str)
        .filter(|line| !line.to_ascii_lowercase().starts_with("proxy-"));
    let headers: String = headers.flat_map(|line| [line, "\r\n"]).collect();
    format!("{method} /{path} HTTP/1.1\r\n{headers}\r\n")
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(bytes)
}
