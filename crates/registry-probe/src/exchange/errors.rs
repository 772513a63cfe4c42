//! Errors in the bodies of registries and token services: OCI's envelope, OAuth2's, and a few proprietary ones.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::token::object;

/// Whether the body is OCI's error envelope (distribution-spec, "Error Codes") with at least one error.
pub(super) fn is_envelope(body: &[u8]) -> bool {
    let fields: Map<String, Value> = object(body).unwrap_or_default();
    errors_in(&fields).any(|error| error.get("code").is_some_and(Value::is_string))
}

fn errors_in(fields: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    fields.get("errors").and_then(Value::as_array).into_iter().flatten()
}

/// Whether the body says that the credentials have expired. ECR says so in the envelope, OAuth2 services in
/// `error_description` (RFC 6749, section 5.2), Docker Hub in `details`.
pub(super) fn mentions_expiry(body: &[u8]) -> bool {
    let fields: Map<String, Value> = object(body).unwrap_or_default();
    let own = ["error_description", "details", "detail", "message"].into_iter().map(|name| fields.get(name));
    let messages = errors_in(&fields).map(|error| error.get("message")).chain(own);
    messages.flatten().filter_map(Value::as_str).any(is_about_expiry)
}

/// Whether a message is about expired credentials. Licences expire too, and a new password doesn't fix that.
fn is_about_expiry(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let is_of_another = ["licen", "subscription", "trial", "certificate", "domain"];
    message.contains("expired") && !is_of_another.iter().any(|word| message.contains(word))
}

/// Whether the error is about the request and not about the credentials (RFC 6749, section 5.2).
pub(super) fn blames_request(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct OAuthError {
        error: String,
    }
    let blamed = ["invalid_request", "invalid_scope", "unsupported_grant_type", "unauthorized_client"];
    object(body).is_some_and(|OAuthError { error }| blamed.contains(&error.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_expired_credentials() {
        for body in [
            r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate."}]}"#,
            r#"{"errors":[{"message":"no code"},{"code":"UNAUTHORIZED","message":"token is expired"}]}"#,
            r#"{"error":"invalid_grant","error_description":"The refresh token expired"}"#,
            r#"{"details":"personal access token is expired"}"#,
        ] {
            assert!(mentions_expiry(body.as_bytes()), "{body}");
        }
        for body in [
            "expired",
            r#"{"errors":[{"code":"DENIED","message":"no"}]}"#,
            r#"{"errors":[{"code":"DENIED","message":"The license has expired"}]}"#,
            r#"{"errors":"expired"}"#,
            r#"["expired"]"#,
        ] {
            assert!(!mentions_expiry(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn one_error_with_code_makes_an_envelope() {
        assert!(is_envelope(br#"{"errors":[{"message":"x"},{"code":"DENIED","message":5}]}"#));
        for body in [
            r#"{"errors":[{"code":401}]}"#,
            r#"{"errors":{"code":"X"}}"#,
            r#"{"errors":null}"#,
            "{}",
            "[]",
            "",
        ] {
            assert!(!is_envelope(body.as_bytes()), "{body}");
        }
    }
}
