//! D. A refusal is read by what it says, and the condition claims no more: not that credentials are wanted where nobody asked,
//! nor that they are wrong where the request was; and the status that is named in the message is the one that came.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use super::{
    EXPIRED, FORBIDDEN, NO_REGISTRY, READ, REJECTED, REQUIRED, VALIDATED, envelope, path_of, typed, versioned,
};
use crate::hosts::host;
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{
    Caller, TO_AUTH, TokenCall, alone, caller, htpasswd, issues, refused, scoped, takes_tokens, token,
    with_service,
};
use crate::secrets::{OWN_SEAL, USER, WRONG_IDENTITY, WRONG_PASSWORD};
use crate::spec::{Spec, identity, right, spec, wrong};
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    [firewalls(), ecr_public(), expiry(), blamed_requests(), others()].concat()
}

const BLOCKED: &str = "client with IP '192.0.2.1' is not allowed access. Refer https://aka.ms/acr/firewall";

fn firewalls() -> Vec<Row> {
    let acr = |_: &ReceivedRequest| versioned(envelope(403, "DENIED", BLOCKED));
    let met = |name, spec: Spec, permits| row(name, alone(acr), spec, permits, FORBIDDEN);
    let forbidden = "(403) without asking for credentials";
    let hub = |_: &ReceivedRequest| {
        versioned(typed(403, "text/html", "<html>Not available in your country</html>"))
    };
    let challenged = |_: &ReceivedRequest| {
        envelope(403, "DENIED", "sign in").header("WWW-Authenticate", "Basic realm=\"r\"")
    };
    let service = |call: &TokenCall| match call.caller {
        Caller::Alice => envelope(403, "DENIED", BLOCKED),
        _ => refused(),
    };
    vec![
        met("D1 ACR's firewall, no password", spec(), NOWHERE)
            .message_contains("CredentialsValidated", forbidden),
        met("D1 ACR's firewall, no password, a repository", spec().repository("hello"), NOWHERE)
            .message_contains("CredentialsValidated", forbidden),
        met("D1 ACR's firewall, a password", right(), REGISTRY)
            .message_contains("CredentialsValidated", "403"),
        met("D1 ACR's firewall, a password, a repository", right().repository("hello"), REGISTRY),
        met("D ACR's firewall, an identity token", identity(), NOWHERE)
            .message_contains("CredentialsValidated", forbidden),
        met(
            "D ACR's firewall, a registry token",
            spec().token_secret(&[("token", &own_token(LASTING))]),
            REGISTRY,
        )
        .message_contains("CredentialsValidated", "403"),
        row("D a registry that is not for this country", alone(hub), spec(), NOWHERE, FORBIDDEN)
            .message_contains("CredentialsValidated", forbidden),
        row("D a 403 that asks for a password", alone(challenged), spec(), NOWHERE, REQUIRED),
        row("D a firewall before the token service", with_service(service), right(), AUTH, FORBIDDEN)
            .message_contains("CredentialsValidated", "{auth.host}:{auth.port} forbids"),
        row(
            "D a firewall without a sign of a registry",
            alone(|_| typed(403, "text/html", "<html>Request blocked</html>")),
            right(),
            NOWHERE,
            NO_REGISTRY,
        )
        .message_contains("EndpointReachable", "403"),
        row(
            "D 401 without a challenge",
            alone(|_| versioned(Answer::status(401))),
            spec(),
            NOWHERE,
            REQUIRED,
        ),
    ]
}

/// A token that is the user's own, with an end.
fn own_token(end: i64) -> String {
    format!("e30.{}.{OWN_SEAL}", BASE64_URL_SAFE_NO_PAD.encode(json!({"sub": USER, "exp": end}).to_string()))
}

const ENDED: i64 = 1_577_836_800;
const LASTING: i64 = 1_900_000_000;

