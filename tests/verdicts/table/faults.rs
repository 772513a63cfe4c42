//! Connections that break, answers that never come, pages and redirects: at each step after the first, which is layer 2's.

use crate::hosts::{Host, PortBehaviour, host};
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{
    Caller, TO_AUTH, TokenCall, about, alone, caller, htpasswd, issues, scoped, strict, takes_tokens, token,
};
use crate::spec::{HURRIED, Spec, right, spec};
use crate::support::dns::Dns;
use crate::support::{Answer, ReceivedRequest};

const UNAVAILABLE: &str =
    "+Resolved +Reachable +Verified ?TemporarilyUnavailable . = -TemporarilyUnavailable reconciling";
const UNREAD: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const REDIRECTED: &str = "+Resolved -RedirectRefused +Verified . . = -RedirectRefused stalled";
const NO_REGISTRY: &str = "+Resolved -NotARegistry +Verified . . = -NotARegistry stalled";

pub fn rows() -> Vec<Row> {
    [faults(), unreachable_services(), pages(), redirects(), closing()].concat()
}

/// Where in a validation something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Password,
    TokenService,
    Control,
    Token,
    Tags,
    TagsControl,
}

impl Step {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Password, "to the password"),
        (Self::TokenService, "of the token service"),
        (Self::Control, "to the anonymous control at the token service"),
        (Self::Token, "to the token"),
        (Self::Tags, "to the tags"),
        (Self::TagsControl, "to the tags' anonymous control"),
    ];

    fn permits(self) -> &'static [&'static str] {
        if matches!(self, Self::Password | Self::TagsControl) { REGISTRY } else { AUTH }
    }

    fn spec(self) -> Spec {
        if matches!(self, Self::Tags | Self::TagsControl) { right().repository("hello") } else { right() }
    }

    /// A registry that is in order, save that this step is answered so.
    fn hosts(self, answer: &Answer) -> Vec<Host> {
        let (to_registry, to_service) = (answer.clone(), answer.clone());
        let registry = move |asked: &ReceivedRequest| match (self, caller(asked), about(asked).as_str()) {
            (Self::Password, Caller::Alice, _)
            | (Self::Token, Caller::Bearer(_), "api")
            | (Self::Tags, Caller::Bearer(_), "hello")
            | (Self::TagsControl, Caller::Nobody, "hello") => to_registry.clone(),
            (Self::TagsControl, Caller::Nobody, _) => Answer::granted(),
            (Self::Password | Self::TagsControl, ..) => htpasswd(asked),
            _ => takes_tokens(TO_AUTH)(asked),
        };
        let service = move |call: &TokenCall| match (self, &call.caller) {
            (Self::TokenService, _) | (Self::Control, Caller::Nobody) => to_service.clone(),
            (Self::Control, Caller::Alice) => scoped(token().opening("api"), call).opaque().issued(),
            _ => strict(call),
        };
        vec![host("registry", registry), host("auth", issues(service))]
    }
}

const NOT_HTTP: &str = "an answer that is not HTTP";

fn faults() -> Vec<Row> {
    let mut rows = Vec::new();
    for (step, when) in Step::ALL {
        for (what, answer, timeout) in [
            ("a connection that is closed", Answer::Close, "20s"),
            ("a connection that is reset", Answer::Reset, "20s"),
            (NOT_HTTP, Answer::Raw(b"what?\r\n\r\n".to_vec()), "20s"),
            ("an answer that never comes", Answer::Silence, HURRIED),
            (
                "an answer that comes byte by byte",
                Answer::Drip(b"HTTP/1.1 200 OK\r\nX-A: b\r\n".to_vec()),
                HURRIED,
            ),
        ] {
            let expected = match (timeout, step) {
                // A permanent failure for anonymous clients says nothing about the credentials.
                _ if what == NOT_HTTP && step == Step::Control => UNREAD,
                // There is still time to try the token at `/v2/`.
                ("20s", Step::Tags) => UNREAD,
                _ => UNAVAILABLE,
            };
            let spec = step.spec().timeout(timeout);
            let row = row(format!("{what}, {when}"), step.hosts(&answer), spec, step.permits(), expected);
            rows.push(if timeout == HURRIED {
                row.message_contains("CredentialsValidated", "timed out waiting for an answer from")
            } else {
                row
            });
        }
    }
    rows
}

