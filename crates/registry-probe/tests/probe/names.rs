//! Name resolution as in glibc and Go: the DNS queries, how often they are sent, and concurrency.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::support::dns::{Dns, NameServer, Question};
use crate::support::server::ClosedPort;
use crate::support::*;
use registry_probe::*;

const LOOPBACK: &[Ipv4Addr] = &[Ipv4Addr::LOCALHOST];
const HOST: &str = "registry.example.com";

/// A prober of its own configuration files.
struct Resolving {
    prober: Prober,
    files: tempfile::TempDir,
}

impl Resolving {
    fn new(dns: &NameServer, resolv_conf: &str, hosts: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let settings = ProberSettings {
            name_servers: vec![dns.address],
            resolv_conf: Some(path("resolv.conf", resolv_conf)),
            hosts_file: path("hosts", hosts),
            ..ProberSettings::default()
        };
        Self { prober: Prober::new(settings).unwrap(), files }
    }

    async fn endpoint(&self, target: &Target) -> EndpointFinding {
        self.prober.probe(target, &Material::default(), now()).await.endpoint
    }
}

async fn registry() -> Server {
    Server::http(|_| Answer::granted()).await
}

/// `name A` or `name AAAA`, in order of arrival.
fn asked(dns: &NameServer) -> Vec<String> {
    let kind = |question: &Question| if question.kind == 1 { "A" } else { "AAAA" };
    dns.questions().iter().map(|question| format!("{} {}", question.name, kind(question))).collect()
}

fn names_asked(dns: &NameServer) -> Vec<String> {
    let mut names: Vec<_> = dns.questions().into_iter().map(|question| question.name).collect();
    names.dedup();
    names
}

#[tokio::test]
async fn hosts_file_entry_needs_no_dns_query() {
    let (registry, dns) = (registry().await, NameServer::start(|_, _| Dns::Silence).await);
    let resolving =
        Resolving::new(&dns, "search cluster.local\noptions ndots:5\n", "127.0.0.1 registry.example.com r\n");
    for host in [HOST, "Registry.Example.COM.", "r"] {
        let found = resolving.endpoint(&target(&registry.at(host))).await;
        assert_eq!(found, EndpointFinding::Reachable, "{host}");
    }
    assert_eq!(asked(&dns), [""; 0]);
}

#[tokio::test]
async fn tries_every_address_of_the_hosts_file() {
    let (registry, dns) = (registry().await, NameServer::start(|_, _| Dns::Silence).await);
    let hosts = "127.9.9.9 registry.example.com\n127.0.0.1 registry.example.com\n169.254.169.254 metadata\n";
    let resolving = Resolving::new(&dns, "", hosts);
    assert_eq!(resolving.endpoint(&target(&registry.at(HOST))).await, EndpointFinding::Reachable);
    let found = resolving.endpoint(&target("http://metadata")).await;
    assert!(matches!(found, EndpointFinding::EgressDenied { .. }), "{found:?}");
    let egress_policy = EgressPolicy::new(EgressScope::Tenant, [], []);
    let found = resolving.endpoint(&Target { egress_policy, ..target(&registry.at(HOST)) }).await;
    assert!(matches!(found, EndpointFinding::EgressDenied { .. }), "{found:?}");
}

