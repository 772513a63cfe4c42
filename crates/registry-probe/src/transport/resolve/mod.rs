//! Resolves names to addresses, with distinct reasons for failures.
//!
//! Names are looked up as glibc and Go do it: the hosts file is the answer where it has one; what was written is asked
//! for before what a search domain makes of it, unless it has no dot. Both differ in one thing: a name with a dot is
//! tried as it is first even where `ndots` is larger, as in every Pod. That costs two requests instead of eight, and a
//! namespace named like a top-level domain can't catch other people's names.

mod answers;
mod families;
mod hosts_file;
mod resolv_conf;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use tokio::sync::oneshot;

use self::answers::{LookupAnswer, LookupCache, LookupQuestion, LookupResult};
use self::families::{Families, Records};
use self::hosts_file::HostsFile;
use self::resolv_conf::Lookups;
use crate::findings::DnsFailure;
use crate::host::Host;
use crate::transport::connect::is_own_limit;

/// Where name servers and hosts are told.
#[derive(Debug, Clone)]
pub(crate) struct ResolverSources<'a> {
    /// Asked instead of those of `resolv_conf`.
    pub(crate) name_servers: &'a [SocketAddr],
    /// `None`: the system's, or nothing but `name_servers` where there are any.
    pub(crate) resolv_conf: Option<&'a Path>,
    pub(crate) hosts_file: PathBuf,
}

/// Looks up names. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<SharedResolver>);

struct SharedResolver {
    hickory: TokioResolver,
    hosts: HostsFile,
    search: Vec<Name>,
    ndots: usize,
    asks_for_v6: bool,
    patience: Duration,
    answers: LookupCache,
}

const RESOLV_CONF: &str = "/etc/resolv.conf";

impl Resolver {
    /// A resolver that has asked nothing yet.
    pub(crate) fn new(sources: ResolverSources<'_>) -> Result<Self, NetError> {
        let ResolverSources { name_servers, resolv_conf, hosts_file } = sources;
        let lookups = match resolv_conf {
            None if !name_servers.is_empty() => Lookups::by(name_servers),
            path => Lookups::read(path.unwrap_or(Path::new(RESOLV_CONF)), name_servers),
        };
        // Those after the first.
        let attempts = u32::try_from(lookups.options.attempts).unwrap_or(u32::MAX);
        let patience = lookups.options.timeout.saturating_mul(attempts.saturating_add(1));
        let hickory = Hickory::builder_with_config(lookups.servers, TokioRuntimeProvider::default())
            .with_options(lookups.options)
            .build()?;
        let Lookups { search, ndots, asks_for_v6, .. } = lookups;
        let (hosts, answers) = (HostsFile::new(hosts_file), LookupCache::default());
        Ok(Self(Arc::new(SharedResolver { hickory, hosts, search, ndots, asks_for_v6, patience, answers })))
    }

    /// The addresses of a host. A name that was written with a trailing dot is `absolute`: no search domain is tried.
    pub(crate) async fn addresses(&self, host: &Host, absolute: bool) -> LookupAnswer {
        let name = match host {
            Host::Address(address) => return Ok(Arc::from([*address])),
            Host::Name(name) => name,
        };
        if let Some(addresses) = self.0.hosts.addresses(name) {
            return Ok(addresses.into());
        }
        let question = (name.clone(), absolute);
        self.0.answers.join(&question, || self.begin(question.clone()).boxed()).await
    }

    /// How long name servers that don't answer are waited for.
    pub(crate) fn longest_lookup(&self) -> Duration {
        self.0.patience
    }

    /// Looks up a name in its own task, so that a late answer is cached even if no caller waits for it any more.
    fn begin(&self, question: LookupQuestion) -> impl Future<Output = LookupAnswer> + use<> {
        let (sender, receiver) = oneshot::channel();
        let shared = self.0.clone();
        tokio::spawn(async move { shared.look_up(&question, sender).await });
        async move { receiver.await.unwrap_or(Err(DnsFailure::ServerFailure)) }
    }
}

