//! No secret appears in the operator's output: status, Events, logs at trace level, metrics; whether
//! the credentials are right, wrong, or echoed by a server.

use anyhow::{Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, header};
use k8s_openapi::api::{
    core::v1::{Event as CoreEvent, Secret},
    events::v1::Event,
};
use kube::{Api, api::ListParams};
use registry_api::{SystemRegistry, TOKEN_SECRET_TYPE, TenantRegistry};
use registry_testbed::{
    ControlPlaneOptions, Leaf, LeafOptions, Operator, RegistryAuth, RegistryOptions, RegistryTls, TestCa,
    TestRegistry, eventually,
};
use serde_json::{Value, json};

use crate::{
    fixtures::{
        Answer, ReceivedRequest, ScriptedServer, TestScope, answer, asks_for_password, protected, spec,
        welcome,
    },
    harness::{Cluster, Installation, SYSTEM_NAMESPACE},
};

#[tokio::test]
async fn leaks_no_secret_with_text_logs() -> Result<()> {
    nothing_shows("text", " TRACE ").await
}

#[tokio::test]
async fn leaks_no_secret_with_json_logs() -> Result<()> {
    nothing_shows("json", r#""level":"TRACE""#).await
}

/// `mark` is what tells a line of the most talkative level.
async fn nothing_shows(format: &str, mark: &str) -> Result<()> {
    let installation = Installation::start(ControlPlaneOptions::default()).await?;
    let cluster = installation.cluster().await?;
    let options = installation.operator_options().await?;
    let options = options.arg("--log-level=trace").arg(format!("--log-format={format}"));
    let operator = Operator::start(options).await?;

    let mut secrets = Secrets::default();
    let _servers = settle(&cluster, &mut secrets).await?;
    let places = places(&cluster, &operator).await?;
    let trace = &places[0].1;
    assert!(trace.contains(mark), "the log is not a trace: {}", &trace[..trace.len().min(2000)]);
    assert!(places[..3].iter().all(|(_, text)| text.contains("packs-right")), "nothing was looked through");
    let shown: Vec<String> = secrets.found_in(&places);
    assert!(shown.is_empty(), "{}", shown.join("\n"));
    Ok(())
}

/// What must not show, each with what it is.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// A password of that user, in every form that it takes on its way.
    fn password(&mut self, user: &str, password: &str) {
        let pair = format!("{user}:{password}");
        self.add("a password", password);
        self.add("a password in base64", BASE64_STANDARD.encode(password));
        self.add("user and password in base64", BASE64_STANDARD.encode(pair));
    }

    fn token(&mut self, token: &str) {
        self.add("a token", token);
        self.add("a token in base64", BASE64_STANDARD.encode(token));
    }

    /// Every line of it.
    fn key(&mut self, leaf: &Leaf) {
        let lines = leaf.key_pem().lines().filter(|line| !line.starts_with("-----") && line.len() >= 16);
        lines.for_each(|line| self.add("a line of a private key", line));
        self.add("a private key in base64", &BASE64_STANDARD.encode(leaf.key_pem())[40..120]);
    }

    fn add(&mut self, what: &str, secret: impl Into<String>) {
        self.0.push((what.to_owned(), secret.into()));
    }

    fn found_in(&self, places: &[(&str, String)]) -> Vec<String> {
        let found = places.iter().flat_map(|(place, text)| {
            let shown =
                self.0.iter().filter_map(move |(what, secret)| Some((what, text.find(secret.as_str())?)));
            shown.map(move |(what, at)| format!("{what} shows in the {place}: …{}…", around(text, at)))
        });
        found.collect()
    }
}

fn around(text: &str, at: usize) -> &str {
    let (start, end) = (text.floor_char_boundary(at.saturating_sub(200)), text.floor_char_boundary(at + 200));
    &text[start..end]
}

/// Everything that the operator writes to; its log first.
async fn places(cluster: &Cluster, operator: &Operator) -> Result<Vec<(&'static str, String)>> {
    let everything = ListParams::default();
    let system = Api::<SystemRegistry>::all(cluster.client()).list(&everything).await?;
    let tenant = Api::<TenantRegistry>::all(cluster.client()).list(&everything).await?;
    let events = Api::<Event>::all(cluster.client()).list(&everything).await?;
    let core_events = Api::<CoreEvent>::all(cluster.client()).list(&everything).await?;
    ensure!(!events.items.is_empty(), "no Events");
    Ok(vec![
        ("log", operator.log()),
        ("SystemRegistries", serde_json::to_string(&system)?),
        ("TenantRegistries", serde_json::to_string(&tenant)?),
        ("Events", serde_json::to_string(&events)?),
        ("Events of the core group", serde_json::to_string(&core_events)?),
        ("metrics", operator.metrics().await?),
    ])
}

