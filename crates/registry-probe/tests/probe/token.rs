//! Token services over real connections: the requests, and that credentials arrive nowhere else.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::support::dns::{Dns, NameServer};
use crate::support::*;
use registry_probe::*;
use secrecy::SecretString;

/// A registry that takes the token `good`, and names this realm.
fn registry_with(realm: String) -> impl Fn(&ReceivedRequest) -> Answer + Send + Sync {
    move |asked| match asked.authorization() {
        Some("Bearer good") if asked.path == "/v2/" => Answer::granted(),
        Some("Bearer good") => Answer::tags(),
        _ => Answer::challenge(&format!("Bearer realm=\"{realm}\",service=\"registry.test\"")),
    }
}

/// A token service that issues `good` to alice only.
fn service(asked: &ReceivedRequest) -> Answer {
    match asked.authorization() {
        Some(basic) if basic == basic_alice() => Answer::status(200).body(r#"{"token":"good"}"#),
        _ => Answer::status(401),
    }
}

async fn by_dns(target: &Target, material: &Material) -> Findings {
    let dns = NameServer::start(|_, _| Dns::Addresses(&[Ipv4Addr::LOCALHOST])).await;
    let settings = ProberSettings { name_servers: vec![dns.address], ..ProberSettings::default() };
    Prober::new(settings).unwrap().probe(target, material, now()).await
}

#[tokio::test]
async fn reuses_connection_for_token_service() {
    let ca = Authority::new("company");
    let server =
        Server::https(ca.server(&["127.0.0.1"]).config(), |asked| match asked.path.split('?').next() {
            Some("/token") => service(asked),
            _ => registry_with("/token".into())(asked),
        })
        .await;
    let material = Material { ca: Some(ca.bundle()), ..alice() };
    let findings = probe(&with_repository(&server.url(), "hello"), &material).await;
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    assert!(matches!(findings.content_path, ContentPathFinding::Accessible { .. }));
    assert_eq!(findings.tls, TlsFinding::Verified);
    assert_eq!(
        server.log(),
        [
            "GET /v2/",
            "GET /token?service=registry.test&account=alice",
            "GET /token?service=registry.test&scope=repository%3Ahello%3Apull&account=alice",
            "GET /v2/hello/tags/list?n=1",
            "GET /token?service=registry.test&scope=repository%3Ahello%3Apull",
            "GET /v2/hello/tags/list?n=1",
        ]
    );
    assert_eq!(server.shaken(), 1, "one handshake for one host");
}

#[tokio::test]
async fn sends_no_credentials_to_another_site() {
    let recorder = Server::http(service).await;
    let realms = [
        recorder.at("auth.example.net") + "/token",
        recorder.at("registry.example.com.evil.net") + "/token",
        recorder.at("evilexample.com") + "/token",
        recorder.at("127.0.0.1") + "/token",
        format!("//127.0.0.1:{}/token", recorder.port),
        format!("http:\\\\\\\\127.0.0.1:{}/token", recorder.port),
        format!("http://registry.example.com@127.0.0.1:{}/token", recorder.port),
        format!("http://alice:pw@auth.example.com:{}/token", recorder.port),
        "ftp://auth.example.com/token".into(),
        "https://[broken/token".into(),
        String::new(),
    ];
    for realm in realms {
        for material in [alice(), identity_token()] {
            let registry = Server::http(registry_with(realm.clone())).await;
            let findings = by_dns(&target(&registry.at("registry.example.com")), &material).await;
            let CredentialsFinding::UntrustedTokenService { .. } = findings.credentials else {
                panic!("{realm}: {findings:#?}");
            };
            assert!(!registry.received_credentials());
        }
    }
    assert!(!recorder.received_credentials());
}

#[tokio::test]
async fn reports_token_service_with_bad_certificate() {
    let (ca, stranger) = (Authority::new("company"), Authority::new("stranger"));
    let auth = Server::https(stranger.server(&["localhost"]).config(), service).await;
    let script = registry_with(auth.at("localhost") + "/token");
    let registry = Server::https(ca.server(&["localhost"]).config(), script).await;
    let material = Material { ca: Some(ca.bundle()), ..alice() };

    let findings = probe(&target(&registry.at("localhost")), &material).await;
    let TlsFinding::Failed { server, defect, .. } = &findings.tls else { panic!("{findings:#?}") };
    assert_eq!(server.port, auth.port);
    assert!(matches!(defect, TlsDefect::UnknownIssuer { .. }));
    assert_eq!(findings.credentials, CredentialsFinding::NotAttempted);
    assert_eq!(findings.certificate.unwrap().issuer, "CN=company", "the registry's own");
    assert!(!auth.received_credentials());

    let skipping = Target { skip_verify: true, ..target(&registry.at("localhost")) };
    let findings = probe(&skipping, &material).await;
    let TlsFinding::Skipped { server, defect, ca_would_verify, .. } = findings.tls else { panic!() };
    assert_eq!((server.port, ca_would_verify), (auth.port, Some(false)));
    assert!(matches!(defect, Some(TlsDefect::UnknownIssuer { .. })));
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
}

#[tokio::test]
async fn egress_policy_applies_to_realms() {
    let registry = Server::http(registry_with("http://169.254.169.254/latest/meta-data/".into())).await;
    let findings = probe(&target(&registry.url()), &Material::default()).await;
    let CredentialsFinding::UntrustedTokenService { cause, service } = findings.credentials else { panic!() };
    assert_eq!((cause, &*service.unwrap().to_string()), (Distrust::EgressDenied, "169.254.169.254:80"));
}

fn identity_token() -> Material {
    let token = SecretString::from(PASSWORD);
    Material { credentials: Some(Credentials::identity_token(None, &token).unwrap()), ..Material::default() }
}

#[tokio::test]
async fn sends_identity_token_as_form() {
    let server = Server::http(|asked| match (&*asked.method, asked.path.split('?').next()) {
        ("POST", Some("/token")) => Answer::status(200).body(r#"{"access_token":"good"}"#),
        (_, Some("/token")) => Answer::status(401),
        _ => registry_with("/token".into())(asked),
    })
    .await;
    let findings = probe(&target(&server.url()), &identity_token()).await;
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    let form = &server.requests()[1];
    assert_eq!((&*form.method, form.authorization()), ("POST", None));
    assert_eq!(form.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        form.body,
        format!(
            "grant_type=refresh_token&refresh_token={PASSWORD}&service=registry.test&client_id=registry-operator"
        )
    );
}

#[tokio::test]
async fn follows_no_other_token_service_redirect() {
    let recorder = Server::http(service).await;
    let locations = [
        recorder.url() + "/token/",
        recorder.url() + "/token",
        format!("http://127.0.0.1@127.0.0.1:{}/token/", recorder.port),
        "/login".into(),
        "/token?again".into(),
        "http://169.254.169.254/".into(),
    ];
    for location in locations {
        let server = Server::http(move |asked| match asked.path.split('?').next() {
            Some("/token") => Answer::status(307).header("Location", &location),
            _ => registry_with("/token".into())(asked),
        })
        .await;
        let findings = probe(&target(&server.url()), &alice()).await;
        let CredentialsFinding::UntrustedTokenService { cause, .. } = findings.credentials else {
            panic!("{findings:#?}")
        };
        assert_eq!(cause, Distrust::Redirect);
        assert_eq!(server.requests().len(), 2);
    }
    assert_eq!(recorder.accepted(), 0);
}

#[tokio::test]
async fn reports_expiry_of_registry_token() {
    use base64::Engine;
    let token = |end: i64| {
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{end}}}"#));
        let token = SecretString::from(format!("e30.{claims}.c2ln"));
        Material { credentials: Some(Credentials::registry_token(&token).unwrap()), ..Material::default() }
    };
    let server = Server::http(|_| Answer::challenge("Bearer realm=\"/token\"")).await;
    let past = probe(&target(&server.url()), &token(now().as_second() - 1)).await;
    assert_eq!(past.credentials, CredentialsFinding::Expired);
    let future = probe(&target(&server.url()), &token(now().as_second() + 60)).await;
    assert!(matches!(future.credentials, CredentialsFinding::Rejected { .. }));
    assert_eq!(future.credentials_expire_at.unwrap().as_second(), now().as_second() + 60);
}

