//! C. An answer that grants nothing is no proof of usability, whatever its number; and what the client itself sent can't
//! testify for the client.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    NO_REGISTRY, READ, REDIRECTED, UNPROVABLE, UNPROVABLE_READ, VALIDATED, path_of, typed, without_code,
};
use crate::hosts::{Host, host};
use crate::row::{AUTH, REGISTRY, Row, row};
use crate::scripts::{
    Caller, TO_AUTH, TokenCall, alone, caller, issues, refused, strict, takes_tokens, token, with_service,
};
use crate::secrets::{IDENTITY, USER};
use crate::spec::{identity, right, spec};
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    [by_password(), by_token(), echoes(), odd_tokens()].concat()
}

/// 401 to all clients except alice, with these responses to her for `/v2/` and for the tags.
fn site(granted: Answer, tags: Answer) -> impl Fn(&ReceivedRequest) -> Answer + Send + Sync {
    move |asked| match (caller(asked), path_of(asked)) {
        (Caller::Alice, "/v2/hello/tags/list") => tags.clone(),
        (Caller::Alice, _) => granted.clone(),
        _ => without_code(401).header("WWW-Authenticate", "Basic realm=\"Artifactory Realm\""),
    }
}

fn by_password() -> Vec<Row> {
    let missing = || without_code(404);
    let helm = || {
        let mut helm = right();
        helm.spec["contentType"] = "Helm".into();
        helm
    };
    let hosts = |granted: Answer| alone(site(granted, missing()));
    let mut rows = vec![
        row("C1 Artifactory's classic Helm URL", hosts(missing()), helm(), REGISTRY, NO_REGISTRY)
            .message_contains("EndpointReachable", "404"),
        row(
            "C1 Artifactory's classic Helm URL, a repository that is missing",
            hosts(missing()),
            helm().repository("hello"),
            REGISTRY,
            NO_REGISTRY,
        ),
        row(
            "C1 no ping, and a repository that is granted",
            alone(site(missing(), Answer::tags())),
            helm().repository("hello"),
            REGISTRY,
            READ,
        ),
        row(
            "C a site that goes on to its start page after the password",
            hosts(Answer::status(302).header("Location", "/dashboard")),
            right(),
            REGISTRY,
            REDIRECTED,
        ),
        row(
            "C a site that shows a page after the password",
            hosts(typed(200, "text/html", "<html>Hello, alice</html>")),
            right(),
            REGISTRY,
            NO_REGISTRY,
        ),
    ];
    for status in [201, 202, 204, 205, 206, 402, 405, 406, 409, 410, 415, 418, 421, 422, 451] {
        rows.push(
            row(
                format!("C {status} to the password"),
                hosts(Answer::status(status)),
                right(),
                REGISTRY,
                NO_REGISTRY,
            )
            .message_contains("EndpointReachable", "HTTP status"),
        );
    }
    rows.push(row(
        "C a registry token at a site without the API",
        alone(|asked| match caller(asked) {
            Caller::Bearer(_) => typed(404, "text/html", "<html>"),
            _ => Answer::challenge(TO_AUTH),
        }),
        spec().token_secret(&[("token", &token().opening("api").given())]),
        REGISTRY,
        NO_REGISTRY,
    ));
    rows
}

/// A token service before something that answers tokens so.
fn behind_service(answer: Answer, service: fn(&TokenCall) -> Answer) -> Vec<Host> {
    let registry = move |asked: &ReceivedRequest| match caller(asked) {
        Caller::Bearer(_) => answer.clone(),
        _ => Answer::challenge(TO_AUTH),
    };
    vec![host("registry", registry), host("auth", issues(service))]
}

fn opaque(call: &TokenCall) -> Answer {
    match call.caller {
        Caller::Alice => token().opaque().issued_as(json!({"token": token().opaque().text()})),
        _ => refused(),
    }
}

fn by_token() -> Vec<Row> {
    let page = |status| typed(status, "text/html", "<html>Not here</html>");
    let mut rows = vec![
        row(
            "C2 a repository key that does not exist",
            behind_service(page(404), opaque),
            right(),
            AUTH,
            NO_REGISTRY,
        )
        .message_contains("EndpointReachable", "404"),
        row(
            "C2 a repository key that does not exist, a token that names alice",
            behind_service(page(404), strict),
            right(),
            AUTH,
            NO_REGISTRY,
        ),
        row(
            "C2 a repository key that does not exist, an identity token",
            behind_service(page(404), strict),
            identity(),
            AUTH,
            NO_REGISTRY,
        ),
        row("C a page to the token", behind_service(page(200), strict), right(), AUTH, NO_REGISTRY),
    ];
    for status in [204, 206, 402, 405, 410, 451] {
        rows.push(
            row(
                format!("C {status} to the token"),
                behind_service(page(status), strict),
                right(),
                AUTH,
                NO_REGISTRY,
            )
            .message_contains("EndpointReachable", "HTTP status"),
        );
    }
    rows
}

