//! Validation through a forward proxy: what the proxy gets and doesn't get, and that the registry isn't blamed for what the proxy
//! does.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::support::dns::{Dns, NameServer};
use crate::support::proxy::{ForwardProxy, ProxyAction};
use crate::support::server::ClosedPort;
use crate::support::*;
use registry_probe::*;
use secrecy::SecretString;

const HOST: &str = "registry.example.com";

const METADATA: &[Ipv4Addr] = &[Ipv4Addr::new(169, 254, 169, 254)];
const MIXED: &[Ipv4Addr] = &[Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(10, 96, 0, 1)];

/// A DNS server that knows no public names, as in an isolated cluster.
async fn no_names() -> NameServer {
    NameServer::start(|_, _| Dns::NoSuchName).await
}

struct Proxied {
    dns: NameServer,
    url: String,
    no_proxy: &'static str,
    ca: Option<CaBundle>,
}

impl Proxied {
    async fn by(proxy: &ForwardProxy) -> Self {
        Self::at(format!("http://127.0.0.1:{}", proxy.port)).await
    }

    async fn at(url: String) -> Self {
        Self { dns: no_names().await, url, no_proxy: "", ca: None }
    }

    fn prober(&self) -> Prober {
        let proxy =
            Proxy::parse(&SecretString::from(self.url.clone()), self.no_proxy.parse().unwrap()).unwrap();
        let settings = ProberSettings {
            name_servers: vec![self.dns.address],
            hosts_file: "/dev/null".into(),
            proxy: Some(proxy),
            ca: self.ca.clone(),
            ..ProberSettings::default()
        };
        Prober::new(settings).unwrap()
    }

    async fn probe(&self, target: &Target, material: &Material) -> Findings {
        self.prober().probe(target, material, now()).await
    }

    async fn endpoint(&self, target: &Target) -> EndpointFinding {
        self.probe(target, &Material::default()).await.endpoint
    }

    /// The proxy's fault; no other finding may exist.
    async fn fault(&self, target: &Target) -> ProxyFault {
        let findings = self.probe(target, &alice()).await;
        let EndpointFinding::ProxyFailed { server, failure } = findings.endpoint else {
            panic!("{findings:#?}")
        };
        assert_eq!(server, *target.endpoint.server());
        assert_eq!(findings.tls, TlsFinding::NotAttempted);
        assert_eq!(findings.credentials, CredentialsFinding::NotAttempted);
        assert!(self.url.ends_with(&failure.proxy.to_string()), "{failure:?}");
        failure.fault
    }
}

fn htpasswd(asked: &ReceivedRequest) -> Answer {
    match asked.authorization() {
        Some(basic) if basic == basic_alice() => Answer::granted(),
        _ => Answer::challenge("Basic realm=\"registry\""),
    }
}

#[tokio::test]
async fn verifies_registry_through_proxy_tunnel() {
    let ca = Authority::new("company");
    let registry = Server::https(ca.server(&[HOST]).config(), htpasswd).await;
    let port = registry.port;
    let proxy = ForwardProxy::start(move |_| ProxyAction::Through(port)).await;
    let proxied = Proxied::by(&proxy).await;
    let material = Material { ca: Some(ca.bundle()), ..alice() };
    let findings = proxied.probe(&target(&format!("https://{HOST}")), &material).await;
    assert_eq!(findings.tls, TlsFinding::Verified);
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    assert_eq!(proxy.lines(), [format!("CONNECT {HOST}:443")], "one tunnel for all requests");
    let head = proxy.heads().remove(0);
    assert_eq!(head.header("host"), Some("registry.example.com:443"));
    assert_eq!((head.header("proxy-authorization"), head.header("authorization")), (None, None));
    assert!(
        registry.requests().iter().all(|asked| asked.header("host") == Some(HOST)),
        "{:?}",
        registry.requests()
    );

    let stranger = proxied.probe(&target("https://other.example.com"), &material).await;
    let TlsFinding::Failed { server, defect: TlsDefect::HostnameMismatch { .. }, .. } = stranger.tls else {
        panic!("{stranger:#?}")
    };
    assert_eq!(server.to_string(), "other.example.com:443");
}

