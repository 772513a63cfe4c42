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
    /// Whether a registry answers.
    pub endpoint: EndpointFinding,
    /// The weakest result of TLS verification of the registry and its token service.
    pub tls: TlsFinding,
    /// Whether the credentials are valid.
    pub credentials: CredentialsFinding,
    /// Whether the content can be read with them.
    pub content_path: ContentPathFinding,
    /// The certificate of the registry itself, trusted or not.
    pub certificate: Option<PresentedCertificate>,
    /// The `Retry-After` of a server that throttled or failed, at most a day.
    pub retry_after: Option<Duration>,
    /// When the user's own credentials expire, if they say so.
    pub credentials_expire_at: Option<Timestamp>,
    /// How many requests were sent, by outcome.
    pub requests: RequestCounts,
    /// How long each layer took.
    pub durations: LayerDurations,
}

/// The result of the endpoint layer: whether a registry answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointFinding {
    /// Nothing was tried.
    NotAttempted,
    /// A registry answers, or would if its certificate were valid.
    Reachable,
    /// The host has no address.
    DnsFailure {
        /// The name that was looked up.
        host: Host,
        /// Why the lookup failed.
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
        /// The step in progress.
        during: Stage,
    },
    /// Something answers, but not as an OCI registry does.
    NotARegistry {
        /// The server.
        server: HostPort,
        /// How it differs from a registry.
        cause: NotARegistry,
    },
    /// The registry redirects to another server; nothing was sent there.
    RedirectRefused {
        /// The server that redirected.
        server: HostPort,
        /// The target, as `scheme://host[:port]`; `None` if it can't be parsed.
        to: Option<String>,
    },
    /// The egress policy denies every address of the host.
    EgressDenied {
        /// The server.
        server: HostPort,
        /// One of the denied addresses.
        address: IpAddr,
    },
    /// The proxy on the way to the server failed or refused.
    ProxyFailed {
        /// The server.
        server: HostPort,
        /// The failure.
        failure: ProxyFailure,
    },
    /// The registry answered with a server error.
    ServerError {
        /// The server.
        server: HostPort,
        /// The HTTP status, 500 to 599.
        status: u16,
    },
    /// The registry is rate limiting requests (429).
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
    /// This process, or its machine, has too many open files to send a query.
    OwnLimit,
}

/// Why a connection failed, in categories that are the same for repeated failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionFailure {
    /// No route to the host or its network.
    Unreachable,
    /// The server closed or reset it before it answered. Which of the two is seen depends on timing.
    Closed,
    /// This process, or its machine, has too many open files. Says nothing about the server.
    OwnLimit,
    /// Something else than a list of tags.
    Other,
}

/// A failure of the proxy, not of the server behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyFailure {
    /// The proxy. In a box, because findings are kept, and few are about a proxy.
    pub proxy: Box<HostPort>,
    /// The failure.
    pub fault: ProxyFault,
}

/// How a proxy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFault {
    /// Its name has no address.
    Dns(DnsFailure),
    /// It refused the connection.
    Refused,
    /// The connection to it failed, or broke before it answered.
    Connection(ConnectionFailure),
    /// Time ran out. During [`Stage::Request`], the proxy got the request and didn't answer, perhaps because the server didn't
    /// answer it.
    Timeout(Stage),
    /// The TLS handshake with it failed, or its certificate can't be verified.
    Tls,
    /// It requires credentials (407), and none are configured.
    LoginRequired,
    /// It rejected the credentials (407), just now or shortly before.
    LoginRejected,
    /// Its rules deny access to this server.
    Forbidden(u16),
    /// It answered with another unsuccessful status.
    Status(u16),
    /// It does not speak HTTP/1.1.
    NotHttp,
}

/// The step that was in progress when time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking up the host's addresses.
    Resolve,
    /// Opening the connection.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Waiting for the response to a request.
    Request,
}

