//! The endpoint layer: names, connections, the egress policy, and servers that aren't registries.

use std::net::Ipv4Addr;

use crate::support::dns::{Dns, NameServer};
use crate::support::server::ClosedPort;
use crate::support::*;
use registry_probe::*;

const BOTH: &[Ipv4Addr] = &[Ipv4Addr::new(127, 9, 9, 9), Ipv4Addr::LOCALHOST];
const PUBLIC: &[Ipv4Addr] = &[Ipv4Addr::new(203, 0, 113, 1)];
const LOOPBACK: Dns = Dns::Addresses(&[Ipv4Addr::LOCALHOST]);

async fn endpoint_by_dns(dns: &NameServer, target: &Target) -> Findings {
    let settings = ProberSettings { name_servers: vec![dns.address], ..ProberSettings::default() };
    Prober::new(settings).unwrap().probe(target, &alice(), now()).await
}

async fn dns_failure(script: impl Fn(&str, usize) -> Dns + Send + Sync + 'static) -> (DnsFailure, bool) {
    let dns = NameServer::start(script).await;
    let findings = endpoint_by_dns(&dns, &target("https://registry.example.com")).await;
    let EndpointFinding::DnsFailure { host, cause } = &findings.endpoint else { panic!("{findings:#?}") };
    assert_eq!(host.to_string(), "registry.example.com");
    assert_eq!(findings.tls, TlsFinding::NotAttempted);
    (*cause, findings.is_transient())
}

#[tokio::test]
async fn missing_host_name_is_definite() {
    assert_eq!(dns_failure(|_, _| Dns::NoSuchName).await, (DnsFailure::NoSuchName, false));
    assert_eq!(dns_failure(|_, _| Dns::Empty).await, (DnsFailure::NoAddress, false));
}

#[tokio::test]
async fn dns_server_failure_is_transient() {
    assert_eq!(dns_failure(|_, _| Dns::Failure).await, (DnsFailure::ServerFailure, true));
    assert_eq!(dns_failure(|_, _| Dns::Refused).await, (DnsFailure::ServerFailure, true));
}

#[tokio::test]
async fn reports_silent_dns_servers_before_the_deadline() {
    let started = std::time::Instant::now();
    assert_eq!(dns_failure(|_, _| Dns::Silence).await, (DnsFailure::NoAnswer, true));
    assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());
}

#[tokio::test]
async fn resolves_and_connects_to_host_name() {
    let registry = Server::http(|_| Answer::granted()).await;
    let dns = NameServer::start(|_, _| LOOPBACK).await;
    let findings = endpoint_by_dns(&dns, &target(&registry.at("registry.example.com"))).await;
    assert_eq!(findings.endpoint, EndpointFinding::Reachable);
    let host = format!("registry.example.com:{}", registry.port);
    assert_eq!(registry.requests()[0].header("host"), Some(&*host));
}

#[tokio::test]
async fn tries_next_address_after_refused_connection() {
    let registry = Server::http(|_| Answer::granted()).await;
    let dns = NameServer::start(|_, _| Dns::Addresses(BOTH)).await;
    let findings = endpoint_by_dns(&dns, &target(&registry.at("registry.example.com"))).await;
    assert_eq!(findings.endpoint, EndpointFinding::Reachable);
}

#[tokio::test]
async fn reports_refused_connection() {
    let port = ClosedPort::new();
    let findings = probe(&target(&format!("http://127.0.0.1:{}", port.number())), &alice()).await;
    assert!(
        matches!(findings.endpoint, EndpointFinding::ConnectionRefused { server } if server.port == port.number())
    );
}

async fn fenced(target: &Target) -> bool {
    let findings = probe(target, &alice()).await;
    matches!(findings.endpoint, EndpointFinding::EgressDenied { .. })
}

#[tokio::test]
async fn blocks_loopback_in_every_spelling() {
    let registry = Server::http(|_| Answer::granted()).await;
    let spellings = [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "localhost",
        "LOCALHOST.",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "0",
        "[::]",
        "127.0.0.2",
        "\u{ff11}27.0.0.1",
    ];
    for spelling in spellings {
        let egress_policy = EgressPolicy::new(EgressScope::Tenant, [], []);
        let target = Target { egress_policy, ..target(&registry.at(spelling)) };
        assert!(fenced(&target).await, "{spelling}");
    }
    assert_eq!(registry.accepted(), 0);
}

