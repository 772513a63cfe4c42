//! Registries without credentials: whether they require any.

use crate::hosts::host;
use crate::row::{NOWHERE, Row, row};
use crate::scripts::{
    Caller, TO_AUTH, TokenCall, alone, caller, content, htpasswd, issues, open, refused, scoped, strict,
    takes_tokens, token, with_service,
};
use crate::spec::spec;
use crate::support::{Answer, ReceivedRequest};

const ANONYMOUS: &str = "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available";
const REQUIRED: &str = "+Resolved +Reachable +Verified -Required . = -Required stalled";
const FORBIDDEN: &str = "+Resolved +Reachable +Verified -Forbidden . = -Forbidden stalled";
const UNSUPPORTED: &str = "+Resolved +Reachable +Verified -UnsupportedScheme . = -UnsupportedScheme stalled";

pub fn rows() -> Vec<Row> {
    [without_repository(), with_repository()].concat()
}

/// A token service that gives everyone a token that opens `/v2/`, and what is asked for.
fn generous(call: &TokenCall) -> Answer {
    scoped(token().opening("api"), call).issued()
}

fn without_repository() -> Vec<Row> {
    let asks = |name, script: fn(&ReceivedRequest) -> Answer, expected| {
        row(name, alone(script), spec(), NOWHERE, expected)
    };
    let issues_to_nobody =
        |name, answer: Answer| row(name, with_service(move |_| answer.clone()), spec(), NOWHERE, REQUIRED);
    let page = "<html>Bad request</html>";
    vec![
        asks("an open registry", open, ANONYMOUS).costs(1),
        asks("a registry with passwords", htpasswd, REQUIRED).costs(1),
        asks(
            "an open registry that sends a Basic challenge all the same",
            |_| Answer::granted().header("WWW-Authenticate", "Basic realm=x"),
            ANONYMOUS,
        ),
        asks("a registry that forbids", |_| Answer::error(403, "DENIED"), FORBIDDEN)
            .message_contains("CredentialsValidated", "without asking for credentials"),
        asks(
            "a registry that forbids and asks for a password",
            |_| Answer::error(403, "DENIED").header("WWW-Authenticate", "Basic realm=x"),
            REQUIRED,
        ),
        asks("a registry that refuses without a challenge", |_| Answer::error(401, "UNAUTHORIZED"), REQUIRED),
        asks("a registry that knows Negotiate only", |_| Answer::challenge("Negotiate"), UNSUPPORTED)
            .message_contains("CredentialsValidated", "Negotiate"),
        asks(
            "a registry that knows Digest only",
            |_| Answer::challenge("Digest realm=\"x\", nonce=\"y\", qop=\"auth\""),
            UNSUPPORTED,
        ),
        row("a token service that serves everybody", with_service(generous), spec(), NOWHERE, ANONYMOUS)
            .costs(2),
        row("a token service that wants to know", with_service(strict), spec(), NOWHERE, REQUIRED).costs(1),
        row("a token service at another site that serves everybody", elsewhere(), spec(), NOWHERE, ANONYMOUS),
        issues_to_nobody(
            "a token service that refuses anonymous clients with 403",
            Answer::error(403, "DENIED"),
        ),
        issues_to_nobody(
            "a token service that refuses anonymous clients with 400 and a page",
            Answer::status(400).header("Content-Type", "text/html").body(page),
        ),
        issues_to_nobody("an anonymous token that opens nothing", token().issued()),
        row(
            "an anonymous token that opens `/v2/` only with the scope that was asked for",
            scope_opens(),
            spec(),
            NOWHERE,
            ANONYMOUS,
        ),
        row("an open registry that names a token service", open_with_service(), spec(), NOWHERE, ANONYMOUS)
            .costs(1)
            .never_at(&["auth"]),
    ]
}

fn elsewhere() -> Vec<crate::hosts::Host> {
    let to_tokens = "Bearer realm=\"{tokens}/token\",service=\"registry\"";
    vec![host("registry", takes_tokens(to_tokens)), host("tokens", issues(generous))]
}

