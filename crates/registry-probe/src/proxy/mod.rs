//! The forward proxy that an administrator may configure: its URL, its credentials, and which servers are reached
//! without it.
//!
//! Parses its URL, whose user name and password are never shown. Talking to the proxy is the
//! transport's part ([`crate::transport`]).

mod no_proxy;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

pub use no_proxy::{NoProxy, NoProxyError};

use crate::endpoint::Scheme;
use crate::host::HostPort;

/// A forward proxy for all registries and token services except those on its `NO_PROXY` list.
#[derive(Clone)]
pub struct Proxy {
    server: HostPort,
    scheme: Scheme,
    login: Option<ProxyLogin>,
    exceptions: NoProxy,
}

/// The credentials for the proxy.
#[derive(Clone)]
pub struct ProxyLogin {
    /// The user name.
    pub username: String,
    /// The password; empty where the URL has none.
    pub password: SecretString,
}

/// Why a text is not the URL of a proxy. None of it shows the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// Not a URL with a host.
    #[error("must be a URL such as http://proxy.example.com:3128")]
    NotAUrl,
    /// Another scheme, such as `socks5`.
    #[error("must start with http:// or https://")]
    Scheme,
    /// It has a path, query or fragment.
    #[error("must not have a path, query or fragment")]
    Path,
    /// A user name or password that can't be sent.
    #[error(
        "has an invalid login: user name and password must be percent-encoded UTF-8, the user name without a colon"
    )]
    Login,
}

impl Proxy {
    /// Parses `http[s]://[user[:password]@]host[:port]`. User name and password are percent-decoded.
    pub fn parse(url: &SecretString, no_proxy: NoProxy) -> Result<Self, ProxyUrlError> {
        let text = url.expose_secret().trim();
        if !text.contains("://") {
            return Err(ProxyUrlError::NotAUrl);
        }
        let url = Url::parse(text).map_err(|_| ProxyUrlError::NotAUrl)?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(ProxyUrlError::Scheme),
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyUrlError::Path);
        }
        let server = HostPort::of(&url).ok_or(ProxyUrlError::NotAUrl)?;
        Ok(Self { server, scheme, login: login_of(&url)?, exceptions: no_proxy })
    }

    /// The proxy's address, for messages.
    pub fn server(&self) -> &HostPort {
        &self.server
    }

    /// The scheme: whether the connection to the proxy uses TLS.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The credentials for the proxy, if any.
    pub fn login(&self) -> Option<&ProxyLogin> {
        self.login.as_ref()
    }

    /// Whether `server` is reached through the proxy.
    pub fn serves(&self, server: &HostPort) -> bool {
        !self.exceptions.covers(server)
    }

    /// Whether the server of this URL is reached through the proxy.
    pub fn serves_url(&self, url: &str) -> bool {
        Url::parse(url).ok().and_then(|url| HostPort::of(&url)).is_some_and(|server| self.serves(&server))
    }

    /// The header `Proxy-Authorization`, if there are credentials.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let ProxyLogin { username, password } = self.login.as_ref()?;
        let pair = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
        let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

fn login_of(url: &Url) -> Result<Option<ProxyLogin>, ProxyUrlError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let username = decoded(url.username())?;
    let password = decoded(url.password().unwrap_or_default())?;
    // RFC 7617: the first colon ends the user name.
    if username.contains(':') {
        return Err(ProxyUrlError::Login);
    }
    Ok(Some(ProxyLogin { username, password: password.into() }))
}

/// RFC 3986, section 2.1.
fn decoded(text: &str) -> Result<String, ProxyUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|pair| first == b'%' && pair.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    let text = String::from_utf8(bytes).map_err(|_| ProxyUrlError::Login)?;
    if text.chars().any(char::is_control) { Err(ProxyUrlError::Login) } else { Ok(text) }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.server)
    }
}

impl fmt::Debug for ProxyLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyLogin")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxy(url: &str) -> Result<Proxy, ProxyUrlError> {
        Proxy::parse(&SecretString::from(url), NoProxy::default())
    }

    fn authorization(url: &str) -> Option<String> {
        Some(proxy(url).unwrap().authorization()?.to_str().unwrap().to_owned())
    }

    #[test]
    fn parses_server_and_credentials() {
        let plain = proxy("http://proxy.example.com:3128").unwrap();
        assert_eq!(
            (plain.server().to_string().as_str(), plain.scheme()),
            ("proxy.example.com:3128", Scheme::Http)
        );
        assert_eq!(plain.authorization(), None);
        assert_eq!(
            proxy("HTTPS://Proxy.Example.com/").unwrap().server().to_string(),
            "proxy.example.com:443"
        );
        assert_eq!(proxy("http://[::1]:3128").unwrap().server().to_string(), "[::1]:3128");
        // RFC 7617's own example, and what percent-encoding is for.
        assert_eq!(
            authorization("http://Aladdin:open%20sesame@p").as_deref(),
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
        );
        let odd = STANDARD.encode("ali@ce:p:%@/\u{e4}");
        assert_eq!(authorization("http://ali%40ce:p:%25%40%2F%C3%A4@p"), Some(format!("Basic {odd}")));
        assert_eq!(authorization("http://alice@p"), Some(format!("Basic {}", STANDARD.encode("alice:"))));
        assert_eq!(authorization("http://:token@p"), Some(format!("Basic {}", STANDARD.encode(":token"))));
    }

    #[test]
    fn rejects_invalid_proxy_urls() {
        for (url, error) in [
            ("", ProxyUrlError::NotAUrl),
            ("proxy:3128", ProxyUrlError::NotAUrl),
            ("http://", ProxyUrlError::NotAUrl),
            ("http://proxy:0", ProxyUrlError::NotAUrl),
            ("socks5://proxy:1080", ProxyUrlError::Scheme),
            ("http://proxy/path", ProxyUrlError::Path),
            ("http://proxy?x", ProxyUrlError::Path),
            ("http://a%3Ab:c@proxy", ProxyUrlError::Login),
            ("http://a:%ff@proxy", ProxyUrlError::Login),
            ("http://a:%0d%0aX@proxy", ProxyUrlError::Login),
        ] {
            assert_eq!(proxy(url).unwrap_err(), error, "{url}");
        }
    }

    proptest! {
        #[test]
        fn debug_output_holds_no_proxy_credentials(
            secret in "[a-z]{12}",
            scheme in prop::sample::select(vec!["http", "https", "socks5", "http:", ""]),
            host in prop::sample::select(vec!["proxy:3128", "", "[::1", "proxy:0", "p p", "p/x"]),
        ) {
            let text = format!("{scheme}://alice{secret}:{secret}@{host}");
            let shown = match proxy(&text) {
                Ok(proxy) => format!("{proxy:?} {:?} {} {:?}", proxy.login(), proxy.server(), proxy.authorization()),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains(&secret), "{}", shown);
        }
    }
}