/// The servers that the registries are at; they end with this.
struct Servers {
    _registries: Vec<TestRegistry>,
    _played: Vec<ScriptedServer>,
}

/// Brings every kind of secret into use, right and wrong, and waits for the verdicts.
async fn settle(cluster: &Cluster, secrets: &mut Secrets) -> Result<Servers> {
    let scenes = TestScope::both(cluster).await?;
    let registries = vec![
        passwords(cluster, &scenes, secrets).await?,
        client_certificates(&scenes, secrets).await?,
        keys_in_the_wrong_place(&scenes, secrets).await?,
    ];
    let mut played = vec![tokens(&scenes, secrets).await?];
    played.extend(echoes(&scenes, secrets).await?);
    unusable(&scenes, secrets).await?;
    Ok(Servers { _registries: registries, _played: played })
}

async fn passwords(
    cluster: &Cluster,
    scenes: &[TestScope<'_>],
    secrets: &mut Secrets,
) -> Result<TestRegistry> {
    let ca = TestCa::new("private authority")?;
    let (right, wrong) = ("right-8c1f5e09d2", "wrong-3b7a90cc41");
    let registry = protected(&ca, "demo", right).await?;
    secrets.password("demo", right);
    secrets.password("demo", wrong);
    for scene in scenes {
        for (name, password, ready) in
            [("right", right, "Ready=True/Available"), ("wrong", wrong, "Ready=False/Rejected")]
        {
            let login = scene.login(name, "demo", password).await?;
            let mut offered = spec(&registry, &ca, &login);
            offered["availability"] = json!({"pullSecret": {"name": format!("pull-{name}")}});
            let object = scene.declare(&format!("packs-{name}"), offered).await?;
            object.becomes(&[ready]).await?;

            let auth = BASE64_STANDARD.encode(format!("demo:{password}"));
            let config = json!({"auths": {registry.host_port(): {"auth": auth}}}).to_string();
            let docker = format!("docker-{name}");
            let entries = [(".dockerconfigjson", config.as_str())];
            let login = scene.secret(&docker, "kubernetes.io/dockerconfigjson", &entries).await?;
            let object = scene.declare(&docker, spec(&registry, &ca, &login)).await?;
            object.becomes(&[ready]).await?;
        }
    }
    // The right one is handed out, too.
    for scene in scenes.iter().filter(|scene| scene.namespace() != SYSTEM_NAMESPACE) {
        let secrets: Api<Secret> = Api::namespaced(cluster.client(), scene.namespace());
        let look = || async { secrets.get("pull-right").await };
        eventually("the pull Secret is delivered", look).await?;
    }
    Ok(registry)
}

async fn client_certificates(scenes: &[TestScope<'_>], secrets: &mut Secrets) -> Result<TestRegistry> {
    let (ca, strangers) = (TestCa::new("private authority")?, TestCa::new("strangers")?);
    let tls = RegistryTls::Server {
        leaf: ca.issue(&LeafOptions::server("registry"))?,
        ca_pem: ca.certificate_pem().to_owned(),
        client_ca_pem: Some(ca.certificate_pem().to_owned()),
    };
    let registry = TestRegistry::start(RegistryOptions { auth: RegistryAuth::Anonymous, tls }).await?;
    let client = LeafOptions::client("operator", Vec::<String>::new());
    let cases = [
        ("client-right", ca.issue(&client)?, "Ready=True/Available"),
        ("client-wrong", strangers.issue(&client)?, "Ready=False/ClientCertificateRequired"),
    ];
    for (name, leaf, ready) in cases {
        secrets.key(&leaf);
        for scene in scenes {
            let entries = [("tls.crt", leaf.certificate_pem()), ("tls.key", leaf.key_pem())];
            let secret = scene.secret(name, "kubernetes.io/tls", &entries).await?;
            let spec = json!({
                "endpoint": registry.url(),
                "tls": {
                    "ca": {"inline": ca.certificate_pem()},
                    "clientCertificate": {"secretRef": {"name": secret}},
                },
            });
            scene.declare(name, spec).await?.becomes(&[ready]).await?;
        }
    }
    Ok(registry)
}

/// A key beside the certificate, where certificates only belong.
async fn keys_in_the_wrong_place(scenes: &[TestScope<'_>], secrets: &mut Secrets) -> Result<TestRegistry> {
    let ca = TestCa::new("private authority")?;
    let leaf = ca.issue(&LeafOptions::server("registry"))?;
    secrets.key(&leaf);
    let both = format!("{}{}", leaf.certificate_pem(), leaf.key_pem());
    let broken = leaf.key_pem().replace("-----END PRIVATE KEY-----", "");
    let registry = protected(&ca, "demo", "anything").await?;
    for scene in scenes {
        let map = scene.config_map("key", &[("ca.crt", &both)]).await?;
        let secret = scene.secret("key", "Opaque", &[("ca.crt", &both), ("tls.crt", "x")]).await?;
        let entries = [("tls.crt", leaf.certificate_pem()), ("tls.key", broken.as_str())];
        let pair = scene.secret("broken", "kubernetes.io/tls", &entries).await?;
        let cases = [
            ("key-map", json!({"ca": {"configMapRef": {"name": map}}}), "Ready=False/CABundleInvalid"),
            ("key-secret", json!({"ca": {"secretRef": {"name": secret}}}), "Ready=False/CABundleInvalid"),
            (
                "key-broken",
                json!({"clientCertificate": {"secretRef": {"name": pair}}}),
                "Ready=False/SecretInvalid",
            ),
        ];
        for (name, tls, ready) in cases {
            let object = scene.declare(name, json!({"endpoint": registry.url(), "tls": tls})).await?;
            object.becomes(&[ready]).await?;
        }
    }
    Ok(registry)
}

const ISSUED: &str = "issued-token-51d6f8ab37";
const REGISTRY_TOKEN: &str = "registry-token-a4e81c7702";
const IDENTITY_TOKEN: &str = "identity-token-e90b2d6f14";
const TOKEN_PASSWORD: &str = "token-password-77aa019be3";

/// A registry that sends its clients to a token service, which is the same server.
async fn tokens(scenes: &[TestScope<'_>], secrets: &mut Secrets) -> Result<ScriptedServer> {
    let server = ScriptedServer::promptly(token_service).await?;
    let wrong = "wrong-token-0d5b7c3e9f";
    for token in [ISSUED, REGISTRY_TOKEN, IDENTITY_TOKEN, wrong] {
        secrets.token(token);
    }
    secrets.password("demo", TOKEN_PASSWORD);
    for scene in scenes {
        let login = scene.login("token-login", "demo", TOKEN_PASSWORD).await?;
        let registry =
            scene.secret("token-registry", TOKEN_SECRET_TYPE, &[("token", REGISTRY_TOKEN)]).await?;
        let identity =
            scene.secret("token-identity", TOKEN_SECRET_TYPE, &[("identityToken", IDENTITY_TOKEN)]).await?;
        let bad = scene.secret("token-wrong", TOKEN_SECRET_TYPE, &[("token", wrong)]).await?;
        let by = |secret: &str| json!({"token": {"secretRef": {"name": secret}}});
        let cases = [
            ("token-login", json!({"basic": {"secretRef": {"name": login}}}), "Ready=True/Available"),
            ("token-registry", by(&registry), "Ready=True/Available"),
            ("token-identity", by(&identity), "Ready=True/Available"),
            ("token-wrong", by(&bad), "Ready=False/Rejected"),
        ];
        for (name, auth, ready) in cases {
            let object = scene.declare(name, json!({"endpoint": server.url(), "auth": auth})).await?;
            object.becomes(&[ready]).await?;
        }
    }
    Ok(server)
}

fn token_service(asked: &ReceivedRequest) -> Answer {
    let host = asked.header(header::HOST).unwrap_or_default();
    let is = |scheme: &str, token: &str| asked.authorization() == Some(format!("{scheme} {token}").as_str());
    if asked.path == "/token" {
        let password = BASE64_STANDARD.encode(format!("demo:{TOKEN_PASSWORD}"));
        let body =
            json!({"token": ISSUED, "access_token": ISSUED, "refresh_token": IDENTITY_TOKEN}).to_string();
        return if is("Basic", &password) || asked.method == Method::POST {
            answer(200, &[("Content-Type", "application/json")], body)
        } else {
            answer(401, &[], r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
        };
    }
    if is("Bearer", ISSUED) || is("Bearer", REGISTRY_TOKEN) {
        return welcome();
    }
    let challenge = format!(r#"Bearer realm="http://{host}/token",service="played""#);
    answer(401, &[("WWW-Authenticate", &challenge)], r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
}

/// What a server makes of the `Authorization` header that it is sent.
type Echo = fn(&str) -> Answer;

/// Servers that hand back what they are sent, in every place of an answer.
async fn echoes(scenes: &[TestScope<'_>], secrets: &mut Secrets) -> Result<Vec<ScriptedServer>> {
    let cases: [(&str, Echo, &str); 4] = [
        ("echo-refusal", refusal, "Ready=False/Rejected"),
        (
            "echo-fault",
            |sent| answer(500, &[("X-Sent", sent)], sent.to_owned()),
            "Ready=False/TemporarilyUnavailable",
        ),
        ("echo-redirect", redirect, "Ready=False/RedirectRefused"),
        ("echo-schemes", schemes, "Ready=False/Rejected"),
    ];
    let mut servers = Vec::new();
    for (name, echo, ready) in cases {
        let server =
            ScriptedServer::promptly(move |asked| asked.authorization().map_or_else(asks_for_password, echo))
                .await?;
        let password = format!("{name}-b2e4a6c8d0");
        secrets.password("demo", &password);
        for scene in scenes {
            let login = scene.login(name, "demo", &password).await?;
            let auth = json!({"basic": {"secretRef": {"name": login}}});
            let object = scene.declare(name, json!({"endpoint": server.url(), "auth": auth})).await?;
            object.becomes(&[ready]).await?;
        }
        servers.push(server);
    }
    Ok(servers)
}

fn refusal(sent: &str) -> Answer {
    let challenge = format!(r#"Basic realm="{sent}""#);
    let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": sent, "detail": sent}]}).to_string();
    answer(401, &[("WWW-Authenticate", &challenge), ("X-Sent", sent), ("Server", sent)], body)
}

fn redirect(sent: &str) -> Answer {
    let place = sent.trim_start_matches("Basic ");
    let location = format!("https://demo:{place}@elsewhere.example.com/{place}?sent={place}#{place}");
    answer(307, &[("Location", &location)], sent.to_owned())
}

fn schemes(sent: &str) -> Answer {
    let place = sent.trim_start_matches("Basic ").trim_end_matches('=');
    let challenge = format!(r#"Basic realm="x", {place} sent="{place}""#);
    answer(401, &[("WWW-Authenticate", &challenge)], place.to_owned())
}

/// Secrets that can't be used, so that what is said of them is all that there is to say.
async fn unusable(scenes: &[TestScope<'_>], secrets: &mut Secrets) -> Result<()> {
    let password = "unusable-6f0d9e8c7b";
    secrets.password("demo", password);
    let encoded = BASE64_STANDARD.encode(format!("demo:{password}"));
    let docker = |config: Value| config.to_string();
    let host = "127.0.0.1:1";
    for scene in scenes {
        let cases = [
            ("line-break", "kubernetes.io/basic-auth", "password", format!("{password}\n")),
            ("control", "kubernetes.io/basic-auth", "password", format!("{password}\u{7}{password}")),
            ("colon", "kubernetes.io/basic-auth", "username", format!("demo:{password}")),
            ("no-json", "Opaque", ".dockerconfigjson", encoded.clone()),
            ("no-object", "Opaque", ".dockerconfigjson", docker(json!(encoded))),
            ("shape", "Opaque", ".dockerconfigjson", docker(json!({"auths": password}))),
            ("entry", "Opaque", ".dockerconfigjson", docker(json!({"auths": {host: {"auth": password}}}))),
            ("type", "kubernetes.io/ssh-auth", "ssh-privatekey", password.to_owned()),
        ];
        for (name, kind, key, value) in cases {
            let name = format!("unusable-{name}");
            let secret = scene.secret(&name, kind, &[(key, &value)]).await?;
            let auth = json!({"basic": {"secretRef": {"name": secret}}});
            let object =
                scene.declare(&name, json!({"endpoint": format!("https://{host}"), "auth": auth})).await?;
            object.becomes(&["Ready=False/SecretInvalid"]).await?;
        }
    }
    Ok(())
}
