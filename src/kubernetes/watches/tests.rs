use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::Response;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::{Client, Config, client::Body};
use serde_json::{Value, json};

use super::*;
use crate::{observability::metrics::Metrics, settings::TenantAccess};

/// What the fake API server does next.
enum FakeAnswer {
    /// Answers immediately, with this status and body.
    Json(u16, Value),
    /// Answers after this time, with this body.
    Later(Duration, Value),
    /// Sends these changes, and ends the stream after this time, or never.
    Changes(Vec<Value>, Option<Duration>),
    /// Doesn't answer.
    Silence,
}

/// A fake API server that records requests: method, path and query, and time.
#[derive(Clone)]
struct FakeApiServer {
    asked: Arc<Mutex<Vec<(String, Duration)>>>,
    client: Client,
}

type FakeReply = UnsyncBoxBody<Bytes, Infallible>;

impl FakeApiServer {
    /// `answer` returns the answer to the nth request for a path. After a watch broke off, it is requested again before a list.
    fn new(answer: impl Fn(&str, usize) -> FakeAnswer + Clone + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<(String, Duration)>>> = Arc::default();
        let (began, log) = (Instant::now(), asked.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (uri, path) = (request.uri().to_string(), request.uri().path().to_owned());
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let number = log.iter().filter(|(asked, _)| asked.contains(&path)).count();
            log.push((format!("{} {uri}", request.method()), began.elapsed()));
            let answer = answer(&uri, number);
            async move { Ok::<_, Infallible>(reply(answer).await) }
        });
        Self { asked, client: Client::new(service, "default") }
    }

    fn pool(&self) -> Arc<WatchPool> {
        let config = Config::new("http://127.0.0.1:1".parse().unwrap());
        let clients = Http2ClientPool::new(config, Metrics::new(), self.client.clone());
        Arc::new(WatchPool::new(clients, || 0.5))
    }

    fn asked(&self) -> Vec<(String, Duration)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the resource versions at which changes were requested, and "list" for lists.
    fn versions(&self) -> Vec<String> {
        let version = |(uri, _): (String, Duration)| match uri.split_once("resourceVersion=") {
            Some((_, version)) if uri.contains("watch=true") => version.to_owned(),
            _ => "list".to_owned(),
        };
        self.asked().into_iter().map(version).collect()
    }

    /// Returns the times between requests.
    fn pauses(&self) -> Vec<Duration> {
        let times: Vec<Duration> = self.asked().into_iter().map(|(_, at)| at).collect();
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
    }
}

async fn reply(answer: FakeAnswer) -> Response<FakeReply> {
    let whole = |code: u16, body: Value| {
        let body = http_body_util::Full::new(Bytes::from(body.to_string())).boxed_unsync();
        Response::builder().status(code).body(body).unwrap()
    };
    match answer {
        FakeAnswer::Json(code, body) => whole(code, body),
        FakeAnswer::Later(time, body) => {
            tokio::time::sleep(time).await;
            whole(200, body)
        }
        FakeAnswer::Silence => std::future::pending().await,
        FakeAnswer::Changes(changes, ends) => {
            let lines = changes.into_iter().map(|change| Bytes::from(format!("{change}\n")));
            let end = async move {
                match ends {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            let end = stream::once(end).filter_map(|()| std::future::ready(None));
            let frames = stream::iter(lines).chain(end).map(|line| Ok(Frame::data(line)));
            Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)))
        }
    }
}

fn list(version: &str, names: &[&str]) -> FakeAnswer {
    let items: Vec<Value> = names.iter().map(|name| object(name, "1")).collect();
    FakeAnswer::Json(200, json!({"metadata": {"resourceVersion": version}, "items": items}))
}

fn object(name: &str, version: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "team", "resourceVersion": version}})
}

