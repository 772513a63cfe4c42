//! Registries that come as libraries for tests and tools, and keep what they hold in memory.

use super::running::{RunningServer, log};
use super::{LATEST, NO_LATEST, Repository, ServerError, TestServer, private, public};
use crate::process::ProcessSpec;
use crate::push::Push;
use crate::tools::{self, Tool};

/// go-containerregistry's, as `crane registry serve` runs it: anonymous access.
pub async fn go_containerregistry() -> Result<TestServer, ServerError> {
    let tools = tools::ensure(&[Tool::Crane]).await?;
    let running = RunningServer::start(|scratch, port| {
        let address = format!("127.0.0.1:{port}");
        Ok(ProcessSpec::new("crane registry", tools.get(Tool::Crane), log(scratch)).args([
            "registry",
            "serve",
            "--address",
            address.as_str(),
        ]))
    })
    .await?;
    let repositories = vec![public("hello", LATEST), public("team/tagged", NO_LATEST)];
    filled("go-containerregistry", running, repositories).await
}

/// CUE's: open to everyone, except one repository that it denies without asking for credentials.
pub async fn ociregistry() -> Result<TestServer, ServerError> {
    let tools = tools::ensure(&[Tool::Ociregistry]).await?;
    let running = RunningServer::start(|scratch, port| {
        let address = format!("127.0.0.1:{port}");
        Ok(ProcessSpec::new("ociregistry", tools.get(Tool::Ociregistry), log(scratch)).args([
            "-address",
            address.as_str(),
            "private/hello",
        ]))
    })
    .await?;
    let repositories = vec![
        public("hello", LATEST),
        public("team/tagged", NO_LATEST),
        private("private/hello", LATEST, &[]),
    ];
    filled("ociregistry", running, repositories).await
}

async fn filled(
    name: &'static str,
    running: RunningServer,
    repositories: Vec<Repository>,
) -> Result<TestServer, ServerError> {
    let url = running.url();
    let push = Push { url: &url, authorization: None, ca_pem: None };
    for repository in &repositories {
        for tag in repository.tags {
            push.artifact(repository.path, tag).await?;
        }
    }
    Ok(TestServer {
        name,
        port: running.port(),
        ca_pem: None,
        token_service: None,
        accounts: Vec::new(),
        repositories,
        _running: vec![running],
        _behind: Vec::new(),
    })
}
