//! Three independent clients, each with a new home directory for every pull: nothing is cached, and no login but the
//! given one is known.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use oci_client::Reference;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use registry_testbed::process::Scratch;
use registry_testbed::tools::{self, Tool, ToolPaths};
use serde_json::json;
use tokio::process::Command;

use crate::spec::docker_auth;

/// The version, and so the tag, of every chart.
pub const VERSION: &str = "1.0.0";
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// How long a pull may take on a machine that is busy.
const PULL_TIMEOUT: Duration = Duration::from_mins(1);

/// Who pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Crane,
    Helm,
    Oci,
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Pulled,
    /// 401.
    Unauthorized,
    /// 403.
    Denied,
    /// 404.
    NotFound,
    /// The server's certificate is not believed.
    TlsFailure,
    /// There is no listener.
    NoConnection,
    /// The client goes to no token service there.
    RealmRefused,
    /// Anything else, in the client's words.
    Other(String),
}

/// What is pulled, and with what.
pub struct Pull<'a> {
    /// `http://…` or `https://…`, without a path.
    pub endpoint: &'a str,
    /// Trusted besides nothing (PEM).
    pub ca: Option<&'a str>,
    /// User and password.
    pub login: Option<(&'a str, &'a str)>,
    pub repository: &'a str,
    pub tag: &'a str,
    /// Whether that is a chart.
    pub is_chart: bool,
}

impl<'a> Pull<'a> {
    /// A chart in a registry without TLS.
    pub fn chart(endpoint: &'a str, login: Option<(&'a str, &'a str)>, repository: &'a str) -> Self {
        Self { endpoint, ca: None, login, repository, tag: VERSION, is_chart: true }
    }
}

impl Pull<'_> {
    fn host(&self) -> &str {
        self.endpoint.split_once("://").map_or(self.endpoint, |(_, host)| host)
    }

    fn is_clear(&self) -> bool {
        self.endpoint.starts_with("http://")
    }
}

/// The clients' programs.
pub struct Clients(ToolPaths);

impl Clients {
    pub async fn find() -> Self {
        Self(tools::ensure(&[Tool::Crane, Tool::Helm]).await.expect("crane and helm"))
    }

    /// What each client gets.
    pub async fn pull(&self, pull: &Pull<'_>) -> Vec<(Client, Outcome)> {
        if !pull.is_chart {
            let (crane, oci) = futures::join!(self.crane(pull), oci_client(pull));
            return vec![(Client::Crane, crane), (Client::Oci, oci)];
        }
        let (crane, helm, oci) = futures::join!(self.crane(pull), self.helm(pull), oci_client(pull));
        vec![(Client::Crane, crane), (Client::Helm, helm), (Client::Oci, oci)]
    }

    async fn crane(&self, pull: &Pull<'_>) -> Outcome {
        let home = Home::new(pull);
        let mut command = home.command(self.0.get(Tool::Crane));
        let image = format!("{}/{}:{}", pull.host(), pull.repository, pull.tag);
        command.args(["pull", "--format=oci", &image]).arg(home.0.path().join("image"));
        outcome(&run(command).await, pull)
    }

    async fn helm(&self, pull: &Pull<'_>) -> Outcome {
        let home = Home::new(pull);
        let mut command = home.helm(self.0.get(Tool::Helm), "pull", pull);
        let chart = format!("oci://{}/{}", pull.host(), pull.repository);
        command.args([&chart, "--version", pull.tag, "--destination"]).arg(home.0.path());
        outcome(&run(command).await, pull)
    }

    /// Makes an empty chart of that repository's name and pushes it there.
    pub async fn push(&self, to: &Pull<'_>) {
        let home = Home::new(to);
        let (namespace, name) = to.repository.rsplit_once('/').unwrap_or(("", to.repository));
        let chart = home.0.path().join(name);
        std::fs::create_dir(&chart).unwrap();
        let about = json!({"apiVersion": "v2", "name": name, "version": VERSION});
        std::fs::write(chart.join("Chart.yaml"), about.to_string()).unwrap();
        let mut package = home.command(self.0.get(Tool::Helm));
        package.arg("package").arg(&chart).arg("--destination").arg(home.0.path());
        assert_eq!(outcome(&run(package).await, to), Outcome::Pulled);
        let mut push = home.helm(self.0.get(Tool::Helm), "push", to);
        let archive = home.0.path().join(format!("{name}-{VERSION}.tgz"));
        push.arg(archive).arg(format!("oci://{}/{namespace}", to.host()).trim_end_matches('/'));
        assert_eq!(outcome(&run(push).await, to), Outcome::Pulled, "helm push to {}", to.endpoint);
    }
}

/// A directory that a program takes for its user's.
struct Home(Scratch);

