//! Servers of other projects have the declared content and permissions.

#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;

use http::Method;
use http::header::{ACCEPT, AUTHORIZATION};
use registry_testbed::http_client::Call;
use registry_testbed::pki::{LeafOptions, TestCa};
use registry_testbed::servers::{
    self, ServerAccount, ServerCertificate, ServerError, TestServer, TestTokenService,
};

fn certificate() -> ServerCertificate {
    let ca = TestCa::new("servers").unwrap();
    let leaf = ca.issue(&LeafOptions::server("registry")).unwrap();
    ServerCertificate {
        chain_pem: leaf.certificate_pem().into(),
        key_pem: leaf.key_pem().into(),
        ca_pem: ca.certificate_pem().into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quick_servers_hold_their_content() {
    for server in servers::quick(&certificate()).await {
        match server {
            Ok(server) => holds_what_it_says(&server).await,
            Err(ServerError::Debian(reason)) => {
                writeln!(std::io::stderr().lock(), "SKIPPED: {reason}").unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes to build: `make test-servers`"]
async fn gitea_holds_its_content() {
    holds_what_it_says(&servers::gitea().await.unwrap()).await;
}

/// Only permitted accounts can pull a manifest.
async fn holds_what_it_says(server: &TestServer) {
    for repository in &server.repositories {
        for tag in repository.tags {
            let status = manifest(server, None, repository.path, tag).await;
            assert_eq!(status == 200, repository.anonymous, "{} {} {status}", server.name, repository.path);
            for account in &server.accounts {
                let status = manifest(server, Some(account), repository.path, tag).await;
                let may = repository.pulled_by.contains(&account.role);
                assert_eq!(status == 200, may, "{} {} {account:?} {status}", server.name, repository.path);
            }
        }
    }
}

async fn manifest(server: &TestServer, account: Option<&ServerAccount>, repository: &str, tag: &str) -> u16 {
    let url = format!("{}/v2/{repository}/manifests/{tag}", server.endpoint());
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let mut call = Call::new(Method::GET, url).header(ACCEPT, accept);
    if let Some(ca_pem) = &server.ca_pem {
        call = call.trust(ca_pem);
    }
    call = match (&server.token_service, account) {
        (Some(service), account) => match token(service, account, repository).await {
            Some(token) => call.header(AUTHORIZATION, format!("Bearer {token}")),
            None => call,
        },
        (None, Some(account)) => call.basic(&account.user, &account.password),
        (None, None) => call,
    };
    call.send().await.unwrap().status().as_u16()
}

async fn token(
    service: &TestTokenService,
    account: Option<&ServerAccount>,
    repository: &str,
) -> Option<String> {
    let scope = format!("repository:{repository}:pull");
    let mut call = Call::get(format!("{}?service={}&scope={scope}", service.realm, service.service));
    if let Some(account) = account {
        call = call.basic(&account.user, &account.password);
    }
    let body: serde_json::Value = serde_json::from_slice(call.send().await.unwrap().body()).ok()?;
    ["token", "access_token"].iter().find_map(|key| Some(body[key].as_str()?.to_owned()))
}
