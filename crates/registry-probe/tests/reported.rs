//! Answers of real registries, as users reported them: what each says, and what the verdict must be.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use registry_probe::*;
use secrecy::SecretString;
use support::*;

/// Layer by layer, in the notation of the verdict table: endpoint, credentials, content path.
fn said(findings: &Findings) -> String {
    let endpoint = match &findings.endpoint {
        EndpointFinding::Reachable => "Reachable".to_owned(),
        EndpointFinding::NotARegistry { cause, .. } => return format!("NotARegistry {cause:?}"),
        other => panic!("{other:?}"),
    };
    let credentials = match &findings.credentials {
        CredentialsFinding::Validated(_) => "Validated".to_owned(),
        CredentialsFinding::Rejected { status, .. } => format!("Rejected {status}"),
        CredentialsFinding::Forbidden { .. } | CredentialsFinding::ForbiddenToAll { .. } => {
            "Forbidden".to_owned()
        }
        CredentialsFinding::Unprovable(why) => format!("Unprovable {why:?}"),
        other => format!("{other:?}"),
    };
    let path = match &findings.content_path {
        ContentPathFinding::NotAttempted => ".".to_owned(),
        ContentPathFinding::Accessible { .. } => "Accessible".to_owned(),
        ContentPathFinding::Denied { status, .. } => format!("Denied {status}"),
        ContentPathFinding::NotFound { .. } => "NotFound".to_owned(),
        ContentPathFinding::Inconclusive(Inconclusive::NotListed { status, .. }) => {
            format!("NotListed {status}")
        }
        ContentPathFinding::Inconclusive(_) => "Inconclusive".to_owned(),
    };
    format!("{endpoint} {credentials} {path}")
}

fn nobody() -> Material {
    Material::default()
}

fn with_password(password: &str) -> Material {
    let credentials = Credentials::basic("alice", SecretString::from(password.to_owned())).unwrap();
    Material { credentials: Some(credentials), ..Material::default() }
}

fn registry_token(token: &str) -> Material {
    let credentials = Credentials::registry_token(&SecretString::from(token.to_owned())).unwrap();
    Material { credentials: Some(credentials), ..Material::default() }
}

