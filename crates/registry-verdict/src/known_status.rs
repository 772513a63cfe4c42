//! What is kept in memory of a status that the API server has: all that the next status depends on, and digests of the rest. A status as
//! an object takes two kilobytes, and the operator knows thousands.

use aws_lc_rs::digest;
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use registry_api::{ConditionType, Reason, RegistryStatus, status::AvailabilityStatus};

/// A status, without the texts that nothing follows from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownStatus {
    /// The generation of the spec that the status describes.
    pub observed_generation: Option<i64>,
    /// When the registry was last validated.
    pub last_validation_time: Option<Timestamp>,
    /// The value of the annotation `requestedAt` that the operator last acted on.
    pub last_handled_reconcile_at: Option<Box<str>>,
    /// When the certificate expires.
    pub certificate_end: Option<Timestamp>,
    /// When the credentials expire.
    pub credentials_end: Option<Timestamp>,
    /// Where the registry is available.
    pub availability: Option<Box<AvailabilityStatus>>,
    conditions: Box<[KnownCondition]>,
    digests: StatusDigests,
}

/// A condition without its message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KnownCondition {
    /// The type.
    pub condition: ConditionType,
    /// The status.
    pub status: ConditionStatus,
    /// The reason; none for one that the operator doesn't know.
    pub reason: Option<Reason>,
    /// When the status last changed.
    pub last_transition_time: Timestamp,
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConditionStatus {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl ConditionStatus {
    /// Returns the name in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::True, Self::False, Self::Unknown].into_iter().find(|status| status.as_str() == text)
    }
}

/// How a status differs from a known one, apart from the time of the last validation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatusDifference {
    /// It doesn't.
    None,
    /// Only in what changes with the pull Secrets: the counts and the message of Ready.
    PullSecrets,
    /// In more.
    More,
}

impl KnownStatus {
    /// Takes what is kept of a status.
    pub fn of(status: &RegistryStatus) -> Self {
        let time = |time: &Time| time.0;
        Self {
            observed_generation: status.observed_generation,
            last_validation_time: status.last_validation_time.as_ref().map(time),
            last_handled_reconcile_at: status.last_handled_reconcile_at.as_deref().map(Box::from),
            certificate_end: status.tls.as_ref().and_then(|tls| tls.not_after.as_ref()).map(time),
            credentials_end: status.credentials.as_ref().and_then(|its| its.expires_at.as_ref()).map(time),
            availability: status.availability.clone().map(Box::new),
            conditions: status.conditions.iter().filter_map(KnownCondition::of).collect(),
            digests: StatusDigests::of(status),
        }
    }

    /// Returns the condition of that type, if it exists.
    pub fn condition(&self, condition: ConditionType) -> Option<KnownCondition> {
        self.conditions.iter().find(|known| known.condition == condition).copied()
    }

    /// Returns whether the condition of that type exists and is True.
    pub fn is_true(&self, condition: ConditionType) -> bool {
        self.condition(condition).is_some_and(|known| known.status == ConditionStatus::True)
    }

    /// Compares a status with this one, apart from the time of the last validation.
    pub fn difference(&self, status: &RegistryStatus) -> StatusDifference {
        let mut status = without_time(status);
        if digest_of(&status) == self.digests.whole {
            return StatusDifference::None;
        }
        clear_pull_secrets(&mut status);
        if digest_of(&status) == self.digests.without_pull_secrets {
            StatusDifference::PullSecrets
        } else {
            StatusDifference::More
        }
    }
}

impl KnownCondition {
    /// Takes what is kept of a condition; none of a condition that the operator doesn't write.
    pub fn of(condition: &Condition) -> Option<Self> {
        Some(Self {
            condition: condition.type_.parse().ok()?,
            status: ConditionStatus::parse(&condition.status)?,
            reason: condition.reason.parse().ok(),
            last_transition_time: condition.last_transition_time.0,
        })
    }
}

/// Two statuses with the same digest are the same: SHA-256, of which 128 bits are kept. Kept only in memory.
type StatusDigest = [u8; 16];

/// StatusDigests of a status without the time of the last validation.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct StatusDigests {
    whole: StatusDigest,
    /// Without what changes with the pull Secrets.
    without_pull_secrets: StatusDigest,
}