/// How a server differs from a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotARegistry {
    /// It answered `/v2/` with this status and without a registry's headers or body.
    Status(u16),
    /// It answered 200 with an HTML page, or without a registry's headers or body.
    NoSign,
    /// It does not speak HTTP/1.1, or its headers exceed the size limit.
    NotHttp,
    /// It requires TLS, and the endpoint says `http://`.
    WantsTls,
}

/// The result of the TLS layer: whether the servers proved who they are.
#[derive(Debug, Clone, PartialEq)]
pub enum TlsFinding {
    /// No handshake was tried or completed.
    NotAttempted,
    /// The endpoint says `http://`.
    PlainHttp,
    /// Every server proved who it is.
    Verified,
    /// Verification is skipped; these are the defects that it would have found.
    Skipped {
        /// The server that `defect` is about.
        server: HostPort,
        /// The defect that verification would have failed for; `None` if it would have passed.
        defect: Option<TlsDefect>,
        /// The certificate's other defects.
        also: Vec<TlsDefect>,
        /// Whether verification would have passed with the given CA; `None` if no CA was given.
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
        /// The certificate that it presented, if any.
        presented: Option<Box<PresentedCertificate>>,
    },
}

/// The result of the credentials layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsFinding {
    /// An earlier layer failed.
    NotAttempted,
    /// They are valid, with evidence.
    Validated(Evidence),
    /// None were given, and none are needed.
    AnonymousAccess,
    /// They were answered 401, or 400 because of them: they are wrong or revoked.
    Rejected {
        /// The server that answered: the registry or its token service.
        by: HostPort,
        /// The HTTP status.
        status: u16,
    },
    /// They were answered 403.
    Forbidden {
        /// The server that answered: the registry or its token service.
        by: HostPort,
    },
    /// None were given, and the response was 403 without a challenge. Most often, this comes from a firewall (RFC 9110,
    /// section 15.5.4).
    ForbiddenToAll {
        /// The server that answered.
        by: HostPort,
    },
    /// None were given, and the registry requires some.
    Required,
    /// They have expired, by their own date or according to the registry.
    Expired,
    /// The registry names a token service that isn't trusted; they were not sent.
    UntrustedTokenService {
        /// The token service; `None` if the registry names none with a valid URL.
        service: Option<HostPort>,
        /// Why it isn't trusted.
        cause: Distrust,
    },
    /// The token service accepted them, and the registry refused the issued token.
    TokenRefused {
        /// The token service.
        issuer: HostPort,
    },
    /// The registry offers no authentication scheme for this kind of credentials.
    UnsupportedScheme {
        /// The authentication schemes that it asks for.
        schemes: Vec<String>,
    },
    /// There is no evidence for or against them.
    Unprovable(Unprovable),
    /// The server is rate limiting requests (429).
    Throttled {
        /// The server that answered: the registry or its token service.
        by: HostPort,
    },
    /// They were not sent to this server now, so that the account isn't locked out. They are sent later.
    Withheld {
        /// The registry or its token service.
        server: HostPort,
        /// Why they were withheld.
        why: Withholding,
    },
    /// The attempt could not be completed.
    TemporarilyUnavailable {
        /// The server that failed: the registry or its token service.
        server: HostPort,
        /// What went wrong.
        cause: Unavailable,
    },
}

/// The evidence for `Validated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The registry refused a request without these credentials and granted it with them.
    RefusedWithout,
    /// The token service issued a token that names the account.
    NamedInToken,
    /// The token service issued a token that grants more than the anonymous one.
    GrantedInToken,
}

/// Why credentials can't be proven right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unprovable {
    /// The registry serves anonymous clients in the same way.
    AnonymousServed,
    /// The token service issues anonymous tokens that open the registry in the same way.
    AnonymousTokenServed,
    /// The registry never asked for credentials, so an identity token can't be sent anywhere.
    NothingAskedForToken,
    /// The token service rejected the token request for a reason that isn't the credentials.
    TokenRequestRefused,
}

