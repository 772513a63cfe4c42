//! User name and password, sent to a token service; its token, sent to the registry. A token alone is no evidence: what
//! counts are its claims, and what anonymous clients get.

use serde_json::{Value, json};

use crate::hosts::{Host, host};
use crate::row::{AUTH, BOTH, REGISTRY, Row, row};
use crate::scripts::{
    Caller, TO_AUTH, Token, TokenCall, caller, content, htpasswd, issues, refused, scoped, strict,
    takes_tokens, token, with_service,
};
use crate::secrets::USER;
use crate::spec::{Spec, right, wrong};
use crate::support::{Answer, ReceivedRequest};

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const READ: &str = "+Resolved +Reachable +Verified +Validated +Accessible = +Available";
const REJECTED: &str = "+Resolved +Reachable +Verified -Rejected . = -Rejected stalled";
const FORBIDDEN: &str = "+Resolved +Reachable +Verified -Forbidden . = -Forbidden stalled";
const TOKEN_REFUSED: &str = "+Resolved +Reachable +Verified -TokenRefused . = -TokenRefused stalled";
const UNPROVABLE: &str = "+Resolved +Reachable +Verified ?Unprovable ?Inconclusive = +CredentialsUnprovable";
const UNAVAILABLE: &str =
    "+Resolved +Reachable +Verified ?TemporarilyUnavailable . = -TemporarilyUnavailable reconciling";

pub fn rows() -> Vec<Row> {
    [proven(), not_proven(), refusals(), shapes(), scopes(), services(), schemes()].concat()
}

fn by(name: &'static str, service: fn(&TokenCall) -> Answer, spec: Spec, expected: &'static str) -> Row {
    row(name, with_service(service), spec, AUTH, expected)
}

/// A token service that answers Alice so, and nobody else.
fn alice(call: &TokenCall, answer: impl FnOnce() -> Answer) -> Answer {
    if call.caller == Caller::Alice { answer() } else { refused() }
}

/// A token service that answers Alice and anonymous clients, and nobody else.
fn either(call: &TokenCall, alice: impl FnOnce() -> Token, nobody: impl FnOnce() -> Token) -> Answer {
    match call.caller {
        Caller::Alice => scoped(alice(), call).issued(),
        Caller::Nobody => nobody().issued(),
        _ => refused(),
    }
}

fn opens() -> Token {
    token().opening("api")
}

fn proven() -> Vec<Row> {
    vec![
        by("a token that names the account", strict, right(), VALIDATED).costs(2),
        by(
            "a token that names the account in another case",
            |call| alice(call, || opens().naming("Alice").issued()),
            right(),
            VALIDATED,
        ),
        by(
            "a token that names the account by a path",
            |call| alice(call, || opens().naming("jfrt@01/users/alice").issued()),
            right(),
            VALIDATED,
        ),
        by(
            "an opaque token, where anonymous clients get none",
            |call| alice(call, || opens().opaque().issued()),
            right(),
            VALIDATED,
        )
        .costs(2),
        by(
            "an opaque token, where anonymous tokens open nothing",
            |call| either(call, || opens().opaque(), || token().opaque()),
            right(),
            VALIDATED,
        )
        .costs(3),
        by(
            "a token that names somebody, where anonymous ones name nobody",
            |call| either(call, || opens().naming("8c1f0b"), opens),
            right(),
            VALIDATED,
        )
        .costs(2),
        by(
            "a token that names somebody, where anonymous ones name `anonymous`",
            |call| either(call, || opens().naming("8c1f0b"), || opens().naming("anonymous")),
            right(),
            VALIDATED,
        ),
        by(
            "a token that grants what anonymous ones don't",
            |call| either(call, || opens().granting("team/x", &["pull"]), opens),
            right(),
            VALIDATED,
        ),
        by(
            "a token that names the account, though anonymous ones open the door too",
            |call| either(call, || opens().naming(USER), opens),
            right(),
            VALIDATED,
        ),
        by(
            "the right to pull a private repository",
            |call| either(call, || opens().opaque(), opens),
            right().repository("private"),
            READ,
        ),
        by("the right to pull, of a token that names the account", strict, right().repository("hello"), READ)
            .costs(2),
    ]
}

