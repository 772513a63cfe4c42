//! User name and password, sent to the registry itself.

use crate::row::{NOWHERE, REGISTRY, Row, row};
use crate::scripts::{Caller, alone, caller, clear, content, htpasswd, open};
use crate::secrets::{PASSWORD, USER};
use crate::spec::{Spec, right, spec, wrong};
use crate::support::{Answer, ReceivedRequest};

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const REJECTED: &str = "+Resolved +Reachable +Verified -Rejected . = -Rejected stalled";
const FORBIDDEN: &str = "+Resolved +Reachable +Verified -Forbidden . = -Forbidden stalled";
const UNPROVABLE: &str = "+Resolved +Reachable +Verified ?Unprovable ?Inconclusive = +CredentialsUnprovable";

pub fn rows() -> Vec<Row> {
    [closed(), open_ones(), odd()].concat()
}

type Reply = fn(&ReceivedRequest) -> Answer;

fn to(name: &'static str, script: Reply, spec: Spec, expected: &'static str) -> Row {
    row(name, alone(script), spec, REGISTRY, expected)
}

fn closed() -> Vec<Row> {
    vec![
        to("the right password", htpasswd, right(), VALIDATED).costs(2),
        to("a wrong password", htpasswd, wrong(), REJECTED)
            .costs(2)
            .message_contains("CredentialsValidated", "{registry.host}:{registry.port}"),
        row(
            "the right password, in the clear",
            clear(alone(htpasswd)),
            right(),
            REGISTRY,
            "+Resolved +Reachable -PlainHTTP +Validated ?Inconclusive = +Available",
        ),
        row(
            "a wrong password, in the clear",
            clear(alone(htpasswd)),
            wrong(),
            REGISTRY,
            "+Resolved +Reachable -PlainHTTP -Rejected . = -Rejected stalled",
        ),
        to("another user's name", htpasswd, spec().login("bob", PASSWORD), REJECTED),
        to("an empty password", htpasswd, spec().login(USER, ""), REJECTED),
        to("a password without a user name", htpasswd, spec().login("", PASSWORD), REJECTED),
        to("a user name beyond ASCII", htpasswd, spec().login("älice", PASSWORD), REJECTED),
        to(
            "a password with a colon at its end",
            htpasswd,
            spec().login(USER, &format!("{PASSWORD}:")),
            REJECTED,
        ),
        to("an account without rights", |asked| forbids(asked, 403), right(), FORBIDDEN),
        to("an account that is locked", |asked| forbids(asked, 401), right(), REJECTED),
        to("any password at all", any_password, wrong(), VALIDATED),
        to(
            "the right password beside a challenge of an unknown scheme",
            |asked| also_asks("Negotiate", asked),
            right(),
            VALIDATED,
        ),
        row(
            "unknown schemes only",
            alone(|_| {
                Answer::challenge("Digest realm=\"x\", nonce=\"y\"").header("WWW-Authenticate", "Negotiate")
            }),
            right(),
            NOWHERE,
            "+Resolved +Reachable +Verified -UnsupportedScheme . = -UnsupportedScheme stalled",
        )
        .message_contains("CredentialsValidated", "Digest")
        .message_contains("CredentialsValidated", "Negotiate")
        .costs(1),
    ]
}

/// Lets the right password in, and then says that.
fn forbids(asked: &ReceivedRequest, status: u16) -> Answer {
    match caller(asked) {
        Caller::Alice => Answer::error(status, "DENIED"),
        _ => Answer::challenge("Basic realm=x"),
    }
}

/// Rule (a) is satisfied: refused without credentials, granted with them. Nothing more can be observed
/// without sending a password that is wrong on purpose.
fn any_password(asked: &ReceivedRequest) -> Answer {
    if asked.authorization().is_some() { content(asked) } else { Answer::challenge("Basic realm=x") }
}

fn also_asks(challenge: &str, asked: &ReceivedRequest) -> Answer {
    match caller(asked) {
        Caller::Alice => content(asked),
        _ => Answer::challenge(challenge).header("WWW-Authenticate", "Basic realm=x"),
    }
}

/// Serves everyone, and still refuses a password that is wrong.
fn open_and_strict(asked: &ReceivedRequest) -> Answer {
    match caller(asked) {
        Caller::Stranger => Answer::challenge("Basic realm=x"),
        _ => content(asked),
    }
}

/// Serves anonymous clients, except for what is private.
fn partly_open(asked: &ReceivedRequest) -> Answer {
    if asked.path.contains("private") { htpasswd(asked) } else { open_and_strict(asked) }
}

