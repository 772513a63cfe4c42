//! The registries to pull from: each a value with its address, authority, accounts and repositories.

use std::any::Any;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, header};
use registry_testbed::http_client::Call;
use registry_testbed::ports::Port;
use registry_testbed::process::Scratch;
use registry_testbed::servers::{self as testbed, Role, ServerCertificate, ServerError, quick};
use registry_testbed::{Moto, RegistryAuth, RegistryOptions, TestRegistry};
use rustls::ALL_VERSIONS;
use serde_json::Value;

use super::pull::{Clients, Pull, VERSION};
use crate::pki::{self, CertificateKind, GivenCa, PKI};
use crate::real::keys::{Kind, Proof, Signer, claims, signing, strict};
use crate::real::registry::{Auth, Running, Tls, start};
use crate::real::{Program, programs};
use crate::scripts::{Caller, TokenCall};
use crate::secrets::{PASSWORD, USER, WRONG_PASSWORD};
use crate::support::Server;

/// A registry that runs, and what is known of it.
pub struct RealRegistry {
    /// The program, and how it is configured.
    pub name: String,
    /// `http://…` or `https://…`, without a path.
    pub endpoint: String,
    /// What its certificate is verified with (PEM).
    pub ca: Option<String>,
    pub accounts: Vec<Account>,
    pub repositories: Vec<Repository>,
    pub challenge: Challenge,
    /// Its processes, ended with it.
    pub running: Box<dyn Any + Send + Sync>,
}

/// The credentials of a pull.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: &'static str,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// The content to pull: a chart, or nothing.
#[derive(Debug, Clone)]
pub struct Repository {
    pub name: &'static str,
    pub path: String,
    pub tag: &'static str,
    /// Whether it is a chart; helm pulls nothing else.
    pub is_chart: bool,
}

impl Repository {
    fn chart(name: &'static str, path: &str) -> Self {
        Self { name, path: path.into(), tag: VERSION, is_chart: true }
    }
}

/// How a registry authenticates clients, which determines the cost of a validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    None,
    Basic,
    Bearer,
}

impl Challenge {
    /// The request budget without a repository; for bearer tokens, including the two requests that rule out anonymous access.
    pub fn requests(self) -> u32 {
        match self {
            Self::None => 2,
            Self::Basic => 2,
            Self::Bearer => 4 + 2,
        }
    }
}

/// Anonymous, the right password and a wrong one.
pub fn accounts(user: &str, password: &str) -> Vec<Account> {
    let account =
        |name, password: &str| Account { name, login: Some((user.to_owned(), password.to_owned())) };
    vec![
        Account { name: "no credentials", login: None },
        account("right credentials", password),
        account("wrong credentials", WRONG_PASSWORD),
    ]
}

/// A chart that is there, and one that is not.
pub fn repositories() -> Vec<Repository> {
    vec![Repository::chart("a repository", HELLO), Repository::chart("no repository", "team/missing")]
}

const HELLO: &str = "team/hello";
/// What the token services give nobody.
const OTHERS: &str = "team/others";

/// All that can be had, and what can't be, and why.
pub async fn all(clients: &Clients) -> (Vec<RealRegistry>, Vec<String>) {
    let (programs, skipped) = programs().await;
    let mut skipped: Vec<String> = skipped.into_iter().collect();
    let mut registries = vec![closed_registry()];
    for program in &programs {
        registries.extend(of_program(program, clients).await);
    }
    for server in quick(&certificate()).await {
        match server {
            Ok(server) => registries.push(adopted(server)),
            Err(ServerError::Debian(reason)) => skipped.push(format!("a Debian server: {reason}")),
            Err(error) => panic!("{error}"),
        }
    }
    match Moto::is_possible() {
        true => registries.push(ecr(clients).await),
        false => skipped.push("ECR: there is no Python to run moto".into()),
    }
    (registries, skipped)
}

