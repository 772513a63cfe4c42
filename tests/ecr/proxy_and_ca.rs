//! Connections to AWS: through a real forward proxy, and to an API with a certificate of a private CA.
//!
//! Loopback is never proxied, as with Go's clients; 0.0.0.0 leads there too, and counts as any address.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use registry_api::{ConditionType, RegistryStatus};
use registry_probe::{CaBundle, Proxy};
use registry_testbed::{
    ForwardProxy, LeafOptions, Moto, RegistryAuth, RegistryOptions, TestCa, TestRegistry,
};
use registry_verdict::ecr::{EcrTokens, Urgency, http::AwsHttp};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{check, prober, tokens_by, validate, verdict};

/// A registry that takes moto's token, and moto, which gives it to anybody.
struct Aws {
    moto: Moto,
    registry: TestRegistry,
}

impl Aws {
    async fn start() -> Result<Self> {
        let auth = RegistryAuth::htpasswd("AWS", "123456789012-auth-token");
        let registry = RegistryOptions { auth, ..Default::default() };
        Ok(Self { moto: Moto::start().await?, registry: TestRegistry::start(registry).await? })
    }

    async fn status(&self, tokens: &Arc<EcrTokens>) -> Result<RegistryStatus> {
        let ecr = json!({"region": "eu-central-1", "credentials": {"secretRef": {"name": "keys"}}});
        let keys = [("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "key")];
        let check = check(&self.registry.host_port(), &ecr, &keys)?;
        Ok(validate(&prober()?, tokens, &check, Urgency::Due).await)
    }
}

/// By another address of this machine.
fn elsewhere(url: &str) -> String {
    url.replace("127.0.0.1", "0.0.0.0")
}

fn through(proxy: &ForwardProxy, login: &str, no_proxy: &str) -> Result<AwsHttp> {
    let url = format!("http://{login}{}", proxy.host_port());
    Ok(AwsHttp::new(Some(Proxy::parse(&url.into(), no_proxy.parse()?)?), None))
}

fn message(status: &RegistryStatus) -> &str {
    let condition = status.condition(ConditionType::CredentialsValidated);
    condition.map_or("", |condition| condition.message.as_str())
}

#[tokio::test]
async fn calls_aws_through_the_proxy() -> Result<()> {
    let (aws, proxy) = (Aws::start().await?, ForwardProxy::start(Some("alice:pr:xy")).await?);
    let url = elsewhere(&aws.moto.url());
    let status = aws.status(&tokens_by(&url, through(&proxy, "alice:pr%3Axy@", "")?)?).await?;
    assert_eq!(verdict(&status), "True/Validated", "{status:?}");
    let asked = url.trim_start_matches("http://");
    assert!(proxy.component().log().contains(asked), "{}", proxy.component().log());

    let log = proxy.component().log();
    let direct = through(&proxy, "alice:pr%3Axy@", "0.0.0.0")?;
    assert_eq!(verdict(&aws.status(&tokens_by(&url, direct)?).await?), "True/Validated");
    assert_eq!(proxy.component().log(), log, "what is on the list is asked directly");
    Ok(())
}

#[tokio::test]
async fn reports_proxy_failure_on_the_way_to_aws() -> Result<()> {
    let (aws, proxy) = (Aws::start().await?, ForwardProxy::start(Some("alice:pr:xy")).await?);
    let name = proxy.host_port();
    // A tunnel, for https://; nothing is behind it.
    let url = elsewhere(&aws.moto.url()).replace("http://", "https://");
    let wrong = aws.status(&tokens_by(&url, through(&proxy, "alice:wr0ng@", "")?)?).await?;
    assert_eq!(verdict(&wrong), "Unknown/TemporarilyUnavailable", "{wrong:?}");
    let said = message(&wrong);
    assert!(said.contains(&format!("proxy {name} rejected the login (407)")), "{said}");
    assert!(!format!("{wrong:?}").contains("wr0ng"), "{wrong:?}");

    proxy.component().stop().await?;
    let away = aws.status(&tokens_by(&url, through(&proxy, "", "")?)?).await?;
    assert!(message(&away).contains(&format!("proxy {name} is unreachable")), "{}", message(&away));
    Ok(())
}

/// Ends TLS in front of moto, and counts connections.
struct TlsRelay {
    port: u16,
    accepted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TlsRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TlsRelay {
    async fn start(ca: &TestCa, moto: &Moto) -> Result<Self> {
        Self::by(ca, &LeafOptions::server("aws"), moto).await
    }

    async fn by(ca: &TestCa, leaf: &LeafOptions, moto: &Moto) -> Result<Self> {
        let leaf = ca.issue(leaf)?;
        let chain = vec![CertificateDer::from_pem_slice(leaf.certificate_pem().as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let accepted: Arc<AtomicUsize> = Arc::default();
        let (count, behind) = (accepted.clone(), moto.url().trim_start_matches("http://").to_owned());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind, count) = (acceptor.clone(), behind.clone(), count.clone());
                connections.spawn(async move {
                    let Ok(mut client) = acceptor.accept(stream).await else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    let Ok(mut server) = TcpStream::connect(behind).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Ok(Self { port, accepted, task })
    }
}

#[tokio::test]
async fn trusts_aws_behind_private_ca() -> Result<()> {
    let (aws, ca) = (Aws::start().await?, TestCa::new("company")?);
    let relay = TlsRelay::start(&ca, &aws.moto).await?;
    let url = format!("https://localhost:{}", relay.port);
    let bundle = CaBundle::parse(ca.certificate_pem().as_bytes())?;

    let http = AwsHttp::new(None, None);
    let untrusted = aws.status(&tokens_by(&url, http.clone())?).await?;
    assert_eq!(verdict(&untrusted), "Unknown/TemporarilyUnavailable", "{untrusted:?}");
    assert!(
        message(&untrusted).contains("presented a certificate that can't be verified"),
        "{}",
        message(&untrusted)
    );
    assert_eq!(relay.accepted.load(Ordering::SeqCst), 0);

    http.trust(Some(&bundle));
    assert_eq!(verdict(&aws.status(&tokens_by(&url, http)?).await?), "True/Validated", "read again");
    let trusting = AwsHttp::new(None, Some(&bundle));
    assert_eq!(verdict(&aws.status(&tokens_by(&url, trusting)?).await?), "True/Validated");

    // The same through a tunnel.
    let proxy = ForwardProxy::start(None).await?;
    let mut leaf = LeafOptions::server("aws");
    leaf.ips.push(Ipv4Addr::UNSPECIFIED.into());
    let both = AwsHttp::new(
        Some(Proxy::parse(&format!("http://{}", proxy.host_port()).into(), "".parse()?)?),
        Some(&bundle),
    );
    let relay = TlsRelay::by(&ca, &leaf, &aws.moto).await?;
    let url = format!("https://0.0.0.0:{}", relay.port);
    let status = aws.status(&tokens_by(&url, both)?).await?;
    assert_eq!(verdict(&status), "True/Validated", "{status:?}");
    let line = format!("CONNECT 0.0.0.0:{}", relay.port);
    proxy.component().log().contains(&line).then_some(()).context(line)
}
