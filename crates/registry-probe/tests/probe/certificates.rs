//! Certificates that Go's and OpenSSL's clients accept, and libraries have limits for: dates, critical extensions, key sizes,
//! versions; and bundles that lose nothing.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::certificates::{Leaf, ca_params, server_params};
use crate::support::*;
use rcgen::{CertificateParams, CustomExtension};
use registry_probe::*;
use rustls::version::{TLS12, TLS13};

const VERSION_1: (&str, &str) =
    (include_str!("certificates/version-1.pem"), include_str!("certificates/version-1.key"));
const RSA_1024: (&str, &str) =
    (include_str!("certificates/rsa-1024.pem"), include_str!("certificates/rsa-1024.key"));

fn htpasswd(asked: &ReceivedRequest) -> Answer {
    match asked.authorization() {
        Some(basic) if basic == basic_alice() => Answer::granted(),
        _ => Answer::challenge("Basic realm=\"registry\""),
    }
}

fn trusting(ca: &str) -> Material {
    Material { ca: Some(CaBundle::parse(ca.as_bytes()).unwrap()), ..alice() }
}

async fn findings(url: &str, skip_verify: bool, material: &Material) -> Findings {
    probe(&Target { skip_verify, ..target(url) }, material).await
}

/// 99991231235959Z, which RFC 5280, section 4.1.2.5, gives to certificates without an end.
fn without_end(params: &mut CertificateParams) {
    let day = rcgen::date_time_ymd(9999, 12, 31);
    let end = day.replace_hour(23).unwrap().replace_minute(59).unwrap().replace_second(59).unwrap();
    params.not_after = end;
}

fn critical(oid: &[u64], der: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, der.to_vec());
    extension.set_criticality(true);
    extension
}

/// `certificatePolicies=critical,2.5.29.32.0`.
fn any_policy() -> CustomExtension {
    critical(&[2, 5, 29, 32], &[0x30, 0x08, 0x30, 0x06, 0x06, 0x04, 0x55, 0x1d, 0x20, 0x00])
}

/// `policyConstraints=critical,inhibitPolicyMapping:0`.
fn no_mapping() -> CustomExtension {
    critical(&[2, 5, 29, 36], &[0x30, 0x03, 0x81, 0x01, 0x00])
}

#[tokio::test]
async fn accepts_ca_without_expiry() {
    let mut params = ca_params("company");
    without_end(&mut params);
    let ca = Authority::of(params);
    let other = Authority::new("other");
    let mut endless_leaf = server_params(&["127.0.0.1"]);
    without_end(&mut endless_leaf);
    let server = Server::https(ca.sign(&endless_leaf).config(), htpasswd).await;
    for bundle in [ca.pem(), format!("{}{}", other.pem(), ca.pem()), format!("{}{}", ca.pem(), other.pem())] {
        let findings = findings(&server.url(), false, &trusting(&bundle)).await;
        assert_eq!(findings.tls, TlsFinding::Verified);
        assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
        assert_eq!(findings.certificate.unwrap().not_after.to_string(), "9999-12-30T22:00:00Z");
    }
}