fn certificate() -> ServerCertificate {
    let (chain_pem, key_pem) = PKI.for_server(CertificateKind::Lasting, "127.0.0.1");
    ServerCertificate { chain_pem, key_pem, ca_pem: PKI.ca_pem(GivenCa::Lasting) }
}

/// A server of other people, with its own accounts, and artifacts that are no charts.
fn adopted(server: testbed::TestServer) -> RealRegistry {
    let of_roles = server.accounts.iter().map(|account| Account {
        name: match account.role {
            Role::Owner => "right credentials",
            Role::PullOnly => "pull-only credentials",
            Role::Stranger => "credentials of a stranger",
        },
        login: Some((account.user.clone(), account.password.clone())),
    });
    let others = accounts(USER, PASSWORD);
    let others = others
        .into_iter()
        .filter(|account| server.accounts.is_empty() || account.name != "right credentials");
    let missing =
        Repository { name: "no repository", path: "team/missing".into(), tag: "1.0", is_chart: false };
    let there = server.repositories.iter().map(|repository| Repository {
        name: repository.path,
        path: repository.path.into(),
        tag: "1.0",
        is_chart: false,
    });
    RealRegistry {
        name: server.name.to_owned(),
        endpoint: server.endpoint(),
        ca: server.ca_pem.clone(),
        accounts: others.chain(of_roles).collect(),
        repositories: there.chain([missing]).collect(),
        challenge: match server.name {
            "nginx" | "Apache" => Challenge::Basic,
            "distribution with its token service" | "Gitea" => Challenge::Bearer,
            _ => Challenge::None,
        },
        running: Box::new(server),
    }
}

/// A port at which nobody listens.
fn closed_registry() -> RealRegistry {
    let port = Port::reserve().unwrap();
    RealRegistry {
        name: "nobody".into(),
        endpoint: format!("http://127.0.0.1:{}", port.number()),
        ca: None,
        accounts: accounts(USER, PASSWORD),
        repositories: repositories(),
        challenge: Challenge::None,
        running: Box::new(port),
    }
}

/// A program in all its configurations, on one storage.
async fn of_program(program: &Program, clients: &Clients) -> Vec<RealRegistry> {
    let storage = Arc::new(Scratch::new("verdicts-charts").unwrap());
    let troupe = ProcessGroup { program, storage };
    troupe.fill(clients).await;
    let mut registries = vec![troupe.of("anonymous", Auth::Anonymous, false, Challenge::None).await];
    registries.push(troupe.of("htpasswd in the clear", Auth::Htpasswd, false, Challenge::Basic).await);
    let secure = troupe.of("htpasswd over TLS", Auth::Htpasswd, true, Challenge::Basic).await;
    registries.extend([
        troupe
            .of("htpasswd, another authority", Auth::Htpasswd, true, Challenge::Basic)
            .await
            .trusting(GivenCa::Unrelated),
        secure,
    ]);
    registries.push(troupe.tokens("tokens in the clear", false, strict).await);
    registries.push(troupe.tokens("tokens over TLS", true, strict).await);
    registries.push(troupe.tokens("tokens, public repositories", true, public).await);
    registries.push(troupe.tokens("tokens for everybody, private repositories", true, private).await);
    registries
}

/// A program's processes on one storage.
struct ProcessGroup<'a> {
    program: &'a Program,
    storage: Arc<Scratch>,
}

