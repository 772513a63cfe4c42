//! Host patterns, as written by administrators and owners of Secrets: `registry.example.com`, `*.example.com`, each
//! with `:PORT` for that port only, and `*`.
//!
//! One grammar and one matcher for the annotation `registry.spectrocloud.com/hosts` and the chart's
//! `tenantPolicy.allowedEndpoints`, which the API server matches by a rule of its own: a test compares the two.

use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::host::{Host, HostPort};

/// A pattern that matches servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    hosts: Hosts,
    /// The only port, if one was given.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    /// `*`
    All,
    /// `*.example.com`: the part after `*.`, in lower case.
    Below(String),
    /// One host.
    One(Host),
}

/// The text is not a host pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a host pattern; write HOST[:PORT] or *.DOMAIN[:PORT], such as *.example.com")]
pub struct NotAPattern;

/// A list of patterns that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostPatternsError {
    /// There is none.
    #[error("it lists no hosts; add the registry's host")]
    Empty,
    /// One of them is not a pattern.
    #[error("entry {0} is not HOST[:PORT] or *.DOMAIN[:PORT]; correct it")]
    Entry(usize),
    /// The text exceeds the length limit.
    #[error("it is longer than {LONGEST_LIST} characters; shorten it")]
    TooLong,
}

/// Enough for `*.`, a DNS name, brackets and a port.
const LONGEST_PATTERN: usize = 300;
/// Enough for some hundred hosts.
const LONGEST_LIST: usize = 16 * 1024;

impl HostPattern {
    /// Reads a list of patterns, separated by commas or white space. An empty list is an error, since it would allow
    /// nothing.
    pub fn list(text: &str) -> Result<Vec<Self>, HostPatternsError> {
        if text.len() > LONGEST_LIST {
            return Err(HostPatternsError::TooLong);
        }
        let entries =
            text.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|entry| !entry.is_empty());
        let patterns = entries.enumerate().map(|(index, entry)| entry.parse().map_err(|_| index + 1));
        let patterns: Vec<Self> = patterns.collect::<Result<_, _>>().map_err(HostPatternsError::Entry)?;
        if patterns.is_empty() { Err(HostPatternsError::Empty) } else { Ok(patterns) }
    }

    /// Whether it matches every server.
    pub fn is_any(&self) -> bool {
        self.hosts == Hosts::All
    }

    /// Whether it matches `server`.
    pub fn covers(&self, server: &HostPort) -> bool {
        let is_host = match (&self.hosts, &server.host) {
            (Hosts::All, _) => true,
            (Hosts::Below(parent), Host::Name(name)) => is_below(name, parent),
            (Hosts::Below(_), Host::Address(_)) => false,
            (Hosts::One(one), host) => one == host,
        };
        is_host && self.port.is_none_or(|port| port == server.port)
    }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).and_then(|rest| rest.strip_suffix('.')).is_some_and(|rest| !rest.is_empty())
}

impl FromStr for HostPattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        if text.len() > LONGEST_PATTERN {
            return Err(NotAPattern);
        }
        if text == "*" {
            return Ok(Self { hosts: Hosts::All, port: None });
        }
        let (host, port) = parts(text)?;
        if let Some(address) = host.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
            let host = address.map(|address| Host::Address(std::net::IpAddr::V6(address).to_canonical()));
            return Ok(Self { hosts: Hosts::One(host.ok_or(NotAPattern)?), port });
        }
        let hosts = match (host.strip_prefix("*."), host) {
            (Some(parent), _) => match name(parent)? {
                Host::Name(parent) => Hosts::Below(parent),
                Host::Address(_) => return Err(NotAPattern),
            },
            (None, host) => Hosts::One(name(host)?),
        };
        Ok(Self { hosts, port })
    }
}

/// Splits `host:port`. An IPv6 address must be in brackets.
fn parts(text: &str) -> Result<(&str, Option<u16>), NotAPattern> {
    match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
            let number = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
            Ok((host, Some(number.filter(|port| *port > 0).ok_or(NotAPattern)?)))
        }
        _ => Ok((text, None)),
    }
}

