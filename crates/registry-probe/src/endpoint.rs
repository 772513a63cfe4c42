//! Where a registry is: `spec.endpoint`, parsed, and the URLs below it.
//!
//! Owns the composition of URLs: an endpoint `https://host/suffix` has its API at `https://host/suffix/v2/`,
//! the way Artifactory's `https://host/artifactory/api/docker/<repo>` does. Registries that want the suffix
//! after `/v2/` instead accept it as part of `baseContentPath`. Does not decide which requests are sent to those URLs.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::host::HostPort;

/// The URL scheme of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Over TLS.
    Https,
    /// Without TLS, and only because the endpoint says `http://`.
    Http,
}

/// A registry's address: scheme, host, port and an optional path suffix.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: Scheme,
    server: HostPort,
    /// Ends with `/v2/`.
    api: Url,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL with a host.
    #[error("must be a URL such as https://registry.example.com")]
    NotAUrl,
    /// The scheme is neither `https` nor `http`.
    #[error("must start with https:// or http://")]
    Scheme,
    /// A user name or password before the host.
    #[error(
        "must not contain credentials; put them in a Secret and reference it from spec.auth.basic.secretRef"
    )]
    UserInfo,
    /// A `?` part.
    #[error("must not contain a query (?)")]
    Query,
    /// A `#` part.
    #[error("must not contain a fragment (#)")]
    Fragment,
    /// A path with `..`, `\`, `//` or `%`, which servers and clients read differently.
    #[error("must have a plain path: letters, digits and - . _ ~ between single slashes")]
    Path,
    /// Longer than any URL needs to be.
    #[error("must have at most 2,048 characters")]
    TooLong,
}

const LONGEST_ENDPOINT: usize = 2048;

impl Endpoint {
    /// Parses `https://host[:port][/suffix]`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.len() > LONGEST_ENDPOINT {
            return Err(EndpointError::TooLong);
        }
        let rest = text.split_once("://").map(|(_, rest)| rest).ok_or(EndpointError::NotAUrl)?;
        let url = Url::parse(text).map_err(|_| EndpointError::NotAUrl)?;
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(EndpointError::Scheme),
        };
        check_parts(&url)?;
        check_path(rest)?;
        let server = HostPort::of(&url).ok_or(EndpointError::NotAUrl)?;
        Ok(Self { scheme, server, api: api_of(&url)? })
    }

    /// The scheme: with or without TLS.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The server that is connected to.
    pub fn server(&self) -> &HostPort {
        &self.server
    }

    /// The path between the host and `/v2/`, empty or with a leading and no trailing slash.
    pub fn suffix(&self) -> &str {
        self.api.path().strip_suffix("/v2/").unwrap_or_default()
    }

    /// `<endpoint>/v2/`: OCI distribution-spec, end-1.
    pub(crate) fn api(&self) -> &Url {
        &self.api
    }
}

fn check_parts(url: &Url) -> Result<(), EndpointError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EndpointError::UserInfo);
    }
    if url.query().is_some() {
        return Err(EndpointError::Query);
    }
    if url.fragment().is_some() {
        return Err(EndpointError::Fragment);
    }
    Ok(())
}

/// Rejects what URL parsers silently repair, because the displayed endpoint must be the one that requests are sent to.
fn check_path(rest: &str) -> Result<(), EndpointError> {
    if rest.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(EndpointError::NotAUrl);
    }
    if rest.contains(['\\', '%', '@']) {
        return Err(EndpointError::Path);
    }
    let Some((_, path)) = rest.split_once('/') else { return Ok(()) };
    let path = path.strip_suffix('/').unwrap_or(path);
    let plain = |segment: &str| !matches!(segment, "" | "." | "..");
    if path.is_empty() || path.split('/').all(plain) { Ok(()) } else { Err(EndpointError::Path) }
}

