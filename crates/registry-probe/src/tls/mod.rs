//! TLS: the certificate that a server presents, whether it can be trusted, and everything that is wrong with it if not.
//!
//! Opens no connection and sends no HTTP.
//!
//! - `alert`: TLS alerts, the reasons that a server gives for ending a handshake.
//! - `ca`: a user's bundle of certificate authorities.
//! - `certificate`: the presented certificate, as the status shows it.
//! - `chain_verifier`: verifies a chain, and finds every defect instead of the first.
//! - `client_certificate`: the certificate and key for mutual TLS.
//! - `defect`: what can be wrong with a handshake or a certificate.
//! - `handshake`: turns a TCP connection into a TLS connection, or into defects.
//! - `pem`: certificates in PEM text (RFC 7468).
//! - `policy`: the trusted authorities, and whether verification is skipped.
//! - `recording_verifier`: the verifier that rustls calls, which records all defects.

mod alert;
mod ca;
mod certificate;
mod chain_verifier;
mod client_certificate;
mod defect;
mod handshake;
mod pem;
mod policy;
mod recording_verifier;

pub use ca::{CaBundle, CaError};
pub use certificate::{PresentedCertificate, TlsVersion};
pub use client_certificate::{ClientCertificateError, ClientIdentity};
pub use defect::{ClientCertificateFault, HandshakeFault, TlsDefect, Unusable};

pub(crate) use alert::{ClientRequest, alert_in, closed_by_server, defect_of};
pub(crate) use policy::{TlsPolicy, TlsRoots};