#[tokio::test]
async fn sends_proxy_credentials_to_the_proxy_only() {
    let ca = Authority::new("company");
    let registry = Server::https(ca.server(&[HOST]).config(), htpasswd).await;
    let plain = Server::http(htpasswd).await;
    let ports = (registry.port, plain.port);
    let proxy = ForwardProxy::start(move |head| match head.header("proxy-authorization") {
        // alice@corp:pr:xy
        Some("Basic YWxpY2VAY29ycDpwcjp4eQ==") if head.line().starts_with("CONNECT ") => {
            ProxyAction::Through(ports.0)
        }
        Some("Basic YWxpY2VAY29ycDpwcjp4eQ==") => ProxyAction::Through(ports.1),
        _ => ProxyAction::Say(
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
        ),
    })
    .await;
    let proxied = Proxied {
        url: format!("http://alice%40corp:pr%3axy@127.0.0.1:{}", proxy.port),
        ..Proxied::by(&proxy).await
    };
    let material = Material { ca: Some(ca.bundle()), ..alice() };
    for endpoint in [format!("https://{HOST}"), format!("http://{HOST}")] {
        let findings = proxied.probe(&target(&endpoint), &material).await;
        assert_eq!(
            findings.credentials,
            CredentialsFinding::Validated(Evidence::RefusedWithout),
            "{endpoint}"
        );
    }
    for asked in registry.requests().iter().chain(&plain.requests()) {
        assert_eq!(asked.header("proxy-authorization"), None, "{asked:?}");
    }
}

/// As Go's clients do it: proxies let tunnels through to few ports.
#[tokio::test]
async fn requests_plain_http_registry_by_absolute_url() {
    let registry = Server::http(htpasswd).await;
    let port = registry.port;
    let proxy = ForwardProxy::start(move |_| ProxyAction::Through(port)).await;
    let findings = Proxied::by(&proxy).await.probe(&target(&format!("http://{HOST}:5000")), &alice()).await;
    assert_eq!(findings.tls, TlsFinding::PlainHttp);
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));
    assert_eq!(proxy.lines()[0], format!("GET http://{HOST}:5000/v2/"));
}

#[tokio::test]
async fn no_proxy_entries_are_reached_directly() {
    let (registry, proxy) =
        (Server::http(|_| Answer::granted()).await, ForwardProxy::start(|_| ProxyAction::Close).await);
    let dns = NameServer::start(|_, _| Dns::Addresses(&[Ipv4Addr::LOCALHOST])).await;
    let proxied = Proxied { no_proxy: ".example.com", dns, ..Proxied::by(&proxy).await };
    for host in [HOST, "127.0.0.1", "localhost"] {
        assert_eq!(proxied.endpoint(&target(&registry.at(host))).await, EndpointFinding::Reachable, "{host}");
    }
    assert!(proxy.lines().is_empty(), "{:?}", proxy.lines());
}

/// A token service is on or off the list by its own name.
#[tokio::test]
async fn token_service_has_its_own_proxy_decision() {
    let service = Server::http(|_| Answer::status(200).body(r#"{"token":"good"}"#)).await;
    let realm = format!("http://auth.registry.example.com:{}/token", service.port);
    let registry = Server::http(move |asked| match asked.authorization() {
        Some("Bearer good") => Answer::granted(),
        _ => Answer::challenge(&format!("Bearer realm=\"{realm}\",service=\"registry.test\"")),
    })
    .await;
    let port = registry.port;
    let proxy = ForwardProxy::start(move |_| ProxyAction::Through(port)).await;
    let dns = NameServer::start(|name, _| match name {
        "auth.registry.example.com" => Dns::Addresses(&[Ipv4Addr::LOCALHOST]),
        _ => Dns::NoSuchName,
    })
    .await;
    let proxied = Proxied { no_proxy: "auth.registry.example.com", dns, ..Proxied::by(&proxy).await };
    let findings = proxied.probe(&target(&format!("http://{HOST}")), &alice()).await;
    assert!(
        !matches!(findings.credentials, CredentialsFinding::TemporarilyUnavailable { .. }),
        "{findings:#?}"
    );
    assert!(!service.requests().is_empty());
    assert!(
        proxy.lines().iter().all(|line| line.contains("http://registry.example.com/")),
        "{:?}",
        proxy.lines()
    );
}

/// Addresses as they are written, and names that have such addresses here, are judged as without a proxy.
#[tokio::test]
async fn egress_policy_applies_before_the_proxy() {
    let proxy = ForwardProxy::start(|_| ProxyAction::Close).await;
    let dns = NameServer::start(|name, _| match name {
        "metadata.example.com" => Dns::Addresses(METADATA),
        "mixed.example.com" => Dns::Addresses(MIXED),
        _ => Dns::NoSuchName,
    })
    .await;
    let proxied = Proxied { dns, ..Proxied::by(&proxy).await };
    let egress_policy = EgressPolicy::new(EgressScope::Tenant, [], ["10.96.0.0/12".parse().unwrap()]);
    for endpoint in [
        "https://169.254.169.254",
        "https://0xa9fea9fe",
        "https://[::ffff:10.96.0.1]",
        "https://metadata.example.com",
        "http://metadata.example.com",
        "https://mixed.example.com",
    ] {
        let found =
            proxied.endpoint(&Target { egress_policy: egress_policy.clone(), ..target(endpoint) }).await;
        assert!(matches!(found, EndpointFinding::EgressDenied { .. }), "{endpoint}: {found:?}");
    }
    assert!(proxy.lines().is_empty(), "{:?}", proxy.lines());
}

/// A name that can't be looked up here must not wait for name servers that know nothing of it.
#[tokio::test]
async fn silent_dns_servers_do_not_block_the_proxy() {
    let registry = Server::http(|_| Answer::granted()).await;
    let port = registry.port;
    let proxy = ForwardProxy::start(move |_| ProxyAction::Through(port)).await;
    let dns = NameServer::start(|_, _| Dns::Silence).await;
    let proxied = Proxied { dns, ..Proxied::by(&proxy).await };
    let started = Instant::now();
    assert_eq!(proxied.endpoint(&target(&format!("http://{HOST}"))).await, EndpointFinding::Reachable);
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}, where name servers have 6 s",
        started.elapsed()
    );
}

