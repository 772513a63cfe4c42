//! From findings to one condition per layer. [`sentences`] has the messages.

use registry_api::{ConditionType, Reason, condition::LAYERS};
use registry_probe::{
    ContentPathFinding, CredentialsFinding, EndpointFinding, Findings, ProxyFault, TlsDefect, TlsFinding,
    Withholding,
};

use super::{ConditionLine, Observation, aws, sentences, status_of};
use crate::{
    ecr,
    resolve::{Problem, ReferenceKind},
    validate::SpecError,
};

/// Returns one line per layer, in order.
pub(super) fn lines(seen: &Observation) -> Vec<ConditionLine> {
    match seen {
        Observation::Probed(findings) => probed(findings),
        Observation::Ecr(seen) => signed_in(seen),
        Observation::Unfit(error @ (SpecError::EcrUnsupported | SpecError::Place(_))) => {
            stopped_at_references(Reason::NotPermitted, error.to_string())
        }
        Observation::Unfit(
            error @ (SpecError::Endpoint(_) | SpecError::Path { .. } | SpecError::SeveralMethods),
        ) => unfit(error),
        Observation::NotATenant => stopped_at_references(Reason::NotATenant, sentences::not_a_tenant()),
        Observation::BeyondQuota(most) => {
            stopped_at_references(Reason::NotPermitted, sentences::beyond_quota(*most))
        }
        Observation::AddressesUnknown(why) => held_back(sentences::addresses_unknown(why)),
        Observation::Unresolved(problem) => {
            stopped_at_references(reason_of(problem), sentences::problem(problem))
        }
    }
}

/// No layer was reached.
pub(super) fn not_attempted() -> Vec<ConditionLine> {
    LAYERS.iter().map(|layer| not_reached(layer.condition)).collect()
}

fn not_reached(condition: ConditionType) -> ConditionLine {
    line(condition, Reason::NotAttempted, sentences::not_attempted())
}

fn stopped_at_references(reason: Reason, message: String) -> Vec<ConditionLine> {
    let mut lines = not_attempted();
    lines[0] = line(ConditionType::ResolvedRefs, reason, message);
    lines
}

/// No connection was made, for a reason that the registry didn't cause.
fn held_back(message: String) -> Vec<ConditionLine> {
    let mut lines = not_attempted();
    lines[0] = resolved();
    lines[1] = line(ConditionType::EndpointReachable, Reason::NotAttempted, message);
    lines
}

fn unfit(error: &SpecError) -> Vec<ConditionLine> {
    let mut lines = not_attempted();
    lines[0] = resolved();
    lines[1] = line(ConditionType::EndpointReachable, Reason::NotARegistry, error.to_string());
    lines
}

fn resolved() -> ConditionLine {
    line(ConditionType::ResolvedRefs, Reason::Resolved, sentences::resolved())
}

fn probed(findings: &Findings) -> Vec<ConditionLine> {
    vec![
        resolved(),
        endpoint(&findings.endpoint),
        tls(&findings.tls),
        credentials(&findings.credentials),
        content_path(&findings.content_path),
    ]
}

/// A refusal by AWS replaces the finding about the credentials, because no credentials were sent to the registry.
fn signed_in(seen: &ecr::EcrObservation) -> Vec<ConditionLine> {
    let mut lines = probed(&seen.findings);
    if let Some(refusal) = &seen.refusal {
        let (reason, sentence) = (aws::reason(refusal), aws::sentence(refusal));
        lines[3] = line(ConditionType::CredentialsValidated, reason, sentence);
        lines[4] = not_reached(ConditionType::ContentPathAccessible);
    }
    lines
}

/// Returns the line; its status follows from the reason.
fn line(condition: ConditionType, reason: Reason, message: impl Into<String>) -> ConditionLine {
    let status = status_of(condition, reason);
    ConditionLine { condition, status, reason, message: message.into() }
}

fn reason_of(problem: &Problem) -> Reason {
    match problem {
        Problem::NotFound { reference, .. } => match reference.scope.kind {
            ReferenceKind::Secret => Reason::SecretNotFound,
            ReferenceKind::ConfigMap => Reason::ConfigMapNotFound,
        },
        Problem::AccessDenied { .. } | Problem::PolicyDenied(_) => Reason::AccessDenied,
        Problem::OperatorIdentity | Problem::AwsTokenElsewhere { .. } => Reason::NotPermitted,
        Problem::Ca { .. } | Problem::NoCaKey { .. } => Reason::CABundleInvalid,
        Problem::NoKey { .. }
        | Problem::WrongType(_)
        | Problem::Hosts { .. }
        | Problem::OtherHosts { .. }
        | Problem::NoHosts { .. }
        | Problem::NotText { .. }
        | Problem::Credentials { .. }
        | Problem::AwsKey { .. }
        | Problem::DockerConfig { .. }
        | Problem::ClientCertificate { .. } => Reason::SecretInvalid,
    }
}