fn ecr_public() -> Vec<Row> {
    let public = |status: u16, code: &'static str, message: &'static str| {
        move |asked: &ReceivedRequest| match caller(asked) {
            Caller::Nobody => {
                Answer::challenge("Bearer realm=\"{registry}/token/\",service=\"public.ecr.aws\"")
            }
            _ => versioned(envelope(status, code, message)),
        }
    };
    let with = |token: &str| spec().token_secret(&[("token", token)]);
    let (invalid, expired) = ("the authorization token is invalid", "your authorization token has expired");
    let opaque = format!("opaque-{OWN_SEAL}");
    let met = |name, script, token: &str, expected| row(name, alone(script), with(token), REGISTRY, expected);
    vec![
        met("D2 ECR Public, a token that ended", public(400, "INVALID", invalid), &own_token(ENDED), EXPIRED),
        met("D2 ECR Public, told that it expired", public(400, "INVALID", expired), &opaque, EXPIRED),
        met(
            "D ECR Public, a token that has not ended",
            public(400, "INVALID", invalid),
            &own_token(LASTING),
            REJECTED,
        )
        .message_contains("CredentialsValidated", "(400)"),
        met(
            "D ECR Public, a token that says nothing of its end",
            public(400, "INVALID", invalid),
            &opaque,
            REJECTED,
        )
        .message_contains("CredentialsValidated", "(400)"),
        met("D a token that ended, 401", public(401, "UNAUTHORIZED", invalid), &own_token(ENDED), EXPIRED),
        met("D a token that ended, 403", public(403, "DENIED", invalid), &own_token(ENDED), EXPIRED),
        met("D told that it expired, 403", public(403, "DENIED", expired), &opaque, EXPIRED),
        met(
            "D told that the licence expired",
            public(403, "DENIED", "the license has expired"),
            &opaque,
            FORBIDDEN,
        ),
    ]
}

