//! The registries authenticate clients as configured, and log requests.

use std::error::Error;

use http::{Method, StatusCode};
use registry_testbed::http_client::Call;
use registry_testbed::{LeafOptions, RegistryAuth, RegistryOptions, RegistryTls, TestCa, TestRegistry};

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::test]
async fn registry_with_basic_auth_checks_passwords() -> Outcome {
    let ca = TestCa::new("private authority")?;
    let registry = TestRegistry::start(RegistryOptions {
        auth: RegistryAuth::htpasswd("demo", "right"),
        tls: RegistryTls::Server {
            leaf: ca.issue(&LeafOptions::server("registry"))?,
            ca_pem: ca.certificate_pem().to_owned(),
            client_ca_pem: None,
        },
    })
    .await?;
    let digest = registry.push_artifact("team/packs/hello", "1.0").await?;

    let ping = || {
        let url = format!("{}/v2/", registry.url());
        Call::get(url).trust(ca.certificate_pem()).header(http::header::USER_AGENT, "a test")
    };
    assert_eq!(ping().send().await?.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ping().basic("demo", "wrong").send().await?.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ping().basic("demo", "right").send().await?.status(), StatusCode::OK);

    let seen: Vec<bool> = registry.authentications().iter().map(|seen| seen.accepted).collect();
    assert_eq!(seen, [false, true]);
    let statuses: Vec<u16> = registry.requests().iter().map(|access| access.status).collect();
    assert_eq!(statuses, [401, 401, 200]);

    let url = format!("{}/v2/team/packs/hello/manifests/{digest}", registry.url());
    let head = Call::new(Method::HEAD, url).trust(ca.certificate_pem()).basic("demo", "right");
    let found =
        head.header(http::header::ACCEPT, "application/vnd.oci.image.manifest.v1+json").send().await?;
    assert_eq!(found.status(), StatusCode::OK);

    let untrusted = Call::get(registry.url()).trust(TestCa::new("another")?.certificate_pem()).send().await;
    assert!(untrusted.is_err());
    Ok(())
}

#[tokio::test]
async fn plain_registry_restarts_on_its_port() -> Outcome {
    let registry = TestRegistry::start(RegistryOptions::default()).await?;
    registry.push_artifact("hello", "1").await?;
    registry.component().stop().await?;
    let url = format!("{}/v2/hello/tags/list", registry.url());
    assert!(Call::get(&url).send().await.is_err());
    registry.component().start().await?;
    let tags = Call::get(&url).send().await?;
    assert_eq!(tags.status(), StatusCode::OK);
    assert!(String::from_utf8_lossy(tags.body()).contains(r#""tags":["1"]"#));
    Ok(())
}

#[tokio::test]
async fn registry_names_its_token_service() -> Outcome {
    let ca = TestCa::new("token service")?;
    let auth = RegistryAuth::Token {
        realm: String::from("https://tokens.localtest/token"),
        service: String::from("registry.localtest"),
        issuer: String::from("tokens.localtest"),
        root_certificates: ca.certificate_pem().to_owned(),
    };
    let registry = TestRegistry::start(RegistryOptions { auth, ..RegistryOptions::default() }).await?;
    let answer = Call::get(format!("{}/v2/", registry.url())).send().await?;
    let challenge = answer.headers()[http::header::WWW_AUTHENTICATE].to_str()?;
    assert!(challenge.starts_with(r#"Bearer realm="https://tokens.localtest/token""#), "{challenge}");
    Ok(())
}

#[tokio::test]
async fn rejects_expired_early_and_foreign_certificates() -> Outcome {
    let ca = TestCa::new("private authority")?;
    let good = LeafOptions::server("registry");
    for bad in [good.clone().expired(), good.clone().not_yet_valid(), good.wrong_host()] {
        let tls = RegistryTls::Server {
            leaf: ca.issue(&bad)?,
            ca_pem: ca.certificate_pem().to_owned(),
            client_ca_pem: None,
        };
        let registry = TestRegistry::start(RegistryOptions { tls, ..RegistryOptions::default() }).await?;
        assert!(Call::get(registry.url()).trust(ca.certificate_pem()).send().await.is_err(), "{bad:?}");
    }
    Ok(())
}