#[tokio::test]
async fn findings_hold_no_secret() {
    let auth = Server::http(service).await;
    let registry = Server::http(registry_with(auth.url() + "/token")).await;
    for material in [alice(), identity_token()] {
        let findings = probe(&with_repository(&registry.url(), "hello"), &material).await;
        let shown = format!("{findings:?} {material:?}");
        assert!(!shown.contains(PASSWORD) && !shown.contains("alice") && !shown.contains("good"), "{shown}");
    }
}

#[tokio::test]
async fn tls_chain_includes_decisive_services_only() {
    let (ca, stranger) = (Authority::new("company"), Authority::new("stranger"));
    let auth = Server::https(stranger.server(&["auth.example.net"]).config(), |_| Answer::status(401)).await;
    let challenge = format!("Basic realm=\"x\", Bearer realm=\"{}/token\"", auth.at("auth.example.net"));
    let registry = Server::https(ca.server(&["registry.example.com"]).config(), move |asked| {
        match asked.authorization() {
            Some(basic) if basic == basic_alice() => Answer::granted(),
            _ => Answer::challenge(&challenge),
        }
    })
    .await;
    let target = target(&registry.at("registry.example.com"));

    let findings = by_dns(&target, &Material { ca: Some(ca.bundle()), ..alice() }).await;
    assert_eq!(findings.tls, TlsFinding::Verified, "the stranger gets nothing, and need not prove itself");
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));

    let findings = by_dns(&target, &Material { ca: Some(ca.bundle()), ..Material::default() }).await;
    let TlsFinding::Failed { server, .. } = findings.tls else { panic!("{findings:#?}") };
    assert_eq!(server.host.to_string(), "auth.example.net");
    assert_eq!(findings.credentials, CredentialsFinding::NotAttempted);
}

#[tokio::test]
async fn sends_client_certificate_to_the_registry_only() {
    let (ca, clients) = (Authority::new("company"), Authority::new("clients"));
    let inviting = |name: &str| ca.server(&[name]).config_inviting_clients_of(&clients);
    let auth = Server::https(inviting("auth.example.net"), |_| Answer::status(401)).await;
    let challenge = format!("Bearer realm=\"{}/token\"", auth.at("auth.example.net"));
    let script = move |_: &ReceivedRequest| Answer::challenge(&challenge);
    let registry = Server::https(inviting("registry.example.com"), script).await;
    let target = target(&registry.at("registry.example.com"));
    let own = Some(clients.client("alice", |_| ()));
    let material = Material { ca: Some(ca.bundle()), client_certificate: own, ..Material::default() };

    let findings = by_dns(&target, &material).await;
    assert_eq!(findings.credentials, CredentialsFinding::Required);
    assert_eq!((registry.identified(), auth.shaken(), auth.identified()), (1, 1, 0));

    let trusted_token_services = Arc::from(["auth.example.net".parse().unwrap()]);
    by_dns(&Target { trusted_token_services, ..target }, &material).await;
    assert_eq!((registry.identified(), auth.shaken(), auth.identified()), (2, 2, 1));
}
