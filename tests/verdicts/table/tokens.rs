//! `auth.token`: a bearer token that the registry itself takes, and an identity token that only its token service takes.

use serde_json::json;

use crate::hosts::{Host, host};
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{
    Caller, TO_AUTH, Token, TokenCall, alone, caller, content, htpasswd, issues, open, opened_by, refused,
    scoped, strict, takes_tokens, token, with_service,
};
use crate::secrets::{IDENTITY, USER};
use crate::spec::{Spec, docker_auth, identity, spec, wrong_identity};
use crate::support::{Answer, ReceivedRequest};

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const READ: &str = "+Resolved +Reachable +Verified +Validated +Accessible = +Available";
const REJECTED: &str = "+Resolved +Reachable +Verified -Rejected . = -Rejected stalled";
const FORBIDDEN: &str = "+Resolved +Reachable +Verified -Forbidden . = -Forbidden stalled";
const EXPIRED: &str = "+Resolved +Reachable +Verified -Expired . = -Expired stalled";
const UNSUPPORTED: &str = "+Resolved +Reachable +Verified -UnsupportedScheme . = -UnsupportedScheme stalled";
const UNPROVABLE: &str = "+Resolved +Reachable +Verified ?Unprovable ?Inconclusive = +CredentialsUnprovable";

pub fn rows() -> Vec<Row> {
    [registry_tokens(), identity_tokens(), open_doors()].concat()
}

/// The user's own token of the registry.
fn with(token: &Token) -> Spec {
    spec().token_secret(&[("token", &token.given())])
}

/// Goes to the registry, and never to its token service.
fn own(name: &'static str, hosts: Vec<Host>, spec: Spec, expected: &'static str) -> Row {
    row(name, hosts, spec, REGISTRY, expected)
}

fn opens() -> Token {
    token().naming(USER).opening("api")
}

fn registry_tokens() -> Vec<Row> {
    let strictly = || with_service(strict);
    let everybody = || with_service(|_: &TokenCall| token().opening("api").issued());
    let answering = |answer: Answer| {
        alone(move |asked| {
            if asked.authorization().is_some() {
                answer.clone()
            } else {
                Answer::challenge("Bearer realm=\"/token\"")
            }
        })
    };
    let says_expired = Answer::challenge(
        "Bearer realm=\"/token\",error=\"invalid_token\",error_description=\"The access token expired\"",
    );
    vec![
        own("a registry token", strictly(), with(&opens()), VALIDATED).costs(2).ends("nothing"),
        own(
            "a registry token with a line break at its end",
            strictly(),
            spec().token_secret(&[("token", &format!("{}\n", opens().given()))]),
            VALIDATED,
        ),
        own("a registry token that can't be read", strictly(), with(&opens().opaque()), VALIDATED),
        own(
            "a registry token of somebody else's registry",
            strictly(),
            with(&token().naming(USER)),
            REJECTED,
        ),
        own("a registry token that ended", strictly(), with(&token().naming(USER).ended()), EXPIRED)
            .ends("2020-09-13T12:26:40Z"),
        own("a registry token that is yet to end", strictly(), with(&opens().lasting()), VALIDATED)
            .ends("2030-03-17T17:46:40Z"),
        own(
            "a registry token that is refused before it ends",
            strictly(),
            with(&token().naming(USER).lasting()),
            REJECTED,
        ),
        own(
            "a registry token that the registry says has expired",
            answering(says_expired),
            with(&token().opaque()),
            EXPIRED,
        ),
        own(
            "a registry token with which the registry forbids",
            answering(Answer::error(403, "DENIED")),
            with(&opens()),
            FORBIDDEN,
        ),
        own(
            "a registry token that ended, answered 403",
            answering(Answer::error(403, "DENIED")),
            with(&opens().ended()),
            EXPIRED,
        ),
        own(
            "a registry token that is a bad request",
            answering(Answer::error(400, "INVALID")),
            with(&opens()),
            REJECTED,
        ),
        own(
            "a registry token, where everybody gets one that opens the same",
            everybody(),
            with(&opens()),
            UNPROVABLE,
        ),
        own(
            "a registry token that opens its repository alone",
            strictly(),
            with(&token().granting("hello", &["pull"])).repository("hello"),
            READ,
        ),
        own(
            "a registry token for another repository than the named one",
            strictly(),
            with(&token().granting("other", &["pull"])).repository("hello"),
            REJECTED,
        ),
        own("a registry token at a registry with passwords", alone(htpasswd), with(&opens()), REJECTED),
        own(
            "a registry token at a registry of unknown schemes",
            alone(|_| Answer::challenge("Negotiate")),
            with(&opens()),
            UNSUPPORTED,
        ),
        own(
            "both keys in one Secret: the registry token",
            strictly(),
            spec().token_secret(&[("token", &opens().given()), ("identityToken", IDENTITY)]),
            VALIDATED,
        ),
    ]
}

fn takes_post(call: &TokenCall, answer: u16) -> Answer {
    if call.method == "POST" { strict(call) } else { Answer::status(answer) }
}

