//! Docker's `config.json`, as Secrets of type `kubernetes.io/dockerconfigjson` hold it.
//!
//! Decides which entry belongs to a registry, by the rules of the kubelet (`k8s.io/kubernetes/pkg/credentialprovider`) and of Docker
//! (`docker/cli`, `cli/config`), and the one entry that is written for a registry. Does not run credential helpers.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD as STANDARD_BASE64};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

mod json;
mod key;

use self::json::{AuthEntry, DockerConfig};
use self::key::ConfigKey;
use crate::credentials::{Credentials, CredentialsError};
use crate::endpoint::{Endpoint, Scheme};
use crate::host::{Host, HostPort};
use crate::repository::RepositoryName;

/// Why a dockerconfigjson gives no credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// Not JSON, or not a Docker configuration.
    #[error("has no valid Docker configuration; .dockerconfigjson must be JSON with auths")]
    NotADockerConfig,
    /// Larger than a Secret can be.
    #[error("is larger than 1 MiB; remove entries")]
    TooLarge,
    /// There is no entry for this registry.
    #[error("has no entry for {host}; add one to auths in .dockerconfigjson or correct spec.endpoint")]
    NoEntry {
        /// The registry's `host[:port]`.
        host: String,
    },
    /// The registry uses a credential helper program, which the operator can't run.
    #[error(
        "uses a credential helper for {host}, which the operator can't run; put the credentials in auths"
    )]
    CredentialHelper {
        /// The registry's `host[:port]`.
        host: String,
    },
    /// The entry's `auth` is not base64 of `user:password`.
    #[error("has an invalid auth for {host}; it must be base64 of user:password")]
    AuthNotBasic {
        /// The registry's `host[:port]`.
        host: String,
    },
    /// Another entry's `auth` is not base64 of `user:password`: the kubelet and Docker then use none of the entries.
    #[error(
        "has an invalid auth for another registry, so clients ignore the whole file; correct or remove that entry"
    )]
    OtherAuthNotBasic,
    /// The entry's credentials can't be sent.
    #[error("has an unusable entry for {host}: {cause}")]
    Unusable {
        /// The registry's `host[:port]`.
        host: String,
        /// What is wrong with them.
        cause: CredentialsError,
    },
}

const LARGEST_CONFIG: usize = 1024 * 1024;
/// What `docker login` writes for a user beside an identity token, where it knows none.
const NO_USER: &str = "<token>";

/// Base64 as Go decodes it: trailing bits are ignored.
const fn base64(padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, config.with_decode_padding_mode(padding))
}

const PADDED: GeneralPurpose = base64(DecodePaddingMode::RequireCanonical);
const UNPADDED: GeneralPurpose = base64(DecodePaddingMode::RequireNone);

impl Credentials {
    /// The entry for `endpoint` in a Secret of type `kubernetes.io/dockerconfigjson`.
    pub fn from_dockerconfigjson(json: &[u8], endpoint: &Endpoint) -> Result<Self, DockerConfigError> {
        credentials_for(json, endpoint, None)
    }

    /// The entry for `base_path` at `endpoint`. Keys may have paths, as the kubelet reads them.
    pub fn from_dockerconfigjson_below(
        json: &[u8],
        endpoint: &Endpoint,
        base_path: Option<&RepositoryName>,
    ) -> Result<Self, DockerConfigError> {
        credentials_for(json, endpoint, base_path)
    }

    /// These credentials for `endpoint` as a Secret of type `kubernetes.io/dockerconfigjson` holds them.
    pub fn to_dockerconfigjson(&self, endpoint: &Endpoint) -> SecretString {
        config_of(self, endpoint)
    }
}

pub(crate) fn credentials_for(
    json: &[u8],
    endpoint: &Endpoint,
    base_path: Option<&RepositoryName>,
) -> Result<Credentials, DockerConfigError> {
    let wanted = ConfigTarget::new(endpoint, base_path);
    if json.len() > LARGEST_CONFIG {
        return Err(DockerConfigError::TooLarge);
    }
    let config = DockerConfig::parse(json).ok_or(DockerConfigError::NotADockerConfig)?;
    let host = shown(wanted.server);
    let ranked = config.auths.iter().filter_map(|(key, entry)| Some((wanted.rank(key)?, entry)));
    // Like the kubelet, this skips an entry without credentials and tries the next one.
    let found =
        ranked.max_by_key(|(rank, entry)| (has_credentials(entry), rank.clone())).map(|(_, entry)| entry);
    if found.is_some_and(|entry| !has_usable_auth(entry)) {
        return Err(DockerConfigError::AuthNotBasic { host });
    }
    if !config.auths.values().all(has_usable_auth) {
        return Err(DockerConfigError::OtherAuthNotBasic);
    }
    match found {
        Some(entry) => credentials_of(entry, &host, &config),
        None if config.leaves_to_helper(&wanted) => Err(DockerConfigError::CredentialHelper { host }),
        None => Err(DockerConfigError::NoEntry { host }),
    }
}

