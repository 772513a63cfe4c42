//! The TLS handshake: turns a connection into an encrypted one, or returns the defects.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::alert::{ClientRequest, closed_by_server, defect_of, rustls_error_in};
use super::certificate::{PresentedCertificate, TlsVersion};
use super::client_certificate::ClientIdentity;
use super::defect::{ClientCertificateFault, HandshakeFault, TlsDefect};
use super::policy::{TlsPolicy, server_name};
use super::recording_verifier::{CertificateRecord, RecordingVerifier};
use crate::host::Host;

/// How a handshake ended.
pub(crate) struct Handshake<S> {
    /// The encrypted connection, or the defects that kept it from being made, at least one.
    pub(crate) stream: Result<Box<TlsStream<S>>, Vec<TlsDefect>>,
    /// The certificate's defects, even if verification is skipped.
    pub(crate) certificate_defects: Vec<TlsDefect>,
    /// The certificate, if one was shown.
    pub(crate) presented: Option<PresentedCertificate>,
    /// Whether the server asked for a client certificate, and what it got.
    pub(crate) client: ClientRequest,
}

impl TlsPolicy {
    /// Performs the TLS handshake with `host`. The client certificate is sent only if `trusted`.
    pub(crate) async fn handshake<S>(self: &Arc<Self>, host: &Host, trusted: bool, io: S) -> Handshake<S>
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
        let presented = record.presented.map(|peer| PresentedCertificate { version, ..peer });
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

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
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
        None => closed_by_server(client),
    };
    vec![defect]
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
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