fn change(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn bookmark(version: &str) -> Value {
    let metadata = json!({"resourceVersion": version});
    change("BOOKMARK", &json!({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata}))
}

fn refusal(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no", "reason": "x"})
}

type FakeEvents = Result<Event<Metadata<Namespace>>, CallError>;

/// Watches for a time, and returns the events.
async fn told(server: &FakeApiServer, time: Duration) -> Vec<String> {
    let mut watch = server.pool().watch(WatchSource::namespaces());
    let (mut all, until) = (Vec::new(), Instant::now() + time);
    while let Ok(told) = timeout_at(until, watch.next()).await {
        all.push(said(told));
    }
    all
}

fn said(told: FakeEvents) -> String {
    match told {
        Ok(Event::Init) => "begins".to_owned(),
        Ok(Event::InitApply(object)) => format!("lists {}", object.name()),
        Ok(Event::InitDone) => "listed".to_owned(),
        Ok(Event::Apply(object)) => format!("has {}", object.name()),
        Ok(Event::Delete(object)) => format!("lost {}", object.name()),
        Err(_) => "failed".to_owned(),
    }
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn lists_once_and_resumes_at_the_newest_version() {
    let server = FakeApiServer::new(|_, number| match number {
        0 => list("5", &["a"]),
        1 => FakeAnswer::Changes(vec![change("ADDED", &object("b", "7"))], Some(MINUTE / 2)),
        2 => FakeAnswer::Changes(vec![change("DELETED", &object("a", "8")), bookmark("9")], Some(MINUTE / 4)),
        3 => list("7", &[]),
        5 => list("9", &[]),
        _ => FakeAnswer::Changes(Vec::new(), None),
    });
    assert_eq!(told(&server, MINUTE).await, ["begins", "lists a", "listed", "has b", "lost a"]);
    assert_eq!(server.versions(), ["list", "5", "7", "list", "9", "list"]);
}

/// A busy API server ends a watch, and takes long for a list.
#[tokio::test(start_paused = true)]
async fn resumes_at_once_while_the_version_is_compared() {
    let server = FakeApiServer::new(|_, number| match number {
        0 => list("5", &[]),
        1 => FakeAnswer::Changes(vec![change("ADDED", &object("a", "7"))], Some(Duration::ZERO)),
        2 => FakeAnswer::Changes(vec![change("ADDED", &object("b", "8"))], Some(Duration::ZERO)),
        3 => FakeAnswer::Silence,
        _ => FakeAnswer::Changes(vec![change("ADDED", &object("c", "9"))], None),
    });
    assert_eq!(told(&server, SHORTEST).await, ["begins", "listed", "has a", "has b", "has c"]);
    assert_eq!(server.pauses().iter().sum::<Duration>(), Duration::ZERO, "{:?}", server.asked());
}

/// An API server that is restarted with a restored store while the version is compared.
#[tokio::test(start_paused = true)]
async fn finishes_a_comparison_and_repeats_it_after_another_break() {
    let server = FakeApiServer::new(|_, number| match number {
        0 => list("5", &[]),
        1 => FakeAnswer::Changes(vec![change("ADDED", &object("a", "7"))], Some(Duration::ZERO)),
        2 => FakeAnswer::Changes(vec![change("ADDED", &object("b", "8"))], Some(SHORTEST)),
        3 => FakeAnswer::Later(SHORTEST * 3, json!({"metadata": {"resourceVersion": "7"}, "items": []})),
        5 => list("6", &[]),
        _ => FakeAnswer::Changes(Vec::new(), None),
    });
    let pool = server.pool();
    let mut watch = pool.watch(WatchSource::namespaces());
    let began = Instant::now();
    tokio::select! {
        () = pool.set_back().notified() => {}
        () = async { while watch.next().await.is_ok() {} } => panic!("a failure"),
        () = tokio::time::sleep(MINUTE) => panic!("{:?}", server.asked()),
    }
    assert_eq!(server.versions(), ["list", "5", "7", "list", "8", "list"]);
    assert_eq!(began.elapsed(), SHORTEST * 3, "when the first comparison ends");
}

/// The comparison ends before the store is restored, while the watch can't resume; or it fails.
#[tokio::test(start_paused = true)]
async fn compares_again_after_it_failed_to_resume() {
    for first in [(200, json!({"metadata": {"resourceVersion": "7"}, "items": []})), (500, refusal(500))] {
        let server = FakeApiServer::new(move |_, number| match number {
            0 => list("5", &[]),
            1 => FakeAnswer::Changes(vec![change("ADDED", &object("a", "7"))], Some(Duration::ZERO)),
            2 => FakeAnswer::Json(500, refusal(500)),
            3 => FakeAnswer::Json(first.0, first.1.clone()),
            5 => list("6", &[]),
            _ => FakeAnswer::Changes(Vec::new(), None),
        });
        let pool = server.pool();
        let mut watch = pool.watch(WatchSource::namespaces());
        let watching = async {
            loop {
                let _ = watch.next().await;
            }
        };
        tokio::select! {
            () = pool.set_back().notified() => {}
            () = watching => {}
            () = tokio::time::sleep(MINUTE) => panic!("{:?}", server.asked()),
        }
        assert_eq!(server.versions(), ["list", "5", "7", "list", "7", "list"]);
    }
}

#[tokio::test(start_paused = true)]
async fn compares_the_version_again_until_there_is_an_answer() {
    let server = FakeApiServer::new(|_, number| match number {
        0 => list("5", &[]),
        1 => FakeAnswer::Changes(vec![change("ADDED", &object("a", "7"))], Some(Duration::ZERO)),
        3 => FakeAnswer::Json(500, refusal(500)),
        5 => list("7", &[]),
        _ => FakeAnswer::Changes(Vec::new(), None),
    });
    assert_eq!(told(&server, MINUTE).await, ["begins", "listed", "has a", "failed"]);
    assert_eq!(server.versions(), ["list", "5", "7", "list", "7", "list"]);
}

#[tokio::test(start_paused = true)]
async fn reads_a_list_page_by_page() {
    let page = |names: &[&str], next: &str| {
        let items: Vec<Value> = names.iter().map(|name| object(name, "1")).collect();
        FakeAnswer::Json(200, json!({"metadata": {"resourceVersion": "5", "continue": next}, "items": items}))
    };
    let server = FakeApiServer::new(move |_, number| match number {
        0 => page(&["a"], "more"),
        1 => page(&["b"], ""),
        _ => FakeAnswer::Changes(Vec::new(), None),
    });
    assert_eq!(told(&server, MINUTE).await, ["begins", "lists a", "lists b", "listed"]);
    assert!(server.asked()[1].0.contains("continue=more"), "{:?}", server.asked());
}

#[tokio::test(start_paused = true)]
async fn lists_again_when_its_version_is_gone() {
    let gone = [
        FakeAnswer::Changes(vec![change("ERROR", &refusal(410))], None),
        FakeAnswer::Json(410, refusal(410)),
    ];
    for (case, gone) in gone.into_iter().enumerate() {
        let gone = Arc::new(Mutex::new(Some(gone)));
        let server = FakeApiServer::new(move |_, number| match number {
            0 => list("5", &["a"]),
            1 => gone.lock().unwrap().take().unwrap(),
            2 => list("9", &["a", "b"]),
            _ => FakeAnswer::Changes(Vec::new(), None),
        });
        let told = told(&server, MINUTE).await;
        let anew = ["begins", "lists a", "lists b", "listed"];
        assert_eq!(told[told.len() - 4..], anew, "case {case}");
        assert_eq!(server.versions(), ["list", "5", "list", "9"], "case {case}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_a_busy_server_asks() {
    let mut busy = refusal(429);
    busy["details"] = json!({"retryAfterSeconds": 7});
    let server = FakeApiServer::new(move |_, number| match number {
        0 | 2 => FakeAnswer::Json(429, busy.clone()),
        1 => list("5", &[]),
        _ => FakeAnswer::Changes(Vec::new(), None),
    });
    assert_eq!(told(&server, MINUTE).await, ["begins", "failed", "begins", "listed", "failed"]);
    let pauses = server.pauses();
    assert!(pauses[0] >= Duration::from_secs(7) && pauses[2] >= Duration::from_secs(7), "{pauses:?}");
    assert_eq!(server.versions()[3], "5", "it does not list anew");
}

#[tokio::test(start_paused = true)]
async fn backs_off_from_a_failing_server() {
    for code in [500, 503] {
        let server = FakeApiServer::new(move |_, _| FakeAnswer::Json(code, refusal(code)));
        told(&server, MINUTE * 10).await;
        let pauses = server.pauses();
        assert!(pauses[0] < Duration::from_millis(200), "{pauses:?}");
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1] + Duration::from_millis(1)), "{pauses:?}");
        assert!(pauses.iter().max().unwrap() <= &(Backoff::WATCH.longest() * 3 / 2), "{pauses:?}");
        assert!(pauses.len() < 120, "{} requests in ten minutes", pauses.len());
    }
}

#[tokio::test(start_paused = true)]
async fn retries_without_response() {
    let server = FakeApiServer::new(|_, number| match number {
        0 | 2 => FakeAnswer::Silence,
        1 => list("5", &[]),
        _ => FakeAnswer::Changes(Vec::new(), None),
    });
    assert_eq!(told(&server, MINUTE * 2).await, ["begins", "failed", "begins", "listed", "failed"]);
    assert_eq!(server.versions(), ["list", "list", "5", "5"]);
}

#[tokio::test(start_paused = true)]
async fn backs_off_from_changes_that_end_at_once() {
    let server = FakeApiServer::new(|uri, _| {
        if uri.contains("watch=true") {
            FakeAnswer::Changes(Vec::new(), Some(Duration::ZERO))
        } else {
            list("5", &[])
        }
    });
    told(&server, MINUTE).await;
    assert!(server.asked().len() < 60, "{} requests, two each time", server.asked().len());
}

#[tokio::test(start_paused = true)]
async fn grants_itself_access_once_then_waits() {
    let server = FakeApiServer::new(|uri, _| match uri {
        uri if uri.contains("selfsubjectreviews") => {
            FakeAnswer::Json(201, json!({"status": {"userInfo": {"username": "operator"}}, "metadata": {}}))
        }
        uri if uri.contains("/secrets") => FakeAnswer::Json(403, refusal(403)),
        uri if uri.contains("clusterroles") => FakeAnswer::Json(200, object("role", "1")),
        _ => FakeAnswer::Json(
            200,
            json!({"metadata": {}, "roleRef": {"kind": "x", "name": "x", "apiGroup": "x"}}),
        ),
    });
    let access =
        Arc::new(Access::new(server.client.clone(), TenantAccess::Bound, "registry-system").await.unwrap());
    access.labelled("team".into(), "a".into());
    let mut watch = server.pool().watch(WatchSource::secrets_metadata(&access, &"team".into()));
    let hour = Instant::now() + MINUTE * 60;
    while timeout_at(hour, watch.next()).await.is_ok() {}
    let asked = server.asked();
    let count = |what: &str| asked.iter().filter(|(asked, _)| asked.contains(what)).count();
    assert_eq!(count("PATCH"), 1, "{asked:?}");
    assert!((60..=140).contains(&count("/secrets")), "{} lists in an hour", count("/secrets"));
}

#[tokio::test(start_paused = true)]
async fn renews_a_watch_after_ten_to_twenty_minutes() {
    let server = FakeApiServer::new(|_, number| match number {
        0 => list("5", &[]),
        1 => FakeAnswer::Changes(vec![bookmark("8")], None),
        _ => FakeAnswer::Changes(Vec::new(), None),
    });
    told(&server, MINUTE * 16).await;
    assert_eq!(server.versions(), ["list", "5", "8"], "jitter is half of what it may be");
    assert!(server.pauses()[1] >= MINUTE * 15);
    assert!(server.asked()[1].0.contains("timeoutSeconds=86400"), "{:?}", server.asked()[1]);
}

#[tokio::test(start_paused = true)]
async fn watch_lasts_longer_with_more_watches() {
    let server = FakeApiServer::new(|_, number| match number {
        0 => list("5", &[]),
        _ => FakeAnswer::Changes(Vec::new(), None),
    });
    let pool = server.pool();
    let mut watch = pool.watch(WatchSource::namespaces());
    let others: Vec<_> = (0..299).map(|_| pool.watch(WatchSource::namespaces())).collect();
    let hours = Instant::now() + MINUTE * 149;
    while timeout_at(hours, watch.next()).await.is_ok() {}
    assert_eq!(server.asked().len(), 2, "300 watches last 100 to 200 minutes each");
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn detects_restored_etcd_when_resuming() {
    for (revision, expected) in [("6", true), ("7", false), ("8", false)] {
        let server = FakeApiServer::new(move |_, number| match number {
            0 => list("5", &[]),
            1 => FakeAnswer::Changes(vec![bookmark("7")], Some(MINUTE)),
            3 => list(revision, &[]),
            _ => FakeAnswer::Changes(Vec::new(), None),
        });
        let pool = server.pool();
        let mut watch = pool.watch(WatchSource::namespaces());
        let watching = async { while watch.next().await.is_ok() {} };
        let noticed = tokio::select! {
            () = pool.set_back().notified() => true,
            _ = tokio::time::timeout(MINUTE * 2, watching) => false,
        };
        assert_eq!(noticed, expected, "the store is at {revision}, the watch at 7");
    }
}

#[test]
fn renews_at_most_three_watches_a_minute() {
    for watches in [1, 20, 31, 1_000, 2_000] {
        let a_minute = f64::from(watches) * 60.0 / renewal(watches).as_secs_f64();
        assert!(a_minute <= 3.01, "{watches} watches: {a_minute}");
        assert!(renewal(watches) >= LEAST_RENEWAL);
    }
    assert!(renewal(u32::MAX) * 2 <= SERVER_TIMEOUT);
}

#[test]
fn drops_annotations_and_managed_fields() {
    let object = json!({"metadata": {
        "name": "a", "resourceVersion": "7", "labels": {"team": "x"}, "deletionTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"long": "x".repeat(1_000)}, "managedFields": [{"manager": "m", "fieldsV1": {"f:a": {}}}],
    }});
    let metadata: Metadata<Namespace> = serde_json::from_value(object).unwrap();
    assert!(format!("{metadata:?}").len() < 300);
    assert_eq!((&*metadata.name(), metadata.label("team")), ("a", Some("x")));
    assert!(metadata.is_being_deleted());
    assert_eq!(metadata.into_version(), "7");
}
