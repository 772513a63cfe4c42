//! The operator behind a forward proxy, with a private CA: flags, verdicts, and that the proxy's password is never shown.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use registry_testbed::{ForwardProxy, LeafOptions, Operator, RegistryAuth, TestCa};
use serde_json::json;

use crate::{
    exclusive_cluster,
    fixtures::{TestScope, VALIDATED, Verdict, with_certificate},
};

const PASSWORD: &str = "pr:xy%word";

/// Loopback is never proxied; this address leads there too, and counts as any.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[tokio::test]
async fn validates_behind_proxy_with_ca_file() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let (ca, files) = (TestCa::new("company")?, tempfile::tempdir()?);
    let ca_file = files.path().join("ca.crt");
    std::fs::write(&ca_file, ca.certificate_pem())?;
    let mut leaf = LeafOptions::server("registry");
    leaf.ips.push(ELSEWHERE.into());
    let registry = with_certificate(&ca, RegistryAuth::htpasswd("demo", "right"), &leaf).await?;
    let proxy = ForwardProxy::start(Some(&format!("alice:{PASSWORD}"))).await?;
    let server = registry.host_port().replace("127.0.0.1", &ELSEWHERE.to_string());

    let scene = TestScope::system(&solo.cluster);
    let login = scene.login("login", "demo", "right").await?;
    let auth = json!({"basic": {"secretRef": {"name": login}}});
    let spec = json!({"endpoint": format!("https://{server}"), "auth": auth});
    let through = |password: &str| {
        let url = format!("http://alice:{password}@{}", proxy.host_port());
        let (ca_file, solo) = (ca_file.clone(), &solo);
        async move {
            let options = solo.alone().await?.arg(format!("--ca-file={}", ca_file.display()));
            anyhow::Ok(Operator::start(options.env("REGISTRY_OPERATOR_PROXY", url)).await?)
        }
    };

    let operator = through("pr%3axy%25word").await?;
    let object = scene.declare("proxied", spec.clone()).await?;
    object.shows(&VALIDATED).await?;
    let tunnel = format!("CONNECT {server}");
    ensure!(proxy.component().log().contains(&tunnel), "{}", proxy.component().log());
    for shown in [operator.log(), operator.metrics().await?] {
        ensure!(!shown.contains(PASSWORD) && !shown.contains("pr%3axy"), "{shown}");
    }
    operator.stop().await?;

    let operator = through("wr0ng").await?;
    let object = scene.declare("locked-out", spec).await?;
    let refused = object.shows(&Verdict::unreachable("False/ConnectionFailed")).await?;
    let message = refused.message("EndpointReachable");
    let expected = format!(
        "{server} not reached: proxy {} rejected the login (407); correct it in the operator's --proxy",
        proxy.host_port()
    );
    ensure!(message == expected, "{message}");
    ensure!(!operator.log().contains("wr0ng"), "{}", operator.log());
    Ok(())
}

/// What is wrong is said at the start, and without the password.
#[tokio::test]
async fn exits_on_unusable_proxy_or_ca_file() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    for (argument, complaint) in [
        ("--proxy=socks5://alice:s3cr3t@proxy", "--proxy must start with http:// or https://"),
        ("--ca-file=/dev/null", "--ca-file /dev/null is empty"),
    ] {
        let operator = Operator::launch(solo.alone().await?.arg(argument)).await?;
        registry_testbed::eventually(argument, || async {
            operator.exited().await?.ok_or_else(|| anyhow::anyhow!("it runs"))
        })
        .await?;
        ensure!(operator.log().contains(complaint), "{}", operator.log());
        ensure!(!operator.log().contains("s3cr3t"), "{}", operator.log());
    }
    Ok(())
}
