//! What AWS says when it gives no token, told apart. Pure: an error's code and message in, a cause out.
//!
//! AWS names the same failure differently in ECR's protocol (JSON) and in STS's (query), and different failures by one
//! code: only the message tells a wrong secret from a wrong clock. No message of AWS leaves this module: they hold ARNs.

use std::time::Duration;

use registry_probe::HostPort;

/// Which of AWS's APIs was asked.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Api {
    /// Elastic Container Registry.
    Ecr,
    /// Security Token Service.
    Sts,
}

impl Api {
    /// Its short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ecr => "ECR",
            Self::Sts => "STS",
        }
    }

    /// The closed set of label values for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Sts => "sts",
        }
    }
}

/// Why AWS gave no token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Why.
    pub cause: Cause,
    /// Who said so.
    pub api: Api,
    /// In which region.
    pub region: String,
    /// How long to leave AWS alone.
    pub retry_after: Option<Duration>,
}

/// Why AWS gave no token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// There is no such access key, or not any longer.
    UnknownKey {
        /// A session's token goes with the keys, and may be the one that is unknown.
        temporary: bool,
    },
    /// The signature was made with another secret.
    WrongSecret,
    /// No request can be signed with these keys.
    MalformedKeys,
    /// The session of temporary keys has ended.
    Expired,
    /// The role can't be assumed: it does not exist, or its trust policy refuses.
    RoleDenied {
        /// Whether an external id was given.
        external_id: bool,
        /// The role's partition, where the registry is in another.
        other_partition: Option<String>,
    },
    /// The identity lacks the right to that action.
    ActionDenied {
        /// The action, as IAM policies name it.
        action: &'static str,
        /// A policy denies it by name, as against none that allows it.
        explicitly: bool,
    },
    /// The identity or its signature is not for this region.
    WrongRegion,
    /// The request's time is not AWS's.
    ClockSkew,
    /// Too many requests.
    Throttled,
    /// AWS could not be asked.
    Unavailable(Outage),
    /// The proxy on the way to AWS stood in it.
    Proxy {
        /// The proxy.
        proxy: HostPort,
        /// What it did, or did not.
        trouble: ProxyTrouble,
    },
    /// The operator has no AWS identity of its own.
    NoOperatorIdentity,
    /// AWS does not take the operator's own identity.
    OperatorIdentityRefused,
    /// AWS gave a token, and the registry refuses it.
    TokenRefused {
        /// With 403, as against 401.
        forbidden: bool,
        /// The region of the registry's host, where the token is of another.
        region_of_host: Option<String>,
    },
    /// Something else, by AWS's code for it.
    Other {
        /// The code: letters and dots only.
        code: String,
    },
}

/// What a proxy on the way to AWS did, or did not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyTrouble {
    /// It can't be reached, or broke off.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// It wants another login (407).
    LoginRejected,
    /// It does not let AWS be reached.
    NoTunnel,
}

/// Why AWS could not be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// No answer in time.
    Timeout,
    /// No connection.
    Unreachable,
    /// The API's certificate can't be verified.
    Untrusted,
    /// A status that is no answer of AWS's.
    Status(u16),
    /// An answer that can't be read.
    Unreadable,
}

impl Refusal {
    /// May a retry alone change this?
    pub fn is_transient(&self) -> bool {
        matches!(
            self.cause,
            Cause::Throttled | Cause::Unavailable(_) | Cause::Proxy { .. } | Cause::ClockSkew
        )
    }

    /// Are the credentials themselves refused?
    pub fn is_rejection(&self) -> bool {
        matches!(
            self.cause,
            Cause::UnknownKey { .. }
                | Cause::WrongSecret
                | Cause::MalformedKeys
                | Cause::WrongRegion
                | Cause::Expired
        )
    }
}

/// An error of AWS, as its protocol carries it.
#[derive(Clone, Copy, Debug)]
pub struct Complaint<'a> {
    /// Its code, without a namespace.
    pub code: Option<&'a str>,
    /// What it says, in AWS's words.
    pub message: &'a str,
    /// The HTTP status.
    pub status: u16,
}

/// What was asked of AWS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// `ecr:GetAuthorizationToken`.
    GetAuthorizationToken,
    /// `ecr:DescribeRepositories`.
    DescribeRepositories,
    /// `sts:AssumeRole`.
    AssumeRole {
        /// Whether an external id was given.
        external_id: bool,
    },
}

