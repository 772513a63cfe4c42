//! What to do about a status, in one sentence. Pure. The condition's message says what failed; this says what to do
//! next.

use registry_api::{ConditionType, Reason, RegistryStatus, advice::advice, condition::LAYERS};

/// The result of a check.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CheckOutcome {
    /// The registry can be used.
    Usable,
    /// There is no reliable result.
    Unclear,
    /// The registry can't be used.
    Unusable,
}

impl CheckOutcome {
    /// Returns the result for a status.
    pub fn of(status: &RegistryStatus) -> Self {
        match status.condition(ConditionType::Ready).map(|ready| ready.status.as_str()) {
            Some("True") => Self::Usable,
            Some("False") => Self::Unusable,
            _ => Self::Unclear,
        }
    }
}

/// Returns the last line of a check: the result, or what to do.
pub fn conclusion(status: &RegistryStatus) -> String {
    let reason = |condition| status.condition(condition).and_then(|one| one.reason.parse::<Reason>().ok());
    match (CheckOutcome::of(status), reason(ConditionType::CredentialsValidated)) {
        (CheckOutcome::Usable, Some(Reason::AnonymousAccess)) => {
            "Usable: the registry allows anonymous access, and no credentials are given".to_owned()
        }
        (CheckOutcome::Usable, Some(Reason::Unprovable)) => {
            "Usable, but the credentials could not be verified: set spec.validation.repository to a private repository, or \
             remove spec.auth"
                .to_owned()
        }
        (CheckOutcome::Usable, _) => "Credentials validated".to_owned(),
        (CheckOutcome::Unclear, _) => format!("Not known: {}", message(status, ConditionType::Ready)),
        (CheckOutcome::Unusable, _) => unusable(status, reason(ConditionType::Ready)),
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

/// Returns the layer that Ready has its reason from.
fn failing(status: &RegistryStatus, reason: Reason) -> Option<ConditionType> {
    let is = |condition| status.condition(condition).is_some_and(|one| one.reason == reason.as_str());
    LAYERS.iter().map(|layer| layer.condition).find(|layer| is(*layer))
}

fn message(status: &RegistryStatus, condition: ConditionType) -> &str {
    status.condition(condition).map_or("no result", |one| one.message.as_str())
}

/// Returns what to do about a layer that failed for that reason, with differences between this machine and the cluster.
fn next(layer: ConditionType, reason: Reason) -> String {
    let advice = advice(layer, reason).unwrap_or("See the message above");
    let is_network = matches!(
        reason,
        Reason::DNSFailure | Reason::ConnectionRefused | Reason::ConnectionFailed | Reason::Timeout
    );
    let here = if is_network { " (the cluster's network may differ from this machine's)" } else { "" };
    format!("{advice}{here}")
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
    fn validated_credentials_have_fixed_message() {
        let proven = status(&[
            (ConditionType::TLSVerified, "False", Reason::VerificationSkipped),
            (ConditionType::CredentialsValidated, "True", Reason::Validated),
            (ConditionType::Ready, "True", Reason::Available),
        ]);
        assert_eq!(
            (CheckOutcome::of(&proven), conclusion(&proven)),
            (CheckOutcome::Usable, "Credentials validated".into())
        );
    }

    #[test]
    fn unprovable_credentials_claim_no_proof() {
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
    fn each_failure_says_what_to_do() {
        for layer in &LAYERS {
            for reason in layer.bad.iter().filter(|one| !one.is_requested()) {
                let failed =
                    status(&[(layer.condition, "False", *reason), (ConditionType::Ready, "False", *reason)]);
                let said = conclusion(&failed);
                let start = format!("Not usable: {} is {reason}. ", layer.condition);
                assert!(said.starts_with(&start) && said.len() > start.len() + 20, "{said}");
            }
        }
    }

    #[test]
    fn unknown_issuer_advice_offers_both_remedies() {
        let failed = status(&[
            (ConditionType::TLSVerified, "False", Reason::UnknownIssuer),
            (ConditionType::Ready, "False", Reason::UnknownIssuer),
        ]);
        let said = conclusion(&failed);
        assert!(
            said.contains("Add the CA to spec.tls.ca") && said.contains("spec.tls.insecureSkipVerify: true")
        );
    }
}