impl StatusDigests {
    fn of(status: &RegistryStatus) -> Self {
        let mut status = without_time(status);
        let whole = digest_of(&status);
        clear_pull_secrets(&mut status);
        Self { whole, without_pull_secrets: digest_of(&status) }
    }
}

fn without_time(status: &RegistryStatus) -> RegistryStatus {
    RegistryStatus { last_validation_time: None, ..status.clone() }
}

/// Removes what changes with the pull Secrets.
fn clear_pull_secrets(status: &mut RegistryStatus) {
    status.availability = None;
    let is_ready = |condition: &&mut Condition| condition.type_ == ConditionType::Ready.as_str();
    if let Some(ready) = status.conditions.iter_mut().find(is_ready) {
        ready.message.clear();
    }
}

fn digest_of(status: &RegistryStatus) -> StatusDigest {
    // A status always has a JSON form: all of its keys are texts.
    let text = serde_json::to_vec(status).unwrap_or_default();
    let mut kept = StatusDigest::default();
    kept.copy_from_slice(&digest::digest(&digest::SHA256, &text).as_ref()[..size_of::<StatusDigest>()]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(condition: ConditionType, message: &str) -> Condition {
        Condition {
            type_: condition.as_str().to_owned(),
            status: "True".to_owned(),
            reason: Reason::Available.as_str().to_owned(),
            message: message.to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    fn status() -> RegistryStatus {
        RegistryStatus {
            observed_generation: Some(1),
            conditions: vec![
                condition(ConditionType::EndpointReachable, "reachable"),
                condition(ConditionType::Ready, "ready"),
            ],
            availability: Some(AvailabilityStatus { tenants: Some(1), ..AvailabilityStatus::default() }),
            ..RegistryStatus::default()
        }
    }

    #[test]
    fn each_field_but_the_validation_time_makes_a_difference() {
        let known = KnownStatus::of(&status());
        let difference = |change: &dyn Fn(&mut RegistryStatus)| {
            let mut changed = status();
            change(&mut changed);
            known.difference(&changed)
        };
        let time = || Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(difference(&|_| {}), StatusDifference::None);
        assert_eq!(difference(&|status| status.last_validation_time = time()), StatusDifference::None);
        assert_eq!(difference(&|status| status.availability = None), StatusDifference::PullSecrets);
        assert_eq!(
            difference(&|status| status.conditions[1].message = "ready; a pull Secret is missing".to_owned()),
            StatusDifference::PullSecrets
        );
        let more: [&dyn Fn(&mut RegistryStatus); 12] = [
            &|status| status.observed_generation = None,
            &|status| status.last_handled_reconcile_at = Some(String::new()),
            &|status| status.tls = Some(registry_api::status::TlsStatus::default()),
            &|status| status.credentials = Some(registry_api::status::CredentialsStatus::default()),
            &|status| status.conditions[0].message = "refused".to_owned(),
            &|status| status.conditions[1].status = "False".to_owned(),
            &|status| status.conditions[1].reason = "Timeout".to_owned(),
            &|status| status.conditions[1].observed_generation = None,
            &|status| status.conditions[1].last_transition_time = Time(Timestamp::MAX),
            &|status| status.conditions.reverse(),
            &|status| drop(status.conditions.pop()),
            &|status| {
                let other = Condition { type_: "Other".to_owned(), ..status.conditions[0].clone() };
                status.conditions.push(other);
            },
        ];
        for (number, change) in more.into_iter().enumerate() {
            assert_eq!(difference(change), StatusDifference::More, "change {number}");
        }
    }

    /// A thousand registries have one each.
    #[test]
    fn takes_little_memory() {
        assert!(size_of::<KnownStatus>() <= 160 && size_of::<KnownCondition>() <= 24);
    }

    #[test]
    fn keeps_what_the_next_status_depends_on() {
        let mut status = status();
        status.conditions[0].reason = "AnotherVersionsReason".to_owned();
        status.conditions.push(Condition { type_: "Other".to_owned(), ..status.conditions[0].clone() });
        let known = KnownStatus::of(&status);
        let endpoint = known.condition(ConditionType::EndpointReachable).unwrap();
        assert_eq!((endpoint.status, endpoint.reason), (ConditionStatus::True, None));
        assert!(known.is_true(ConditionType::Ready) && !known.is_true(ConditionType::Stalled));
        assert_eq!(known.conditions.len(), 2, "not the condition of another client");
    }
}