impl ProcessGroup<'_> {
    async fn fill(&self, clients: &Clients) {
        let open = self.of("", Auth::Anonymous, false, Challenge::None).await;
        for repository in [HELLO, OTHERS] {
            let to = Pull::chart(&open.endpoint, None, repository);
            clients.push(&to).await;
        }
    }

    async fn of(&self, how: &str, auth: Auth, secure: bool, challenge: Challenge) -> RealRegistry {
        let tls =
            if secure { Tls::Server(CertificateKind::Lasting, pki::Clients::NotAsked) } else { Tls::None };
        let running: Running = start(self.program, self.storage.path(), &auth, tls).await;
        let scheme = if secure { "https" } else { "http" };
        RealRegistry {
            name: format!("{}, {how}", self.program.name),
            endpoint: format!("{scheme}://localhost:{}", running.port),
            ca: secure.then(|| PKI.ca_pem(GivenCa::Lasting)),
            accounts: accounts(USER, PASSWORD),
            repositories: repositories(),
            challenge,
            running: Box::new(running.keeping(self.storage.clone())),
        }
    }

    /// With a token service, whose accounts may pull and no more.
    async fn tokens(&self, how: &str, secure: bool, answer: fn(&TokenCall) -> Option<Value>) -> RealRegistry {
        let signer = Signer::new(Kind::Ec);
        let script = signing(&signer, Proof::Certificate, answer);
        let service = match secure {
            true => {
                let config =
                    PKI.server(CertificateKind::Lasting, pki::Clients::NotAsked, ALL_VERSIONS, "127.0.0.1");
                Server::https(config, script).await
            }
            false => Server::http(script).await,
        };
        let auth =
            Auth::Token { realm: format!("{}/token", service.at("localhost")), signer, by_key_set: false };
        let mut registry = self.of(how, auth, secure, Challenge::Bearer).await;
        registry.repositories.push(Repository::chart("a repository of others", OTHERS));
        RealRegistry { running: Box::new((registry.running, service)), ..registry }
    }
}

impl RealRegistry {
    /// The same, its clients trusting that authority instead.
    fn trusting(self, trusts: GivenCa) -> Self {
        Self { ca: Some(PKI.ca_pem(trusts)), ..self }
    }
}

/// Everyone may pull one repository, Alice more.
fn public(call: &TokenCall) -> Option<Value> {
    match call.caller {
        Caller::Nobody => {
            let repository =
                call.repository().map(|name| (name, if name == HELLO { &["pull"][..] } else { &[] }));
            Some(claims(None, repository))
        }
        _ => strict(call),
    }
}

/// Everyone gets a token, of which only Alice's opens repositories: as Harbor does it where a scope is asked for.
fn private(call: &TokenCall) -> Option<Value> {
    match call.caller {
        Caller::Alice => strict(call),
        _ => Some(claims(None, call.repository().map(|name| (name, &[][..])))),
    }
}

/// ECR as far as an emulator has it: a registry that takes the password that moto gives for AWS's keys.
async fn ecr(clients: &Clients) -> RealRegistry {
    let moto = Moto::start().await.unwrap();
    let (user, password) = ecr_login(&moto.url()).await;
    let auth = RegistryAuth::htpasswd(&user, &password);
    let registry = TestRegistry::start(RegistryOptions { auth, ..RegistryOptions::default() }).await.unwrap();
    let endpoint = registry.url();
    let to = Pull::chart(&endpoint, Some((&user, &password)), HELLO);
    clients.push(&to).await;
    RealRegistry {
        name: "distribution 3.1, moto's ECR password".into(),
        endpoint,
        ca: None,
        accounts: accounts(&user, &password),
        repositories: repositories(),
        challenge: Challenge::Basic,
        running: Box::new((registry, moto)),
    }
}

/// What `GetAuthorizationToken` gives.
async fn ecr_login(url: &str) -> (String, String) {
    let scope =
        "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/ecr/aws4_request, SignedHeaders=host, Signature=x";
    let call = Call::new(Method::POST, format!("{url}/"))
        .header(header::AUTHORIZATION, scope)
        .header(header::CONTENT_TYPE, "application/x-amz-json-1.1")
        .header(
            header::HeaderName::from_static("x-amz-target"),
            "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
        )
        .body("{}");
    let answer: Value = serde_json::from_slice(call.send().await.unwrap().body()).unwrap();
    let token =
        answer["authorizationData"][0]["authorizationToken"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let pair = String::from_utf8(BASE64_STANDARD.decode(token).unwrap()).unwrap();
    let (user, password) = pair.split_once(':').unwrap();
    (user.to_owned(), password.to_owned())
}
