//! One call to the API server: its deadline, the class of a failure, and the delay before the next attempt.
//!
//! The class depends on the fields of the `Status` object (code, reason, details), because its message contains names
//! that users choose. A `ResourceQuota` is the one exception: see [`CallFailure::Quota`].

use std::{fmt, time::Duration};

use kube::core::{Status, response::reason};
use registry_probe::Backoff;
use registry_verdict::api_server::explanation;
use thiserror::Error;

/// Deadline for a call, because a connection can die without notice.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The maximum delay that the API server can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// The cause in a refusal to create something in a namespace that is being deleted.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
/// The field in a refusal of an apply with the uid of a deleted object.
const UID_FIELD: &str = "metadata.uid";
/// How the API server's explanations of an exceeded quota begin.
const QUOTA: [&str; 4] =
    ["exceeded quota: ", "failed quota: ", "status unknown for quota: ", "insufficient quota to consume: "];

/// The class of a failed call, and what the caller does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallFailure {
    /// The object or its namespace doesn't exist, or another object has its name. Drop the work.
    Gone,
    /// The object has another version, or the name is taken. Read the object again, then decide.
    Conflict,
    /// The operator has no permission, or a policy refuses the request. Get the permission if the operator can,
    /// otherwise wait.
    Forbidden,
    /// A `ResourceQuota` is used up. Report it and wait; more permissions don't help.
    ///
    /// The API server gives this error the same fields as RBAC's. It is recognized by how its explanation begins. The
    /// explanation comes after the resource and the name, so a name can't imitate it.
    Quota,
    /// The namespace is being deleted. Drop the work; the watch of namespaces shows the deletion.
    Terminating,
    /// The API server is busy. Wait at least as long as it asks for.
    Throttled,
    /// There was no answer, or a proxy got none. Wait; the call may have taken effect.
    NoAnswer,
    /// Anything else. Wait.
    Other,
}

/// A failed call.
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
    /// Returns the class of the failure.
    pub fn failure(&self) -> CallFailure {
        self.failure
    }

    /// Returns how long the API server asks to wait, at most five minutes.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the delay before the next attempt, after a number of failures in a row.
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

/// Waits for the result of a call, at most [`DEADLINE`].
pub fn call<T>(
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> impl Future<Output = Result<T, CallError>> {
    call_within(DEADLINE, answer)
}

/// Waits for the result of a call, at most `deadline`, which may be shorter than [`DEADLINE`] because a Lease expires
/// before.
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
    /// Classifies an error response of the API server.
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

/// Returns whether the explanation, after the part that is made from the fields, is a quota's.
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
    fn ignores_names_in_messages() {
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
    fn distinguishes_quota_from_missing_rbac() {
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
    fn honours_retry_after_of_api_server() {
        let asks = |seconds: u32| {
            let status = json!({"code": 429, "details": {"retryAfterSeconds": seconds}});
            CallError::from(kube::Error::Api(serde_json::from_value(status).unwrap()))
        };
        assert_eq!(asks(7).pause(1), Duration::from_secs(7));
        assert_eq!(asks(7).pause(5), Duration::from_secs(16));
        assert_eq!(asks(86_400).pause(1), LONGEST_RETRY_AFTER);
    }

    #[tokio::test(start_paused = true)]
    async fn times_out_after_ten_seconds() {
        let begun = tokio::time::Instant::now();
        let error = call(std::future::pending::<Result<(), kube::Error>>()).await.unwrap_err();
        assert_eq!((error.failure(), begun.elapsed()), (CallFailure::NoAnswer, DEADLINE));
        assert_eq!(error.to_string(), "no answer in 10s");
    }
}
