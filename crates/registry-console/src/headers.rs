//! What every answer says to the browser. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::public_url::PublicUrl;

/// Nothing from elsewhere, nothing inline, no frames, and no script that makes markup of text.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const ALWAYS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not `no-referrer`: with it, browsers send `Origin: null` with forms.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// A year. Only for this host: what others below its name do isn't known here.
const HTTPS_ONLY: &str = "max-age=31536000";

/// Adds what is missing. Only assets say themselves how long they may be kept; all else may not be.
/// With `is_https`, browsers are told never to use HTTP for this host again.
pub fn secure(headers: &mut HeaderMap, is_https: bool) {
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HTTPS_ONLY));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// The session's cookie. A port isn't part of what keeps cookies apart, so it stands in the name on loopback.
#[derive(Clone, Debug)]
pub struct SessionCookie {
    name: String,
    is_secure: bool,
}

impl SessionCookie {
    /// On this machine, at that port.
    pub fn loopback(port: u16) -> Self {
        Self { name: format!("registry-console-{port}"), is_secure: false }
    }

    /// At the URL that browsers know. Browsers take a `__Host-` cookie from exactly that host, over HTTPS only.
    pub fn public(url: &PublicUrl) -> Self {
        if url.is_https() {
            return Self { name: "__Host-registry-console".to_owned(), is_secure: true };
        }
        let port = url.authority().rsplit(':').next().and_then(|port| port.parse().ok());
        Self::loopback(port.unwrap_or(80))
    }

    /// `Set-Cookie` for a new session. Not `SameSite=Strict`: who follows a link to a registry from elsewhere is signed in; requests
    /// that change something are protected by [`crate::guard`].
    pub fn set(&self, id: &str) -> String {
        format!("{}={id}; Path=/; HttpOnly; SameSite=Lax{}", self.name, self.secure())
    }

    /// `Set-Cookie` for the end of a session.
    pub fn clear(&self) -> String {
        format!("{}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{}", self.name, self.secure())
    }

    fn secure(&self) -> &'static str {
        if self.is_secure { "; Secure" } else { "" }
    }

    /// The session's id that a browser sent.
    pub fn read<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name).map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_unless_it_says_so() {
        let mut page = HeaderMap::new();
        secure(&mut page, false);
        assert_eq!(page[header::CACHE_CONTROL], "no-store");
        let mut asset = HeaderMap::new();
        asset.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        secure(&mut asset, false);
        assert_eq!(asset[header::CACHE_CONTROL], "max-age=1");
    }

    #[test]
    fn policy_lets_nothing_inline_or_foreign_in() {
        for part in ["default-src 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"] {
            assert!(POLICY.contains(part), "{part}");
        }
        for part in ["unsafe", "http", "*", "data:"] {
            assert!(!POLICY.contains(part), "{part}");
        }
    }

    #[test]
    fn public_cookie_is_bound_to_its_host() {
        let cookie = SessionCookie::public(&PublicUrl::parse("https://r.example").unwrap());
        for set in [cookie.set("x"), cookie.clear()] {
            assert!(set.starts_with("__Host-registry-console=") && set.contains("; Path=/;"), "{set}");
            assert!(
                set.contains("; HttpOnly") && set.contains("; Secure") && !set.contains("Domain"),
                "{set}"
            );
        }
        let plain = SessionCookie::public(&PublicUrl::parse("http://localhost:8080").unwrap());
        assert!(plain.set("x").starts_with("registry-console-8080=x"));
    }

    #[test]
    fn cookie_is_found_among_others() {
        let cookie = SessionCookie::loopback(8080);
        assert!(cookie.set("x").contains("HttpOnly"));
        let mut headers = HeaderMap::new();
        assert_eq!(cookie.read(&headers), None);
        headers.insert(
            header::COOKIE,
            HeaderValue::from_static("a=b; registry-console-8081=y; registry-console-8080=x"),
        );
        assert_eq!(cookie.read(&headers), Some("x"));
    }
}
