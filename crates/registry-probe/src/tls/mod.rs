//! TLS: the certificate that a server presents, whether it is valid, and all of its defects if not.
//!
//! Covers certificates in all roles: the server's (`certificate`), the authorities' (`ca`), the client's
//! (`client_certificate`), the judgement of the first by the second (`judgement`), its place in a handshake
//! (`verifier`), and the handshake itself (`handshake`). Does not open connections, and sends no HTTP.

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
