//! The verdict on every kind of registry in the samples, and on similar ones: layer by layer, by condition,
//! status and reason, in both scopes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::{api::networking::v1::ServiceCIDR, jiff::Timestamp};
use kube::Api;
use registry_api::TOKEN_SECRET_TYPE;
use registry_probe::IpNet;
use registry_testbed::{
    Leaf, LeafOptions, RegistryAuth, RegistryOptions, RegistryTls, TestCa, TestRegistry, eventually,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    fixtures::{
        Marker, PROMISED, ScriptedServer, TestScope, VALIDATED, Verdict, View, anonymous, answer, attempts,
        label, label_as_tenant, protected, spec, unlabel, welcome,
    },
    harness::{self, Cluster},
    moment::Moment,
};

const ANONYMOUS: Verdict = Verdict { credentials: "True/AnonymousAccess", ..VALIDATED };

// ---- Good credentials

#[tokio::test]
async fn validates_with_every_source_of_trust() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let pem = ca.certificate_pem();
        let map = scene.config_map("authority", &[("ca.crt", pem), ("other.pem", pem)]).await?;
        let secret = scene.secret("authority", "Opaque", &[("ca.crt", pem), ("other.pem", pem)]).await?;
        let ways = [
            ("inline", json!({"inline": pem})),
            ("config-map", json!({"configMapRef": {"name": map}})),
            ("config-map-key", json!({"configMapRef": {"name": map, "key": "other.pem"}})),
            ("secret", json!({"secretRef": {"name": secret}})),
            ("secret-key", json!({"secretRef": {"name": secret, "key": "other.pem"}})),
        ];
        for (name, way) in ways {
            let mut spec = spec(&registry, &ca, &login);
            spec["tls"]["ca"] = way;
            let view = scene.declare(name, spec).await?.shows(&VALIDATED).await?;
            assert_eq!(view.message("CredentialsValidated"), "Credentials validated");
            assert_eq!(view.message("Ready"), "Credentials validated");
        }
    }
    Ok(())
}

#[tokio::test]
async fn status_describes_presented_certificate() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let leaf = ca.issue(&LeafOptions::server("registry"))?;
    let registry = over_tls(&ca, leaf.clone(), RegistryAuth::htpasswd("demo", "right"), None).await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let view = scene.declare("good", spec(&registry, &ca, &login)).await?.shows(&VALIDATED).await?;
        let tls = view.status.tls.expect("status.tls");
        assert_eq!(tls.version.as_deref(), Some("TLSv1.3"));
        assert_eq!(tls.subject.as_deref(), Some("CN=registry"));
        assert_eq!(tls.issuer.as_deref(), Some("CN=private authority"));
        assert_eq!(tls.sha256_fingerprint, Some(fingerprint(&leaf)?));
        let left = tls.not_after.expect("notAfter").0.duration_since(now());
        assert!((364..=365).contains(&(left.as_hours() / 24)), "{left:?}");
    }
    Ok(())
}

#[tokio::test]
async fn validates_with_docker_config_secret() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    let auth = BASE64_STANDARD.encode("demo:right");
    let (host, url) = (registry.host_port(), registry.url());
    for scene in TestScope::both(&cluster).await? {
        let ways = [
            ("encoded", json!({"auths": {&host: {"auth": auth}}})),
            ("plain", json!({"auths": {&host: {"username": "demo", "password": "right"}}})),
            ("by-url", json!({"auths": {&url: {"auth": auth}}})),
            (
                "among-others",
                json!({"auths": {"other.example.com": {"auth": "b3RoZXI6b3RoZXI="}, &host: {"auth": auth}}}),
            ),
        ];
        for (name, config) in ways {
            let login = docker_config(&scene, name, &config).await?;
            let view = scene.declare(name, spec(&registry, &ca, &login)).await?.shows(&VALIDATED).await?;
            assert_eq!(view.message("CredentialsValidated"), "Credentials validated", "{name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn reads_repository_below_content_path() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    registry.push_artifact("team/packs/hello", "1.0").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let with = |base: &str, repository: &str| {
            let mut spec = spec(&registry, &ca, &login);
            spec["baseContentPath"] = json!(base);
            spec["validation"] = json!({"repository": repository});
            spec
        };
        let accessible = Verdict { path: "True/Accessible", ..VALIDATED };
        let view = scene.declare("readable", with("team/packs", "hello")).await?.shows(&accessible).await?;
        assert!(view.message("ContentPathAccessible").contains("team/packs/hello"));

        let missing =
            Verdict { path: "False/NotFound", ready: "False/NotFound", marker: Marker::Stalled, ..VALIDATED };
        let view = scene.declare("missing", with("team/other", "hello")).await?.shows(&missing).await?;
        assert!(view.message("ContentPathAccessible").contains("team/other/hello"));
        assert_eq!(view.message("Ready"), view.message("ContentPathAccessible"));
    }
    Ok(())
}

