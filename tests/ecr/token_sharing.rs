//! How often AWS is called: tokens are shared within an identity and never across identities; throttling causes back-off.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use registry_api::RegistryStatus;
use registry_probe::Prober;
use registry_testbed::{ControlPlaneOptions, Operator, eventually};
use registry_verdict::ecr::{EcrTokens, Urgency};
use serde_json::json;

use crate::{
    fake_aws::{self, Aws, Settings, UserDefect},
    fixtures::TestScope,
    harness::Installation,
    support::{Check, check, check_spec, expires_at, prober, tokens, validate, verdict},
};

const TOKEN: &str = "GetAuthorizationToken";
/// Validations at the same time.
const AT_ONCE: usize = 32;

fn keys(host: &str, id: &str, secret: &str) -> Result<Check> {
    let ecr = json!({"region": "eu-central-1", "credentials": {"secretRef": {"name": "keys"}}});
    check(host, &ecr, &[("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)])
}

/// Validates them, many at the same time; but not so many that those who wait for a slow machine run out of time.
async fn statuses(
    prober: &Prober,
    tokens: &Arc<EcrTokens>,
    checks: &[Check],
    urgency: Urgency,
) -> Vec<RegistryStatus> {
    let validations = checks.iter().map(|check| validate(prober, tokens, check, urgency));
    stream::iter(validations.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
}

#[tokio::test]
async fn thousand_registries_share_one_token() -> Result<()> {
    let aws = Aws::start(Settings::default()).await?;
    let secret = aws.good_user("AKIAONE");
    let host = fake_aws::registry(aws.clone()).await?;
    let (prober, tokens) = (prober()?, tokens(aws.url())?);
    let checks = (0..1000).map(|_| keys(&host, "AKIAONE", &secret)).collect::<Result<Vec<_>>>()?;
    for _ in 0..2 {
        let all = statuses(&prober, &tokens, &checks, Urgency::Changed).await;
        assert!(all.iter().all(|status| verdict(status) == "True/Validated"));
    }
    assert_eq!(aws.total(TOKEN), 1, "one flight for all, and the token is kept");
    Ok(())
}

#[tokio::test]
async fn thousand_operator_registries_share_one_token() -> Result<()> {
    let aws = Aws::start(Settings::default()).await?;
    let secret = aws.good_user("AKIAONE");
    let host = fake_aws::registry(aws.clone()).await?;
    let installation = Installation::start(ControlPlaneOptions::default()).await?;
    let cluster = installation.cluster().await?;
    let scene = TestScope::system(&cluster);
    let entries = [("AWS_ACCESS_KEY_ID", "AKIAONE"), ("AWS_SECRET_ACCESS_KEY", secret.as_str())];
    let keys = scene.secret("keys", "Opaque", &entries).await?;
    let ecr = json!({"region": "eu-central-1", "credentials": {"secretRef": {"name": keys}}});
    let spec = json!({"endpoint": format!("http://{host}"), "auth": {"ecr": ecr}});
    let declared = stream::iter(0..1000)
        .map(|number| {
            let (scene, spec) = (&scene, spec.clone());
            async move { scene.declare(&format!("packs-{number}"), spec).await }
        })
        .buffer_unordered(16);
    let objects: Vec<_> = declared.try_collect().await?;
    let options = installation.operator_options().await?.env("AWS_ENDPOINT_URL_ECR", aws.url());
    let _operator = Operator::start(options).await?;
    for object in &objects {
        object.becomes(&["CredentialsValidated=True/Validated"]).await?;
    }
    assert_eq!(aws.total(TOKEN), 1);
    Ok(())
}

#[tokio::test]
async fn hundred_identities_get_separate_tokens() -> Result<()> {
    let aws = Aws::start(Settings::default()).await?;
    let host = fake_aws::registry(aws.clone()).await?;
    let (prober, tokens) = (prober()?, tokens(aws.url())?);
    let mut checks = Vec::new();
    for number in 0..100 {
        let id = format!("AKIA{number:04}");
        let secret = aws.good_user(&id);
        checks.push(keys(&host, &id, &secret)?);
        // The same key with another secret is another identity, and gets nothing of the first one's.
        checks.push(keys(&host, &id, "guessed")?);
    }
    let all = statuses(&prober, &tokens, &checks, Urgency::Changed).await;
    for (index, status) in all.iter().enumerate() {
        let expected = if index % 2 == 0 { "True/Validated" } else { "False/Rejected" };
        assert_eq!(verdict(status), expected, "identity {index}");
    }
    for number in 0..100 {
        assert_eq!(aws.count(TOKEN, &format!("AKIA{number:04}")), 2, "one call for each of the two secrets");
    }
    Ok(())
}

#[tokio::test]
async fn tenants_with_the_same_keys_share_nothing() -> Result<()> {
    let aws = Aws::start(Settings::default()).await?;
    let secret = aws.good_user("AKIAONE");
    let tokens = tokens(aws.url())?;
    let mut login = keys("registry.example.com", "AKIAONE", &secret)?.login;
    for tenant in [None, Some("a".into()), Some("b".into()), Some("a".into())] {
        login.tenant = tenant;
        tokens.sign_in(&login, Urgency::Changed).await.unwrap();
    }
    assert_eq!(aws.total(TOKEN), 3);
    Ok(())
}

#[tokio::test]
async fn backs_off_from_throttling_aws() -> Result<()> {
    let aws = Aws::start(Settings::default()).await?;
    let secret = aws.good_user("AKIAONE");
    aws.trouble("AKIAONE", UserDefect::Throttled);
    let host = fake_aws::registry(aws.clone()).await?;
    let (prober, tokens) = (prober()?, tokens(aws.url())?);
    let checks = (0..200).map(|_| keys(&host, "AKIAONE", &secret)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    for _ in 0..5 {
        let all = statuses(&prober, &tokens, &checks, Urgency::Changed).await;
        assert!(all.iter().all(|status| verdict(status) == "Unknown/Throttled"));
    }
    let (calls, took) = (aws.total(TOKEN), start.elapsed());
    // One, two, four seconds and more lie between them, however long a thousand validations take here.
    let most = 3.max((took.as_secs() + 1).ilog2() as usize + 1);
    assert!(calls <= most, "{calls} calls for 1,000 validations in {took:?} while AWS throttles");
    aws.trouble("AKIAONE", UserDefect::None);
    eventually("AWS is asked again", || async {
        let all = statuses(&prober, &tokens, &checks, Urgency::Due).await;
        let left = all.iter().filter(|status| verdict(status) != "True/Validated").count();
        if left == 0 { Ok(()) } else { Err(format!("{left} are not validated")) }
    })
    .await?;
    assert!(aws.total(TOKEN) <= calls + 2, "{} calls", aws.total(TOKEN));
    Ok(())
}

#[tokio::test]
async fn refetches_early_refused_token_once() -> Result<()> {
    let aws = Aws::start(Settings::default()).await?;
    let secret = aws.good_user("AKIAONE");
    let host = fake_aws::registry(aws.clone()).await?;
    let (prober, tokens) = (prober()?, tokens(aws.url())?);
    let check = keys(&host, "AKIAONE", &secret)?;
    assert_eq!(verdict(&validate(&prober, &tokens, &check, Urgency::Due).await), "True/Validated");
    aws.withdraw_tokens();
    assert_eq!(verdict(&validate(&prober, &tokens, &check, Urgency::Due).await), "True/Validated");
    assert_eq!(aws.total(TOKEN), 2);
    for _ in 0..5 {
        aws.withdraw_tokens();
        let status = validate(&prober, &tokens, &check, Urgency::Due).await;
        assert_eq!(verdict(&status), "False/Forbidden");
    }
    assert_eq!(aws.total(TOKEN), 2, "another token was not better a moment ago");
    Ok(())
}

#[tokio::test]
async fn renews_token_before_expiry() -> Result<()> {
    // It is renewed when three quarters and up to a tenth of its life are over: the rest is time enough on a slow machine.
    let life = Duration::from_secs(40);
    let aws = Aws::start(Settings { life, ..Settings::default() }).await?;
    let secret = aws.good_user("AKIAONE");
    let host = fake_aws::registry(aws.clone()).await?;
    let (prober, tokens) = (prober()?, tokens(aws.url())?);
    let check = keys(&host, "AKIAONE", &secret)?;
    let first = expires_at(&validate(&prober, &tokens, &check, Urgency::Due).await);
    let renewed = eventually("the token is another", || async {
        let status = validate(&prober, &tokens, &check, Urgency::Due).await;
        assert_eq!(verdict(&status), "True/Validated");
        if expires_at(&status) == first { Err("the first") } else { Ok(fake_aws::now()) }
    })
    .await?;
    assert!(Some(renewed) < first, "{renewed} is not before {first:?}");
    assert_eq!(aws.total(TOKEN), 2);
    Ok(())
}

#[tokio::test]
async fn keeps_using_token_while_aws_is_down() -> Result<()> {
    let aws = Aws::start(Settings { life: Duration::from_mins(1), ..Settings::default() }).await?;
    let secret = aws.good_user("AKIAONE");
    let host = fake_aws::registry(aws.clone()).await?;
    let (prober, tokens) = (prober()?, tokens(aws.url())?);
    let check = keys(&host, "AKIAONE", &secret)?;
    validate(&prober, &tokens, &check, Urgency::Due).await;
    aws.trouble("AKIAONE", UserDefect::Broken);
    eventually("a renewal is tried", || async {
        let status = validate(&prober, &tokens, &check, Urgency::Due).await;
        assert_eq!(verdict(&status), "True/Validated");
        if aws.total(TOKEN) > 1 { Ok(()) } else { Err("not yet") }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn reads_a_repository_that_ecr_lists() -> Result<()> {
    let aws = Aws::start(Settings::default()).await?;
    let secret = aws.good_user("AKIAONE");
    for name in ["other/thing", "team/packsize/no", "team/packs/hello"] {
        aws.repository(name);
    }
    let host = fake_aws::registry(aws.clone()).await?;
    let (prober, tokens) = (prober()?, tokens(aws.url())?);
    let ecr = json!({"region": "eu-central-1", "credentials": {"secretRef": {"name": "keys"}}});
    let spec =
        json!({"endpoint": format!("http://{host}"), "baseContentPath": "team/packs", "auth": {"ecr": ecr}});
    let check = check_spec(spec, &[("AWS_ACCESS_KEY_ID", "AKIAONE"), ("AWS_SECRET_ACCESS_KEY", &secret)])?;
    for _ in 0..3 {
        let status = validate(&prober, &tokens, &check, Urgency::Due).await;
        let path = status.condition(registry_api::ConditionType::ContentPathAccessible).unwrap();
        assert_eq!((path.status.as_str(), path.reason.as_str()), ("True", "Accessible"), "{}", path.message);
    }
    assert_eq!(aws.total("DescribeRepositories"), 1, "the list is kept");
    Ok(())
}
