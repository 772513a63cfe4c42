//! The client certificate with its key, from PEM text.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{LEAST_RSA_BITS, moment, rsa_bits};
use super::pem::certificates_in;

/// A certificate chain and its key. Cheap to clone; never shown.
#[derive(Clone)]
pub struct ClientIdentity {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

/// Why a client certificate or its key is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientCertificateError {
    /// Larger than a Secret can be.
    #[error("is larger than 1 MiB; keep one certificate chain in tls.crt")]
    TooLarge,
    /// There is no certificate in `tls.crt`, or it can't be read.
    #[error("has no valid PEM certificate in tls.crt; correct it")]
    NoCertificate,
    /// The key is encrypted with a passphrase.
    #[error("has an encrypted private key; put it in tls.key without a passphrase")]
    EncryptedKey,
    /// There is no private key in `tls.key`, or it is of an unknown kind.
    #[error("has no valid PEM private key in tls.key; correct it")]
    NoKey,
    /// The key is an RSA key that is too small for the library.
    #[error("has an RSA key of {0} bits; use at least 2048")]
    WeakKey(usize),
    /// The key doesn't belong to the certificate.
    #[error("has a private key that does not match the certificate; replace tls.crt or tls.key")]
    Mismatch,
}

const LARGEST_PART: usize = 1024 * 1024;

impl ClientIdentity {
    /// Reads a Secret of type `kubernetes.io/tls`: `tls.crt` and `tls.key`.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, ClientCertificateError> {
        if certificate.len() > LARGEST_PART || key.len() > LARGEST_PART {
            return Err(ClientCertificateError::TooLarge);
        }
        let chain = certificates_in(certificate).ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or(ClientCertificateError::NoCertificate)?;
        let leaf = chain.first().ok_or(ClientCertificateError::NoCertificate)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| ClientCertificateError::NoCertificate)?;
        let not_after = moment(leaf.validity().not_after.timestamp());
        let key = load_key(parse_key(key)?, &leaf)?;
        Ok(Self { key: Arc::new(CertifiedKey::new(chain, key)), not_after })
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    pub(super) fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The key, if it is the certificate's. Not asked of rustls, which does not read all certificates that servers accept.
fn load_key(
    key: PrivateKeyDer<'static>,
    leaf: &X509Certificate<'_>,
) -> Result<Arc<dyn SigningKey>, ClientCertificateError> {
    let key = provider().key_provider.load_private_key(key).map_err(|_| match rsa_bits(leaf) {
        Some(bits) if bits < LEAST_RSA_BITS => ClientCertificateError::WeakKey(bits),
        _ => ClientCertificateError::NoKey,
    })?;
    let is_pair = key.public_key().is_none_or(|public| public.as_ref() == leaf.public_key().raw);
    if is_pair { Ok(key) } else { Err(ClientCertificateError::Mismatch) }
}

fn parse_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, ClientCertificateError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| {
        let encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
        let holds = |mark: &&[u8]| text.windows(mark.len()).any(|window| window == *mark);
        if encrypted.iter().any(holds) {
            ClientCertificateError::EncryptedKey
        } else {
            ClientCertificateError::NoKey
        }
    })
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate([REDACTED])")
    }
}
