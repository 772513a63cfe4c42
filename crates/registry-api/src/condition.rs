//! Condition types and reasons, and which reason belongs to which status.

use strum::{Display, EnumIter, EnumString, IntoStaticStr};

/// The condition types: the layers in the order in which a connection reaches them, the summary, and those of kstatus.
#[derive(
    Clone, Copy, Debug, Display, EnumIter, EnumString, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd,
)]
pub enum ConditionType {
    /// Every Secret and `ConfigMap` that the spec references exists and is usable.
    ResolvedRefs,
    /// An OCI registry answers at the endpoint.
    EndpointReachable,
    /// The certificate of every contacted host is verified.
    TLSVerified,
    /// There is evidence that the credentials work. Users wait for this one.
    CredentialsValidated,
    /// The content path can be read with the credentials.
    ContentPathAccessible,
    /// The summary: the registry can be used.
    Ready,
    /// kstatus: work is in progress, or a retry may help. Present only while True.
    Reconciling,
    /// kstatus: retries don't help, someone has to act. Present only while True.
    Stalled,
}

impl ConditionType {
    /// Returns the name in the status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The reasons of conditions: a closed set.
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
    /// Returns the name in the status.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns whether the spec asks for this reason, so that the registry is usable although the condition isn't True.
    pub fn is_requested(self) -> bool {
        matches!(self, Self::VerificationSkipped | Self::PlainHTTP)
    }
}

/// The reasons of one layer, by the condition's status.
#[derive(Debug)]
pub struct Layer {
    /// The condition.
    pub condition: ConditionType,
    /// Reasons with the status True.
    pub good: &'static [Reason],
    /// Reasons with the status False.
    pub bad: &'static [Reason],
    /// Reasons with the status Unknown.
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