impl DockerConfig {
    fn leaves_to_helper(&self, wanted: &ConfigTarget<'_>) -> bool {
        self.has_store || self.helpers.iter().any(|key| wanted.rank(key).is_some())
    }
}

fn has_usable_auth(entry: &AuthEntry) -> bool {
    entry.auth.expose_secret().is_empty()
        || decoded_bytes(&entry.auth).is_some_and(|login| login.contains(&b':'))
}

/// Whether the entry has any credentials.
fn has_credentials(entry: &AuthEntry) -> bool {
    let given = |field: &SecretString| !field.expose_secret().is_empty();
    let has_login = if given(&entry.auth) {
        decoded_bytes(&entry.auth).is_none_or(|login| login != b":")
    } else {
        given(&entry.username) || given(&entry.password)
    };
    has_login || given(&entry.identitytoken) || given(&entry.registrytoken)
}

fn shown(server: &HostPort) -> String {
    if server.port == 443 { server.host.to_string() } else { server.to_string() }
}

/// The registry and path that an entry is looked up for.
struct ConfigTarget<'a> {
    server: &'a HostPort,
    /// The host as it is written in an image reference.
    host: String,
    /// The port as it is written in an image reference: `None` if it is the scheme's default port.
    port: Option<String>,
    /// The endpoint's suffix and the base path, with a slash at each end.
    path: String,
}

/// How well a key fits: a port spelled as in a reference before one that only means the same; then in the kubelet's order, which is
/// reverse alphabetical (a host before a pattern, a longer path first); then a key without a scheme before one with a scheme
/// (Docker looks up the bare key first). Of Docker Hub's names, that which references have comes first.
type Rank = (bool, u8, String, bool);

impl<'a> ConfigTarget<'a> {
    fn new(endpoint: &'a Endpoint, base_path: Option<&RepositoryName>) -> Self {
        let base_path = base_path.map(RepositoryName::as_str).unwrap_or_default();
        let path = format!("{}/{base_path}", endpoint.suffix());
        let server = endpoint.server();
        let port = (server.port != default_port(endpoint)).then(|| server.port.to_string());
        let path = match path.trim_matches('/') {
            "" => "/".to_owned(),
            path => format!("/{path}/"),
        };
        Self { server, host: server.host.to_string(), port, path }
    }

    /// How well a key fits; `None` if the kubelet would not use it: another port is another registry, and the key's path
    /// must be a prefix of the image's path.
    fn rank(&self, key: &str) -> Option<Rank> {
        let key = ConfigKey::parse(key)?;
        let hub_rank = self.hub_rank(&key);
        let is_host = match hub_rank {
            None if is_hub(&self.host) => false,
            None => key.host == self.host || is_pattern_of(&key.host, &self.host),
            Some(_) => true,
        };
        if !is_host {
            return None;
        }
        // Docker Hub's key doesn't name a server, and no other registry runs on any port of its hosts.
        let is_port_of_reference = key.port == self.port || (key.port.is_none() && hub_rank.is_some());
        let is_default_spelled_out = self.port.is_none() && key.port == Some(self.server.port.to_string());
        if !is_port_of_reference && !is_default_spelled_out {
            return None;
        }
        let is_below = self.path.starts_with(&key.path);
        is_below.then(|| (is_port_of_reference, hub_rank.unwrap_or(0), key.text, key.is_bare))
    }

    /// How well a key fits Docker Hub, if that is the target: references name it docker.io, and clients that find no such key look
    /// for index.docker.io, without a path.
    fn hub_rank(&self, key: &ConfigKey) -> Option<u8> {
        if !is_hub(&self.host) {
            return None;
        }
        match &*key.host {
            "docker.io" => Some(2),
            "index.docker.io" if key.path.is_empty() => Some(1),
            "registry-1.docker.io" if key.path.is_empty() => Some(0),
            host => is_pattern_of(host, "docker.io").then_some(2),
        }
    }
}

