//! The real SDK against moto's ECR, STS and IAM: an independent emulation of AWS.
//!
//! moto gives tokens whose end is in 2015, and looks at signatures and policies only once it is told to.

use anyhow::{Context as _, Result};
use registry_testbed::{Moto, RegistryAuth, RegistryOptions, TestRegistry, moto::AccessKey};
use registry_verdict::ecr::Urgency;
use serde_json::json;

use crate::support::{check, expires_at, prober, tokens, validate, verdict};

const ACCOUNT: &str = "123456789012";

const ALL: &str = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["ecr:*", "sts:*"], "Resource": "*"}}"#;

/// moto, with a user who may ask for tokens and assume a role; checks credentials from here on.
struct Emulator {
    moto: Moto,
    key: AccessKey,
}

impl Emulator {
    async fn start() -> Result<Self> {
        let moto = Moto::start().await?;
        let key = moto.user("operator", ALL).await?;
        moto.role("registry", ALL, ALL).await?;
        moto.checks_credentials().await?;
        Ok(Self { moto, key })
    }

    fn keys(&self) -> [(&str, &str); 2] {
        [("AWS_ACCESS_KEY_ID", &self.key.id), ("AWS_SECRET_ACCESS_KEY", &self.key.secret)]
    }
}

#[tokio::test]
async fn keys_and_role_get_a_token_from_moto() -> Result<()> {
    let emulator = Emulator::start().await?;
    let auth = RegistryAuth::htpasswd("AWS", format!("{ACCOUNT}-auth-token"));
    let registry = TestRegistry::start(RegistryOptions { auth, ..Default::default() }).await?;
    let (prober, tokens, host) = (prober()?, tokens(&emulator.moto.url())?, registry.host_port());
    let secret = json!({"name": "keys"});
    let keys = json!({"region": "eu-central-1", "credentials": {"secretRef": secret}});
    let role = format!("arn:aws:iam::{ACCOUNT}:role/registry");
    let sts = json!({"region": "eu-central-1", "sts": {"roleARN": role, "secretRef": secret}});
    for ecr in [&keys, &sts] {
        let status = validate(&prober, &tokens, &check(&host, ecr, &emulator.keys())?, Urgency::Due).await;
        assert_eq!(verdict(&status), "True/Validated", "{status:?}");
        let end = expires_at(&status).context("no expiresAt")?;
        assert_eq!(end.to_string(), "2015-01-01T00:00:00Z", "AWS's word, be it as it may");
    }
    for wrong in [
        [("AWS_ACCESS_KEY_ID", emulator.key.id.as_str()), ("AWS_SECRET_ACCESS_KEY", "guess")],
        [("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN"), ("AWS_SECRET_ACCESS_KEY", &emulator.key.secret)],
    ] {
        for ecr in [&keys, &sts] {
            let status = validate(&prober, &tokens, &check(&host, ecr, &wrong)?, Urgency::Due).await;
            assert_eq!(verdict(&status), "False/Rejected", "{status:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn public_ecr_needs_no_token() -> Result<()> {
    let registry = TestRegistry::start(RegistryOptions::default()).await?;
    let spec = serde_json::from_value(json!({"endpoint": registry.url(), "auth": {"ecr": {}}}))?;
    let object =
        registry_verdict::object::RegistryObject::of(registry_api::SystemRegistry::new("packs", spec));
    let endpoint = registry_probe::Endpoint::parse(&registry.url())?;
    assert_eq!(registry_verdict::validate::ecr_endpoint(&object, &endpoint), Ok(None));
    Ok(())
}