impl Home {
    fn new(pull: &Pull<'_>) -> Self {
        let home = Scratch::new("verdicts-pull").unwrap();
        let auths = match pull.login {
            Some((user, password)) => json!({pull.host(): {"auth": docker_auth(user, password)}}),
            None => json!({}),
        };
        home.write("config.json", json!({"auths": auths}).to_string()).unwrap();
        home.write("ca.crt", pull.ca.unwrap_or_default()).unwrap();
        Self(home)
    }

    fn ca(&self) -> PathBuf {
        self.0.path().join("ca.crt")
    }

    fn command(&self, program: &Path) -> Command {
        let home = self.0.path();
        let mut command = Command::new(program);
        command.env_clear().kill_on_drop(true).current_dir(home);
        for name in [
            "HOME",
            "DOCKER_CONFIG",
            "XDG_RUNTIME_DIR",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_DATA_HOME",
            "TMPDIR",
        ] {
            command.env(name, home);
        }
        // The given authority and no other.
        command.env("SSL_CERT_FILE", self.ca()).env("SSL_CERT_DIR", home.join("none"));
        command
    }

    fn helm(&self, program: &Path, what: &str, pull: &Pull<'_>) -> Command {
        let mut command = self.command(program);
        command.arg(what);
        if pull.is_clear() {
            command.arg("--plain-http");
        }
        if pull.ca.is_some() {
            command.arg("--ca-file").arg(self.ca());
        }
        if let Some((user, password)) = pull.login {
            command.args(["--username", user, "--password", password]);
        }
        command
    }
}

async fn run(mut command: Command) -> Output {
    let running = tokio::time::timeout(PULL_TIMEOUT, command.output()).await;
    running.unwrap_or_else(|_| panic!("{command:?} takes too long")).unwrap()
}

fn outcome(output: &Output, pull: &Pull<'_>) -> Outcome {
    match output.status.success() {
        true => Outcome::Pulled,
        false => classify(&String::from_utf8_lossy(&output.stderr), pull),
    }
}

/// By the words that a client has for a failure.
fn classify(words: &str, pull: &Pull<'_>) -> Outcome {
    let text = words.replace(pull.host(), "HOST").to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["invalid realm"]) {
        Outcome::RealmRefused
    } else if has(&["x509", "certificate"]) {
        Outcome::TlsFailure
    } else if has(&["connection refused"]) {
        Outcome::NoConnection
    } else if has(&["unauthorized", "status code 401", "authentication required"]) {
        Outcome::Unauthorized
    } else if has(&["denied", "forbidden", "status code 403"]) {
        Outcome::Denied
    } else if has(&["not found", "manifest_unknown", "name_unknown", "manifest unknown", "status code 404"]) {
        Outcome::NotFound
    } else {
        Outcome::Other(words.to_owned())
    }
}

async fn oci_client(pull: &Pull<'_>) -> Outcome {
    let certificate =
        |ca: &str| Certificate { encoding: CertificateEncoding::Pem, data: ca.as_bytes().to_vec() };
    let config = ClientConfig {
        protocol: if pull.is_clear() { ClientProtocol::Http } else { ClientProtocol::Https },
        tls_certs_only: pull.ca.map(certificate).into_iter().collect(),
        ..ClientConfig::default()
    };
    let client = oci_client::Client::try_from(config).unwrap();
    let image = Reference::with_tag(pull.host().to_owned(), pull.repository.to_owned(), pull.tag.to_owned());
    let auth = match pull.login {
        Some((user, password)) => RegistryAuth::Basic(user.to_owned(), password.to_owned()),
        None => RegistryAuth::Anonymous,
    };
    match client.pull(&image, &auth, vec![CHART, "text/plain"]).await {
        Ok(_) => Outcome::Pulled,
        Err(error) => of_error(&error, pull),
    }
}

fn of_error(error: &OciDistributionError, pull: &Pull<'_>) -> Outcome {
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            Outcome::Unauthorized
        }
        OciDistributionError::ImageManifestNotFoundError(_) => Outcome::NotFound,
        OciDistributionError::ServerError { code: 403, .. } => Outcome::Denied,
        OciDistributionError::ServerError { code: 404, .. } => Outcome::NotFound,
        OciDistributionError::RegistryError { envelope, .. } => {
            match envelope.errors.first().map(|error| &error.code) {
                Some(OciErrorCode::Unauthorized) => Outcome::Unauthorized,
                Some(OciErrorCode::Denied) => Outcome::Denied,
                Some(OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound) => {
                    Outcome::NotFound
                }
                _ => Outcome::Other(format!("{envelope}")),
            }
        }
        error => classify(&format!("{error:?}"), pull),
    }
}
