//! B. What RFC 9112 tells a user agent to accept, and Go's clients do accept, is accepted; "does not speak HTTP" and "closed
//! before there was an answer" are said only where no status line and header section came.

use super::{ANONYMOUS, BUSY, NO_REGISTRY, READ, REJECTED, UNREACHABLE, VALIDATED, path_of};
use crate::hosts::host;
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{Caller, TO_AUTH, alone, caller, content, issues, strict, takes_tokens, with_service};
use crate::spec::{right, spec, wrong};
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    [folds(), status_lines(), bodies(), broken_off(), later()].concat()
}

const VERSION: &str = "Docker-Distribution-Api-Version: registry/2.0\r\n";
const POLICY: &str = "Content-Security-Policy: default-src 'self';\r\n    script-src 'self'\r\n";

fn raw(text: impl Into<String>) -> Answer {
    Answer::Raw(text.into().into_bytes())
}

/// As distribution with htpasswd answers, with these headers on every answer, and that challenge.
fn htpasswd_with(
    headers: &'static str,
    challenge: &'static str,
) -> impl Fn(&ReceivedRequest) -> Answer + Send + Sync {
    move |asked| {
        let (status, challenge, body) = match (caller(asked), content(asked)) {
            (Caller::Alice, Answer::Reply { status, body, .. }) => (status, "", body),
            _ => (401, challenge, br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#.to_vec()),
        };
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} X\r\n{headers}{challenge}{VERSION}Content-Length: {length}\r\n\r\n");
        Answer::Raw([head.into_bytes(), body].concat())
    }
}

const BASIC: &str = "WWW-Authenticate: Basic realm=\"r\"\r\n";

fn folds() -> Vec<Row> {
    let served = |name: &'static str, headers, challenge| {
        let hosts = || alone(htpasswd_with(headers, challenge));
        vec![
            row(name, hosts(), right(), REGISTRY, VALIDATED),
            row(format!("{name}, a repository"), hosts(), right().repository("hello"), REGISTRY, READ),
            row(format!("{name}, a wrong password"), hosts(), wrong(), REGISTRY, REJECTED),
        ]
    };
    [
        served("B1 a header over several lines", POLICY, BASIC),
        served(
            "B1 a challenge over several lines",
            "",
            "WWW-Authenticate: Basic realm=\"r\",\r\n charset=\"UTF-8\"\r\n",
        ),
        served("B a fold by a tab, twice", "X-A: b,\r\n\tc,\r\n\td\r\n", BASIC),
        served("B a fold within a quoted text", "", "WWW-Authenticate: Basic realm=\"a\r\n  b\"\r\n"),
        served("B a fold before the value", "", "WWW-Authenticate:\r\n Basic realm=\"r\"\r\n"),
        served(
            "B a blank before a colon, and within a name",
            "X Y: z\r\n",
            "WWW-Authenticate : Basic realm=\"r\"\r\n",
        ),
        served("B a fold of blanks alone", "X-A: b\r\n   \r\n", BASIC),
        served("B blanks round a value, and none", "X-A:b\r\nX-B:   c   \r\nX-C:\r\n", BASIC),
        served(
            "B a challenge in two header lines",
            "",
            "WWW-Authenticate: Negotiate\r\nwww-authenticate: basic Realm=r\r\n",
        ),
        served("B a value that is Latin-1", "X-Grund: verf\u{fc}gbar\r\n", BASIC),
    ]
    .concat()
}

fn status_lines() -> Vec<Row> {
    let open = |name, text: String| row(name, alone(move |_| raw(text.clone())), spec(), NOWHERE, ANONYMOUS);
    let headers: String = (0..300).map(|number| format!("X-Header-{number}: value\r\n")).collect();
    let cookie = "c".repeat(40_000);
    vec![
        open(
            "B lines that end in LF alone",
            format!("HTTP/1.1 200 OK\n{}Content-Length: 2\n\n{{}}", VERSION.replace('\r', "")),
        ),
        open("B no reason phrase", format!("HTTP/1.1 200\r\n{VERSION}Content-Length: 2\r\n\r\n{{}}")),
        open("B an empty reason phrase", format!("HTTP/1.1 200 \r\n{VERSION}Content-Length: 2\r\n\r\n{{}}")),
        open(
            "B a reason phrase beyond ASCII",
            format!("HTTP/1.1 200 Est\u{e1} bem\r\n{VERSION}Content-Length: 2\r\n\r\n{{}}"),
        ),
        open("B HTTP/1.0 with no length", format!("HTTP/1.0 200 OK\r\n{VERSION}\r\n{{}}")),
        open(
            "B HTTP/1.0 that keeps alive",
            format!("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n{VERSION}Content-Length: 2\r\n\r\n{{}}"),
        ),
        open("B 300 headers", format!("HTTP/1.1 200 OK\r\n{headers}{VERSION}Content-Length: 2\r\n\r\n{{}}")),
        open(
            "B a header of 40 KB",
            format!("HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\n{VERSION}Content-Length: 2\r\n\r\n{{}}"),
        ),
        open(
            "B the same length twice",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n{VERSION}\r\n{{}}"),
        ),
        open(
            "B 100 Continue unasked",
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{VERSION}Content-Length: 2\r\n\r\n{{}}"),
        ),
        open(
            "B several informational answers",
            format!(
                "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 X\r\n\r\nHTTP/1.1 200 OK\r\n{VERSION}Content-Length: 2\r\n\r\n{{}}"
            ),
        ),
    ]
}

