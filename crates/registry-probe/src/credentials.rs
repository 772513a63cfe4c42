//! Credentials: a user name and password, a registry token, or an identity token.
//!
//! Owns their format and the checks for unusable ones. Does not send them anywhere, and never shows them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// Credentials for a registry. `Debug` shows which kind they are and nothing else: tokens are given as user
/// names too.
#[derive(Clone)]
pub enum Credentials {
    /// `Authorization` with a user name and password (RFC 7617).
    Basic {
        /// The user name; it holds no colon.
        username: String,
        /// The password, or a token in its place.
        password: SecretString,
    },
    /// A bearer token that the registry itself accepts (Docker's `registrytoken`).
    RegistryToken(SecretString),
    /// An OAuth2 refresh token, for which a token service gives registry tokens (Docker's `identitytoken`).
    IdentityToken {
        /// The account that it belongs to, if known.
        username: Option<String>,
        /// The refresh token.
        token: SecretString,
    },
}

/// Why credentials can't be sent to any registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Both user name and password are empty.
    #[error("the user name and password are empty; set both")]
    Empty,
    /// The token is empty.
    #[error("the token is empty; set it")]
    EmptyToken,
    /// The user name contains a colon, which RFC 7617 forbids because the colon ends the user name.
    #[error("the user name contains a colon, which basic authentication does not allow; correct it")]
    Colon,
    /// A line break, which RFC 7617 forbids. Most often, an editor or `echo` added it at the end.
    #[error("the {0} ends with a newline; remove it (echo -n)")]
    LineBreak(Field),
    /// Another control character, which RFC 7617 forbids.
    #[error("the {0} contains a control character; remove it")]
    Control(Field),
    /// A bearer token with characters that RFC 6750 doesn't allow in an HTTP header.
    #[error("the token contains characters that bearer tokens can't contain; correct it")]
    NotAToken,
}

/// A part of the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The user name.
    Username,
    /// The password.
    Password,
    /// The token.
    Token,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Username => "user name",
            Self::Password => "password",
            Self::Token => "token",
        })
    }
}

impl Credentials {
    /// A user name and password, as in a Secret of type `kubernetes.io/basic-auth`.
    pub fn basic(username: &str, password: SecretString) -> Result<Self, CredentialsError> {
        if username.is_empty() && password.expose_secret().is_empty() {
            return Err(CredentialsError::Empty);
        }
        if username.contains(':') {
            return Err(CredentialsError::Colon);
        }
        check(Field::Username, username)?;
        check(Field::Password, password.expose_secret())?;
        Ok(Self::Basic { username: username.to_owned(), password })
    }

    /// A bearer token for the registry itself. A line break at its end is dropped: it can't be part of a
    /// token.
    pub fn registry_token(token: &SecretString) -> Result<Self, CredentialsError> {
        checked_token(token).map(Self::RegistryToken)
    }

    /// A refresh token for the registry's token service. A line break at its end is dropped.
    pub fn identity_token(username: Option<&str>, token: &SecretString) -> Result<Self, CredentialsError> {
        let username = username.filter(|name| !name.is_empty()).map(ToOwned::to_owned);
        Ok(Self::IdentityToken { username, token: checked_token(token)? })
    }
}

fn check(field: Field, text: &str) -> Result<(), CredentialsError> {
    // A password of several lines is a key file, as Google Artifact Registry accepts it (user `_json_key`); it ends as
    // files do.
    let is_file = field == Field::Password && text.trim_end().contains('\n');
    if text.ends_with(['\n', '\r']) && !is_file {
        return Err(CredentialsError::LineBreak(field));
    }
    let breaks_line = |c: char| is_file && matches!(c, '\n' | '\r' | '\t');
    let is_refused = |c: char| c.is_control() && !breaks_line(c);
    if text.contains(is_refused) { Err(CredentialsError::Control(field)) } else { Ok(()) }
}

fn checked_token(token: &SecretString) -> Result<SecretString, CredentialsError> {
    let token = token.expose_secret().trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        return Err(CredentialsError::EmptyToken);
    }
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(SecretString::from(token))
    } else {
        Err(CredentialsError::NotAToken)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic([REDACTED])",
            Self::RegistryToken(_) => "RegistryToken([REDACTED])",
            Self::IdentityToken { .. } => "IdentityToken([REDACTED])",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn basic(username: &str, password: &str) -> Result<Credentials, CredentialsError> {
        Credentials::basic(username, SecretString::from(password))
    }

    #[test]
    fn rejects_values_that_no_header_can_carry() {
        assert_eq!(basic("", "").unwrap_err(), CredentialsError::Empty);
        assert_eq!(basic("a:b", "c").unwrap_err(), CredentialsError::Colon);
        assert_eq!(basic("a", "b\n").unwrap_err(), CredentialsError::LineBreak(Field::Password));
        assert_eq!(basic("a\r\n", "b").unwrap_err(), CredentialsError::LineBreak(Field::Username));
        assert_eq!(basic("a", "b\0c").unwrap_err(), CredentialsError::Control(Field::Password));
        assert!(basic("_json_key", "{\n  \"type\": \"service_account\"\n}\n").is_ok());
        assert!(basic("a", "b:c d\u{e9}").is_ok() && basic("", "token").is_ok() && basic("a", "").is_ok());
    }

    #[test]
    fn trims_line_break_from_token() {
        let token = |text: &str| Credentials::registry_token(&SecretString::from(text));
        let Ok(Credentials::RegistryToken(kept)) = token("abc\r\n") else { panic!("refused") };
        assert_eq!(kept.expose_secret(), "abc");
        assert_eq!(token("\n").unwrap_err(), CredentialsError::EmptyToken);
        assert_eq!(token("a b").unwrap_err(), CredentialsError::NotAToken);
        assert_eq!(token("a\nb").unwrap_err(), CredentialsError::NotAToken);
    }

    #[test]
    fn rejects_multiline_user_and_drops_empty_user() {
        assert_eq!(basic("a\nb", "c").unwrap_err(), CredentialsError::Control(Field::Username));
        let token = Credentials::identity_token(Some(""), &SecretString::from("abc")).unwrap();
        assert!(matches!(token, Credentials::IdentityToken { username: None, .. }));
    }

    proptest! {
        #[test]
        fn debug_output_holds_no_credentials(username in "[a-z]{6,9}-user", password in "[a-z]{6,9}-word") {
            let token = SecretString::from(password.clone());
            let all = [
                basic(&username, &password).unwrap(),
                Credentials::registry_token(&token).unwrap(),
                Credentials::identity_token(Some(&username), &token).unwrap(),
            ];
            let shown = format!("{all:?}");
            prop_assert!(!shown.contains(&username) && !shown.contains(&password));
        }
    }
}
