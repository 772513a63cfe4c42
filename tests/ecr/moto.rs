//! The real SDK against moto's ECR, STS and IAM: another's idea of AWS than ours.
//!
//! moto gives tokens whose end is in 2015, knows no external id, and looks at signatures only once it is told to.

use anyhow::{Context as _, Result};
use http::{Method, header};
use registry_operator::ecr::Urgency;
use registry_testbed::{Moto, Registry, RegistryAuth, RegistryOptions, http_client::Call};
use serde_json::json;

use crate::support::{check, expires_at, prober, tokens, validate, verdict};

const ACCOUNT: &str = "123456789012";

/// moto, with a user who may ask for tokens and assume a role; checks credentials from here on.
struct Emulator {
    moto: Moto,
    id: String,
    secret: String,
}

impl Emulator {
    async fn start() -> Result<Self> {
        let moto = Moto::start().await?;
        let iam = |form: &'static str| iam(&moto, form);
        iam("Action=CreateUser&UserName=operator").await?;
        let key = iam("Action=CreateAccessKey&UserName=operator").await?;
        let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A\
                      %5B%22ecr%3A%2A%22%2C%22sts%3A%2A%22%5D%2C%22Resource%22%3A%22%2A%22%7D%7D";
        let put = format!("Action=PutUserPolicy&UserName=operator&PolicyName=p&PolicyDocument={policy}");
        send(&moto, &put).await?;
        let role = format!("Action=CreateRole&RoleName=registry&AssumeRolePolicyDocument={policy}");
        send(&moto, &role).await?;
        let put = format!("Action=PutRolePolicy&RoleName=registry&PolicyName=p&PolicyDocument={policy}");
        send(&moto, &put).await?;
        let url = format!("{}/moto-api/reset-auth", moto.url());
        Call::new(Method::POST, url).body("0").send().await?;
        Ok(Self { id: element(&key, "AccessKeyId")?, secret: element(&key, "SecretAccessKey")?, moto })
    }

    fn keys(&self) -> [(&str, &str); 2] {
        [("AWS_ACCESS_KEY_ID", &self.id), ("AWS_SECRET_ACCESS_KEY", &self.secret)]
    }
}

async fn iam(moto: &Moto, form: &str) -> Result<String> {
    send(moto, form).await
}

/// Unsigned: credentials are not checked yet, and the scope alone says which API is meant.
async fn send(moto: &Moto, form: &str) -> Result<String> {
    let scope =
        "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x";
    let call = Call::new(Method::POST, format!("{}/", moto.url()))
        .header(header::AUTHORIZATION, scope)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(format!("{form}&Version=2010-05-08"));
    let answer = call.send().await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    anyhow::ensure!(answer.status().is_success(), "{form}: {} {text}", answer.status());
    Ok(text)
}

fn element(xml: &str, name: &str) -> Result<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>")).with_context(|| format!("no {name} in {xml}"))?;
    Ok(rest.split('<').next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn keys_and_a_role_open_a_registry_with_the_token_that_moto_gives() -> Result<()> {
    let emulator = Emulator::start().await?;
    let auth = RegistryAuth::htpasswd("AWS", format!("{ACCOUNT}-auth-token"));
    let registry = Registry::start(RegistryOptions { auth, ..Default::default() }).await?;
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
        [("AWS_ACCESS_KEY_ID", emulator.id.as_str()), ("AWS_SECRET_ACCESS_KEY", "guess")],
        [("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN"), ("AWS_SECRET_ACCESS_KEY", &emulator.secret)],
    ] {
        for ecr in [&keys, &sts] {
            let status = validate(&prober, &tokens, &check(&host, ecr, &wrong)?, Urgency::Due).await;
            assert_eq!(verdict(&status), "False/Rejected", "{status:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_public_registry_is_not_signed_in_to() -> Result<()> {
    let registry = Registry::start(RegistryOptions::default()).await?;
    let spec = serde_json::from_value(json!({"endpoint": registry.url(), "auth": {"ecr": {}}}))?;
    let endpoint = registry_probe::Endpoint::parse(&registry.url())?;
    assert_eq!(registry_operator::validate::place(&spec, &endpoint), Ok(None));
    Ok(())
}
