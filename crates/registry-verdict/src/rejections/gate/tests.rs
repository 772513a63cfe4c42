//! Several sessions at the same time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aws_lc_rs::hmac::HMAC_SHA256;
use registry_probe::{Endpoint, EndpointFinding, Evidence, TlsFinding};

use super::*;

static SECOND: AtomicU64 = AtomicU64::new(0);

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(SECOND.load(Relaxed))
}

fn rejections() -> Arc<Rejections> {
    Rejections::new(Table::default(), hmac::Key::new(HMAC_SHA256, &[1; 32]), now)
}

fn server() -> HostPort {
    Endpoint::parse("https://registry.example.com").unwrap().server().clone()
}

fn found(credentials: CredentialsFinding) -> Findings {
    Findings {
        endpoint: EndpointFinding::Reachable,
        tls: TlsFinding::Verified,
        credentials,
        content_path: registry_probe::ContentPathFinding::NotAttempted,
        certificate: None,
        retry_after: None,
        credentials_expire_at: None,
        requests: registry_probe::RequestCounts::default(),
        durations: registry_probe::LayerDurations::default(),
    }
}

fn session(rejections: &Arc<Rejections>, password: &str) -> Arc<CredentialSession> {
    rejections.session(Group::System, &[b"basic", b"demo", password.as_bytes()], false)
}

#[tokio::test]
async fn wakes_waiters_on_verdict() {
    let rejections = rejections();
    let first = session(&rejections, "wrong");
    assert_eq!(first.admit(&server()).await, Admission::Granted);
    let second = session(&rejections, "wrong");
    let waiting = tokio::spawn(async move { second.admit(&server()).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let rejected = CredentialsFinding::Rejected { by: server(), status: 401 };
    let mut findings = found(rejected.clone());
    first.conclude(&mut findings);
    assert_eq!(findings.retry_after, Some(Duration::from_mins(1)));
    assert_eq!(waiting.await.unwrap(), Admission::Refused(rejected));
}

#[tokio::test]
async fn accepted_credentials_release_waiters() {
    let rejections = rejections();
    let first = session(&rejections, "right");
    first.admit(&server()).await;
    first.conclude(&mut found(CredentialsFinding::Validated(Evidence::RefusedWithout)));
    for _ in 0..100 {
        let next = session(&rejections, "right");
        assert_eq!(next.admit(&server()).await, Admission::Granted);
        next.conclude(&mut found(CredentialsFinding::Validated(Evidence::RefusedWithout)));
    }
}

#[tokio::test]
async fn cancelled_try_counts_only_if_sent() {
    let (rejections, finishing) = (rejections(), FinishingValidations::default());
    let (idle, sent) = (session(&rejections, "a"), session(&rejections, "b"));
    sent.admit(&server()).await;
    let (done, mut finished) = tokio::sync::mpsc::channel::<&str>(2);
    for (session, name) in [(idle, "idle"), (sent, "sent")] {
        let done = done.clone();
        finishing.finish(&session, Box::pin(async move { done.send(name).await.unwrap() }));
    }
    drop(done);
    assert_eq!(finished.recv().await, Some("sent"));
    assert_eq!(finished.recv().await, None);
}

#[tokio::test]
async fn remembers_only_rejected_accounts() {
    let rejections = rejections();
    let forbidden = CredentialsFinding::Forbidden { by: server() };
    let by_repository = session(&rejections, "robot");
    by_repository.admit(&server()).await;
    by_repository.conclude(&mut found(forbidden.clone()));
    let by_account = session(&rejections, "robot");
    assert_eq!(by_account.admit(&server()).await, Admission::Granted);
    by_account.forbidden(&server());
    by_account.conclude(&mut found(forbidden.clone()));
    assert_eq!(session(&rejections, "robot").admit(&server()).await, Admission::Refused(forbidden));
}

#[test]
fn key_separates_kinds_and_field_boundaries() {
    let rejections = rejections();
    let digest = |parts: &[&[u8]], host| rejections.session(Group::System, parts, false).wish(host).digest;
    let all = [
        digest(&[b"basic", b"ab", b"c"], "h"),
        digest(&[b"basic", b"a", b"bc"], "h"),
        digest(&[b"token", b"ab", b"c"], "h"),
        digest(&[b"basic", b"ab", b"c"], "i"),
        rejections.session(Group::Tenant("system".into()), &[b"basic", b"ab", b"c"], false).wish("h").digest,
    ];
    let different: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}
