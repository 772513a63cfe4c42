//! Hostile servers: the deadline holds, memory is bounded, and nothing else waits for them.

use std::time::{Duration, Instant};

use crate::support::*;
use registry_probe::*;

/// The deadline if nothing else ends the validation. All earlier steps must finish before it, on any machine.
const SHORT_DEADLINE: Duration = Duration::from_secs(2);
/// The time that a busy machine may add. A validation that ignores the deadline goes on forever.
const GRACE: Duration = Duration::from_secs(10);

async fn hasty(server: &Server) -> (Findings, Duration) {
    let started = Instant::now();
    let target = Target { deadline: SHORT_DEADLINE, ..target(&server.url()) };
    let findings = probe(&target, &alice()).await;
    (findings, started.elapsed())
}

/// Validates with a long deadline, which is not what ends the validation.
async fn patient(server: &Server) -> Findings {
    probe(&target(&server.url()), &alice()).await
}

fn head(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\n{rest}").into_bytes()
}

#[tokio::test]
async fn deadline_holds_against_endless_responses() {
    let cases = [Answer::Silence, Answer::Drip(b"HTTP/1.1 200 OK\r\n".to_vec()), Answer::Drip(b"H".to_vec())];
    for answer in cases {
        let script = answer.clone();
        let server = Server::http(move |_| script.clone()).await;
        let (findings, took) = hasty(&server).await;
        assert!(took < SHORT_DEADLINE + GRACE, "{answer:?}: {took:?}");
        let EndpointFinding::Timeout { during, .. } = findings.endpoint else {
            panic!("{answer:?}: {findings:#?}")
        };
        assert_eq!(during, Stage::Request);
    }
}

#[tokio::test]
async fn limits_endless_informational_responses() {
    let unit = b"HTTP/1.1 100 Continue\r\n\r\n";
    let server = Server::http(|_| Answer::Flood { head: Vec::new(), unit: unit.to_vec() }).await;
    let (findings, took) = hasty(&server).await;
    assert!(took < SHORT_DEADLINE + GRACE, "{took:?}");
    // Which of them comes first is the machine's to say.
    let is_cut = matches!(
        findings.endpoint,
        EndpointFinding::Timeout { during: Stage::Request, .. }
            | EndpointFinding::NotARegistry { cause: NotARegistry::NotHttp, .. }
    );
    assert!(is_cut, "{findings:#?}");
}

#[tokio::test]
async fn rejects_endless_headers_and_truncates_bodies() {
    let server =
        Server::http(|_| Answer::Flood { head: head(""), unit: b"X-Padding: aaaaaaaaaaaaaaaa\r\n".into() })
            .await;
    let findings = patient(&server).await;
    let EndpointFinding::NotARegistry { cause, .. } = findings.endpoint else { panic!("{findings:#?}") };
    assert_eq!(cause, NotARegistry::NotHttp);

    let chunked = head("Transfer-Encoding: chunked\r\n\r\n");
    let unit = format!("1000\r\n{}\r\n", "z".repeat(0x1000)).into_bytes();
    let server = Server::http(move |_| Answer::Flood { head: chunked.clone(), unit: unit.clone() }).await;
    let findings = patient(&server).await;
    assert_eq!(findings.endpoint, EndpointFinding::Reachable, "the header is sign enough");
}

#[tokio::test]
async fn rejects_a_mebibyte_of_challenges() {
    let server = Server::http(|_| Answer::challenge(&"Bearer realm=\"https://a/t\", ".repeat(40_000))).await;
    let findings = patient(&server).await;
    assert!(matches!(findings.endpoint, EndpointFinding::NotARegistry { cause: NotARegistry::NotHttp, .. }));
    assert!(!server.received_credentials());
}

#[tokio::test]
async fn does_not_decompress_bodies() {
    let bomb = Answer::status(200).header("Content-Encoding", "gzip").body(vec![0x1f; 100_000]);
    let server = Server::http(move |_| bomb.clone()).await;
    let findings = patient(&server).await;
    assert!(matches!(findings.endpoint, EndpointFinding::NotARegistry { cause: NotARegistry::NoSign, .. }));
    assert_eq!(server.requests()[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn endless_handshake_is_a_tls_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target { deadline: SHORT_DEADLINE, ..target(&format!("https://127.0.0.1:{port}")) };
    let findings = probe(&target, &alice()).await;
    let EndpointFinding::Timeout { during, .. } = findings.endpoint else { panic!("{findings:#?}") };
    assert_eq!(during, Stage::Tls);
}

#[tokio::test]
async fn reconnects_after_connection_close() {
    let server = Server::http(|asked| {
        let reply = match asked.authorization() {
            None => "HTTP/1.1 401 X\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
            Some(_) => "HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}",
        };
        // No `Connection: close`: the end comes unannounced.
        Answer::Raw(reply.into())
    })
    .await;
    let findings = patient(&server).await;
    assert_eq!(
        findings.credentials,
        CredentialsFinding::Validated(Evidence::RefusedWithout),
        "{findings:#?}"
    );
}

#[tokio::test]
async fn retries_dropped_idle_connection_once() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for (drops, expected) in [(1, true), (2, false)] {
        let asked = AtomicUsize::new(0);
        let server = Server::http(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::challenge("Basic realm=\"x\""),
            n if n <= drops => Answer::Close,
            _ => Answer::granted(),
        })
        .await;
        let findings = patient(&server).await;
        let validated = findings.credentials == CredentialsFinding::Validated(Evidence::RefusedWithout);
        assert_eq!(validated, expected, "{findings:#?}");
        assert_eq!(server.requests().len(), 3);
    }
}

#[tokio::test]
async fn timeout_names_the_step_in_progress() {
    let server = Server::http(|asked| match asked.path.split('?').next() {
        Some("/token") => Answer::status(200).body(r#"{"token":"opaque"}"#),
        Some("/v2/hello/tags/list") => Answer::Silence,
        _ => Answer::challenge("Bearer realm=\"/token\""),
    })
    .await;
    let target = Target { deadline: SHORT_DEADLINE, ..with_repository(&server.url(), "hello") };
    let findings = probe(&target, &alice()).await;
    let CredentialsFinding::TemporarilyUnavailable { cause, .. } = findings.credentials else {
        panic!("{findings:#?}")
    };
    assert_eq!(cause, Unavailable::Timeout(Stage::Request));
    assert_eq!(server.requests().len(), 4, "nothing is sent after the deadline");
}

#[tokio::test]
async fn rejects_headers_of_100_kibibytes() {
    let server = Server::http(|_| Answer::granted().header("X-Padding", &"a".repeat(100 * 1024))).await;
    let findings = patient(&server).await;
    assert!(matches!(findings.endpoint, EndpointFinding::NotARegistry { cause: NotARegistry::NotHttp, .. }));
}
