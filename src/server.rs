//! `/metrics`, `/healthz`, `/readyz` and `/guardz`. Plain HTTP, no authentication: nothing here is secret.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};

use crate::{exposition::Format, metrics::Metrics};

/// What the probes of a kubelet ask about.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// Milliseconds after `started` at which the event loop last turned.
    turned: AtomicU64,
    ready: AtomicBool,
    guard: Mutex<Option<Guarded>>,
}

/// What the self-check of the policies has come to: in force, or what is missing.
pub type Guarded = Result<(), String>;

/// An event loop that has not turned for this long is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// How often the event loop shows that it turns.
const TURN: Duration = Duration::from_secs(1);

impl Health {
    /// Alive, not yet ready.
    pub fn new() -> Arc<Self> {
        let (turned, ready) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { started: Instant::now(), turned, ready, guard: Mutex::default() })
    }

    /// Says that the policies are in force, or what is missing; none where that is not known.
    pub fn guard(&self, guarded: Option<Guarded>) {
        *self.guarded() = guarded;
    }

    fn guarded(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the caches are synced, or this replica stands by.
    pub fn ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Shows for ever that the event loop turns.
    pub async fn turn(&self) {
        loop {
            self.turned.store(self.age(), Ordering::Relaxed);
            tokio::time::sleep(TURN).await;
        }
    }

    fn alive(&self) -> bool {
        self.age().saturating_sub(self.turned.load(Ordering::Relaxed)) < millis(STUCK)
    }

    fn age(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Listens at that address. `[::]` is all addresses of both families (Linux gives an IPv6 socket those of IPv4 too), and
/// those of IPv4 where a host has no other.
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
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(serve_one(stream, peer, health.clone(), metrics.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection to the metrics address");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, peer: SocketAddr, health: Arc<Health>, metrics: Metrics) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &health, &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = served.await {
        tracing::debug!(%peer, %error, "a connection to the metrics address ended early");
    }
}

fn answer<B>(request: &Request<B>, health: &Health, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    match request.uri().path() {
        "/healthz" if health.alive() => text(StatusCode::OK, "ok\n".into()),
        "/healthz" => text(StatusCode::SERVICE_UNAVAILABLE, "the event loop is stuck\n".into()),
        "/readyz" if health.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "caches are not synced yet\n".into()),
        "/guardz" => guard(health.guarded().as_ref()),
        "/metrics" => exposition(wanted(request), metrics),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz, /readyz and /guardz\n".into()),
    }
}

fn guard(guarded: Option<&Guarded>) -> Response<Full<Bytes>> {
    match guarded {
        Some(Ok(())) => text(StatusCode::OK, "the admission policies are in force\n".into()),
        Some(Err(gap)) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the admission policies are not in force: {gap}; apply the chart again\n"),
        ),
        None => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "this replica stands by, or does not know yet whether the admission policies are in force\n"
                .into(),
        ),
    }
}

fn wanted<B>(request: &Request<B>) -> Format {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    Format::wanted(accept.unwrap_or_default())
}

fn exposition(format: Format, metrics: &Metrics) -> Response<Full<Bytes>> {
    match metrics.text() {
        Ok(text) => with_type(StatusCode::OK, format.content_type(), format.of_openmetrics(text)),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics can't be encoded: {error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", body)
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        }
    }
}
