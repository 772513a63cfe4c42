//! Where browsers find the console: the origin that its requests must be for, and come from. Pure.

use std::fmt;

use url::{Host, Url};

/// The origin of the console as browsers see it: a scheme, a host and, unless it is the scheme's own, a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicUrl {
    is_https: bool,
    /// Host and port, as in the header `Host`.
    authority: String,
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority)
    }
}

impl PublicUrl {
    /// Parses `https://HOST[:PORT]`, or `http://` for a host that is this machine.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text.trim()).map_err(|_| "not a URL, such as https://registries.example.com")?;
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("must start with https://"),
        };
        let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
        if has_more || !url.username().is_empty() || url.password().is_some() {
            return Err("must be https://HOST[:PORT], without a path, a query or credentials");
        }
        let host = url.host().ok_or("must have a host")?;
        let is_loopback = match &host {
            Host::Domain(name) => *name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        if !is_https && !is_loopback {
            return Err("must start with https://: without TLS, tokens could be read on the way");
        }
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self { is_https, authority: format!("{host}{port}") })
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// Whether browsers use HTTPS.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// Host and port, as in the header `Host`.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_is_what_browsers_send_as_host() {
        for (text, authority) in [
            ("https://Registries.example.com", "registries.example.com"),
            ("https://r.example:443/", "r.example"),
            ("https://r.example:8443", "r.example:8443"),
            ("https://[::1]:8443", "[::1]:8443"),
            ("http://localhost:8080", "localhost:8080"),
        ] {
            let url = PublicUrl::parse(text).unwrap();
            assert_eq!(url.authority(), authority, "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "r.example",
            "ftp://r.example",
            "https://r.example/console",
            "https://r.example/?a",
            "https://ann@r.example",
            "http://r.example",
            "http://10.0.0.1:8080",
        ] {
            assert!(PublicUrl::parse(text).is_err(), "{text}");
        }
    }
}