/// Serves anonymous clients, except for what is private, and checks passwords only there.
fn careless(asked: &ReceivedRequest) -> Answer {
    if asked.path.contains("private") { htpasswd(asked) } else { content(asked) }
}

/// Hides what is private from anyone who may not read it.
fn hiding(asked: &ReceivedRequest) -> Answer {
    match caller(asked) {
        Caller::Alice => content(asked),
        _ if asked.path.contains("private") => Answer::error(404, "NAME_UNKNOWN"),
        _ => open_and_strict(asked),
    }
}

fn open_ones() -> Vec<Row> {
    const PROVEN: &str = "+Resolved +Reachable +Verified +Validated +Accessible = +Available";
    const NOT_PROVEN: &str =
        "+Resolved +Reachable +Verified ?Unprovable +Accessible = +CredentialsUnprovable";
    vec![
        to("the right password at an open registry", open, right(), UNPROVABLE).costs(2),
        to("a wrong password at an open registry that looks at none", open, wrong(), UNPROVABLE),
        to("the right password at an open registry that looks at it", open_and_strict, right(), UNPROVABLE),
        to("a wrong password at an open registry that looks at it", open_and_strict, wrong(), REJECTED)
            .costs(2),
        to(
            "an account without rights at an open registry",
            |asked| {
                if caller(asked) == Caller::Alice { Answer::error(403, "DENIED") } else { content(asked) }
            },
            right(),
            FORBIDDEN,
        ),
        to(
            "a public repository of an open registry",
            open_and_strict,
            right().repository("hello"),
            NOT_PROVEN,
        )
        .costs(4),
        to("a private repository of an open registry", partly_open, right().repository("private"), PROVEN)
            .costs(4),
        to(
            "a private repository of an open registry, a wrong password",
            partly_open,
            wrong().repository("private"),
            REJECTED,
        ),
        to(
            "a private repository of a careless registry, a wrong password",
            careless,
            wrong().repository("private"),
            REJECTED,
        ),
        to("a private repository of a careless registry", careless, right().repository("private"), PROVEN),
        to("a repository that is hidden from others", hiding, right().repository("private"), PROVEN),
        to(
            "a repository that does not exist at an open registry",
            open_and_strict,
            right().repository("missing"),
            "+Resolved +Reachable +Verified ?Unprovable -NotFound = -NotFound stalled",
        ),
        to(
            "a repository without tags at an open registry",
            open_and_strict,
            right().repository("empty"),
            UNPROVABLE,
        ),
    ]
}

/// An answer to credentials that is neither yes nor no.
fn oddly(asked: &ReceivedRequest, status: u16) -> Answer {
    if asked.authorization().is_some() { Answer::status(status) } else { Answer::challenge("Basic realm=x") }
}

fn odd() -> Vec<Row> {
    const UNEXPECTED: &str = "+Resolved -NotARegistry +Verified . . = -NotARegistry stalled";
    vec![
        to("credentials that are answered 400", |asked| oddly(asked, 400), right(), REJECTED),
        to("credentials that are answered 404", |asked| oddly(asked, 404), right(), UNEXPECTED)
            .message_contains("EndpointReachable", "404"),
        to("credentials that are answered 405", |asked| oddly(asked, 405), right(), UNEXPECTED),
        to("credentials that are answered 418", |asked| oddly(asked, 418), right(), UNEXPECTED),
        to(
            "a registry that speaks HEAD badly",
            |asked| if asked.method == "HEAD" { Answer::status(405) } else { htpasswd(asked) },
            right().repository("hello"),
            "+Resolved +Reachable +Verified +Validated +Accessible = +Available",
        ),
        to(
            "a challenge without a realm",
            |asked| if caller(asked) == Caller::Alice { content(asked) } else { Answer::challenge("Basic") },
            right(),
            VALIDATED,
        ),
        to(
            "a challenge in capitals",
            |asked| {
                if caller(asked) == Caller::Alice {
                    content(asked)
                } else {
                    Answer::challenge("BASIC REALM=X")
                }
            },
            right(),
            VALIDATED,
        ),
        to(
            "a registry that wants a charset",
            |asked| {
                if caller(asked) == Caller::Alice {
                    content(asked)
                } else {
                    Answer::challenge("Basic realm=\"x\", charset=\"UTF-8\"")
                }
            },
            right(),
            VALIDATED,
        ),
    ]
}
