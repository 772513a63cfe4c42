//! Certificates for tests, made around the tests' own time.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use registry_probe::{CaBundle, ClientIdentity};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

/// A certification authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, and the intermediates to show with it.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub pem: String,
    pub key_pem: String,
}

pub fn server_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = named("registry");
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

pub fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

pub fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::of(ca_params(name))
    }

    pub fn of(params: CertificateParams) -> Self {
        Self { issuer: CertifiedIssuer::self_signed(params, key()).unwrap() }
    }

    /// An authority below this one.
    pub fn intermediate(&self, params: CertificateParams) -> Self {
        Self { issuer: CertifiedIssuer::signed_by(params, key(), &self.issuer).unwrap() }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn bundle(&self) -> CaBundle {
        CaBundle::parse(self.pem().as_bytes()).unwrap()
    }

    /// A certificate for these names and addresses.
    pub fn server(&self, names: &[&str]) -> Leaf {
        self.sign(&server_params(names))
    }

    pub fn sign(&self, params: &CertificateParams) -> Leaf {
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        leaf(&certificate, &key)
    }

    /// A client certificate.
    pub fn client(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ClientIdentity {
        let mut params = server_params(&[]);
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        // Servers judge these by the real clock.
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        change(&mut params);
        let leaf = self.sign(&params);
        ClientIdentity::parse(leaf.pem.as_bytes(), leaf.key_pem.as_bytes()).unwrap()
    }
}

pub fn self_signed(params: &CertificateParams) -> Leaf {
    let key = key();
    let certificate = params.self_signed(&key).unwrap();
    leaf(&certificate, &key)
}

fn leaf(certificate: &rcgen::Certificate, key: &KeyPair) -> Leaf {
    Leaf {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Leaf {
    /// A certificate that rcgen can't make, with its key.
    pub fn from_pem(pem: &str, key_pem: &str) -> Self {
        use rustls::pki_types::pem::PemObject;
        Self {
            chain: vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()],
            key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap(),
            pem: pem.to_owned(),
            key_pem: key_pem.to_owned(),
        }
    }

    /// A server that shows this certificate, though rustls would not read it.
    pub fn config_unread(self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
        let key = provider().key_provider.load_private_key(self.key).unwrap();
        let shown = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(self.chain, key));
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown))
    }

    pub fn bundle(&self) -> CaBundle {
        CaBundle::parse(self.pem.as_bytes()).unwrap()
    }

    /// Shown together with this intermediate.
    pub fn with(mut self, authority: &Authority) -> Self {
        self.chain.push(authority.der());
        self
    }

    /// A server that shows this certificate.
    pub fn config(self) -> ServerConfig {
        self.config_of(rustls::ALL_VERSIONS)
    }

    pub fn config_of(self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)
            .unwrap()
    }

    /// A server that takes a certificate of `authority`'s from its clients, and goes on without.
    pub fn config_inviting_clients_of(self, authority: &Authority) -> ServerConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            .with_single_cert(self.chain, self.key)
            .unwrap()
    }

    /// A server that wants its clients to show a certificate of `authority`'s.
    pub fn config_for_clients_of(
        self,
        authority: &Authority,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ServerConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain, self.key)
            .unwrap()
    }
}
