//! Registry servers of other projects, each with its address, accounts and content.
//!
//! [`quick`] starts those that build in seconds; [`gitea()`] takes minutes to build, and is for `make test-servers`. What can't be
//! installed on a machine (mostly Debian packages) is a separate error, so that a test can report it as skipped.

mod distribution;
mod gitea;
mod in_memory;
mod keys;
mod proxies;
mod running;

use http::StatusCode;

pub use self::distribution::{pull_through_cache, token_server};
pub use self::gitea::gitea;
pub use self::in_memory::{go_containerregistry, ociregistry};
pub use self::proxies::{apache, nginx, nginx_for_pushes};
use self::running::RunningServer;
use crate::component::ComponentError;
use crate::http_client::HttpError;
use crate::ports::PortError;
use crate::registry::{RegistryError, TestRegistry};
use crate::tools::ToolsError;

/// The password of [`OWNER`].
pub const OWNER_PASSWORD: &str = "corr3ct/horse+battery staple";
/// A password of no account.
pub const WRONG_PASSWORD: &str = "wr0ng/horse+battery staple";
const OWNER: &str = "alice";
const READER: &str = "rita";
const READER_PASSWORD: &str = "r3ader/of+what alice makes";

/// Why a server isn't there.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its program is missing.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// Its Debian package can't be had.
    #[error("cannot unpack a Debian package: {0}")]
    Debian(String),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its directory cannot be used.
    #[error("cannot use the server's directory: {0}")]
    Directory(#[from] std::io::Error),
    /// It does not come up.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A password or a key cannot be made.
    #[error("cannot make the server's passwords and keys: {0}")]
    Secrets(String),
    /// The registry behind it, or what was pushed to it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It was to be set up, and refused.
    #[error("{what} answers {status}: {body}")]
    Setup {
        /// The request.
        what: String,
        /// The answer's status.
        status: StatusCode,
        /// The answer's body.
        body: String,
    },
    /// A command that prepares it failed.
    #[error("{0}")]
    Command(String),
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Pulls and pushes everything.
    Owner,
    /// Pulls what it is let to, and pushes nothing.
    PullOnly,
    /// Signs in, and may pull nothing that is private.
    Stranger,
}

/// A user that the server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAccount {
    /// What it may do.
    pub role: Role,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A repository of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its path.
    pub path: &'static str,
    /// Its tags.
    pub tags: &'static [&'static str],
    /// Whether anonymous clients may pull it.
    pub anonymous: bool,
    /// The roles that may pull it.
    pub pulled_by: &'static [Role],
}

/// A server certificate, and what it is verified with.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// The certificate and the intermediates, in PEM.
    pub chain_pem: String,
    /// The key, in PEM.
    pub key_pem: String,
    /// The authority, in PEM.
    pub ca_pem: String,
}

/// A token service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestTokenService {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Its URL.
    pub realm: String,
    /// The name that it knows the registry by.
    pub service: &'static str,
}

/// A running server. Dropping it ends it, with all that is behind it.
#[derive(Debug)]
pub struct TestServer {
    /// Its product.
    pub name: &'static str,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The authority of its certificate (PEM); without one it speaks plain HTTP.
    pub ca_pem: Option<String>,
    /// Where it sends its clients for tokens.
    pub token_service: Option<TestTokenService>,
    /// The accounts. Empty if the server allows anonymous access.
    pub accounts: Vec<ServerAccount>,
    /// What it holds. There is no repository `missing`.
    pub repositories: Vec<Repository>,
    _running: Vec<RunningServer>,
    _behind: Vec<TestRegistry>,
}

impl TestServer {
    /// `http://127.0.0.1:…` or `https://127.0.0.1:…`, without a trailing slash.
    pub fn endpoint(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The account of that role.
    pub fn account(&self, role: Role) -> Option<&ServerAccount> {
        self.accounts.iter().find(|account| account.role == role)
    }
}

/// All servers that build in seconds, or why one isn't there. The TLS of those that have any is with that certificate.
pub async fn quick(certificate: &ServerCertificate) -> Vec<Result<TestServer, ServerError>> {
    vec![
        go_containerregistry().await,
        ociregistry().await,
        token_server().await,
        pull_through_cache().await,
        nginx(certificate).await,
        nginx_for_pushes().await,
        apache().await,
    ]
}

fn owner() -> ServerAccount {
    ServerAccount { role: Role::Owner, user: OWNER.into(), password: OWNER_PASSWORD.into() }
}

/// The second account, which has that role there.
fn second(role: Role) -> ServerAccount {
    ServerAccount { role, user: READER.into(), password: READER_PASSWORD.into() }
}

/// Lines of an htpasswd file, hashed cheaply, in the form that Go, glibc and Apache read.
fn htpasswd(accounts: &[ServerAccount]) -> Result<String, ServerError> {
    let line = |account: &ServerAccount| {
        let hash = bcrypt::hash_with_result(&account.password, 4)?;
        Ok(format!("{}:{}\n", account.user, hash.format_for_version(bcrypt::Version::TwoY)))
    };
    accounts.iter().map(line).collect::<Result<_, bcrypt::BcryptError>>().map_err(secrets)
}

fn secrets(error: impl std::fmt::Display) -> ServerError {
    ServerError::Secrets(error.to_string())
}

const LATEST: &[&str] = &["latest", "1.0"];
const NO_LATEST: &[&str] = &["1.0"];

fn public(path: &'static str, tags: &'static [&'static str]) -> Repository {
    Repository { path, tags, anonymous: true, pulled_by: &[Role::Owner, Role::PullOnly, Role::Stranger] }
}

fn private(path: &'static str, tags: &'static [&'static str], pulled_by: &'static [Role]) -> Repository {
    Repository { path, tags, anonymous: false, pulled_by }
}
