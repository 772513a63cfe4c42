//! Names to addresses, with the reasons for having none told apart.
//!
//! The hosts file and `localhost` work, the search domains of `resolv.conf` are tried after the name itself:
//! what was written wins over what a search domain makes of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver as Hickory, TokioResolver};

use super::connect::is_own_limit;
use crate::findings::DnsFailure;
use crate::host::Host;

/// Looks up names. Its cache holds public addresses only, which the fence judges anew each time.
pub(crate) struct Resolver {
    hickory: TokioResolver,
    search: Vec<Name>,
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const MOST_ADDRESSES: usize = 8;

impl Resolver {
    /// A resolver that asks `name_servers`, or those of the system if there are none.
    pub(crate) fn new(name_servers: &[SocketAddr]) -> Result<Self, NetError> {
        let (config, mut options) = match name_servers {
            [] => read_system_conf().unwrap_or_else(|error| {
                tracing::warn!(%error, "no name servers: the system's resolver configuration can't be read");
                (ResolverConfig::default(), ResolverOpts::default())
            }),
            servers => (
                ResolverConfig::from_name_servers(servers.iter().map(name_server).collect()),
                ResolverOpts::default(),
            ),
        };
        bound(&mut options);
        let search = config.search().to_vec();
        let hickory = Hickory::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?;
        Ok(Self { hickory, search })
    }

    /// The addresses of a host.
    pub(crate) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, DnsFailure> {
        match host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => self.look_up(name).await,
        }
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        let mut failure = DnsFailure::NoSuchName;
        for candidate in self.candidates(name) {
            match self.hickory.lookup_ip(candidate).await {
                Ok(found) => {
                    let addresses: Vec<_> = found.iter().take(MOST_ADDRESSES).collect();
                    if !addresses.is_empty() {
                        return Ok(addresses);
                    }
                    failure = worse(failure, DnsFailure::NoAddress);
                }
                Err(error) => failure = worse(failure, failure_of(&error)),
            }
            if matches!(failure, DnsFailure::NoAnswer | DnsFailure::OwnLimit) {
                break;
            }
        }
        Err(failure)
    }

    fn candidates(&self, name: &str) -> Vec<Name> {
        let Ok(mut name) = Name::from_ascii(name) else { return Vec::new() };
        let searched: Vec<Name> =
            self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
        name.set_fqdn(true);
        std::iter::once(name).chain(searched).collect()
    }
}

fn name_server(server: &SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())];
    NameServerConfig::new(server.ip(), true, connections)
}

/// Short enough that a validation of the default deadline can say what is wrong with the name servers.
fn bound(options: &mut ResolverOpts) {
    options.timeout = ANSWER_TIMEOUT;
    options.attempts = 2;
    options.cache_size = 1024;
    options.positive_max_ttl = Some(Duration::from_mins(5));
    // A record that was just added is to be seen at the next try.
    options.negative_max_ttl = Some(Duration::from_secs(2));
    options.max_active_requests = 1024;
}

/// What is left to say when several candidates failed: a fault of the name servers hides what the others
/// said.
fn worse(one: DnsFailure, other: DnsFailure) -> DnsFailure {
    let rank = |failure: DnsFailure| match failure {
        DnsFailure::NoSuchName => 0,
        DnsFailure::NoAddress => 1,
        DnsFailure::ServerFailure => 2,
        DnsFailure::NoAnswer => 3,
        DnsFailure::OwnLimit => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn failure_of(error: &NetError) -> DnsFailure {
    match error {
        error if error.is_nx_domain() => DnsFailure::NoSuchName,
        error if error.is_no_records_found() => DnsFailure::NoAddress,
        NetError::Timeout => DnsFailure::NoAnswer,
        NetError::Io(error) if is_own_limit(error) => DnsFailure::OwnLimit,
        _ => DnsFailure::ServerFailure,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn too_many_open_files_are_no_fault_of_the_name_servers() {
        let io = |code| failure_of(&NetError::Io(Arc::new(io::Error::from_raw_os_error(code))));
        assert_eq!([io(24), io(23)], [DnsFailure::OwnLimit; 2]);
        assert_eq!(io(111), DnsFailure::ServerFailure);
        assert_eq!(worse(DnsFailure::NoAnswer, DnsFailure::OwnLimit), DnsFailure::OwnLimit);
    }
}