impl Action {
    /// As IAM policies name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GetAuthorizationToken => "ecr:GetAuthorizationToken",
            Self::DescribeRepositories => "ecr:DescribeRepositories",
            Self::AssumeRole { .. } => "sts:AssumeRole",
        }
    }

    /// Which API has it.
    pub fn api(self) -> Api {
        match self {
            Self::GetAuthorizationToken | Self::DescribeRepositories => Api::Ecr,
            Self::AssumeRole { .. } => Api::Sts,
        }
    }
}

/// The cause behind a complaint about `action`; `temporary`: a session's token was sent along.
pub fn cause(complaint: Complaint<'_>, action: Action, temporary: bool) -> Cause {
    let Complaint { code, message, status } = complaint;
    let Some(code) = code.map(bare) else { return without_code(status) };
    match code {
        "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidAccessKeyId" | "InvalidToken" => {
            Cause::UnknownKey { temporary }
        }
        "ExpiredToken" | "ExpiredTokenException" => Cause::Expired,
        "InvalidSignatureException" | "InvalidSignature" | "SignatureDoesNotMatch" => signature(message),
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Cause::ClockSkew,
        "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Cause::MalformedKeys,
        "RegionDisabledException" => Cause::WrongRegion,
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "OptInRequired" => {
            denied(action, message)
        }
        "ValidationError" | "ValidationException" | "MalformedPolicyDocument" => invalid(action, code),
        _ if is_throttling(code) || status == 429 => Cause::Throttled,
        _ if status >= 500 => Cause::Unavailable(Outage::Status(status)),
        _ => Cause::Other { code: code.chars().filter(char::is_ascii_alphanumeric).take(64).collect() },
    }
}

/// Codes come as `com.amazonaws.ecr#Code` and `Code:http://…` too.
fn bare(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or(code);
    code.split(':').next().unwrap_or(code)
}

/// Not AWS's way to say no: a proxy's, or a broken server's.
fn without_code(status: u16) -> Cause {
    if status == 429 { Cause::Throttled } else { Cause::Unavailable(Outage::Status(status)) }
}

/// One code for three causes.
fn signature(message: &str) -> Cause {
    let message = message.to_ascii_lowercase();
    if message.contains("expired") || message.contains("not yet current") {
        Cause::ClockSkew
    } else if message.contains("credential should be scoped to") {
        Cause::WrongRegion
    } else {
        Cause::WrongSecret
    }
}

fn denied(action: Action, message: &str) -> Cause {
    match action {
        Action::AssumeRole { external_id } => Cause::RoleDenied { external_id, other_partition: None },
        Action::GetAuthorizationToken | Action::DescribeRepositories => {
            let explicitly = message.contains("explicit deny");
            Cause::ActionDenied { action: action.as_str(), explicitly }
        }
    }
}

/// STS finds the role's ARN or the external id ill-formed.
fn invalid(action: Action, code: &str) -> Cause {
    match action {
        Action::AssumeRole { external_id } => Cause::RoleDenied { external_id, other_partition: None },
        _ => Cause::Other { code: code.to_owned() },
    }
}

