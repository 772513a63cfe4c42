//! Names of servers: a host with a port, and the entries of the administrator's list of token services.
//!
//! Owns the spelling of hosts: every IP literal (decimal, hex, octal, short, with a trailing dot, IPv4 in IPv6) becomes
//! one normal form, so that what the fence judges is what is connected to. Does not resolve names.

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

/// What was written is not a host, or not a host with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Neither a DNS name nor an IP address.
    #[error("not a host name or an IP address")]
    NotAHost,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    NotAPort,
}

/// RFC 1035: what may be asked of a name server.
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

/// A server: where one connects to. Displayed as `host:port`.
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

/// An entry of the administrator's list of token services, `HOST[:PORT]`: without a port, any port of that host.
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
        let (host, port) = split_port(text);
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host: host.parse()?, port })
    }
}

/// Parts `host:port`, minding that an IPv6 address has colons of its own, with or without brackets.
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