// ---- Credentials that don't work, or can't be verified

#[tokio::test]
async fn wrong_password_is_rejected_and_stalls() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "wrong").await?;
        let object = scene.declare("wrong", spec(&registry, &ca, &login)).await?;
        let view = object.shows(&Verdict::refused("False/Rejected")).await?;
        assert!(view.message("CredentialsValidated").contains(&registry.host_port()));
        assert_eq!(view.message("Ready"), view.message("CredentialsValidated"));
        assert_eq!(view.message("Stalled"), view.message("CredentialsValidated"));
        assert!(view.status.tls.is_some(), "the certificate was seen all the same");
    }
    Ok(())
}

#[tokio::test]
async fn reports_required_credentials() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let spec = json!({"endpoint": registry.url(), "tls": {"ca": {"inline": ca.certificate_pem()}}});
        let view = scene.declare("bare", spec).await?.shows(&Verdict::refused("False/Required")).await?;
        assert!(view.message("CredentialsValidated").contains("spec.auth"));
    }
    assert_eq!(attempts(&registry), 0);
    Ok(())
}

#[tokio::test]
async fn anonymous_plain_http_registry_is_ready() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = anonymous().await?;
    registry.push_artifact("hello", "1.0").await?;
    for scene in TestScope::both(&cluster).await? {
        let open = ANONYMOUS.in_the_clear();
        let object = scene.declare("anonymous", json!({"endpoint": registry.url()})).await?;
        let view = object.shows(&open).await?;
        assert!(view.status.tls.is_none(), "{:?}", view.status.tls);

        let spec = json!({"endpoint": registry.url(), "validation": {"repository": "hello"}});
        let readable = Verdict { path: "True/Accessible", ..open };
        scene.declare("readable", spec).await?.shows(&readable).await?;
    }
    Ok(())
}

// ---- Certificates

#[tokio::test]
async fn unknown_issuer_message_has_fingerprint() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let leaf = ca.issue(&LeafOptions::server("registry"))?;
    let registry = over_tls(&ca, leaf.clone(), RegistryAuth::htpasswd("demo", "right"), None).await?;
    let other = TestCa::new("another authority")?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let auth = json!({"basic": {"secretRef": {"name": login}}});
        let none = json!({"endpoint": registry.url(), "auth": auth});
        let mut wrong = none.clone();
        wrong["tls"] = json!({"ca": {"inline": other.certificate_pem()}});
        for (name, spec) in [("none", none), ("wrong", wrong)] {
            let object = scene.declare(name, spec).await?;
            let view = object.shows(&Verdict::untrusted("False/UnknownIssuer")).await?;
            let message = view.message("TLSVerified");
            for part in [
                "CN=private authority",
                &fingerprint(&leaf)?,
                "spec.tls.ca",
                "spec.tls.insecureSkipVerify",
                &registry.host_port(),
            ] {
                assert!(message.contains(part), "{part:?} is not in {message:?}");
            }
            let seen = view.status.tls.expect("status.tls, for a person to compare");
            assert_eq!(seen.sha256_fingerprint, Some(fingerprint(&leaf)?));
        }
    }
    assert!(registry.requests().is_empty(), "nothing is sent to a server that is not trusted");
    Ok(())
}