fn scope_opens() -> Vec<crate::hosts::Host> {
    let challenge = "Bearer realm=\"{auth}/token\",scope=\"registry:catalog:*\"";
    let service = |call: &TokenCall| match call.scope() {
        Some(_) => token().opening("api").issued(),
        None => token().issued(),
    };
    vec![host("registry", takes_tokens(challenge)), host("auth", issues(service))]
}

fn open_with_service() -> Vec<crate::hosts::Host> {
    let greets = |asked: &ReceivedRequest| content_and_challenge(asked);
    vec![host("registry", greets), host("auth", issues(strict))]
}

fn content_and_challenge(asked: &ReceivedRequest) -> Answer {
    content(asked).header("WWW-Authenticate", TO_AUTH)
}

/// `/v2/` is open; repositories are not.
fn open_door(asked: &ReceivedRequest) -> Answer {
    if asked.path == "/v2/" { content(asked) } else { htpasswd(asked) }
}

/// `/v2/` is closed to anonymous tokens, and public repositories are open to them.
fn closed_door(asked: &ReceivedRequest) -> Answer {
    match caller(asked) {
        Caller::Bearer(_) if asked.path == "/v2/" => Answer::challenge(TO_AUTH),
        _ => takes_tokens(TO_AUTH)(asked),
    }
}

fn public_only(call: &TokenCall) -> Answer {
    match call.repository() {
        Some("hello") => token().granting("hello", &["pull"]).issued(),
        _ => token().issued(),
    }
}

fn with_repository() -> Vec<Row> {
    let named = |name, hosts, repository, expected| {
        row(name, hosts, spec().repository(repository), NOWHERE, expected)
    };
    vec![
        named(
            "a repository that everybody may read",
            alone(open),
            "hello",
            "+Resolved +Reachable +Verified +AnonymousAccess +Accessible = +Available",
        )
        .costs(2),
        named(
            "a repository that does not exist in an open registry",
            alone(open),
            "missing",
            "+Resolved +Reachable +Verified +AnonymousAccess -NotFound = -NotFound stalled",
        ),
        named(
            "a repository that an open registry forbids",
            alone(open),
            "forbidden",
            "+Resolved +Reachable +Verified +AnonymousAccess -Denied = -Denied stalled",
        ),
        named(
            "a repository without tags in an open registry",
            alone(open),
            "empty",
            "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available",
        ),
        // Credentials are needed for what was named, and the repository was tried: both are said.
        named(
            "a repository that needs credentials in an open registry",
            alone(open_door),
            "hello",
            "+Resolved +Reachable +Verified -Required -Denied = -Required stalled",
        ),
        named(
            "a repository in a registry with passwords",
            alone(htpasswd),
            "hello",
            "+Resolved +Reachable +Verified -Required -Denied = -Required stalled",
        ),
        named(
            "a repository that anonymous tokens open",
            with_service(generous),
            "hello",
            "+Resolved +Reachable +Verified +AnonymousAccess +Accessible = +Available",
        ),
        named(
            "a public repository behind a `/v2/` that is closed to anonymous tokens",
            vec![host("registry", closed_door), host("auth", issues(public_only))],
            "hello",
            "+Resolved +Reachable +Verified +AnonymousAccess +Accessible = +Available",
        ),
        named(
            "a private repository behind a `/v2/` that is closed to anonymous tokens",
            vec![host("registry", closed_door), host("auth", issues(public_only))],
            "private",
            "+Resolved +Reachable +Verified -Required -Denied = -Required stalled",
        ),
        named(
            "a repository for which the token service refuses anonymous clients",
            with_service(
                |call| if call.scope().is_some() { refused() } else { token().opening("api").issued() },
            ),
            "hello",
            "+Resolved +Reachable +Verified -Required -Denied = -Required stalled",
        ),
    ]
}
