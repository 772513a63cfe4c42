//! The certificate that the console serves HTTPS with, read at start and whenever its files change.
//!
//! The files are usually a mounted Secret, which the kubelet swaps. Invalid new files change nothing, and are logged.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use thiserror::Error;

/// How often the files are read again. The kubelet itself takes about a minute.
const LOOK: Duration = Duration::from_secs(5);

/// Why the console can't serve HTTPS with the files.
#[derive(Debug, Error)]
pub enum ServingCertificateError {
    /// A file can't be read.
    #[error("failed to read {flag} {}: {error}", path.display())]
    Unreadable {
        /// The file's flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// A file doesn't hold what it should.
    #[error("{flag} {} contains no {what}", path.display())]
    Unusable {
        /// The file's flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is missing: a PEM certificate or a PEM private key.
        what: &'static str,
    },
    /// The key isn't the certificate's, or of no kind that TLS uses.
    #[error("--tls-key is not the key of the certificate in --tls-cert: {0}")]
    Mismatch(rustls::Error),
}

/// The files, with their contents when they were last read, and the certificate that is used.
#[derive(Debug)]
pub struct ServingCertificate {
    cert: PathBuf,
    key: PathBuf,
    /// What the files held when they were last read.
    text: (Vec<u8>, Vec<u8>),
    used: Arc<UsedCertificate>,
}

/// The certificate that is used. Shared with all connections.
#[derive(Debug)]
struct UsedCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for UsedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl ServingCertificate {
    /// Reads the files.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, ServingCertificateError> {
        let text = read_both(cert, key)?;
        let used = Arc::new(UsedCertificate(RwLock::new(parse(cert, key, &text)?)));
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), text, used })
    }

    /// TLS 1.2 and 1.3, for HTTP/1.1.
    pub fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.used.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Reads the files again and again, and uses a certificate that changed for new connections. Never returns.
    pub async fn follow(mut self) {
        let mut is_logged = false;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.reload() {
                Ok(false) => is_logged = false,
                Ok(true) => {
                    is_logged = false;
                    tracing::info!(path = %self.cert.display(), "--tls-cert changed; serving its certificate");
                }
                // Logs once per problem, until someone fixes the files.
                Err(error) if !is_logged => {
                    is_logged = true;
                    tracing::error!("{error}; still serving the previous certificate");
                }
                Err(_) => {}
            }
        }
    }

    /// Returns whether the files have changed. The two may be swapped one after the other: what doesn't fit is read again.
    fn reload(&mut self) -> Result<bool, ServingCertificateError> {
        let text = read_both(&self.cert, &self.key)?;
        if text == self.text {
            return Ok(false);
        }
        let parsed = parse(&self.cert, &self.key, &text)?;
        *self.used.0.write().unwrap_or_else(PoisonError::into_inner) = parsed;
        self.text = text;
        Ok(true)
    }
}

fn read_both(cert: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), ServingCertificateError> {
    Ok((read("--tls-cert", cert)?, read("--tls-key", key)?))
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, ServingCertificateError> {
    let unreadable = |error| ServingCertificateError::Unreadable { flag, path: path.to_owned(), error };
    std::fs::read(path).map_err(unreadable)
}

fn parse(
    cert: &Path,
    key: &Path,
    (cert_text, key_text): &(Vec<u8>, Vec<u8>),
) -> Result<Arc<CertifiedKey>, ServingCertificateError> {
    let unusable =
        |flag, path: &Path, what| ServingCertificateError::Unusable { flag, path: path.to_owned(), what };
    let chain: Option<Vec<_>> = CertificateDer::pem_slice_iter(cert_text).map(Result::ok).collect();
    let chain = chain.filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| unusable("--tls-cert", cert, "valid PEM certificate"))?;
    // The parser's own error could hold a part of the key.
    let private = PrivateKeyDer::from_pem_slice(key_text);
    let private = private.map_err(|_| unusable("--tls-key", key, "valid PEM private key"))?;
    let certified = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider());
    certified.map(Arc::new).map_err(ServingCertificateError::Mismatch)
}

#[cfg(test)]
mod tests {
    use registry_testbed::{LeafOptions, TestCa};

    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn write(&self, cert: &str, key: &str) {
            std::fs::write(self.0.path().join("tls.crt"), cert).unwrap();
            std::fs::write(self.0.path().join("tls.key"), key).unwrap();
        }

        fn read(&self) -> Result<ServingCertificate, ServingCertificateError> {
            ServingCertificate::read(&self.0.path().join("tls.crt"), &self.0.path().join("tls.key"))
        }
    }

    fn files() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    #[test]
    fn changed_files_are_served_and_broken_ones_ignored() {
        let ca = TestCa::new("ca").unwrap();
        let leaf = || ca.issue(&LeafOptions::server("console")).unwrap();
        let (one, two, files) = (leaf(), leaf(), files());
        files.write(one.certificate_pem(), one.key_pem());
        let mut serving = files.read().unwrap();
        let served = |serving: &ServingCertificate| serving.used.0.read().unwrap().cert.clone();
        let first = served(&serving);
        assert!(!serving.reload().unwrap());
        files.write(two.certificate_pem(), one.key_pem());
        let error = serving.reload().unwrap_err();
        assert!(matches!(error, ServingCertificateError::Mismatch(_)), "{error}");
        assert_eq!(served(&serving), first);
        files.write(two.certificate_pem(), two.key_pem());
        assert!(serving.reload().unwrap() && served(&serving) != first);
    }

    #[test]
    fn unusable_files_are_named_and_not_shown() {
        let ca = TestCa::new("ca").unwrap();
        let (leaf, files) = (ca.issue(&LeafOptions::server("console")).unwrap(), files());
        assert!(files.read().unwrap_err().to_string().starts_with("failed to read --tls-cert "));
        files.write("nothing", leaf.key_pem());
        assert!(files.read().unwrap_err().to_string().ends_with("contains no valid PEM certificate"));
        files.write(leaf.certificate_pem(), "HUSH");
        let error = files.read().unwrap_err().to_string();
        assert!(error.contains("--tls-key") && !error.contains("HUSH"), "{error}");
    }
}