#[tokio::test]
async fn skipped_verification_reports_the_defect() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (ca, other) = (TestCa::new("private authority")?, TestCa::new("another authority")?);
    let registry = protected(&ca, "demo", "right").await?;
    let skipped = Verdict { tls: "False/VerificationSkipped", ..VALIDATED };
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let with = |tls: Value| {
            let mut spec = spec(&registry, &ca, &login);
            spec["tls"] = tls;
            spec
        };
        let spec = with(json!({"insecureSkipVerify": true}));
        let view = scene.declare("skipped", spec).await?.shows(&skipped).await?;
        let message = view.message("TLSVerified");
        assert!(message.contains("CN=private authority"), "{message}");
        assert!(!message.contains("spec.tls.ca would"), "{message}");
        assert_eq!(view.message("CredentialsValidated"), "Credentials validated");
        assert!(view.status.tls.is_some());

        let spec = with(json!({"insecureSkipVerify": true, "ca": {"inline": ca.certificate_pem()}}));
        let view = scene.declare("right-ca", spec).await?.shows(&skipped).await?;
        let message = view.message("TLSVerified");
        assert!(message.contains("valid with spec.tls.ca"), "{message}");
        assert!(message.contains("can be removed"), "{message}");

        let spec = with(json!({"insecureSkipVerify": true, "ca": {"inline": other.certificate_pem()}}));
        let view = scene.declare("wrong-ca", spec).await?.shows(&skipped).await?;
        let message = view.message("TLSVerified");
        assert!(message.contains("CN=private authority"), "{message}");
        assert!(message.contains("spec.tls.ca would not verify"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn reports_missing_client_certificate() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (ca, clients, strangers) =
        (TestCa::new("server authority")?, TestCa::new("clients")?, TestCa::new("strangers")?);
    let leaf = ca.issue(&LeafOptions::server("registry"))?;
    let auth = RegistryAuth::htpasswd("demo", "right");
    let registry = over_tls(&ca, leaf, auth, Some(clients.certificate_pem().to_owned())).await?;
    let client = |name: &str| LeafOptions::client(name, Vec::<String>::new());
    let good = clients.issue(&client("operator"))?;
    let required = Verdict::untrusted("False/ClientCertificateRequired");
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let with = |secret: &str| {
            let mut spec = spec(&registry, &ca, &login);
            spec["tls"]["clientCertificate"] = json!({"secretRef": {"name": secret}});
            spec
        };
        let secret = pair(&scene, "good", &good, &good).await?;
        scene.declare("given", with(&secret)).await?.shows(&VALIDATED).await?;

        let view = scene.declare("missing", spec(&registry, &ca, &login)).await?.shows(&required).await?;
        assert!(view.message("TLSVerified").contains("spec.tls.clientCertificate"));

        for (name, leaf, says) in [
            ("strange", strangers.issue(&client("operator"))?, "rejected the client certificate"),
            (
                "ended",
                clients.issue(&client("operator").expired())?,
                "rejected the expired client certificate",
            ),
        ] {
            let secret = pair(&scene, name, &leaf, &leaf).await?;
            let view = scene.declare(name, with(&secret)).await?.shows(&required).await?;
            assert!(view.message("TLSVerified").contains(says), "{name}: {}", view.message("TLSVerified"));
        }

        let mixed = pair(&scene, "mixed", &good, &clients.issue(&client("other"))?).await?;
        let object = scene.declare("mixed", with(&mixed)).await?;
        object.shows(&Verdict::unresolved("False/SecretInvalid")).await?;
    }
    Ok(())
}

// ---- Endpoints

