//! TLS: every defect, several defects at once, CAs, skipped verification, client certificates.

use crate::support::certificates::{Leaf, ca_params, self_signed, server_params};
use crate::support::*;
use rcgen::{ExtendedKeyUsagePurpose, IsCa, date_time_ymd};
use registry_probe::*;
use rustls::version::{TLS12, TLS13};

fn trusting(ca: CaBundle) -> Material {
    Material { ca: Some(ca), ..alice() }
}

fn htpasswd(asked: &ReceivedRequest) -> Answer {
    match asked.authorization() {
        Some(basic) if basic == basic_alice() => Answer::granted(),
        _ => Answer::challenge("Basic realm=\"registry\""),
    }
}

async fn start(leaf: Leaf) -> Server {
    Server::https(leaf.config(), htpasswd).await
}

/// The defects that a validation found, and that no credential was sent because of them.
async fn defects(server: &Server, material: &Material) -> Vec<TlsDefect> {
    let findings = probe(&target(&server.url()), material).await;
    let TlsFinding::Failed { server: named, defect, also, .. } = findings.tls else {
        panic!("not failed: {findings:#?}");
    };
    assert_eq!(named.port, server.port);
    assert_eq!(findings.endpoint, EndpointFinding::Reachable);
    assert_eq!(findings.credentials, CredentialsFinding::NotAttempted);
    assert!(server.requests().is_empty(), "something was sent to a server that is not to be believed");
    [vec![defect], also].concat()
}