fn unreachable_services() -> Vec<Row> {
    let service = |door| {
        vec![
            host("registry", takes_tokens("Bearer realm=\"https://{auth.host}:{auth.port}/token\"")),
            host("auth", issues(strict)).behind(door),
        ]
    };
    let resolving =
        |dns| vec![host("registry", takes_tokens(TO_AUTH)), host("auth", issues(strict)).resolving_to(dns)];
    let met = |name, hosts, spec: Spec| row(name, hosts, spec, NOWHERE, UNAVAILABLE);
    vec![
        met("a token service that refuses connections", service(PortBehaviour::Closed), right())
            .message_contains("CredentialsValidated", "{auth.host}:{auth.port}"),
        met("a token service that takes no connections", service(PortBehaviour::Crowded), right().hurried()),
        met("a token service whose handshake never ends", service(PortBehaviour::Mute), right().hurried()),
        met("a token service whose name does not exist", resolving(Dns::NoSuchName), right())
            .message_contains("CredentialsValidated", "{auth.host}"),
        met("a token service whose name has no address", resolving(Dns::Empty), right()),
        met("a token service whose name servers fail", resolving(Dns::Failure), right()),
        met(
            "a token service that refuses connections, without credentials",
            service(PortBehaviour::Closed),
            spec(),
        ),
    ]
}

fn pages() -> Vec<Row> {
    let page = Answer::status(200).header("Content-Type", "text/html").body("<html>Log in</html>");
    let at = |step: Step, when: &str, expected| {
        row(format!("a captive page, {when}"), step.hosts(&page), step.spec(), step.permits(), expected)
    };
    vec![
        at(Step::Password, "to the password", NO_REGISTRY),
        at(Step::TokenService, "of the token service", UNAVAILABLE),
        at(Step::Control, "to the anonymous control", UNREAD),
        at(Step::Token, "to the token", NO_REGISTRY),
        at(Step::Tags, "to the tags", UNREAD),
    ]
}

fn redirects() -> Vec<Row> {
    let moved = Answer::status(307).header("Location", "{elsewhere}/v2/");
    let at = |step: Step, when: &str, expected| {
        row(
            format!("a redirect to another host, {when}"),
            step.hosts(&moved),
            step.spec(),
            step.permits(),
            expected,
        )
    };
    let untrusted =
        "+Resolved +Reachable +Verified -UntrustedTokenService . = -UntrustedTokenService stalled";
    vec![
        at(Step::Password, "to the password", REDIRECTED),
        at(Step::TokenService, "of the token service", untrusted),
        at(Step::Control, "to the anonymous control", UNREAD),
        at(Step::Token, "to the token", REDIRECTED),
        at(Step::Tags, "to the tags", UNREAD),
    ]
}

/// Servers that close after each answer are no faulty ones.
fn closing() -> Vec<Row> {
    let raw = |head: &str, body: &str| {
        Answer::Raw(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    };
    let unannounced = move |asked: &ReceivedRequest| match caller(asked) {
        Caller::Alice => raw("200 OK\r\nDocker-Distribution-Api-Version: registry/2.0", "{}"),
        _ => raw("401 X\r\nWWW-Authenticate: Basic realm=x", ""),
    };
    let announced = move |asked: &ReceivedRequest| match caller(asked) {
        Caller::Alice => {
            raw("200 OK\r\nConnection: close\r\nDocker-Distribution-Api-Version: registry/2.0", "{}")
        }
        _ => raw("401 X\r\nConnection: close\r\nWWW-Authenticate: Basic realm=x", ""),
    };
    vec![
        row(
            "a server that closes after each answer, unannounced",
            alone(unannounced),
            right(),
            REGISTRY,
            UNREAD,
        ),
        row("a server that closes after each answer, announced", alone(announced), right(), REGISTRY, UNREAD),
    ]
}