/// Why credentials were not sent. Each comes from the [`Gate`](crate::Gate), except the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withholding {
    /// The server rejected these credentials, and they were tried too often within a minute.
    TriedTooOften,
    /// The server rejected too many credentials within a minute.
    TooManyRejected,
    /// The table of rejected credentials is full.
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
    /// It is at another site, and is neither a known pair nor on the administrator's list.
    OtherSite,
    /// The egress policy denies all of its addresses.
    EgressDenied,
    /// It redirects to another place.
    Redirect,
}

/// Why an attempt could not be completed.
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
    /// It answered with a status that neither grants nor refuses.
    Status(u16),
    /// It answered 200 without a token.
    NoToken,
    /// Its response isn't valid HTTP, or exceeds the size limits.
    Unreadable,
    /// The proxy did not let it be reached.
    Proxy(ProxyFailure),
}

/// The result of the content layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentPathFinding {
    /// An earlier layer failed.
    NotAttempted,
    /// The named repository was read.
    Accessible {
        /// Its full name.
        repository: RepositoryName,
    },
    /// The registry refuses access.
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
    /// The content was not checked, or the check had no result.
    Inconclusive(Inconclusive),
}

/// Why there is no result for the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inconclusive {
    /// No repository is named. Registries have no API for the namespace of a base path.
    NoRepositoryNamed,
    /// The repository has no tags; some registries answer so for one that does not exist.
    NoTags {
        /// Its full name.
        repository: RepositoryName,
    },
    /// Its tags may not be listed, and it has no manifest `latest`: whether others can be pulled is unknown.
    NotListed {
        /// The repository's full name.
        repository: RepositoryName,
        /// The HTTP status that the list of tags was refused with.
        status: u16,
    },
    /// The registry neither returned the content nor refused it.
    UnexpectedStatus {
        /// The repository's full name.
        repository: RepositoryName,
        /// The HTTP status.
        status: u16,
    },
    /// The attempt could not be completed.
    Unavailable {
        /// The repository's full name.
        repository: RepositoryName,
        /// The server that failed: the registry or its token service.
        server: HostPort,
        /// What went wrong.
        cause: Unavailable,
    },
}

/// How many requests were sent, by outcome.
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
    /// A failure to get a response.
    pub failed: u32,
}

impl RequestCounts {
    /// The sum of all outcomes.
    pub fn total(&self) -> u32 {
        self.granted + self.refused + self.throttled + self.server_error + self.other + self.failed
    }
}

/// How long each layer took, over all servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerDurations {
    /// Name lookups.
    pub resolve: Duration,
    /// Opening connections.
    pub connect: Duration,
    /// TLS handshakes.
    pub tls: Duration,
    /// Requests, to the end of their responses.
    pub request: Duration,
}

impl Findings {
    /// Whether a limit of this process prevented the validation. The other findings then mean nothing.
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

    /// Whether a retry alone may change the verdict.
    pub fn is_transient(&self) -> bool {
        self.endpoint.is_transient()
            || self.tls.is_transient()
            || self.credentials.is_transient()
            || self.content_path.is_transient()
    }
}

impl EndpointFinding {
    /// Whether a retry alone may change this.
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
    /// Whether a retry alone may change this.
    pub fn is_transient(self) -> bool {
        match self {
            Self::ServerFailure | Self::NoAnswer | Self::OwnLimit => true,
            Self::NoSuchName | Self::NoAddress => false,
        }
    }
}

impl ProxyFault {
    /// Whether a retry alone may change this. What only an administrator can change in the proxy or in the settings is
    /// definite. That the proxy can't be reached is an outage, whatever the reason.
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
    /// Whether a retry alone may change this. A broken connection may be a server's restart; a defect is definite.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Failed { defect, .. } => defect.is_transient(),
            Self::NotAttempted | Self::PlainHttp | Self::Verified | Self::Skipped { .. } => false,
        }
    }
}

impl CredentialsFinding {
    /// Whether a retry alone may change this.
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
    /// Whether it is a temporary failure, and not a wrong configuration of the server.
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
    /// Whether a retry alone may change this.
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
