//! Classifies AWS's errors. Pure: from an error's code and message to a cause.
//!
//! ECR's protocol (JSON) and STS's (query) have different codes for the same failure, and one code may mean different
//! failures: only the message distinguishes a wrong secret from a wrong clock. Messages of AWS don't leave this module,
//! because they contain ARNs.

use std::time::Duration;

use registry_probe::{Backoff, HostPort, Withholding};
use strum::FromRepr;

/// An API of AWS.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Api {
    /// Elastic Container Registry.
    Ecr,
    /// Security Token Service.
    Sts,
}

impl Api {
    /// Returns its short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ecr => "ECR",
            Self::Sts => "STS",
        }
    }

    /// Returns the value of the metrics' label, from a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Sts => "sts",
        }
    }
}

/// Why AWS issued no token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AwsRefusal {
    /// The cause.
    pub cause: Cause,
    /// The API that refused.
    pub api: Api,
    /// The region.
    pub region: String,
    /// How long AWS asks to wait.
    pub retry_after: Option<Duration>,
}

/// Why AWS issued no token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// AWS refuses the access keys.
    KeysRefused(KeyRefusal),
    /// The role can't be assumed: it doesn't exist, or a policy denies it.
    RoleDenied {
        /// Whether the spec has an external ID.
        external_id: bool,
        /// The partition of the role, if the registry is in another.
        other_partition: Option<String>,
        /// The denied action, as in IAM policies. Assuming a role may need more than `sts:AssumeRole`.
        action: &'static str,
        /// The policy that denies it.
        denial: Denial,
    },
    /// The session policies and tags are too large to assume the role.
    SessionTooLarge,
    /// The identity has no permission for an action.
    ActionDenied {
        /// The action, as in IAM policies.
        action: &'static str,
        /// The policy that denies it.
        denial: Denial,
    },
    /// The account has not enabled the region, or not activated STS there.
    RegionDisabled,
    /// The account is not signed up for the service, or is suspended.
    NotSubscribed,
    /// There is no such endpoint: FIPS and dual stack don't exist in all regions.
    NoEndpoint,
    /// The time of the request is wrong.
    ClockSkew,
    /// Too many requests.
    Throttled,
    /// AWS didn't answer, or not correctly.
    Unavailable(Outage),
    /// The request was not sent, to protect the access keys.
    Withheld(Withholding),
    /// The proxy on the way to AWS failed.
    Proxy {
        /// The proxy.
        proxy: HostPort,
        /// The proxy's failure.
        trouble: ProxyTrouble,
    },
    /// The operator has no AWS identity of its own.
    NoOperatorIdentity,
    /// AWS rejects the operator's own identity.
    OperatorIdentityRefused(OwnIdentityFault),
    /// AWS issued a token, and the registry refuses it.
    TokenRefused {
        /// Whether the status is 403 instead of 401.
        forbidden: bool,
        /// The region in the registry's host, if the token is for another.
        region_of_host: Option<String>,
    },
    /// Another error, with AWS's code.
    Other {
        /// The code: letters and digits only.
        code: String,
    },
}

/// Why AWS refuses access keys: everything that counts as a rejection at AWS. Rejections are stored with these numbers,
/// so add new ones at the end.
#[derive(Clone, Copy, Debug, Eq, FromRepr, Hash, PartialEq)]
#[repr(u8)]
pub enum KeyRefusal {
    /// The access key doesn't exist, or no longer exists.
    UnknownKey = 0,
    /// The access key or its session token is unknown.
    UnknownKeyOrSession = 1,
    /// The signature was made with another secret.
    WrongSecret = 2,
    /// The keys are malformed, so no request can be signed with them.
    Malformed = 3,
    /// The request was signed for another region.
    WrongRegion = 4,
    /// The session of temporary keys has expired.
    Expired = 5,
}

/// The failure of a proxy on the way to AWS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyTrouble {
    /// It can't be reached, or closed the connection.
    Unreachable,
    /// It didn't answer in time.
    Timeout,
    /// It requires another login (407).
    LoginRejected,
    /// It doesn't connect to AWS.
    NoTunnel,
}

