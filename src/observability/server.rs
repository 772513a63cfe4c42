//! Serves `/metrics`, `/healthz`, `/readyz` and `/guardz` over plain HTTP without authentication, because nothing here
//! is secret. Owns the limits for clients: number of connections, and time.

mod connections;

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};

use self::connections::{Bounds, ConnectionSlot, Connections};
pub use crate::observability::health::{GuardState, Health};
use crate::observability::{exposition, metrics::Metrics};

/// Limits for clients, which may be anyone in the cluster.
#[derive(Clone, Copy, Debug)]
struct ClientLimits {
    connections: Bounds,
    /// Deadline for the header of a connection's one request.
    header: Duration,
    /// Deadline for reading the response.
    response: Duration,
}

/// A kubelet waits a second for a response, Prometheus ten by default.
const LIMITS: ClientLimits = ClientLimits {
    connections: Bounds { others: 48, scrapes: 16 },
    header: Duration::from_secs(5),
    response: Duration::from_secs(10),
};
/// Clients that request metrics within this time, while an earlier client still reads, get the same text.
const SHARED: Duration = Duration::from_secs(1);
/// The delay after a connection could not be accepted, for example because of too many open files.
const REFUSED: Duration = Duration::from_millis(100);

/// Listens on the address. `[::]` means all IPv6 addresses, and on Linux all IPv4 addresses too. If the host has no
/// IPv6, it means all IPv4 addresses.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        listener => listener,
    }
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Metrics) {
    serve_within(LIMITS, listener, ServedAnswers { health, metrics, shared: Mutex::default() }).await;
}

async fn serve_within(limits: ClientLimits, listener: TcpListener, answers: ServedAnswers) {
    let (answers, connections) = (Arc::new(answers), Connections::new(limits.connections));
    let mut refused = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                refused = false;
                let serve = |place| serve_one(limits, stream, peer, place, answers.clone());
                connections.admit(|place| tokio::spawn(serve(place)).abort_handle());
            }
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::warn!(%error, "failed to accept a connection on the metrics address, retrying");
                }
                tokio::time::sleep(REFUSED).await;
            }
        }
    }
}

/// Answers one request and closes the connection, so that one time limit covers everything that a client does.
async fn serve_one(
    limits: ClientLimits,
    stream: TcpStream,
    peer: SocketAddr,
    place: ConnectionSlot,
    answers: Arc<ServedAnswers>,
) {
    let answer = service_fn(|request: Request<Incoming>| {
        if request.uri().path() == METRICS {
            place.scrape();
        }
        let response = answers.to(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), answer);
    match tokio::time::timeout(limits.header + limits.response, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "connection to the metrics address ended early"),
        Err(_) => tracing::debug!(%peer, "connection to the metrics address closed: the client was too slow"),
    }
}

/// The path of the metrics.
const METRICS: &str = "/metrics";

/// What the server answers from.
struct ServedAnswers {
    health: Arc<Health>,
    metrics: Metrics,
    /// The newest text, which clients may still be reading.
    shared: Mutex<Weak<Exposition>>,
}

/// The metrics at one time.
struct Exposition {
    at: Instant,
    text: String,
}

/// Keeps the text while it is being sent.
struct Held(Arc<Exposition>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.text.as_bytes()
    }
}

fn guard(guarded: Option<&GuardState>) -> Response<Full<Bytes>> {
    match guarded {
        Some(Ok(())) => text(StatusCode::OK, "the admission policies are in force\n".into()),
        Some(Err(gap)) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the admission policies are not in force: {gap}; reinstall the chart\n"),
        ),
        None => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "this replica stands by, or does not know yet whether the admission policies are in force\n"
                .into(),
        ),
    }
}

