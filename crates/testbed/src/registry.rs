//! A real OCI registry on loopback: anonymous or with passwords, plain or over TLS.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;

use crate::component::{Component, ComponentError, Readiness};
use crate::http_client::{HttpError, USER_AGENT, basic_authorization};
use crate::pki::Leaf;
use crate::ports::{Port, PortError};
use crate::process::{ProcessSpec, Scratch};
use crate::push::Push;
use crate::tools::{self, Tool, ToolsError};

const READY: Duration = Duration::from_mins(2);
const GRACE: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 3;

/// How a registry authenticates clients.
#[derive(Debug, Clone, Default)]
pub enum RegistryAuth {
    /// Nothing.
    #[default]
    Anonymous,
    /// A user and a password, by a Basic challenge.
    Htpasswd {
        /// The user.
        user: String,
        /// The password.
        password: String,
        /// The cost of the hash: 4 is fast, 10 takes the registry about 60 ms a request.
        bcrypt_cost: u32,
    },
    /// A token of this service, by a Bearer challenge.
    Token {
        /// The token service's URL.
        realm: String,
        /// The service's name in the challenge.
        service: String,
        /// Who issues the tokens (`iss`).
        issuer: String,
        /// PEM certificates of the keys that sign the tokens.
        root_certificates: String,
    },
}

impl RegistryAuth {
    /// A user and a password, hashed cheaply.
    pub fn htpasswd(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Htpasswd { user: user.into(), password: password.into(), bcrypt_cost: 4 }
    }
}

/// How a registry is reached.
#[derive(Debug, Clone, Default)]
pub enum RegistryTls {
    /// Plain HTTP.
    #[default]
    None,
    /// HTTPS with this certificate.
    Server {
        /// The certificate and its key.
        leaf: Leaf,
        /// What clients verify it with (PEM); used by the testbed's own requests.
        ca_pem: String,
        /// If set, clients must present a certificate of this authority (PEM).
        client_ca_pem: Option<String>,
    },
}

/// What kind of registry to start.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// How it authenticates clients.
    pub auth: RegistryAuth,
    /// How it is reached.
    pub tls: RegistryTls,
}

/// Why a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The program is missing.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its directory cannot be used.
    #[error("cannot use the registry's directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// It does not come up.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The password cannot be hashed.
    #[error("cannot hash the registry's password: {0}")]
    Hash(#[from] bcrypt::BcryptError),
    /// It does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It refuses what was pushed.
    #[error("the registry answers {status} to {method} {path}: {body}")]
    Refused {
        /// The method.
        method: Method,
        /// The path.
        path: String,
        /// The answer's status.
        status: StatusCode,
        /// The answer's body.
        body: String,
    },
}

/// A request as the registry's access log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// The client's program.
    pub user_agent: String,
}

/// A login that the registry checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentication {
    /// The user, as the client spelled it.
    pub user: String,
    /// Path and query of the request.
    pub path: String,
    /// Whether the password was right.
    pub accepted: bool,
}

/// A running registry. Dropping it ends it and removes what it stored.
#[derive(Debug)]
pub struct TestRegistry {
    component: Component,
    address: Ipv4Addr,
    port: Port,
    options: RegistryOptions,
    _scratch: Scratch,
}

impl TestRegistry {
    /// Starts a registry and waits until it answers.
    pub async fn start(options: RegistryOptions) -> Result<Self, RegistryError> {
        Self::start_at(Ipv4Addr::LOCALHOST, options).await
    }

    /// Starts a registry that others reach at this address of the machine, and waits until it answers.
    pub async fn start_at(address: Ipv4Addr, options: RegistryOptions) -> Result<Self, RegistryError> {
        let tools = tools::ensure(&[Tool::Registry]).await?;
        let mut attempt = 1;
        loop {
            let registry = Self::prepare(address, options.clone(), &tools)?;
            match registry.component.start().await {
                Err(error) if error.is_port_collision() && attempt < ATTEMPTS => attempt += 1,
                started => return Ok(started.map(|_| registry)?),
            }
        }
    }

    fn prepare(
        address: Ipv4Addr,
        options: RegistryOptions,
        tools: &tools::ToolPaths,
    ) -> Result<Self, RegistryError> {
        let scratch = Scratch::new("testbed-registry")?;
        let port = Port::reserve()?;
        let config = scratch.write("config.yaml", configuration(&options, address, &port, &scratch)?)?;
        let spec =
            ProcessSpec::new("registry", tools.get(Tool::Registry), scratch.path().join("registry.log"))
                .args(["serve".into(), config.into_os_string()])
                .env("OTEL_SDK_DISABLED", "true")
                .env("OTEL_TRACES_EXPORTER", "none")
                .env("OTEL_TRACES_SAMPLER", "always_off");
        let component = Component::new(spec, Readiness::tcp(port.number(), READY), GRACE);
        Ok(Self { component, address, port, options, _scratch: scratch })
    }

    /// The server: stop, start, pause, log.
    pub fn component(&self) -> &Component {
        &self.component
    }

