//! For tests: a console whose API server is a function in this process, and requests as a browser sends them.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode, header};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Config};
use registry_check::{
    check::{CheckNetwork, Checker},
    cluster::Cluster,
};
use registry_probe::{Prober, ProberSettings};
use registry_verdict::{cluster_addresses::ClusterAddresses, validate::AdminPolicy};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    console::Console,
    edge::Edge,
    form::RegistryForm,
    public_url::PublicUrl,
    routes,
    session::{Door, Session},
    user::{ApiServerAddress, SignIn, UserClient},
};

pub const SESSION: &str = "session-id";
pub const CODE: &str = "one-time-code";
const PORT: u16 = 8080;
const BOUNDARY: &str = "boundary";
const LARGEST: usize = 1024 * 1024;

/// What was asked of the API server: method, URL and body of each request.
#[derive(Clone, Default)]
pub struct ApiLog(Arc<Mutex<Vec<(String, Value)>>>);

impl ApiLog {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(line, _)| line.clone()).collect()
    }

    /// The body of the first request that begins so.
    pub fn body_of(&self, start: &str) -> Option<Value> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().find(|(line, _)| line.starts_with(start)).map(|(_, body)| body.clone())
    }
}

/// An API server that answers with what `answer` returns for `METHOD /path?query`; with the request's own body where that is 201.
pub fn api(answer: impl Fn(&str) -> u16 + Clone + Send + Sync + 'static) -> (Router, ApiLog) {
    let log = ApiLog::default();
    let kept = log.clone();
    let reason = |code: u16| match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "AlreadyExists",
        _ => "Simulated",
    };
    let handle = move |request: Request| async move {
        let line = format!("{} {}", request.method(), request.uri());
        let body = to_bytes(request.into_body(), LARGEST).await.unwrap();
        let mut body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let code = answer(&line);
        kept.0.lock().unwrap().push((line, body.clone()));
        let code = StatusCode::from_u16(code).unwrap();
        if code == StatusCode::CREATED {
            body["metadata"]["uid"] = json!("a-uid");
        } else if code != StatusCode::OK {
            body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "message": "simulated",
                "reason": reason(code.as_u16())});
        } else {
            body = json!({"kind": "Status", "apiVersion": "v1", "status": "Success"});
        }
        (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    };
    (Router::new().fallback(handle), log)
}

pub fn cluster(api: Router) -> Cluster {
    Cluster {
        client: Client::new(api, "default"),
        namespace: "default".to_owned(),
        system_namespace: "registry-system".to_owned(),
    }
}

fn checker(now: fn() -> Timestamp) -> Checker {
    let admin_policy = AdminPolicy {
        egress_allow: Arc::new([]),
        egress_deny: Arc::new([]),
        cluster_addresses: ClusterAddresses::new([]),
        trusted_token_services: Arc::new([]),
    };
    let prober = Prober::new(ProberSettings::default()).unwrap();
    Checker { prober, tokens: None, admin_policy, network: CheckNetwork::Users, clock: now }
}

/// A console with one session, and a door that leads to no API server.
pub fn console(api: Router, now: fn() -> Timestamp) -> Arc<Console> {
    let edge = Edge { now, random: || Some([7; 32]) };
    let nowhere = Config::new("http://127.0.0.1:1".parse().unwrap());
    let door = Door::new(CODE.to_owned(), SignIn::simulated(nowhere));
    let console = Console::on_loopback(PORT, "registry-system", edge, checker(now), door);
    let user = UserClient::simulated(cluster(api));
    let session = Session::new(user, "ann".to_owned(), now());
    console.sessions().begin(SESSION.to_owned(), session, now());
    Arc::new(console)
}

/// A console for everyone with a token. The API server says that the user of `NAME-ANYTHING` is `NAME`.
pub fn in_cluster() -> Arc<Console> {
    in_cluster_at(&format!("http://127.0.0.1:{PORT}"))
}

/// Likewise, at that URL.
pub fn in_cluster_at(url: &str) -> Arc<Console> {
    let connections = Client::new(Router::new().fallback(review), "default");
    let api_server = ApiServerAddress::simulated(connections);
    let edge = Edge { now: epoch, random };
    let url = PublicUrl::parse(url).unwrap();
    Arc::new(Console::in_cluster(&url, "registry-system", edge, checker(epoch), api_server))
}

async fn review(request: Request) -> Response {
    let token = request.headers()[header::AUTHORIZATION].to_str().unwrap();
    let (name, _) = token.trim_start_matches("Bearer ").split_once('-').unwrap();
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {},
        "status": {"userInfo": {"username": name}},
    });
    (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], review.to_string()).into_response()
}

/// Other numbers each time, 256 times.
fn random() -> Option<[u8; 32]> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    u8::try_from(COUNT.fetch_add(1, Ordering::Relaxed)).ok().map(|number| [number; 32])
}

/// A clock that stands still.
pub fn epoch() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

pub fn request(method: Method, path: &str, media_type: &str, body: impl Into<Body>) -> Request {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, format!("127.0.0.1:{PORT}"))
        .header(header::ORIGIN, format!("http://127.0.0.1:{PORT}"))
        .header(header::COOKIE, format!("registry-console-{PORT}={SESSION}"))
        .header(header::CONTENT_TYPE, media_type)
        .body(body.into())
        .unwrap()
}

/// The form of a registry, submitted.
pub fn form(path: &str, fields: &[(&str, &str)]) -> Request {
    let part = |(name, value): &(&str, &str)| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body: String = fields.iter().map(part).collect();
    let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
    request(Method::POST, path, &media_type, format!("{body}--{BOUNDARY}--\r\n"))
}

pub async fn answer(console: &Arc<Console>, request: Request) -> (StatusCode, String) {
    text_of(routes::router(console.clone()).oneshot(request).await.unwrap()).await
}

pub async fn get(console: &Arc<Console>, path: &str) -> (StatusCode, String) {
    answer(console, request(Method::GET, path, "", Body::empty())).await
}

pub async fn text_of(response: Response) -> (StatusCode, String) {
    let (head, body) = response.into_parts();
    let body = to_bytes(body, LARGEST).await.unwrap();
    (head.status, String::from_utf8(body.to_vec()).unwrap())
}

/// A form in which these fields were filled in.
pub fn filled(fields: &[(&str, &str)]) -> RegistryForm {
    let mut form = RegistryForm::default();
    for (name, value) in fields {
        form.take(name, value.as_bytes());
    }
    form
}