fn bodies() -> Vec<Row> {
    let open = |name, text: String| row(name, alone(move |_| raw(text.clone())), spec(), NOWHERE, ANONYMOUS);
    vec![
        open(
            "B chunks with trailers",
            format!(
                "HTTP/1.1 200 OK\r\n{VERSION}Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n1\r\n}}\r\n0\r\nX-Sum: 1\r\n\r\n"
            ),
        ),
        open(
            "B chunks with extensions and zeros",
            format!(
                "HTTP/1.1 200 OK\r\n{VERSION}Transfer-Encoding: Chunked\r\n\r\n0002;name=\"v\"\r\n{{}}\r\n000\r\n\r\n"
            ),
        ),
        open(
            "B chunks and a length",
            format!(
                "HTTP/1.1 200 OK\r\n{VERSION}Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
            ),
        ),
        open(
            "B a body to the end of the connection",
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{VERSION}\r\n{{}}"),
        ),
        open(
            "B more than the length says",
            format!("HTTP/1.1 200 OK\r\n{VERSION}Content-Length: 2\r\n\r\n{{}}\r\n\r\nmore"),
        ),
        row(
            "B a body in the answer to HEAD",
            alone(|asked| match (caller(asked), asked.method.as_str()) {
                (Caller::Alice, "HEAD") => {
                    raw("HTTP/1.1 200 OK\r\nDocker-Content-Digest: sha256:00\r\nContent-Length: 2\r\n\r\n{}")
                }
                (Caller::Alice, _) if path_of(asked) != "/v2/" => Answer::error(404, "NAME_UNKNOWN"),
                _ => crate::scripts::htpasswd(asked),
            }),
            right().repository("hello"),
            REGISTRY,
            READ,
        ),
    ]
}

/// Status line and headers came, and say all that clients look at; the body did not.
fn broken_off() -> Vec<Row> {
    let half = |head: String| raw(format!("{head}Content-Length: 99\r\n\r\n{{"));
    let answered = move |asked: &ReceivedRequest| match caller(asked) {
        Caller::Alice => half(format!("HTTP/1.1 200 OK\r\n{VERSION}")),
        _ => half(format!("HTTP/1.1 401 X\r\n{BASIC}")),
    };
    let chunks = |asked: &ReceivedRequest| match caller(asked) {
        Caller::Alice => raw(format!("HTTP/1.1 200 OK\r\n{VERSION}Transfer-Encoding: chunked\r\n\r\nzz\r\n")),
        _ => raw(format!("HTTP/1.1 401 X\r\n{BASIC}Transfer-Encoding: chunked\r\n\r\n9\r\n{{")),
    };
    let open = move |asked: &ReceivedRequest| match path_of(asked) {
        "/v2/" => Answer::granted(),
        _ => half("HTTP/1.1 200 OK\r\n".into()),
    };
    let service = move |_: &crate::scripts::TokenCall| half("HTTP/1.1 200 OK\r\n".into());
    vec![
        row("B a body that breaks off", alone(answered), right(), REGISTRY, VALIDATED),
        row("B a wrong password, and a body that breaks off", alone(answered), wrong(), REGISTRY, REJECTED),
        row("B chunks that break off", alone(chunks), right(), REGISTRY, VALIDATED),
        row(
            "B a body that breaks off, and no sign in the headers",
            alone(move |_| half("HTTP/1.1 200 OK\r\n".into())),
            right(),
            NOWHERE,
            UNREACHABLE,
        )
        .message_contains("EndpointReachable", "failed: network error"),
        row("B tags that break off", alone(open), spec().repository("hello"), NOWHERE, ANONYMOUS)
            .message_contains("ContentPathAccessible", "failed: network error"),
        row(
            "B a token that breaks off",
            with_service(service),
            right(),
            AUTH,
            "+Resolved +Reachable +Verified ?TemporarilyUnavailable . = -TemporarilyUnavailable reconciling",
        ),
        row(
            "B a token service whose headers are folded",
            vec![
                host("registry", takes_tokens(TO_AUTH)),
                host(
                    "auth",
                    issues(|call| match strict(call) {
                        Answer::Reply { status, body, .. } => {
                            let head = format!(
                                "HTTP/1.1 {status} X\r\n{POLICY}Content-Length: {}\r\n\r\n",
                                body.len()
                            );
                            Answer::Raw([head.into_bytes(), body].concat())
                        }
                        other => other,
                    }),
                ),
            ],
            right(),
            AUTH,
            VALIDATED,
        ),
        row(
            "B no status line, though headers",
            alone(|_| raw(format!("{VERSION}Content-Length: 2\r\n\r\n{{}}"))),
            right(),
            NOWHERE,
            NO_REGISTRY,
        )
        .message_contains("EndpointReachable", "does not speak HTTP"),
    ]
}

/// Answers that say that the same request may succeed later.
fn later() -> Vec<Row> {
    let busy = |name, status| row(name, alone(move |_| Answer::status(status)), right(), NOWHERE, BUSY);
    vec![
        busy("B a request that took too long, 408", 408).message_contains("EndpointReachable", "408"),
        busy("B a request that came too early, 425", 425).message_contains("EndpointReachable", "425"),
        busy("B a proxy's 502", 502).message_contains("EndpointReachable", "502"),
        busy("B Cloudflare's 521", 521).message_contains("EndpointReachable", "521"),
    ]
}