#[tokio::test]
async fn keeps_retrying_unreachable_registry() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    registry.component().stop().await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let object = scene.declare("down", spec(&registry, &ca, &login)).await?;
        let verdict = Verdict::unreachable("False/ConnectionRefused").retried();
        let view = object.shows(&verdict).await?;
        assert!(view.message("EndpointReachable").contains(&registry.host_port()));
        assert!(view.status.tls.is_none(), "nothing was seen, so nothing is shown");
    }
    Ok(())
}

#[tokio::test]
async fn registry_that_comes_up_becomes_ready() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    registry.component().stop().await?;
    let scene = TestScope::system(&cluster);
    let login = scene.login("login", "demo", "right").await?;
    let object = scene.declare("late", spec(&registry, &ca, &login)).await?;
    object.shows(&Verdict::unreachable("False/ConnectionRefused").retried()).await?;
    registry.component().start().await?;
    object.shows(&VALIDATED).await?;
    Ok(())
}

#[tokio::test]
async fn keeps_ready_below_failure_threshold() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    for scene in TestScope::both(&cluster).await? {
        let registry = protected(&ca, "demo", "right").await?;
        let login = scene.login("login", "demo", "right").await?;
        let mut spec = spec(&registry, &ca, &login);
        spec["validation"] = json!({"failureThreshold": 2});
        let object = scene.declare("packs", spec).await?;
        object.shows(&VALIDATED).await?;

        registry.component().stop().await?;
        object.request("once").await?;
        object.has_handled("once").await?;
        let down = Verdict::unreachable("False/ConnectionRefused");
        let enduring = Verdict { ready: "True/Available", marker: Marker::None, ..down };
        let view = object.shows(&enduring).await?;
        assert!(view.message("Ready").contains("refused the connection"), "it doesn't hide what is seen");

        object.request("twice").await?;
        object.has_handled("twice").await?;
        object.shows(&down.retried()).await?;

        registry.component().start().await?;
        object.shows(&VALIDATED).await?;
    }
    Ok(())
}

#[tokio::test]
async fn retries_registry_with_server_error() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let faulty = ScriptedServer::promptly(|_| answer(503, &[], "an inner secret of the server")).await?;
    let busy = ScriptedServer::promptly(|_| answer(429, &[("Retry-After", "60")], "")).await?;
    let silent = ScriptedServer::start(|_| (Duration::from_mins(10), welcome())).await?;
    let scene = TestScope::system(&cluster);
    let cases = [
        ("faulty", &faulty, "EndpointReachable=False/ServerError", "Ready=False/ServerError"),
        ("busy", &busy, "EndpointReachable=Unknown/Throttled", "Ready=False/Throttled"),
        ("silent", &silent, "EndpointReachable=False/Timeout", "Ready=False/Timeout"),
    ];
    for (name, server, endpoint, ready) in cases {
        let spec = json!({"endpoint": server.url(), "validation": {"timeout": "1s"}});
        let object = scene.declare(name, spec).await?;
        let expected = [endpoint, ready, "CredentialsValidated=Unknown/NotAttempted", "!Stalled"];
        let view = object.becomes(&expected).await?;
        assert_eq!(view.condition("Reconciling").status, "True", "{name}");
        assert!(view.message("EndpointReachable").contains(server.host_port()), "{name}");
        assert!(!format!("{view:?}").contains("inner secret"));
    }
    Ok(())
}

#[tokio::test]
async fn egress_policy_denies_address() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    for scene in TestScope::both(&cluster).await? {
        let object = scene.declare("metadata", json!({"endpoint": "https://169.254.169.254"})).await?;
        object.shows(&Verdict::unreachable("False/EgressDenied")).await?;
    }
    Ok(())
}

async fn service_range(cluster: &Cluster) -> Result<IpNet> {
    let ranges: Api<ServiceCIDR> = Api::all(cluster.client());
    let spec = ranges.get("kubernetes").await?.spec.context("a specification")?;
    let first = spec.cidrs.as_deref().unwrap_or_default().first().context("a range")?;
    Ok(first.parse()?)
}

