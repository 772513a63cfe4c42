//! A registry that answers only when the test releases it, for slow and hanging registries. Anonymous, over plain HTTP.
//! Records its requests, so that a test can wait until a validation is in progress.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

const ASKED: Duration = Duration::from_secs(15);

/// A running registry; it ends with this value.
pub struct HeldRegistry {
    address: SocketAddr,
    gate: Arc<Gate>,
    _server: JoinSet<()>,
}

struct Gate {
    open: watch::Sender<bool>,
    asked: watch::Sender<Vec<String>>,
}

impl HeldRegistry {
    /// A registry that takes requests and does not answer them yet.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let gate = Arc::new(Gate { open: watch::Sender::new(false), asked: watch::Sender::new(Vec::new()) });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, gate.clone()));
        Ok(Self { address, gate, _server: server })
    }

    /// The server's address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, each written `GET /v2/`.
    pub fn requests(&self) -> Vec<String> {
        self.gate.asked.borrow().clone()
    }

    /// Waits until so many requests have come.
    pub async fn wait_for_requests(&self, count: usize) -> Result<()> {
        let mut asked = self.gate.asked.subscribe();
        let enough = asked.wait_for(|asked| asked.len() >= count);
        let in_time = tokio::time::timeout(ASKED, enough).await.map(|waited| waited.map(drop));
        let came = || format!("{count} requests to the held registry; came: {:?}", self.requests());
        in_time.with_context(came)??;
        Ok(())
    }

    /// Answers the waiting requests and all later ones.
    pub fn release(&self) {
        self.gate.open.send_replace(true);
    }
}

async fn serve(listener: TcpListener, gate: Arc<Gate>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve_one(stream, gate.clone()));
    }
}

async fn serve_one(stream: TcpStream, gate: Arc<Gate>) {
    let answer = service_fn(|request: Request<Incoming>| answer(request, &gate));
    // A client that goes away is no concern of ours.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

async fn answer(request: Request<Incoming>, gate: &Gate) -> Result<Response<Full<Bytes>>, Infallible> {
    let asked = format!("{} {}", request.method(), request.uri());
    gate.asked.send_modify(|all| all.push(asked));
    let _ = gate.open.subscribe().wait_for(|open| *open).await;
    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers.insert("docker-distribution-api-version", http::HeaderValue::from_static("registry/2.0"));
    Ok(response)
}
