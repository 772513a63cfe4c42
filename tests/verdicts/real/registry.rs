//! A registry as a process: configured, started, waited for, ended with what holds it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, header};
use registry_testbed::http_client::Call;
use registry_testbed::ports::Port;
use registry_testbed::process::{Process, ProcessSpec, Scratch};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;

use super::Program;
use super::keys::{ISSUER, SERVICE, Signer};
use crate::pki::{CertificateKind, Clients, PKI};
use crate::secrets::USER;

/// A registry that runs.
pub struct Running {
    /// Where.
    pub port: u16,
    /// Over TLS.
    pub secure: bool,
    _process: Process,
    _port: Port,
    _scratch: Scratch,
    _storage: Option<Arc<Scratch>>,
}

impl Running {
    /// The content, for as long as the process runs.
    pub fn keeping(self, storage: Arc<Scratch>) -> Self {
        Self { _storage: Some(storage), ..self }
    }
}

/// What it asks of its clients.
#[derive(Clone)]
pub enum Auth {
    Anonymous,
    Htpasswd,
    /// Tokens of a service at this realm, whose key is known by its certificate, or by a set of keys.
    Token {
        realm: String,
        signer: Signer,
        by_key_set: bool,
    },
    /// The same, the realm being at the registry's own host.
    OwnToken {
        signer: Signer,
    },
}

/// How it is reached.
#[derive(Debug, Clone, Copy)]
pub enum Tls {
    None,
    Server(CertificateKind, Clients),
}

/// Starts a registry on the content in `storage`.
pub async fn start(program: &Program, storage: &Path, auth: &Auth, tls: Tls) -> Running {
    let scratch = Scratch::new("verdicts-registry").unwrap();
    let port = Port::reserve().unwrap();
    let mut configuration = json!({
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": storage}},
        "http": {"addr": format!("127.0.0.1:{}", port.number()), "secret": "tests"},
    });
    if let Tls::Server(shows, clients) = tls {
        configuration["http"]["tls"] = tls_section(&scratch, shows, clients);
    }
    if let Some(section) = auth_section(&scratch, auth) {
        configuration["auth"] = section;
    }
    let file = scratch.write("config.yaml", configuration.to_string()).unwrap();
    let spec = ProcessSpec::new(program.name, &program.path, scratch.path().join("registry.log"))
        .args(["serve".into(), file.into_os_string()])
        .env("OTEL_SDK_DISABLED", "true")
        .env("OTEL_TRACES_EXPORTER", "none");
    let mut process = Process::spawn(&spec).unwrap();
    wait(&mut process, port.number(), &spec.log).await;
    let secure = matches!(tls, Tls::Server(..));
    Running { port: port.number(), secure, _process: process, _port: port, _scratch: scratch, _storage: None }
}

async fn wait(process: &mut Process, port: u16, log: &Path) {
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return;
        }
        if let Some(status) = process.exit_status().unwrap() {
            panic!("the registry ended with {status}: {}", std::fs::read_to_string(log).unwrap_or_default());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the registry is not ready: {}", std::fs::read_to_string(log).unwrap_or_default());
}

fn tls_section(scratch: &Scratch, shows: CertificateKind, clients: Clients) -> Value {
    let (certificate, key) = PKI.for_server(shows, "127.0.0.1");
    let mut section = json!({
        "certificate": scratch.write("server.crt", certificate).unwrap(),
        "key": scratch.write("server.key", key).unwrap(),
    });
    if clients == Clients::Required {
        section["clientcas"] = json!([scratch.write("clients.crt", PKI.clients_pem()).unwrap()]);
    }
    section
}

fn auth_section(scratch: &Scratch, auth: &Auth) -> Option<Value> {
    let token = |realm: &str, signer: &Signer| {
        let bundle = scratch.write("tokens.crt", signer.bundle()).unwrap();
        json!({"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle})
    };
    Some(match auth {
        Auth::Anonymous => return None,
        Auth::Htpasswd => {
            json!({"htpasswd": {"realm": "tests", "path": scratch.write("htpasswd", htpasswd()).unwrap()}})
        }
        Auth::Token { realm, signer, by_key_set: false } => json!({"token": token(realm, signer)}),
        Auth::Token { realm, signer, by_key_set: true } => {
            let keys = scratch.write("keys.json", signer.key_set().to_string()).unwrap();
            json!({"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "jwks": keys}})
        }
        Auth::OwnToken { signer } => {
            let mut section = token("ignored", signer);
            section["autoredirect"] = true.into();
            section["autoredirectpath"] = "/token".into();
            json!({"token": section})
        }
    })
}

/// The password of all rows, hashed by bcrypt at its least cost.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuu5nfu0M3z1NJTSALh9KLq4BGYgu7dDlS";

fn htpasswd() -> String {
    format!("{USER}:{HASH}\n")
}

/// Pushes minimal artifacts into `storage`, through an anonymous registry.
pub async fn fill(program: &Program, storage: &Path, repositories: &[&str]) {
    let registry = start(program, storage, &Auth::Anonymous, Tls::None).await;
    let url = format!("http://127.0.0.1:{}", registry.port);
    for repository in repositories {
        push(&url, repository).await;
    }
}

async fn push(url: &str, repository: &str) {
    let (config, digest) = ("{}", format!("sha256:{}", hex(&Sha256::digest("{}"))));
    let begun =
        Call::new(Method::POST, format!("{url}/v2/{repository}/blobs/uploads/")).send().await.unwrap();
    let location = begun.headers()[header::LOCATION].to_str().unwrap();
    let put = Call::new(Method::PUT, format!("{location}&digest={digest}")).body(config);
    assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    let media = "application/vnd.oci.image.manifest.v1+json";
    let descriptor = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": 2});
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media, "config": descriptor, "layers": [descriptor]});
    let put = Call::new(Method::PUT, format!("{url}/v2/{repository}/manifests/1.0"))
        .header(header::CONTENT_TYPE, media);
    assert_eq!(put.body(manifest.to_string()).send().await.unwrap().status(), StatusCode::CREATED);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
