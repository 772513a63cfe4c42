//! How servers are verified: the trusted authorities and the spec's settings.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::crypto::hash::{Hash, HashAlgorithm};
use rustls::pki_types::{ServerName, TrustAnchor};

use super::ca::CaBundle;
use super::client_certificate::ClientIdentity;
use crate::host::Host;

/// The public authorities and the crypto provider, built once because they are large.
pub(crate) struct TlsRoots {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) public: Vec<TrustAnchor<'static>>,
    pub(super) sha256: &'static dyn Hash,
}

impl TlsRoots {
    /// The public authorities (Mozilla's, as `webpki-roots` has them) and the one crypto provider.
    pub(crate) fn new() -> Option<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let sha256 = sha256_of(&provider)?;
        Some(Self { provider, public: webpki_roots::TLS_SERVER_ROOTS.to_vec(), sha256 })
    }
}

/// rustls hands out no hash function but those of its cipher suites.
fn sha256_of(provider: &CryptoProvider) -> Option<&'static dyn Hash> {
    let mut hashes =
        provider.cipher_suites.iter().filter_map(|suite| Some(suite.tls13()?.common.hash_provider));
    hashes.find(|hash| hash.algorithm() == HashAlgorithm::SHA256)
}

/// How servers are verified in one validation.
pub(crate) struct TlsPolicy {
    pub(crate) roots: Arc<TlsRoots>,
    /// Authorities that the administrator trusts, for every server.
    pub(crate) extra: Option<CaBundle>,
    pub(crate) ca: Option<CaBundle>,
    pub(crate) skip_verify: bool,
    pub(crate) client_certificate: Option<ClientIdentity>,
    pub(crate) now: Timestamp,
}

impl TlsPolicy {
    /// The policy for a server that isn't the target's, such as the proxy.
    pub(crate) fn without_target(&self) -> Self {
        let (roots, extra) = (self.roots.clone(), self.extra.clone());
        Self { roots, extra, ca: None, skip_verify: false, client_certificate: None, now: self.now }
    }
}

/// The name that a certificate of `host` must have; `None` if no certificate can name it.
pub(super) fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.clone()).ok(),
        Host::Address(address) => Some(ServerName::from(*address)),
    }
}