fn default_port(endpoint: &Endpoint) -> u16 {
    match endpoint.scheme() {
        Scheme::Https => 443,
        Scheme::Http => 80,
    }
}

/// The kubelet's patterns for hosts (Kubernetes, "Pull an Image from a Private Registry", interpretation of config.json): as
/// many labels as the host has, each a pattern of Go's `filepath.Match`, of which a URL's host can hold `*` alone.
fn is_pattern_of(pattern: &str, host: &str) -> bool {
    let mut labels = pattern.split('.').zip(host.split('.'));
    pattern.contains('*')
        && pattern.split('.').count() == host.split('.').count()
        && labels.all(|(pattern, label)| is_pattern_of_label(pattern.as_bytes(), label.as_bytes()))
}

/// Matches a label, with `*` for any characters. Linear in the label for each `*`, because only the last `*` is extended.
fn is_pattern_of_label(pattern: &[u8], label: &[u8]) -> bool {
    let (mut at, mut seen, mut widened) = (0, 0, None);
    while seen < label.len() {
        match pattern.get(at) {
            Some(b'*') => {
                widened = Some((at, seen));
                at += 1;
            }
            Some(wanted) if label.get(seen) == Some(wanted) => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star, from)) = widened else { return false };
                widened = Some((star, from + 1));
                (at, seen) = (star + 1, from + 1);
            }
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Whether the host is one of the names of Docker Hub.
fn is_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// The key that every client looks up for Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The key that clients look up for a registry: the beginning of an image reference, without the scheme and the
/// scheme's default port. Docker, containerd and go-containerregistry accept no path in it. The kubelet does, but would then not
/// use the entry for an image elsewhere on that host; and image references don't contain an endpoint's path (before `/v2/`).
fn key_of(endpoint: &Endpoint) -> String {
    let HostPort { host, port } = endpoint.server();
    let is_named_hub = matches!(host, Host::Name(name) if is_hub(name));
    match (is_named_hub, *port == default_port(endpoint)) {
        (true, true) => HUB_KEY.to_owned(),
        (_, true) => host.to_string(),
        (_, false) => endpoint.server().to_string(),
    }
}

/// A Docker configuration with only these credentials for this registry.
pub(crate) fn config_of(credentials: &Credentials, endpoint: &Endpoint) -> SecretString {
    let config = json!({"auths": {key_of(endpoint): entry_of(credentials)}});
    SecretString::from(config.to_string())
}

/// The entry as `docker login` writes it, with `username` and `password` for clients that don't read `auth`.
fn entry_of(credentials: &Credentials) -> Value {
    let auth = |username: &str, password: &str| STANDARD_BASE64.encode(format!("{username}:{password}"));
    match credentials {
        Credentials::Basic { username, password } => {
            let password = password.expose_secret();
            json!({"username": username, "password": password, "auth": auth(username, password)})
        }
        Credentials::RegistryToken(token) => json!({"registrytoken": token.expose_secret()}),
        Credentials::IdentityToken { username, token } => json!({
            "auth": auth(username.as_deref().unwrap_or(NO_USER), ""), "identitytoken": token.expose_secret(),
        }),
    }
}

/// Docker's precedence: a registry token, an identity token, `auth`, then user name and password.
fn credentials_of(
    entry: &AuthEntry,
    host: &str,
    config: &DockerConfig,
) -> Result<Credentials, DockerConfigError> {
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
        let username = Some(username.expose_secret()).filter(|name| *name != NO_USER);
        return Credentials::identity_token(username, &entry.identitytoken).map_err(unusable);
    }
    if !given(&username) && !given(&password) && config.has_store {
        return Err(DockerConfigError::CredentialHelper { host: host.to_owned() });
    }
    Credentials::basic(username.expose_secret(), password).map_err(unusable)
}

fn decoded_bytes(auth: &SecretString) -> Option<Vec<u8>> {
    // Go's decoder skips line breaks, and the kubelet accepts base64 with and without padding.
    let auth = SecretString::from(auth.expose_secret().replace(['\r', '\n'], ""));
    let engine = if auth.expose_secret().ends_with('=') { PADDED } else { UNPADDED };
    engine.decode(auth.expose_secret()).ok()
}