impl SharedResolver {
    async fn look_up(&self, question: &LookupQuestion, first: oneshot::Sender<LookupAnswer>) {
        let (name, absolute) = question;
        let mut failure = DnsFailure::NoSuchName;
        for candidate in candidates(name, *absolute, self.ndots, &self.search) {
            let mut v4 = Box::pin(self.records(candidate.clone(), RecordType::A).fuse());
            let mut v6 = Box::pin(self.records(candidate, RecordType::AAAA).fuse());
            let mut families = Families::default();
            families.await_first(&mut v4, &mut v6).await;
            match families.outcome() {
                Ok(found) => {
                    self.answers.keep(question, &Ok(found.clone()));
                    let _ = first.send(Ok(found.addresses));
                    families.await_all(&mut v4, &mut v6).await;
                    self.answers.keep(question, &families.outcome());
                    return;
                }
                Err(cause) => failure = more_severe(failure, cause),
            }
            // Of a name that may exist, no search domain may make another.
            if failure.is_transient() {
                break;
            }
        }
        self.answers.keep(question, &Err(failure));
        let _ = first.send(Err(failure));
    }

    async fn records(&self, name: Name, kind: RecordType) -> Records {
        if kind == RecordType::AAAA && !self.asks_for_v6 {
            return Err(DnsFailure::NoAddress);
        }
        let found = self.hickory.lookup(name, kind).await.map_err(|error| failure_of(&error))?;
        let addresses: Arc<[IpAddr]> =
            found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        let seconds = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let time_to_live = Duration::from_secs(seconds.into());
        if addresses.is_empty() {
            Err(DnsFailure::NoAddress)
        } else {
            Ok(LookupResult { addresses, time_to_live })
        }
    }
}

/// The names to ask for, in order.
fn candidates(name: &str, absolute: bool, ndots: usize, search: &[Name]) -> Vec<Name> {
    let Ok(mut name) = Name::from_ascii(name) else { return Vec::new() };
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let searched = search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
    let mut names: Vec<Name> = if absolute { Vec::new() } else { searched.collect() };
    name.set_fqdn(true);
    let as_it_is = if dots >= ndots.min(1) { 0 } else { names.len() };
    names.insert(as_it_is, name);
    names
}

/// The failure to report when several candidates failed: a failure of the DNS servers outweighs the
/// others.
fn more_severe(one: DnsFailure, other: DnsFailure) -> DnsFailure {
    let rank = |failure: DnsFailure| match failure {
        DnsFailure::NoSuchName => 0,
        DnsFailure::NoAddress => 1,
        DnsFailure::ServerFailure => 2,
        DnsFailure::NoAnswer => 3,
        DnsFailure::OwnLimit => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
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
    use super::*;

    #[test]
    fn own_file_limit_is_not_a_dns_failure() {
        let io = |code| failure_of(&NetError::Io(Arc::new(std::io::Error::from_raw_os_error(code))));
        assert_eq!([io(24), io(23)], [DnsFailure::OwnLimit; 2]);
        assert_eq!(io(111), DnsFailure::ServerFailure);
    }

    #[test]
    fn tries_name_with_dots_before_search_domains() {
        let search =
            ["ns.svc.cluster.local.", "cluster.local."].map(|domain| Name::from_ascii(domain).unwrap());
        let names = |name: &str, absolute, ndots| {
            let candidates = candidates(name, absolute, ndots, &search);
            candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let searched = "registry.a.ns.svc.cluster.local. registry.a.cluster.local.";
        assert_eq!(names("registry.a", false, 5), format!("registry.a. {searched}"));
        assert_eq!(names("registry.a", false, 1), format!("registry.a. {searched}"));
        assert_eq!(names("registry.a", true, 5), "registry.a.");
        assert_eq!(
            names("registry", false, 5),
            "registry.ns.svc.cluster.local. registry.cluster.local. registry."
        );
        assert_eq!(
            names("registry", false, 0),
            "registry. registry.ns.svc.cluster.local. registry.cluster.local."
        );
        assert_eq!(names("registry", true, 5), "registry.");
    }
}
