//! What every answer says to the browser. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, header};

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

/// Adds what is missing. Only assets say themselves how long they may be kept; all else may not be.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// The session's cookie. A port isn't part of what keeps cookies apart, so it stands in the name.
#[derive(Clone, Debug)]
pub struct SessionCookie(String);

impl SessionCookie {
    /// On this machine, at that port.
    pub fn loopback(port: u16) -> Self {
        Self(format!("registry-console-{port}"))
    }

    /// `Set-Cookie` for a new session.
    pub fn set(&self, id: &str) -> String {
        format!("{}={id}; Path=/; HttpOnly; SameSite=Lax", self.0)
    }

    /// `Set-Cookie` for the end of a session.
    pub fn clear(&self) -> String {
        format!("{}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0", self.0)
    }

    /// The session's id that a browser sent.
    pub fn read<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.0).map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_unless_it_says_so() {
        let mut page = HeaderMap::new();
        secure(&mut page);
        assert_eq!(page[header::CACHE_CONTROL], "no-store");
        let mut asset = HeaderMap::new();
        asset.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        secure(&mut asset);
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