fn identity_tokens() -> Vec<Row> {
    let by = |name, service: fn(&TokenCall) -> Answer, spec: Spec, expected| {
        row(name, with_service(service), spec, AUTH, expected)
    };
    let docker = |user: &str| {
        spec().docker_config(&json!({"auths": {"{registry.host}:{registry.port}": {"auth": docker_auth(user, ""), "identitytoken": IDENTITY}}}))
    };
    vec![
        by("an identity token", strict, identity(), VALIDATED),
        by("an identity token, with a repository", strict, identity().repository("hello"), READ),
        by("a withdrawn identity token", strict, wrong_identity(), REJECTED)
            .message_contains("CredentialsValidated", "{auth.host}:{auth.port}"),
        by(
            "a withdrawn identity token, answered as OAuth2 has it",
            |call| {
                if call.caller == Caller::Alice {
                    strict(call)
                } else {
                    Answer::status(400).body(r#"{"error":"invalid_grant"}"#)
                }
            },
            wrong_identity(),
            REJECTED,
        ),
        by(
            "an identity token where POST alone is taken",
            |call| takes_post(call, 404),
            identity(),
            VALIDATED,
        ),
        by(
            "an identity token where GET alone is taken",
            |call| if call.method == "GET" { strict(call) } else { Answer::status(405) },
            identity(),
            VALIDATED,
        ),
        by(
            "an identity token as an OAuth2 form",
            |call| {
                if call.method == "POST" && call.parameter("grant_type") == Some("refresh_token") {
                    strict(call)
                } else {
                    refused()
                }
            },
            identity(),
            VALIDATED,
        ),
        by("an identity token of a Docker configuration, with its account", strict, docker(USER), VALIDATED),
        by(
            "an identity token of a Docker configuration, without an account",
            strict,
            docker("<token>"),
            VALIDATED,
        ),
        row(
            "an identity token at a registry with passwords",
            alone(htpasswd),
            identity(),
            NOWHERE,
            UNSUPPORTED,
        ),
        row(
            "an identity token at a registry of unknown schemes",
            alone(|_| Answer::challenge("Negotiate")),
            identity(),
            NOWHERE,
            UNSUPPORTED,
        ),
        by(
            "an opaque token for an identity token, where everybody gets one",
            |call| scoped(token().opening("api"), call).opaque().issued(),
            identity(),
            UNPROVABLE,
        ),
    ]
}

/// `/v2/` is open; repositories want a token.
fn open_door(asked: &ReceivedRequest) -> Answer {
    if asked.path == "/v2/" { content(asked) } else { takes_tokens(TO_AUTH)(asked) }
}

/// Serves everyone, and still refuses a token that is wrong.
fn open_and_strict(asked: &ReceivedRequest) -> Answer {
    match caller(asked) {
        Caller::Bearer(token) if opened_by(&token).is_empty() => Answer::challenge(TO_AUTH),
        _ => content(asked),
    }
}

fn open_doors() -> Vec<Row> {
    const NEVER_ASKED: &str =
        "+Resolved +Reachable +Verified ?Unprovable ?Inconclusive = +CredentialsUnprovable";
    let behind = || vec![host("registry", open_door), host("auth", issues(strict))];
    vec![
        own("a registry token at an open registry", alone(open), with(&opens()), UNPROVABLE),
        own(
            "a wrong registry token at an open registry that looks at it",
            alone(open_and_strict),
            with(&token()),
            REJECTED,
        ),
        own(
            "a registry token, and a repository that is not as open as `/v2/`",
            behind(),
            with(&token().granting("hello", &["pull"])).repository("hello"),
            READ,
        ),
        row("an identity token at an open registry", alone(open), identity(), NOWHERE, NEVER_ASKED),
        row(
            "an identity token, and a repository that is not as open as `/v2/`",
            behind(),
            identity().repository("hello"),
            AUTH,
            READ,
        ),
        row(
            "a withdrawn identity token, and a repository that is not as open as `/v2/`",
            behind(),
            wrong_identity().repository("hello"),
            AUTH,
            REJECTED,
        ),
        row(
            "a password, and a repository that is not as open as `/v2/`",
            behind(),
            crate::spec::right().repository("hello"),
            crate::row::BOTH,
            READ,
        ),
        row(
            "a wrong password, and a repository that is not as open as `/v2/`",
            behind(),
            crate::spec::wrong().repository("hello"),
            crate::row::BOTH,
            REJECTED,
        ),
        row(
            "an identity token, and a public repository of an open registry",
            alone(open),
            identity().repository("hello"),
            NOWHERE,
            "+Resolved +Reachable +Verified ?Unprovable +Accessible = +CredentialsUnprovable",
        ),
        row(
            "an identity token, and a missing repository of an open registry",
            alone(open),
            identity().repository("missing"),
            NOWHERE,
            "+Resolved +Reachable +Verified ?Unprovable -NotFound = -NotFound stalled",
        ),
    ]
}