/// Whatever was sent to sign in has a date of its own, or the service says that it ended.
fn expiry() -> Vec<Row> {
    let service = |answer: Answer| with_service(move |_| answer.clone());
    let identity_of = |token: &str| spec().token_secret(&[("identityToken", token)]);
    let grant = |description: &str| {
        typed(
            400,
            "application/json",
            &json!({"error": "invalid_grant", "error_description": description}).to_string(),
        )
    };
    let told = |asked: &ReceivedRequest| match caller(asked) {
        Caller::Nobody => htpasswd(asked),
        _ => envelope(401, "UNAUTHORIZED", "personal access token has expired"),
    };
    vec![
        row(
            "D a refresh token that ended, 401",
            service(refused()),
            identity_of(&own_token(ENDED)),
            AUTH,
            EXPIRED,
        ),
        row(
            "D a refresh token that ended, invalid_grant",
            service(grant("no")),
            identity_of(&own_token(ENDED)),
            AUTH,
            EXPIRED,
        ),
        row(
            "D a refresh token that did not end, invalid_grant",
            service(grant("no")),
            identity_of(&own_token(LASTING)),
            AUTH,
            REJECTED,
        )
        .message_contains("CredentialsValidated", "(400)"),
        row(
            "D told that the refresh token expired",
            service(grant("The refresh token has expired")),
            spec().token_secret(&[("identityToken", WRONG_IDENTITY)]),
            AUTH,
            EXPIRED,
        ),
        row(
            "D a refresh token as nobody's password, ended",
            service(refused()),
            spec().login("00000000-0000-0000-0000-000000000000", &own_token(ENDED)),
            AUTH,
            EXPIRED,
        ),
        row(
            "D a token as the password, ended",
            alone(htpasswd),
            spec().login(USER, &own_token(ENDED)),
            REGISTRY,
            EXPIRED,
        ),
        row(
            "D Docker Hub's personal access token that expired",
            service(typed(401, "application/json", r#"{"details":"personal access token is expired"}"#)),
            wrong(),
            AUTH,
            EXPIRED,
        ),
        row(
            "D told that the password expired",
            alone(told),
            spec().login(USER, WRONG_PASSWORD),
            REGISTRY,
            EXPIRED,
        ),
    ]
}

/// RFC 6749, section 5.2: `invalid_request` and its kin blame the request, `invalid_grant` what was sent.
fn blamed_requests() -> Vec<Row> {
    let service = |error: &'static str| {
        move |call: &TokenCall| match (&call.caller, call.method.as_str(), call.scope()) {
            (_, "GET", _) => Answer::status(405),
            (Caller::Alice, _, Some(_)) => {
                let token = scoped(token().naming(USER).opening("api"), call);
                token.issued_as(json!({"access_token": token.text()}))
            }
            (_, _, None) => {
                let body = json!({"error": error, "error_description": "scope is missing"});
                typed(400, "application/json", &body.to_string())
            }
            _ => typed(400, "application/json", r#"{"error":"invalid_grant"}"#),
        }
    };
    let unknown = "+Resolved +Reachable +Verified ?Unprovable . = +CredentialsUnprovable";
    let mut rows = Vec::new();
    for error in ["invalid_request", "invalid_scope", "unsupported_grant_type", "unauthorized_client"] {
        let name = if error == "invalid_request" { "D3 a refresh token and no scope" } else { "D blamed" };
        let hosts = || with_service(service(error));
        rows.extend([
            row(format!("{name}, {error}"), hosts(), identity(), AUTH, unknown),
            row(
                format!("{name}, {error}, a repository"),
                hosts(),
                identity().repository("hello"),
                AUTH,
                READ,
            ),
        ]);
    }
    rows.push(row(
        "D3 a refresh token that was withdrawn, a repository",
        with_service(service("invalid_request")),
        spec().token_secret(&[("identityToken", WRONG_IDENTITY)]).repository("hello"),
        AUTH,
        REJECTED,
    ));
    let at_fault =
        |name, answer: Answer| row(name, with_service(move |_| answer.clone()), identity(), AUTH, REJECTED);
    rows.extend([
        at_fault("D invalid_grant", typed(400, "application/json", r#"{"error":"invalid_grant"}"#))
            .message_contains("CredentialsValidated", "(400)"),
        at_fault("D invalid_client", typed(401, "application/json", r#"{"error":"invalid_client"}"#))
            .message_contains("CredentialsValidated", "(401)"),
        at_fault("D ACR's 401 to a refresh token", envelope(401, "UNAUTHORIZED", "authentication required"))
            .message_contains("CredentialsValidated", "(401)"),
    ]);
    rows
}

fn others() -> Vec<Row> {
    let refuses = |status: u16| {
        move |asked: &ReceivedRequest| match caller(asked) {
            Caller::Nobody => Answer::challenge("Basic realm=\"r\""),
            _ => Answer::error(status, "DENIED"),
        }
    };
    vec![
        row("D a password that is answered 401", alone(refuses(401)), wrong(), REGISTRY, REJECTED)
            .message_contains("CredentialsValidated", "(401)"),
        row("D a password that is answered 400", alone(refuses(400)), wrong(), REGISTRY, REJECTED)
            .message_contains("CredentialsValidated", "(400)"),
        row("D a password that is answered 403", alone(refuses(403)), wrong(), REGISTRY, FORBIDDEN)
            .message_contains("CredentialsValidated", "(403)"),
        row(
            "D a password that is answered 408",
            alone(refuses(408)),
            right(),
            REGISTRY,
            "+Resolved +Reachable +Verified ?TemporarilyUnavailable . = -TemporarilyUnavailable reconciling",
        )
        .message_contains("CredentialsValidated", "408"),
        row(
            "D a token service that takes too long, 408",
            vec![host("registry", takes_tokens(TO_AUTH)), host("auth", issues(|_| Answer::status(408)))],
            right(),
            AUTH,
            "+Resolved +Reachable +Verified ?TemporarilyUnavailable . = -TemporarilyUnavailable reconciling",
        ),
        row(
            "D a token that is refused is not the password's fault",
            vec![
                host("registry", |asked| match caller(asked) {
                    Caller::Bearer(_) => envelope(401, "UNAUTHORIZED", "your token has expired"),
                    _ => Answer::challenge(TO_AUTH),
                }),
                host("auth", issues(crate::scripts::strict)),
            ],
            right(),
            AUTH,
            "+Resolved +Reachable +Verified -TokenRefused . = -TokenRefused stalled",
        ),
        row(
            "D the right password at a registry that forbids strangers",
            alone(|asked| match (caller(asked), path_of(asked)) {
                (Caller::Alice, _) => crate::scripts::content(asked),
                _ => versioned(envelope(403, "DENIED", BLOCKED)),
            }),
            right(),
            REGISTRY,
            VALIDATED,
        ),
    ]
}
