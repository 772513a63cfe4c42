//! What a validation found, layer by layer: the output of a validation.
//!
//! Data only: no Kubernetes words, no sentences. Nothing in here is secret, comes from a response's body, or
//! differs between two runs of the same failure; `Findings::durations` and `Findings::requests` are for
//! metrics alone.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::host::{Host, HostPort};
use crate::repository::RepositoryName;
use crate::tls::{PresentedCertificate, TlsDefect};

/// Everything that one validation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// Is there a registry that answers?
    pub endpoint: EndpointFinding,
    /// Is it the right one? The weakest link among the registry and its token service.
    pub tls: TlsFinding,
    /// Do the credentials open it?
    pub credentials: CredentialsFinding,
    /// Can the content be read with them?
    pub content_path: ContentPathFinding,
    /// The certificate of the registry itself, trusted or not.
    pub certificate: Option<PresentedCertificate>,
    /// How long the server that throttled or failed asked to be left alone, at most a day.
    pub retry_after: Option<Duration>,
    /// When the user's own credentials end, where they say so.
    pub credentials_expire_at: Option<Timestamp>,
    /// What was sent, and how it was answered.
    pub requests: RequestCounts,
    /// Where the time went.
    pub durations: LayerDurations,
}

/// Is there a registry that answers at the endpoint?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointFinding {
    /// Nothing was tried.
    NotAttempted,
    /// A registry answers, or would, if its certificate were in order.
    Reachable,
    /// The host has no address.
    DnsFailure {
        /// The name that was asked for.
        host: Host,
        /// What the name servers said.
        cause: DnsFailure,
    },
    /// Every address that was tried refused the connection.
    ConnectionRefused {
        /// The server.
        server: HostPort,
    },
    /// The connection could not be made, or broke before there was an answer.
    ConnectionFailed {
        /// The server.
        server: HostPort,
        /// What went wrong.
        cause: ConnectionFailure,
    },
    /// Time ran out.
    Timeout {
        /// The server.
        server: HostPort,
        /// What was being done.
        during: Stage,
    },
    /// Something answers, but not as an OCI registry does.
    NotARegistry {
        /// The server.
        server: HostPort,
        /// What it did instead.
        cause: NotARegistry,
    },
    /// The registry sends its clients elsewhere; nothing was sent there.
    RedirectRefused {
        /// The server that redirected.
        server: HostPort,
        /// Where to, as `scheme://host[:port]`; `None` if that can't be told.
        to: Option<String>,
    },
    /// The egress policy holds every address of the host.
    EgressDenied {
        /// The server.
        server: HostPort,
        /// One of the addresses that the egress policy holds.
        address: IpAddr,
    },
    /// The server is reached through a proxy, and the proxy did not let it be reached.
    ProxyFailed {
        /// The server.
        server: HostPort,
        /// What the proxy did, or did not.
        failure: ProxyFailure,
    },
    /// The registry itself has a fault.
    ServerError {
        /// The server.
        server: HostPort,
        /// The HTTP status, 500 to 599.
        status: u16,
    },
    /// The registry answers that there were too many requests (429).
    Throttled {
        /// The server.
        server: HostPort,
    },
}

/// Why a name has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFailure {
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The name exists but has no address.
    NoAddress,
    /// The name servers failed (SERVFAIL, REFUSED) or could not be asked.
    ServerFailure,
    /// The name servers did not answer in time.
    NoAnswer,
    /// This program, or the machine that it runs on, has too many files open to ask.
    OwnLimit,
}

/// Why a connection failed, in words that stay the same from one try to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionFailure {
    /// No route to the host or its network.
    Unreachable,
    /// The other side closed or reset it before it answered: of a server that hangs up, either may be seen.
    Closed,
    /// This program, or the machine that it runs on, has too many files open: it says nothing of the other side.
    OwnLimit,
    /// Something else.
    Other,
}

/// A failure on the way to a server that is the proxy's, and none of the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyFailure {
    /// The proxy.
    pub proxy: HostPort,
    /// What it did, or did not.
    pub fault: ProxyFault,
}

/// What a proxy did, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFault {
    /// Its name has no address.
    Dns(DnsFailure),
    /// It refused the connection.
    Refused,
    /// The connection to it failed, or broke before it answered.
    Connection(ConnectionFailure),
    /// Time ran out. During [`Stage::Request`], it was asked and did not answer: perhaps because the server did not
    /// answer it.
    Timeout(Stage),
    /// The TLS handshake with it failed, or its certificate can't be verified.
    Tls,
    /// It asks for a login (407), and none was given.
    LoginRequired,
    /// It rejected the login (407), just now or shortly before.
    LoginRejected,
    /// Its rules do not let this server be reached.
    Forbidden(u16),
    /// It answered with another status than one of success.
    Status(u16),
    /// It does not speak HTTP/1.1.
    NotHttp,
}