#[tokio::test]
async fn blocks_metadata_service_for_both_scopes() {
    for host in
        ["169.254.169.254", "0xa9fea9fe", "[fd00:ec2::254]", "100.100.100.200", "[::ffff:169.254.169.254]"]
    {
        for scope in [EgressScope::System, EgressScope::Tenant] {
            let egress_policy = EgressPolicy::new(scope, ["0.0.0.0/0".parse().unwrap()], []);
            assert!(fenced(&Target { egress_policy, ..target(&format!("http://{host}/")) }).await, "{host}");
        }
    }
}

#[tokio::test]
async fn egress_exception_allows_loopback() {
    let registry = Server::http(|_| Answer::granted()).await;
    let egress_policy = EgressPolicy::new(EgressScope::Tenant, ["127.0.0.0/8".parse().unwrap()], []);
    let findings = probe(&Target { egress_policy, ..target(&registry.url()) }, &Material::default()).await;
    assert_eq!(findings.endpoint, EndpointFinding::Reachable);
}

#[tokio::test]
async fn fault_25_public_then_private_address() {
    let registry = Server::http(|_| Answer::granted()).await;
    let dns = NameServer::start(|_, before| match before {
        0 => Dns::Addresses(PUBLIC),
        _ => LOOPBACK,
    })
    .await;
    let settings = ProberSettings { name_servers: vec![dns.address], ..ProberSettings::default() };
    let prober = Prober::new(settings).unwrap();
    let egress_policy = EgressPolicy::new(EgressScope::Tenant, [], ["203.0.113.0/24".parse().unwrap()]);
    let target = Target { egress_policy, ..target(&registry.at("registry.example.com")) };
    for _ in 0..2 {
        let findings = prober.probe(&target, &alice(), now()).await;
        assert!(matches!(findings.endpoint, EndpointFinding::EgressDenied { .. }), "{findings:#?}");
    }
    assert_eq!(registry.accepted(), 0);
}

async fn endpoint(answer: Answer) -> EndpointFinding {
    let registry = Server::http(move |_| answer.clone()).await;
    let findings = probe(&target(&registry.url()), &alice()).await;
    assert_eq!(findings.credentials, CredentialsFinding::NotAttempted);
    assert_eq!(findings.content_path, ContentPathFinding::NotAttempted);
    assert!(!registry.received_credentials());
    assert_eq!(registry.requests().len(), 1);
    findings.endpoint
}

#[tokio::test]
async fn sends_no_credentials_to_other_servers() {
    let login = "<!doctype html><title>Log in</title>";
    let cases = [
        (Answer::status(200).body(login), NotARegistry::NoSign),
        (
            Answer::status(200).header("Content-Type", "text/html; charset=utf-8").body("Welcome"),
            NotARegistry::NoSign,
        ),
        (Answer::status(200), NotARegistry::NoSign),
        (Answer::status(200).body("hello"), NotARegistry::NoSign),
        (Answer::status(404).body(login), NotARegistry::Status(404)),
        (Answer::error(404, "NOT_FOUND"), NotARegistry::Status(404)),
        (Answer::status(401).body(login), NotARegistry::Status(401)),
        (Answer::status(403).body(login), NotARegistry::Status(403)),
        (Answer::status(400), NotARegistry::Status(400)),
        (Answer::status(418), NotARegistry::Status(418)),
        (Answer::status(400).body("Client sent an HTTP request to an HTTPS server."), NotARegistry::WantsTls),
        (Answer::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()), NotARegistry::NotHttp),
        (Answer::Raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()), NotARegistry::NotHttp),
        (Answer::Raw([0, 0, 18, 4, 0, 0, 0, 0, 0].repeat(9)), NotARegistry::NotHttp),
    ];
    for (answer, expected) in cases {
        let found = endpoint(answer.clone()).await;
        assert!(
            matches!(found, EndpointFinding::NotARegistry { cause, .. } if cause == expected),
            "{answer:?}: {found:?}"
        );
    }
}

#[tokio::test]
async fn validation_takes_one_connection() {
    let registry = Server::http(|asked| match asked.authorization() {
        Some(_) => Answer::granted(),
        None => Answer::challenge("Basic realm=\"registry\""),
    })
    .await;
    let findings = probe(&target(&registry.url()), &alice()).await;
    assert_eq!(registry.log(), ["GET /v2/", "GET /v2/"]);
    assert_eq!((registry.accepted(), findings.requests.total()), (1, 2));
    assert_eq!(registry.requests()[0].header("user-agent"), Some("registry-operator/1.2.3"));
}