/// The policy that denies an action, if AWS says which.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Denial {
    /// The kind of policy.
    pub policy: Option<PolicyKind>,
    /// Whether it explicitly denies the action, as opposed to not allowing it.
    pub explicitly: bool,
}

/// The kinds of policies that AWS names in its errors.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PolicyKind {
    /// The policy of the user or role.
    Identity,
    /// The policy of the requested resource.
    Resource,
    /// The permissions boundary of the user or role.
    PermissionsBoundary,
    /// An organization's service control policy.
    ServiceControl,
    /// An organization's resource control policy.
    ResourceControl,
    /// The session policy.
    Session,
    /// The policy of the VPC endpoint.
    VpcEndpoint,
    /// The trust policy of the role.
    RoleTrust,
}

/// Why AWS rejects the operator's own identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OwnIdentityFault {
    /// Its credentials are unknown, or can't be obtained.
    Credentials,
    /// IRSA: the role's trust policy doesn't allow the service account to assume it.
    TrustPolicy,
    /// IRSA: AWS rejects the service account's token.
    Token,
}

/// Why there is no usable answer from AWS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// No answer in time.
    Timeout,
    /// No connection.
    Unreachable,
    /// The certificate of the API can't be verified.
    Untrusted,
    /// An HTTP status without an error of AWS.
    Status(u16),
    /// AWS reports an internal error.
    Fault,
    /// The answer can't be parsed.
    Unreadable,
}

/// What a cause means for the credentials. The condition's reason, the delay for rejected credentials, and the delay
/// before the next request to AWS depend on it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// They are wrong or have expired.
    KeysRefused(KeyRefusal),
    /// They were rejected before, and are not sent now.
    Withheld,
    /// They may be right, but can't assume the role.
    RoleDenied,
    /// They may be right, but have no access.
    Forbidden,
    /// AWS refused with an unknown code, which says nothing about them.
    Unrecognized,
    /// AWS accepts them, but the registry rejects AWS's token.
    TokenRefused,
    /// AWS throttles requests, which says nothing about them.
    Throttled,
    /// AWS gave no usable answer.
    Unavailable,
}

impl KeyRefusal {
    /// Returns the refusal of unknown keys. `temporary`: a session token was sent too.
    fn unknown(temporary: bool) -> Self {
        if temporary { Self::UnknownKeyOrSession } else { Self::UnknownKey }
    }
}

impl Cause {
    /// Returns the class of the cause.
    pub fn class(&self) -> Class {
        match self {
            Self::KeysRefused(refusal) => Class::KeysRefused(*refusal),
            Self::RoleDenied { .. }
            | Self::SessionTooLarge
            | Self::NoOperatorIdentity
            | Self::OperatorIdentityRefused(_) => Class::RoleDenied,
            Self::ActionDenied { .. }
            | Self::RegionDisabled
            | Self::NotSubscribed
            | Self::NoEndpoint
            | Self::TokenRefused { forbidden: true, .. } => Class::Forbidden,
            Self::Other { .. } => Class::Unrecognized,
            Self::TokenRefused { forbidden: false, .. } => Class::TokenRefused,
            Self::Withheld(Withholding::TriedTooOften) => Class::Withheld,
            Self::Throttled
            | Self::Withheld(
                Withholding::TooManyRejected | Withholding::MemoryFull | Withholding::UnderWay,
            ) => Class::Throttled,
            // AWS checks the time before the keys.
            Self::Unavailable(_) | Self::Proxy { .. } | Self::ClockSkew => Class::Unavailable,
        }
    }
}

impl Class {
    /// Returns whether a retry alone may succeed.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Throttled | Self::Unavailable => true,
            Self::KeysRefused(_)
            | Self::Withheld
            | Self::RoleDenied
            | Self::Forbidden
            | Self::Unrecognized
            | Self::TokenRefused => false,
        }
    }

    /// Returns the delays before AWS is called again.
    pub fn backoff(self) -> Backoff {
        match self {
            Self::KeysRefused(_) | Self::Withheld => Backoff::REJECTED_CREDENTIALS,
            Self::RoleDenied | Self::Forbidden | Self::Unrecognized | Self::TokenRefused => {
                Backoff::AWS_REFUSED
            }
            Self::Throttled | Self::Unavailable => Backoff::AWS_TRANSIENT,
        }
    }
}

