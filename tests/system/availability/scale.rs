//! The cost of a thousand namespaces: one write each for a change, and none otherwise.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::PostParams};
use registry_api::TENANT_LABEL;
use registry_testbed::{AuditEvent, AuditMark, Operator, eventually};
use serde_json::{Value, json};

use super::secrets::{config_for, counts, delivered};
use crate::{
    exclusive_cluster::{self, ExclusiveCluster},
    fixtures::{ScriptedServer, asks_for_password, signed_in, tell, welcome},
    harness::{Cluster, OPERATOR_USER, SYSTEM_NAMESPACE},
    objects::{apply, login, samples, system_registry, validate_now, write_lines, writes_since},
};

const TENANTS: usize = 100;
const NAMESPACES: usize = 1000;
/// How long nothing may happen, which is the point of the test.
const SILENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn thousand_namespaces_cost_one_write_per_change() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let password = Arc::new(Mutex::new("first".to_owned()));
    let registry = registry_with(password.clone()).await?;
    let namespaces = create_namespaces(cluster).await?;
    let name = cluster.unique("packs");
    apply(cluster, &login(SYSTEM_NAMESPACE, &name, "first")).await?;
    let tenants: Vec<String> = (0..TENANTS).map(|tenant| tenant_name(cluster, tenant)).collect();
    let spec = json!({
        "endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": name}}},
        "availability": {"tenants": tenants, "pullSecret": {"name": "pull"}},
    });

    let (mark, start) = (solo.mark()?, Instant::now());
    apply(cluster, &system_registry(&name, spec)).await?;
    let object = cluster.system(&name);
    are_delivered(&operator).await?;
    tell(&format!("first delivery to {NAMESPACES} namespaces: {:?}", start.elapsed()));
    counts(&object, (100, 1000, Some(1000))).await?;
    are_written(&solo, &mark).await?;
    let first = of_secrets(&solo, &mark)?;
    let other = first.iter().filter(|write| write.verb != "create" || !write.succeeded()).cloned();
    let other: Vec<AuditEvent> = other.collect();
    assert!(other.is_empty(), "{:#?}", write_lines(&other));
    assert_eq!(by_namespace(&first).len(), NAMESPACES);
    assert_eq!(first.len(), NAMESPACES, "one write each: {:#?}", repeated(&first));
    // Counts are reported when all work is done, and now and then before.
    let (of_status, took) = (of_status(&solo, &mark)?, start.elapsed());
    let most = 8.max(took.as_secs());
    assert!(of_status <= most, "{of_status} writes of the registry's status in {took:?}");
    let rss = operator.rss_bytes().await? / 1024 / 1024;
    tell(&format!(
        "the operator takes {rss} MiB with a watch on each of {NAMESPACES} namespaces (unoptimised)"
    ));

    let mark = solo.mark()?;
    validate_now(&object, "again").await?;
    tokio::time::sleep(SILENCE).await;
    let none = of_secrets(&solo, &mark)?;
    assert!(none.is_empty(), "{:#?}", write_lines(&none));

    let (mark, start) = (solo.mark()?, Instant::now());
    operator.kill().await;
    operator.restart().await?;
    are_delivered(&operator).await?;
    tell(&format!("after a restart all are known again: {:?}", start.elapsed()));
    validate_now(&object, "after the restart").await?;
    tokio::time::sleep(SILENCE).await;
    let all = writes_since(solo.installation, &mark, OPERATOR_USER)?;
    let none: Vec<AuditEvent> =
        all.into_iter().filter(|write| write.resource != "systemregistries").collect();
    assert!(none.is_empty(), "{:#?}", write_lines(&none));

    let (mark, start) = (solo.mark()?, Instant::now());
    "second".clone_into(&mut password.lock().unwrap_or_else(PoisonError::into_inner));
    apply(cluster, &login(SYSTEM_NAMESPACE, &name, "second")).await?;
    let says = config_for(registry.host_port(), "second");
    are_written(&solo, &mark).await?;
    tell(&format!("a rotated password is in {NAMESPACES} namespaces: {:?}", start.elapsed()));
    for namespace in namespaces.iter().step_by(100) {
        delivered(cluster, namespace, "pull", &says).await?;
    }
    counts(&object, (100, 1000, Some(1000))).await?;
    let rotated = of_secrets(&solo, &mark)?;
    assert_eq!(rotated.len(), NAMESPACES, "one write each: {:#?}", repeated(&rotated));
    assert_eq!(by_namespace(&rotated).len(), NAMESPACES);
    Ok(())
}

/// A registry that accepts `demo` with the current password.
async fn registry_with(password: Arc<Mutex<String>>) -> Result<ScriptedServer> {
    ScriptedServer::promptly(move |asked| {
        let password = password.lock().unwrap_or_else(PoisonError::into_inner);
        if signed_in(asked, "demo", &password) { welcome() } else { asks_for_password() }
    })
    .await
}

fn tenant_name(cluster: &Cluster, tenant: usize) -> String {
    cluster.unique(&format!("tenant-{tenant}"))
}

async fn create_namespaces(cluster: &Cluster) -> Result<Vec<String>> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let create = |number: usize| {
        let (api, name) = (api.clone(), cluster.unique(&format!("ns-{number}")));
        let labels = json!({TENANT_LABEL: tenant_name(cluster, number % TENANTS)});
        async move {
            let namespace: Value = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
            });
            api.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
            Ok::<_, anyhow::Error>(name)
        }
    };
    futures::stream::iter((0..NAMESPACES).map(create)).buffer_unordered(16).try_collect().await
}

/// Waits until the status says that all Secrets are delivered.
async fn are_delivered(operator: &Operator) -> Result<()> {
    let look = || async {
        let there: f64 = samples(&operator.metrics().await?, "registry_operator_pull_secrets").values().sum();
        ensure!(there >= 1000.0, "{there} are");
        Ok(())
    };
    Ok(eventually("all pull Secrets are there", look).await?)
}

/// Waits until there was a write for each namespace.
async fn are_written(solo: &ExclusiveCluster, mark: &AuditMark) -> Result<()> {
    let are_all = |writes: &[AuditEvent]| match by_namespace(writes).len() {
        NAMESPACES => Ok(()),
        written => Err(format!("{written} are")),
    };
    let audit = solo.installation.control_plane().audit()?;
    audit.until("all pull Secrets are written", mark, is_of_secret, are_all).await?;
    Ok(())
}

fn of_secrets(solo: &ExclusiveCluster, mark: &AuditMark) -> Result<Vec<AuditEvent>> {
    let mut writes = writes_since(solo.installation, mark, OPERATOR_USER)?;
    writes.retain(is_of_secret);
    Ok(writes)
}

/// Whether the operator wrote a Secret. An API server that has too much to do refuses (429): nothing is written, and it is asked again
/// later.
fn is_of_secret(event: &AuditEvent) -> bool {
    event.is_write_of(OPERATOR_USER) && event.resource == "secrets" && event.code != 429
}

fn of_status(solo: &ExclusiveCluster, mark: &AuditMark) -> Result<u64> {
    let writes = writes_since(solo.installation, mark, OPERATOR_USER)?;
    Ok(writes.iter().filter(|write| write.subresource == "status").count() as u64)
}

fn by_namespace(writes: &[AuditEvent]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for write in writes {
        *counts.entry(write.namespace.as_str()).or_default() += 1;
    }
    counts
}

fn repeated(writes: &[AuditEvent]) -> Vec<(&str, usize)> {
    by_namespace(writes).into_iter().filter(|(_, count)| *count > 1).collect()
}
