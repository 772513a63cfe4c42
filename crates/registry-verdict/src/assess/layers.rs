//! Findings → one line per layer. What is said of each is in [`sentences`](super::sentences).

use registry_api::{ConditionType, Reason, condition::LAYERS};
use registry_probe::{
    ContentPathFinding, CredentialsFinding, EndpointFinding, Findings, ProxyFault, TlsDefect, TlsFinding,
    Withholding,
};

use super::{Line, Seen, Standing, aws, sentences};
use crate::{
    ecr,
    resolve::{Problem, ReferenceKind},
    validate::SpecError,
};

/// One line for each layer, in order.
pub(super) fn lines(seen: &Seen) -> Vec<Line> {
    match seen {
        Seen::Probed(findings) => probed(findings),
        Seen::Ecr(seen) => signed_in(seen),
        Seen::Unfit(error @ (SpecError::EcrUnsupported | SpecError::Place(_))) => {
            stopped_at_references(Reason::NotPermitted, error.to_string())
        }
        Seen::Unfit(error) => unfit(error),
        Seen::NotATenant => stopped_at_references(Reason::NotATenant, sentences::not_a_tenant()),
        Seen::BeyondQuota(most) => {
            stopped_at_references(Reason::NotPermitted, sentences::beyond_quota(*most))
        }
        Seen::AddressesUnknown(why) => held_back(sentences::addresses_unknown(why)),
        Seen::Unresolved(problem) => stopped_at_references(reason_of(problem), sentences::problem(problem)),
    }
}

/// No layer was reached.
pub(super) fn not_attempted() -> Vec<Line> {
    LAYERS.iter().map(|layer| not_reached(layer.condition)).collect()
}

fn not_reached(condition: ConditionType) -> Line {
    line(condition, Standing::Unknown, Reason::NotAttempted, sentences::not_attempted())
}

fn stopped_at_references(reason: Reason, message: String) -> Vec<Line> {
    let mut lines = not_attempted();
    lines[0] = line(ConditionType::ResolvedRefs, Standing::False, reason, message);
    lines
}

/// Nobody connects, for a reason that is not the registry's.
fn held_back(message: String) -> Vec<Line> {
    let mut lines = not_attempted();
    lines[0] = resolved();
    lines[1] = line(ConditionType::EndpointReachable, Standing::Unknown, Reason::NotAttempted, message);
    lines
}

fn unfit(error: &SpecError) -> Vec<Line> {
    let mut lines = not_attempted();
    lines[0] = resolved();
    lines[1] =
        line(ConditionType::EndpointReachable, Standing::False, Reason::NotARegistry, error.to_string());
    lines
}

fn resolved() -> Line {
    line(ConditionType::ResolvedRefs, Standing::True, Reason::Resolved, sentences::resolved())
}

fn probed(findings: &Findings) -> Vec<Line> {
    vec![
        resolved(),
        endpoint(&findings.endpoint),
        tls(&findings.tls),
        credentials(&findings.credentials),
        content_path(&findings.content_path),
    ]
}

/// What AWS refuses stands where the credentials do: nobody has signed in to the registry itself.
fn signed_in(seen: &ecr::Seen) -> Vec<Line> {
    let mut lines = probed(&seen.findings);
    if let Some(refusal) = &seen.refusal {
        let (status, reason) = aws::verdict(refusal);
        lines[3] = line(ConditionType::CredentialsValidated, status, reason, aws::sentence(refusal));
        lines[4] = not_reached(ConditionType::ContentPathAccessible);
    }
    lines
}

fn line(condition: ConditionType, status: Standing, reason: Reason, message: impl Into<String>) -> Line {
    Line { condition, status, reason, message: sentences::capped(message.into()) }
}

