//! Layer 5, content: a named repository is read; and the verdict if none is named.

use crate::hosts::host;
use crate::row::{AUTH, REGISTRY, Row, row};
use crate::scripts::{
    Caller, TO_AUTH, TokenCall, about, alone, caller, content, htpasswd, issues, refused, strict,
    takes_tokens, token, with_service,
};
use crate::secrets::USER;
use crate::spec::{Spec, right};
use crate::support::{Answer, ReceivedRequest};

const READ: &str = "+Resolved +Reachable +Verified +Validated +Accessible = +Available";
const INCONCLUSIVE: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const DENIED: &str = "+Resolved +Reachable +Verified +Validated -Denied = -Denied stalled";
const NOT_FOUND: &str = "+Resolved +Reachable +Verified +Validated -NotFound = -NotFound stalled";

pub fn rows() -> Vec<Row> {
    [by_password(), odd_answers(), by_token()].concat()
}

fn by_password() -> Vec<Row> {
    let named = |name, spec: Spec, expected| row(name, alone(htpasswd), spec, REGISTRY, expected);
    vec![
        named("a repository", right().repository("hello"), READ).costs(3),
        named("a repository below a base path", right().below("team/packs").repository("hello"), READ)
            .message_contains("ContentPathAccessible", "team/packs/hello"),
        named(
            "a repository of several parts",
            right().below("team").repository("spectro-packs/archive/hello"),
            READ,
        ),
        named("a base path alone", right().below("team/packs"), INCONCLUSIVE).costs(2),
        named("neither base path nor repository", right(), INCONCLUSIVE).costs(2),
        named("a repository that does not exist", right().repository("missing"), NOT_FOUND)
            .message_contains("ContentPathAccessible", "missing"),
        named(
            "a repository that does not exist below a base path",
            right().below("team").repository("missing"),
            NOT_FOUND,
        )
        .message_contains("ContentPathAccessible", "team/missing"),
        named("a repository that is forbidden", right().repository("forbidden"), DENIED)
            .message_contains("ContentPathAccessible", "403"),
        named("a repository without tags", right().repository("empty"), INCONCLUSIVE),
    ]
}

/// The password is right, and the list of tags is answered so.
fn odd_answers() -> Vec<Row> {
    let lists = |name, answer: Answer, expected| {
        let script = move |asked: &ReceivedRequest| match (caller(asked), about(asked).as_str()) {
            (Caller::Alice, "hello") => answer.clone(),
            _ => htpasswd(asked),
        };
        row(name, alone(script), right().repository("hello"), REGISTRY, expected)
    };
    let page = "<html>Welcome</html>";
    vec![
        lists("tags that are refused", Answer::challenge("Basic realm=x"), DENIED),
        lists(
            "tags that are null",
            Answer::status(200).body(r#"{"name":"hello","tags":null}"#),
            INCONCLUSIVE,
        ),
        lists("tags without a list", Answer::status(200).body(r#"{"name":"hello"}"#), INCONCLUSIVE),
        lists("an empty object for tags", Answer::status(200).body("{}"), INCONCLUSIVE),
        lists("an empty 200 for tags", Answer::status(200), INCONCLUSIVE),
        lists(
            "a page for tags",
            Answer::status(200).header("Content-Type", "text/html").body(page),
            INCONCLUSIVE,
        ),
        lists(
            "a redirect of tags",
            Answer::status(307).header("Location", "{elsewhere}/v2/hello/tags/list"),
            INCONCLUSIVE,
        ),
        lists("tags by no method", Answer::status(405), INCONCLUSIVE),
        lists("tags that are not implemented", Answer::error(400, "UNSUPPORTED"), INCONCLUSIVE),
        lists("a page with 404 for tags", Answer::status(404).body(page), NOT_FOUND),
        lists(
            "tags with a link to more",
            Answer::tags().header("Link", "</v2/hello/tags/list?last=1.0&n=1>; rel=\"next\""),
            READ,
        ),
        lists("tags in the thousands", thousands(), READ),
    ]
}

/// A registry that does not know `n=1`.
fn thousands() -> Answer {
    let tags: Vec<String> = (0..20_000).map(|number| format!("v{number}.0.0")).collect();
    Answer::status(200).body(serde_json::json!({"name": "hello", "tags": tags}).to_string())
}

fn names_alice(call: &TokenCall, allowed: &[&str]) -> Answer {
    match (&call.caller, call.repository()) {
        (Caller::Alice, Some(repository)) => {
            token().naming(USER).opening("api").granting(repository, allowed).issued()
        }
        (Caller::Alice, None) => strict(call),
        _ => refused(),
    }
}

/// Docker Hub's way: the token was issued, and the registry finds that it does not suffice.
fn insufficient(asked: &ReceivedRequest) -> Answer {
    match (caller(asked), about(asked).as_str()) {
        (Caller::Bearer(_), "api") => content(asked),
        (Caller::Bearer(_), _) => Answer::challenge(&format!("{TO_AUTH},error=\"insufficient_scope\"")),
        _ => Answer::challenge(TO_AUTH),
    }
}

fn by_token() -> Vec<Row> {
    let named = |name, service: fn(&TokenCall) -> Answer, repository, expected| {
        row(name, with_service(service), right().repository(repository), AUTH, expected)
    };
    vec![
        named("a repository, by a token", strict, "hello", READ),
        named("a repository that does not exist, by a token", strict, "missing", NOT_FOUND),
        named("a repository without tags, by a token", strict, "empty", INCONCLUSIVE),
        named("a repository that is forbidden, by a token", strict, "forbidden", DENIED),
        named("a token that does not grant the repository", |call| names_alice(call, &[]), "hello", DENIED),
        named("a token that grants pushing alone", |call| names_alice(call, &["push"]), "hello", DENIED),
        named(
            "a token service that refuses the repository with 401",
            |call| if call.scope().is_some() { refused() } else { strict(call) },
            "hello",
            DENIED,
        ),
        named(
            "a token service that refuses the repository with 403",
            |call| if call.scope().is_some() { Answer::error(403, "DENIED") } else { strict(call) },
            "hello",
            DENIED,
        ),
        row(
            "a token that does not suffice",
            vec![host("registry", insufficient), host("auth", issues(strict))],
            right().repository("hello"),
            AUTH,
            DENIED,
        ),
        row(
            "a repository that is not as open as `/v2/`, by a token",
            vec![
                host("registry", |asked| {
                    if asked.path == "/v2/" { content(asked) } else { takes_tokens(TO_AUTH)(asked) }
                }),
                host("auth", issues(strict)),
            ],
            right().repository("hello"),
            crate::row::BOTH,
            READ,
        ),
    ]
}