#[tokio::test]
async fn tenant_cannot_reach_cluster_services() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let range = service_range(&cluster).await?;
    // None that is in use: not the API server's own, which is denied for another reason.
    let address = range.hosts().nth(77).context("a range with room")?;
    let scene = TestScope::tenant(&cluster).await?;
    let object = scene.declare("service", json!({"endpoint": format!("https://{address}")})).await?;
    object.shows(&Verdict::unreachable("False/EgressDenied")).await?;
    Ok(())
}

// ---- References

#[tokio::test]
async fn reports_missing_and_unusable_references() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        for case in references(&scene, &registry, &ca).await? {
            let object = scene.declare(case.name, case.spec).await?;
            let view = object.shows(&Verdict::unresolved(case.verdict)).await?;
            let message = view.message("ResolvedRefs");
            assert!(message.contains(scene.namespace()), "{}: {message:?}", case.name);
            for part in &case.parts {
                assert!(message.contains(part), "{}: {part:?} is not in {message:?}", case.name);
            }
            assert_eq!(view.message("Ready"), message);
        }
    }
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
    Ok(())
}

struct Unusable {
    name: &'static str,
    spec: Value,
    verdict: &'static str,
    /// What the message must name.
    parts: Vec<String>,
}

async fn references(scene: &TestScope<'_>, registry: &TestRegistry, ca: &TestCa) -> Result<Vec<Unusable>> {
    let login = scene.login("login", "demo", "right").await?;
    let with_secret = |secret: &str| spec(registry, ca, secret);
    let with_ca = |source: Value| {
        let mut spec = spec(registry, ca, &login);
        spec["tls"]["ca"] = source;
        spec
    };
    let case = |name, spec, verdict, parts: &[&str]| {
        let parts = parts.iter().map(|part| (*part).to_owned()).collect();
        Unusable { name, spec, verdict, parts }
    };
    let wrong_type = scene.secret("ssh", "kubernetes.io/ssh-auth", &[("ssh-privatekey", "a key")]).await?;
    let no_keys = scene.secret("no-keys", "Opaque", &[("login", "demo")]).await?;
    let token = scene.secret("token", TOKEN_SECRET_TYPE, &[("password", "right")]).await?;
    let other_host = json!({"auths": {"other.example.com": {"auth": "b3RoZXI6b3RoZXI="}}});
    let other_host = docker_config(scene, "other-host", &other_host).await?;
    let empty = scene.config_map("empty", &[("other", "x")]).await?;
    let text = scene.config_map("text", &[("ca.crt", "no certificate")]).await?;
    let text_secret = scene.secret("text", "Opaque", &[("ca.crt", "no certificate")]).await?;
    let mut wants_token = spec(registry, ca, &login);
    wants_token["auth"] = json!({"token": {"secretRef": {"name": token}}});
    let mut client = spec(registry, ca, &login);
    client["tls"]["clientCertificate"] = json!({"secretRef": {"name": login}});
    let named = |name: &str| scene.named(name);
    let (no_secret, no_map) = (named("no-such-secret"), named("no-such-map"));
    Ok(vec![
        case("no-secret", with_secret(&no_secret), "False/SecretNotFound", &["Secret", &no_secret]),
        case(
            "wrong-type",
            with_secret(&wrong_type),
            "False/SecretInvalid",
            &["kubernetes.io/ssh-auth", &wrong_type],
        ),
        case("no-keys", with_secret(&no_keys), "False/SecretInvalid", &[&no_keys]),
        case("no-token", wants_token, "False/SecretInvalid", &["token", &token]),
        case(
            "no-entry",
            with_secret(&other_host),
            "False/SecretInvalid",
            &[&registry.host_port(), &other_host],
        ),
        case(
            "no-map",
            with_ca(json!({"configMapRef": {"name": no_map}})),
            "False/ConfigMapNotFound",
            &["ConfigMap", &no_map],
        ),
        case(
            "no-ca-secret",
            with_ca(json!({"secretRef": {"name": no_secret}})),
            "False/SecretNotFound",
            &["Secret", &no_secret],
        ),
        case(
            "no-ca-key",
            with_ca(json!({"configMapRef": {"name": empty}})),
            "False/CABundleInvalid",
            &["ca.crt", &empty],
        ),
        case(
            "no-certificate",
            with_ca(json!({"configMapRef": {"name": text}})),
            "False/CABundleInvalid",
            &["ca.crt", &text],
        ),
        case(
            "no-certificate-in-secret",
            with_ca(json!({"secretRef": {"name": text_secret}})),
            "False/CABundleInvalid",
            &["ca.crt", &text_secret],
        ),
        case("no-client-certificate", client, "False/SecretInvalid", &["kubernetes.io/tls", &login]),
    ])
}

