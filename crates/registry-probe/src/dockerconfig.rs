//! Docker's `config.json`, as Secrets of type `kubernetes.io/dockerconfigjson` hold it.
//!
//! Owns which entry is a registry's: Docker's matching by host, kubelet's by port and path. Does not run credential helpers.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::DecodePaddingMode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::credentials::{Credentials, CredentialsError};
use crate::endpoint::Endpoint;
use crate::host::{Host, HostPort};
use crate::repository::RepositoryName;

/// Why a dockerconfigjson gives no credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// Not JSON, or not of that shape.
    #[error("is not a Docker configuration in JSON, with `auths`")]
    NotADockerConfig,
    /// Larger than a Secret can be.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// There is no entry for this registry.
    #[error("has no entry for {host}")]
    NoEntry {
        /// The registry's `host[:port]`.
        host: String,
    },
    /// The registry is left to a helper program, which there is none of here.
    #[error("leaves {host} to a credential helper; put the credentials into the Secret itself")]
    CredentialHelper {
        /// The registry's `host[:port]`.
        host: String,
    },
    /// The entry's `auth` is not base64 of `user:password`.
    #[error("has an `auth` for {host} that is not base64 of user:password")]
    AuthNotBasic {
        /// The registry's `host[:port]`.
        host: String,
    },
    /// The entry's credentials can't be sent.
    #[error("has an entry for {host} that can't be used: {cause}")]
    Unusable {
        /// The registry's `host[:port]`.
        host: String,
        /// What is wrong with them.
        cause: CredentialsError,
    },
}

const LARGEST_CONFIG: usize = 1024 * 1024;

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

/// <https://github.com/docker/cli/blob/master/cli/config/types/authconfig.go>
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: SecretString,
    username: SecretString,
    password: SecretString,
    identitytoken: SecretString,
    registrytoken: SecretString,
}

/// Takes `auth` with and without padding, as Docker does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(crate) fn credentials_for(
    json: &[u8],
    endpoint: &Endpoint,
    base_path: Option<&RepositoryName>,
) -> Result<Credentials, DockerConfigError> {
    let wanted = Wanted::new(endpoint, base_path);
    if json.len() > LARGEST_CONFIG {
        return Err(DockerConfigError::TooLarge);
    }
    let config: DockerConfig = serde_json::from_slice(json).map_err(|_| DockerConfigError::NotADockerConfig)?;
    let host = shown(wanted.server);
    let entries = config.auths.iter().filter_map(|(key, entry)| Some((wanted.rank(key)?, entry)));
    match entries.max_by_key(|(rank, _)| *rank) {
        Some((_, entry)) => credentials_of(entry, &host, &config),
        None if config.leaves_to_helper(&wanted) => Err(DockerConfigError::CredentialHelper { host }),
        None => Err(DockerConfigError::NoEntry { host }),
    }
}

impl DockerConfig {
    fn leaves_to_helper(&self, wanted: &Wanted<'_>) -> bool {
        let stored = self.store.as_ref().is_some_and(|store| !store.is_empty());
        stored || self.helpers.keys().any(|key| wanted.rank(key).is_some())
    }
}

fn shown(server: &HostPort) -> String {
    if server.port == 443 { server.host.to_string() } else { server.to_string() }
}

/// What an entry is wanted for.
struct Wanted<'a> {
    server: &'a HostPort,
    /// The endpoint's suffix and the base path, without slashes at the ends.
    path: String,
}

impl<'a> Wanted<'a> {
    fn new(endpoint: &'a Endpoint, base_path: Option<&RepositoryName>) -> Self {
        let base_path = base_path.map(RepositoryName::as_str).unwrap_or_default();
        let path = format!("{}/{base_path}", endpoint.suffix()).trim_matches('/').to_owned();
        Self { server: endpoint.server(), path }
    }

    /// How well a key fits: by port, then by how much of the path it names, as kubelet has it. `None`: not at all.
    fn rank(&self, key: &str) -> Option<(bool, usize)> {
        let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
        let (authority, path) = bare.split_once('/').unwrap_or((bare, ""));
        let (host, port) = host_and_port(authority)?;
        if !is_same_host(&host, &self.server.host) || port.is_some_and(|port| port != self.server.port) {
            return None;
        }
        // Docker's own keys end with the version of an API: `https://index.docker.io/v1/`.
        let path = path.trim_matches('/');
        let path = if matches!(path, "v1" | "v2") { "" } else { path };
        self.is_below(path).then_some((port.is_some(), path.len()))
    }

    fn is_below(&self, path: &str) -> bool {
        let rest = self.path.strip_prefix(path);
        path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn host_and_port(authority: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (authority, None),
    };
    Some((host.parse().ok()?, port))
}

/// Docker Hub goes by several names.
fn is_same_host(one: &Host, other: &Host) -> bool {
    let is_hub = |host: &Host| {
        matches!(host, Host::Name(name) if matches!(&**name, "docker.io" | "index.docker.io" | "registry-1.docker.io"))
    };
    one == other || (is_hub(one) && is_hub(other))
}

/// Docker's precedence: a registry token, an identity token, `auth`, then user name and password.
fn credentials_of(entry: &Entry, host: &str, config: &DockerConfig) -> Result<Credentials, DockerConfigError> {
    let given = |secret: &SecretString| !secret.expose_secret().is_empty();
    let unusable = |cause| DockerConfigError::Unusable { host: host.to_owned(), cause };
    if given(&entry.registrytoken) {
        return Credentials::registry_token(&entry.registrytoken).map_err(unusable);
    }
    let (username, password) = if given(&entry.auth) {
        decoded(&entry.auth).ok_or_else(|| DockerConfigError::AuthNotBasic { host: host.to_owned() })?
    } else {
        (entry.username.clone(), entry.password.clone())
    };
    if given(&entry.identitytoken) {
        // `docker login` writes `<token>` where it knows no user name.
        let username = Some(username.expose_secret()).filter(|name| *name != "<token>");
        return Credentials::identity_token(username, &entry.identitytoken).map_err(unusable);
    }
    if !given(&username) && !given(&password) && config.store.as_ref().is_some_and(|store| !store.is_empty()) {
        return Err(DockerConfigError::CredentialHelper { host: host.to_owned() });
    }
    Credentials::basic(username.expose_secret(), password).map_err(unusable)
}

fn decoded(auth: &SecretString) -> Option<(SecretString, SecretString)> {
    let text = BASE64.decode(auth.expose_secret().trim()).ok()?;
    let text = SecretString::from(String::from_utf8(text).ok()?);
    let (username, password) = text.expose_secret().split_once(':')?;
    // Docker pads with NUL.
    Some((SecretString::from(username), SecretString::from(password.trim_matches('\0'))))
}
