//! A token that someone signs in with: from a header or a form. It is shown by nothing.

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

/// The longest token. Those of OpenID providers with many groups have a few KiB.
const LONGEST: usize = 16 * 1024;

/// A digest of a token, to recognize it by.
pub type TokenDigest = [u8; 32];

/// Why a text can't be a token.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TokenError {
    /// It is empty.
    #[error("Enter a token")]
    Empty,
    /// It has characters that no token has.
    #[error("This is not a token: it contains spaces or characters that tokens don't have; copy it again")]
    Characters,
    /// It is too long.
    #[error("This is not a token: it is longer than 16 KiB")]
    Length,
    /// The header isn't `Bearer TOKEN`, or there are several.
    #[error("The header Authorization must be Bearer, followed by one token")]
    Header,
}

/// The scheme of the header, before the token.
const SCHEME: &str = "Bearer ";

/// A token, as the header `Authorization` that carries it. Marked as sensitive, so that `Debug` doesn't show it.
#[derive(Clone, Debug)]
pub struct BearerToken(HeaderValue);

/// The part of a JWT that matters here.
#[derive(Deserialize)]
struct TokenClaims {
    exp: Option<f64>,
}

impl BearerToken {
    /// A token as someone pasted it, with the line break of a terminal behind it.
    pub fn pasted(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let text = text.strip_prefix(SCHEME).unwrap_or(text).trim_start();
        match text.len() {
            0 => Err(TokenError::Empty),
            length if length > LONGEST => Err(TokenError::Length),
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Err(TokenError::Characters),
            _ => {
                let header = HeaderValue::try_from(format!("{SCHEME}{text}"));
                let mut header = header.map_err(|_| TokenError::Characters)?;
                header.set_sensitive(true);
                Ok(Self(header))
            }
        }
    }

    /// The token of a request; none without the header `Authorization`.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, TokenError> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().ok().filter(|_| values.next().is_none()).ok_or(TokenError::Header)?;
        let (scheme, token) = text.split_once(' ').ok_or(TokenError::Header)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(TokenError::Header);
        }
        Self::pasted(token).map(Some)
    }

    /// What it is recognized by.
    pub fn digest(&self) -> TokenDigest {
        let digest = digest::digest(&digest::SHA256, self.token().as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        bytes
    }

    /// When it expires, if it is a JWT that says so. The API server decides; this only ends a session in time.
    pub fn expires(&self) -> Option<Timestamp> {
        let mut parts = self.token().split('.');
        let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
        let claims: TokenClaims = serde_json::from_slice(&claims).ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "seconds")]
        claims.exp.and_then(|seconds| Timestamp::from_second(seconds as i64).ok())
    }

    /// The header with the token, for the API server.
    pub fn authorization(&self) -> HeaderValue {
        self.0.clone()
    }

    fn token(&self) -> &str {
        self.0.to_str().ok().and_then(|header| header.strip_prefix(SCHEME)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<BearerToken>, TokenError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        BearerToken::of(&headers)
    }

    #[test]
    fn header_holds_one_bearer_token() {
        assert!(of(&[]).unwrap().is_none());
        for value in ["Bearer abc", "bearer abc", "BEARER  abc"] {
            assert_eq!(of(&[value]).unwrap().unwrap().token(), "abc", "{value}");
        }
        for values in [&["Basic abc"][..], &["abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(of(values).map(drop), Err(TokenError::Header), "{values:?}");
        }
        assert_eq!(of(&["Bearer "]).map(drop), Err(TokenError::Empty));
        assert_eq!(of(&["Bearer a b"]).map(drop), Err(TokenError::Characters));
    }

    #[test]
    fn pasted_text_is_trimmed_and_checked() {
        assert_eq!(BearerToken::pasted(" abc\r\n").unwrap().token(), "abc");
        assert_eq!(BearerToken::pasted("Bearer abc").unwrap().token(), "abc");
        assert_eq!(BearerToken::pasted(" \n").map(drop), Err(TokenError::Empty));
        assert_eq!(BearerToken::pasted("a\nb").map(drop), Err(TokenError::Characters));
        assert_eq!(BearerToken::pasted(&"a".repeat(LONGEST + 1)).map(drop), Err(TokenError::Length));
    }

    #[test]
    fn expiry_is_read_from_the_claims() {
        let token = |claims: &str| {
            let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
            BearerToken::pasted(&format!("e30.{claims}.c2ln")).unwrap()
        };
        assert_eq!(token("{\"exp\":60}").expires(), Some(Timestamp::from_second(60).unwrap()));
        for none in ["{}", "[]", "{\"exp\":1e300}", "{\"exp\":\"60\"}"] {
            assert_eq!(token(none).expires(), None, "{none}");
        }
        assert_eq!(BearerToken::pasted("opaque").unwrap().expires(), None);
    }

    #[test]
    fn debug_output_holds_no_token() {
        assert!(!format!("{:?}", BearerToken::pasted("HUSH").unwrap()).contains("HUSH"));
    }
}
