//! Answers to credentials that come after the deadline: the gate is given what they decide.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use tokio::sync::Notify;

use crate::support::*;
use registry_probe::*;

/// All steps before the late answer must finish before it, on any machine.
const DEADLINE: Duration = Duration::from_secs(2);

type Late = BoxFuture<'static, Option<CredentialsFinding>>;

/// Grants, and keeps the requests that had no answer.
#[derive(Default)]
struct KeepingGate(Mutex<Vec<(HostPort, Late)>>);

impl Gate for KeepingGate {
    async fn admit(&self, _server: &HostPort) -> Admission {
        Admission::Granted
    }

    fn forbidden(&self, _server: &HostPort) {}

    fn unanswered(&self, server: &HostPort, answer: Late) {
        self.0.lock().unwrap().push((server.clone(), answer));
    }
}

/// A registry that answers `late` to that path with credentials.
#[derive(Clone, Copy)]
struct Registry {
    challenge: &'static str,
    late_path: &'static str,
    late: fn() -> Answer,
}

const BASIC: Registry =
    Registry { challenge: "Basic realm=\"r\"", late_path: "/v2/", late: || Answer::status(401) };
const BEARER: Registry =
    Registry { challenge: "Bearer realm=\"/token\"", late_path: "/token", late: || Answer::status(401) };

/// Validates, and lets the registry answer after the deadline. Returns what that decides; none if nothing is awaited.
async fn late_answer(registry: Registry) -> Option<Option<CredentialsFinding>> {
    let answers = Arc::new(Notify::new());
    let release = answers.clone();
    let server = Server::http(move |asked| {
        let path = asked.path.split('?').next().unwrap_or_default();
        match asked.authorization() {
            Some(_) if path == registry.late_path => {
                Answer::Once(answers.clone(), Box::new((registry.late)()))
            }
            Some(_) if path == "/v2/" => Answer::granted(),
            _ => Answer::challenge(registry.challenge),
        }
    })
    .await;
    let target = Target { deadline: DEADLINE, ..with_repository(&server.url(), "hello") };
    let gate = KeepingGate::default();
    let findings = prober().probe_through(&gate, &target, &alice(), now()).await;
    let timeout = format!("{:?}", Unavailable::Timeout(Stage::Request));
    assert!(format!("{findings:?}").contains(&timeout), "{findings:#?}");
    let sent = server.requests().len();
    let kept = gate.0.into_inner().unwrap().pop();
    release.notify_one();
    let (by, late) = kept?;
    assert_eq!(&by, target.endpoint.server());
    let decided = late.await;
    assert_eq!(server.requests().len(), sent, "nothing is sent after the deadline");
    Some(decided.map(without_port))
}

/// The finding about a server whose port is unknown to the test.
fn without_port(finding: CredentialsFinding) -> CredentialsFinding {
    use CredentialsFinding as F;
    match finding {
        F::Rejected { status, .. } => F::Rejected { by: nowhere(), status },
        F::Forbidden { .. } => F::Forbidden { by: nowhere() },
        F::TemporarilyUnavailable { cause, .. } => F::TemporarilyUnavailable { server: nowhere(), cause },
        other => other,
    }
}

fn nowhere() -> HostPort {
    Endpoint::parse("http://127.0.0.1").unwrap().server().clone()
}

#[tokio::test]
async fn late_answers_decide_what_they_can_alone() {
    use CredentialsFinding as F;
    let rejected = || Some(F::Rejected { by: nowhere(), status: 401 });
    let cases = [
        (BASIC, rejected()),
        (BEARER, rejected()),
        (Registry { late: || Answer::status(403), ..BEARER }, Some(F::Forbidden { by: nowhere() })),
        (
            Registry { late: || Answer::status(503), ..BEARER },
            Some(F::TemporarilyUnavailable { server: nowhere(), cause: Unavailable::Status(503) }),
        ),
        // The token must still be tried.
        (Registry { late: || Answer::status(200).body(r#"{"token":"opaque"}"#), ..BEARER }, None),
        // The account may be right, and the repository closed to it.
        (Registry { late_path: "/v2/hello/tags/list", late: || Answer::status(403), ..BASIC }, None),
        (Registry { late: || Answer::Close, ..BASIC }, None),
    ];
    let answers = join_all(cases.iter().map(|(registry, _)| late_answer(*registry))).await;
    for (index, (answer, (_, expected))) in answers.into_iter().zip(cases).enumerate() {
        assert_eq!(answer, Some(expected), "case {index}");
    }
}

#[tokio::test]
async fn awaits_no_late_answer_to_a_request_without_credentials() {
    let server = Server::http(|_| Answer::Silence).await;
    let gate = KeepingGate::default();
    let target = Target { deadline: Duration::from_millis(200), ..target(&server.url()) };
    prober().probe_through(&gate, &target, &alice(), now()).await;
    assert!(gate.0.into_inner().unwrap().is_empty());
}
