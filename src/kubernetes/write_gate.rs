//! A layer below every client for the API server. It counts requests, and refuses writes outside the leadership term.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response};
use kube::client::Body;
use thiserror::Error;
use tower::{BoxError, Layer, Service};

use crate::{kubernetes::term::LeadershipTerm, observability::metrics::Metrics};

/// A write was refused, because this replica isn't the leader.
#[derive(Debug, Error)]
#[error("write refused: this replica is no longer the leader")]
struct NotLeading;

/// Counts requests, and refuses writes outside the leadership term.
#[derive(Clone)]
pub struct WriteGate {
    metrics: Metrics,
    term: Option<Arc<LeadershipTerm>>,
}

impl WriteGate {
    /// Allows writes during the term; always if there is none.
    pub fn new(metrics: Metrics, term: Option<Arc<LeadershipTerm>>) -> Self {
        Self { metrics, term }
    }

    /// For clients that never write.
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

/// A service behind a [`WriteGate`].
#[derive(Clone)]
pub struct GatedService<S> {
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

/// The value of the metric's label for a method, from a closed set.
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