#[tokio::test]
async fn verifies_and_describes_certificate() {
    let ca = Authority::new("company");
    for (version, expected) in [(&TLS12, TlsVersion::Tls12), (&TLS13, TlsVersion::Tls13)] {
        let server =
            Server::https(ca.server(&["127.0.0.1", "localhost"]).config_of(&[version]), htpasswd).await;
        let findings = probe(&target(&server.url()), &trusting(ca.bundle())).await;
        assert_eq!(findings.tls, TlsFinding::Verified);
        assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
        let certificate = findings.certificate.unwrap();
        assert_eq!(certificate.version, Some(expected));
        assert_eq!((&*certificate.subject, &*certificate.issuer), ("CN=registry", "CN=company"));
        assert_eq!(certificate.not_after.to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(certificate.names, ["127.0.0.1", "localhost"]);
        assert_eq!(certificate.sha256_fingerprint.len(), 64);
        assert_eq!(server.shaken(), 1, "one handshake for two requests");
    }
}

#[tokio::test]
async fn resolves_and_verifies_localhost_by_name() {
    let ca = Authority::new("company");
    let server = start(ca.server(&["localhost"])).await;
    let findings = probe(&target(&server.at("localhost")), &trusting(ca.bundle())).await;
    assert_eq!(findings.tls, TlsFinding::Verified);
}

#[tokio::test]
async fn reports_unknown_issuer() {
    let server = start(Authority::new("stranger").server(&["127.0.0.1"])).await;
    let unknown = [TlsDefect::UnknownIssuer { issuer: "CN=stranger".into(), self_signed: false }];
    assert_eq!(defects(&server, &alice()).await, unknown);
    assert_eq!(defects(&server, &trusting(Authority::new("company").bundle())).await, unknown);
    // A CA that was created again under the old name is another CA.
    assert_eq!(defects(&server, &trusting(Authority::new("stranger").bundle())).await, unknown);
}

#[tokio::test]
async fn failure_describes_presented_certificate() {
    let server = start(Authority::new("stranger").server(&["127.0.0.1"])).await;
    let findings = probe(&target(&server.url()), &alice()).await;
    let TlsFinding::Failed { presented: Some(presented), .. } = findings.tls else {
        panic!("no certificate")
    };
    assert_eq!(presented.issuer, "CN=stranger");
    assert_eq!(Some(*presented), findings.certificate);
}

#[tokio::test]
async fn distinguishes_wrong_dates_from_wrong_names() {
    let ca = Authority::new("company");
    let expired = || {
        let mut params = server_params(&["127.0.0.1"]);
        params.not_after = date_time_ymd(2026, 2, 1);
        params
    };
    let server = start(ca.sign(&expired())).await;
    let not_after = "2026-02-01T00:00:00Z".parse().unwrap();
    assert_eq!(
        defects(&server, &trusting(ca.bundle())).await,
        [TlsDefect::Expired { not_after, issuer: None }]
    );

    let mut future = server_params(&["127.0.0.1"]);
    future.not_before = date_time_ymd(2026, 7, 1);
    let server = start(ca.sign(&future)).await;
    let not_before = "2026-07-01T00:00:00Z".parse().unwrap();
    assert_eq!(
        defects(&server, &trusting(ca.bundle())).await,
        [TlsDefect::NotYetValid { not_before, issuer: None }]
    );

    let server = start(ca.server(&["registry.example.com", "10.0.0.1"])).await;
    let names = vec!["registry.example.com".to_owned(), "10.0.0.1".into()];
    let mismatch = TlsDefect::HostnameMismatch { expected: "127.0.0.1".into(), names };
    assert_eq!(defects(&server, &trusting(ca.bundle())).await, [mismatch]);
}

#[tokio::test]
async fn reports_all_certificate_defects() {
    let mut params = server_params(&["registry.example.com"]);
    params.not_after = date_time_ymd(2026, 2, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let server = start(Authority::new("stranger").sign(&params)).await;
    assert_eq!(
        defects(&server, &alice()).await,
        [
            TlsDefect::Unusable(Unusable::NotForServers),
            TlsDefect::UnknownIssuer { issuer: "CN=stranger".into(), self_signed: false },
            TlsDefect::Expired { not_after: "2026-02-01T00:00:00Z".parse().unwrap(), issuer: None },
            TlsDefect::HostnameMismatch {
                expected: "127.0.0.1".into(),
                names: vec!["registry.example.com".into()]
            },
        ]
    );
}

#[tokio::test]
async fn rejects_client_certificate_as_server_certificate() {
    let ca = Authority::new("company");
    let mut params = server_params(&["127.0.0.1"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let server = start(ca.sign(&params)).await;
    let found = defects(&server, &trusting(ca.bundle())).await;
    assert_eq!(found, [TlsDefect::Unusable(Unusable::NotForServers)]);
}

#[tokio::test]
async fn requires_intermediate_from_server_or_bundle() {
    let ca = Authority::new("company");
    let intermediate = ca.intermediate(ca_params("department"));
    let complete = start(intermediate.server(&["127.0.0.1"]).with(&intermediate)).await;
    let findings = probe(&target(&complete.url()), &trusting(ca.bundle())).await;
    assert_eq!(findings.tls, TlsFinding::Verified);

    let bare = start(intermediate.server(&["127.0.0.1"])).await;
    let unknown = TlsDefect::UnknownIssuer { issuer: "CN=department".into(), self_signed: false };
    assert_eq!(defects(&bare, &trusting(ca.bundle())).await, [unknown]);
    let findings = probe(&target(&bare.url()), &trusting(intermediate.bundle())).await;
    assert_eq!(findings.tls, TlsFinding::Verified);
}

#[tokio::test]
async fn reports_expired_issuer() {
    let ended = || {
        let mut params = ca_params("department");
        params.not_after = date_time_ymd(2026, 3, 1);
        params
    };
    let expired = TlsDefect::Expired {
        not_after: "2026-03-01T00:00:00Z".parse().unwrap(),
        issuer: Some("CN=department".into()),
    };
    let ca = Authority::new("company");
    let intermediate = ca.intermediate(ended());
    let server = start(intermediate.server(&["127.0.0.1"]).with(&intermediate)).await;
    assert_eq!(defects(&server, &trusting(ca.bundle())).await, std::slice::from_ref(&expired));

    let root = Authority::of(ended());
    let server = start(root.server(&["127.0.0.1"])).await;
    assert_eq!(defects(&server, &trusting(root.bundle())).await, [expired]);
}

#[tokio::test]
async fn trusts_self_signed_certificate_in_bundle() {
    for is_ca in [IsCa::NoCa, IsCa::Ca(rcgen::BasicConstraints::Unconstrained)] {
        let leaf = |name: &str| {
            let mut params = server_params(&[name]);
            params.is_ca = is_ca;
            self_signed(&params)
        };
        let own = leaf("127.0.0.1");
        let bundle = own.bundle();
        let server = start(own).await;
        let self_signed = TlsDefect::UnknownIssuer { issuer: "CN=registry".into(), self_signed: true };
        assert_eq!(defects(&server, &alice()).await, [self_signed]);
        let findings = probe(&target(&server.url()), &trusting(bundle)).await;
        assert_eq!(findings.tls, TlsFinding::Verified);

        let elsewhere = leaf("registry.example.com");
        let bundle = elsewhere.bundle();
        let server = start(elsewhere).await;
        let found = defects(&server, &trusting(bundle)).await;
        assert!(matches!(&found[..], [TlsDefect::HostnameMismatch { .. }]), "{found:?}");
    }
}

#[tokio::test]
async fn skipped_verification_still_reports_defect() {
    let stranger = Authority::new("stranger");
    let server = start(stranger.server(&["127.0.0.1"])).await;
    let skipping = || Target { skip_verify: true, ..target(&server.url()) };
    let unknown = TlsDefect::UnknownIssuer { issuer: "CN=stranger".into(), self_signed: false };

    let findings = probe(&skipping(), &alice()).await;
    let TlsFinding::Skipped { defect, ca_would_verify, .. } = findings.tls else { panic!("not skipped") };
    assert_eq!((defect, ca_would_verify), (Some(unknown.clone()), None));
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    assert_eq!(findings.certificate.unwrap().issuer, "CN=stranger");

    let findings = probe(&skipping(), &trusting(Authority::new("company").bundle())).await;
    let TlsFinding::Skipped { defect, ca_would_verify, .. } = findings.tls else { panic!("not skipped") };
    assert_eq!((defect, ca_would_verify), (Some(unknown), Some(false)));

    let findings = probe(&skipping(), &trusting(stranger.bundle())).await;
    let TlsFinding::Skipped { defect, ca_would_verify, .. } = findings.tls else { panic!("not skipped") };
    assert_eq!((defect, ca_would_verify), (None, Some(true)));
}

#[tokio::test]
async fn reports_missing_client_certificate() {
    let (ca, clients) = (Authority::new("company"), Authority::new("clients"));
    for version in [&TLS12, &TLS13] {
        let config = ca.server(&["127.0.0.1"]).config_for_clients_of(&clients, &[version]);
        let server = Server::https(config, htpasswd).await;
        let missing = TlsDefect::ClientCertificateRequired(ClientCertificateFault::Missing);
        assert_eq!(defects(&server, &trusting(ca.bundle())).await, [missing]);
    }
}

#[tokio::test]
async fn uses_client_certificate_or_reports_refusal() {
    let (ca, clients) = (Authority::new("company"), Authority::new("clients"));
    for version in [&TLS12, &TLS13] {
        let config = ca.server(&["127.0.0.1"]).config_for_clients_of(&clients, &[version]);
        let server = Server::https(config, htpasswd).await;
        let with = |own| Material { client_certificate: Some(own), ..trusting(ca.bundle()) };

        let findings = probe(&target(&server.url()), &with(clients.client("alice", |_| ()))).await;
        assert_eq!(findings.tls, TlsFinding::Verified, "{version:?}");
        assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));

        let server = {
            let config = ca.server(&["127.0.0.1"]).config_for_clients_of(&clients, &[version]);
            Server::https(config, htpasswd).await
        };
        let refused = TlsDefect::ClientCertificateRequired(ClientCertificateFault::Refused);
        let strangers = Authority::new("strangers").client("mallory", |_| ());
        assert_eq!(defects(&server, &with(strangers)).await, [refused]);

        let expired = TlsDefect::ClientCertificateRequired(ClientCertificateFault::Expired);
        let ended = clients.client("alice", |params| params.not_after = date_time_ymd(2021, 1, 1));
        assert_eq!(defects(&server, &with(ended)).await, [expired]);
    }
}

#[tokio::test]
async fn recognizes_nginx_client_certificate_error() {
    let (ca, clients) = (Authority::new("company"), Authority::new("clients"));
    let config = ca.server(&["127.0.0.1"]).config_inviting_clients_of(&clients);
    let page = "<html><body>400 Bad Request<br>No required SSL certificate was sent</body></html>";
    let server = Server::https(config, move |_| Answer::status(400).body(page)).await;
    let findings = probe(&target(&server.url()), &trusting(ca.bundle())).await;
    let TlsFinding::Failed { defect, .. } = findings.tls else { panic!("not failed: {findings:#?}") };
    assert_eq!(defect, TlsDefect::ClientCertificateRequired(ClientCertificateFault::Missing));
    assert!(!server.received_credentials());
}

#[tokio::test]
async fn closing_after_certificate_request_means_required() {
    let (ca, clients) = (Authority::new("company"), Authority::new("clients"));
    let config = ca.server(&["127.0.0.1"]).config_inviting_clients_of(&clients);
    let server = Server::https(config, |_| Answer::Close).await;
    let findings = probe(&target(&server.url()), &trusting(ca.bundle())).await;
    let TlsFinding::Failed { defect, .. } = findings.tls else { panic!("not failed: {findings:#?}") };
    assert_eq!(defect, TlsDefect::ClientCertificateRequired(ClientCertificateFault::Missing));
}

#[tokio::test]
async fn distinguishes_plain_server_from_bad_certificate() {
    // The responses of web servers to a ClientHello, and the greeting of a mail server.
    for greeting in
        ["HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "220 mail.example.com ESMTP\r\n"]
    {
        let port = crate::support::server::greeting(greeting).await;
        let findings = probe(&target(&format!("https://127.0.0.1:{port}")), &alice()).await;
        let TlsFinding::Failed { defect, .. } = findings.tls else { panic!("not failed: {findings:#?}") };
        assert_eq!(defect, TlsDefect::HandshakeFailed(HandshakeFault::NotTls));
    }
}

#[tokio::test]
async fn closed_handshake_is_transient() {
    let port = crate::support::server::greeting("").await;
    let findings = probe(&target(&format!("https://127.0.0.1:{port}")), &alice()).await;
    let TlsFinding::Failed { defect, .. } = &findings.tls else { panic!("not failed: {findings:#?}") };
    assert_eq!(*defect, TlsDefect::HandshakeFailed(HandshakeFault::Closed));
    assert!(findings.is_transient());
}

#[tokio::test]
async fn reports_old_tls_and_missing_http_1() {
    let ca = Authority::new("company");
    let mut config = ca.server(&["127.0.0.1"]).config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let server = Server::https(config, htpasswd).await;
    let found = defects(&server, &trusting(ca.bundle())).await;
    assert_eq!(found, [TlsDefect::HandshakeFailed(HandshakeFault::NoHttp1)]);
}

#[test]
fn rejects_bundle_without_usable_ca() {
    let leaf = Authority::new("company").server(&["a"]);
    let refused = |text: &[u8]| CaBundle::parse(text).unwrap_err();
    assert_eq!(refused(b" \n"), CaError::Empty);
    assert_eq!(refused(b"not a certificate"), CaError::NoCertificate);
    assert_eq!(refused(&leaf.chain[0]), CaError::NoCertificate);
    assert_eq!(refused(leaf.key_pem.as_bytes()), CaError::PrivateKey);
    assert_eq!(refused(format!("{}{}", leaf.pem, leaf.key_pem).as_bytes()), CaError::PrivateKey);
    let endless = leaf.pem.replace("-----END", "-----NOEND");
    assert_eq!(refused(endless.as_bytes()), CaError::BrokenPem { line: 1 });
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(refused(empty.as_bytes()), CaError::BrokenCertificate(1));
    assert_eq!(refused(&vec![b'a'; 2 << 20]), CaError::TooLarge);
    assert!(
        CaBundle::parse(format!("\u{feff}# ours\r\n{}", leaf.pem.replace('\n', "\r\n")).as_bytes()).is_ok()
    );
}

#[test]
fn rejects_client_certificate_with_other_key() {
    let ca = Authority::new("company");
    let (one, other) = (ca.server(&["a"]), ca.server(&["b"]));
    let parse = |certificate: &str, key: &str| ClientIdentity::parse(certificate.as_bytes(), key.as_bytes());
    let own = parse(&one.pem, &one.key_pem).unwrap();
    assert_eq!(format!("{own:?}"), "ClientCertificate([REDACTED])");
    assert_eq!(parse(&one.pem, &other.key_pem).unwrap_err(), ClientCertificateError::Mismatch);
    assert_eq!(parse(&one.key_pem, &one.key_pem).unwrap_err(), ClientCertificateError::NoCertificate);
    assert_eq!(parse(&one.pem, &one.pem).unwrap_err(), ClientCertificateError::NoKey);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_eq!(parse(&one.pem, encrypted).unwrap_err(), ClientCertificateError::EncryptedKey);
}