fn jwt(claims: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn versioned(answer: Answer) -> Answer {
    answer.header("Docker-Distribution-Api-Version", "registry/2.0")
}

fn path_of(asked: &Asked) -> &str {
    asked.path.split('?').next().unwrap_or_default()
}

fn issued(token: &str) -> Answer {
    Answer::status(200).body(format!(r#"{{"token":"{token}"}}"#))
}

fn challenge() -> Answer {
    Answer::challenge("Bearer realm=\"/token\",service=\"registry\"")
}

fn is_bearer(asked: &Asked) -> bool {
    asked.authorization().is_some_and(|header| header.starts_with("Bearer "))
}

fn is_alice(asked: &Asked) -> bool {
    asked.authorization() == Some(&basic_alice())
}

/// The verdicts without a repository, and with `hello`.
async fn both(server: &Server, material: &Material) -> [String; 2] {
    let without = probe(&target(&server.url()), material).await;
    let with = probe(&with_repository(&server.url(), "hello"), material).await;
    [said(&without), said(&with)]
}

/// Quay: its answers to `/v2/` are called HTML, and hold `true`.
fn quay(asked: &Asked) -> Answer {
    let html =
        |answer: Answer| versioned(answer).header("Content-Type", "text/html; charset=utf-8").body("true");
    match (path_of(asked), asked.method.as_str()) {
        ("/v2/auth", "POST") => Answer::status(405),
        ("/v2/auth", _) if is_alice(asked) => issued(&jwt(r#"{"sub":"alice"}"#)),
        ("/v2/auth", _) => Answer::error(401, "UNAUTHORIZED"),
        ("/v2/", _) if is_bearer(asked) => html(Answer::status(200)),
        _ => {
            html(Answer::status(401).header("WWW-Authenticate", "Bearer realm=\"/v2/auth\",service=\"quay\""))
        }
    }
}

#[tokio::test]
async fn recognizes_quay_despite_html_type() {
    let server = Server::http(quay).await;
    assert_eq!(
        both(&server, &alice()).await,
        ["Reachable Validated Inconclusive", "Reachable Validated Denied 401"]
    );
    let wrong = said(&probe(&target(&server.url()), &with_password("wrong")).await);
    assert_eq!(wrong, "Reachable Rejected 401 .");
}

#[tokio::test]
async fn recognizes_static_registry_by_its_repository() {
    let files = |asked: &Asked| match path_of(asked) {
        "/v2/" => Answer::status(200).header("Content-Type", "text/plain"),
        "/v2/hello/tags/list" => Answer::tags(),
        _ => Answer::status(404),
    };
    let server = Server::http(files).await;
    assert_eq!(
        both(&server, &nobody()).await,
        ["NotARegistry NoSign", "Reachable AnonymousAccess Accessible"]
    );
    let with_login = probe(&target(&server.url()), &alice()).await;
    assert_eq!(said(&with_login), "NotARegistry NoSign");
    assert!(!server.saw_credentials(), "a password went to what may be anything");
}

#[tokio::test]
async fn recognizes_registry_that_only_lists_tags() {
    let files = |asked: &Asked| match path_of(asked) {
        "/v2/hello/tags/list" => Answer::tags().header("Content-Type", "text/html"),
        _ => Answer::status(404),
    };
    let server = Server::http(files).await;
    assert_eq!(
        both(&server, &nobody()).await,
        ["NotARegistry Status(404)", "Reachable AnonymousAccess Accessible"]
    );
}

#[tokio::test]
async fn reads_folded_headers() {
    let raw = |status: u16, headers: &str, body: &str| {
        Answer::Raw(
            format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into(),
        )
    };
    let policy = "Content-Security-Policy: default-src 'self';\r\n    script-src 'self'\r\n";
    for wanted in [
        "WWW-Authenticate: Basic realm=\"r\",\r\n charset=\"UTF-8\"\r\n",
        "WWW-Authenticate : Basic realm=\"r\"\r\n",
    ] {
        let server = Server::http(move |asked| {
            if is_alice(asked) {
                raw(200, policy, "{}")
            } else {
                raw(401, &format!("{policy}{wanted}X Y: z\r\n"), "")
            }
        })
        .await;
        let findings = probe(&target(&server.url()), &alice()).await;
        assert_eq!(said(&findings), "Reachable Validated Inconclusive", "{wanted}");
    }
}

#[tokio::test]
async fn unexpected_status_is_not_a_registry() {
    for status in [404, 405, 418, 410] {
        let artifactory = move |asked: &Asked| {
            if is_alice(asked) {
                return Answer::status(status).body(r#"{"errors":[{"status":404,"message":"Not Found"}]}"#);
            }
            Answer::status(401)
                .header("WWW-Authenticate", "Basic realm=\"Artifactory Realm\"")
                .body(r#"{"errors":[{"status":401,"message":"x"}]}"#)
        };
        let server = Server::http(artifactory).await;
        let no_registry = format!("NotARegistry Status({status})");
        assert_eq!(both(&server, &alice()).await, [no_registry.clone(), no_registry]);
        let by_token = move |asked: &Asked| match path_of(asked) {
            "/token" if is_alice(asked) => issued("opaque"),
            "/token" => Answer::status(401),
            _ if is_bearer(asked) => Answer::status(status).header("Content-Type", "text/html"),
            _ => challenge(),
        };
        let server = Server::http(by_token).await;
        let verdict = said(&probe(&target(&server.url()), &alice()).await);
        assert_eq!(verdict, format!("NotARegistry Status({status})"));
    }
}

#[tokio::test]
async fn granted_repository_is_evidence() {
    let server = Server::http(|asked| match (is_alice(asked), path_of(asked)) {
        (true, "/v2/hello/tags/list") => Answer::tags(),
        (true, _) => Answer::status(404),
        (false, _) => Answer::challenge("Basic realm=\"r\""),
    })
    .await;
    let findings = probe(&with_repository(&server.url(), "hello"), &alice()).await;
    assert_eq!(said(&findings), "Reachable Validated Accessible");
}

#[tokio::test]
async fn echoed_request_is_not_evidence() {
    let forged = jwt(r#"{"sub":"alice"}"#);
    let ended = jwt(r#"{"sub":"alice","exp":1577836800}"#);
    let echoes = |asked: &Asked| match path_of(asked) {
        "/token" => match asked.authorization().and_then(|header| header.strip_prefix("Basic ")) {
            Some(login) => {
                let login = String::from_utf8(STANDARD.decode(login).unwrap()).unwrap();
                issued(login.split_once(':').unwrap().1)
            }
            None => issued("anonymous"),
        },
        _ if is_bearer(asked) && asked.path == "/v2/" => Answer::granted(),
        _ if is_bearer(asked) => Answer::tags(),
        _ => challenge(),
    };
    let server = Server::http(echoes).await;
    for password in [&forged, &ended] {
        let [without, with] = both(&server, &with_password(password)).await;
        assert_eq!(without, "Reachable Unprovable AnonymousTokenServed Inconclusive");
        assert_eq!(with, "Reachable Unprovable AnonymousTokenServed Accessible");
    }
    // A token of the service's own that has ended vouches for nobody either.
    let server = Server::http(move |asked| match path_of(asked) {
        "/token" if is_alice(asked) => issued(&ended),
        _ => echoes(asked),
    })
    .await;
    let [without, _] = both(&server, &alice()).await;
    assert_eq!(without, "Reachable Unprovable AnonymousTokenServed Inconclusive");
}

#[tokio::test]
async fn firewall_403_is_forbidden() {
    let firewall = |_: &Asked| {
        versioned(Answer::status(403)).body(
            r#"{"errors":[{"code":"DENIED","message":"client with IP '192.0.2.1' is not allowed access"}]}"#,
        )
    };
    let server = Server::http(firewall).await;
    for material in [nobody(), alice()] {
        assert_eq!(both(&server, &material).await, ["Reachable Forbidden .", "Reachable Forbidden ."]);
    }
    let asks = |_: &Asked| Answer::error(403, "DENIED").header("WWW-Authenticate", "Basic realm=\"r\"");
    let server = Server::http(asks).await;
    assert_eq!(said(&probe(&target(&server.url()), &nobody()).await), "Reachable Required .");
}

#[tokio::test]
async fn ecr_public_refuses_token_with_400() {
    let ecr = |message: &'static str| {
        move |asked: &Asked| {
            let envelope = format!(r#"{{"errors":[{{"code":"INVALID","message":"{message}"}}]}}"#);
            if is_bearer(asked) { versioned(Answer::status(400)).body(envelope) } else { challenge() }
        }
    };
    let invalid = Server::http(ecr("the authorization token is invalid")).await;
    let expired = Server::http(ecr("your authorization token has expired")).await;
    let verdict = async |server: &Server, token: &str| {
        said(&probe(&target(&server.url()), &registry_token(token)).await)
    };
    assert_eq!(verdict(&invalid, &jwt(r#"{"exp":1577836800}"#)).await, "Reachable Expired .");
    assert_eq!(verdict(&expired, "opaque").await, "Reachable Expired .");
    assert_eq!(verdict(&invalid, "opaque").await, "Reachable Rejected 400 .");
}

#[tokio::test]
async fn bad_request_does_not_blame_the_token() {
    for error in ["invalid_request", "invalid_scope", "unsupported_grant_type"] {
        let service = move |asked: &Asked| match (asked.method.as_str(), path_of(asked)) {
            ("POST", "/token") if asked.body.contains("scope=") => {
                Answer::status(200).body(format!(r#"{{"access_token":"{}"}}"#, jwt(r#"{"sub":"alice"}"#)))
            }
            ("POST", "/token") => Answer::status(400)
                .body(format!(r#"{{"error":"{error}","error_description":"scope is missing"}}"#)),
            (_, "/token") => Answer::status(405),
            (_, "/v2/") if is_bearer(asked) => Answer::granted(),
            _ if is_bearer(asked) => Answer::tags(),
            _ => challenge(),
        };
        let server = Server::http(service).await;
        let token = SecretString::from("refresh");
        let credentials = Credentials::identity_token(Some("alice"), &token).unwrap();
        let material = Material { credentials: Some(credentials), ..Material::default() };
        let expected = ["Reachable Unprovable TokenRequestRefused .", "Reachable Validated Accessible"];
        assert_eq!(both(&server, &material).await, expected, "{error}");
    }
    let grant = |asked: &Asked| match path_of(asked) {
        "/token" => Answer::status(400).body(r#"{"error":"invalid_grant"}"#),
        _ => challenge(),
    };
    let server = Server::http(grant).await;
    let credentials = Credentials::identity_token(None, &SecretString::from("refresh")).unwrap();
    let material = Material { credentials: Some(credentials), ..Material::default() };
    assert_eq!(said(&probe(&target(&server.url()), &material).await), "Reachable Rejected 400 .");
}

/// A registry whose tags are answered so, and whose manifest `latest` is answered so, to alice's token.
fn pulls(tags: Answer, manifest: Answer) -> impl Fn(&Asked) -> Answer + Send + Sync {
    move |asked| match path_of(asked) {
        "/token" if is_alice(asked) => issued(&jwt(r#"{"sub":"alice","access":[]}"#)),
        "/token" => Answer::error(401, "UNAUTHORIZED"),
        _ if !is_bearer(asked) => challenge(),
        "/v2/" => Answer::granted(),
        "/v2/hello/tags/list" => tags.clone(),
        "/v2/hello/manifests/latest" => manifest.clone(),
        _ => Answer::error(404, "MANIFEST_UNKNOWN"),
    }
}

#[tokio::test]
async fn pull_access_does_not_include_listing() {
    let served = || Answer::status(200).header("Docker-Content-Digest", "sha256:00");
    let insufficient = || {
        Answer::status(401).header(
            "WWW-Authenticate",
            "Bearer realm=\"/token\",scope=\"repository:hello:metadata_read\",error=\"insufficient_scope\"",
        )
    };
    let forbidden = || Answer::error(403, "DENIED");
    let unknown = || Answer::error(404, "NOT_FOUND");
    let typed = Answer::status(200).header("Content-Type", "application/vnd.oci.image.manifest.v1+json");
    for (tags, manifest, path) in [
        (insufficient(), served(), "Accessible"),
        (forbidden(), served(), "Accessible"),
        (unknown(), served(), "Accessible"),
        (unknown(), typed, "Accessible"),
        // Refused as well, unknown as well: pulling meets it too.
        (insufficient(), insufficient(), "Denied 401"),
        (forbidden(), forbidden(), "Denied 403"),
        (unknown(), unknown(), "NotFound"),
        (unknown(), forbidden(), "NotFound"),
        // There may be other manifests than `latest`.
        (insufficient(), unknown(), "NotListed 401"),
        // Says nothing.
        (insufficient(), Answer::status(405), "Inconclusive"),
        (unknown(), Answer::status(200).header("Content-Type", "text/html"), "Inconclusive"),
        (unknown(), Answer::status(503), "Inconclusive"),
    ] {
        let row = format!("{tags:?} {manifest:?}");
        let server = Server::http(pulls(tags, manifest)).await;
        let findings = probe(&with_repository(&server.url(), "hello"), &alice()).await;
        assert_eq!(said(&findings), format!("Reachable Validated {path}"), "{row}");
        let heads = server.log().iter().filter(|line| line.starts_with("HEAD ")).count();
        assert_eq!(heads, 1, "one HEAD of a manifest, and no GET that counts as a pull");
    }
    let listed = Server::http(pulls(Answer::tags(), served())).await;
    let findings = probe(&with_repository(&listed.url(), "hello"), &alice()).await;
    assert_eq!(said(&findings), "Reachable Validated Accessible");
    assert!(
        listed.log().iter().all(|line| !line.starts_with("HEAD ")),
        "not asked where the tags were listed"
    );
}

#[tokio::test]
async fn accepts_pull_through_cache_without_tags() {
    let ecr = |asked: &Asked| match (is_alice(asked), path_of(asked)) {
        (false, _) => Answer::challenge("Basic realm=\"ecr\""),
        (true, "/v2/") => Answer::granted(),
        (true, "/v2/hello/manifests/latest") => {
            Answer::status(200).header("Docker-Content-Digest", "sha256:00")
        }
        (true, _) => Answer::error(404, "NAME_UNKNOWN"),
    };
    let server = Server::http(ecr).await;
    let findings = probe(&with_repository(&server.url(), "hello"), &alice()).await;
    assert_eq!(said(&findings), "Reachable Validated Accessible");
    // Harbor's public proxies serve everybody so.
    let open = Server::http(move |asked| match path_of(asked) {
        "/v2/" => Answer::granted(),
        "/v2/hello/manifests/latest" => Answer::status(200).header("Docker-Content-Digest", "sha256:00"),
        _ => Answer::error(404, "NOT_FOUND"),
    })
    .await;
    let findings = probe(&with_repository(&open.url(), "hello"), &nobody()).await;
    assert_eq!(said(&findings), "Reachable AnonymousAccess Accessible");
}

/// Google's list: every manifest before the tags, `n` unheeded, more than is read of a body.
fn google_tags(manifests: usize) -> Answer {
    let mut list = String::from(r#"{"child":[],"manifest":{"#);
    for number in 0..manifests {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(
            list,
            r#"{comma}"sha256:{number:064x}":{{"imageSizeBytes":"1","layerId":"","mediaType":"x","tag":["v{number}"],"timeCreatedMs":"1","timeUploadedMs":"1"}}"#
        );
    }
    Answer::status(200).body(list + r#"},"name":"p/hello","tags":["v0"]}"#)
}

#[tokio::test]
async fn recognizes_long_tag_list_with_other_fields() {
    let protected = |tags: Answer| {
        move |asked: &Asked| match (is_alice(asked), path_of(asked)) {
            (false, _) => Answer::challenge("Basic realm=\"google\""),
            (true, "/v2/") => Answer::granted(),
            (true, _) => tags.clone(),
        }
    };
    for manifests in [1, 1_500] {
        let server = Server::http(protected(google_tags(manifests))).await;
        let findings = probe(&with_repository(&server.url(), "hello"), &alice()).await;
        assert_eq!(said(&findings), "Reachable Validated Accessible", "{manifests}");
        assert_eq!(server.log().len(), 3);
    }
    // Another long object is no list of tags.
    let other = format!(r#"{{"status":"{}"}}"#, "x".repeat(200_000));
    let server = Server::http(protected(Answer::status(200).body(other))).await;
    let findings = probe(&with_repository(&server.url(), "hello"), &alice()).await;
    assert_eq!(said(&findings), "Reachable Validated Inconclusive");
}

#[tokio::test]
async fn recognizes_gitea_numeric_account() {
    let gitea = |anonymous: &'static str| {
        move |asked: &Asked| match path_of(asked) {
            "/token" if is_alice(asked) => issued(&jwt(r#"{"UserID":5}"#)),
            "/token" if asked.authorization().is_some() => Answer::status(401),
            "/token" => issued(&jwt(anonymous)),
            "/v2/" if is_bearer(asked) => Answer::granted(),
            _ => challenge(),
        }
    };
    let server = Server::http(gitea(r#"{"UserID":-1}"#)).await;
    assert_eq!(said(&probe(&target(&server.url()), &alice()).await), "Reachable Validated Inconclusive");
    assert_eq!(
        said(&probe(&target(&server.url()), &with_password("wrong")).await),
        "Reachable Rejected 401 ."
    );
    let same = Server::http(gitea(r#"{"UserID":5}"#)).await;
    let unprovable = "Reachable Unprovable AnonymousTokenServed Inconclusive";
    assert_eq!(said(&probe(&target(&same.url()), &alice()).await), unprovable);
}
