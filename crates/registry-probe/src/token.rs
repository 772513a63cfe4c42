//! Tokens: responses of token services, and the claims of tokens.
//!
//! Parses token responses (Docker Registry v2 authentication, "token"; RFC 6749, section 5.1)
//! and of the claims of JSON Web Tokens. Claims are read, not verified: the registry does that; here they
//! only show which account a service recognized.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// A token that a token service issued.
#[derive(Clone)]
pub(crate) struct IssuedToken {
    pub(crate) secret: SecretString,
    pub(crate) claims: Option<Claims>,
}

/// The claims of a JSON Web Token.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Claims {
    /// The subject. Hidden from `Debug`, because it may be a user's name.
    #[serde(deserialize_with = "text_or_nothing")]
    sub: Option<String>,
    /// The account's number at Gitea and Forgejo, which write no `sub`.
    #[serde(rename = "UserID", deserialize_with = "number_or_nothing")]
    user_id: Option<i64>,
    /// The expiry, in seconds since 1970.
    #[serde(deserialize_with = "seconds_or_nothing")]
    exp: Option<i64>,
    /// The grants.
    #[serde(deserialize_with = "list_or_nothing")]
    access: Vec<TokenAccess>,
}

/// A grant: an entry of `access`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct TokenAccess {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenResponse {
    #[serde(deserialize_with = "text_or_nothing")]
    token: Option<String>,
    #[serde(deserialize_with = "text_or_nothing")]
    access_token: Option<String>,
}

fn text_or_nothing<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    Ok(serde_json::Value::deserialize(input)?.as_str().map(ToOwned::to_owned))
}

fn number_or_nothing<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<i64>, D::Error> {
    Ok(serde_json::Value::deserialize(input)?.as_i64())
}

fn seconds_or_nothing<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<i64>, D::Error> {
    let value = serde_json::Value::deserialize(input)?;
    #[expect(clippy::cast_possible_truncation, reason = "some services write the seconds with a fraction")]
    Ok(value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64)))
}

fn list_or_nothing<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<TokenAccess>, D::Error> {
    Ok(serde_json::from_value(serde_json::Value::deserialize(input)?).unwrap_or_default())
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("claims", &self.claims).finish_non_exhaustive()
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("exp", &self.exp).field("access", &self.access).finish_non_exhaustive()
    }
}

impl IssuedToken {
    /// The token of a 200 from a token service: `token` or `access_token`, whichever holds one that a header
    /// can carry.
    pub(crate) fn of_response(body: &[u8]) -> Option<Self> {
        let response: TokenResponse = object(body)?;
        let mut tokens = [response.token, response.access_token].into_iter().flatten();
        tokens.find(|token| is_bearer_token(token)).map(|token| Self::new(&token))
    }

    fn new(token: &str) -> Self {
        Self { claims: Claims::of(token), secret: SecretString::from(token) }
    }
}

/// A JSON object, read into `T`. Serde would read a list into a structure as well.
pub(crate) fn object<T: serde::de::DeserializeOwned>(json: &[u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}

fn is_bearer_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Claims {
    /// The claims of a JSON Web Token (RFC 7519); `None` for a token of another kind.
    pub(crate) fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        serde_json::from_slice(&payload).ok()
    }

    /// When the token expires.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.exp?).ok()
    }

    /// Whether it names this account. Artifactory writes a path that ends with the user name.
    pub(crate) fn names(&self, username: &str) -> bool {
        let subject = self.subject();
        let last = subject.rsplit_once("/users/").map_or(subject, |(_, user)| user);
        !username.is_empty()
            && (subject.eq_ignore_ascii_case(username) || last.eq_ignore_ascii_case(username))
    }

    /// Whether it names any account. Docker Hub names accounts by its own numbers.
    pub(crate) fn names_an_account(&self) -> bool {
        !is_anonymous_name(self.subject())
    }

    /// Whether it names an account that the anonymous token doesn't name. Gitea's anonymous clients are an account of their
    /// own, whose number is not positive.
    pub(crate) fn names_other_account_than(&self, anonymous: &Self) -> bool {
        let is_other_account = match (self.user_id, anonymous.user_id) {
            (Some(own), Some(other)) => own > 0 && own != other,
            _ => false,
        };
        is_other_account || (self.names_an_account() && !anonymous.names_an_account())
    }

    fn subject(&self) -> &str {
        self.sub.as_deref().unwrap_or_default().trim()
    }

    /// Whether it grants an action that `other` doesn't.
    pub(crate) fn grants_more_than(&self, other: &Self) -> bool {
        let grants = |claims: &Self, entry: &TokenAccess, action: &String| {
            let mut same =
                claims.access.iter().filter(|own| (&own.kind, &own.name) == (&entry.kind, &entry.name));
            same.any(|own| own.actions.contains(action))
        };
        let lacks = |entry: &TokenAccess| entry.actions.iter().any(|action| !grants(other, entry, action));
        self.access.iter().any(lacks)
    }
}