fn api_of(url: &Url) -> Result<Url, EndpointError> {
    let mut api = url.clone();
    api.path_segments_mut().map_err(|()| EndpointError::NotAUrl)?.pop_if_empty().push("v2").push("");
    Ok(api)
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.api.origin().ascii_serialization(), self.suffix())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn api_url_includes_the_path_suffix() {
        for (text, api, suffix) in [
            ("https://registry.example.com", "https://registry.example.com/v2/", ""),
            ("https://registry.example.com/", "https://registry.example.com/v2/", ""),
            ("HTTPS://Registry.Example.COM:443/", "https://registry.example.com/v2/", ""),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/v2/", ""),
            (
                "https://a/artifactory/api/docker/repo",
                "https://a/artifactory/api/docker/repo/v2/",
                "/artifactory/api/docker/repo",
            ),
            ("https://a/b/", "https://a/b/v2/", "/b"),
            ("https://[::1]:5000/b", "https://[::1]:5000/b/v2/", "/b"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.api().as_str(), endpoint.suffix()), (api, suffix), "{text}");
        }
    }

    #[test]
    fn rejects_invalid_endpoints_with_reason() {
        for (text, error) in [
            ("", EndpointError::NotAUrl),
            ("registry.example.com", EndpointError::NotAUrl),
            ("https://", EndpointError::NotAUrl),
            ("https://a b", EndpointError::NotAUrl),
            ("https://a\t", EndpointError::NotAUrl),
            ("https://a:0", EndpointError::NotAUrl),
            ("oci://a", EndpointError::Scheme),
            ("ftp://a", EndpointError::Scheme),
            ("https://alice@a", EndpointError::UserInfo),
            ("https://alice:pw@a", EndpointError::UserInfo),
            ("https://a?b", EndpointError::Query),
            ("https://a/#b", EndpointError::Fragment),
            ("https://a/../b", EndpointError::Path),
            ("https://a/./b", EndpointError::Path),
            ("https://a//b", EndpointError::Path),
            ("https://a/%2e%2e/b", EndpointError::Path),
            ("https://a\\b", EndpointError::Path),
            (&("https://a/".to_owned() + &"b".repeat(3000)), EndpointError::TooLong),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn rejects_a_mebibyte_in_bounded_time() {
        let started = std::time::Instant::now();
        for unit in ["a", "a.", "/", "@", ":", "%", "\u{fc}", "xn--a.", "https://"] {
            let long = unit.repeat((1 << 20) / unit.len());
            for text in [long.clone(), format!("https://{long}"), format!("https://a/{long}")] {
                assert_eq!(Endpoint::parse(&text), Err(EndpointError::TooLong));
            }
        }
        assert!(started.elapsed() < crate::BOUNDED, "{:?}", started.elapsed());
    }

    #[test]
    fn rejects_control_characters() {
        assert_eq!(Endpoint::parse("https://a/\u{7f}b").unwrap_err(), EndpointError::NotAUrl);
    }

    proptest! {
        #[test]
        fn no_input_panics(text in any::<String>()) {
            let _ = Endpoint::parse(&text);
            let _ = Endpoint::parse(&format!("https://{text}"));
        }

        #[test]
        fn messages_hold_no_credentials(
            secret in "[a-z]{12}",
            scheme in prop::sample::select(vec!["https", "http", "ftp", "https:", ""]),
            user in prop::sample::select(vec!["alice:", "", ":", "a@b:", "%61:"]),
            host in prop::sample::select(vec!["r.io", "", "[::1", "r.io:0", "r io", "r.io/a@b", "r.io\\x"]),
        ) {
            let text = format!("{scheme}://{user}{secret}@{host}");
            let shown = match Endpoint::parse(&text) {
                Ok(endpoint) => format!("{endpoint} {endpoint:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains(&secret), "{}", shown);
        }

        #[test]
        fn displayed_endpoint_round_trips(text in "https?://[a-z0-9.]{1,20}(:[0-9]{1,5})?(/[a-z0-9._-]{0,9}){0,3}") {
            if let Ok(endpoint) = Endpoint::parse(&text) {
                prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
            }
        }
    }
}
