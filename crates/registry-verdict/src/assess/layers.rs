//! From findings to one condition per layer. [`sentences`](super::sentences) has the messages.

use registry_api::{ConditionType, Reason, condition::LAYERS};
use registry_probe::{
    ContentPathFinding, CredentialsFinding, EndpointFinding, Findings, ProxyFault, TlsDefect, TlsFinding,
    Withholding,
};

use super::{ConditionLine, ConditionStatus, Observation, aws, sentences};
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
        Observation::Unfit(error) => unfit(error),
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
    line(condition, ConditionStatus::Unknown, Reason::NotAttempted, sentences::not_attempted())
}

fn stopped_at_references(reason: Reason, message: String) -> Vec<ConditionLine> {
    let mut lines = not_attempted();
    lines[0] = line(ConditionType::ResolvedRefs, ConditionStatus::False, reason, message);
    lines
}

/// No connection was made, for a reason that the registry didn't cause.
fn held_back(message: String) -> Vec<ConditionLine> {
    let mut lines = not_attempted();
    lines[0] = resolved();
    lines[1] =
        line(ConditionType::EndpointReachable, ConditionStatus::Unknown, Reason::NotAttempted, message);
    lines
}

fn unfit(error: &SpecError) -> Vec<ConditionLine> {
    let mut lines = not_attempted();
    lines[0] = resolved();
    lines[1] = line(
        ConditionType::EndpointReachable,
        ConditionStatus::False,
        Reason::NotARegistry,
        error.to_string(),
    );
    lines
}

fn resolved() -> ConditionLine {
    line(ConditionType::ResolvedRefs, ConditionStatus::True, Reason::Resolved, sentences::resolved())
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
        let (status, reason) = aws::verdict(refusal);
        lines[3] = line(ConditionType::CredentialsValidated, status, reason, aws::sentence(refusal));
        lines[4] = not_reached(ConditionType::ContentPathAccessible);
    }
    lines
}

fn line(
    condition: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: impl Into<String>,
) -> ConditionLine {
    ConditionLine { condition, status, reason, message: sentences::capped(message.into()) }
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
    let (status, reason) = match finding {
        F::NotAttempted => return not_reached(ConditionType::EndpointReachable),
        F::Reachable => (ConditionStatus::True, Reason::Reachable),
        F::DnsFailure { .. } => (ConditionStatus::False, Reason::DNSFailure),
        F::ConnectionRefused { .. } => (ConditionStatus::False, Reason::ConnectionRefused),
        F::ConnectionFailed { .. } => (ConditionStatus::False, Reason::ConnectionFailed),
        F::Timeout { .. } => (ConditionStatus::False, Reason::Timeout),
        F::NotARegistry { .. } => (ConditionStatus::False, Reason::NotARegistry),
        F::RedirectRefused { .. } => (ConditionStatus::False, Reason::RedirectRefused),
        F::EgressDenied { .. } => (ConditionStatus::False, Reason::EgressDenied),
        F::ProxyFailed { failure, .. } => (ConditionStatus::False, proxy_reason(failure.fault)),
        F::ServerError { .. } => (ConditionStatus::False, Reason::ServerError),
        F::Throttled { .. } => (ConditionStatus::Unknown, Reason::Throttled),
    };
    line(ConditionType::EndpointReachable, status, reason, sentences::endpoint(finding))
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
    let (status, reason) = match finding {
        TlsFinding::NotAttempted => return not_reached(ConditionType::TLSVerified),
        TlsFinding::PlainHttp => (ConditionStatus::False, Reason::PlainHTTP),
        TlsFinding::Verified => (ConditionStatus::True, Reason::Verified),
        TlsFinding::Skipped { .. } => (ConditionStatus::False, Reason::VerificationSkipped),
        TlsFinding::Failed { defect, .. } => (ConditionStatus::False, defect_reason(defect)),
    };
    line(ConditionType::TLSVerified, status, reason, sentences::tls(finding))
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
    let (status, reason) = match finding {
        F::NotAttempted => return not_reached(ConditionType::CredentialsValidated),
        F::Validated(_) => (ConditionStatus::True, Reason::Validated),
        F::AnonymousAccess => (ConditionStatus::True, Reason::AnonymousAccess),
        F::Rejected { .. } | F::Withheld { why: Withholding::TriedTooOften, .. } => {
            (ConditionStatus::False, Reason::Rejected)
        }
        F::Forbidden { .. } | F::ForbiddenToAll { .. } => (ConditionStatus::False, Reason::Forbidden),
        F::Required => (ConditionStatus::False, Reason::Required),
        F::Expired => (ConditionStatus::False, Reason::Expired),
        F::UntrustedTokenService { .. } => (ConditionStatus::False, Reason::UntrustedTokenService),
        F::TokenRefused { .. } => (ConditionStatus::False, Reason::TokenRefused),
        F::UnsupportedScheme { .. } => (ConditionStatus::False, Reason::UnsupportedScheme),
        F::Unprovable(_) => (ConditionStatus::Unknown, Reason::Unprovable),
        F::Throttled { .. } | F::Withheld { .. } => (ConditionStatus::Unknown, Reason::Throttled),
        F::TemporarilyUnavailable { .. } => (ConditionStatus::Unknown, Reason::TemporarilyUnavailable),
    };
    line(ConditionType::CredentialsValidated, status, reason, sentences::credentials(finding))
}

fn content_path(finding: &ContentPathFinding) -> ConditionLine {
    let (status, reason) = match finding {
        ContentPathFinding::NotAttempted => return not_reached(ConditionType::ContentPathAccessible),
        ContentPathFinding::Accessible { .. } => (ConditionStatus::True, Reason::Accessible),
        ContentPathFinding::Denied { .. } => (ConditionStatus::False, Reason::Denied),
        ContentPathFinding::NotFound { .. } => (ConditionStatus::False, Reason::NotFound),
        ContentPathFinding::Inconclusive(_) => (ConditionStatus::Unknown, Reason::Inconclusive),
    };
    line(ConditionType::ContentPathAccessible, status, reason, sentences::content_path(finding))
}