fn reason_of(problem: &Problem) -> Reason {
    match problem {
        Problem::NotFound(reference) => match reference.shelf.kind {
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

fn endpoint(finding: &EndpointFinding) -> Line {
    use EndpointFinding as F;
    let (status, reason) = match finding {
        F::NotAttempted => return not_reached(ConditionType::EndpointReachable),
        F::Reachable => (Standing::True, Reason::Reachable),
        F::DnsFailure { .. } => (Standing::False, Reason::DNSFailure),
        F::ConnectionRefused { .. } => (Standing::False, Reason::ConnectionRefused),
        F::ConnectionFailed { .. } => (Standing::False, Reason::ConnectionFailed),
        F::Timeout { .. } => (Standing::False, Reason::Timeout),
        F::NotARegistry { .. } => (Standing::False, Reason::NotARegistry),
        F::RedirectRefused { .. } => (Standing::False, Reason::RedirectRefused),
        F::EgressDenied { .. } => (Standing::False, Reason::EgressDenied),
        F::ProxyFailed { failure, .. } => (Standing::False, proxy_reason(failure.fault)),
        F::ServerError { .. } => (Standing::False, Reason::ServerError),
        F::Throttled { .. } => (Standing::Unknown, Reason::Throttled),
    };
    line(ConditionType::EndpointReachable, status, reason, sentences::endpoint(finding))
}

/// The reason says what happened, the message that it happened at the proxy.
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

fn tls(finding: &TlsFinding) -> Line {
    let (status, reason) = match finding {
        TlsFinding::NotAttempted => return not_reached(ConditionType::TLSVerified),
        TlsFinding::PlainHttp => (Standing::False, Reason::PlainHTTP),
        TlsFinding::Verified => (Standing::True, Reason::Verified),
        TlsFinding::Skipped { .. } => (Standing::False, Reason::VerificationSkipped),
        TlsFinding::Failed { defect, .. } => (Standing::False, defect_reason(defect)),
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

fn credentials(finding: &CredentialsFinding) -> Line {
    use CredentialsFinding as F;
    let (status, reason) = match finding {
        F::NotAttempted => return not_reached(ConditionType::CredentialsValidated),
        F::Validated(_) => (Standing::True, Reason::Validated),
        F::AnonymousAccess => (Standing::True, Reason::AnonymousAccess),
        F::Rejected { .. } | F::Withheld { why: Withholding::TriedTooOften, .. } => {
            (Standing::False, Reason::Rejected)
        }
        F::Forbidden { .. } | F::ForbiddenToAll { .. } => (Standing::False, Reason::Forbidden),
        F::Required => (Standing::False, Reason::Required),
        F::Expired => (Standing::False, Reason::Expired),
        F::UntrustedTokenService { .. } => (Standing::False, Reason::UntrustedTokenService),
        F::TokenRefused { .. } => (Standing::False, Reason::TokenRefused),
        F::UnsupportedScheme { .. } => (Standing::False, Reason::UnsupportedScheme),
        F::Unprovable(_) => (Standing::Unknown, Reason::Unprovable),
        F::Throttled { .. } | F::Withheld { .. } => (Standing::Unknown, Reason::Throttled),
        F::TemporarilyUnavailable { .. } => (Standing::Unknown, Reason::TemporarilyUnavailable),
    };
    line(ConditionType::CredentialsValidated, status, reason, sentences::credentials(finding))
}

fn content_path(finding: &ContentPathFinding) -> Line {
    let (status, reason) = match finding {
        ContentPathFinding::NotAttempted => return not_reached(ConditionType::ContentPathAccessible),
        ContentPathFinding::Accessible { .. } => (Standing::True, Reason::Accessible),
        ContentPathFinding::Denied { .. } => (Standing::False, Reason::Denied),
        ContentPathFinding::NotFound { .. } => (Standing::False, Reason::NotFound),
        ContentPathFinding::Inconclusive(_) => (Standing::Unknown, Reason::Inconclusive),
    };
    line(ConditionType::ContentPathAccessible, status, reason, sentences::content_path(finding))
}
