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
    rejections.session(Group::System, &[b"basic", b"demo", password.as_bytes()], false, None)
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
    let mut findings = found(rejected());
    first.conclude(&mut findings);
    assert_eq!(findings.retry_after, Some(Duration::from_mins(1)));
    assert_eq!(waiting.await.unwrap(), Admission::Refused(rejected()));
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
        finishing.finish(session, async move { done.send(name).await.unwrap() });
    }
    drop(done);
    assert_eq!(finished.recv().await, Some("sent"));
    assert_eq!(finished.recv().await, None);
}

fn rejected() -> CredentialsFinding {
    CredentialsFinding::Rejected { by: server(), status: 401 }
}

/// Findings of a validation that ran out of time after it had sent the credentials.
fn unanswered() -> Findings {
    let cause = Unavailable::Timeout(Stage::Request);
    found(CredentialsFinding::TemporarilyUnavailable { server: server(), cause })
}

#[tokio::test(start_paused = true)]
async fn late_rejection_pauses_the_credentials() {
    let (rejections, finishing) = (rejections(), FinishingValidations::default());
    let first = session(&rejections, "wrong");
    first.admit(&server()).await;
    let (answer, late) = tokio::sync::oneshot::channel();
    first.unanswered(&server(), Box::pin(async move { late.await.ok() }));
    let mut findings = unanswered();
    first.conclude(&mut findings);
    assert_eq!(findings.retry_after, None);
    finishing.finish(first, async {});
    let second = session(&rejections, "wrong");
    let waiting = tokio::spawn(async move { second.admit(&server()).await });
    answer.send(rejected()).unwrap();
    assert_eq!(waiting.await.unwrap(), Admission::Refused(rejected()));
}

#[tokio::test(start_paused = true)]
async fn late_answer_is_awaited_for_a_minute() {
    let (rejections, finishing) = (rejections(), FinishingValidations::default());
    let first = session(&rejections, "slow");
    first.admit(&server()).await;
    first.unanswered(&server(), Box::pin(std::future::pending()));
    first.conclude(&mut unanswered());
    let began = tokio::time::Instant::now();
    finishing.finish(first, async {});
    assert_eq!(session(&rejections, "slow").admit(&server()).await, Admission::Granted);
    assert_eq!(began.elapsed(), LATEST_ANSWER);
}

#[tokio::test]
async fn accepted_credentials_await_no_late_answer() {
    let rejections = rejections();
    let slow_repository = session(&rejections, "right");
    slow_repository.admit(&server()).await;
    slow_repository.unanswered(&server(), Box::pin(std::future::pending()));
    slow_repository.conclude(&mut found(CredentialsFinding::Validated(Evidence::RefusedWithout)));
    assert!(!slow_repository.is_open());
}

#[tokio::test]
async fn credentials_refused_before_await_no_late_answer() {
    let rejections = rejections();
    let first = session(&rejections, "wrong");
    first.admit(&server()).await;
    first.conclude(&mut found(rejected()));
    let again = rejections.session(Group::System, &[b"basic", b"demo", b"wrong"], true, None);
    again.admit(&server()).await;
    again.unanswered(&server(), Box::pin(std::future::pending()));
    let mut findings = unanswered();
    again.conclude(&mut findings);
    assert_eq!(findings.retry_after, Some(Duration::from_mins(2)));
    assert!(!again.is_open());
}

#[tokio::test]
async fn bounds_validations_that_finish() {
    let (rejections, finishing) = (rejections(), FinishingValidations::default());
    let begin = async |group: Group, number: usize| {
        let session = rejections.session(group, &[&number.to_be_bytes()], false, None);
        let server = Endpoint::parse(&format!("https://{number}.example.com")).unwrap().server().clone();
        session.admit(&server).await;
        let left = Arc::downgrade(&session);
        finishing.finish(session, std::future::pending());
        left.upgrade().is_some()
    };
    let (of_group, of_all) = (MOST_FINISHING_OF_A_GROUP, MOST_FINISHING);
    let tenants: Vec<Group> = (0..=of_all / of_group).map(|i| Group::Tenant(i.to_string().into())).collect();
    for tenant in &tenants[..of_all / of_group] {
        for number in 0..of_group {
            assert!(begin(tenant.clone(), number).await);
        }
        assert!(!begin(tenant.clone(), of_group).await);
    }
    assert!(!begin(tenants[of_all / of_group].clone(), 0).await);
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
    let digest =
        |parts: &[&[u8]], host| rejections.session(Group::System, parts, false, None).wish(host).digest;
    let all = [
        digest(&[b"basic", b"ab", b"c"], "h"),
        digest(&[b"basic", b"a", b"bc"], "h"),
        digest(&[b"token", b"ab", b"c"], "h"),
        digest(&[b"basic", b"ab", b"c"], "i"),
        rejections
            .session(Group::Tenant("system".into()), &[b"basic", b"ab", b"c"], false, None)
            .wish("h")
            .digest,
    ];
    let different: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}