impl AwsRefusal {
    /// Returns whether a retry alone may succeed.
    pub fn is_transient(&self) -> bool {
        self.cause.class().is_transient()
    }
}

/// An error of AWS, as in its protocol.
#[derive(Clone, Copy, Debug)]
pub struct Complaint<'a> {
    /// The code without a namespace.
    pub code: Option<&'a str>,
    /// The message, in AWS's words.
    pub message: &'a str,
    /// The HTTP status.
    pub status: u16,
}

/// A request to AWS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AwsAction {
    /// `ecr:GetAuthorizationToken`.
    GetAuthorizationToken,
    /// `ecr:DescribeRepositories`.
    DescribeRepositories,
    /// `sts:AssumeRole`.
    AssumeRole {
        /// Whether the spec has an external ID.
        external_id: bool,
    },
    /// `sts:AssumeRoleWithWebIdentity`, with IRSA, for the operator's own role.
    AssumeRoleWithWebIdentity,
}

impl AwsAction {
    /// Returns the action as in IAM policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GetAuthorizationToken => "ecr:GetAuthorizationToken",
            Self::DescribeRepositories => "ecr:DescribeRepositories",
            Self::AssumeRole { .. } => ASSUME_ROLE,
            Self::AssumeRoleWithWebIdentity => "sts:AssumeRoleWithWebIdentity",
        }
    }

    /// Returns the API of the action.
    pub fn api(self) -> Api {
        match self {
            Self::GetAuthorizationToken | Self::DescribeRepositories => Api::Ecr,
            Self::AssumeRole { .. } | Self::AssumeRoleWithWebIdentity => Api::Sts,
        }
    }
}

const ASSUME_ROLE: &str = "sts:AssumeRole";

/// Returns the cause of an error in a request for `action`. `temporary`: the request had a session token.
pub fn cause(complaint: Complaint<'_>, action: AwsAction, temporary: bool) -> Cause {
    let Complaint { code, message, status } = complaint;
    let Some(code) = code.map(bare) else { return without_code(status) };
    match code {
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "AuthFailure" => Cause::KeysRefused(KeyRefusal::unknown(temporary)),
        "ExpiredToken" | "ExpiredTokenException" if action == AwsAction::AssumeRoleWithWebIdentity => {
            Cause::OperatorIdentityRefused(OwnIdentityFault::Token)
        }
        "ExpiredToken" | "ExpiredTokenException" => Cause::KeysRefused(KeyRefusal::Expired),
        "InvalidSignatureException" | "InvalidSignature" | "SignatureDoesNotMatch" => signature(message),
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Cause::ClockSkew,
        "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Cause::KeysRefused(KeyRefusal::Malformed),
        "RegionDisabledException" | "RegionDisabled" => Cause::RegionDisabled,
        "OptInRequired"
        | "NotSignedUp"
        | "SubscriptionRequiredException"
        | "PendingVerification"
        | "Blocked" => Cause::NotSubscribed,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "NotAuthorized"
        | "NotAuthorizedException" => denied(action, message),
        "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => Cause::SessionTooLarge,
        "InvalidIdentityToken"
        | "InvalidIdentityTokenException"
        | "IDPRejectedClaim"
        | "IDPRejectedClaimException" => Cause::OperatorIdentityRefused(OwnIdentityFault::Token),
        "ValidationError"
        | "ValidationException"
        | "MalformedPolicyDocument"
        | "MalformedPolicyDocumentException" => invalid(action, code),
        _ if is_throttling(code) || status == 429 => Cause::Throttled,
        _ if is_fault(code) => {
            Cause::Unavailable(if status >= 500 { Outage::Status(status) } else { Outage::Fault })
        }
        _ if status >= 500 => Cause::Unavailable(Outage::Status(status)),
        _ => other(code),
    }
}