fn decoded(auth: &SecretString) -> Option<(SecretString, SecretString)> {
    let text = SecretString::from(String::from_utf8(decoded_bytes(auth)?).ok()?);
    let (username, password) = text.expose_secret().split_once(':')?;
    // Docker pads with NUL.
    Some((SecretString::from(username), SecretString::from(password.trim_matches('\0'))))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn found_below(json: &str, endpoint: &str, base_path: Option<&str>) -> Result<String, DockerConfigError> {
        let base_path = base_path.map(|path| RepositoryName::parse(path).unwrap());
        let endpoint = Endpoint::parse(endpoint).unwrap();
        Ok(match credentials_for(json.as_bytes(), &endpoint, base_path.as_ref())? {
            Credentials::Basic { username, password } => format!("{username}:{}", password.expose_secret()),
            Credentials::RegistryToken(token) => format!("registry token {}", token.expose_secret()),
            Credentials::IdentityToken { username, token } => {
                format!("identity token {} of {}", token.expose_secret(), username.unwrap_or_default())
            }
        })
    }

    fn found(json: &str, endpoint: &str) -> Result<String, DockerConfigError> {
        found_below(json, endpoint, None)
    }

    fn keyed(key: &str) -> String {
        format!(r#"{{"auths":{{"{key}":{{"username":"alice","password":"pw"}}}}}}"#)
    }

    #[test]
    fn matches_keys_as_docker_and_kubelet_do() {
        for (key, endpoint) in [
            ("registry.example.com", "https://registry.example.com"),
            ("https://registry.example.com", "https://registry.example.com"),
            ("https://registry.example.com/", "https://registry.example.com"),
            ("https://registry.example.com/v1/", "https://registry.example.com"),
            ("https://registry.example.com/v2/", "https://registry.example.com"),
            ("http://registry.example.com", "https://registry.example.com"),
            ("registry.example.com:443", "https://registry.example.com"),
            ("registry.example.com:5000", "https://REGISTRY.example.com:5000"),
            ("registry.example.com:", "https://registry.example.com"),
            ("https://bob@registry.example.com", "https://registry.example.com"),
            ("registry.example.com/?a#b", "https://registry.example.com"),
            ("registry.example.com:80", "http://registry.example.com"),
            ("https://index.docker.io/v1/", "https://registry-1.docker.io"),
            ("docker.io", "https://index.docker.io"),
            ("https://index.docker.io/v1/", "https://registry-1.docker.io:8443"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("[::1]:5000", "http://[::1]:5000"),
            ("a.example.com/artifactory", "https://a.example.com/artifactory/api/docker/repo"),
            ("a.example.com/artifact", "https://a.example.com/artifactory"),
            ("*.example.com:5000", "https://registry.example.com:5000"),
            ("*.ex*mple.*:5000", "https://registry.example.com:5000"),
            ("reg*try.ex*mp*e.com", "https://registry.example.com"),
            ("*.0.0.1:5000", "http://127.0.0.1:5000"),
            ("r*.example.com/team", "https://registry.example.com/team/a"),
        ] {
            assert_eq!(found(&keyed(key), endpoint).as_deref(), Ok("alice:pw"), "{key} {endpoint}");
        }
        for (key, endpoint) in [
            ("registry.example.com:5000", "https://registry.example.com"),
            ("registry.example.com", "https://registry.example.com:5000"),
            ("registry.example.com", "https://registry.example.com:80"),
            ("*.example.com", "https://registry.example.com:5000"),
            ("registry.example.com:05000", "https://registry.example.com:5000"),
            ("REGISTRY.example.com", "https://registry.example.com"),
            ("HTTPS://registry.example.com", "https://registry.example.com"),
            ("ftp://registry.example.com", "https://registry.example.com"),
            ("example.com", "https://registry.example.com"),
            ("registry.example.com.evil.net", "https://registry.example.com"),
            ("registry.example.com/team", "https://registry.example.com"),
            ("", "https://registry.example.com"),
            ("registry.example.com:x", "https://registry.example.com"),
            ("*.com", "https://registry.example.com"),
            ("*", "https://registry.example.com"),
            ("*.example.com", "https://example.com"),
            ("*.example.com:5000", "https://registry.example.com"),
            ("a*.example.com", "https://registry.example.com"),
            ("registry*y.example.com", "https://registry.example.com"),
            ("registry?.example.com", "https://registry.example.com"),
        ] {
            let error = found(&keyed(key), endpoint).unwrap_err();
            assert!(matches!(error, DockerConfigError::NoEntry { .. }), "{key} {endpoint}");
        }
    }

    #[test]
    fn most_specific_key_wins() {
        let entry = |key: &str, name: &str| format!(r#""{key}":{{"username":"{name}","password":"pw"}}"#);
        let keys = [
            ("r.io", "host"),
            ("r.io:443", "port"),
            ("r.io/team", "team"),
            ("r.io/team/a", "a"),
            ("*.io/team/a", "pattern"),
            ("r.io:5000", "other port"),
        ];
        let json = format!(r#"{{"auths":{{{}}}}}"#, keys.map(|(key, name)| entry(key, name)).join(","));
        assert_eq!(found(&json, "https://r.io").as_deref(), Ok("host:pw"));
        assert_eq!(found(&json, "https://r.io:5000").as_deref(), Ok("other port:pw"));
        assert_eq!(found_below(&json, "https://r.io", Some("team/b")).as_deref(), Ok("team:pw"));
        assert_eq!(found_below(&json, "https://r.io", Some("team/a/x")).as_deref(), Ok("a:pw"));
        assert_eq!(found_below(&json, "https://r.io", Some("tea")).as_deref(), Ok("host:pw"));
    }

    #[test]
    fn orders_entries_as_kubelet_does() {
        let entry = |key: &str, name: &str| format!(r#""{key}":{{"username":"{name}","password":"pw"}}"#);
        let config = |keys: &[(&str, &str)]| {
            let entries: Vec<_> = keys.iter().map(|(key, name)| entry(key, name)).collect();
            format!(r#"{{"auths":{{{}}}}}"#, entries.join(","))
        };
        let patterns = config(&[("*.io/team", "long"), ("a*.io", "later")]);
        assert_eq!(found_below(&patterns, "https://ab.io", Some("team")).as_deref(), Ok("later:pw"));
        let hub = config(&[
            ("https://index.docker.io/v1/", "index"),
            ("docker.io", "hub"),
            ("registry-1.docker.io", "api"),
        ]);
        assert_eq!(found(&hub, "https://registry-1.docker.io").as_deref(), Ok("hub:pw"));
        let empty = r#"{"auths":{"r.io/team":{},"r.io":{"username":"alice","password":"pw"}}}"#;
        assert_eq!(found_below(empty, "https://r.io", Some("team")).as_deref(), Ok("alice:pw"));
    }

    #[test]
    fn parses_escapes_and_field_names_as_go_does() {
        let entry = r#""r.io":{"u\u017fername":"alice","password":"\ud800pw\ud83d\ude00"}"#;
        let json = format!(r#"{{"auths":{{{entry}}}}}"#);
        assert_eq!(found(&json, "https://r.io").as_deref(), Ok("alice:\u{fffd}pw\u{1f600}"));
        let json = format!(r#"{{"HttpHeaders":{{"a":7}},"auths":{{{entry}}}}}"#);
        assert_eq!(found(&json, "https://r.io").unwrap_err(), DockerConfigError::NotADockerConfig);
    }

    #[test]
    fn bare_key_wins_over_key_with_scheme() {
        for keys in [["https://r.io:5000", "r.io:5000"], ["http://r.io:5000/", "r.io:5000"]] {
            let [old, new] = keys;
            let json = format!(
                r#"{{"auths":{{"{old}":{{"username":"alice","password":"old"}},"{new}":{{"username":"alice","password":"pw"}}}}}}"#
            );
            assert_eq!(found(&json, "https://r.io:5000").as_deref(), Ok("alice:pw"));
        }
    }

    #[test]
    fn accepts_oddities_that_go_accepts() {
        let good = r#""r.io":{"auth":"YWxpY2U6cHc="}"#;
        for json in [
            format!(r#"{{"auths":{{{good}}},"credHelpers":null}}"#),
            format!(r#"{{"auths":{{"other.example":null,{good}}}}}"#),
            format!(r#"{{"auths":{{{good}}},"credHelpers":{{"other.example":null}},"credsStore":null}}"#),
            format!(r#"{{"AUTHS":{{{good}}},"HttpHeaders":null}}"#),
            format!(r#"{{"auths":{{"other.example":{{}}}},"auths":{{{good}}}}}"#),
            format!(r#"{{"auths":null,"auths":{{{good}}}}}"#),
            format!(r#"{{"auths":{{"r.io":{{"auth":"%%"}},{good}}}}}"#),
            r#"{"auths":{"r.io":{"Auth":"YWxpY2U6cHc=","auth":null}}}"#.to_owned(),
            r#"{"auths":{"r.io":{"UserName":"alice","password":"old","password":"pw"}}}"#.to_owned(),
            r#"{"auths":{"r.io":{"username":"alice","password":"pw","identitytoken":null,"registrytoken":{}}}}"#.to_owned(),
            r#"{"auths":{"r.io":{"auth":"YWxpY2U6\r\ncHc=\n"}}}"#.to_owned(),
            r#"{"auths":{"r.io":{"auth":"YWxpY2U6cHc"}}}"#.to_owned(),
            r#"{"auths":{"r.io":{"auth":"YWxpY2U6cHd"}}}"#.to_owned(),
        ] {
            assert_eq!(found(&json, "https://r.io").as_deref(), Ok("alice:pw"), "{json}");
        }
    }

    #[test]
    fn rejects_files_that_go_rejects() {
        let good = r#""r.io":{"auth":"YWxpY2U6cHc="}"#;
        let error = |json: &str| found(json, "https://r.io").unwrap_err();
        for json in [
            format!(r#"{{"auths":{{{good},"s.io":{{"email":1}}}}}}"#),
            format!(r#"{{"auths":{{{good},"s.io":{{"password":true}}}}}}"#),
            format!(r#"{{"auths":{{{good},"s.io":7}}}}"#),
            format!(r#"{{"auths":{{{good}}}}} trailing"#),
        ] {
            assert_eq!(error(&json), DockerConfigError::NotADockerConfig, "{json}");
        }
        for auth in ["%%%", "bm8gY29sb24=", "YTpi ", "YTpiY=="] {
            let json = format!(r#"{{"auths":{{{good},"s.io":{{"auth":"{auth}"}}}}}}"#);
            assert_eq!(error(&json), DockerConfigError::OtherAuthNotBasic, "{json}");
        }
    }

    #[test]
    fn parses_every_form_of_an_entry() {
        let entry = |fields: &str| found(&format!(r#"{{"auths":{{"r.io":{{{fields}}}}}}}"#), "https://r.io");
        let auth = |text: &str| format!(r#""auth":"{}""#, STANDARD.encode(text));
        assert_eq!(entry(&auth("alice:p:w")).as_deref(), Ok("alice:p:w"));
        assert_eq!(entry(&auth("alice:pw\0\0")).as_deref(), Ok("alice:pw"));
        assert_eq!(entry(r#""auth":"YWxpY2U6cHc""#).as_deref(), Ok("alice:pw"), "without padding");
        assert_eq!(
            entry(&format!(r#"{},"username":"bob","password":"other""#, auth("alice:pw"))).as_deref(),
            Ok("alice:pw")
        );
        assert_eq!(
            entry(&format!(r#"{},"identitytoken":"idt""#, auth("alice:"))).as_deref(),
            Ok("identity token idt of alice")
        );
        assert_eq!(
            entry(&format!(r#"{},"identitytoken":"idt""#, auth("<token>:"))).as_deref(),
            Ok("identity token idt of ")
        );
        assert_eq!(
            entry(r#""registrytoken":"rt","identitytoken":"idt""#).as_deref(),
            Ok("registry token rt")
        );
        assert_eq!(
            entry(r#""auth":null,"username":"alice","password":"pw","identitytoken":null"#).as_deref(),
            Ok("alice:pw")
        );
        assert!(matches!(entry(&auth("no colon")), Err(DockerConfigError::AuthNotBasic { .. })));
        assert!(matches!(entry(r#""auth":"%%%""#), Err(DockerConfigError::AuthNotBasic { .. })));
        assert!(matches!(entry(""), Err(DockerConfigError::Unusable { cause: CredentialsError::Empty, .. })));
    }

    #[test]
    fn explains_entries_without_credentials() {
        let error = |json: &str| found(json, "https://r.io:5000").unwrap_err().to_string();
        for json in ["", "[]", "{}", r#"{"auths":[]}"#, r#"{"auths":{"r.io":"x"}}"#, "\u{0}"] {
            let expected = "has no valid Docker configuration; .dockerconfigjson must be JSON with auths";
            assert_eq!(error(json), expected, "{json}");
        }
        let missing =
            "has no entry for r.io:5000; add one to auths in .dockerconfigjson or correct spec.endpoint";
        assert_eq!(error(r#"{"auths":{}}"#), missing);
        let helped = "uses a credential helper for r.io:5000, which the operator can't run; put the credentials in auths";
        assert_eq!(error(r#"{"auths":{},"credHelpers":{"r.io:5000":"ecr-login"}}"#), helped);
        assert_eq!(error(r#"{"auths":{"r.io:5000":{}},"credsStore":"desktop"}"#), helped);
        let large = " ".repeat(LARGEST_CONFIG + 1);
        assert_eq!(error(&large), "is larger than 1 MiB; remove entries");
    }

    #[test]
    fn writes_entry_under_key_that_clients_use() {
        for (endpoint, key) in [
            ("https://registry.example.com", "registry.example.com"),
            ("https://registry.example.com:443/", "registry.example.com"),
            ("https://registry.example.com:5000", "registry.example.com:5000"),
            ("https://registry.example.com:80", "registry.example.com:80"),
            ("https://REGISTRY.example.com/artifactory/api/docker/packs", "registry.example.com"),
            ("http://registry.example.com", "registry.example.com"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://[::1]:5000", "[::1]:5000"),
            ("https://docker.io", "https://index.docker.io/v1/"),
            ("https://registry-1.docker.io", "https://index.docker.io/v1/"),
            ("https://index.docker.io", "https://index.docker.io/v1/"),
            ("https://index.docker.io:8443", "index.docker.io:8443"),
        ] {
            assert_eq!(key_of(&Endpoint::parse(endpoint).unwrap()), key, "{endpoint}");
        }
    }

    #[test]
    fn writes_entry_as_docker_login_does() {
        let endpoint = Endpoint::parse("https://r.io").unwrap();
        let written =
            |credentials: Credentials| config_of(&credentials, &endpoint).expose_secret().to_owned();
        let token = SecretString::from("t0ken");
        assert_eq!(
            written(Credentials::basic("alice", "p:w".into()).unwrap()),
            r#"{"auths":{"r.io":{"auth":"YWxpY2U6cDp3","password":"p:w","username":"alice"}}}"#
        );
        assert_eq!(
            written(Credentials::registry_token(&token).unwrap()),
            r#"{"auths":{"r.io":{"registrytoken":"t0ken"}}}"#
        );
        assert_eq!(
            written(Credentials::identity_token(None, &token).unwrap()),
            r#"{"auths":{"r.io":{"auth":"PHRva2VuPjo=","identitytoken":"t0ken"}}}"#
        );
    }

    fn shown_by(credentials: &Credentials) -> (String, String) {
        match credentials {
            Credentials::Basic { username, password } => {
                (username.clone(), password.expose_secret().to_owned())
            }
            Credentials::RegistryToken(token) => {
                ("registry token".to_owned(), token.expose_secret().to_owned())
            }
            Credentials::IdentityToken { username, token } => {
                (format!("identity token of {username:?}"), token.expose_secret().to_owned())
            }
        }
    }

    #[test]
    fn path_does_not_outweigh_port() {
        let json = r#"{"auths":{
            "a.example.com/team":{"username":"path","password":"pw"},
            "a.example.com:5000":{"username":"port","password":"pw"}}}"#;
        assert_eq!(found_below(json, "https://a.example.com:5000", Some("team")).as_deref(), Ok("port:pw"));
    }

    #[test]
    fn inline_credentials_win_over_credential_store() {
        let json =
            r#"{"credsStore":"desktop","auths":{"a.example.com":{"username":"alice","password":"pw"}}}"#;
        assert_eq!(found(json, "https://a.example.com").as_deref(), Ok("alice:pw"));
    }

    proptest! {
        #[test]
        fn written_entry_round_trips(
            username in "[^:\\p{Cc}]{0,12}",
            password in "[^\\p{Cc}]{1,12}",
            token in "[!-~]{1,24}",
            endpoint in "https?://[a-z]{1,8}\\.[a-z]{2,8}(:[1-9][0-9]{0,3})?(/[a-z]{1,8}){0,2}",
        ) {
            let endpoint = Endpoint::parse(&endpoint).unwrap();
            let token = SecretString::from(token);
            for credentials in [
                Credentials::basic(&username, password.into()).unwrap(),
                Credentials::registry_token(&token).unwrap(),
                Credentials::identity_token(None, &token).unwrap(),
                Credentials::identity_token(Some("alice"), &token).unwrap(),
            ] {
                let json = config_of(&credentials, &endpoint);
                let read = credentials_for(json.expose_secret().as_bytes(), &endpoint, None).unwrap();
                prop_assert_eq!(shown_by(&read), shown_by(&credentials));
            }
        }

        #[test]
        fn no_input_panics_or_leaks_a_secret(
            auth in "[ -!#-\\[\\]-~]{0,40}",
            key in "[a-z.:/]{0,20}",
            password in "[a-z]{12}",
        ) {
            let json = format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}","password":"{password}"}}}}}}"#);
            if let Err(error) = found(&json, "https://r.io") {
                let shown = format!("{error} {error:?}");
                prop_assert!(!shown.contains(&password));
                prop_assert!(auth.len() < 8 || !shown.contains(&auth));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = credentials_for(&bytes, &Endpoint::parse("https://r.io").unwrap(), None);
        }

        /// Credentials in any field that Docker has for them and in keys, in complete and in truncated files.
        #[test]
        fn messages_hold_no_credentials(
            secret in "[a-z]{12}",
            ends in prop::sample::select(vec!["", "\\n", "\\u0000x", " x", "\\u00e9"]),
            key in prop::sample::select(vec!["r.io", "r.io:443", "s.io", "https://alice:{}@r.io", "r.io/{}", "r.io:{}"]),
            fields in prop::sample::subsequence(FIELDS.to_vec(), 1..=FIELDS.len()),
            cut in 0.0..1.3_f64,
        ) {
            let secret_text = format!("{secret}{ends}");
            let encoded = STANDARD.encode(format!("alice:{secret}"));
            let value = |field: &str| if field == "auth" { encoded.clone() } else { secret_text.clone() };
            let fields: Vec<String> = fields.iter().map(|field| format!(r#""{field}":"{}""#, value(field))).collect();
            let json = format!(r#"{{"auths":{{"{}":{{{}}}}}}}"#, key.replace("{}", &secret), fields.join(","));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in the text")]
            let cut = ((json.len() as f64 * cut) as usize).min(json.len());
            let json = json.get(..cut).unwrap_or(&json);
            let endpoint = Endpoint::parse("https://r.io").unwrap();
            let shown = match credentials_for(json.as_bytes(), &endpoint, None) {
                Ok(credentials) => format!("{credentials:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains(&secret) && !shown.contains(&encoded), "{}", shown);
        }
    }

    const FIELDS: [&str; 6] = ["auth", "username", "password", "identitytoken", "registrytoken", "email"];

    #[test]
    fn parses_a_mebibyte_in_bounded_time() {
        let started = std::time::Instant::now();
        let filled = |before: &str, unit: &str, after: &str| {
            let room = LARGEST_CONFIG - before.len() - after.len();
            format!("{before}{}{after}", unit.repeat(room / unit.len()))
        };
        for (before, unit, after) in [
            ("", "[", ""),
            ("", r#"{"auths":"#, ""),
            (r#"{"auths":{"#, r#""r.io":{"auth":"YTpi"},"#, r#""x":{}}}"#),
            (r#"{"auths":{"#, r#""xn--a.io:5000/a/b":{},"#, r#""x":{}}}"#),
            (r#"{"auths":{""#, "a.", r#"":{}}}"#),
            (r#"{"auths":{""#, "\u{fc}", r#"":{}}}"#),
            (r#"{"auths":{""#, "r.io:", r#"":{}}}"#),
            (r#"{"auths":{"r.io/"#, "a/", r#"":{}}}"#),
            (r#"{"auths":{"r.io":{"auth":""#, "YTpi", r#""}}}"#),
            (r#"{"auths":{"r.io":{"auth":""#, "\\u0041", r#""}}}"#),
            (r#"{"auths":{"r.io":{"username":"a","password":""#, "\\n", r#""}}}"#),
            (r#"{"auths":{"r.io":{"registrytoken":""#, "a", r#""}}}"#),
            (r#"{"auths":{},"credHelpers":{"#, r#""r.i":"x","#, r#""x":"y"}}"#),
        ] {
            let json = filled(before, unit, after);
            assert!(json.len() > LARGEST_CONFIG - 64, "{before}{unit}");
            let error = found(&json, "https://r.io").err();
            assert_ne!(error, Some(DockerConfigError::TooLarge), "{before}{unit}: read, and not put aside");
        }
        assert!(started.elapsed() < crate::BOUNDED, "{:?}", started.elapsed());
    }
}
