//! What to do about a verdict, in a sentence. Pure. The condition's message says what was seen; this says what is next.

use registry_api::{ConditionType, Reason, RegistryStatus, condition::LAYERS};

/// What comes of a check.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// The registry can be used.
    Usable,
    /// It could not be told.
    Unclear,
    /// The registry can't be used.
    Unusable,
}

impl Outcome {
    /// What a status comes to.
    pub fn of(status: &RegistryStatus) -> Self {
        match status.condition(ConditionType::Ready).map(|ready| ready.status.as_str()) {
            Some("True") => Self::Usable,
            Some("False") => Self::Unusable,
            _ => Self::Unclear,
        }
    }
}

/// The last line of a check: what is so, or what to do.
pub fn conclusion(status: &RegistryStatus) -> String {
    let reason = |condition| status.condition(condition).and_then(|one| one.reason.parse::<Reason>().ok());
    match (Outcome::of(status), reason(ConditionType::CredentialsValidated)) {
        (Outcome::Usable, Some(Reason::AnonymousAccess)) => {
            "Usable: the registry serves anonymous clients, and no credentials are given".to_owned()
        }
        (Outcome::Usable, Some(Reason::Unprovable)) => {
            "Usable, but nothing proves the credentials: name a repository \
             that only they can read in spec.validation.repository, or remove spec.auth"
                .to_owned()
        }
        (Outcome::Usable, _) => "Credentials validated".to_owned(),
        (Outcome::Unclear, _) => format!("Not known: {}", message(status, ConditionType::Ready)),
        (Outcome::Unusable, _) => unusable(status, reason(ConditionType::Ready)),
    }
}

fn unusable(status: &RegistryStatus, reason: Option<Reason>) -> String {
    let layer = reason.and_then(|reason| failing(status, reason));
    match (layer, reason) {
        (Some(layer), Some(reason)) => {
            format!("Not usable: {} is {reason}. {}", layer.as_str(), next(layer, reason))
        }
        _ => format!("Not usable: {}", message(status, ConditionType::Ready)),
    }
}

/// The layer that Ready has its reason from.
fn failing(status: &RegistryStatus, reason: Reason) -> Option<ConditionType> {
    let is = |condition| status.condition(condition).is_some_and(|one| one.reason == reason.as_str());
    LAYERS.iter().map(|layer| layer.condition).find(|layer| is(*layer))
}

fn message(status: &RegistryStatus, condition: ConditionType) -> &str {
    status.condition(condition).map_or("nothing was found out", |one| one.message.as_str())
}

const CA_OR_SKIP: &str = "Give a CA (spec.tls.ca, by inline, configMapRef or secretRef) or skip verification \
                          (spec.tls.insecureSkipVerify: true)";

/// What to do about a layer that failed for that reason.
fn next(layer: ConditionType, reason: Reason) -> &'static str {
    match layer {
        ConditionType::ResolvedRefs => about_references(reason),
        ConditionType::EndpointReachable => about_endpoint(reason),
        ConditionType::TLSVerified => about_tls(reason),
        ConditionType::CredentialsValidated => about_credentials(reason),
        _ => {
            "Correct spec.baseContentPath and spec.validation.repository, or give the account the right to pull from there"
        }
    }
}

fn about_references(reason: Reason) -> &'static str {
    match reason {
        Reason::NotATenant => {
            "Have a cluster administrator label the namespace, or put the registry into one of the tenant's"
        }
        Reason::NotPermitted => "Change the field that the message names",
        Reason::CABundleInvalid => {
            "Give the CA's certificate as PEM text, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
        }
        Reason::SecretNotFound | Reason::ConfigMapNotFound => {
            "Put what is missing into the file, or create it in the cluster, or correct its name in the spec"
        }
        _ => "Correct the object that the message names",
    }
}

fn about_endpoint(reason: Reason) -> &'static str {
    match reason {
        Reason::DNSFailure => {
            "Correct the host in spec.endpoint; if only the cluster can look it up, apply it and see what the operator says"
        }
        Reason::ConnectionRefused | Reason::ConnectionFailed | Reason::Timeout => {
            "Check host and port of spec.endpoint, and the way there from this machine: the cluster's may differ"
        }
        Reason::RedirectRefused => "Write the registry's own address into spec.endpoint",
        Reason::EgressDenied => {
            "Write another endpoint: addresses of cloud metadata services are never connected to"
        }
        Reason::ServerError | Reason::Throttled => "Try again later: this is the registry's own trouble",
        _ => {
            "Correct spec.endpoint: host, port, and the path where the registry's API does not start at the root"
        }
    }
}