fn endpoint(finding: &EndpointFinding) -> ConditionLine {
    use EndpointFinding as F;
    let reason = match finding {
        F::NotAttempted => return not_reached(ConditionType::EndpointReachable),
        F::Reachable => Reason::Reachable,
        F::DnsFailure { .. } => Reason::DNSFailure,
        F::ConnectionRefused { .. } => Reason::ConnectionRefused,
        F::ConnectionFailed { .. } => Reason::ConnectionFailed,
        F::Timeout { .. } => Reason::Timeout,
        F::NotARegistry { .. } => Reason::NotARegistry,
        F::RedirectRefused { .. } => Reason::RedirectRefused,
        F::EgressDenied { .. } => Reason::EgressDenied,
        F::ProxyFailed { failure, .. } => proxy_reason(failure.fault),
        F::ServerError { .. } => Reason::ServerError,
        F::Throttled { .. } => Reason::Throttled,
    };
    line(ConditionType::EndpointReachable, reason, sentences::endpoint(finding))
}

/// The reason says what happened, and the message says that it happened at the proxy.
fn proxy_reason(fault: ProxyFault) -> Reason {
    match fault {
        ProxyFault::Dns(_) => Reason::DNSFailure,
        ProxyFault::Refused => Reason::ConnectionRefused,
        ProxyFault::Timeout(_) => Reason::Timeout,
        ProxyFault::Forbidden(_) => Reason::EgressDenied,
        ProxyFault::Connection(_)
        | ProxyFault::Tls
        | ProxyFault::LoginRequired
        | ProxyFault::LoginRejected
        | ProxyFault::Status(_)
        | ProxyFault::NotHttp => Reason::ConnectionFailed,
    }
}

fn tls(finding: &TlsFinding) -> ConditionLine {
    let reason = match finding {
        TlsFinding::NotAttempted => return not_reached(ConditionType::TLSVerified),
        TlsFinding::PlainHttp => Reason::PlainHTTP,
        TlsFinding::Verified => Reason::Verified,
        TlsFinding::Skipped { .. } => Reason::VerificationSkipped,
        TlsFinding::Failed { defect, .. } => defect_reason(defect),
    };
    line(ConditionType::TLSVerified, reason, sentences::tls(finding))
}

fn defect_reason(defect: &TlsDefect) -> Reason {
    match defect {
        TlsDefect::UnknownIssuer { .. } => Reason::UnknownIssuer,
        TlsDefect::Expired { .. } => Reason::Expired,
        TlsDefect::NotYetValid { .. } => Reason::NotYetValid,
        TlsDefect::HostnameMismatch { .. } => Reason::HostnameMismatch,
        TlsDefect::ClientCertificateRequired(_) => Reason::ClientCertificateRequired,
        TlsDefect::HandshakeFailed(_) | TlsDefect::Unusable(_) => Reason::HandshakeFailed,
    }
}

fn credentials(finding: &CredentialsFinding) -> ConditionLine {
    use CredentialsFinding as F;
    let reason = match finding {
        F::NotAttempted => return not_reached(ConditionType::CredentialsValidated),
        F::Validated(_) => Reason::Validated,
        F::AnonymousAccess => Reason::AnonymousAccess,
        F::Rejected { .. } | F::Withheld { why: Withholding::TriedTooOften, .. } => Reason::Rejected,
        F::Forbidden { .. } | F::ForbiddenToAll { .. } => Reason::Forbidden,
        F::Required => Reason::Required,
        F::Expired => Reason::Expired,
        F::UntrustedTokenService { .. } => Reason::UntrustedTokenService,
        F::TokenRefused { .. } => Reason::TokenRefused,
        F::UnsupportedScheme { .. } => Reason::UnsupportedScheme,
        F::Unprovable(_) => Reason::Unprovable,
        F::Throttled { .. }
        | F::Withheld {
            why: Withholding::TooManyRejected | Withholding::MemoryFull | Withholding::UnderWay,
            ..
        } => Reason::Throttled,
        F::TemporarilyUnavailable { .. } => Reason::TemporarilyUnavailable,
    };
    line(ConditionType::CredentialsValidated, reason, sentences::credentials(finding))
}

fn content_path(finding: &ContentPathFinding) -> ConditionLine {
    let reason = match finding {
        ContentPathFinding::NotAttempted => return not_reached(ConditionType::ContentPathAccessible),
        ContentPathFinding::Accessible { .. } => Reason::Accessible,
        ContentPathFinding::Denied { .. } => Reason::Denied,
        ContentPathFinding::NotFound { .. } => Reason::NotFound,
        ContentPathFinding::Inconclusive(_) => Reason::Inconclusive,
    };
    line(ConditionType::ContentPathAccessible, reason, sentences::content_path(finding))
}
