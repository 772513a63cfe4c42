//! Against a registry that nobody here wrote: distribution, as `make tools` builds it.
//!
//! Run by `cargo test -p registry-probe --test distribution -- --ignored`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_RSA_SHA256, SigningKey};
use registry_probe::*;
use support::certificates::{Leaf, ca_params};
use support::*;

/// How long a registry may take to come up on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// An htpasswd file for alice, hashed cheaply.
fn alices_line() -> String {
    format!("alice:{}\n", bcrypt::hash(PASSWORD, 4).unwrap())
}

struct Distribution {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Distribution {
    /// Starts a registry; `auth` and `tls` are parts of its configuration, with `$DIR` for its directory.
    async fn start(auth: &str, tls: Option<&Leaf>, client_ca: Option<&str>, files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap().to_owned();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let mut config = "version: 0.1\nstorage:\n  inmemory: {}\nhttp:\n  addr: 127.0.0.1:0\n".to_owned();
        if let Some(leaf) = tls {
            std::fs::write(directory.path().join("tls.crt"), &leaf.pem).unwrap();
            std::fs::write(directory.path().join("tls.key"), &leaf.key_pem).unwrap();
            config += "  tls:\n    certificate: $DIR/tls.crt\n    key: $DIR/tls.key\n";
        }
        if let Some(ca) = client_ca {
            std::fs::write(directory.path().join("clients.crt"), ca).unwrap();
            config += "    clientcas:\n    - $DIR/clients.crt\n";
        }
        config += auth;
        std::fs::write(directory.path().join("config.yml"), config.replace("$DIR", &path)).unwrap();
        let log = directory.path().join("registry.log");
        let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/registry");
        let child = Command::new(&binary)
            .args(["serve", &format!("{path}/config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; `make tools` builds it", binary.display()));
        let mut registry = Self { child, port: 0, _directory: directory };
        registry.port = registry.listens(&log).await;
        registry
    }

    /// The port that the system gave it: it says so when it has it.
    async fn listens(&mut self, log: &Path) -> u16 {
        let started = Instant::now();
        loop {
            let said = std::fs::read_to_string(log).unwrap();
            if let Some(port) = port_in(&said) {
                return port;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the registry ended: {said}");
            assert!(started.elapsed() < PATIENCE, "the registry does not come up: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn at(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.port)
    }
}

fn port_in(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("listening on 127.0.0.1:")?;
    let (port, _) = rest.split_once(|c: char| !c.is_ascii_digit())?;
    port.parse().ok()
}

fn htpasswd() -> String {
    "auth:\n  htpasswd:\n    realm: registry\n    path: $DIR/htpasswd\n".into()
}

fn with_ca(material: Material, ca: &Authority) -> Material {
    Material { ca: Some(ca.bundle()), ..material }
}

fn impostor() -> Material {
    let credentials = Credentials::basic("alice", "wrong".to_owned().into()).unwrap();
    Material { credentials: Some(credentials), ..Material::default() }
}

async fn really(target: &Target, material: &Material) -> Findings {
    prober().probe(target, material, now()).await
}

#[tokio::test]
#[ignore = "needs target/tools/bin/registry, which `make tools` builds"]
async fn anonymous_distribution_needs_no_credentials() {
    let registry = Distribution::start("", None, None, &[]).await;
    let findings = really(&target(&registry.at("http")), &Material::default()).await;
    assert_eq!(findings.credentials, CredentialsFinding::AnonymousAccess);
    assert_eq!(findings.requests.total(), 1);
    let findings = really(&target(&registry.at("http")), &alice()).await;
    assert_eq!(findings.credentials, CredentialsFinding::Unprovable(Unprovable::AnonymousServed));
    let findings = really(&with_repository(&registry.at("http"), "hello"), &Material::default()).await;
    assert!(matches!(findings.content_path, ContentPathFinding::NotFound { .. }), "{findings:#?}");
}

#[tokio::test]
#[ignore = "needs target/tools/bin/registry, which `make tools` builds"]
async fn distribution_with_basic_auth_over_tls() {
    let ca = Authority::new("company");
    let leaf = ca.server(&["localhost"]);
    let registry =
        Distribution::start(&htpasswd(), Some(&leaf), None, &[("htpasswd", &*alices_line())]).await;
    let target = target(&registry.at("https"));

    let findings = really(&target, &with_ca(alice(), &ca)).await;
    assert_eq!(findings.tls, TlsFinding::Verified);
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    assert_eq!(findings.requests.total(), 2);
    let findings = really(&target, &with_ca(impostor(), &ca)).await;
    assert!(matches!(findings.credentials, CredentialsFinding::Rejected { .. }), "{findings:#?}");
    let findings = really(&target, &with_ca(Material::default(), &ca)).await;
    assert_eq!(findings.credentials, CredentialsFinding::Required);
    let findings = really(&target, &alice()).await;
    let TlsFinding::Failed { defect: TlsDefect::UnknownIssuer { .. }, .. } = findings.tls else { panic!() };
}

#[tokio::test]
#[ignore = "needs target/tools/bin/registry, which `make tools` builds"]
async fn distribution_with_client_certificates() {
    let (ca, clients) = (Authority::new("company"), Authority::new("clients"));
    let leaf = ca.server(&["localhost"]);
    let (clients_pem, line) = (clients.pem(), alices_line());
    let files = [("htpasswd", &*line)];
    let registry = Distribution::start(&htpasswd(), Some(&leaf), Some(&clients_pem), &files).await;
    let target = target(&registry.at("https"));
    let with = |own| Material { client_certificate: own, ..with_ca(alice(), &ca) };

    let findings = really(&target, &with(Some(clients.client("alice", |_| ())))).await;
    assert_eq!(
        findings.credentials,
        CredentialsFinding::Validated(Evidence::RefusedWithout),
        "{findings:#?}"
    );
    for (own, fault) in [
        (None, ClientCertificateFault::Missing),
        (Some(Authority::new("strangers").client("mallory", |_| ())), ClientCertificateFault::Refused),
    ] {
        let findings = really(&target, &with(own)).await;
        let TlsFinding::Failed { defect, .. } = findings.tls else { panic!("{findings:#?}") };
        assert_eq!(defect, TlsDefect::ClientCertificateRequired(fault));
    }
}

/// A token service whose tokens distribution believes.
struct Issuer {
    key: KeyPair,
    certificate: rcgen::Certificate,
    algorithm: &'static str,
    names: bool,
    anonymous: bool,
}

impl Issuer {
    fn new(key: KeyPair, algorithm: &'static str, names: bool, anonymous: bool) -> Self {
        let mut params = ca_params("issuer");
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        Self { key, certificate, algorithm, names, anonymous }
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let is_alice = match asked.authorization() {
            Some(basic) if basic == basic_alice() => true,
            None if self.anonymous => false,
            _ => return Answer::status(401),
        };
        let url = format!("http://x{}", asked.path);
        let scope = url::Url::parse(&url)
            .unwrap()
            .query_pairs()
            .find(|(key, _)| key == "scope")
            .map(|(_, v)| v.into_owned());
        Answer::status(200).body(format!(r#"{{"token":"{}"}}"#, self.token(is_alice, scope.as_deref())))
    }

    fn token(&self, is_alice: bool, scope: Option<&str>) -> String {
        let access = match scope.map(|scope| scope.split(':').collect::<Vec<_>>()) {
            Some(parts) if is_alice => {
                format!(r#"[{{"type":"repository","name":"{}","actions":["pull"]}}]"#, parts[1])
            }
            _ => "[]".into(),
        };
        let sub = if is_alice && self.names { "alice" } else { "" };
        let at = real_time();
        let claims = format!(
            r#"{{"iss":"issuer","aud":"registry.test","sub":"{sub}","nbf":{},"exp":{},"iat":{at},"jti":"1","access":{access}}}"#,
            at - 60,
            at + 300,
        );
        let chain = STANDARD.encode(self.certificate.der());
        let head = format!(r#"{{"alg":"{}","typ":"JWT","x5c":["{chain}"]}}"#, self.algorithm);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        let signature = if self.algorithm == "ES256" { raw_ecdsa(&signature) } else { signature };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The registry judges tokens by the real clock.
#[expect(clippy::disallowed_methods, reason = "the registry under test reads it too")]
fn real_time() -> i64 {
    Timestamp::now().as_second()
}

/// RFC 7518 wants the two numbers as they are, where X.509 wraps them.
fn raw_ecdsa(der: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::new();
    let mut at = 2;
    while numbers.len() < 64 {
        let length = usize::from(der[at + 1]);
        let number = &der[at + 2..at + 2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        numbers.extend(std::iter::repeat_n(0, 32 - number.len()).chain(number.iter().copied()));
        at += 2 + length;
    }
    numbers
}

#[tokio::test]
#[ignore = "needs target/tools/bin/registry, which `make tools` builds"]
async fn distribution_with_token_service() {
    let keys: [fn() -> (KeyPair, &'static str); 2] = [
        || (support::certificates::key(), "ES256"),
        || (KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(), "RS256"),
    ];
    for key in keys {
        for (names, anonymous, expected, requests) in [
            (true, true, CredentialsFinding::Validated(Evidence::NamedInToken), 3),
            (false, false, CredentialsFinding::Validated(Evidence::RefusedWithout), 4),
            (false, true, CredentialsFinding::Unprovable(Unprovable::AnonymousTokenServed), 5),
        ] {
            let (key, algorithm) = key();
            let issuer = Arc::new(Issuer::new(key, algorithm, names, anonymous));
            let service = {
                let issuer = issuer.clone();
                Server::http(move |asked| issuer.answer(asked)).await
            };
            let auth = format!(
                "auth:\n  token:\n    realm: {}/token\n    service: registry.test\n    issuer: issuer\n    \
                 rootcertbundle: $DIR/issuer.crt\n    signingalgorithms:\n    - {algorithm}\n",
                service.at("localhost")
            );
            let files = [("issuer.crt", &*issuer.certificate.pem())];
            let registry = Distribution::start(&auth, None, None, &files).await;

            let findings = really(&target(&registry.at("http")), &alice()).await;
            assert_eq!(
                findings.credentials,
                expected,
                "{algorithm} {names} {anonymous} {:#?}",
                service.log()
            );
            assert_eq!(findings.requests.total(), requests);
            let findings = really(&target(&registry.at("http")), &impostor()).await;
            assert!(matches!(findings.credentials, CredentialsFinding::Rejected { .. }), "{findings:#?}");
            let findings = really(&target(&registry.at("http")), &Material::default()).await;
            let nobody =
                if anonymous { CredentialsFinding::AnonymousAccess } else { CredentialsFinding::Required };
            assert_eq!(findings.credentials, nobody);
            let findings = really(&with_repository(&registry.at("http"), "hello"), &alice()).await;
            assert!(matches!(findings.content_path, ContentPathFinding::NotFound { .. }), "{findings:#?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs target/tools/bin/registry, which `make tools` builds"]
async fn invalid_token_is_refused_not_rejected() {
    let believed = Issuer::new(support::certificates::key(), "ES256", true, false);
    let other = Issuer::new(support::certificates::key(), "ES256", true, false);
    let service = Server::http(move |asked| other.answer(asked)).await;
    let auth = format!(
        "auth:\n  token:\n    realm: {}/token\n    service: registry.test\n    issuer: issuer\n    \
         rootcertbundle: $DIR/issuer.crt\n",
        service.at("localhost")
    );
    let registry =
        Distribution::start(&auth, None, None, &[("issuer.crt", &*believed.certificate.pem())]).await;
    let findings = really(&target(&registry.at("http")), &alice()).await;
    assert!(matches!(findings.credentials, CredentialsFinding::TokenRefused { .. }), "{findings:#?}");
}
