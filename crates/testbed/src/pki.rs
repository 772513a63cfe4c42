//! Certificate authorities, and the valid and invalid certificates that tests and the control plane need.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot issue a certificate for {name}: {source}")]
pub struct PkiError {
    /// The common name.
    pub name: String,
    /// What rcgen says.
    pub source: rcgen::Error,
}

/// A certificate authority, with its key.
#[derive(Debug)]
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS servers.
    Server,
    /// TLS clients.
    Client,
}

/// The content of a certificate. Start from [`LeafOptions::server`] or [`LeafOptions::client`].
#[derive(Debug, Clone)]
pub struct LeafOptions {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations; Kubernetes reads them as groups.
    pub organizations: Vec<String>,
    /// Alternative names.
    pub dns_names: Vec<String>,
    /// Alternative addresses.
    pub ips: Vec<IpAddr>,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// What it is for.
    pub usage: Usage,
}

impl LeafOptions {
    /// A server certificate for `127.0.0.1`, `::1` and `localhost`, valid from an hour ago for a year.
    pub fn server(common_name: impl Into<String>) -> Self {
        Self {
            dns_names: vec![String::from("localhost")],
            ips: vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])],
            ..Self::client(common_name, Vec::<String>::new())
        }
        .used_by(Usage::Server)
    }

    /// A client certificate of a user in these groups, valid from an hour ago for a year.
    pub fn client(user: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let now = now();
        Self {
            common_name: user.into(),
            organizations: groups.into_iter().map(Into::into).collect(),
            dns_names: Vec::new(),
            ips: Vec::new(),
            not_before: now - HOUR,
            not_after: now + 365 * DAY,
            usage: Usage::Client,
        }
    }

    /// The same, but valid only until an hour ago.
    #[must_use]
    pub fn expired(self) -> Self {
        self.valid(now() - DAY, now() - HOUR)
    }

    /// The same, but valid only from tomorrow on.
    #[must_use]
    pub fn not_yet_valid(self) -> Self {
        self.valid(now() + DAY, now() + 2 * DAY)
    }

    /// The same, but for another host only: `wrong.example.com`.
    #[must_use]
    pub fn wrong_host(mut self) -> Self {
        self.dns_names = vec![String::from("wrong.example.com")];
        self.ips = Vec::new();
        self
    }

    /// The same, with this validity.
    #[must_use]
    pub fn valid(mut self, not_before: SystemTime, not_after: SystemTime) -> Self {
        (self.not_before, self.not_after) = (not_before, not_after);
        self
    }

    /// The same, with one more DNS name.
    #[must_use]
    pub fn dns_name(mut self, name: impl Into<String>) -> Self {
        self.dns_names.push(name.into());
        self
    }

    fn used_by(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        for organization in &self.organizations {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.not_before = self.not_before.into();
        params.not_after = self.not_after.into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match self.usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        params
    }

    fn alternative_names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let names = self.dns_names.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
        let ips = self.ips.iter().map(|ip| Ok(SanType::IpAddress(*ip)));
        names.chain(ips).collect()
    }
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Leaf {
    certificate_pem: String,
    key_pem: String,
}

impl Leaf {
    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key in PEM (PKCS #8).
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A self-signed server certificate that isn't a CA.
    pub fn self_signed(options: &LeafOptions) -> Result<Self, PkiError> {
        let make = || {
            let mut params = options.params();
            params.subject_alt_names = options.alternative_names()?;
            let key = KeyPair::generate()?;
            Ok(Self { certificate_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() })
        };
        make().map_err(|source| PkiError { name: options.common_name.clone(), source })
    }
}

impl TestCa {
    /// A new authority with this common name, valid for ten years.
    pub fn new(name: &str) -> Result<Self, PkiError> {
        Self::generate(name).map_err(|source| PkiError { name: name.to_owned(), source })
    }

    /// The authority's certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate with a new key.
    pub fn issue(&self, options: &LeafOptions) -> Result<Leaf, PkiError> {
        self.sign(options).map_err(|source| PkiError { name: options.common_name.clone(), source })
    }

    fn generate(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now() - HOUR).into();
        params.not_after = (now() + 3650 * DAY).into();
        let key = KeyPair::generate()?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    fn sign(&self, options: &LeafOptions) -> Result<Leaf, rcgen::Error> {
        let mut params = options.params();
        params.subject_alt_names = options.alternative_names()?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

/// A signing key for service account tokens.
pub(crate) fn token_key() -> Result<(String, String), PkiError> {
    let key = KeyPair::generate()
        .map_err(|source| PkiError { name: String::from("service account tokens"), source })?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

#[expect(clippy::disallowed_methods, reason = "certificates that tests hold now are valid or expired now")]
fn now() -> SystemTime {
    SystemTime::now()
}
