//! A. A registry is known by the sum of what it says, never by the look of one body; where one answer leaves it open and a
//! repository is named, that repository's answer decides.

use serde_json::json;

use super::{
    ANONYMOUS, ANONYMOUS_READ, DENIED, NO_REGISTRY, READ, REDIRECTED, REJECTED, REQUIRED, UNPROVABLE,
    UNPROVABLE_READ, VALIDATED, envelope, path_of, typed, versioned,
};
use crate::hosts::host;
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{Caller, TO_AUTH, alone, caller, htpasswd, issues, strict, takes_tokens, token};
use crate::secrets::USER;
use crate::spec::{right, spec, wrong};
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    [quay(), files(), half_open(), odd_signs(), login_pages()].concat()
}

const HTML: &str = "text/html; charset=utf-8";

/// Its answers to `/v2/` are called HTML, and hold `true`.
fn quay_answers(asked: &ReceivedRequest) -> Answer {
    match (path_of(asked), asked.method.as_str(), caller(asked)) {
        ("/v2/auth", "POST", _) => Answer::status(405),
        ("/v2/auth", _, Caller::Alice) => {
            token().naming(USER).issued_as(json!({"token": token().naming(USER).text()}))
        }
        ("/v2/auth", ..) => envelope(401, "UNAUTHORIZED", "Invalid Username or Password"),
        ("/v2/", _, Caller::Bearer(_)) => versioned(typed(200, HTML, "true")),
        _ => versioned(typed(401, HTML, "true"))
            .header("WWW-Authenticate", "Bearer realm=\"{registry}/v2/auth\",service=\"quay.example.com\""),
    }
}

fn quay() -> Vec<Row> {
    let quay = |name, spec, permits, expected| row(name, alone(quay_answers), spec, permits, expected);
    vec![
        quay("A1 Quay says HTML, the right password", right(), REGISTRY, VALIDATED),
        quay(
            "A1 Quay says HTML, the right password, a repository of others",
            right().repository("hello"),
            REGISTRY,
            DENIED,
        ),
        quay("A1 Quay says HTML, a wrong password", wrong(), REGISTRY, REJECTED)
            .message_contains("CredentialsValidated", "(401)"),
        quay("A1 Quay says HTML, no password", spec(), NOWHERE, REQUIRED),
        row(
            "A an open registry whose 200 is an HTML page with the version",
            alone(|_| versioned(typed(200, HTML, "<html>registry</html>"))),
            spec(),
            NOWHERE,
            ANONYMOUS,
        ),
    ]
}

