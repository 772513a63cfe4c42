//! The certificate that a client shows, with its key, from PEM text.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate chain and its key. Cheap to clone; never shown.
#[derive(Clone)]
pub struct ClientCertificate {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

/// Why two texts are not a client certificate and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientCertificateError {
    /// Larger than a Secret can be.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// There is no certificate in `tls.crt`, or it can't be read.
    #[error("holds no certificate in PEM form that can be read")]
    NoCertificate,
    /// The key has a passphrase, which nobody is here to type.
    #[error("holds a private key that is encrypted")]
    EncryptedKey,
    /// There is no private key in `tls.key`, or it is of an unknown kind.
    #[error("holds no private key in PEM form that can be read")]
    NoKey,
    /// The two are not a pair.
    #[error("holds a private key that does not belong to its certificate")]
    Mismatch,
}

const LARGEST_PART: usize = 1024 * 1024;

impl ClientCertificate {
    /// Reads a Secret of type `kubernetes.io/tls`: `tls.crt` and `tls.key`.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, ClientCertificateError> {
        if certificate.len() > LARGEST_PART || key.len() > LARGEST_PART {
            return Err(ClientCertificateError::TooLarge);
        }
        let chain = parse_chain(certificate)?;
        let not_after = end_of(&chain).ok_or(ClientCertificateError::NoCertificate)?;
        let key =
            CertifiedKey::from_der(chain, parse_key(key)?, &provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => ClientCertificateError::Mismatch,
                _ => ClientCertificateError::NoKey,
            })?;
        Ok(Self { key: Arc::new(key), not_after })
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

fn parse_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, ClientCertificateError> {
    let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or(ClientCertificateError::NoCertificate)
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

fn end_of(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
    Timestamp::from_second(leaf.validity().not_after.timestamp()).ok()
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate([REDACTED])")
    }
}