fn about_tls(reason: Reason) -> &'static str {
    match reason {
        Reason::UnknownIssuer => CA_OR_SKIP,
        Reason::Expired | Reason::NotYetValid => {
            "Renew the registry's certificate (or set the clocks right), or skip verification \
             (spec.tls.insecureSkipVerify: true)"
        }
        Reason::HostnameMismatch => {
            "Write a name that the certificate is for into spec.endpoint, or skip verification \
             (spec.tls.insecureSkipVerify: true)"
        }
        Reason::ClientCertificateRequired => {
            "Name a Secret of type kubernetes.io/tls in spec.tls.clientCertificate.secretRef"
        }
        _ => "Check that this port speaks TLS; a registry without it has http:// in spec.endpoint",
    }
}

fn about_credentials(reason: Reason) -> &'static str {
    match reason {
        Reason::Rejected => {
            "Correct the user name and password, or the token, in the Secret; many tries may lock the account"
        }
        Reason::Required => "Name a Secret with credentials in spec.auth",
        Reason::Forbidden => "Give the account the right to sign in and to pull, or use another",
        Reason::Expired => "Put fresh credentials into the Secret",
        Reason::RoleDenied => "Correct the role, its trust policy or spec.auth.ecr.sts",
        Reason::UntrustedTokenService => {
            "If the token service is to be trusted, give --trusted-token-service, here and to the operator"
        }
        Reason::TokenRefused => {
            "Have the registry's administrator see why it refuses the tokens of its own token service"
        }
        Reason::UnsupportedScheme => {
            "Use an address of the registry that asks for Basic or Bearer authentication"
        }
        _ => "Try again later: the credentials could not be tried to the end",
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        apimachinery::pkg::apis::meta::v1::{Condition, Time},
        jiff::Timestamp,
    };

    use super::*;

    fn status(conditions: &[(ConditionType, &str, Reason)]) -> RegistryStatus {
        let condition = |(condition, status, reason): &(ConditionType, &str, Reason)| Condition {
            type_: condition.as_str().to_owned(),
            status: (*status).to_owned(),
            reason: reason.as_str().to_owned(),
            message: "a message".to_owned(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        RegistryStatus { conditions: conditions.iter().map(condition).collect(), ..RegistryStatus::default() }
    }

    #[test]
    fn proven_credentials_end_in_the_sentence_that_users_wait_for() {
        let proven = status(&[
            (ConditionType::TLSVerified, "False", Reason::VerificationSkipped),
            (ConditionType::CredentialsValidated, "True", Reason::Validated),
            (ConditionType::Ready, "True", Reason::Available),
        ]);
        assert_eq!(
            (Outcome::of(&proven), conclusion(&proven)),
            (Outcome::Usable, "Credentials validated".into())
        );
    }

    #[test]
    fn usable_without_proof_does_not_claim_any() {
        for reason in [Reason::AnonymousAccess, Reason::Unprovable] {
            let usable = status(&[
                (ConditionType::CredentialsValidated, "Unknown", reason),
                (ConditionType::Ready, "True", Reason::Available),
            ]);
            assert!(conclusion(&usable).starts_with("Usable"), "{}", conclusion(&usable));
            assert!(!conclusion(&usable).contains("validated"));
        }
    }

    #[test]
    fn each_failure_of_each_layer_says_what_to_do() {
        for layer in &LAYERS {
            for reason in
                layer.bad.iter().filter(|one| !matches!(one, Reason::VerificationSkipped | Reason::PlainHTTP))
            {
                let failed =
                    status(&[(layer.condition, "False", *reason), (ConditionType::Ready, "False", *reason)]);
                let said = conclusion(&failed);
                let start = format!("Not usable: {} is {reason}. ", layer.condition);
                assert!(said.starts_with(&start) && said.len() > start.len() + 20, "{said}");
            }
        }
    }

    #[test]
    fn an_unknown_issuer_is_met_as_a_console_does() {
        let failed = status(&[
            (ConditionType::TLSVerified, "False", Reason::UnknownIssuer),
            (ConditionType::Ready, "False", Reason::UnknownIssuer),
        ]);
        let said = conclusion(&failed);
        assert!(
            said.contains("Give a CA (spec.tls.ca") && said.contains("spec.tls.insecureSkipVerify: true")
        );
    }
}