#[tokio::test]
async fn becomes_ready_once_namespace_has_a_tenant() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    let scene = TestScope::tenant(&cluster).await?;
    let object = scene.declare("charts", spec(&registry, &ca, &scene.named("login"))).await?;
    object.shows(&Verdict::unresolved("False/SecretNotFound")).await?;
    let moment = Moment::on_shared().await?;
    unlabel(&cluster, scene.namespace()).await?;
    object.shows_within(PROMISED, &moment, &Verdict::unresolved("False/NotATenant")).await?;
    scene.login("login", "demo", "right").await?;
    let view = object.shows(&Verdict::unresolved("False/NotATenant")).await?;
    assert!(view.message("ResolvedRefs").contains("registry.spectrocloud.com/tenant"));
    assert!(registry.requests().is_empty());

    let moment = Moment::on_shared().await?;
    label_as_tenant(&cluster, scene.namespace()).await?;
    object.shows_within(PROMISED, &moment, &VALIDATED).await?;

    // An empty label names no tenant.
    let moment = Moment::on_shared().await?;
    label(&cluster, scene.namespace(), json!("")).await?;
    object.shows_within(PROMISED, &moment, &Verdict::unresolved("False/NotATenant")).await?;
    Ok(())
}

// ---- Whether and when

#[tokio::test]
async fn suspended_registry_is_not_validated() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let mut suspended = scene.for_unknown_tenant(spec(&registry, &ca, &login));
        suspended["suspend"] = json!(true);
        let before = registry.requests().len();
        let object = scene.declare("suspended", suspended).await?;
        // Another registry's verdict shows that the operator came by.
        let other = scene.declare("awake", spec(&registry, &ca, &login)).await?;
        other.shows(&VALIDATED).await?;
        let requests_of_one = registry.requests().len() - before;
        let view = object.view().await?;
        assert_eq!(view.status.observed_generation, Some(-1));
        assert!(view.status.conditions.is_empty(), "{:?}", view.status);

        let moment = Moment::on_shared().await?;
        object.change(json!({"spec": {"suspend": false}})).await?;
        let validated = object.shows_within(PROMISED, &moment, &VALIDATED).await?;
        assert_eq!(registry.requests().len() - before, 2 * requests_of_one);

        object.change(json!({"spec": {"suspend": true, "auth": null}})).await?;
        other.request("once more").await?;
        other.has_handled("once more").await?;
        let view = object.view().await?;
        assert_eq!(view.status, validated.status, "the status stays as it is");
        assert_eq!(registry.requests().len() - before, 3 * requests_of_one);

        let moment = Moment::on_shared().await?;
        object.change(json!({"spec": {"suspend": false}})).await?;
        object.shows_within(PROMISED, &moment, &Verdict::refused("False/Required")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn echoes_requested_at_after_validation() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let object = scene.declare("packs", spec(&registry, &ca, &login)).await?;
        let before = object.shows(&VALIDATED).await?;
        assert_eq!(before.status.last_handled_reconcile_at, None);
        for value in ["2030-01-01T00:00:00Z", "any other value"] {
            let requests = registry.requests().len();
            object.request(value).await?;
            let view = object.has_handled(value).await?;
            assert!(registry.requests().len() > requests, "it says so without having asked the registry");
            assert_eq!(view.generation(), before.generation());
            assert_eq!(transitions(&view), transitions(&before));
            object.shows(&VALIDATED).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn transition_time_changes_with_status_only() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    let scene = TestScope::system(&cluster);
    let login = scene.login("login", "demo", "wrong").await?;
    let object = scene.declare("packs", spec(&registry, &ca, &login)).await?;
    let rejected = object.shows(&Verdict::refused("False/Rejected")).await?;
    a_second_later(&rejected).await?;

    // Another reason with the same status.
    object.change(json!({"spec": {"auth": null}})).await?;
    let required = object.shows(&Verdict::refused("False/Required")).await?;
    assert_eq!(transitions(&required), transitions(&rejected));

    // Another status of these two, and of no other.
    scene.login("login", "demo", "right").await?;
    object.apply(&spec(&registry, &ca, &login)).await?;
    let validated = object.shows(&VALIDATED).await?;
    for kind in ["ResolvedRefs", "EndpointReachable", "TLSVerified"] {
        assert_eq!(moved(&rejected, &validated, kind), Duration::ZERO, "{kind}");
    }
    for kind in ["CredentialsValidated", "Ready"] {
        assert!(moved(&rejected, &validated, kind) >= Duration::from_secs(1), "{kind}");
    }
    assert_eq!(
        moved(&rejected, &validated, "ContentPathAccessible"),
        Duration::ZERO,
        "Unknown before and after"
    );
    Ok(())
}

// ---- What is used above

async fn over_tls(
    ca: &TestCa,
    leaf: Leaf,
    auth: RegistryAuth,
    client_ca_pem: Option<String>,
) -> Result<TestRegistry> {
    let tls = RegistryTls::Server { leaf, ca_pem: ca.certificate_pem().to_owned(), client_ca_pem };
    Ok(TestRegistry::start(RegistryOptions { auth, tls }).await?)
}

async fn docker_config(scene: &TestScope<'_>, name: &str, config: &Value) -> Result<String> {
    let entries = [(".dockerconfigjson", config.to_string())];
    let entries = entries.each_ref().map(|(key, value)| (*key, value.as_str()));
    scene.secret(&format!("docker-{name}"), "kubernetes.io/dockerconfigjson", &entries).await
}

/// A Secret with the certificate of one and the key of another, who may be the same.
async fn pair(scene: &TestScope<'_>, name: &str, certificate: &Leaf, key: &Leaf) -> Result<String> {
    let entries = [("tls.crt", certificate.certificate_pem()), ("tls.key", key.key_pem())];
    scene.secret(&format!("client-{name}"), "kubernetes.io/tls", &entries).await
}

fn fingerprint(leaf: &Leaf) -> Result<String> {
    let body: String = leaf.certificate_pem().lines().filter(|line| !line.starts_with("-----")).collect();
    let digest = Sha256::digest(BASE64_STANDARD.decode(body)?);
    Ok(digest.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}

fn transitions(view: &View) -> Vec<(String, Timestamp)> {
    let layers = view.status.conditions.iter().filter(|condition| condition.type_ != "Stalled");
    layers.map(|condition| (condition.type_.clone(), condition.last_transition_time.0)).collect()
}

fn moved(before: &View, after: &View, kind: &str) -> Duration {
    let time = |view: &View| view.condition(kind).last_transition_time.0;
    Duration::try_from(time(after).duration_since(time(before))).unwrap_or_default()
}

/// Times in a status are whole seconds.
async fn a_second_later(view: &View) -> Result<()> {
    let since = view.condition("Ready").last_transition_time.0;
    let look = || async {
        ensure!(now().duration_since(since).as_secs() >= 2, "the same second");
        Ok(())
    };
    Ok(eventually("the clock has moved on", look).await?)
}

#[expect(clippy::disallowed_methods, reason = "what is compared with it was written by a real clock")]
fn now() -> Timestamp {
    Timestamp::now()
}
