//! The client of the API server: who it says it is, what it counts, and how long it waits.

use std::{
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
use thiserror::Error;
use tower::{BoxError, Layer, Service};

use crate::{
    kubernetes::{
        http2::{self, Http2ClientPool},
        lease::{Connect, LeadershipTerm},
        watches::WatchPool,
    },
    observability::metrics::Metrics,
};

const AGENT: &str = concat!("registry-operator/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The clients of one replica.
pub struct ApiClients {
    /// Makes clients that write at any time: for the lease.
    pub unbound: Connect,
    /// Writes only while the term holds: for everything else.
    pub bound: Client,
    /// For dry runs that must be refused, which don't count as failures.
    pub uncounted: Client,
    /// For watches.
    pub watches: Arc<WatchPool>,
}

/// Clients that count their requests. They retry nothing by themselves: each caller knows better what a failure means.
/// `jitter` returns random numbers from 0 to 1.
pub fn clients(
    mut config: Config,
    metrics: &Metrics,
    term: Arc<LeadershipTerm>,
    jitter: fn() -> f64,
) -> kube::Result<ApiClients> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    let layer = |term| WriteGate { metrics: metrics.clone(), term };
    let bound = http2::for_calls(&config, &layer(Some(term)))?;
    let uncounted = ClientBuilder::try_from(config.clone())?.build();
    let http2 = Http2ClientPool::new(config.clone(), metrics.clone(), bound.clone());
    let watches = Arc::new(WatchPool::new(http2, jitter));
    let guard = layer(None);
    let unbound: Connect =
        Box::new(move || Ok(ClientBuilder::try_from(config.clone())?.with_layer(&guard).build()));
    Ok(ApiClients { unbound, bound, uncounted, watches })
}

/// A write was held back.
#[derive(Debug, Error)]
#[error("write refused: this replica is no longer the leader")]
struct NotLeading;

/// Counts the requests that go through it, and holds back writes outside a term.
#[derive(Clone)]
pub(crate) struct WriteGate {
    metrics: Metrics,
    term: Option<Arc<LeadershipTerm>>,
}

impl WriteGate {
    /// For what never writes.
    pub(crate) fn without_term(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), term: None }
    }

    fn admits(&self, method: &Method) -> bool {
        method == Method::GET || self.term.as_ref().is_none_or(|term| term.holds())
    }
}

impl<S> Layer<S> for WriteGate {
    type Service = GatedService<S>;

    fn layer(&self, inner: S) -> GatedService<S> {
        GatedService { inner, guard: self.clone() }
    }
}

/// A service behind a guard.
#[derive(Clone)]
pub(crate) struct GatedService<S> {
    inner: S,
    guard: WriteGate,
}

impl<S, B> Service<Request<Body>> for GatedService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !self.guard.admits(request.method()) {
            return futures::future::err(NotLeading.into()).boxed();
        }
        let (metrics, method) = (self.guard.metrics.clone(), name(request.method()));
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