/// A DNS name or an IPv4 address, in the characters that the chart's schema allows.
fn name(text: &str) -> Result<Host, NotAPattern> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let is_name = ends.iter().all(|byte| byte.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().copied().all(inner);
    if is_name { text.parse().map_err(|_| NotAPattern) } else { Err(NotAPattern) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::Endpoint;

    fn covers(pattern: &str, endpoint: &str) -> bool {
        pattern.parse::<HostPattern>().unwrap().covers(Endpoint::parse(endpoint).unwrap().server())
    }

    #[test]
    fn covers_hosts_by_name_parent_and_port() {
        for (pattern, endpoint) in [
            ("*", "https://any.example"),
            ("registry.example.com", "https://registry.example.com"),
            ("Registry.Example.COM", "https://registry.example.com.:8443/path"),
            ("*.example.com", "https://a.b.example.com:5000"),
            ("registry.example.com:443", "https://registry.example.com"),
            ("registry.example.com:80", "http://registry.example.com"),
            ("*.example.com:5000", "https://a.example.com:5000"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("127.0.0.1", "http://0x7f.1:5000"),
            ("[2001:db8::1]:5000", "https://[2001:DB8:0::1]:5000"),
            ("[::1]", "https://[::1]"),
        ] {
            assert!(covers(pattern, endpoint), "{pattern} {endpoint}");
        }
        for (pattern, endpoint) in [
            ("registry.example.com", "https://evilregistry.example.com"),
            ("registry.example.com", "https://registry.example.com.evil.example"),
            ("registry.example.com", "https://evil.example/registry.example.com"),
            ("*.example.com", "https://example.com"),
            ("*.example.com", "https://evil-example.com"),
            ("*.example.com", "https://127.0.0.1"),
            ("registry.example.com:443", "http://registry.example.com"),
            ("registry.example.com:5000", "https://registry.example.com:50000"),
            ("registry.example.com:443", "https://registry.example.com:8443"),
            ("127.0.0.1", "http://127.0.0.10"),
            ("[::1]:5000", "https://[::1]"),
        ] {
            assert!(!covers(pattern, endpoint), "{pattern} {endpoint}");
        }
    }

    #[test]
    fn rejects_invalid_patterns() {
        for text in [
            "",
            ".",
            "*.",
            "**",
            "*:5000",
            "a.*",
            "*a.example",
            "https://a.example",
            "a.example/b",
            "a b",
            "a_b",
            "a.example.",
            "-a.example",
            "a:0",
            "a:65536",
            "a:+1",
            "a:",
            ":5000",
            "::1",
            "[::1",
            "[a]",
            "*.0.0.1",
            "a@b",
            "%61.example",
            "\u{fc}.example",
            "256.0.0.1",
        ] {
            assert_eq!(text.parse::<HostPattern>(), Err(NotAPattern), "{text:?}");
        }
    }

    #[test]
    fn splits_lists_at_commas_and_spaces() {
        let count = |text: &str| HostPattern::list(text).map(|patterns| patterns.len());
        assert_eq!(count("a.example"), Ok(1));
        assert_eq!(count(" a.example, *.b.example:5000\n[::1] ,"), Ok(3));
        assert_eq!(count(" , "), Err(HostPatternsError::Empty));
        assert_eq!(count("a.example, https://b.example"), Err(HostPatternsError::Entry(2)));
        assert_eq!(count(&"a,".repeat(LONGEST_LIST)), Err(HostPatternsError::TooLong));
    }

    proptest! {
        #[test]
        fn no_input_panics_or_shows_an_entry(text in any::<String>(), secret in "[a-z]{12}") {
            let _ = (text.parse::<HostPattern>(), HostPattern::list(&text));
            let error = HostPattern::list(&format!("{secret}@a.example")).unwrap_err();
            let shown = format!("{error} {error:?}");
            prop_assert!(!shown.contains(&secret));
        }
    }
}
