//! Anonymous registries and Basic credentials, over plain HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use registry_probe::*;
use support::*;

fn server_of(server: &Server) -> HostPort {
    HostPort { host: "127.0.0.1".parse().unwrap(), port: server.port }
}

#[tokio::test]
async fn open_registry_takes_one_request() {
    let registry = Server::http(|_| Answer::granted()).await;
    let findings = probe(&target(&registry.url()), &Material::default()).await;
    assert_eq!(findings.endpoint, EndpointFinding::Reachable);
    assert_eq!(findings.tls, TlsFinding::PlainHttp);
    assert_eq!(findings.credentials, CredentialsFinding::AnonymousAccess);
    assert_eq!(findings.content_path, ContentPathFinding::Inconclusive(Inconclusive::NoRepositoryNamed));
    assert_eq!(registry.log(), ["GET /v2/"]);
    assert_eq!(registry.asked()[0].header("user-agent"), Some("registry-operator/1.2.3"));
}

fn htpasswd(asked: &Asked) -> Answer {
    match asked.authorization() {
        Some(basic) if basic == basic_alice() => match asked.path.as_str() {
            "/v2/" => Answer::granted(),
            "/v2/hello/tags/list?n=1" => Answer::tags(),
            path if path.starts_with("/v2/secret/") => Answer::error(403, "DENIED"),
            _ => Answer::error(404, "NAME_UNKNOWN"),
        },
        _ => Answer::challenge("Basic realm=\"registry\""),
    }
}

#[tokio::test]
async fn validates_password_with_two_requests() {
    let registry = Server::http(htpasswd).await;
    let findings = probe(&target(&registry.url()), &alice()).await;
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    assert_eq!(registry.log(), ["GET /v2/", "GET /v2/"]);
    assert_eq!(registry.asked()[0].authorization(), None);
    assert_eq!(registry.accepted(), 1);
    assert_eq!(findings.requests.total(), 2);
}

#[tokio::test]
async fn rejects_wrong_password() {
    let registry = Server::http(|_| Answer::challenge("Basic realm=\"registry\"")).await;
    let findings = probe(&target(&registry.url()), &alice()).await;
    assert_eq!(findings.credentials, CredentialsFinding::Rejected { by: server_of(&registry), status: 401 });
    assert_eq!(findings.content_path, ContentPathFinding::NotAttempted);
    assert!(!findings.is_transient());
}

#[tokio::test]
async fn reads_repository_by_its_full_name() {
    let registry = Server::http(htpasswd).await;
    for (name, check) in [("hello", "accessible"), ("secret", "denied"), ("missing", "missing")] {
        let findings = probe(&with_repository(&registry.url(), name), &alice()).await;
        let repository = RepositoryName::parse(name).unwrap();
        let expected = match check {
            "accessible" => ContentPathFinding::Accessible { repository },
            "denied" => ContentPathFinding::Denied { repository, status: 403 },
            _ => ContentPathFinding::NotFound { repository },
        };
        assert_eq!(findings.content_path, expected);
        assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    }
}

#[tokio::test]
async fn requires_credentials_at_closed_registry() {
    let registry = Server::http(htpasswd).await;
    let findings = probe(&target(&registry.url()), &Material::default()).await;
    assert_eq!(findings.credentials, CredentialsFinding::Required);
    assert_eq!(findings.endpoint, EndpointFinding::Reachable);
}
