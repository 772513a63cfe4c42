//! TLS alerts: a server's reasons for ending a handshake, or a connection just after it.

use std::error::Error;
use std::io;

use rustls::AlertDescription;

use super::defect::{ClientCertificateFault, HandshakeFault, TlsDefect};

/// Whether the server requested a client certificate before the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientRequest {
    /// The server did not ask for one.
    NotAsked,
    /// The server asked; this is the fault of what it got.
    Asked(ClientCertificateFault),
}

/// The alert among the sources of an error, if any. In TLS 1.3, a refused client certificate shows only
/// in this way, when the first response is read.
#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
pub(crate) fn alert_in(error: &(dyn Error + 'static)) -> Option<AlertDescription> {
    match rustls_error_in(error)? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// The TLS error among the sources of an error, if any.
pub(super) fn rustls_error_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map_or_else(|| error.source(), |inner| Some(inner as &(dyn Error + 'static)));
    }
    None
}

/// The defect for an alert.
pub(crate) fn defect_of(alert: AlertDescription, client: ClientRequest) -> TlsDefect {
    match (alert, client) {
        (AlertDescription::CertificateRequired, ClientRequest::NotAsked) => {
            TlsDefect::ClientCertificateRequired(ClientCertificateFault::Missing)
        }
        (alert, ClientRequest::Asked(fault)) if is_about_client_certificate(alert) => {
            TlsDefect::ClientCertificateRequired(fault)
        }
        (alert, _) => TlsDefect::HandshakeFailed(fault_of(alert)),
    }
}

/// The defect if the server closed the connection. Some servers do so without an alert if they miss a client certificate.
pub(crate) fn closed_by_server(client: ClientRequest) -> TlsDefect {
    match client {
        ClientRequest::Asked(fault) => TlsDefect::ClientCertificateRequired(fault),
        ClientRequest::NotAsked => TlsDefect::HandshakeFailed(HandshakeFault::Closed),
    }
}

/// Whether an alert is about the client certificate (RFC 8446, section 6.2, and what TLS 1.2 servers send instead).
fn is_about_client_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
fn fault_of(alert: AlertDescription) -> HandshakeFault {
    match alert {
        AlertDescription::ProtocolVersion => HandshakeFault::ProtocolVersion,
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            HandshakeFault::NoCommonAlgorithm
        }
        AlertDescription::NoApplicationProtocol => HandshakeFault::NoHttp1,
        AlertDescription::UnrecognisedName => HandshakeFault::UnknownHost,
        other => HandshakeFault::Alert(other.into()),
    }
}
