//! The defects of handshakes and certificates.

use std::fmt;

use jiff::Timestamp;

/// A defect. The order of the variants is the order in which they are reported: the more
/// fundamental first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsDefect {
    /// The handshake failed, for a reason that isn't the certificate.
    HandshakeFailed(HandshakeFault),
    /// The server requires a client certificate: none was given, or it was refused.
    ClientCertificateRequired(ClientCertificateFault),
    /// The certificate can't be read, or is not one for servers.
    Unusable(Unusable),
    /// Neither a public authority nor the given CA signed it.
    UnknownIssuer {
        /// The issuer that the certificate names.
        issuer: String,
        /// It is signed by itself.
        self_signed: bool,
    },
    /// It has expired.
    Expired {
        /// When.
        not_after: Timestamp,
        /// The certificate that ended, if it is not the server's own but one of its issuers'.
        issuer: Option<String>,
    },
    /// It isn't valid yet.
    NotYetValid {
        /// When.
        not_before: Timestamp,
        /// The certificate that is yet to begin, if it is not the server's own but one of its issuers'.
        issuer: Option<String>,
    },
    /// It is for other hosts.
    HostnameMismatch {
        /// The host that was connected to.
        expected: String,
        /// The names that it is for, at most ten.
        names: Vec<String>,
    },
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFault {
    /// The server does not speak TLS on this port.
    NotTls,
    /// It offers neither TLS 1.2 nor TLS 1.3.
    ProtocolVersion,
    /// No algorithm that both sides take.
    NoCommonAlgorithm,
    /// It offers no HTTP/1.1.
    NoHttp1,
    /// It knows no host of that name (`unrecognized_name`).
    UnknownHost,
    /// It closed or reset the connection in the middle.
    Closed,
    /// Its signature over the handshake is wrong: it does not hold the certificate's key.
    BadSignature,
    /// It gave up with an alert of this number (RFC 8446, section 6).
    Alert(u8),
    /// Something else than a list of tags.
    Other,
}

/// What is wrong with the client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificateFault {
    /// None was given.
    Missing,
    /// The given one was refused.
    Refused,
    /// The given one was refused, and it has ended.
    Expired,
}

/// Why a certificate is unusable for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// It, or one that it rests on, can't be parsed.
    Unreadable,
    /// It, or one that it rests on, has a critical extension that is not processed here: its name and OID.
    CriticalExtension(String),
    /// It, or one that it rests on, is of X.509 version 1 or 2, which has no place for the hosts that it is for.
    Version(u32),
    /// Its RSA key, or that of one that it rests on, has only so many bits.
    WeakKey(usize),
    /// Its extended key usage leaves out servers.
    NotForServers,
    /// It is an authority's certificate, used as a server's.
    AuthorityAsServer,
    /// It is signed with an algorithm that is not accepted, such as SHA-1.
    Algorithm,
    /// An authority may not sign it, by its own constraints.
    Constraints,
    /// It, or one that was shown with it or that it rests on, has a negative serial number, which Go's clients can't read.
    NegativeSerialNumber,
    /// More intermediates than WebPKI goes along, which is 6.
    LongChain,
    /// It, or one that it rests on, is valid since before 1970, for which WebPKI has no dates.
    BeforeEpoch,
}

impl TlsDefect {
    /// Whether a retry alone may change this.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::HandshakeFailed(fault) => fault.is_transient(),
            Self::UnknownIssuer { .. }
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::HostnameMismatch { .. }
            | Self::ClientCertificateRequired(_)
            | Self::Unusable(_) => false,
        }
    }
}

impl HandshakeFault {
    fn is_transient(self) -> bool {
        match self {
            Self::Closed => true,
            Self::NotTls
            | Self::ProtocolVersion
            | Self::NoCommonAlgorithm
            | Self::NoHttp1
            | Self::UnknownHost
            | Self::BadSignature
            | Self::Alert(_)
            | Self::Other => false,
        }
    }
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("the server does not speak TLS on this port"),
            Self::ProtocolVersion => f.write_str("the server offers neither TLS 1.2 nor TLS 1.3"),
            Self::NoCommonAlgorithm => f.write_str("client and server have no algorithm in common"),
            Self::NoHttp1 => f.write_str("the server does not offer HTTP/1.1"),
            Self::UnknownHost => f.write_str("the server does not know this host name"),
            Self::Closed => f.write_str("the server closed the connection during the handshake"),
            Self::BadSignature => f.write_str("the server's signature does not match its certificate"),
            Self::Alert(number) => write!(f, "the server sent TLS alert {number}"),
            Self::Other => f.write_str("the server sent an unexpected message"),
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "the certificate can't be parsed",
            Self::CriticalExtension(name) => {
                return write!(
                    f,
                    "the certificate or its issuer has the unsupported critical extension {name}"
                );
            }
            Self::Version(number) => {
                return write!(f, "the certificate or its issuer uses X.509 version {number}, not 3");
            }
            Self::WeakKey(bits) => {
                return write!(
                    f,
                    "the certificate or its issuer has an RSA key of {bits} bits, fewer than 2048"
                );
            }
            Self::NotForServers => {
                "the certificate's extended key usage does not include server authentication"
            }
            Self::AuthorityAsServer => "the certificate is a CA certificate, not a server certificate",
            Self::Algorithm => "the certificate is signed with an unsupported algorithm, such as SHA-1",
            Self::NegativeSerialNumber => {
                "the certificate or its issuer has a negative serial number, which Go's clients refuse"
            }
            Self::LongChain => {
                "the certificate's chain has more than 6 intermediates, which is not supported"
            }
            Self::BeforeEpoch => {
                "the certificate or its issuer has a start date before 1970, which is not supported"
            }
            Self::Constraints => "a CA in the certificate's chain is not allowed to sign it",
        })
    }
}
