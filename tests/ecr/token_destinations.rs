//! Where ECR tokens are sent: from a TenantRegistry only to ECR's hosts and to hosts that an administrator
//! listed, and to no token service.

use std::sync::Arc;

use anyhow::{Result, ensure};
use registry_api::HOSTS_ANNOTATION;
use registry_testbed::{ControlPlaneOptions, Operator};
use serde_json::{Value, json};

use crate::{
    fake_aws::{Aws, Settings},
    fixtures::{
        Answer, PROMISED, ReceivedRequest, ScriptedServer, TestScope, VALIDATED, Verdict, answer,
        asks_for_password, signed_in, welcome,
    },
    harness::{Cluster, Installation},
    moment::Moment,
};

const TOKEN: &str = "GetAuthorizationToken";
const PASSWORD: &str = "HUSH-token-of-aws";
const KEPT: Verdict = Verdict::unresolved("False/NotPermitted");
const OPEN: Verdict = VALIDATED.in_the_clear();

struct EcrSetup {
    installation: Installation,
    aws: Arc<Aws>,
    keys: [(&'static str, String); 2],
    _operator: Operator,
}

async fn stage() -> Result<EcrSetup> {
    let aws = Aws::start(Settings { password: Some(PASSWORD.into()), ..Settings::default() }).await?;
    let secret = aws.good_user("AKIAVICTIM");
    let options = ControlPlaneOptions { audit: true, ..ControlPlaneOptions::default() };
    let installation = Installation::start(options).await?;
    let options = installation.operator_options().await?;
    let options = options.env("AWS_ENDPOINT_URL_ECR", aws.url()).env("AWS_ENDPOINT_URL_STS", aws.url());
    let operator = Operator::start(options).await?;
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAVICTIM".to_owned()), ("AWS_SECRET_ACCESS_KEY", secret)];
    Ok(EcrSetup { installation, aws, keys, _operator: operator })
}

impl EcrSetup {
    async fn keys(&self, scene: &TestScope<'_>) -> Result<String> {
        let keys = self.keys.each_ref().map(|(key, value)| (*key, value.as_str()));
        scene.secret("keys", "Opaque", &keys).await
    }
}

fn by_keys(endpoint: &str, keys: &str) -> Value {
    let ecr = json!({"region": "eu-central-1", "credentials": {"secretRef": {"name": keys}}});
    json!({"endpoint": endpoint, "auth": {"ecr": ecr}})
}

async fn allowed(cluster: &Cluster, patterns: &str) -> Result<()> {
    cluster.change_tenant_policy(json!({"allowedEndpoints": patterns})).await
}

fn takes_the_token(asked: &ReceivedRequest) -> Answer {
    if signed_in(asked, "AWS", PASSWORD) { welcome() } else { asks_for_password() }
}

#[tokio::test]
async fn sends_ecr_token_to_ecr_hosts_only() -> Result<()> {
    let stage = stage().await?;
    let cluster = stage.installation.cluster().await?;
    let stranger = ScriptedServer::promptly(takes_the_token).await?;
    let [system, tenant] = TestScope::both(&cluster).await?;
    let keys = stage.keys(&tenant).await?;
    allowed(&cluster, "*").await?;
    let object = tenant.declare("stranger", by_keys(&stranger.url(), &keys)).await?;
    let role = json!({"roleARN": "arn:aws:iam::123456789012:role/any", "secretRef": {"name": keys}});
    let mut by_role = by_keys(&stranger.url(), &keys);
    by_role["auth"]["ecr"] = json!({"region": "eu-central-1", "sts": role});
    let by_role = tenant.declare("by-role", by_role).await?;
    let other = stranger.host_port().replace("127.0.0.1", "elsewhere.example.org");
    for patterns in ["*", "*\nelsewhere.example.org", "*\n127.0.0.1:1", &format!("*\n{other}"), "*\n*.0.0.1"]
    {
        allowed(&cluster, patterns).await?;
        for (object, name) in [(&object, "keys"), (&by_role, "a role")] {
            let value = format!("{name}, {patterns:?}");
            object.request(&value).await?;
            object.has_handled(&value).await?;
            let view = object.shows(&KEPT).await?;
            let message = view.message("ResolvedRefs");
            ensure!(message.contains("tenantPolicy.allowedEndpoints"), "{message}");
        }
    }
    ensure!(stage.aws.calls().is_empty(), "AWS was asked: {:?}", stage.aws.calls());
    ensure!(stranger.requests().is_empty(), "asked: {:?}", stranger.requests());

    // The administrator's setting applies only while it is set.
    let moment = Moment::on(&stage.installation)?;
    allowed(&cluster, &format!("*\n{}", stranger.host_port())).await?;
    object.shows_within(PROMISED, &moment, &OPEN).await?;
    let moment = Moment::on(&stage.installation)?;
    allowed(&cluster, "*").await?;
    object.shows_within(PROMISED, &moment, &KEPT).await?;

    // What administrators write in system scope is their word already.
    let keys = stage.keys(&system).await?;
    system.declare("packs", by_keys(&stranger.url(), &keys)).await?.shows(&OPEN).await?;
    Ok(())
}

#[tokio::test]
async fn uses_keys_for_their_listed_hosts_only() -> Result<()> {
    let stage = stage().await?;
    let cluster = stage.installation.cluster().await?;
    let registry = ScriptedServer::promptly(takes_the_token).await?;
    for scene in TestScope::both(&cluster).await? {
        let keys = stage.keys(&scene).await?;
        scene.annotate(&keys, json!({HOSTS_ANNOTATION: "*.dkr.ecr.eu-central-1.amazonaws.com"})).await?;
        let calls = stage.aws.total(TOKEN);
        let asked = registry.requests().len();
        let object = scene.declare("packs", by_keys(&registry.url(), &keys)).await?;
        object.shows(&Verdict::unresolved("False/SecretInvalid")).await?;
        ensure!(stage.aws.total(TOKEN) == calls && registry.requests().len() == asked, "something was sent");
        let moment = Moment::on(&stage.installation)?;
        scene.annotate(&keys, json!({HOSTS_ANNOTATION: "127.0.0.1"})).await?;
        object.shows_within(PROMISED, &moment, &OPEN).await?;

        let wrong =
            [("AWS_ACCESS_KEY_ID", "AKIAVICTIM"), ("AWS_SECRET_ACCESS_KEY", stage.keys[1].1.as_str())];
        for kind in ["kubernetes.io/basic-auth", "registry.spectrocloud.com/token", "example.com/database"] {
            let name = format!("keys-{}", kind.replace(['/', '.'], "-"));
            let mut entries = wrong.to_vec();
            entries.extend([("username", "x"), ("password", "x")]);
            let keys = scene.secret(&name, kind, &entries).await?;
            let object = scene.declare(&name, by_keys(&registry.url(), &keys)).await?;
            let view = object.shows(&Verdict::unresolved("False/SecretInvalid")).await?;
            let message = view.message("ResolvedRefs");
            ensure!(message.contains("--from-literal=AWS_ACCESS_KEY_ID="), "{message}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn sends_no_tenant_ecr_token_to_token_service() -> Result<()> {
    let stage = stage().await?;
    let cluster = stage.installation.cluster().await?;
    let service = ScriptedServer::promptly(|_| answer(200, &[], r#"{"token":"anything"}"#)).await?;
    let realm = format!("Bearer realm=\"{}/token\",service=\"x\"", service.url());
    let registry = ScriptedServer::promptly(move |asked| match asked.authorization() {
        Some(header) if header.starts_with("Bearer") => welcome(),
        _ => {
            let headers =
                [("Docker-Distribution-Api-Version", "registry/2.0"), ("WWW-Authenticate", &*realm)];
            answer(401, &headers, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
        }
    })
    .await?;
    let scene = TestScope::tenant(&cluster).await?;
    let keys = stage.keys(&scene).await?;
    allowed(&cluster, &format!("*\n{}", registry.host_port())).await?;
    let object = scene.declare("bearer", by_keys(&registry.url(), &keys)).await?;
    object.shows(&Verdict::refused("False/UntrustedTokenService").in_the_clear()).await?;
    let given =
        service.requests().iter().any(|asked| asked.authorization().is_some() || asked.method != "GET");
    ensure!(!given, "asked: {:?}", service.requests());
    Ok(())
}