fn not_proven() -> Vec<Row> {
    const READ_UNPROVEN: &str =
        "+Resolved +Reachable +Verified ?Unprovable +Accessible = +CredentialsUnprovable";
    vec![
        by(
            "opaque tokens that open the same to everybody",
            |_| opens().opaque().issued(),
            right(),
            UNPROVABLE,
        )
        .costs(3),
        by(
            "opaque tokens that open the same to everybody, a wrong password",
            |_| opens().opaque().issued(),
            wrong(),
            UNPROVABLE,
        ),
        by(
            "tokens that name nobody and open the same to everybody, a wrong password",
            |_| opens().issued(),
            wrong(),
            UNPROVABLE,
        ),
        by(
            "tokens that call everybody anonymous",
            |_| opens().naming("anonymous").issued(),
            right(),
            UNPROVABLE,
        ),
        by(
            "tokens that call everybody (anonymous), a wrong password",
            |_| opens().naming("(anonymous)").issued(),
            wrong(),
            UNPROVABLE,
        ),
        by(
            "tokens that call everybody by one number, a wrong password",
            |_| opens().naming("4711").issued(),
            wrong(),
            UNPROVABLE,
        ),
        by(
            "tokens with the same empty rights for everybody",
            |_| opens().granting("team", &[]).issued(),
            wrong(),
            UNPROVABLE,
        ),
        by(
            "a public repository, opaque tokens",
            |call| scoped(opens(), call).opaque().issued(),
            right().repository("hello"),
            READ_UNPROVEN,
        ),
        by(
            "a public repository, opaque tokens, a wrong password",
            |call| scoped(opens(), call).opaque().issued(),
            wrong().repository("hello"),
            READ_UNPROVEN,
        ),
    ]
}

fn refusals() -> Vec<Row> {
    let message_contains = |name, answer: Answer, expected| {
        row(name, with_service(move |_| answer.clone()), right(), AUTH, expected)
    };
    let page = "<html>Bad request</html>";
    vec![
        by("a wrong password", strict, wrong(), REJECTED)
            .costs(1)
            .message_contains("CredentialsValidated", "{auth.host}:{auth.port}"),
        message_contains("a token service that forbids", Answer::error(403, "DENIED"), FORBIDDEN).costs(1),
        message_contains(
            "a token service that calls credentials a bad request",
            Answer::status(400).body(page),
            REJECTED,
        ),
        message_contains(
            "a token service that says 401 with a page",
            Answer::status(401).header("Content-Type", "text/html").body(page),
            REJECTED,
        ),
        by(
            "a token that the registry refuses",
            |call| alice(call, || token().issued()),
            right(),
            TOKEN_REFUSED,
        )
        .message_contains("CredentialsValidated", "{auth.host}:{auth.port}"),
        by(
            "a token that names the account, and that the registry refuses",
            |call| alice(call, || token().naming(USER).issued()),
            right(),
            TOKEN_REFUSED,
        ),
        by(
            "a token that the service issued ended",
            |call| alice(call, || token().naming(USER).ended().issued()),
            right(),
            TOKEN_REFUSED,
        ),
        row(
            "a token with which the registry forbids",
            vec![host("registry", forbids_bearer), host("auth", issues(strict))],
            right(),
            AUTH,
            FORBIDDEN,
        ),
        row(
            "a token that is a bad request to the registry",
            vec![host("registry", |asked| answers_bearer(asked, 400)), host("auth", issues(strict))],
            right(),
            AUTH,
            TOKEN_REFUSED,
        ),
    ]
}

fn forbids_bearer(asked: &ReceivedRequest) -> Answer {
    answers_bearer(asked, 403)
}

fn answers_bearer(asked: &ReceivedRequest, status: u16) -> Answer {
    match caller(asked) {
        Caller::Bearer(_) => Answer::error(status, "DENIED"),
        _ => Answer::challenge(TO_AUTH),
    }
}