/// Files, as any web server has them.
fn file_server(ping: Answer) -> impl Fn(&ReceivedRequest) -> Answer + Send + Sync {
    move |asked| match path_of(asked) {
        "/v2/" => ping.clone(),
        "/v2/hello/tags/list" => typed(200, "application/octet-stream", r#"{"name":"hello","tags":["1.0"]}"#),
        _ => typed(404, HTML, "<html>Not found</html>"),
    }
}

fn files() -> Vec<Row> {
    let plain = || typed(200, "text/plain", "");
    let mut rows = vec![
        row("A2 static files, no repository", alone(file_server(plain())), spec(), NOWHERE, NO_REGISTRY),
        row("A2 static files, a password", alone(file_server(plain())), right(), NOWHERE, NO_REGISTRY),
        row(
            "A2 static files, another repository",
            alone(file_server(plain())),
            spec().repository("other"),
            NOWHERE,
            NO_REGISTRY,
        ),
        row(
            "A2 static files, a repository and a password",
            alone(file_server(plain())),
            right().repository("hello"),
            REGISTRY,
            UNPROVABLE_READ,
        ),
    ];
    let denied = r#"<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>"#;
    for (what, ping) in [
        ("A2 static files, a repository", plain()),
        ("A files with a page for an index", typed(200, HTML, "<html>Index of /v2/</html>")),
        ("A files in a bucket that may not be listed", typed(403, "application/xml", denied)),
        ("A files without an index", typed(404, HTML, "<html>Not found</html>")),
        ("A files behind a server that wants another method", Answer::status(405)),
        ("A files whose index is empty, 204", Answer::status(204)),
    ] {
        rows.push(
            row(what, alone(file_server(ping.clone())), spec().repository("hello"), NOWHERE, ANONYMOUS_READ)
                .costs(2),
        );
        if ping_refuses(&ping) {
            rows.push(row(
                format!("{what}, and a password"),
                alone(file_server(ping)),
                right().repository("hello"),
                REGISTRY,
                UNPROVABLE_READ,
            ));
        }
    }
    rows
}

fn ping_refuses(ping: &Answer) -> bool {
    !matches!(ping, Answer::Reply { status: 204, .. })
}

/// `/v2/` is anything, and repositories are a registry's that wants credentials.
fn half_open() -> Vec<Row> {
    let basic = |ping: Answer| {
        move |asked: &ReceivedRequest| if path_of(asked) == "/v2/" { ping.clone() } else { htpasswd(asked) }
    };
    let bearer = |ping: Answer| {
        let registry = move |asked: &ReceivedRequest| match path_of(asked) {
            "/v2/" => ping.clone(),
            _ => takes_tokens(TO_AUTH)(asked),
        };
        vec![host("registry", registry), host("auth", issues(strict))]
    };
    // A site with a password of its own: a challenge alone is no registry's sign here.
    let site = |asked: &ReceivedRequest| match path_of(asked) {
        "/v2/" => Answer::status(200),
        _ => typed(401, HTML, "<html>Who?</html>").header("WWW-Authenticate", "Basic realm=\"site\""),
    };
    let plain = || typed(200, "text/plain", "ok");
    let page = || typed(200, HTML, "<html>Welcome</html>");
    let named = |spec: crate::spec::Spec| spec.repository("hello");
    vec![
        row("A an open ping, a protected repository", alone(basic(plain())), named(right()), REGISTRY, READ),
        row(
            "A a page for a ping, a protected repository",
            alone(basic(page())),
            named(right()),
            REGISTRY,
            READ,
        ),
        row(
            "A an open ping, a protected repository, a wrong password",
            alone(basic(plain())),
            named(wrong()),
            REGISTRY,
            REJECTED,
        ),
        row(
            "A an open ping, a protected repository, no password",
            alone(basic(plain())),
            named(spec()),
            NOWHERE,
            "+Resolved +Reachable +Verified -Required -Denied = -Required stalled",
        ),
        row("A an open ping, no repository named", alone(basic(plain())), right(), NOWHERE, NO_REGISTRY),
        row("A an open ping, a repository by token", bearer(plain()), named(right()), AUTH, READ),
        row(
            "A no ping, a repository by token",
            bearer(typed(404, HTML, "<html>")),
            named(right()),
            AUTH,
            READ,
        ),
        row(
            "A an open ping before a site with a password",
            alone(site),
            named(right()),
            NOWHERE,
            NO_REGISTRY,
        ),
    ]
}

fn odd_signs() -> Vec<Row> {
    let open = |name, answer: Answer| row(name, alone(move |_| answer.clone()), spec(), NOWHERE, ANONYMOUS);
    let closed = |name, answer: Answer| {
        let script = move |asked: &ReceivedRequest| match caller(asked) {
            Caller::Nobody => answer.clone(),
            _ => htpasswd(asked),
        };
        row(name, alone(script), right(), REGISTRY, VALIDATED)
    };
    vec![
        open(
            "A several versions in one header",
            Answer::status(200).header("Docker-Distribution-Api-Version", "registry/1.0, registry/2.0"),
        ),
        open(
            "A several version headers",
            Answer::status(200)
                .header("Docker-Distribution-Api-Version", "gateway/1")
                .header("Docker-Distribution-Api-Version", "registry/2.0"),
        ),
        open("A a proxy that says it changed the answer, 203", versioned(Answer::status(203)).body("{}")),
        closed(
            "A Nexus writes its scheme in capitals",
            typed(401, "application/json", r#"{"errors":[{"code":"UNAUTHORIZED","message":"access to the requested resource is not authorized","detail":null}]}"#)
                .header("WWW-Authenticate", "BASIC realm=\"Sonatype Nexus Repository Manager\""),
        ),
        closed(
            "A ECR's 401 is plain text",
            typed(401, "text/plain; charset=utf-8", "Not Authorized\n")
                .header("WWW-Authenticate", "Basic realm=\"https://ecr.example.com/\",service=\"ecr.amazonaws.com\""),
        ),
        closed(
            "A one error of several has a code",
            Answer::status(401).body(r#"{"errors":[{"message":"first"},{"code":"unauthorized","message":7}]}"#),
        ),
        closed(
            "A an error with an object for its detail",
            Answer::status(401).body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"","detail":[{"Type":"repository"}]}]}"#),
        ),
    ]
}

/// What stands before a registry, and is none.
fn login_pages() -> Vec<Row> {
    let stands = |name, answer: Answer, expected| {
        let script = move |_: &ReceivedRequest| answer.clone();
        row(name, alone(script), right().repository("hello"), NOWHERE, expected)
    };
    vec![
        stands("A oauth2-proxy's page to sign in", typed(403, HTML, "<html>Sign in</html>"), NO_REGISTRY)
            .message_contains("EndpointReachable", "403"),
        stands(
            "A oauth2-proxy's answer to JSON's clients",
            typed(401, "application/json", "{}"),
            NO_REGISTRY,
        )
        .message_contains("EndpointReachable", "401"),
        stands(
            "A Cloudflare Access",
            Answer::status(302)
                .header("Location", "https://team.cloudflareaccess.com/cdn-cgi/access/login/x"),
            REDIRECTED,
        )
        .message_contains("EndpointReachable", "https://team.cloudflareaccess.com"),
        stands(
            "A Authentik's outpost",
            Answer::status(302).header("Location", "/outpost.goauthentik.io/start?rd=x"),
            REDIRECTED,
        ),
        stands("A a page to sign in with 200", typed(200, HTML, "<!doctype html><form>"), NO_REGISTRY),
        stands("A an application of one page", typed(200, HTML, "<div id=app></div>"), NO_REGISTRY),
        stands(
            "A an API gateway",
            typed(404, "application/json", r#"{"message":"no Route matched"}"#),
            NO_REGISTRY,
        ),
        stands("A a misdirected request", Answer::status(421), NO_REGISTRY)
            .message_contains("EndpointReachable", "421"),
        stands("A out of reach for legal reasons", typed(451, HTML, "<html>"), NO_REGISTRY)
            .message_contains("EndpointReachable", "451"),
        row(
            "A a page to sign in before an open registry",
            alone(|asked| match path_of(asked) {
                "/v2/" => typed(403, HTML, "<html>Sign in</html>"),
                _ => Answer::tags(),
            }),
            right().repository("hello"),
            REGISTRY,
            UNPROVABLE_READ,
        ),
        row(
            "A an open registry, a password",
            alone(|_| versioned(typed(200, HTML, "true"))),
            right(),
            REGISTRY,
            UNPROVABLE,
        ),
    ]
}
