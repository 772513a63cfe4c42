//! The way in for `kube::Client`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use kube::client::Body;
use serde_json::{Value, json};
use tower::{BoxError, Service};

use super::{
    ApiServer,
    request::{ApiCall, parse},
    state::{Answered, ApiAnswer},
    watch::WatchBody,
    write_record::{WritePhase, WriteTarget},
};

/// A user's connection to one of the API servers, for `kube::Client::new`.
#[derive(Clone)]
pub struct ApiConnection {
    server: ApiServer,
    replica: usize,
    user: Arc<str>,
}

impl ApiConnection {
    pub(super) fn new(server: ApiServer, replica: usize, user: &str) -> Self {
        Self { server, replica, user: user.into() }
    }

    /// Answers a request whose body was read.
    fn respond(&self, request: &http::request::Parts, body: &[u8]) -> Response<ResponseBody> {
        if request.uri.path() == "/version" && request.method == Method::GET {
            return whole(200, "application/json", version().to_string().into_bytes());
        }
        match self.answer(request, body) {
            Ok(ApiAnswer::Object { code, object }) => whole(code, "application/json", bytes_of(&object)),
            Ok(ApiAnswer::Value { code, value }) => whole(code, "application/json", bytes_of(&value)),
            Ok(ApiAnswer::Watch(start)) => {
                let watch = WatchBody::new(self.server.clone(), start);
                response(200, "application/json", ResponseBody(BodyKind::Watch(Box::new(watch))))
            }
            Err(failure) => {
                self.server.note_unknown(&format!("{} {}", request.method, request.uri), &failure);
                let (body, media_type) = failure.body();
                whole(failure.code(), media_type, body)
            }
        }
    }

    fn answer(&self, request: &http::request::Parts, body: &[u8]) -> Answered {
        let whose = (self.user.clone(), self.replica);
        let call = parse(whose, (&request.method, &request.uri, &request.headers), body)?;
        self.carry_out(&call)
    }

    fn carry_out(&self, call: &ApiCall) -> Answered {
        let hook = self.server.hook().filter(|_| call.verb.writes());
        if let Some(hook) = &hook {
            hook(WritePhase::Before(&WriteTarget::of(call)));
        }
        let (answer, record) = self.server.carry_out(call);
        if let (Some(hook), Some(record)) = (hook, record) {
            hook(WritePhase::After(&record));
        }
        answer
    }
}

impl Service<Request<Body>> for ApiConnection {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            Ok(connection.respond(&parts, &body))
        })
    }
}

/// The body of a response: all at once, or the lines of a watch.
pub struct ResponseBody(BodyKind);

enum BodyKind {
    Whole(Option<Bytes>),
    Watch(Box<WatchBody>),
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            BodyKind::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            BodyKind::Watch(watch) => {
                watch.poll_line(context).map(|line| line.map(|line| line.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, BodyKind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodyKind::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            BodyKind::Watch(_) => SizeHint::default(),
        }
    }
}

/// Returns a value as JSON, which can't fail.
pub(super) fn bytes_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn whole(code: u16, media_type: &'static str, body: Vec<u8>) -> Response<ResponseBody> {
    response(code, media_type, ResponseBody(BodyKind::Whole(Some(body.into()))))
}

fn response(code: u16, media_type: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
    response
}

/// What the newest supported Kubernetes says of itself, as far as clients read it.
fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-04-22T00:00:00Z", "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64",
    })
}
