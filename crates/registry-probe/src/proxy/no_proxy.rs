//! The list of servers that are reached without the proxy, as Go's clients read it (`golang.org/x/net/http/httpproxy`), so
//! that one `NO_PROXY` serves the whole cluster. Pure: names are not resolved here.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::host::{Host, HostPort};

/// The list. `localhost` and loopback addresses always match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy {
    everything: bool,
    networks: Vec<IpNet>,
    addresses: Vec<(IpAddr, Option<u16>)>,
    domains: Vec<Domain>,
}

/// A domain with its subdomains, or only its subdomains.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Domain {
    /// With a leading dot.
    suffix: String,
    itself: bool,
    port: Option<u16>,
}

/// An invalid entry. Go ignores invalid entries; but a list that silently lacks an entry sends requests to the proxy
/// that should not go there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{entry:?} is not a host, domain, IP address or CIDR, such as .example.com, 10.0.0.0/8 or registry:5000"
)]
pub struct NoProxyError {
    /// The entry that can't be read.
    pub entry: String,
}

impl NoProxy {
    /// Whether `server` is reached without the proxy.
    pub fn covers(&self, server: &HostPort) -> bool {
        match &server.host {
            Host::Name(name) => self.everything || name == "localhost" || self.covers_name(name, server.port),
            Host::Address(address) => {
                self.everything || address.is_loopback() || self.covers_address(*address, server.port)
            }
        }
    }

    fn covers_name(&self, name: &str, port: u16) -> bool {
        self.domains.iter().any(|domain| {
            let below = name.ends_with(&domain.suffix) && name.len() > domain.suffix.len();
            let itself = domain.itself && name == &domain.suffix[1..];
            (below || itself) && domain.port.is_none_or(|only| only == port)
        })
    }

    fn covers_address(&self, address: IpAddr, port: u16) -> bool {
        let is_listed = |(listed, only): &(IpAddr, Option<u16>)| {
            *listed == address && only.is_none_or(|only| only == port)
        };
        self.networks.iter().any(|network| network.contains(&address)) || self.addresses.iter().any(is_listed)
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        if entry == "*" {
            self.everything = true;
            return Some(());
        }
        if entry.contains('/') {
            self.networks.push(entry.parse().ok()?);
            return Some(());
        }
        let (host, port) = split_port(entry)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            self.addresses.push((address.to_canonical(), port));
            return Some(());
        }
        let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        let Ok(Host::Name(name)) = below.unwrap_or(host).parse::<Host>() else { return None };
        self.domains.push(Domain { suffix: format!(".{name}"), itself: below.is_none(), port });
        Some(())
    }
}

impl FromStr for NoProxy {
    type Err = NoProxyError;

    /// Parses a comma-separated list. Empty entries are ignored.
    fn from_str(text: &str) -> Result<Self, NoProxyError> {
        let mut list = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            list.add(entry).ok_or_else(|| NoProxyError { entry: entry.chars().take(100).collect() })?;
        }
        Ok(list)
    }
}

/// Splits `host:port`. An IPv6 address has colons itself.
fn split_port(entry: &str) -> Option<(&str, Option<u16>)> {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && (host.ends_with(']') || !host.contains(':')) => {
            let port = port.parse().ok().filter(|port| *port > 0)?;
            Some((host, Some(port)))
        }
        _ => Some((entry, None)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(list: &str, host: &str, port: u16) -> bool {
        let server = HostPort { host: host.parse().unwrap(), port };
        list.parse::<NoProxy>().unwrap().covers(&server)
    }

    /// The cases of `golang.org/x/net/http/httpproxy`.
    #[test]
    fn matches_entries_as_go_does() {
        for (list, host, covered) in [
            ("", "registry.example.com", false),
            ("example.com", "example.com", true),
            ("example.com", "registry.example.com", true),
            ("example.com", "badexample.com", false),
            (".example.com", "example.com", false),
            (".example.com", "registry.example.com", true),
            ("*.example.com", "registry.example.com", true),
            ("*.example.com", "example.com", false),
            ("EXAMPLE.com.", "Registry.Example.COM.", true),
            (" example.org , , example.com ", "example.com", true),
            ("*", "registry.example.com", true),
            ("*", "192.0.2.1", true),
            ("b\u{fc}cher.example", "xn--bcher-kva.example", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.0/24", "192.0.2.200", true),
            ("192.0.2.0/24", "198.51.100.1", false),
            ("2001:db8::/32", "[2001:db8::5]", true),
            ("2001:db8::5", "[2001:db8::5]", true),
            ("[2001:db8::5]", "[2001:db8::5]", true),
            ("192.0.2.0/24", "registry.example.com", false),
            (".svc,.cluster.local", "registry.team-a.svc", true),
            (".svc,.cluster.local", "registry.team-a.svc.cluster.local", true),
        ] {
            assert_eq!(covers(list, host, 443), covered, "{list:?} {host}");
        }
    }

    #[test]
    fn entry_with_port_matches_that_port_only() {
        for (list, host, port, covered) in [
            ("example.com:5000", "example.com", 5000, true),
            ("example.com:5000", "example.com", 443, false),
            (".example.com:5000", "a.example.com", 5000, true),
            ("192.0.2.1:5000", "192.0.2.1", 5000, true),
            ("192.0.2.1:5000", "192.0.2.1", 443, false),
            ("[2001:db8::5]:5000", "[2001:db8::5]", 5000, true),
            ("[2001:db8::5]:5000", "[2001:db8::5]", 443, false),
        ] {
            assert_eq!(covers(list, host, port), covered, "{list:?} {host} {port}");
        }
    }

    #[test]
    fn loopback_always_bypasses_the_proxy() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(covers("", host, 5000), "{host}");
        }
        assert!(!covers("", "localhost.example.com", 5000));
    }

    #[test]
    fn matches_ipv4_mapped_addresses() {
        assert!(covers("::ffff:192.0.2.1", "192.0.2.1", 443));
        assert!(covers("192.0.2.1", "[::ffff:192.0.2.1]", 443));
    }

    #[test]
    fn rejects_entries_that_match_nothing() {
        for entry in
            ["10.0.0.0/33", "https://example.com", "example.com/path", "a b", "example.com:http", "a:0", "."]
        {
            let error = entry.parse::<NoProxy>().unwrap_err();
            assert_eq!(error.entry, entry);
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in any::<String>()) {
            let _ = text.parse::<NoProxy>();
        }
    }
}
