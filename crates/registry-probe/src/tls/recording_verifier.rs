//! The verifier that rustls calls during a handshake. It records all defects.
//!
//! Verifies and records even if verification is skipped. The server's signature over the
//! handshake is checked in either case, so that the connection is with the holder of the
//! described certificate.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use webpki::{EndEntityCert, RawPublicKeyEntity};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::{Authority, CaBundle};
use super::certificate::{LEAST_RSA_BITS, PresentedCertificate, rsa_bits};
use super::chain_verifier::{ChainVerifier, PeerChain, defects};
use super::defect::TlsDefect;
use super::policy::TlsPolicy;

/// The record of one handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct CertificateRecord {
    /// `None`: the server did not come to show one, or it can't be parsed.
    pub(super) presented: Option<PresentedCertificate>,
    /// All that is wrong with it.
    pub(super) defects: Vec<TlsDefect>,
    /// The server asked for a certificate from the client.
    pub(super) asked_for_client_certificate: bool,
}

/// The verifier and the client certificate resolver of one handshake, and their record.
pub(super) struct RecordingVerifier {
    policy: Arc<TlsPolicy>,
    client_certificate: Option<Arc<CertifiedKey>>,
    record: Mutex<CertificateRecord>,
}

impl RecordingVerifier {
    pub(super) fn new(policy: Arc<TlsPolicy>, client_certificate: Option<Arc<CertifiedKey>>) -> Self {
        Self { policy, client_certificate, record: Mutex::default() }
    }

    pub(super) fn record(&self) -> CertificateRecord {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut CertificateRecord)) {
        change(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn describe(&self, leaf: &CertificateDer<'_>) -> Option<PresentedCertificate> {
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        Some(PresentedCertificate::describe(leaf, &parsed, self.policy.roots.sha256))
    }
}

/// The key of a certificate that rustls would not read, though Go's and OpenSSL's clients do.
enum UnreadKey {
    /// The key itself: the handshake's signature is verified by it.
    Raw(SubjectPublicKeyInfoDer<'static>),
    /// So small an RSA key that the crypto provider verifies nothing by it. Only where verification is skipped: anyone who is in
    /// the middle there can show a certificate of his own anyway.
    Unverifiable,
}

impl RecordingVerifier {
    /// None where rustls reads the certificate itself.
    fn unread_key(&self, leaf: &CertificateDer<'_>) -> Option<UnreadKey> {
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        if self.policy.skip_verify && rsa_bits(&parsed).is_some_and(|bits| bits < LEAST_RSA_BITS) {
            return Some(UnreadKey::Unverifiable);
        }
        EndEntityCert::try_from(leaf).err()?;
        Some(UnreadKey::Raw(SubjectPublicKeyInfoDer::from(parsed.public_key().raw).into_owned()))
    }
}

/// RFC 5246, section 4.7, as [`verify_tls12_signature`] does it.
fn verify_by_raw_key(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let bad = || Error::from(CertificateError::BadSignature);
    let key = RawPublicKeyEntity::try_from(key).map_err(|_| bad())?;
    let of_scheme = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signature.scheme);
    let mut of_scheme = of_scheme.flat_map(|(_, algorithms)| algorithms.iter());
    let is_good =
        of_scheme.any(|algorithm| key.verify_signature(*algorithm, message, signature.signature()).is_ok());
    if is_good { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad()) }
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let own: Vec<&Authority> =
            self.policy.ca.iter().chain(&self.policy.extra).flat_map(CaBundle::authorities).collect();
        let verifier = ChainVerifier {
            public: &self.policy.roots.public,
            own: &own,
            algorithms: self.policy.roots.provider.signature_verification_algorithms.all,
            now: self.policy.now,
        };
        let defects = defects(&verifier, &PeerChain { leaf, intermediates, server });
        let refusal = defects.first().map(refusal).filter(|_| !self.policy.skip_verify);
        let presented = self.describe(leaf);
        self.note(|record| (record.presented, record.defects) = (presented, defects));
        refusal.map_or(Ok(ServerCertVerified::assertion()), |error| Err(error.into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.policy.roots.provider.signature_verification_algorithms;
        match self.unread_key(leaf) {
            None => verify_tls12_signature(message, leaf, signature, algorithms),
            Some(UnreadKey::Unverifiable) => Ok(HandshakeSignatureValid::assertion()),
            Some(UnreadKey::Raw(key)) => verify_by_raw_key(message, &key, signature, algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.policy.roots.provider.signature_verification_algorithms;
        match self.unread_key(leaf) {
            None => verify_tls13_signature(message, leaf, signature, algorithms),
            Some(UnreadKey::Unverifiable) => Ok(HandshakeSignatureValid::assertion()),
            Some(UnreadKey::Raw(key)) => {
                verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.policy.roots.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The error for the alert that ends the handshake.
fn refusal(defect: &TlsDefect) -> CertificateError {
    match defect {
        TlsDefect::UnknownIssuer { .. } => CertificateError::UnknownIssuer,
        TlsDefect::Expired { .. } => CertificateError::Expired,
        TlsDefect::NotYetValid { .. } => CertificateError::NotValidYet,
        TlsDefect::HostnameMismatch { .. } => CertificateError::NotValidForName,
        TlsDefect::ClientCertificateRequired(_) | TlsDefect::HandshakeFailed(_) | TlsDefect::Unusable(_) => {
            CertificateError::ApplicationVerificationFailure
        }
    }
}

impl ResolvesClientCert for RecordingVerifier {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.note(|record| record.asked_for_client_certificate = true);
        self.client_certificate.clone()
    }

    fn has_certs(&self) -> bool {
        // `true` even without one: rustls would not ask otherwise, and that the server asks is worth knowing.
        true
    }
}

impl fmt::Debug for RecordingVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}