/// Unsigned, and ended.
fn forged(claims: &Value) -> String {
    format!("e30.{}.x", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A token service that looks at nothing: it answers any login with what `echo` makes of the password or refresh token.
fn echoing(echo: fn(&str) -> String) -> Vec<Host> {
    let registry = |asked: &ReceivedRequest| match (caller(asked), path_of(asked)) {
        (Caller::Bearer(_), "/v2/") => Answer::granted(),
        (Caller::Bearer(_), _) => Answer::tags(),
        _ => Answer::challenge("Bearer realm=\"{auth}/token\""),
    };
    let service = move |asked: &ReceivedRequest| {
        let form: std::collections::HashMap<String, String> =
            url::form_urlencoded::parse(asked.body.as_bytes()).into_owned().collect();
        let secret = match (asked.authorization(), form.get("refresh_token")) {
            (Some(header), _) => {
                let pair = BASE64_STANDARD.decode(header.strip_prefix("Basic ").unwrap()).unwrap();
                String::from_utf8(pair).unwrap().split_once(':').unwrap().1.to_owned()
            }
            (None, Some(token)) => token.clone(),
            (None, None) => return Answer::status(200).body(r#"{"token":"anonymous"}"#),
        };
        Answer::status(200).body(json!({"token": echo(&secret)}).to_string())
    };
    vec![host("registry", registry), host("auth", service)]
}

fn echoes() -> Vec<Row> {
    let ended = json!({"sub": USER, "exp": 1_577_836_800});
    let lasting = json!({"sub": USER, "exp": 1_900_000_000});
    let mut rows = Vec::new();
    for (what, echo, claims) in [
        ("C3 the token is the password, which has ended", str::to_owned as fn(&str) -> String, &ended),
        ("C the token is the password, which has not ended", str::to_owned, &lasting),
        ("C the token has the claims of the password", |secret| secret.replace(".x", ".signed"), &lasting),
        (
            "C the token is a part of the password",
            |secret| secret.trim_end_matches('x').to_owned() + "x",
            &lasting,
        ),
    ] {
        let spec = || spec().login(USER, &forged(claims));
        // The password itself arrives at the registry, as the token that the service made of it.
        rows.push(row(what, echoing(echo), spec(), crate::row::BOTH, UNPROVABLE));
        let named = spec().repository("hello");
        rows.push(row(
            format!("{what}, a repository"),
            echoing(echo),
            named,
            crate::row::BOTH,
            UNPROVABLE_READ,
        ));
    }
    let configured = format!("{USER}-{IDENTITY}");
    rows.push(row(
        "C the token is the identity token",
        echoing(str::to_owned),
        spec().token_secret(&[("identityToken", &configured)]),
        crate::row::BOTH,
        UNPROVABLE,
    ));
    rows
}

/// Answers of token services that are read leniently, and vouch for no more than they say.
fn odd_tokens() -> Vec<Row> {
    let message_contains = |name, body: fn(String) -> Value, expected| {
        let service = move |call: &TokenCall| match call.caller {
            Caller::Alice => {
                let text = token().naming(USER).opening("api").text();
                token().issued_as(body(text))
            }
            _ => refused(),
        };
        row(name, with_service(service), right(), AUTH, expected)
    };
    const NO_TOKEN: &str =
        "+Resolved +Reachable +Verified ?TemporarilyUnavailable . = -TemporarilyUnavailable reconciling";
    let ended = |call: &TokenCall| match call.caller {
        Caller::Alice => token().naming(USER).ended().opening("api").issued(),
        _ => token().opening("api").issued(),
    };
    vec![
        message_contains(
            "C access_token is null",
            |text| json!({"token": text, "access_token": null}),
            VALIDATED,
        ),
        message_contains("C token is null", |text| json!({"token": null, "access_token": text}), VALIDATED),
        message_contains("C token is empty", |text| json!({"token": "", "access_token": text}), VALIDATED),
        message_contains(
            "C the lifetime is a text",
            |text| json!({"token": text, "expires_in": "300"}),
            VALIDATED,
        ),
        message_contains(
            "C the lifetime is negative",
            |text| json!({"token": text, "expires_in": -1}),
            VALIDATED,
        ),
        message_contains(
            "C the time of issue is odd",
            |text| json!({"token": text, "issued_at": "yesterday"}),
            VALIDATED,
        ),
        message_contains(
            "C the time of issue is a number",
            |text| json!({"token": text, "issued_at": 1}),
            VALIDATED,
        ),
        message_contains(
            "C the token is within another object",
            |text| json!({"data": {"token": text}}),
            NO_TOKEN,
        ),
        message_contains("C the token is an object", |text| json!({"token": {"raw": text}}), NO_TOKEN),
        message_contains("C the token is in a list", |text| json!([{"token": text}]), NO_TOKEN),
        message_contains("C no token", |_| json!({}), NO_TOKEN),
        row("C the token has ended that names alice", with_service(ended), right(), AUTH, UNPROVABLE),
        row(
            "C a service that names alice and is asked for nothing",
            vec![host("registry", |asked| takes_tokens(TO_AUTH)(asked)), host("auth", issues(strict))],
            right().repository("hello"),
            AUTH,
            READ,
        ),
    ]
}