/// How token services word the same.
fn shapes() -> Vec<Row> {
    let words = |name, body: fn(String) -> Value, expected| {
        row(
            name,
            with_service(move |call| alice(call, || opens().issued_as(body(opens().naming(USER).text())))),
            right(),
            AUTH,
            expected,
        )
    };
    vec![
        words("`token` alone", |token| json!({"token": token}), VALIDATED),
        words(
            "`access_token` alone",
            |token| json!({"access_token": token, "token_type": "bearer"}),
            VALIDATED,
        ),
        words(
            "an empty `token` beside `access_token`",
            |token| json!({"token": "", "access_token": token}),
            VALIDATED,
        ),
        words(
            "an empty `access_token` beside `token`",
            |token| json!({"token": token, "access_token": ""}),
            VALIDATED,
        ),
        words(
            "`token` that is null beside `access_token`",
            |token| json!({"token": null, "access_token": token}),
            VALIDATED,
        ),
        words(
            "`token` that is a number beside `access_token`",
            |token| json!({"token": 1, "access_token": token}),
            VALIDATED,
        ),
        words(
            "more than was asked for",
            |token| json!({"token": token, "expires_in": "soon", "issued_at": 3, "refresh_token": {"x": []}}),
            VALIDATED,
        ),
        words("both empty", |_| json!({"token": "", "access_token": ""}), UNAVAILABLE),
        words("neither", |_| json!({"expires_in": 300}), UNAVAILABLE),
        words(
            "a token with a line break in it",
            |token| json!({"token": format!("{token}\r\nX-Evil: 1")}),
            UNAVAILABLE,
        ),
        words("a list", |token| json!([token]), UNAVAILABLE),
        words("an error with status 200", |_| json!({"errors": [{"code": "UNAUTHORIZED"}]}), UNAVAILABLE),
        row(
            "an empty 200 of the token service",
            with_service(|_| Answer::status(200)),
            right(),
            AUTH,
            UNAVAILABLE,
        ),
        row(
            "a captive page of the token service",
            with_service(|_| Answer::status(200).header("Content-Type", "text/html").body("<html>")),
            right(),
            AUTH,
            UNAVAILABLE,
        ),
        row(
            "a token in a 201",
            with_service(|call| {
                alice(call, || {
                    Answer::status(201).body(json!({"token": opens().naming(USER).text()}).to_string())
                })
            }),
            right(),
            AUTH,
            VALIDATED,
        ),
    ]
}

fn only_with_scope(call: &TokenCall) -> Answer {
    match call.scope() {
        Some(_) => strict(call),
        None => alice(call, || token().naming(USER).issued()),
    }
}

fn only_without_scope(call: &TokenCall) -> Answer {
    match call.repository() {
        Some(repository) => alice(call, || token().naming(USER).granting(repository, &["pull"]).issued()),
        None => strict(call),
    }
}

fn scope_or_bad_request(call: &TokenCall) -> Answer {
    if call.scope().is_some() { strict(call) } else { Answer::status(400) }
}

fn scopes() -> Vec<Row> {
    let asking = |service: fn(&TokenCall) -> Answer| {
        let challenge = "Bearer realm=\"{auth}/token\",service=\"r\",scope=\"repository:any:pull\"";
        vec![host("registry", takes_tokens(challenge)), host("auth", issues(service))]
    };
    vec![
        row(
            "`/v2/` opens only with the scope that it asks for",
            asking(only_with_scope),
            right(),
            AUTH,
            VALIDATED,
        ),
        row("`/v2/` opens only without a scope", asking(only_without_scope), right(), AUTH, VALIDATED),
        by(
            "`/v2/` opens only with a scope, and the repository is named",
            only_with_scope,
            right().repository("hello"),
            READ,
        ),
        by(
            "`/v2/` opens only with a scope, and a base path is named",
            only_with_scope,
            right().below("team"),
            VALIDATED,
        ),
        by(
            "`/v2/` opens only without a scope, and the repository is named",
            only_without_scope,
            right().repository("hello"),
            READ,
        ),
        row("a token service that wants a scope", asking(scope_or_bad_request), right(), AUTH, VALIDATED),
        row(
            "a token service that wants a scope, a wrong password",
            asking(scope_or_bad_request),
            wrong(),
            AUTH,
            REJECTED,
        ),
        by(
            "tokens that open repositories, and never `/v2/`",
            |call| alice(call, || scoped(token().naming(USER), call).issued()),
            right().repository("hello"),
            READ,
        ),
        // The token service issued it and the registry refused it (docs/architecture.md#evidence). That this registry takes no
        // token there at all can't be seen without a repository.
        by(
            "tokens that open repositories, and never `/v2/`, and none is named",
            |call| alice(call, || scoped(token().naming(USER), call).issued()),
            right(),
            TOKEN_REFUSED,
        ),
    ]
}