#[tokio::test]
async fn distinguishes_proxy_responses() {
    for (says, for_https, for_http) in [
        ("HTTP/1.1 407 x\r\n\r\n", ProxyFault::LoginRequired, ProxyFault::LoginRequired),
        ("HTTP/1.1 403 Forbidden\r\n\r\n<html>", ProxyFault::Forbidden(403), ProxyFault::Forbidden(403)),
        ("HTTP/1.0 503 x\r\n\r\n", ProxyFault::Status(503), ProxyFault::Status(503)),
        ("HTTP/1.1 504 x\r\n\r\n<html>", ProxyFault::Status(504), ProxyFault::Status(504)),
        ("SSH-2.0-OpenSSH_9.6\r\n", ProxyFault::NotHttp, ProxyFault::NotHttp),
    ] {
        let proxy = ForwardProxy::start(move |_| ProxyAction::Say(says)).await;
        let proxied = Proxied::by(&proxy).await;
        assert_eq!(proxied.fault(&target(&format!("https://{HOST}"))).await, for_https, "{says:?}");
        assert_eq!(proxied.fault(&target(&format!("http://{HOST}"))).await, for_http, "{says:?}");
    }
    let proxy =
        ForwardProxy::start(|_| ProxyAction::Say("HTTP/1.1 302 x\r\nLocation: http://login/\r\n\r\n")).await;
    assert_eq!(
        Proxied::by(&proxy).await.fault(&target(&format!("https://{HOST}"))).await,
        ProxyFault::Status(302)
    );
}

#[tokio::test]
async fn attributes_refusal_through_proxy_to_registry() {
    let registry = Server::http(|_| Answer::error(503, "UNAVAILABLE")).await;
    let port = registry.port;
    let proxy = ForwardProxy::start(move |_| ProxyAction::Through(port)).await;
    let found = Proxied::by(&proxy).await.endpoint(&target(&format!("http://{HOST}"))).await;
    assert!(matches!(found, EndpointFinding::ServerError { status: 503, .. }), "{found:?}");
}

#[tokio::test]
async fn reports_unreachable_proxy() {
    let https = target(&format!("https://{HOST}"));
    let closed = ClosedPort::new();
    let away = Proxied::at(format!("http://127.0.0.1:{}", closed.number())).await;
    assert_eq!(away.fault(&https).await, ProxyFault::Refused);
    let unknown = Proxied::at("http://proxy.example.com:3128".into()).await;
    assert_eq!(unknown.fault(&https).await, ProxyFault::Dns(DnsFailure::NoSuchName));
    let hanging_up = ForwardProxy::start(|_| ProxyAction::Close).await;
    let hanging_up = Proxied::by(&hanging_up).await;
    for endpoint in [format!("https://{HOST}"), format!("http://{HOST}")] {
        let fault = hanging_up.fault(&target(&endpoint)).await;
        assert_eq!(fault, ProxyFault::Connection(ConnectionFailure::Closed), "{endpoint}");
    }
    for fault in [ProxyFault::Refused, ProxyFault::Dns(DnsFailure::NoSuchName), ProxyFault::Status(503)] {
        assert!(fault.is_transient(), "{fault:?}");
    }
    for fault in [ProxyFault::LoginRejected, ProxyFault::LoginRequired, ProxyFault::Forbidden(403)] {
        assert!(!fault.is_transient(), "{fault:?}");
    }
}

#[tokio::test]
async fn reports_slow_proxy_at_the_deadline() {
    let proxy = ForwardProxy::start(|_| ProxyAction::Silence).await;
    let proxied = Proxied::by(&proxy).await;
    for endpoint in [format!("https://{HOST}"), format!("http://{HOST}")] {
        let target = Target { deadline: Duration::from_secs(1), ..target(&endpoint) };
        assert_eq!(proxied.fault(&target).await, ProxyFault::Timeout(Stage::Request), "{endpoint}");
    }
}