/// What was being done when time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking up the host's addresses.
    Resolve,
    /// Opening the connection.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Waiting for the answer to a request.
    Request,
}

/// What something does that is not a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotARegistry {
    /// It answered `/v2/` with this status and no sign of a registry.
    Status(u16),
    /// It answered 200 with a page, or with nothing that a registry says.
    NoSign,
    /// It does not speak HTTP/1.1, or its headers are beyond all bounds.
    NotHttp,
    /// It wants TLS where the endpoint says `http://`.
    WantsTls,
}

/// Is it the right server?
#[derive(Debug, Clone, PartialEq)]
pub enum TlsFinding {
    /// No handshake was tried, or none came to an end.
    NotAttempted,
    /// The endpoint says `http://`.
    PlainHttp,
    /// Every server that was spoken with proved who it is.
    Verified,
    /// Verification is switched off; what it would have said.
    Skipped {
        /// The server that `defect` is about.
        server: HostPort,
        /// What verification would have failed for; `None`: it would have passed.
        defect: Option<TlsDefect>,
        /// The certificate's other defects.
        also: Vec<TlsDefect>,
        /// Whether verification would have passed with the CA that was given; `None`: none was given.
        ca_would_verify: Option<bool>,
    },
    /// No connection was made, and nothing was sent.
    Failed {
        /// The server that failed: the registry, or its token service.
        server: HostPort,
        /// The defect, the most fundamental first.
        defect: TlsDefect,
        /// The certificate's other defects.
        also: Vec<TlsDefect>,
        /// The certificate that it showed, if it came to that.
        presented: Option<Box<PresentedCertificate>>,
    },
}

/// Do the credentials open the registry?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsFinding {
    /// An earlier layer failed.
    NotAttempted,
    /// They do, and there is evidence for it.
    Validated(Evidence),
    /// None were given, and none are needed.
    AnonymousAccess,
    /// They were answered 401, or 400 where that is about them: wrong, or withdrawn.
    Rejected {
        /// Who said so: the registry or its token service.
        by: HostPort,
        /// The HTTP status.
        status: u16,
    },
    /// They were answered 403.
    Forbidden {
        /// Who said so: the registry or its token service.
        by: HostPort,
    },
    /// None were given, and it was answered 403 without being asked for any: a firewall, more often than not (RFC 9110,
    /// section 15.5.4).
    ForbiddenToAll {
        /// Who said so.
        by: HostPort,
    },
    /// None were given, and some are needed.
    Required,
    /// They ended, by their own date or by the registry's word.
    Expired,
    /// The registry wants them sent where they don't belong; they were not.
    UntrustedTokenService {
        /// The token service; `None` if the registry named none that can be read.
        service: Option<HostPort>,
        /// What is wrong with it.
        cause: Distrust,
    },
    /// The token service accepted them, and the registry refused the token it issued.
    TokenRefused {
        /// The token service.
        issuer: HostPort,
    },
    /// The registry asks for nothing that these credentials can be sent by.
    UnsupportedScheme {
        /// The authentication schemes that it asks for.
        schemes: Vec<String>,
    },
    /// Nothing speaks against them, nothing for them.
    Unprovable(Unprovable),
    /// The server was asked too often (429).
    Throttled {
        /// Who said so: the registry or its token service.
        by: HostPort,
    },
    /// They were not sent to this server, to spare the account; it is their turn later.
    Withheld {
        /// The registry or its token service.
        server: HostPort,
        /// Why not now.
        why: Withholding,
    },
    /// They could not be tried to the end.
    TemporarilyUnavailable {
        /// The server that failed: the registry or its token service.
        server: HostPort,
        /// What went wrong.
        cause: Unavailable,
    },
}

/// What `Validated` rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The registry refused a request without these credentials and granted it with them.
    RefusedWithout,
    /// The token service gave these credentials a token that names their account.
    NamedInToken,
    /// The token service gave these credentials a token that grants what the anonymous one does not.
    GrantedInToken,
}