fn strict_where(holds: bool, call: &TokenCall, otherwise: u16) -> Answer {
    if holds { strict(call) } else { Answer::status(otherwise).body("<html>Not here</html>") }
}

fn services() -> Vec<Row> {
    const UNTRUSTED: &str =
        "+Resolved +Reachable +Verified -UntrustedTokenService . = -UntrustedTokenService stalled";
    vec![
        by(
            "a service that wants its name",
            |call| strict_where(call.parameter("service") == Some("registry.example.com"), call, 400),
            right(),
            VALIDATED,
        ),
        by(
            "a service that wants the account's name",
            |call| {
                strict_where(
                    call.caller == Caller::Nobody || call.parameter("account") == Some(USER),
                    call,
                    400,
                )
            },
            right(),
            VALIDATED,
        ),
        by(
            "a service that takes GET alone",
            |call| strict_where(call.method == "GET", call, 405),
            right(),
            VALIDATED,
        ),
        by(
            "a service that takes POST alone",
            |call| strict_where(call.method == "POST", call, 405),
            right(),
            VALIDATED,
        ),
        by(
            "a service that takes POST alone, a wrong password",
            |call| strict_where(call.method == "POST", call, 405),
            wrong(),
            REJECTED,
        ),
        by(
            "a service that sends on to its missing slash",
            |call| {
                if call.path == "/token" {
                    Answer::status(301).header("Location", "/token/")
                } else {
                    strict(call)
                }
            },
            right(),
            VALIDATED,
        ),
        by(
            "a service that sends on to its missing slash by URL",
            |call| {
                if call.path == "/token" {
                    Answer::status(308).header("Location", "{auth}/token/")
                } else {
                    strict(call)
                }
            },
            right(),
            VALIDATED,
        ),
        by(
            "a service that sends on to another path",
            |call| {
                if call.path == "/token" {
                    Answer::status(302).header("Location", "/login")
                } else {
                    strict(call)
                }
            },
            right(),
            UNTRUSTED,
        ),
        by(
            "a service that sends on to another host",
            |_| Answer::status(307).header("Location", "{elsewhere}/token"),
            right(),
            UNTRUSTED,
        )
        .message_contains("CredentialsValidated", "elsewhere.example.org"),
        by(
            "a service that sends on to another host's missing slash",
            |_| Answer::status(301).header("Location", "{elsewhere}/token/"),
            right(),
            UNTRUSTED,
        ),
        by(
            "a service that sends on into the clear",
            |_| Answer::status(301).header("Location", "http://{auth.host}:{auth.port}/token/"),
            right(),
            UNTRUSTED,
        ),
        by(
            "a service that sends on in a circle",
            |call| Answer::status(301).header("Location", &format!("{}/", call.path)),
            right(),
            UNTRUSTED,
        ),
        by("a service that is not there", |_| Answer::status(404), right(), UNAVAILABLE),
        by(
            "a service that answers anonymous clients 400 with a page",
            |call| {
                if call.caller == Caller::Nobody {
                    Answer::status(400).body("<html>")
                } else {
                    alice(call, || opens().opaque().issued())
                }
            },
            right(),
            VALIDATED,
        ),
        by(
            "a service that answers anonymous clients 404",
            |call| {
                if call.caller == Caller::Nobody {
                    Answer::status(404)
                } else {
                    alice(call, || opens().opaque().issued())
                }
            },
            right(),
            VALIDATED,
        ),
        by(
            "a service that answers anonymous clients with a page",
            |call| {
                if call.caller == Caller::Nobody {
                    Answer::status(200).body("<html>")
                } else {
                    alice(call, || opens().opaque().issued())
                }
            },
            right(),
            VALIDATED,
        ),
        row("a service at the registry itself", vec![host("registry", itself)], right(), REGISTRY, VALIDATED),
        row(
            "a service below the registry's suffix",
            vec![host("registry", below_suffix)],
            right().endpoint("{registry}/artifactory/api/docker/packs"),
            REGISTRY,
            VALIDATED,
        ),
    ]
}