/// Whether a subject is one of the names for anonymous clients.
fn is_anonymous_name(subject: &str) -> bool {
    let bare = subject.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    ["", "anonymous", "anonymoususer", "guest", "public", "nobody", "none", "null"]
        .iter()
        .any(|nobody| bare.eq_ignore_ascii_case(nobody))
}

/// When a user's token expires, if it says so.
pub(crate) fn expiry_of(token: &SecretString) -> Option<Timestamp> {
    Claims::of(token.expose_secret())?.expires_at()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(body: &str) -> Option<String> {
        IssuedToken::of_response(body.as_bytes()).map(|token| token.secret.expose_secret().to_owned())
    }

    #[test]
    fn debug_output_holds_no_token_and_no_user_name() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"HUSH-alice","exp":1577836800}"#);
        let token =
            IssuedToken::of_response(format!(r#"{{"token":"e30.{payload}.HUSH"}}"#).as_bytes()).unwrap();
        for text in [format!("{token:?}"), format!("{:?}", token.claims)] {
            assert!(!text.contains("HUSH") && !text.contains(&payload), "{text}");
            assert!(text.contains("1577836800"), "{text}");
        }
    }

    fn claims(json: &str) -> Claims {
        Claims::of(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(json))).unwrap()
    }

    #[test]
    fn reads_token_from_either_field() {
        assert_eq!(token(r#"{"token":"a"}"#).as_deref(), Some("a"));
        assert_eq!(token(r#"{"access_token":"b"}"#).as_deref(), Some("b"));
        assert_eq!(token(r#"{"token":"","access_token":"b"}"#).as_deref(), Some("b"));
        assert_eq!(token(r#"{"token":"a","access_token":null}"#).as_deref(), Some("a"));
        assert_eq!(token(r#"{"token":7,"access_token":"b","expires_in":"soon"}"#).as_deref(), Some("b"));
        assert_eq!(token(r#"{"token":"a\r\nX: y","access_token":"b c"}"#), None);
        for body in ["", "{}", "[]", r#"["a"]"#, "null", "<html>", r#"{"token":""}"#, r#"{"details":"x"}"#] {
            assert_eq!(token(body), None, "{body}");
        }
    }

    #[test]
    fn reads_account_from_token() {
        assert!(claims(r#"{"sub":"alice"}"#).names("Alice"));
        assert!(claims(r#"{"sub":"jfac@01ab/users/alice"}"#).names("alice"));
        for json in [r#"{"sub":"bob"}"#, r#"{"sub":""}"#, r#"{"sub":null}"#, r#"{"sub":["alice"]}"#, "{}"] {
            assert!(!claims(json).names("alice"), "{json}");
            assert!(!claims(json).names(""), "{json}");
        }
    }

    #[test]
    fn recognizes_names_of_anonymous_accounts() {
        for subject in ["", " ", "anonymous", "(anonymous)", "Anonymous", "guest", "_public_"] {
            assert!(!claims(&format!(r#"{{"sub":"{subject}"}}"#)).names_an_account(), "{subject}");
        }
        assert!(claims(r#"{"sub":"8f14e45f"}"#).names_an_account());
    }

    #[test]
    fn compares_grants_by_action() {
        let with = |actions: &str| {
            claims(&format!(r#"{{"access":[{{"type":"repository","name":"a","actions":{actions}}}]}}"#))
        };
        let (none, pull, push) = (with("[]"), with(r#"["pull"]"#), with(r#"["pull","push"]"#));
        assert!(pull.grants_more_than(&none) && push.grants_more_than(&pull));
        assert!(
            !none.grants_more_than(&none) && !pull.grants_more_than(&pull) && !pull.grants_more_than(&push)
        );
        assert!(pull.grants_more_than(&claims(r#"{"access":null}"#)));
        assert!(!claims(r#"{"access":"all"}"#).grants_more_than(&none));
    }

    #[test]
    fn reads_expiry_in_whole_and_fractional_seconds() {
        let end = |json: &str| claims(json).expires_at().map(Timestamp::as_second);
        assert_eq!(end(r#"{"exp":1780000000}"#), Some(1_780_000_000));
        assert_eq!(end(r#"{"exp":1780000000.9}"#), Some(1_780_000_000));
        assert_eq!(end(r#"{"exp":"never"}"#), None);
        assert_eq!(end(r#"{"exp":1e300}"#), None);
    }

    #[test]
    fn grants_of_different_repositories_differ() {
        let of = |name: &str| {
            claims(&format!(r#"{{"access":[{{"type":"repository","name":"{name}","actions":["pull"]}}]}}"#))
        };
        assert!(of("a").grants_more_than(&of("b")));
        assert!(!of("a").grants_more_than(&of("a")));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in any::<Vec<u8>>(), text in any::<String>()) {
            let _ = IssuedToken::of_response(&bytes);
            let _ = (Claims::of(&text), Claims::of(&format!("a.{text}.b")), Claims::of(&format!("a.{}.b", URL_SAFE_NO_PAD.encode(&bytes))));
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let token = IssuedToken::of_response(br#"{"token":"opaque-secret"}"#).unwrap();
        assert!(!format!("{token:?}").contains("opaque-secret"));
    }
}
