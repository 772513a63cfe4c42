//! HTTP/2 connections that many watches share.
//!
//! With HTTP/1.1, each watch needs its own connection, with a handshake, buffers and a file descriptor. Owns how many
//! watches share a connection: an API server allows 100 streams, and one stream too many would wait for another one to
//! end, which a watch never does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Request;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Builder, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tower::{BoxError, ServiceBuilder};

use crate::{kubernetes::write_gate::WriteGate, observability::metrics::Metrics};

/// Streams per connection. Kubernetes allows 100 since 1.29; before, it was Go's default, 250. A few are left for
/// streams whose end the server hasn't noticed yet.
const STREAMS: usize = 96;
/// Interval and timeout of pings. A dead connection is noticed within their sum.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Deadline for finding out whether a protocol works.
const ANSWER: Duration = Duration::from_secs(10);

/// Creates clients, each for one watch.
pub struct Http2ClientPool {
    config: Config,
    metrics: Metrics,
    plain: Client,
    protocol: OnceCell<Protocol>,
    connections: Mutex<Vec<Http2Connection>>,
}

/// The protocols that the API server, and proxies in front of it, support.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    Http2,
    Http1,
}

struct Http2Connection {
    number: usize,
    client: Client,
    free: Arc<Semaphore>,
}

/// A client for one watch. It occupies a stream until dropped.
pub struct WatchClient {
    /// The client.
    pub client: Client,
    /// The number of the connection; `None` if each watch has its own.
    pub connection: Option<usize>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Http2ClientPool {
    /// Creates a pool without connections. `plain` is used if HTTP/2 doesn't work.
    pub fn new(config: Config, metrics: Metrics, plain: Client) -> Self {
        Self { config, metrics, plain, protocol: OnceCell::new(), connections: Mutex::default() }
    }

    /// Returns a client for one more watch, over another connection than `than`. `None` if the API server doesn't
    /// answer with any protocol.
    pub async fn stream(&self, than: Option<usize>) -> Option<WatchClient> {
        match self.protocol.get_or_try_init(|| self.probe()).await {
            Ok(Protocol::Http2) => Some(self.take(than)),
            Ok(Protocol::Http1) => Some(self.plainly()),
            Err(NoAnswer) => None,
        }
    }

    /// Finds out once which protocol works. An API server that is unavailable for a moment must not count as one
    /// without HTTP/2, so that each watch gets its own connection only if HTTP/1.1 works and HTTP/2, immediately
    /// afterwards, doesn't.
    async fn probe(&self) -> Result<Protocol, NoAnswer> {
        let http2 = self.take(None);
        if http2.connection.is_none() {
            return Ok(Protocol::Http1);
        }
        if answers(&http2.client).await {
            return Ok(Protocol::Http2);
        }
        if !answers(&self.plain).await {
            return Err(NoAnswer);
        }
        if answers(&http2.client).await {
            return Ok(Protocol::Http2);
        }
        tracing::warn!("the API server does not support HTTP/2; each watch uses its own connection");
        Ok(Protocol::Http1)
    }

    fn take(&self, than: Option<usize>) -> WatchClient {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let mut others = connections.iter().filter(|connection| Some(connection.number) != than);
        if let Some(stream) = others.find_map(Http2Connection::take) {
            return stream;
        }
        match connect(&self.config, &self.metrics) {
            Some(Ok(client)) => {
                let (number, free) = (connections.len(), Arc::new(Semaphore::new(STREAMS)));
                let connection = Http2Connection { number, client, free };
                let stream = connection.take();
                connections.push(connection);
                stream.unwrap_or_else(|| self.plainly())
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "failed to create an HTTP/2 client; each watch uses its own connection");
                self.plainly()
            }
            None => self.plainly(),
        }
    }

    fn plainly(&self) -> WatchClient {
        WatchClient { client: self.plain.clone(), connection: None, _place: None }
    }
}

impl Http2Connection {
    fn take(&self) -> Option<WatchClient> {
        let place = self.free.clone().try_acquire_owned().ok()?;
        Some(WatchClient { client: self.client.clone(), connection: Some(self.number), _place: Some(place) })
    }
}

/// The API server didn't answer with any protocol.
struct NoAnswer;

/// Returns whether there is any response.
async fn answers(client: &Client) -> bool {
    let Ok(request) = Request::get("/version").body(Body::empty()) else { return false };
    matches!(timeout(ANSWER, client.send(request)).await, Ok(Ok(_)))
}

/// Creates a client for calls. With HTTP/2, all calls share one connection.
pub(crate) fn for_calls(config: &Config, guard: &WriteGate) -> kube::Result<Client> {
    if connects_here(config) {
        return client(config, guard, Spoken::Either);
    }
    Ok(ClientBuilder::try_from(config.clone())?.with_layer(guard).build())
}

/// Returns `None` if HTTP/2, or connecting without a proxy, isn't possible with that configuration.
fn connect(config: &Config, metrics: &Metrics) -> Option<kube::Result<Client>> {
    connects_here(config).then(|| client(config, &WriteGate::without_term(metrics), Spoken::Http2))
}

/// Returns whether this code connects. kube's own client handles proxies and other server names.
fn connects_here(config: &Config) -> bool {
    let https = config.cluster_url.scheme_str() == Some("https");
    https && config.proxy_url.is_none() && config.tls_server_name.is_none()
}

/// The protocols to offer to the API server.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Spoken {
    Http2,
    Either,
}

fn client(config: &Config, guard: &WriteGate, spoken: Spoken) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // A request has two frames. With Nagle's algorithm, the second would wait for the delayed acknowledgement of the
    // first, 40 ms.
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_only();
    let https = match spoken {
        Spoken::Http2 => tls.enable_http2().wrap_connector(tcp),
        Spoken::Either => tls.enable_all_versions().wrap_connector(tcp),
    };
    let mut http = Builder::new(TokioExecutor::new());
    http.http2_only(spoken == Spoken::Http2).timer(TokioTimer::new()).pool_timer(TokioTimer::new());
    http.http2_keep_alive_interval(KEEP_ALIVE).http2_keep_alive_timeout(KEEP_ALIVE_ANSWER);
    let service = ServiceBuilder::new()
        .layer(guard.clone())
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http.build(https));
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}