/// The codes that AWS's SDKs take for throttling.
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
            | "SlowDown"
            | "PriorRequestNotComplete"
            | "TransactionInProgressException"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: Action = Action::AssumeRole { external_id: true };

    fn said(code: &str, message: &str, action: Action) -> Cause {
        cause(Complaint { code: Some(code), message, status: 400 }, action, false)
    }

    #[test]
    fn one_code_hides_a_wrong_secret_a_wrong_clock_and_a_wrong_region() {
        let wrong = "The request signature we calculated does not match the signature you provided. Check your AWS \
                     Secret Access Key and signing method. Consult the service documentation for details.";
        let old = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z (20260101T001500Z - 5 min.)";
        let new = "Signature not yet current: 20260101T010000Z is still later than 20260101T002000Z";
        let region = "Credential should be scoped to a valid region.";
        for code in ["InvalidSignatureException", "SignatureDoesNotMatch"] {
            for action in [Action::GetAuthorizationToken, ROLE] {
                assert_eq!(said(code, wrong, action), Cause::WrongSecret);
                assert_eq!(said(code, old, action), Cause::ClockSkew);
                assert_eq!(said(code, new, action), Cause::ClockSkew);
                assert_eq!(said(code, region, action), Cause::WrongRegion);
            }
        }
    }

    #[test]
    fn each_api_has_its_own_name_for_the_same_failure() {
        let token = Action::GetAuthorizationToken;
        assert_eq!(said("UnrecognizedClientException", "", token), said("InvalidClientTokenId", "", ROLE));
        assert_eq!(said("ExpiredTokenException", "", token), said("ExpiredToken", "", ROLE));
        assert_eq!(said("ThrottlingException", "", token), said("Throttling", "", ROLE));
        assert_eq!(said("com.amazonaws.ecr#ExpiredTokenException", "", token), Cause::Expired);
    }

    #[test]
    fn a_denied_action_is_named_and_a_denied_role_is_another_matter() {
        let message = "User: arn:aws:iam::123456789012:user/x is not authorized to perform: \
                       ecr:GetAuthorizationToken on resource: * with an explicit deny in a service control policy";
        assert_eq!(
            said("AccessDeniedException", message, Action::GetAuthorizationToken),
            Cause::ActionDenied { action: "ecr:GetAuthorizationToken", explicitly: true }
        );
        assert_eq!(
            said("AccessDenied", "", ROLE),
            Cause::RoleDenied { external_id: true, other_partition: None }
        );
    }

    #[test]
    fn codes_come_with_a_namespace_before_and_an_address_behind() {
        let token = Action::GetAuthorizationToken;
        assert_eq!(
            said("ExpiredTokenException:http://internal.amazon.com/coral/", "", token),
            Cause::Expired
        );
    }

    #[test]
    fn a_wrong_clock_a_disabled_region_and_a_role_that_can_not_be_are_no_wrong_keys() {
        let token = Action::GetAuthorizationToken;
        for code in ["RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"] {
            assert_eq!(said(code, "", token), Cause::ClockSkew, "{code}");
        }
        assert_eq!(said("RegionDisabledException", "", ROLE), Cause::WrongRegion);
        let denied = Cause::RoleDenied { external_id: true, other_partition: None };
        assert_eq!(said("ValidationError", "", ROLE), denied);
        assert_eq!(
            said("ValidationException", "", token),
            Cause::Other { code: "ValidationException".into() }
        );
    }

    #[test]
    fn a_code_that_nobody_knows_is_judged_by_its_status() {
        let by = |status| {
            let complaint = Complaint { code: Some("Strange"), message: "", status };
            cause(complaint, Action::GetAuthorizationToken, false)
        };
        assert_eq!(by(429), Cause::Throttled);
        assert_eq!(by(500), Cause::Unavailable(Outage::Status(500)));
        assert_eq!(by(400), Cause::Other { code: "Strange".into() });
    }

    #[test]
    fn keys_that_are_refused_are_told_from_rights_that_are_missing_and_from_what_passes() {
        let refusal =
            |cause| Refusal { cause, api: Api::Ecr, region: "eu-central-1".into(), retry_after: None };
        for cause in [
            Cause::UnknownKey { temporary: false },
            Cause::WrongSecret,
            Cause::MalformedKeys,
            Cause::WrongRegion,
            Cause::Expired,
        ] {
            let refusal = refusal(cause);
            assert!(refusal.is_rejection() && !refusal.is_transient(), "{refusal:?}");
        }
        for cause in [Cause::Throttled, Cause::ClockSkew, Cause::Unavailable(Outage::Timeout)] {
            let refusal = refusal(cause);
            assert!(refusal.is_transient() && !refusal.is_rejection(), "{refusal:?}");
        }
        let denied = refusal(Cause::ActionDenied { action: "ecr:GetAuthorizationToken", explicitly: false });
        assert!(!denied.is_rejection() && !denied.is_transient());
    }

    #[test]
    fn what_is_no_answer_of_aws_says_nothing_of_the_credentials() {
        let page = |status| {
            cause(Complaint { code: None, message: "", status }, Action::GetAuthorizationToken, false)
        };
        assert_eq!(page(403), Cause::Unavailable(Outage::Status(403)));
        assert_eq!(page(503), Cause::Unavailable(Outage::Status(503)));
        assert_eq!(page(429), Cause::Throttled);
    }
}
