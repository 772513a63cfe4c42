//! Pull Secrets with AWS's tokens: there while the token is good, and another before it ends.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use registry_testbed::{ControlPlaneOptions, Operator, eventually};
use serde_json::{Value, json};

use crate::{
    fake_aws::{self, Aws, Settings},
    fixtures::TestScope,
    harness::{Cluster, Installation},
    support::expires_at,
};

/// How long AWS's tokens live here: some hours in a minute.
const LIFE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn renews_ecr_token_in_pull_secret() -> Result<()> {
    let aws = Aws::start(Settings { life: LIFE, ..Settings::default() }).await?;
    let (secret, host) = (aws.good_user("AKIAPULL"), fake_aws::registry(aws.clone()).await?);
    let installation = Installation::start(ControlPlaneOptions::default()).await?;
    let options = installation.operator_options().await?.arg("--leader-election=false");
    let _operator = Operator::start(options.env("AWS_ENDPOINT_URL_ECR", aws.url())).await?;
    let cluster = installation.cluster().await?;
    let namespace = cluster.tenant_namespace("a", "a-1").await?;
    let scene = TestScope::system(&cluster);
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAPULL"), ("AWS_SECRET_ACCESS_KEY", secret.as_str())];
    let keys = scene.secret("keys", "Opaque", &keys).await?;
    let spec = json!({
        "endpoint": format!("http://{host}"),
        "auth": {"ecr": {"region": "eu-central-1", "credentials": {"secretRef": {"name": keys}}}},
        "validation": {"interval": "24h"},
        "availability": {"pullSecret": {"name": "ecr-pull"}},
    });
    let object = scene.declare("packs", spec).await?;
    object.becomes(&["CredentialsValidated=True/Validated"]).await?;
    let first = delivered(&cluster, &namespace, &host, None).await?;
    let end = expires_at(&object.view().await?.status).context("status.credentials.expiresAt")?;
    let next = delivered(&cluster, &namespace, &host, Some(&first)).await?;
    let now = fake_aws::now();
    ensure!(now < end, "the next token came at {now}, when the first had ended at {end}");
    ensure!(aws.total("GetAuthorizationToken") == 2, "{} tokens", aws.total("GetAuthorizationToken"));
    ensure!(next != first);
    Ok(())
}

/// Waits until the Secret holds a token, other than that one; returns the token.
async fn delivered(cluster: &Cluster, namespace: &str, host: &str, other: Option<&str>) -> Result<String> {
    let api: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let look = || async {
        let secret = api.get_opt("ecr-pull").await?.context("it is not there")?;
        let data = secret.data.as_ref().and_then(|data| data.get(".dockerconfigjson")).context("no data")?;
        let config: Value = serde_json::from_slice(&data.0)?;
        let entry = &config["auths"][host];
        ensure!(entry["username"] == "AWS", "no entry of AWS for {host}");
        let token = entry["password"].as_str().context("no password")?;
        ensure!(Some(token) != other, "it is the same token still");
        Ok::<_, anyhow::Error>(token.to_owned())
    };
    Ok(eventually("the pull Secret holds a token", look).await?)
}
