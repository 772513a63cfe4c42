//! distribution in two of its own forms: behind its token service, and as a cache of another registry.

use serde_json::{Value, json};

use super::keys::SigningKey;
use super::running::{RunningServer, log};
use super::{
    LATEST, NO_LATEST, OWNER, OWNER_PASSWORD, Role, ServerError, TestServer, TestTokenService, htpasswd,
    owner, private, public, second,
};
use crate::http_client::Call;
use crate::process::ProcessSpec;
use crate::push::Push;
use crate::registry::{RegistryAuth, RegistryOptions, TestRegistry};
use crate::tools::{self, Tool};

const SERVICE: &str = "registry.test";
const ISSUER: &str = "distribution-token-server";

/// distribution 3 with the token service of distribution 2.8: users may do everything below their own name, and nothing elsewhere.
pub async fn token_server() -> Result<TestServer, ServerError> {
    let tools = tools::ensure(&[Tool::Registry, Tool::TokenServer]).await?;
    let (key, accounts) = (SigningKey::new()?, vec![owner(), second(Role::Stranger)]);
    let service = RunningServer::start(|scratch, port| {
        let key = scratch.write("key.jwk", key.private())?;
        let passwords = scratch.write("htpasswd", htpasswd(&accounts)?)?;
        Ok(ProcessSpec::new("token-server", tools.get(Tool::TokenServer), log(scratch))
            .args(["-addr".into(), format!("127.0.0.1:{port}")])
            .args(["-realm", SERVICE, "-issuer", ISSUER, "-key"])
            .arg(key)
            .arg("-passwd")
            .arg(passwords))
    })
    .await?;
    let realm = format!("{}/token/", service.url());
    let keys = key.key_set();
    let registry = registry(&tools, |scratch| {
        let keys = scratch.write("keys.json", &keys)?;
        let token = json!({"realm": realm, "service": SERVICE, "issuer": ISSUER, "jwks": keys});
        Ok(json!({"auth": {"token": token}}))
    })
    .await?;
    let own: &[Role] = &[Role::Owner];
    let repositories = vec![private("alice/hello", LATEST, own), private("alice/tagged", NO_LATEST, own)];
    for repository in &repositories {
        let token = token(&realm, repository.path).await?;
        let url = registry.url();
        let push = Push { url: &url, authorization: Some(&token), ca_pem: None };
        for tag in repository.tags {
            push.artifact(repository.path, tag).await?;
        }
    }
    Ok(TestServer {
        name: "distribution with its token service",
        port: registry.port(),
        ca_pem: None,
        token_service: Some(TestTokenService { port: service.port(), realm, service: SERVICE }),
        accounts,
        repositories,
        _running: vec![registry, service],
        _behind: Vec::new(),
    })
}

/// The owner's token for pushing.
async fn token(realm: &str, repository: &str) -> Result<String, ServerError> {
    let url = format!("{realm}?service={SERVICE}&scope=repository:{repository}:pull,push");
    let answer = Call::get(url.as_str()).basic(OWNER, OWNER_PASSWORD).send().await?;
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    body["access_token"].as_str().map(|token| format!("Bearer {token}")).ok_or_else(|| ServerError::Setup {
        what: url,
        status: answer.status(),
        body: String::from_utf8_lossy(answer.body()).into_owned(),
    })
}

/// distribution 3 as a public cache of a registry with passwords. It is empty until the first pull.
pub async fn pull_through_cache() -> Result<TestServer, ServerError> {
    let auth = RegistryAuth::htpasswd(OWNER, OWNER_PASSWORD);
    let origin = TestRegistry::start(RegistryOptions { auth, ..RegistryOptions::default() }).await?;
    let repositories = vec![public("hello", LATEST), public("team/tagged", NO_LATEST)];
    for repository in &repositories {
        for tag in repository.tags {
            origin.push_artifact(repository.path, tag).await?;
        }
    }
    let tools = tools::ensure(&[Tool::Registry]).await?;
    let url = origin.url();
    let cache = registry(&tools, |_| {
        Ok(json!({"proxy": {"remoteurl": url, "username": OWNER, "password": OWNER_PASSWORD}}))
    })
    .await?;
    Ok(TestServer {
        name: "distribution as a pull-through cache",
        port: cache.port(),
        ca_pem: None,
        token_service: None,
        accounts: Vec::new(),
        repositories,
        _running: vec![cache],
        _behind: vec![origin],
    })
}

/// distribution 3 with these sections in its configuration.
async fn registry(
    tools: &tools::ToolPaths,
    sections: impl Fn(&crate::process::Scratch) -> Result<Value, ServerError>,
) -> Result<RunningServer, ServerError> {
    RunningServer::start(|scratch, port| {
        let mut configuration = json!({
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": scratch.path().join("storage")}},
            "http": {"addr": format!("127.0.0.1:{port}"), "secret": "testbed"},
        });
        if let (Some(all), Value::Object(sections)) = (configuration.as_object_mut(), sections(scratch)?) {
            all.extend(sections);
        }
        let file = scratch.write("config.yaml", configuration.to_string())?;
        Ok(ProcessSpec::new("registry", tools.get(Tool::Registry), log(scratch))
            .arg("serve")
            .arg(file)
            .env("OTEL_SDK_DISABLED", "true")
            .env("OTEL_TRACES_EXPORTER", "none"))
    })
    .await
}