#[tokio::test]
async fn reports_critical_extension_of_leaf() {
    let ca = Authority::new("company");
    for version in [&TLS12, &TLS13] {
        let mut params = server_params(&["127.0.0.1"]);
        params.custom_extensions = vec![any_policy()];
        let server = Server::https(ca.sign(&params).config_unread(&[version]), htpasswd).await;
        let named =
            TlsDefect::Unusable(Unusable::CriticalExtension("certificatePolicies (2.5.29.32)".into()));
        let strict = findings(&server.url(), false, &trusting(&ca.pem())).await;
        assert!(matches!(&strict.tls, TlsFinding::Failed { defect, .. } if *defect == named), "{strict:#?}");
        let skipped = findings(&server.url(), true, &trusting(&ca.pem())).await;
        assert!(matches!(&skipped.tls, TlsFinding::Skipped { defect: Some(defect), .. } if *defect == named));
        assert_eq!(skipped.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    }
}

#[tokio::test]
async fn reports_critical_extension_of_intermediate() {
    let root = Authority::new("company");
    for (extension, name) in
        [(any_policy(), "certificatePolicies (2.5.29.32)"), (no_mapping(), "policyConstraints (2.5.29.36)")]
    {
        let mut params = ca_params("intermediate");
        params.custom_extensions = vec![extension];
        let intermediate = root.intermediate(params);
        let leaf = intermediate.server(&["127.0.0.1"]).with(&intermediate);
        let server = Server::https(leaf.config_unread(&[&TLS13]), htpasswd).await;
        let strict = findings(&server.url(), false, &trusting(&root.pem())).await;
        let named = TlsDefect::Unusable(Unusable::CriticalExtension(name.into()));
        assert!(matches!(&strict.tls, TlsFinding::Failed { defect, .. } if *defect == named), "{strict:#?}");
        let skipped = findings(&server.url(), true, &alice()).await;
        assert_eq!(skipped.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    }
}

#[tokio::test]
async fn trusts_ca_with_critical_extension() {
    let mut params = ca_params("company");
    params.custom_extensions = vec![no_mapping()];
    let ca = Authority::of(params);
    let server = Server::https(ca.server(&["127.0.0.1"]).config(), htpasswd).await;
    let findings = findings(&server.url(), false, &trusting(&ca.pem())).await;
    assert_eq!(findings.tls, TlsFinding::Verified);
}

#[tokio::test]
async fn reports_version_1_certificate_as_without_host() {
    let (pem, key) = VERSION_1;
    for version in [&TLS12, &TLS13] {
        let server = Server::https(Leaf::from_pem(pem, key).config_unread(&[version]), htpasswd).await;
        let skipped = findings(&server.url(), true, &alice()).await;
        let named = TlsDefect::Unusable(Unusable::Version(1));
        assert!(
            matches!(&skipped.tls, TlsFinding::Skipped { defect: Some(defect), .. } if *defect == named),
            "{skipped:#?}"
        );
        assert_eq!(skipped.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
        let trusted = findings(&server.url(), false, &trusting(pem)).await;
        let mismatch = TlsDefect::HostnameMismatch { expected: "127.0.0.1".into(), names: Vec::new() };
        assert!(
            matches!(&trusted.tls, TlsFinding::Failed { defect, .. } if *defect == mismatch),
            "{trusted:#?}"
        );
    }
}

/// A registry in Python, whose OpenSSL serves with keys that rustls refuses to load.
struct PythonRegistry {
    process: Child,
    port: u16,
}

impl PythonRegistry {
    fn start(password: &str) -> Self {
        let file = |name: &str| format!("{}/tests/probe/certificates/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut process = Command::new("python3")
            .args([file("small_key_registry.py"), file("rsa-1024.pem"), file("rsa-1024.key")])
            .arg(format!("alice:{password}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, port: line.trim().parse().unwrap() }
    }
}

impl Drop for PythonRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn reports_small_rsa_key() {
    let server = PythonRegistry::start(PASSWORD);
    let url = format!("https://127.0.0.1:{}", server.port);
    let weak = TlsDefect::Unusable(Unusable::WeakKey(1024));
    for material in [alice(), trusting(RSA_1024.0)] {
        let skipped = findings(&url, true, &material).await;
        assert!(
            matches!(&skipped.tls, TlsFinding::Skipped { defect: Some(defect), .. } if *defect == weak),
            "{skipped:#?}"
        );
        assert_eq!(skipped.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
        let strict = findings(&url, false, &material).await;
        assert!(matches!(&strict.tls, TlsFinding::Failed { defect, .. } if *defect == weak), "{strict:#?}");
    }
}

#[test]
fn reports_client_certificate_version_and_key_size() {
    let parse = |(pem, key): (&str, &str)| ClientIdentity::parse(pem.as_bytes(), key.as_bytes());
    assert!(parse(VERSION_1).is_ok());
    assert_eq!(parse(RSA_1024).unwrap_err(), ClientCertificateError::WeakKey(1024));
    assert_eq!(
        parse((VERSION_1.0, &Authority::new("a").server(&["a"]).key_pem)).unwrap_err(),
        ClientCertificateError::Mismatch
    );
}

#[tokio::test]
async fn reads_every_certificate_of_a_bundle() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let server = Server::https(two.server(&["127.0.0.1"]).config(), htpasswd).await;
    let two_pem = two.pem();
    let indented: String = two_pem.lines().flat_map(|line| ["    ", line, "\n"]).collect();
    for bundle in [
        format!("{}{}", one.pem().trim_end(), two.pem()),
        format!("{}{}", one.pem(), indented),
        format!("# one\n{}text between\n{}", one.pem(), two.pem()),
        format!("{}{}", one.pem(), two.pem()).replace('\n', "\r"),
    ] {
        let findings = findings(&server.url(), false, &trusting(&bundle)).await;
        assert_eq!(findings.tls, TlsFinding::Verified, "{bundle}");
    }
}

#[test]
fn rejects_ignored_certificate_with_its_line() {
    let (one, two) = (Authority::new("one").pem(), Authority::new("two").pem());
    let lines = one.lines().count();
    let commented: String = two.lines().flat_map(|line| ["# ", line, "\n"]).collect();
    for second in [
        two.replace("-----END CERTIFICATE-----", ""),
        two.replace("BEGIN CERTIFICATE", "BEGIN TRUSTED CERTIFICATE"),
        two.replace("-----END CERTIFICATE", "-----END X509"),
        commented,
    ] {
        let error = CaBundle::parse(format!("{one}{second}").as_bytes()).unwrap_err();
        assert_eq!(error, CaError::BrokenPem { line: lines + 1 }, "{second}");
    }
    let chain = format!("{one}{}", two.replace("-----END", "-----FIN"));
    let key = Authority::new("a").server(&["a"]).key_pem;
    assert_eq!(
        ClientIdentity::parse(chain.as_bytes(), key.as_bytes()).unwrap_err(),
        ClientCertificateError::NoCertificate
    );
}

/// What a handshake would find, if the CA alone was trusted.
fn defects(ca: &Authority, chain: &[rustls::pki_types::CertificateDer<'_>]) -> Vec<TlsDefect> {
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    ca.bundle().defects_of(chain, &"registry.example.com".parse().unwrap(), now)
}

fn changed(change: impl FnOnce(&mut CertificateParams)) -> Authority {
    let mut params = ca_params("company");
    change(&mut params);
    Authority::of(params)
}

const HOST: [&str; 1] = ["registry.example.com"];

#[test]
fn enforces_constraints_of_trusted_ca() {
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
    let constraints = [TlsDefect::Unusable(Unusable::Constraints)];
    for ca in [
        changed(|params| params.is_ca = IsCa::ExplicitNoCa),
        changed(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
        changed(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ] {
        assert_eq!(defects(&ca, &ca.server(&HOST).chain), constraints);
    }
    let short = changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert_eq!(defects(&short, &short.server(&HOST).chain), []);
    let below = short.intermediate(ca_params("intermediate"));
    assert_eq!(defects(&short, &below.server(&HOST).with(&below).chain), constraints);
    let unknown = changed(|params| {
        params.custom_extensions = vec![critical(&[1, 3, 6, 1, 4, 1, 99999, 2], &[5, 0])];
    });
    let named = TlsDefect::Unusable(Unusable::CriticalExtension("1.3.6.1.4.1.99999.2".into()));
    assert_eq!(defects(&unknown, &unknown.server(&HOST).chain), [named]);
}

#[test]
fn enforces_constraints_that_clients_enforce() {
    let root = Authority::new("company");
    let mut params = ca_params("intermediate");
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let below = root.intermediate(params);
    let chain = below.server(&HOST).with(&below).chain;
    assert_eq!(defects(&root, &chain), [TlsDefect::Unusable(Unusable::Constraints)]);
    let mut chain = root.server(&HOST).chain;
    chain.push(vec![0x30, 3, 2, 1, 5].into());
    assert_eq!(defects(&root, &chain), [TlsDefect::Unusable(Unusable::Unreadable)]);
}

#[test]
fn accepts_any_purpose_and_ipv4_mapped_addresses() {
    let root = Authority::new("company");
    let mut params = server_params(&HOST);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::Any];
    assert_eq!(defects(&root, &root.sign(&params).chain), []);
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let chain = root.server(&["::ffff:192.0.2.1"]).chain;
    assert_eq!(root.bundle().defects_of(&chain, &"192.0.2.1".parse().unwrap(), now), []);
}

#[test]
fn reissued_ca_with_other_key_type_is_unknown() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let anew = ca_params("company").self_signed(&key).unwrap();
    let bundle = CaBundle::parse(anew.pem().as_bytes()).unwrap();
    let chain = Authority::new("company").server(&HOST).chain;
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let found = bundle.defects_of(&chain, &"registry.example.com".parse().unwrap(), now);
    assert!(matches!(found[..], [TlsDefect::UnknownIssuer { self_signed: false, .. }]), "{found:?}");
}