    /// `127.0.0.1:<port>`, or the address that it was started at.
    pub fn host_port(&self) -> String {
        format!("{}:{}", self.address, self.port.number())
    }

    /// `http://…` or `https://…`, without a trailing slash.
    pub fn url(&self) -> String {
        let scheme = if matches!(self.options.tls, RegistryTls::None) { "http" } else { "https" };
        format!("{scheme}://{}", self.host_port())
    }

    /// Pushes a minimal artifact as `repository:tag`, so that the repository exists; returns its digest.
    pub async fn push_artifact(&self, repository: &str, tag: &str) -> Result<String, RegistryError> {
        let authorization = match &self.options.auth {
            RegistryAuth::Htpasswd { user, password, .. } => Some(basic_authorization(user, password)),
            _ => None,
        };
        let ca_pem = match &self.options.tls {
            RegistryTls::Server { ca_pem, .. } => Some(ca_pem.as_str()),
            RegistryTls::None => None,
        };
        let url = self.url();
        let push = Push { url: &url, authorization: authorization.as_deref(), ca_pem };
        push.artifact(repository, tag).await
    }

    /// The file with both logs: requests and authentications.
    pub fn log_path(&self) -> PathBuf {
        self.component.log_path().to_path_buf()
    }

    /// All requests so far, except the testbed's.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        let log = self.component.log();
        log.lines().filter_map(parse_access).filter(|access| access.user_agent != USER_AGENT).collect()
    }

    /// All logins that the registry has checked so far, except the testbed's.
    pub fn authentications(&self) -> Vec<Authentication> {
        self.component.log().lines().filter_map(parse_authentication).collect()
    }
}

/// JSON is YAML, and needs no care with quotes.
fn configuration(
    options: &RegistryOptions,
    address: Ipv4Addr,
    port: &Port,
    scratch: &Scratch,
) -> Result<String, RegistryError> {
    // Its readiness is looked for on loopback.
    let address = if address.is_loopback() { address } else { Ipv4Addr::UNSPECIFIED };
    let mut configuration = serde_json::json!({
        "version": "0.1",
        "log": {"level": "info", "formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": scratch.path().join("storage")}, "delete": {"enabled": true}},
        "http": {"addr": format!("{address}:{}", port.number()), "secret": "testbed"},
    });
    if let RegistryTls::Server { leaf, client_ca_pem, .. } = &options.tls {
        let mut tls = serde_json::json!({
            "certificate": scratch.write("server.crt", leaf.certificate_pem())?,
            "key": scratch.write("server.key", leaf.key_pem())?,
        });
        if let Some(client_ca_pem) = client_ca_pem {
            tls["clientcas"] = serde_json::json!([scratch.write("clients.crt", client_ca_pem)?]);
        }
        configuration["http"]["tls"] = tls;
    }
    match &options.auth {
        RegistryAuth::Anonymous => {}
        RegistryAuth::Htpasswd { user, password, bcrypt_cost } => {
            let line = format!("{user}:{}\n", bcrypt::hash(password, *bcrypt_cost)?);
            let path = scratch.write("htpasswd", line)?;
            configuration["auth"] = serde_json::json!({"htpasswd": {"realm": "testbed", "path": path}});
        }
        RegistryAuth::Token { realm, service, issuer, root_certificates } => {
            let bundle = scratch.write("tokens.crt", root_certificates)?;
            configuration["auth"] = serde_json::json!({"token": {
                "realm": realm, "service": service, "issuer": issuer, "rootcertbundle": bundle,
            }});
        }
    }
    Ok(configuration.to_string())
}

/// A line of the combined log format: `host - - [time] "GET /v2/ HTTP/1.1" 200 2 "" "agent"`.
fn parse_access(line: &str) -> Option<LoggedRequest> {
    if line.starts_with('{') {
        return None;
    }
    let mut quoted = line.split('"');
    let mut request = quoted.nth(1)?.split(' ');
    let status = quoted.next()?.split_whitespace().next()?.parse().ok()?;
    Some(LoggedRequest {
        method: request.next()?.to_owned(),
        path: request.next()?.to_owned(),
        status,
        user_agent: quoted.nth(2)?.to_owned(),
    })
}

#[derive(Deserialize)]
struct LogLine {
    msg: String,
    #[serde(rename = "auth.user.name")]
    granted: Option<String>,
    #[serde(rename = "username")]
    refused: Option<String>,
    #[serde(rename = "http.request.uri", default)]
    path: String,
    #[serde(rename = "http.request.useragent", default)]
    user_agent: String,
}

fn parse_authentication(line: &str) -> Option<Authentication> {
    let line: LogLine = serde_json::from_str(line).ok()?;
    if line.user_agent == USER_AGENT {
        return None;
    }
    match (line.msg.as_str(), line.granted, line.refused) {
        ("authorized request", Some(user), _) => {
            Some(Authentication { user, path: line.path, accepted: true })
        }
        ("user failed to authenticate", _, Some(user)) => {
            Some(Authentication { user, path: line.path, accepted: false })
        }
        _ => None,
    }
}
