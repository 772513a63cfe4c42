//! Back-off after a rejected password, across objects, requests and restarts.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use registry_testbed::{Operator, TestCa, eventually};
use serde_json::{Value, json};

use crate::{
    exclusive_cluster,
    fixtures::{
        Declared, ScriptedServer, TestScope, VALIDATED, Verdict, asks_for_password, attempts, protected,
        signed_in, spec, welcome,
    },
    harness,
};

const REJECTED: Verdict = Verdict::refused("False/Rejected");
/// What a host may reject of one tenant within a minute, and of the same credentials.
const MOST: usize = 10;
const MOST_OF_THE_SAME: usize = 3;

/// A registry that accepts only demo with the password "right".
async fn registry() -> Result<ScriptedServer> {
    ScriptedServer::promptly(
        |asked| if signed_in(asked, "demo", "right") { welcome() } else { asks_for_password() },
    )
    .await
}

fn passwords(registry: &ScriptedServer) -> usize {
    registry.requests().iter().filter(|asked| asked.authorization().is_some()).count()
}

fn with(registry: &ScriptedServer, login: &str) -> Value {
    json!({"endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": login}}}})
}

async fn says(object: &Declared, words: &'static str) -> Result<()> {
    let look = || async {
        let view = object.view().await?;
        let message = view.message("CredentialsValidated").to_owned();
        ensure!(message.contains(words), "{message}");
        Ok(())
    };
    Ok(eventually(format!("{} says {words:?}", object.name()), look).await?)
}

#[tokio::test]
async fn limits_requested_retries_to_three_a_minute() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (registry, scene) = (registry().await?, TestScope::tenant(&cluster).await?);
    let login = scene.login("login", "demo", "wrong").await?;
    let object = scene.declare("packs", with(&registry, &login)).await?;
    object.shows(&REJECTED.in_the_clear()).await?;
    for request in 0..40 {
        object.request(&format!("request {request}")).await?;
    }
    says(&object, "limit: 3 attempts a minute").await?;
    let view = object.shows(&REJECTED.in_the_clear()).await?;
    assert_ne!(view.status.last_handled_reconcile_at.as_deref(), Some("request 39"), "not answered yet");
    let sent = passwords(&registry);
    assert!((1..=MOST_OF_THE_SAME).contains(&sent), "{sent} passwords for 40 requests");
    Ok(())
}

#[tokio::test]
async fn forty_registries_try_a_wrong_secret_once() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (registry, scene) = (registry().await?, TestScope::tenant(&cluster).await?);
    let login = scene.login("login", "demo", "wrong").await?;
    let mut objects = Vec::new();
    for number in 0..40 {
        objects.push(scene.declare(&format!("packs-{number}"), with(&registry, &login)).await?);
    }
    for object in &objects {
        object.shows(&REJECTED.in_the_clear()).await?;
    }
    // A registry that is deleted and made again is another object with the same password.
    for object in &objects[..5] {
        if let Declared::Tenant(subject) = object {
            subject.api().delete(object.name(), &DeleteParams::default()).await?;
        }
        object.apply(&with(&registry, &login)).await?;
        object.shows(&REJECTED.in_the_clear()).await?;
    }
    assert_eq!(passwords(&registry), 1);
    // Another Secret with the same contents is no other password.
    let copy = scene.login("copy", "demo", "wrong").await?;
    objects[0].apply(&with(&registry, &copy)).await?;
    scene.login("login", "demo", "right").await?;
    for object in &objects[1..] {
        object.shows(&VALIDATED.in_the_clear()).await?;
    }
    let wrong = registry
        .requests()
        .iter()
        .filter(|asked| asked.authorization().is_some() && !signed_in(asked, "demo", "right"))
        .count();
    assert!(wrong <= MOST_OF_THE_SAME, "{wrong} wrong passwords");
    Ok(())
}

#[tokio::test]
async fn limits_password_guesses_to_ten_a_minute() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (registry, scene) = (registry().await?, TestScope::tenant(&cluster).await?);
    let login = scene.login("login", "demo", "word").await?;
    let object = scene.declare("packs", with(&registry, &login)).await?;
    object.shows(&REJECTED.in_the_clear()).await?;
    for word in 0..30 {
        let before = passwords(&registry);
        scene.login("login", "demo", &format!("word {word}")).await?;
        // Each is given the time to be tried, or to be told that it waits.
        let look = || async {
            let waits = object.view().await?.condition("CredentialsValidated").reason == "Throttled";
            ensure!(waits || passwords(&registry) > before, "neither tried nor held back");
            Ok(())
        };
        eventually(format!("word {word} is tried or waits"), look).await?;
    }
    object.becomes(&["CredentialsValidated=Unknown/Throttled", "Ready=False/Throttled"]).await?;
    says(&object, "attempts within a minute; retrying later").await?;
    let sent = passwords(&registry);
    assert!((MOST - 1..=MOST).contains(&sent), "{sent} passwords");
    Ok(())
}