impl ServedAnswers {
    fn to<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        }
        match request.uri().path() {
            "/healthz" if self.health.is_alive() => text(StatusCode::OK, "ok\n".into()),
            "/healthz" => text(StatusCode::SERVICE_UNAVAILABLE, "the event loop is stuck\n".into()),
            "/readyz" => match self.health.is_ready() {
                Ok(()) => text(StatusCode::OK, "ok\n".into()),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            "/guardz" => guard(self.health.guarded().as_ref()),
            METRICS => self.exposition(),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz, /readyz and /guardz\n".into()),
        }
    }

    fn exposition(&self) -> Response<Full<Bytes>> {
        match self.rendered() {
            Ok(text) => with_type(StatusCode::OK, exposition::CONTENT_TYPE, Bytes::from_owner(Held(text))),
            Err(error) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics can't be encoded: {error}\n"))
            }
        }
    }

    /// Clients that ask at the same time share a text. A single client gets the current values.
    fn rendered(&self) -> Result<Arc<Exposition>, std::fmt::Error> {
        let mut newest = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exposition) = newest.upgrade().filter(|exposition| exposition.at.elapsed() < SHARED) {
            return Ok(exposition);
        }
        let exposition = Arc::new(Exposition { at: Instant::now(), text: self.metrics.text()? });
        *newest = Arc::downgrade(&exposition);
        Ok(exposition)
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use registry_api::spec::System;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use registry_verdict::object::RegistryObject;

    const SHORT: ClientLimits = ClientLimits {
        connections: Bounds { others: 48, scrapes: 16 },
        header: Duration::from_millis(500),
        response: Duration::from_millis(1500),
    };
    const CLIENTS: usize = 200;

    /// A server whose metrics are too long for a socket's buffer.
    async fn server() -> SocketAddr {
        let metrics = Metrics::new();
        for number in 0..2_000_u32 {
            let name = format!("a-registry-{number}-{}", "x".repeat(3_000));
            let metadata = kube::api::ObjectMeta { name: Some(name), ..kube::api::ObjectMeta::default() };
            metrics.registry(&RegistryObject::of_metadata::<System>(metadata));
        }
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = ServedAnswers { health: Health::new(), metrics, shared: Mutex::default() };
        tokio::spawn(serve_within(SHORT, listener, answers));
        address
    }

    /// A client that sends this, and then reads nothing.
    async fn slow(address: SocketAddr, sends: &str) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(sends.as_bytes()).await.unwrap();
        stream
    }

    async fn get(address: SocketAddr, path: &str) -> (String, usize) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        (line, answer.len())
    }

    /// Returns whether the server has closed the connection.
    fn is_closed(stream: &TcpStream) -> bool {
        let mut bytes = vec![0; 65_536];
        loop {
            match stream.try_read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Waits until the server has closed the connections of all clients that read nothing.
    async fn all_are_closed(streams: &[TcpStream]) {
        while !streams.iter().all(is_closed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn slow_readers_do_not_block_others() {
        let address = server().await;
        let mut streams = Vec::new();
        for _ in 0..CLIENTS {
            streams.push(slow(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await);
        }
        assert_eq!(get(address, "/healthz").await.0, "HTTP/1.1 200 OK");
        let (line, bytes) = get(address, "/metrics").await;
        assert!(line == "HTTP/1.1 200 OK" && bytes > 4_000_000, "{line}, {bytes} bytes");
        all_are_closed(&streams).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn endless_headers_do_not_block_others() {
        let address = server().await;
        let mut streams = Vec::new();
        for _ in 0..CLIENTS {
            streams.push(slow(address, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ").await);
        }
        assert_eq!(get(address, "/healthz").await.0, "HTTP/1.1 200 OK");
        assert_eq!(get(address, "/readyz").await.0, "HTTP/1.1 503 Service Unavailable");
        all_are_closed(&streams).await;
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_scrapes_share_one_text() {
        let answers =
            ServedAnswers { health: Health::new(), metrics: Metrics::new(), shared: Mutex::default() };
        let text = || answers.rendered().unwrap();
        let first = text();
        assert!(Arc::ptr_eq(&first, &text()));
        tokio::time::advance(SHARED).await;
        let second = text();
        assert!(!Arc::ptr_eq(&first, &second), "it is old");
        answers.metrics.leading(true);
        drop(second);
        assert!(text().text.contains("registry_operator_leader 1"), "nobody reads any more");
    }

    #[tokio::test]
    async fn unspecified_address_covers_both_families() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        }
    }
}