/// Proxies lock accounts out as registries do.
#[tokio::test]
async fn backs_off_from_wrong_proxy_credentials() {
    let proxy = ForwardProxy::start(|_| ProxyAction::Say("HTTP/1.1 407 x\r\n\r\n")).await;
    let proxied =
        Proxied { url: format!("http://alice:wrong@127.0.0.1:{}", proxy.port), ..Proxied::by(&proxy).await };
    let prober = proxied.prober();
    let target = target(&format!("https://{HOST}"));
    let (material, targets) = (alice(), vec![target; 50]);
    let found =
        futures::future::join_all(targets.iter().map(|target| prober.probe(target, &material, now()))).await;
    for findings in found {
        let EndpointFinding::ProxyFailed { failure, .. } = findings.endpoint else { panic!("{findings:#?}") };
        assert_eq!(failure.fault, ProxyFault::LoginRejected);
    }
    assert_eq!(proxy.lines().len(), 1, "{:?}", proxy.lines());
}

/// Otherwise, a tenant's registry could stop the validations of all tenants.
#[tokio::test]
async fn forged_proxy_refusal_causes_no_backoff() {
    let (hostile, other) =
        (Server::http(|_| Answer::status(407)).await, Server::http(|_| Answer::granted()).await);
    let ports = (hostile.port, other.port);
    let proxy = ForwardProxy::start(move |head| {
        ProxyAction::Through(if head.line().contains("hostile.example.com") { ports.0 } else { ports.1 })
    })
    .await;
    let url = format!("http://alice:right@127.0.0.1:{}", proxy.port);
    let prober = Proxied { url, ..Proxied::by(&proxy).await }.prober();
    let endpoint = async |host: &str| {
        prober.probe(&target(&format!("http://{host}")), &Material::default(), now()).await.endpoint
    };
    for _ in 0..2 {
        let found = endpoint("hostile.example.com").await;
        assert!(matches!(found, EndpointFinding::ProxyFailed { .. }), "{found:?}");
        assert_eq!(endpoint(HOST).await, EndpointFinding::Reachable);
    }
}

/// It is verified by the administrator's authorities, whatever the registry's spec says.
#[tokio::test]
async fn verifies_tls_proxy_first() {
    let (corporate, company) = (Authority::new("corporate"), Authority::new("company"));
    let registry = Server::https(company.server(&[HOST]).config(), htpasswd).await;
    let port = registry.port;
    let proxy = ForwardProxy::over_tls(corporate.server(&["127.0.0.1"]).config(), move |_| {
        ProxyAction::Through(port)
    })
    .await;
    let url = format!("https://127.0.0.1:{}", proxy.port);
    let trusting = Proxied { url: url.clone(), ca: Some(corporate.bundle()), ..Proxied::by(&proxy).await };
    let https = target(&format!("https://{HOST}"));
    let material = Material { ca: Some(company.bundle()), ..alice() };
    let findings = trusting.probe(&https, &material).await;
    assert_eq!(findings.tls, TlsFinding::Verified);
    assert_eq!(findings.credentials, CredentialsFinding::Validated(Evidence::RefusedWithout));

    let strict = Proxied { url, ..Proxied::by(&proxy).await };
    let lax = Target { skip_verify: true, ..https };
    let material = Material { ca: Some(corporate.bundle()), ..alice() };
    let findings = strict.probe(&lax, &material).await;
    let EndpointFinding::ProxyFailed { failure, .. } = &findings.endpoint else { panic!("{findings:#?}") };
    assert_eq!(failure.fault, ProxyFault::Tls);
    assert_eq!(proxy.lines().len(), 1, "nothing was sent to a proxy that is not to be believed");
}

#[tokio::test]
async fn applies_administrator_ca_file_and_its_changes() {
    let ca = Authority::new("company");
    let registry = Server::https(ca.server(&["127.0.0.1"]).config(), htpasswd).await;
    let settings = ProberSettings { ca: Some(ca.bundle()), ..ProberSettings::default() };
    let prober = Prober::new(settings).unwrap();
    let target = target(&registry.url());
    let tls = async |material: Material| prober.probe(&target, &material, now()).await.tls;
    assert_eq!(tls(alice()).await, TlsFinding::Verified);
    let other = Material { ca: Some(Authority::new("other").bundle()), ..alice() };
    assert_eq!(tls(other).await, TlsFinding::Verified, "besides what the spec names");
    prober.trust(Some(Authority::new("newer").bundle()));
    assert!(matches!(tls(alice()).await, TlsFinding::Failed { defect: TlsDefect::UnknownIssuer { .. }, .. }));
    prober.trust(Some(ca.bundle()));
    assert_eq!(tls(alice()).await, TlsFinding::Verified);
}
