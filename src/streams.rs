//! Clients for very many watches: over HTTP/2, with a connection for some eighty of them.
//!
//! The other clients speak HTTP/1.1, where each watch has a connection, with its handshake and its buffers, for itself.
//! Owns how many watches go over one connection. An API server allows some hundred streams, and a stream too many would
//! wait for another's end, which for a watch does not come.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Builder, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, ServiceBuilder};

use crate::{api_client::Guard, metrics::Metrics};

/// Streams of one connection. Kubernetes allows 100 since 1.29, Go's default before was 250; some are left for lists.
const STREAMS: usize = 80;
/// A connection that died in silence is noticed within the sum of these.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(10);

/// Gives out clients, each for one watch.
pub struct Streams {
    config: Config,
    metrics: Metrics,
    plain: Client,
    connections: Mutex<Vec<Connection>>,
}

struct Connection {
    client: Client,
    free: Arc<Semaphore>,
}

/// A client for one watch, for as long as this is held.
pub struct Stream {
    /// Over HTTP/2.
    pub client: Client,
    _place: Option<OwnedSemaphorePermit>,
}

impl Streams {
    /// No connection is open yet. `plain` is for who can't have one of these.
    pub fn new(config: Config, metrics: Metrics, plain: Client) -> Self {
        Self { config, metrics, plain, connections: Mutex::default() }
    }

    /// A client for where HTTP/2 does not get through.
    pub fn plain(&self) -> Client {
        self.plain.clone()
    }

    /// A client for one more watch.
    pub fn take(&self) -> Stream {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = connections.iter().find_map(Connection::take) {
            return stream;
        }
        match connect(&self.config, &self.metrics) {
            Some(Ok(client)) => {
                let connection = Connection { client, free: Arc::new(Semaphore::new(STREAMS)) };
                let stream = connection.take();
                connections.push(connection);
                stream.unwrap_or_else(|| self.plainly())
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "no client over HTTP/2 can be made; each watch has a connection for itself");
                self.plainly()
            }
            None => self.plainly(),
        }
    }

    fn plainly(&self) -> Stream {
        Stream { client: self.plain(), _place: None }
    }
}

impl Connection {
    fn take(&self) -> Option<Stream> {
        let place = self.free.clone().try_acquire_owned().ok()?;
        Some(Stream { client: self.client.clone(), _place: Some(place) })
    }
}

/// None where HTTP/2 or this way of connecting is not for that configuration.
fn connect(config: &Config, metrics: &Metrics) -> Option<kube::Result<Client>> {
    let https = config.cluster_url.scheme_str() == Some("https");
    (https && config.proxy_url.is_none() && config.tls_server_name.is_none()).then(|| client(config, metrics))
}

fn client(config: &Config, metrics: &Metrics) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?);
    let mut http = Builder::new(TokioExecutor::new());
    http.http2_only(true).timer(TokioTimer::new()).pool_timer(TokioTimer::new());
    http.http2_keep_alive_interval(KEEP_ALIVE).http2_keep_alive_timeout(ANSWER);
    let service = ServiceBuilder::new()
        .layer(Guard::without_term(metrics))
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http.build(tls.https_only().enable_http2().wrap_connector(tcp)));
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}