/// A registry with its token service at the same host.
fn itself(asked: &ReceivedRequest) -> Answer {
    if asked.path.starts_with("/token") {
        return issues(strict)(asked);
    }
    takes_tokens("Bearer realm=\"{registry}/token\",service=\"r\"")(asked)
}

fn below_suffix(asked: &ReceivedRequest) -> Answer {
    if asked.path.starts_with("/artifactory/api/docker/packs/v2/token") {
        return issues(strict)(asked);
    }
    takes_tokens("Bearer realm=\"{registry}/artifactory/api/docker/packs/v2/token\",service=\"r\"")(asked)
}

/// Bearer and Basic offered together, and open registries.
fn schemes() -> Vec<Row> {
    let with = |registry: fn(&ReceivedRequest) -> Answer| -> Vec<Host> {
        vec![host("registry", registry), host("auth", issues(strict))]
    };
    vec![
        row(
            "Basic beside Bearer, on lines of their own",
            with(|asked| both_ways(asked, false)),
            right(),
            BOTH,
            VALIDATED,
        ),
        row(
            "Basic before Bearer, in one line",
            with(|asked| both_ways(asked, true)),
            right(),
            BOTH,
            VALIDATED,
        ),
        row(
            "Basic beside Bearer, a wrong password",
            with(|asked| both_ways(asked, false)),
            wrong(),
            BOTH,
            REJECTED,
        ),
        row(
            "Basic beside a Bearer of another site",
            vec![host("registry", basic_beside_stranger), host("tokens", issues(strict))],
            right(),
            REGISTRY,
            VALIDATED,
        ),
        row("an open door with a Bearer challenge", with(open_with_challenge), right(), AUTH, VALIDATED),
        row(
            "an open door with a Bearer challenge, a wrong password",
            with(open_with_challenge),
            wrong(),
            AUTH,
            REJECTED,
        ),
        row(
            "an open door, and a token wanted only from who shows a password",
            with(open_until_password),
            right(),
            BOTH,
            VALIDATED,
        ),
        row(
            "an open door, and a token wanted only from who shows a wrong password",
            with(open_until_password),
            wrong(),
            BOTH,
            REJECTED,
        ),
    ]
}

fn both_ways(asked: &ReceivedRequest, one_line: bool) -> Answer {
    match (caller(asked), one_line) {
        (Caller::Bearer(_), _) => takes_tokens(TO_AUTH)(asked),
        (Caller::Alice, _) => content(asked),
        (_, true) => Answer::challenge(&format!("Basic realm=\"x\", {TO_AUTH}")),
        (_, false) => Answer::challenge(TO_AUTH).header("WWW-Authenticate", "Basic realm=\"x\""),
    }
}

fn basic_beside_stranger(asked: &ReceivedRequest) -> Answer {
    match htpasswd(asked) {
        Answer::Reply { status: 401, .. } => Answer::challenge("Bearer realm=\"{tokens}/token\"")
            .header("WWW-Authenticate", "Basic realm=\"x\""),
        answer => answer,
    }
}

fn open_with_challenge(asked: &ReceivedRequest) -> Answer {
    content(asked).header("WWW-Authenticate", TO_AUTH)
}

fn open_until_password(asked: &ReceivedRequest) -> Answer {
    match caller(asked) {
        Caller::Nobody => content(asked),
        _ => takes_tokens(TO_AUTH)(asked),
    }
}
