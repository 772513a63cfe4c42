//! The vocabulary of conditions: every type, every reason, and which reason may stand with which status.

use strum::{Display, EnumIter, EnumString, IntoStaticStr};

/// The types of conditions, in the order in which a connection meets the layers; then the summary and kstatus's two.
#[derive(
    Clone, Copy, Debug, Display, EnumIter, EnumString, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd,
)]
pub enum ConditionType {
    /// Every Secret and `ConfigMap` that the spec names was found and can be used.
    ResolvedRefs,
    /// An OCI registry answers at the endpoint.
    EndpointReachable,
    /// The certificate of every host spoken to was verified.
    TLSVerified,
    /// The credentials are proven to work; the one that users wait for.
    CredentialsValidated,
    /// The content path can be read with them.
    ContentPathAccessible,
    /// The summary: the registry can be used.
    Ready,
    /// kstatus: work is going on. Present only while True.
    Reconciling,
    /// kstatus: no retry will help until the user changes something. Present only while True.
    Stalled,
}

impl ConditionType {
    /// The name, as it stands in a status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why a condition has its status. Closed: a reason that is not here can't be published.
#[derive(Clone, Copy, Debug, Display, EnumIter, EnumString, Eq, Hash, IntoStaticStr, PartialEq)]
#[expect(
    missing_docs,
    reason = "each is explained for users in docs/conditions.md, which a test holds complete"
)]
pub enum Reason {
    // ResolvedRefs
    Resolved,
    SecretNotFound,
    SecretInvalid,
    ConfigMapNotFound,
    CABundleInvalid,
    AccessDenied,
    NotATenant,
    NotPermitted,
    // EndpointReachable
    Reachable,
    DNSFailure,
    ConnectionRefused,
    ConnectionFailed,
    Timeout,
    NotARegistry,
    RedirectRefused,
    EgressDenied,
    ServerError,
    Throttled,
    NotAttempted,
    // TLSVerified
    Verified,
    UnknownIssuer,
    Expired,
    NotYetValid,
    HostnameMismatch,
    HandshakeFailed,
    ClientCertificateRequired,
    VerificationSkipped,
    PlainHTTP,
    // CredentialsValidated
    Validated,
    AnonymousAccess,
    Rejected,
    Forbidden,
    Required,
    RoleDenied,
    UntrustedTokenService,
    TokenRefused,
    UnsupportedScheme,
    Unprovable,
    TemporarilyUnavailable,
    // ContentPathAccessible
    Accessible,
    Denied,
    NotFound,
    Inconclusive,
    // Ready
    Available,
    CredentialsUnprovable,
    Progressing,
}

impl Reason {
    /// The name, as it stands in a status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a layer that isn't True for this reason is as the spec asks for it: the registry can be used all the same.
    pub fn is_requested(self) -> bool {
        matches!(self, Self::VerificationSkipped | Self::PlainHTTP)
    }
}

/// The reasons that may stand with each status of one layer.
#[derive(Debug)]
pub struct Layer {
    /// The condition.
    pub condition: ConditionType,
    /// Reasons with which it is True.
    pub good: &'static [Reason],
    /// Reasons with which it is False.
    pub bad: &'static [Reason],
    /// Reasons with which it is Unknown.
    pub unknown: &'static [Reason],
}

/// The layers of a validation in order, with their reasons (docs/architecture.md#reasons).
pub const LAYERS: [Layer; 5] = {
    #[allow(clippy::enum_glob_use, reason = "nearly all of them stand here")]
    use Reason::*;
    [
        Layer {
            condition: ConditionType::ResolvedRefs,
            good: &[Resolved],
            bad: &[
                SecretNotFound,
                SecretInvalid,
                ConfigMapNotFound,
                CABundleInvalid,
                AccessDenied,
                NotATenant,
                NotPermitted,
            ],
            unknown: &[],
        },
        Layer {
            condition: ConditionType::EndpointReachable,
            good: &[Reachable],
            bad: &[
                DNSFailure,
                ConnectionRefused,
                ConnectionFailed,
                Timeout,
                NotARegistry,
                RedirectRefused,
                EgressDenied,
                ServerError,
            ],
            unknown: &[Throttled, NotAttempted],
        },
        Layer {
            condition: ConditionType::TLSVerified,
            good: &[Verified],
            bad: &[
                UnknownIssuer,
                Expired,
                NotYetValid,
                HostnameMismatch,
                HandshakeFailed,
                ClientCertificateRequired,
                VerificationSkipped,
                PlainHTTP,
            ],
            unknown: &[NotAttempted],
        },
        Layer {
            condition: ConditionType::CredentialsValidated,
            good: &[Validated, AnonymousAccess],
            bad: &[
                Rejected,
                Forbidden,
                Required,
                Expired,
                RoleDenied,
                UntrustedTokenService,
                TokenRefused,
                UnsupportedScheme,
            ],
            unknown: &[Unprovable, Throttled, TemporarilyUnavailable, NotAttempted],
        },
        Layer {
            condition: ConditionType::ContentPathAccessible,
            good: &[Accessible],
            bad: &[Denied, NotFound],
            unknown: &[Inconclusive, NotAttempted],
        },
    ]
};