/// Removes namespaces: codes may be `com.amazonaws.ecr#Code` or `Code:http://…`.
fn bare(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    code.split(':').next().unwrap_or(code)
}

fn other(code: &str) -> Cause {
    Cause::Other { code: code.chars().filter(char::is_ascii_alphanumeric).take(64).collect() }
}

/// An error that AWS didn't send, but a proxy or a broken server.
fn without_code(status: u16) -> Cause {
    if status == 429 { Cause::Throttled } else { Cause::Unavailable(Outage::Status(status)) }
}

/// This code has three causes.
fn signature(message: &str) -> Cause {
    let message = message.to_ascii_lowercase();
    if message.contains("expired") || message.contains("not yet current") {
        Cause::ClockSkew
    } else if message.contains("credential should be scoped to") {
        Cause::KeysRefused(KeyRefusal::WrongRegion)
    } else {
        Cause::KeysRefused(KeyRefusal::WrongSecret)
    }
}

fn denied(action: AwsAction, message: &str) -> Cause {
    let denial = Denial::of(message);
    let named = denied_action(message).unwrap_or_else(|| action.as_str());
    match action {
        AwsAction::AssumeRole { external_id } => {
            Cause::RoleDenied { external_id, other_partition: None, action: named, denial }
        }
        AwsAction::AssumeRoleWithWebIdentity => Cause::OperatorIdentityRefused(OwnIdentityFault::TrustPolicy),
        AwsAction::GetAuthorizationToken | AwsAction::DescribeRepositories => {
            Cause::ActionDenied { action: named, denial }
        }
    }
}

/// Returns the denied action from AWS's message, if the operator's requests may need it.
fn denied_action(message: &str) -> Option<&'static str> {
    let (_, rest) = message.split_once("not authorized to perform: ")?;
    let named = rest.split_whitespace().next()?;
    let actions = [
        ASSUME_ROLE,
        "sts:TagSession",
        "sts:SetSourceIdentity",
        "ecr:GetAuthorizationToken",
        "ecr:DescribeRepositories",
    ];
    actions.into_iter().find(|action| action.eq_ignore_ascii_case(named))
}

/// Phrases that AWS documents, in order of precedence. If the policy of a VPC endpoint denies "transitively through a
/// service control policy", the endpoint's policy has to be changed.
const POLICIES: [(&str, PolicyKind); 9] = [
    ("service control policy", PolicyKind::ServiceControl),
    ("resource control policy", PolicyKind::ResourceControl),
    ("vpc endpoint policy", PolicyKind::VpcEndpoint),
    ("permissions boundary", PolicyKind::PermissionsBoundary),
    ("session policy", PolicyKind::Session),
    ("sessions policy", PolicyKind::Session),
    ("role trust policy", PolicyKind::RoleTrust),
    ("resource-based policy", PolicyKind::Resource),
    ("identity-based policy", PolicyKind::Identity),
];

impl Denial {
    /// Parses the part of the message after the action and the resource: `because no … policy allows the … action`, or
    /// `with an explicit deny in a … policy`, with or without the policy's ARN.
    fn of(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let (explicitly, context) = match message.rsplit_once("with an explicit deny") {
            Some((_, context)) => (true, context),
            None => (false, message.rsplit_once("because ").map_or("", |(_, context)| context)),
        };
        let found = POLICIES.into_iter().find(|(phrase, _)| context.contains(phrase));
        Self { policy: found.map(|(_, policy)| policy), explicitly }
    }
}

/// STS considers the role's ARN, the external ID or the session malformed.
fn invalid(action: AwsAction, code: &str) -> Cause {
    match action {
        AwsAction::AssumeRole { external_id } => Cause::RoleDenied {
            external_id,
            other_partition: None,
            action: action.as_str(),
            denial: Denial::default(),
        },
        AwsAction::AssumeRoleWithWebIdentity => Cause::OperatorIdentityRefused(OwnIdentityFault::Credentials),
        AwsAction::GetAuthorizationToken | AwsAction::DescribeRepositories => other(code),
    }
}