/// Why credentials can't be proven right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unprovable {
    /// The registry serves anonymous clients just the same.
    AnonymousServed,
    /// The token service gives anonymous clients tokens that open the registry just the same.
    AnonymousTokenServed,
    /// The registry never asked for credentials, so an identity token can't be sent anywhere.
    NothingAskedForToken,
    /// The token service refused the request for a token as it was made, and said nothing of the credentials.
    TokenRequestRefused,
}

/// Why credentials were not sent. Each comes from the [`Gate`](crate::Gate), save the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withholding {
    /// The server rejected these very credentials, and they were tried too often within a minute.
    TriedTooOften,
    /// The server rejected too many credentials within a minute.
    TooManyRejected,
    /// Too many rejected credentials are remembered.
    MemoryFull,
    /// Another validation is trying the same credentials, and time ran out.
    UnderWay,
}

/// Why a token service is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// The challenge names no realm, or one that is not a URL.
    NoRealm,
    /// `http://`, though the registry is `https://`.
    PlainHttp,
    /// A user name or password in its URL.
    UserInfo,
    /// At another site, and neither a known pair nor on the administrator's list.
    OtherSite,
    /// The egress policy holds every address of it.
    EgressDenied,
    /// It redirects to another place.
    Redirect,
}

/// Why credentials could not be tried to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// The server's name has no address.
    Dns(DnsFailure),
    /// The connection was refused.
    Refused,
    /// The connection failed.
    Connection(ConnectionFailure),
    /// Time ran out.
    Timeout(Stage),
    /// It answered with a status that is neither yes nor no.
    Status(u16),
    /// It answered 200 without a token.
    NoToken,
    /// Its answer can't be read as HTTP, or is beyond all bounds.
    Unreadable,
    /// The proxy did not let it be reached.
    Proxy(ProxyFailure),
}

/// Can the content be read?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentPathFinding {
    /// An earlier layer failed.
    NotAttempted,
    /// The named repository was read.
    Accessible {
        /// Its full name.
        repository: RepositoryName,
    },
    /// The registry refuses to let it be read.
    Denied {
        /// Its full name.
        repository: RepositoryName,
        /// The HTTP status, 401 or 403; some registries answer so for repositories that do not exist.
        status: u16,
    },
    /// There is no such repository.
    NotFound {
        /// Its full name.
        repository: RepositoryName,
    },
    /// Nothing can be said.
    Inconclusive(Inconclusive),
}

/// Why nothing can be said about the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inconclusive {
    /// No repository is named. A base path is a namespace, of which registries say nothing.
    NoRepositoryNamed,
    /// The repository has no tags; some registries answer so for one that does not exist.
    NoTags {
        /// Its full name.
        repository: RepositoryName,
    },
    /// Its tags may not be listed, and it has no manifest `latest`: whether others can be pulled is open.
    NotListed {
        /// The repository's full name.
        repository: RepositoryName,
        /// The HTTP status that the list of tags was refused with.
        status: u16,
    },
    /// The registry answered with neither the content, nor yes, nor no.
    UnexpectedStatus {
        /// The repository's full name.
        repository: RepositoryName,
        /// The HTTP status.
        status: u16,
    },
    /// It could not be tried to the end.
    Unavailable {
        /// The repository's full name.
        repository: RepositoryName,
        /// The server that failed: the registry or its token service.
        server: HostPort,
        /// What went wrong.
        cause: Unavailable,
    },
}

/// How many requests were sent, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// 200 to 299.
    pub granted: u32,
    /// 401 and 403.
    pub refused: u32,
    /// 429.
    pub throttled: u32,
    /// 500 to 599.
    pub server_error: u32,
    /// Any other status.
    pub other: u32,
    /// No answer.
    pub failed: u32,
}

impl RequestCounts {
    /// All of them.
    pub fn total(&self) -> u32 {
        self.granted + self.refused + self.throttled + self.server_error + self.other + self.failed
    }
}

/// How long each layer took, over all servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerDurations {
    /// Name look-ups.
    pub resolve: Duration,
    /// Opening connections.
    pub connect: Duration,
    /// TLS handshakes.
    pub tls: Duration,
    /// Requests, to the end of their answers.
    pub request: Duration,
}

impl Findings {
    /// Whether a limit of this program's own kept it from finding out more. Nothing is to be concluded from the rest.
    pub fn hit_own_limit(&self) -> bool {
        let unavailable = |cause: &Unavailable| {
            *cause == Unavailable::Connection(ConnectionFailure::OwnLimit)
                || *cause == Unavailable::Dns(DnsFailure::OwnLimit)
        };
        let endpoint = matches!(
            self.endpoint,
            EndpointFinding::ConnectionFailed { cause: ConnectionFailure::OwnLimit, .. }
                | EndpointFinding::DnsFailure { cause: DnsFailure::OwnLimit, .. }
        );
        let credentials = matches!(
            &self.credentials,
            CredentialsFinding::TemporarilyUnavailable { cause, .. } if unavailable(cause)
        );
        let content = matches!(
            &self.content_path,
            ContentPathFinding::Inconclusive(Inconclusive::Unavailable { cause, .. }) if unavailable(cause)
        );
        endpoint || credentials || content
    }

