//! The handshake: a connection goes in, an encrypted one or the defects come out.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::hash::{Hash, HashAlgorithm};
use rustls::pki_types::{ServerName, TrustAnchor};
use rustls::{ClientConfig, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::alert::{ClientRequest, broken_off, defect_of, rustls_error_in};
use super::ca::CaBundle;
use super::certificate::{PresentedCertificate, TlsVersion};
use super::client_certificate::ClientIdentity;
use super::defect::{ClientCertificateFault, HandshakeFault, TlsDefect};
use super::recording_verifier::{CertificateRecord, RecordingVerifier};
use crate::host::Host;

/// What is the same for every validation: built once, for it is large.
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

/// How a handshake ended.
pub(crate) struct Handshake<S> {
    /// The encrypted connection, or the defects that kept it from being made, at least one.
    pub(crate) stream: Result<Box<TlsStream<S>>, Vec<TlsDefect>>,
    /// What is wrong with the certificate, passed or not.
    pub(crate) certificate_defects: Vec<TlsDefect>,
    /// The certificate, if one was shown.
    pub(crate) presented: Option<PresentedCertificate>,
    /// Whether the server asked for a client certificate, and what it got.
    pub(crate) client: ClientRequest,
}

impl TlsPolicy {
    /// The policy for a server that the target's spec says nothing of.
    pub(crate) fn without_target(&self) -> Self {
        let (roots, extra) = (self.roots.clone(), self.extra.clone());
        Self { roots, extra, ca: None, skip_verify: false, client_certificate: None, now: self.now }
    }

    /// Shakes hands with `host`; the client certificate is shown only if `trusted`.
    pub(crate) async fn shake<S>(self: &Arc<Self>, host: &Host, trusted: bool, io: S) -> Handshake<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let own = self.client_certificate.as_ref().filter(|_| trusted);
        let witness = Arc::new(RecordingVerifier::new(self.clone(), own.map(ClientIdentity::key)));
        let stream = match (self.config(&witness), server_name(host)) {
            (Ok(config), Some(name)) => TlsConnector::from(Arc::new(config)).connect(name, io).await,
            _ => Err(io::Error::other("no TLS configuration")),
        };
        let record = witness.record();
        let client = self.client_request(&record, own);
        let version = stream.as_ref().ok().and_then(version_of);
        let presented = record.presented.map(|shown| PresentedCertificate { version, ..shown });
        let stream = stream.map(Box::new).map_err(|error| defects_of(&error, &record.defects, client));
        Handshake { stream, certificate_defects: record.defects, presented, client }
    }

    fn config(&self, witness: &Arc<RecordingVerifier>) -> Result<ClientConfig, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(self.roots.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(witness.clone())
            .with_client_cert_resolver(witness.clone());
        // No session outlives a validation: it would carry a client certificate's authority over to the next.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn client_request(&self, record: &CertificateRecord, own: Option<&ClientIdentity>) -> ClientRequest {
        if !record.asked_for_client_certificate {
            return ClientRequest::NotAsked;
        }
        ClientRequest::Asked(match own {
            None => ClientCertificateFault::Missing,
            Some(own) if own.not_after() < self.now => ClientCertificateFault::Expired,
            Some(_) => ClientCertificateFault::Refused,
        })
    }
}

pub(super) fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.clone()).ok(),
        Host::Address(address) => Some(ServerName::from(*address)),
    }
}

fn version_of<S>(stream: &TlsStream<S>) -> Option<TlsVersion> {
    match stream.get_ref().1.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Some(TlsVersion::Tls12),
        ProtocolVersion::TLSv1_3 => Some(TlsVersion::Tls13),
        _ => None,
    }
}

fn defects_of(error: &io::Error, certificate: &[TlsDefect], client: ClientRequest) -> Vec<TlsDefect> {
    let defect = match rustls_error_in(error) {
        Some(rustls::Error::InvalidCertificate(_)) if !certificate.is_empty() => return certificate.to_vec(),
        Some(rustls::Error::AlertReceived(alert)) => defect_of(*alert, client),
        Some(error) => TlsDefect::HandshakeFailed(fault_of(error)),
        None => broken_off(client),
    };
    vec![defect]
}

fn fault_of(error: &rustls::Error) -> HandshakeFault {
    match error {
        rustls::Error::InvalidMessage(_) => HandshakeFault::NotTls,
        rustls::Error::PeerIncompatible(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            HandshakeFault::ProtocolVersion
        }
        rustls::Error::PeerIncompatible(_) => HandshakeFault::NoCommonAlgorithm,
        rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature) => {
            HandshakeFault::BadSignature
        }
        rustls::Error::NoApplicationProtocol => HandshakeFault::NoHttp1,
        _ => HandshakeFault::Other,
    }
}