/// The codes that AWS's SDKs consider throttling.
fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "LimitExceededException"
            | "EC2ThrottledException"
            | "ProvisionedThroughputExceededException"
            | "SlowDown"
            | "PriorRequestNotComplete"
            | "TransactionInProgressException"
    )
}

/// The codes of AWS's internal errors, whatever the status. STS sends some of them with 400.
fn is_fault(code: &str) -> bool {
    matches!(
        code,
        "InternalFailure"
            | "InternalError"
            | "InternalServerError"
            | "InternalServerException"
            | "InternalServiceError"
            | "InternalServiceException"
            | "ServerException"
            | "ServiceUnavailable"
            | "ServiceUnavailableException"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "RequestAbortedException"
            | "IDPCommunicationError"
            | "IDPCommunicationErrorException"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: AwsAction = AwsAction::AssumeRole { external_id: true };

    fn said(code: &str, message: &str, action: AwsAction) -> Cause {
        cause(Complaint { code: Some(code), message, status: 400 }, action, false)
    }

    #[test]
    fn splits_signature_error_by_its_message() {
        let wrong = "The request signature we calculated does not match the signature you provided. Check your AWS \
                     Secret Access Key and signing method. Consult the service documentation for details.";
        let old = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z (20260101T001500Z - 5 min.)";
        let new = "Signature not yet current: 20260101T010000Z is still later than 20260101T002000Z";
        let region = "Credential should be scoped to a valid region.";
        for code in ["InvalidSignatureException", "SignatureDoesNotMatch"] {
            for action in [AwsAction::GetAuthorizationToken, ROLE] {
                assert_eq!(said(code, wrong, action), Cause::KeysRefused(KeyRefusal::WrongSecret));
                assert_eq!(said(code, old, action), Cause::ClockSkew);
                assert_eq!(said(code, new, action), Cause::ClockSkew);
                assert_eq!(said(code, region, action), Cause::KeysRefused(KeyRefusal::WrongRegion));
            }
        }
    }

    #[test]
    fn maps_error_names_of_each_api() {
        let token = AwsAction::GetAuthorizationToken;
        assert_eq!(said("UnrecognizedClientException", "", token), said("InvalidClientTokenId", "", ROLE));
        assert_eq!(said("ExpiredTokenException", "", token), said("ExpiredToken", "", ROLE));
        assert_eq!(said("ThrottlingException", "", token), said("Throttling", "", ROLE));
        assert_eq!(said("com.amazonaws.ecr#ExpiredTokenException", "", token).class(), EXPIRED);
    }

    fn role_denied(action: &'static str, denial: Denial) -> Cause {
        Cause::RoleDenied { external_id: true, other_partition: None, action, denial }
    }

    #[test]
    fn separates_denied_action_from_denied_role() {
        let message = "User: arn:aws:iam::123456789012:user/x is not authorized to perform: \
                       ecr:GetAuthorizationToken on resource: * with an explicit deny in a service control policy";
        let denial = Denial { policy: Some(PolicyKind::ServiceControl), explicitly: true };
        assert_eq!(
            said("AccessDeniedException", message, AwsAction::GetAuthorizationToken),
            Cause::ActionDenied { action: "ecr:GetAuthorizationToken", denial }
        );
        assert_eq!(said("AccessDenied", "", ROLE), role_denied("sts:AssumeRole", Denial::default()));
    }

    #[test]
    fn recognizes_each_kind_of_policy() {
        let begins = "User: arn:aws:iam::123456789012:user/x is not authorized to perform: ecr:GetAuthorizationToken on \
                      resource: *";
        let allows = "allows the ecr:GetAuthorizationToken action";
        let denial = |context: String| {
            let message = format!("{begins} {context}");
            match said("AccessDeniedException", &message, AwsAction::GetAuthorizationToken) {
                Cause::ActionDenied { denial, .. } => (denial.policy, denial.explicitly),
                other => panic!("{other:?}"),
            }
        };
        for (policy, kind) in [
            ("VPC endpoint policy", PolicyKind::VpcEndpoint),
            ("permissions boundary", PolicyKind::PermissionsBoundary),
            ("service control policy", PolicyKind::ServiceControl),
            ("resource control policy", PolicyKind::ResourceControl),
            ("session policy", PolicyKind::Session),
            ("resource-based policy", PolicyKind::Resource),
            ("identity-based policy", PolicyKind::Identity),
        ] {
            assert_eq!(denial(format!("because no {policy} {allows}")), (Some(kind), false));
            assert_eq!(denial(format!("with an explicit deny in a {policy}")), (Some(kind), true));
            let by_arn =
                format!("with an explicit deny in a {policy}: arn:aws:organizations::1:policy/o-1/x/p-1");
            assert_eq!(denial(by_arn), (Some(kind), true));
        }
        let through =
            "with an explicit deny in a VPC endpoint policy transitively through a service control policy";
        assert_eq!(denial(through.into()), (Some(PolicyKind::ServiceControl), true));
        assert_eq!(denial("with an explicit deny".into()), (None, true));
        assert_eq!(denial(String::new()), (None, false));
    }

    #[test]
    fn names_denied_action_of_assume_role() {
        for action in ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"] {
            let message = format!(
                "User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: {action} on resource: \
                 arn:aws:iam::123456789012:role/z"
            );
            assert_eq!(said("AccessDenied", &message, ROLE), role_denied(action, Denial::default()));
        }
        let trust = "is not authorized to perform: sts:AssumeRole because no role trust policy allows the sts:AssumeRole action";
        let denial = Denial { policy: Some(PolicyKind::RoleTrust), explicitly: false };
        assert_eq!(said("AccessDenied", trust, ROLE), role_denied("sts:AssumeRole", denial));
        // An action that the operator's requests don't need is not repeated.
        let strange = "is not authorized to perform: sts:HUSH on resource: x";
        assert_eq!(said("AccessDenied", strange, ROLE), role_denied("sts:AssumeRole", Denial::default()));
    }

    const UNKNOWN_KEY: Class = Class::KeysRefused(KeyRefusal::UnknownKey);
    const MALFORMED: Class = Class::KeysRefused(KeyRefusal::Malformed);
    const EXPIRED: Class = Class::KeysRefused(KeyRefusal::Expired);

    #[test]
    fn each_code_of_ecr_has_its_class() {
        for (class, codes) in [
            (
                UNKNOWN_KEY,
                "UnrecognizedClientException InvalidClientTokenId InvalidAccessKeyId InvalidToken AuthFailure",
            ),
            (EXPIRED, "ExpiredToken ExpiredTokenException"),
            (
                Class::KeysRefused(KeyRefusal::WrongSecret),
                "InvalidSignatureException InvalidSignature SignatureDoesNotMatch",
            ),
            (
                MALFORMED,
                "IncompleteSignature IncompleteSignatureException MissingAuthenticationToken \
                 MissingAuthenticationTokenException",
            ),
            (
                Class::Forbidden,
                "RegionDisabledException RegionDisabled OptInRequired NotSignedUp SubscriptionRequiredException \
                 PendingVerification Blocked AccessDenied AccessDeniedException UnauthorizedOperation NotAuthorized \
                 NotAuthorizedException",
            ),
            (Class::RoleDenied, "PackedPolicyTooLarge InvalidIdentityToken IDPRejectedClaim"),
            (
                Class::Unrecognized,
                "ValidationError ValidationException MalformedPolicyDocument InvalidParameterException Strange",
            ),
            (Class::Unavailable, "RequestExpired RequestTimeTooSkewed RequestInTheFuture InternalFailure"),
            (Class::Unavailable, "ServiceUnavailable IDPCommunicationError RequestTimeout ServerException"),
            (Class::Throttled, "Throttling RequestLimitExceeded TooManyRequestsException SlowDown"),
        ] {
            for code in codes.split_whitespace() {
                assert_eq!(said(code, "", AwsAction::GetAuthorizationToken).class(), class, "{code}");
            }
        }
    }

    #[test]
    fn each_code_of_sts_has_its_class() {
        for (class, codes) in [
            (UNKNOWN_KEY, "InvalidClientTokenId"),
            (EXPIRED, "ExpiredToken ExpiredTokenException"),
            (MALFORMED, "IncompleteSignature"),
            (
                Class::RoleDenied,
                "AccessDenied PackedPolicyTooLarge MalformedPolicyDocument ValidationError ValidationException",
            ),
            (Class::Forbidden, "RegionDisabledException OptInRequired"),
            (Class::Unrecognized, "Strange"),
            (Class::Throttled, "Throttling"),
        ] {
            for code in codes.split_whitespace() {
                assert_eq!(said(code, "", ROLE).class(), class, "{code}");
            }
        }
    }

    #[test]
    fn operator_role_failure_is_not_the_registrys() {
        let own = AwsAction::AssumeRoleWithWebIdentity;
        let refused = Cause::OperatorIdentityRefused;
        assert_eq!(said("AccessDenied", "", own), refused(OwnIdentityFault::TrustPolicy));
        for code in ["InvalidIdentityToken", "ExpiredTokenException", "IDPRejectedClaim"] {
            assert_eq!(said(code, "", own), refused(OwnIdentityFault::Token), "{code}");
        }
        assert_eq!(said("IDPCommunicationError", "", own), Cause::Unavailable(Outage::Fault));
        assert_eq!(said("Throttling", "", own), Cause::Throttled);
    }

    #[test]
    fn strips_namespace_and_url_from_codes() {
        let token = AwsAction::GetAuthorizationToken;
        let code = "ExpiredTokenException:http://internal.amazon.com/coral/";
        assert_eq!(said(code, "", token).class(), EXPIRED);
    }

    #[test]
    fn clock_region_and_role_errors_spare_the_keys() {
        let token = AwsAction::GetAuthorizationToken;
        for code in ["RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"] {
            assert_eq!(said(code, "", token), Cause::ClockSkew, "{code}");
        }
        assert_eq!(said("RegionDisabledException", "", ROLE), Cause::RegionDisabled);
        assert_eq!(said("ValidationError", "", ROLE), role_denied("sts:AssumeRole", Denial::default()));
        assert_eq!(
            said("ValidationException", "", token),
            Cause::Other { code: "ValidationException".into() }
        );
    }

    #[test]
    fn judges_unknown_code_by_http_status() {
        let by = |status| {
            let complaint = Complaint { code: Some("Strange"), message: "", status };
            cause(complaint, AwsAction::GetAuthorizationToken, false)
        };
        assert_eq!(by(429), Cause::Throttled);
        assert_eq!(by(500), Cause::Unavailable(Outage::Status(500)));
        assert_eq!(by(400), Cause::Other { code: "Strange".into() });
    }

    #[test]
    fn backoff_follows_from_class() {
        let class = |cause: Cause| (cause.class().backoff(), cause.class().is_transient());
        for refusal in (0..=u8::MAX).map_while(KeyRefusal::from_repr) {
            assert_eq!(class(Cause::KeysRefused(refusal)), (Backoff::REJECTED_CREDENTIALS, false));
        }
        for cause in [Cause::Throttled, Cause::ClockSkew, Cause::Unavailable(Outage::Timeout)] {
            assert_eq!(class(cause), (Backoff::AWS_TRANSIENT, true));
        }
        let denial = Denial::default();
        let denied = Cause::ActionDenied { action: "ecr:GetAuthorizationToken", denial };
        for cause in [denied, Cause::Other { code: "Strange".into() }] {
            assert_eq!(class(cause), (Backoff::AWS_REFUSED, false));
        }
    }

    #[test]
    fn foreign_response_does_not_reject_keys() {
        let page = |status| {
            cause(Complaint { code: None, message: "", status }, AwsAction::GetAuthorizationToken, false)
        };
        assert_eq!(page(403), Cause::Unavailable(Outage::Status(403)));
        assert_eq!(page(503), Cause::Unavailable(Outage::Status(503)));
        assert_eq!(page(429), Cause::Throttled);
    }
}