    /// May a retry alone change the verdict?
    pub fn is_transient(&self) -> bool {
        self.endpoint.is_transient()
            || self.tls.is_transient()
            || self.credentials.is_transient()
            || self.content_path.is_transient()
    }
}

impl EndpointFinding {
    /// May a retry alone change this?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::DnsFailure { cause, .. } => cause.is_transient(),
            Self::ProxyFailed { failure, .. } => failure.fault.is_transient(),
            Self::ConnectionRefused { .. }
            | Self::ConnectionFailed { .. }
            | Self::Timeout { .. }
            | Self::ServerError { .. }
            | Self::Throttled { .. } => true,
            Self::NotAttempted
            | Self::Reachable
            | Self::NotARegistry { .. }
            | Self::RedirectRefused { .. }
            | Self::EgressDenied { .. } => false,
        }
    }
}

impl DnsFailure {
    /// May a retry alone change this?
    pub fn is_transient(self) -> bool {
        match self {
            Self::ServerFailure | Self::NoAnswer | Self::OwnLimit => true,
            Self::NoSuchName | Self::NoAddress => false,
        }
    }
}

impl ProxyFault {
    /// May a retry alone change this? What only an administrator can change in the proxy or in the settings is
    /// definite; that the proxy is away, whatever the reason, is an outage.
    pub fn is_transient(self) -> bool {
        match self {
            Self::LoginRequired | Self::LoginRejected | Self::Forbidden(_) => false,
            Self::Status(status) => matches!(status, 408 | 429 | 500..),
            Self::Dns(_)
            | Self::Refused
            | Self::Connection(_)
            | Self::Timeout(_)
            | Self::Tls
            | Self::NotHttp => true,
        }
    }
}

impl TlsFinding {
    /// May a retry alone change this? A broken connection may be a server's restart; a defect is definite.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Failed { defect, .. } => defect.is_transient(),
            Self::NotAttempted | Self::PlainHttp | Self::Verified | Self::Skipped { .. } => false,
        }
    }
}

impl CredentialsFinding {
    /// May a retry alone change this?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::TemporarilyUnavailable { .. } => true,
            Self::NotAttempted
            | Self::Validated(_)
            | Self::AnonymousAccess
            | Self::Rejected { .. }
            | Self::Forbidden { .. }
            | Self::ForbiddenToAll { .. }
            | Self::Required
            | Self::Expired
            | Self::UntrustedTokenService { .. }
            | Self::TokenRefused { .. }
            | Self::UnsupportedScheme { .. }
            | Self::Unprovable(_)
            | Self::Withheld { .. } => false,
        }
    }
}

impl Unavailable {
    /// Is it a fault that may pass, as against a server that is set up wrong?
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Dns(cause) => cause.is_transient(),
            Self::Proxy(failure) => failure.fault.is_transient(),
            Self::Refused | Self::Connection(_) | Self::Timeout(_) => true,
            Self::Status(status) => matches!(status, 408 | 425 | 429 | 500..),
            Self::NoToken | Self::Unreadable => false,
        }
    }
}

impl ContentPathFinding {
    /// May a retry alone change this?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Inconclusive(Inconclusive::Unavailable { .. }) => true,
            Self::NotAttempted
            | Self::Accessible { .. }
            | Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::Inconclusive(
                Inconclusive::NoRepositoryNamed
                | Inconclusive::NotListed { .. }
                | Inconclusive::UnexpectedStatus { .. }
                | Inconclusive::NoTags { .. },
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separates_transient_from_definite_failures() {
        assert!(DnsFailure::ServerFailure.is_transient() && DnsFailure::NoAnswer.is_transient());
        assert!(!DnsFailure::NoSuchName.is_transient());
        assert!(Unavailable::Refused.is_passing() && Unavailable::Timeout(Stage::Request).is_passing());
        assert!(Unavailable::Status(429).is_passing() && Unavailable::Status(503).is_passing());
        assert!(!Unavailable::Status(404).is_passing() && !Unavailable::NoToken.is_passing());
    }
}
