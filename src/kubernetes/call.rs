//! One call to the API server: how long it may take, what a refusal means, and how long to wait before the next try.
//!
//! The meaning comes from the fields of the `Status` object (code, reason, details), for its message quotes names that users
//! choose. A `ResourceQuota` is the one exception: see [`CallFailure::Quota`].

use std::{fmt, time::Duration};

use kube::core::{Status, response::reason};
use registry_verdict::{api_server::explanation, backoff::Backoff};
use thiserror::Error;

/// How long a call may take. A connection can die in silence.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// A server that asks for more than this is tried sooner all the same.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// The cause that the API server gives for refusing something new in a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
/// The field that an apply to an object of another incarnation violates.
const UID_FIELD: &str = "metadata.uid";
/// How the API server's quota begins its explanations.
const QUOTA: [&str; 4] =
    ["exceeded quota: ", "failed quota: ", "status unknown for quota: ", "insufficient quota to consume: "];

/// What it means that a call did not succeed, and what follows from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallFailure {
    /// The object, or its namespace, is not there, or another has taken its name. Drop what was to be done with it.
    Gone,
    /// The object is there in another version, or a new one finds its name taken. Look again, then decide anew.
    Conflict,
    /// The operator has no right to it, or a policy refuses it. Get the right if it is the operator's to get; else wait.
    Forbidden,
    /// A `ResourceQuota` is exhausted. Say so and wait; more rights don't help.
    ///
    /// The API server gives a quota's refusal the same fields as RBAC's. It is told apart by how its explanation begins,
    /// which comes after the resource and the name, so that no name can imitate it.
    Quota,
    /// The namespace is being deleted. Drop what was to be made there; the watch of namespaces sees its end.
    Terminating,
    /// The API server is busy. Wait at least as long as it asks for.
    Throttled,
    /// Nothing was heard, or a server says that it heard nothing from the next one. Wait; the call may have taken effect.
    NoAnswer,
    /// Anything else. Wait.
    Other,
}

/// A call that did not succeed.
#[derive(Debug, Error)]
pub struct CallError {
    failure: CallFailure,
    retry_after: Option<Duration>,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Deadline(Duration),
    Kube(Box<kube::Error>),
}

impl fmt::Display for CallError {
    #[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Deadline(deadline) => write!(f, "no answer in {deadline:?}"),
            Why::Kube(error) => match &**error {
                kube::Error::Api(status) => write!(f, "{} ({})", status.message, status.code),
                error => write!(f, "{error}"),
            },
        }
    }
}

impl CallError {
    /// What it means.
    pub fn failure(&self) -> CallFailure {
        self.failure
    }

    /// How long the API server asks to wait, at most five minutes.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// How long to wait after this failure, when it is one of so many in a row.
    pub fn pause(&self, failures: u32) -> Duration {
        Backoff::API_CALL.after(failures).max(self.retry_after.unwrap_or_default())
    }

    fn deadline(deadline: Duration) -> Self {
        Self { failure: CallFailure::NoAnswer, retry_after: None, why: Why::Deadline(deadline) }
    }
}

impl From<kube::Error> for CallError {
    #[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
    fn from(error: kube::Error) -> Self {
        let (failure, retry_after) = match &error {
            kube::Error::Api(status) => (CallFailure::of_status(status), retry_after(status)),
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                (CallFailure::NoAnswer, None)
            }
            _ => (CallFailure::Other, None),
        };
        Self { failure, retry_after, why: Why::Kube(Box::new(error)) }
    }
}

/// Waits for the answer to a call, for [`DEADLINE`].
pub fn call<T>(
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> impl Future<Output = Result<T, CallError>> {
    call_within(DEADLINE, answer)
}

/// Waits for the answer to a call, for what is shorter than [`DEADLINE`] because a lease ends before.
pub fn call_within<T>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> impl Future<Output = Result<T, CallError>> {
    let answer = Box::pin(answer); // a client's futures are large
    async move {
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(CallError::deadline(deadline)),
        }
    }
}

impl CallFailure {
    /// What a refusal of the API server means.
    pub fn of_status(status: &Status) -> Self {
        match status.code {
            404 | 410 => Self::Gone,
            422 if has_cause(status, |cause| cause.field == UID_FIELD) => Self::Gone,
            409 => Self::Conflict,
            403 if has_cause(status, |cause| cause.reason == NAMESPACE_TERMINATING) => Self::Terminating,
            403 if is_quota(status) => Self::Quota,
            403 => Self::Forbidden,
            429 => Self::Throttled,
            _ if status.reason == reason::SERVER_TIMEOUT || retry_after(status).is_some() => Self::Throttled,
            502..=504 => Self::NoAnswer,
            _ => Self::Other,
        }
    }
}

fn has_cause(status: &Status, is_it: impl Fn(&kube::core::response::StatusCause) -> bool) -> bool {
    status.details.iter().flat_map(|details| &details.causes).any(is_it)
}

fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref().map(|details| details.retry_after_seconds)?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(LONGEST_RETRY_AFTER))
}

