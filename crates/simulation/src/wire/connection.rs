//! The service that the operator's clients use: every request goes through it, and meets its fate here.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::json;
use tower::{BoxError, Service, ServiceExt as _};

use super::{
    ApiLink,
    fate::{Fate, RequestPurpose},
    log::SentRequest,
};
use crate::clock;

/// The body of an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;
type LinkAnswer = Result<Response<AnswerBody>, BoxError>;

/// A connection of a process to its API server, `S`.
#[derive(Clone, Debug)]
pub struct LinkConnection<S> {
    server: S,
    link: Arc<ApiLink>,
}

impl<S> LinkConnection<S> {
    /// Connects a process with its API server.
    pub fn new(server: S, link: Arc<ApiLink>) -> Self {
        Self { server, link }
    }
}

impl<S, B> Service<Request<Body>> for LinkConnection<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, LinkAnswer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (server, link) = (self.server.clone(), self.link.clone());
        async move {
            if link.is_killed() {
                return futures::future::pending().await;
            }
            let fate = link.send(&request);
            if request.method() == Method::GET {
                return link.carry(server, request, fate).await;
            }
            // Once sent, a write arrives, even if the sender doesn't wait for the answer any more.
            let carried = tokio::spawn(link.carry(server, request, fate));
            carried.await.map_err(BoxError::from)?
        }
        .boxed()
    }
}

impl ApiLink {
    /// Decides what happens to a request, and records it.
    fn send(&self, request: &Request<Body>) -> Fate {
        let (method, path) = (request.method(), request.uri());
        let (method, path) = (method.to_string(), path.to_string());
        let fate = self.fate(RequestPurpose::of(&method, &path));
        self.log.add(SentRequest {
            at: clock::elapsed(),
            replica: self.replica,
            incarnation: self.incarnation,
            method,
            path,
            fate,
        });
        fate
    }

    async fn carry<S, B>(self: Arc<Self>, server: S, request: Request<Body>, fate: Fate) -> LinkAnswer
    where
        S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError> + Send,
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        tokio::time::sleep(self.latency()).await;
        self.until(|state| !state.faults.frozen).await;
        match fate {
            Fate::Refused(status) => return Ok(refusal(status)),
            Fate::Reset => return Err(reset()),
            Fate::Kill { after: false } => return self.die().await,
            Fate::Late(late) => tokio::time::sleep(late).await,
            Fate::Arrive | Fate::ReplyLost | Fate::Unanswered | Fate::Kill { after: true } => {}
        }
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let cuts = self.state().cuts;
        let answer = server.oneshot(request).await.map_err(Into::into);
        tokio::time::sleep(self.latency()).await;
        self.until(|state| !state.faults.frozen).await;
        match fate {
            Fate::ReplyLost => return Err(reset()),
            Fate::Unanswered => return futures::future::pending().await,
            Fate::Kill { .. } => return self.die().await,
            Fate::Arrive | Fate::Late(_) | Fate::Refused(_) | Fate::Reset => {}
        }
        let (head, body) = answer?.into_parts();
        let body = if is_watch { self.watched(body, cuts) } else { body.map_err(Into::into).boxed_unsync() };
        Ok(Response::from_parts(head, body))
    }

    async fn die(&self) -> LinkAnswer {
        self.kill();
        futures::future::pending().await
    }
}

pub(super) fn reset() -> BoxError {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

/// The answer of an API server that refuses a request.
fn refusal(code: u16) -> Response<AnswerBody> {
    let reason = match code {
        403 => "Forbidden",
        409 => "Conflict",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "code": code, "message": format!("{reason}, by the simulation"),
    });
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}
