//! What to do about each reason. `kubectl registry validate` prints it, and docs/messages.md lists it.

use crate::{ConditionType, Reason};

const CHECK_NETWORK: &str = "Check the host and port in spec.endpoint and the network path to it";
const RETRY: &str = "Wait and try again: requests are limited";
const PROVE: &str = "Set spec.validation.repository to a private repository, or remove spec.auth";

/// Returns what to do about a condition with that reason; `None` if there is nothing to do.
///
/// Exhaustive: a new reason doesn't compile until it has an advice.
pub fn advice(condition: ConditionType, reason: Reason) -> Option<&'static str> {
    let is_tls = condition == ConditionType::TLSVerified;
    Some(match reason {
        Reason::Resolved
        | Reason::Reachable
        | Reason::Verified
        | Reason::Validated
        | Reason::AnonymousAccess
        | Reason::Accessible
        | Reason::Available
        | Reason::VerificationSkipped
        | Reason::PlainHTTP => return None,
        Reason::SecretNotFound | Reason::ConfigMapNotFound => {
            "Create it (or add it to the file that you validate), or correct its name in spec"
        }
        Reason::SecretInvalid => "Correct the Secret that the message names",
        Reason::CABundleInvalid => {
            "Provide the CA certificate as PEM text, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
        }
        Reason::AccessDenied => "Give the operator access with the command in the message",
        Reason::NotATenant => {
            "Ask an administrator to label the namespace, or create the registry in a tenant's namespace"
        }
        Reason::NotPermitted => "Change the field that the message names",
        Reason::DNSFailure => "Correct the host in spec.endpoint, or check the DNS that resolves it",
        Reason::ConnectionRefused | Reason::ConnectionFailed | Reason::Timeout => CHECK_NETWORK,
        Reason::NotARegistry => {
            "Correct spec.endpoint: its host, its port, and its path if the registry's API does not start at the root"
        }
        Reason::RedirectRefused => "Set spec.endpoint to the registry's own address",
        Reason::EgressDenied => {
            "Use another endpoint, or ask an administrator to allow the address with --egress-allow"
        }
        Reason::ServerError => "Wait and try again, or check the registry: it failed",
        Reason::Throttled => RETRY,
        Reason::NotAttempted => "Correct the check that failed before it",
        Reason::UnknownIssuer => {
            "Add the CA to spec.tls.ca (inline, configMapRef or secretRef), or set spec.tls.insecureSkipVerify: true"
        }
        Reason::Expired if is_tls => {
            "Renew the registry's certificate, or set spec.tls.insecureSkipVerify: true"
        }
        Reason::Expired => "Put new credentials in the Secret",
        Reason::NotYetValid => "Correct the clocks, or set spec.tls.insecureSkipVerify: true",
        Reason::HostnameMismatch => {
            "Set spec.endpoint to a host in the certificate, or set spec.tls.insecureSkipVerify: true"
        }
        Reason::HandshakeFailed => {
            "Check the server's port, certificate and TLS settings; for a registry without TLS, use http:// in spec.endpoint"
        }
        Reason::ClientCertificateRequired => {
            "Reference a Secret of type kubernetes.io/tls in spec.tls.clientCertificate.secretRef"
        }
        Reason::Rejected => {
            "Correct the user name and password, or the token, in the Secret; repeated attempts may lock the account"
        }
        Reason::Forbidden => "Give the account permission to sign in and pull, or use another account",
        Reason::Required => "Reference a Secret with credentials in spec.auth",
        Reason::RoleDenied => "Correct the role, its trust policy or spec.auth.ecr.sts",
        Reason::UntrustedTokenService => {
            "If you trust the token service, add it to --trusted-token-service of the operator (and of kubectl registry validate)"
        }
        Reason::TokenRefused => {
            "Ask the registry's administrator why it rejects the token; for AWS ECR, check spec.endpoint and the region"
        }
        Reason::UnsupportedScheme => {
            "Use an address of the registry that supports Basic or Bearer authentication"
        }
        Reason::Unprovable | Reason::CredentialsUnprovable => PROVE,
        Reason::TemporarilyUnavailable => "Wait and try again: the credentials could not be checked",
        Reason::Denied | Reason::NotFound => {
            "Correct spec.baseContentPath and spec.validation.repository, or give the account permission to pull"
        }
        Reason::Inconclusive => "Set spec.validation.repository to a repository that the account can pull",
        Reason::Progressing => "Wait: the operator is validating the registry",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::LAYERS;

    #[test]
    fn every_failure_has_advice() {
        for layer in &LAYERS {
            let failing = layer.bad.iter().chain(layer.unknown);
            for reason in failing.filter(|one| !one.is_requested()) {
                let said = advice(layer.condition, *reason).unwrap_or_default();
                assert!((20..=160).contains(&said.chars().count()), "{reason}: {said}");
            }
            assert!(layer.good.iter().all(|reason| advice(layer.condition, *reason).is_none()));
        }
    }
}
