//! Names of servers: a host with a port, and the entries of the administrator's list of token services.
//!
//! Owns the spelling of hosts: every IP literal (decimal, hex, octal, short, with a trailing dot, IPv4 in
//! IPv6) becomes one normal form, so that the egress policy checks the address that is connected to. Does not resolve
//! names.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::Url;

/// A DNS name in lower case without a trailing dot, or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name, in its ASCII (punycode) form.
    Name(String),
    /// An address, IPv4-mapped IPv6 already unwrapped.
    Address(IpAddr),
}

/// The text is not a host, or not a host with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Neither a DNS name nor an IP address.
    #[error("not a host name or IP address")]
    NotAHost,
    /// The port is not a number from 1 to 65535.
    #[error("the port must be from 1 to 65535")]
    NotAPort,
}

/// The longest name that can be looked up, in characters (RFC 1035).
const LONGEST_NAME: usize = 253;

impl Host {
    /// The host of an absolute `http` or `https` URL.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        match url.host()? {
            url::Host::Domain(name) => Self::name(name),
            url::Host::Ipv4(address) => Some(Self::Address(address.into())),
            url::Host::Ipv6(address) => Some(Self::Address(IpAddr::V6(address).to_canonical())),
        }
    }

    fn name(name: &str) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let labels_fit = name.split('.').all(|label| !label.is_empty() && label.len() <= 63);
        (labels_fit && name.len() <= LONGEST_NAME).then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.len() > 2 * LONGEST_NAME || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(HostError::NotAHost);
        }
        match url::Host::parse(text).map_err(|_| HostError::NotAHost)? {
            url::Host::Domain(name) => Self::name(&name).ok_or(HostError::NotAHost),
            url::Host::Ipv4(address) => Ok(Self::Address(address.into())),
            url::Host::Ipv6(address) => Ok(Self::Address(IpAddr::V6(address).to_canonical())),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A server: a host and a port. Displayed as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port, never 0.
    pub port: u16,
}

impl HostPort {
    /// The server of an absolute `http` or `https` URL.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let port = url.port_or_known_default().filter(|port| *port != 0)?;
        Some(Self { host: Host::of(url)?, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An entry of the administrator's list of token services, `HOST[:PORT]`: without a port, any port of that
/// host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustedService {
    /// The host that credentials may be sent to.
    pub host: Host,
    /// The only port, if one was given.
    pub port: Option<u16>,
}

impl TrustedService {
    pub(crate) fn covers(&self, server: &HostPort) -> bool {
        self.host == server.host && self.port.is_none_or(|port| port == server.port)
    }
}

impl FromStr for TrustedService {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        // In a URL, the scheme would be parsed as the host.
        if text.contains('/') {
            return Err(HostError::NotAHost);
        }
        let (host, port) = split_port(text);
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host: host.parse()?, port })
    }
}

/// Splits `host:port`. An IPv6 address has colons itself, with or without brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

fn parse_port(text: &str) -> Result<u16, HostError> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(HostError::NotAPort),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> Option<String> {
        text.parse::<Host>().ok().map(|host| host.to_string())
    }

    #[test]
    fn normalizes_every_spelling_of_an_address() {
        for text in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.0.0.1.",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(text.parse(), Ok(Host::Address([127, 0, 0, 1].into())), "{text}");
        }
        assert_eq!(host("[2001:DB8::0:1]").as_deref(), Some("[2001:db8::1]"));
    }

    #[test]
    fn normalizes_host_names() {
        assert_eq!(host("Registry.Example.COM.").as_deref(), Some("registry.example.com"));
        assert_eq!(host("b\u{fc}cher.example").as_deref(), Some("xn--bcher-kva.example"));
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "a@b",
            "a:1",
            "[::1",
            "256.0.0.1",
            "\n",
            &"a".repeat(64),
            &"a.".repeat(200),
        ] {
            assert_eq!(host(text), None, "{text:?}");
        }
    }

    #[test]
    fn trusted_service_may_omit_its_port() {
        let entry = |text: &str| text.parse::<TrustedService>();
        let server = |port| HostPort { host: Host::Name("auth.example.com".into()), port };
        assert!(entry("auth.example.com").unwrap().covers(&server(1)));
        assert!(entry("auth.example.com:5001").unwrap().covers(&server(5001)));
        assert!(!entry("auth.example.com:5001").unwrap().covers(&server(443)));
        assert_eq!(entry("[::1]:443").unwrap().port, Some(443));
        assert_eq!(entry("[::1]").unwrap().port, None);
        for text in ["a:0", "a:65536", "a:+1", "a:", "a:b", "https://a", ""] {
            assert!(entry(text).is_err(), "{text}");
        }
    }

    /// Both a setting and a URL that a server sent, which is parsed as a whole.
    #[test]
    fn parses_a_mebibyte_in_bounded_time() {
        let started = std::time::Instant::now();
        for unit in ["a", "a.", ".", "0x7f.", "1", ":", "[", "]:", "%41", "\u{fc}", "xn--a", "xn--a.", "-"] {
            let long = unit.repeat((1 << 20) / unit.len());
            assert_eq!(host(&long), None, "{unit}");
            assert!(long.parse::<TrustedService>().is_err(), "{unit}");
            assert!(format!("a:{long}").parse::<TrustedService>().is_err(), "{unit}");
            for text in
                [format!("https://{long}/"), format!("https://{long}:1@a/"), format!("https://a/{long}")]
            {
                let _ = Url::parse(&text).map(|url| HostPort::of(&url));
            }
        }
        assert!(started.elapsed() < crate::BOUNDED, "{:?}", started.elapsed());
    }

    #[test]
    fn rejects_url_as_trusted_service() {
        for url in ["https://auth.example.com", "auth.example.com/token", "https://auth.example.com:5000"] {
            assert_eq!(url.parse::<TrustedService>(), Err(HostError::NotAHost), "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in any::<String>()) {
            let _ = (text.parse::<Host>(), text.parse::<TrustedService>());
        }

        #[test]
        fn messages_hold_no_credentials(secret in "[a-z]{12}", host in "[a-z.:\\[\\]]{0,9}") {
            let text = format!("alice:{secret}@{host}");
            let of_url = Url::parse(&format!("https://{text}/?{secret}")).ok().and_then(|url| HostPort::of(&url));
            let shown = format!("{:?} {:?} {of_url:?}", text.parse::<Host>(), text.parse::<TrustedService>());
            prop_assert!(!shown.contains(&secret), "{}", shown);
            let errors = [text.parse::<Host>().err(), text.parse::<TrustedService>().err()];
            for error in errors.into_iter().flatten() {
                prop_assert!(!error.to_string().contains(&secret));
            }
        }

        #[test]
        fn displayed_value_round_trips(text in "[a-z0-9.:\\[\\]x-]{1,40}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse(), Ok(host));
            }
        }
    }
}