/// Writes nothing but an annotation, as tools that keep Secrets do again and again.
async fn touch(
    scene: &TestScope<'_>,
    cluster: &harness::Cluster,
    login: &str,
    map: Option<&str>,
) -> Result<()> {
    for round in 0..5 {
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": {"example.com/synced": round.to_string()}}}));
        let secrets: Api<Secret> = Api::namespaced(cluster.client(), scene.namespace());
        secrets.patch(login, &PatchParams::default(), &patch).await?;
        if let Some(map) = map {
            let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), scene.namespace());
            maps.patch(map, &PatchParams::default(), &patch).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn metadata_change_triggers_no_validation() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    for (password, verdict) in [("wrong", REJECTED), ("right", VALIDATED)] {
        let (registry, scene) = (protected(&ca, "demo", "right").await?, TestScope::tenant(&cluster).await?);
        let login = scene.login(password, "demo", password).await?;
        let map = scene.config_map(password, &[("ca.crt", ca.certificate_pem())]).await?;
        let mut spec = spec(&registry, &ca, &login);
        spec["tls"]["ca"] = json!({"configMapRef": {"name": map}});
        let object = scene.declare(password, spec).await?;
        object.shows(&verdict).await?;
        let before = attempts(&registry);
        touch(&scene, &cluster, &login, Some(&map)).await?;
        object.request("now").await?;
        object.has_handled("now").await?;
        assert_eq!(attempts(&registry), 2 * before, "{password}: the first, and the requested one");
    }
    Ok(())
}

#[tokio::test]
async fn restart_retries_only_changed_passwords() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let (registry, cluster) = (registry().await?, &solo.cluster);
    let scene = TestScope::tenant(cluster).await?;
    let (same, changed) =
        (scene.login("same", "demo", "same").await?, scene.login("changed", "demo", "old").await?);
    let before = stored(cluster).await?;
    let operator = Operator::start(solo.alone().await?).await?;
    let first = scene.declare("same", with(&registry, &same)).await?;
    let second = scene.declare("changed", with(&registry, &changed)).await?;
    for object in [&first, &second] {
        object.shows(&REJECTED.in_the_clear()).await?;
    }
    assert_eq!(passwords(&registry), 2);
    two_more_are_stored(cluster, before).await?;
    drop(operator);
    touch(&scene, cluster, &same, None).await?;
    scene.login("changed", "demo", "right").await?;
    let before = registry.requests().len();
    let _operator = Operator::start(solo.alone().await?).await?;
    second.shows(&VALIDATED.in_the_clear()).await?;
    let look = || async {
        let anonymous =
            registry.requests()[before..].iter().filter(|asked| asked.authorization().is_none()).count();
        ensure!(anonymous >= 2, "{anonymous} registries were asked");
        Ok(())
    };
    eventually("both were looked at after the restart", look).await?;
    // One more with the same password has its verdict when the first has.
    scene.declare("third", with(&registry, &same)).await?.shows(&REJECTED.in_the_clear()).await?;
    assert_eq!(passwords(&registry), 3, "two wrong ones before, and the right one after");
    Ok(())
}

/// Waits until both rejections are in the operator's Secret: its key, and two records.
/// Bytes of rejections that are stored, those of other tests included.
async fn stored(cluster: &harness::Cluster) -> Result<usize> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), harness::SYSTEM_NAMESPACE);
    let data = secrets.get_opt("registry-operator-rejections").await?.and_then(|secret| secret.data);
    Ok(data.unwrap_or_default().get("rejections").map_or(0, |records| records.0.len()))
}

/// Waits until two more are stored than there were.
async fn two_more_are_stored(cluster: &harness::Cluster, before: usize) -> Result<()> {
    let look = || async {
        let length = stored(cluster).await?;
        ensure!(length >= before + 2 * 25, "{length} bytes, {before} before");
        Ok(())
    };
    Ok(eventually("the rejections are stored", look).await?)
}
