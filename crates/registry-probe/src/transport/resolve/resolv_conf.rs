//! resolv.conf(5) → what is asked, in which order, for how long.
//!
//! Supports `nameserver`, `search`, `domain`, and of the options `ndots`, `timeout`, `attempts`, `rotate`, `use-vc` and
//! `no-aaaa`. `single-request` and `single-request-reopen` need nothing: each query has a socket of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::proto::rr::Name;
use resolv_conf::Config;

/// The longest that one try waits for an answer, and that all of them do: short enough that a validation of the default
/// deadline can say what is wrong with the name servers.
const LONGEST_TRY: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(6);

/// How names are looked up.
#[derive(Debug)]
pub(super) struct Lookups {
    pub(super) search: Vec<Name>,
    pub(super) ndots: usize,
    pub(super) asks_for_v6: bool,
    pub(super) servers: ResolverConfig,
    pub(super) options: ResolverOpts,
}

impl Lookups {
    /// As the file says, but by `servers` if there are any. A file that can't be read names no server.
    pub(super) fn read(path: &Path, servers: &[SocketAddr]) -> Self {
        let text = std::fs::read(path).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "no name servers: resolver configuration can't be read");
            Vec::new()
        });
        Self::parse(&text, servers)
    }

    /// By `servers` alone, with no search domains.
    pub(super) fn by(servers: &[SocketAddr]) -> Self {
        Self::parse(b"", servers)
    }

    fn parse(text: &[u8], servers: &[SocketAddr]) -> Self {
        let (config, errors) = Config::parse_with_errors(text);
        for error in errors {
            tracing::warn!(%error, "resolver configuration: line skipped");
        }
        let own = config.nameservers.iter().map(|address| SocketAddr::new(address.into(), 53));
        let servers = if servers.is_empty() { own.collect() } else { servers.to_vec() };
        let servers = servers.iter().map(|server| name_server(server, config.use_vc)).collect();
        Self {
            search: config.get_last_search_or_domain().filter_map(|domain| domain_name(domain)).collect(),
            ndots: config.ndots as usize,
            asks_for_v6: !config.no_aaaa,
            servers: ResolverConfig::from_parts(None, Vec::new(), servers),
            options: options(&config),
        }
    }
}

fn domain_name(text: &str) -> Option<Name> {
    let mut name = Name::from_str_relaxed(text).ok()?;
    name.set_fqdn(true);
    (!name.is_root()).then_some(name)
}

fn name_server(server: &SocketAddr, over_tcp: bool) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let mut connections = vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())];
    if over_tcp {
        connections.remove(0);
    }
    NameServerConfig::new(server.ip(), true, connections)
}

fn options(config: &Config) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_secs(config.timeout.max(1).into()).min(LONGEST_TRY);
    let most = (LONGEST.as_millis() / options.timeout.as_millis()).try_into().unwrap_or(1_usize);
    // What it counts are the tries after the first.
    options.attempts = (config.attempts as usize).clamp(1, most) - 1;
    options.edns0 = true;
    if config.rotate {
        options.server_ordering_strategy = ServerOrderingStrategy::RoundRobin;
    }
    options.use_hosts_file = ResolveHosts::Never;
    // Answers are kept here, both families together, and by a clock that tests can set.
    options.cache_size = 0;
    options.preserve_intermediates = true;
    options.max_active_requests = 1024;
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time for one try in milliseconds, and how many there are.
    fn tries(text: &str) -> (u128, usize) {
        let options = Lookups::parse(text.as_bytes(), &[]).options;
        (options.timeout.as_millis(), options.attempts + 1)
    }

    #[test]
    fn retries_as_configured_within_six_seconds() {
        assert_eq!(tries(""), (3000, 2));
        assert_eq!(tries("options timeout:1 attempts:3"), (1000, 3));
        assert_eq!(tries("options timeout:1 attempts:1"), (1000, 1));
        assert_eq!(tries("options timeout:30 attempts:5"), (3000, 2));
        assert_eq!(tries("options timeout:0 attempts:0"), (1000, 1));
    }

    #[test]
    fn parses_servers_search_domains_and_options() {
        let kubelet = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
                       nameserver 10.96.0.10\noptions ndots:5 use-vc no-aaaa rotate\n";
        let lookups = Lookups::parse(kubelet.as_bytes(), &[]);
        let search: Vec<_> = lookups.search.iter().map(ToString::to_string).collect();
        assert_eq!(search, ["default.svc.cluster.local.", "svc.cluster.local.", "cluster.local."]);
        assert_eq!((lookups.ndots, lookups.asks_for_v6), (5, false));
        let [server] = lookups.servers.name_servers() else { panic!("{lookups:?}") };
        assert_eq!((server.ip.to_string().as_str(), server.connections.len()), ("10.96.0.10", 1));
    }

    #[test]
    fn accepts_name_servers_with_port() {
        let lookups =
            Lookups::parse(b"nameserver 10.96.0.10\nsearch a\n", &["127.0.0.1:5353".parse().unwrap()]);
        let [server] = lookups.servers.name_servers() else { panic!("{lookups:?}") };
        assert_eq!((server.ip.to_string().as_str(), server.connections[0].port), ("127.0.0.1", 5353));
        assert_eq!(lookups.search.len(), 1);
    }
}