/// Whether the explanation, which follows what the fields say, is one of a quota.
fn is_quota(status: &Status) -> bool {
    let explanation = explanation(status).unwrap_or_default();
    QUOTA.iter().any(|beginning| explanation.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn meaning(status: Value) -> CallFailure {
        CallFailure::of_status(&serde_json::from_value(status).unwrap())
    }

    fn forbidden(name: &str, explanation: &str) -> Value {
        json!({
            "code": 403, "reason": "Forbidden", "details": {"name": name, "kind": "secrets"},
            "message": format!("secrets {name:?} is forbidden: {explanation}"),
        })
    }

    #[test]
    fn each_refusal_has_one_meaning() {
        let terminating =
            json!({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]});
        let uid = json!({"causes": [{"reason": "FieldValueInvalid", "field": "metadata.uid"}]});
        let retry = json!({"retryAfterSeconds": 3});
        for (status, expected) in [
            (json!({"code": 404, "reason": "NotFound"}), CallFailure::Gone),
            (json!({"code": 410, "reason": "Expired"}), CallFailure::Gone),
            (json!({"code": 422, "reason": "Invalid", "details": uid}), CallFailure::Gone),
            (json!({"code": 409, "reason": "Conflict"}), CallFailure::Conflict),
            (json!({"code": 409, "reason": "AlreadyExists"}), CallFailure::Conflict),
            (json!({"code": 403, "reason": "Forbidden"}), CallFailure::Forbidden),
            (json!({"code": 403, "reason": "Forbidden", "details": terminating}), CallFailure::Terminating),
            (json!({"code": 429, "reason": "TooManyRequests", "details": retry}), CallFailure::Throttled),
            (json!({"code": 429}), CallFailure::Throttled),
            (json!({"code": 500, "reason": "ServerTimeout"}), CallFailure::Throttled),
            (json!({"code": 503, "reason": "ServiceUnavailable", "details": retry}), CallFailure::Throttled),
            (json!({"code": 504, "reason": "Timeout"}), CallFailure::NoAnswer),
            (json!({"code": 503}), CallFailure::NoAnswer),
            (json!({"code": 422, "reason": "Invalid"}), CallFailure::Other),
            (json!({"code": 500, "reason": "InternalError"}), CallFailure::Other),
        ] {
            assert_eq!(meaning(status.clone()), expected, "{status}");
        }
    }

    #[test]
    fn names_in_messages_mean_nothing() {
        for name in ["squid", "fluid", "uid", "exceeded-quota", "namespaceterminating"] {
            let message = format!(
                "Operation cannot be fulfilled on systemregistries.registry.spectrocloud.com {name:?}: the object has \
                 been modified"
            );
            let conflict = json!({"code": 409, "reason": "Conflict", "message": message});
            assert_eq!(meaning(conflict), CallFailure::Conflict, "{name}");
            let invalid = json!({"code": 422, "reason": "Invalid", "message": message});
            assert_eq!(meaning(invalid), CallFailure::Other, "{name}");
        }
    }

    #[test]
    fn a_quota_is_told_from_missing_rights() {
        let quota = "exceeded quota: few, requested: count/secrets=1, used: count/secrets=1, limited: count/secrets=1";
        assert_eq!(meaning(forbidden("pull", quota)), CallFailure::Quota);
        assert_eq!(
            meaning(forbidden("pull", "status unknown for quota: few, resources: x")),
            CallFailure::Quota
        );
        let rbac = r#"User "exceeded quota: " cannot create resource "secrets" in API group """#;
        assert_eq!(meaning(forbidden("pull", rbac)), CallFailure::Forbidden);
        let policy = "ValidatingAdmissionPolicy 'x' denied request: exceeded quota: no";
        assert_eq!(meaning(forbidden("pull", policy)), CallFailure::Forbidden);
        let by_rbac = |explanation| {
            registry_verdict::api_server::is_by_rbac(
                &serde_json::from_value(forbidden("pull", explanation)).unwrap(),
            )
        };
        assert!(by_rbac(rbac) && !by_rbac(quota) && !by_rbac(policy));
        assert!(!by_rbac("ValidatingAdmissionPolicy 'x' denied request: \"packs\" cannot be changed"));
    }

    #[test]
    fn a_pause_is_as_long_as_the_server_asks() {
        let asks = |seconds: u32| {
            let status = json!({"code": 429, "details": {"retryAfterSeconds": seconds}});
            CallError::from(kube::Error::Api(serde_json::from_value(status).unwrap()))
        };
        assert_eq!(asks(7).pause(1), Duration::from_secs(7));
        assert_eq!(asks(7).pause(5), Duration::from_secs(16));
        assert_eq!(asks(86_400).pause(1), LONGEST_RETRY_AFTER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_is_given_up_after_ten_seconds() {
        let begun = tokio::time::Instant::now();
        let error = call(std::future::pending::<Result<(), kube::Error>>()).await.unwrap_err();
        assert_eq!((error.failure(), begun.elapsed()), (CallFailure::NoAnswer, DEADLINE));
        assert_eq!(error.to_string(), "no answer in 10s");
    }
}