#[tokio::test]
async fn reloads_changed_hosts_file() {
    let (registry, dns) = (registry().await, NameServer::start(|_, _| Dns::NoSuchName).await);
    let resolving = Resolving::new(&dns, "", "");
    let target = target(&registry.at(HOST));
    assert!(matches!(resolving.endpoint(&target).await, EndpointFinding::DnsFailure { .. }));
    std::fs::write(resolving.files.path().join("hosts"), format!("127.0.0.1 {HOST}\n")).unwrap();
    let started = Instant::now();
    while resolving.endpoint(&target).await != EndpointFinding::Reachable {
        assert!(started.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many validations go on at the same time here; the operator has 64 by default.
const AT_ONCE: usize = 100;

async fn at_once(resolving: &Resolving, target: &Target) -> Vec<EndpointFinding> {
    futures::future::join_all((0..AT_ONCE).map(|_| resolving.endpoint(target))).await
}

#[tokio::test]
async fn shares_concurrent_lookups_of_one_name() {
    let registry = registry().await;
    let dns = NameServer::answering(|question, _| match question.kind {
        1 => Dns::Late(200, &Dns::Addresses(LOOPBACK)),
        _ => Dns::Late(200, &Dns::Empty),
    })
    .await;
    let resolving = Resolving::new(&dns, "", "");
    let found = at_once(&resolving, &target(&registry.at(HOST))).await;
    assert!(found.iter().all(|found| *found == EndpointFinding::Reachable), "{found:?}");
    assert_eq!(asked(&dns).len(), 2, "{:?}", asked(&dns));
}

/// If no server answers, all lookups take as long as one.
#[tokio::test]
async fn caches_failures_briefly() {
    for answer in [Dns::NoSuchName, Dns::Empty, Dns::Failure, Dns::Refused] {
        let dns = NameServer::start(move |_, _| answer).await;
        let resolving = Resolving::new(&dns, "options attempts:1\n", "");
        let first = resolving.endpoint(&target(&format!("https://{HOST}"))).await;
        let cost = asked(&dns).len();
        let found = at_once(&resolving, &target(&format!("https://{HOST}"))).await;
        assert!(found.iter().all(|found| *found == first), "{found:?}");
        assert_eq!(asked(&dns).len(), cost, "{answer:?}");
    }
}

#[tokio::test]
async fn thousand_registries_share_one_failed_lookup() {
    let dns = NameServer::start(|_, _| Dns::Silence).await;
    let resolving = Resolving::new(&dns, "options timeout:1 attempts:1\n", "");
    let target = target(&format!("https://{HOST}"));
    let started = Instant::now();
    resolving.endpoint(&target).await;
    let one = started.elapsed();
    let started = Instant::now();
    for _ in 0..10 {
        at_once(&resolving, &target).await;
    }
    assert!(started.elapsed() < one * 3, "{:?} for a thousand, {one:?} for one", started.elapsed());
}

#[tokio::test]
async fn caches_answers_per_family_for_their_ttl() {
    let registry = registry().await;
    let dns = NameServer::start(|_, _| Dns::Lasting(300, LOOPBACK)).await;
    let resolving = Resolving::new(&dns, "", "");
    for _ in 0..3 {
        resolving.endpoint(&target(&registry.at(HOST))).await;
    }
    assert_eq!(asked(&dns).len(), 2, "{:?}", asked(&dns));
}

/// Of a chain, the shortest time to live counts: here the alias must not be kept.
#[tokio::test]
async fn follows_cname_within_its_ttl() {
    let registry = registry().await;
    let dns = NameServer::answering(|question, _| match question.kind {
        1 => Dns::Alias("elsewhere.example.net", Ipv4Addr::LOCALHOST),
        _ => Dns::Empty,
    })
    .await;
    let resolving = Resolving::new(&dns, "", "");
    for _ in 0..2 {
        assert_eq!(resolving.endpoint(&target(&registry.at(HOST))).await, EndpointFinding::Reachable);
    }
    assert_eq!(dns.requests(), [HOST, HOST]);
    let egress_policy = EgressPolicy::new(EgressScope::Tenant, [], []);
    let found = resolving.endpoint(&Target { egress_policy, ..target(&registry.at(HOST)) }).await;
    assert!(matches!(found, EndpointFinding::EgressDenied { .. }), "{found:?}");
}

#[tokio::test]
async fn unanswered_family_causes_no_delay() {
    let registry = registry().await;
    for (v4, v6) in
        [(Dns::Addresses(LOOPBACK), Dns::Silence), (Dns::Silence, Dns::V6(&[Ipv6Addr::LOCALHOST]))]
    {
        let dns = NameServer::answering(move |question, _| if question.kind == 1 { v4 } else { v6 }).await;
        let resolving = Resolving::new(&dns, "", "");
        let started = Instant::now();
        let found = resolving.endpoint(&target(&registry.at(HOST))).await;
        let took = started.elapsed();
        // There is no listener on ::1; the address must have been tried.
        assert!(!matches!(found, EndpointFinding::DnsFailure { .. }), "{found:?}");
        assert!(took < Duration::from_secs(2), "{took:?}, where one time-out is 3 s");
    }
}

const BOTH: &[Ipv4Addr] = &[Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];

/// An address that does not answer costs a quarter of a second, not the time-out of a connection.
#[tokio::test]
async fn tries_next_address_when_one_is_silent() {
    // A backlog that is full answers no SYN.
    let full = crate::support::server::FullBacklog::new().await;
    let registry = Server::http_on("127.0.0.2", full.port(), |_| Answer::granted()).await;
    let dns = NameServer::start(|_, _| Dns::Addresses(BOTH)).await;
    let resolving = Resolving::new(&dns, "", "");
    let started = Instant::now();
    assert_eq!(resolving.endpoint(&target(&registry.at(HOST))).await, EndpointFinding::Reachable);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn skips_search_domains_if_the_name_resolves() {
    let registry = registry().await;
    let dns =
        NameServer::start(|name, _| if name == HOST { Dns::Addresses(LOOPBACK) } else { Dns::NoSuchName })
            .await;
    let kubelet = "search ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    let resolving = Resolving::new(&dns, kubelet, "");
    assert_eq!(resolving.endpoint(&target(&registry.at(HOST))).await, EndpointFinding::Reachable);
    assert_eq!(names_asked(&dns), [HOST]);
}

#[tokio::test]
async fn resolves_service_names_by_search_domain() {
    let registry = registry().await;
    let known = ["registry.ns.svc.cluster.local", "registry.team-a.svc.cluster.local"];
    let dns =
        NameServer::start(
            move |name, _| {
                if known.contains(&name) { Dns::Addresses(LOOPBACK) } else { Dns::NoSuchName }
            },
        )
        .await;
    let kubelet = "search ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    let resolving = Resolving::new(&dns, kubelet, "");
    for host in ["registry", "registry.team-a"] {
        assert_eq!(
            resolving.endpoint(&target(&registry.at(host))).await,
            EndpointFinding::Reachable,
            "{host}"
        );
    }
    assert_eq!(
        names_asked(&dns),
        [known[0], "registry.team-a", "registry.team-a.ns.svc.cluster.local", known[1]],
        "without a dot by search domains first; with one, as it is"
    );
}

/// A tenant with a namespace `com` and a Service `example` has the name registry.example.com.svc.cluster.local.
#[tokio::test]
async fn search_domains_do_not_capture_public_names() {
    let theirs = registry().await;
    let catcher = "registry.example.com.svc.cluster.local";
    for own in [Dns::Failure, Dns::Silence] {
        let dns =
            NameServer::start(move |name, _| if name == catcher { Dns::Addresses(LOOPBACK) } else { own })
                .await;
        let resolving =
            Resolving::new(&dns, "search svc.cluster.local\noptions ndots:5 timeout:1 attempts:1\n", "");
        let found = resolving.endpoint(&target(&theirs.at(HOST))).await;
        assert!(matches!(found, EndpointFinding::DnsFailure { .. }), "{found:?}");
        assert!(!names_asked(&dns).contains(&catcher.to_owned()));
    }
    let dns = NameServer::start(
        move |name, _| if name == catcher { Dns::Addresses(LOOPBACK) } else { Dns::NoSuchName },
    )
    .await;
    let resolving = Resolving::new(&dns, "search svc.cluster.local\noptions ndots:5\n", "");
    let found = resolving.endpoint(&target(&theirs.at("registry.example.com."))).await;
    assert!(matches!(found, EndpointFinding::DnsFailure { .. }), "a trailing dot ends the search: {found:?}");
    assert_eq!(theirs.accepted(), 0);
}

#[tokio::test]
async fn queries_international_names_in_punycode() {
    let registry = registry().await;
    let dns = NameServer::start(|_, _| Dns::Addresses(LOOPBACK)).await;
    let resolving = Resolving::new(&dns, "", "");
    let found = resolving.endpoint(&target(&registry.at("B\u{fc}cher.example"))).await;
    assert_eq!(found, EndpointFinding::Reachable);
    assert_eq!(dns.requests(), ["xn--bcher-kva.example"]);
}

#[tokio::test]
async fn retries_truncated_answer_over_tcp() {
    let registry = registry().await;
    let dns = NameServer::answering(|question, _| match (question.kind, question.over_tcp) {
        (_, false) => Dns::Truncated,
        (1, true) => Dns::Addresses(LOOPBACK),
        _ => Dns::Empty,
    })
    .await;
    let resolving = Resolving::new(&dns, "", "");
    assert_eq!(resolving.endpoint(&target(&registry.at(HOST))).await, EndpointFinding::Reachable);
}

#[tokio::test]
async fn applies_resolv_conf_options() {
    let registry = registry().await;
    let dns = NameServer::start(|_, _| Dns::Addresses(LOOPBACK)).await;
    let resolving = Resolving::new(&dns, "options use-vc no-aaaa\n", "");
    assert_eq!(resolving.endpoint(&target(&registry.at(HOST))).await, EndpointFinding::Reachable);
    assert!(
        dns.questions().iter().all(|question| question.over_tcp && question.kind == 1),
        "{:?}",
        dns.questions()
    );
}

#[tokio::test]
async fn unreachable_dns_server_fails_without_delay() {
    let closed = ClosedPort::new();
    let settings = ProberSettings {
        name_servers: vec![format!("127.0.0.1:{}", closed.number()).parse().unwrap()],
        hosts_file: "/dev/null".into(),
        ..ProberSettings::default()
    };
    let prober = Prober::new(settings).unwrap();
    let found = prober.probe(&target(&format!("https://{HOST}")), &Material::default(), now()).await.endpoint;
    let EndpointFinding::DnsFailure { cause, .. } = found else { panic!("{found:?}") };
    assert!(cause.is_transient(), "{cause:?}");
}
