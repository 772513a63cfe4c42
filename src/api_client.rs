//! The client of the API server: who it says it is, what it counts, and how long it waits.

use std::{
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Method, Request, Response, header::USER_AGENT};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use registry_probe::IpNet;
use tower::{Layer, Service};

use crate::metrics::Metrics;

const AGENT: &str = concat!("registry-operator/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that counts its requests. It retries nothing by itself: each caller knows better what a failure means.
pub fn client(mut config: Config, metrics: Metrics) -> kube::Result<Client> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Ok(ClientBuilder::try_from(config)?.with_layer(&Count(metrics)).build())
}

/// The API server's own addresses, as far as the configuration tells them: nothing that a tenant may connect to.
/// A loopback address is left to the fence's own rule, since it stands for many servers.
pub fn cluster_addresses(config: &Config) -> Arc<[IpNet]> {
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<IpAddr>().ok().filter(|address| !address.is_loopback());
    address.map(IpNet::from).into_iter().collect()
}

/// Counts the requests that go through it.
struct Count(Metrics);

impl<S> Layer<S> for Count {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.0.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Clone)]
struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (metrics, method) = (self.metrics.clone(), name(request.method()));
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            metrics.api_request(method, answer.as_ref().map_or(0, |response| response.status().as_u16()));
            answer
        }
        .boxed()
    }
}

/// The closed set of label values for methods.
fn name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
