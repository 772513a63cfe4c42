//! Faults of the API server: a hanging request, a cut connection, a namespace that stays in deletion; and
//! limits of the operating system.

use std::{
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, ResourceQuota},
    rbac::v1::RoleBinding,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use registry_testbed::{AuditEvent, Operator, eventually, http_client::Call};
use serde_json::json;

use crate::{
    exclusive_cluster::{self, LEASE},
    faulty_connection::FaultyConnection,
    fixtures::label_as_tenant,
    harness::{self, OPERATOR, OPERATOR_USER, SERVICE_ACCOUNT, SYSTEM_NAMESPACE},
    moment::Moment,
    objects::{DOWN, Protected, apply, guarded, login, samples, tenant_registry},
};

/// Longer than the term of the leadership.
const HELD: Duration = Duration::from_secs(12);
/// Thirty seconds without an answer, and one for an answer that was on its way when the connection was cut.
const UNREADY: Duration = Duration::from_secs(31);
/// From the end of a fault until the desired state is reached (docs/reliability.md#what-is-promised).
const RECOVERED: Duration = Duration::from_mins(1);
/// The deadline for deletion, whatever else fails.
const DELETED: Duration = Duration::from_secs(30);

async fn leads(operator: &Operator) -> Result<()> {
    let leader = samples(&operator.metrics().await?, "registry_operator_leader");
    ensure!(leader.values().any(|value| *value > 0.0), "it stands by");
    Ok(())
}

async fn status(operator: &Operator, path: &str) -> Result<u16> {
    Ok(Call::get(format!("{}{path}", operator.url())).send().await?.status().as_u16())
}

/// Waits until /readyz answers with that status, and checks that no question later than `promise` from now is answered otherwise.
/// Returns the time until the answer.
async fn readiness_becomes(operator: &Operator, expected: u16, promise: Duration) -> Result<Duration> {
    let since = Instant::now();
    loop {
        let asked = since.elapsed();
        let answered = status(operator, "/readyz").await?;
        if answered == expected {
            return Ok(since.elapsed());
        }
        ensure!(asked <= promise, "/readyz answers {answered} after {asked:?}");
        tokio::time::sleep(Duration::from_millis(20)).await; // between two looks
    }
}

#[tokio::test]
async fn keeps_leadership_when_lease_request_hangs() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let between = FaultyConnection::start(solo.installation).await?;
    let operator = Operator::start(between.operator_options(&solo).await?).await?;
    eventually("it leads", || leads(&operator)).await?;
    between.hold_next("/leases/", HELD);
    let held = || async {
        ensure!(between.has_held(), "no request came");
        Ok(())
    };
    eventually("a request is held", held).await?;
    let leases: Api<Lease> = Api::namespaced(solo.cluster.client(), SYSTEM_NAMESPACE);
    for _ in 0..HELD.as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await; // it must go on leading
        leads(&operator).await?;
    }
    let lease = leases.get(LEASE).await?.spec.context("spec")?;
    assert_eq!(lease.lease_transitions, Some(1), "it never changed hands");
    let log = operator.log();
    assert!(log.contains("failed to renew the Lease, retrying"), "{log}");
    Ok(())
}

#[tokio::test]
async fn not_ready_after_thirty_seconds_without_api() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let between = FaultyConnection::start(solo.installation).await?;
    let operator = Operator::start(between.operator_options(&solo).await?).await?;
    between.cut(true);
    let took = readiness_becomes(&operator, 503, UNREADY).await?;
    ensure!(took > Duration::from_secs(25), "it was patient for {took:?} only");
    assert_eq!(status(&operator, "/healthz").await?, 200, "its event loop turns all the same");
    between.cut(false);
    readiness_becomes(&operator, 200, RECOVERED).await?;
    assert_eq!(operator.exited().await?, None);
    Ok(())
}

#[tokio::test]
async fn stuck_namespace_costs_no_requests() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let operator = Operator::start(solo.alone().await?).await?;
    let namespace = solo.cluster.tenant_namespace("team", "endless").await?;
    apply(&solo.cluster, &tenant_registry(&namespace, "packs", guarded(json!({"endpoint": DOWN})))).await?;
    let registry = solo.cluster.tenant(&namespace, "packs");
    registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    operator.stop().await?;
    // Nobody here ends it: there is no controller manager.
    let namespaces: Api<Namespace> = Api::all(solo.cluster.client());
    namespaces.delete(&namespace, &DeleteParams::default()).await?;
    let mark = solo.mark()?;
    operator.restart().await?;
    let validated = || async {
        let counts = samples(&operator.metrics().await?, "registry_operator_validations_total");
        ensure!(counts.values().any(|count| *count > 0.0), "{counts:?}");
        Ok(())
    };
    eventually("the registry is validated", validated).await?;
    tokio::time::sleep(Duration::from_secs(3)).await; // the silence is the test
    let asked = solo.installation.control_plane().audit()?.since(&mark)?;
    let count = asked.iter().filter(|event| is_namespace_get(event)).count();
    ensure!(count <= 2, "{count} requests for the namespace");

    // Deletion finishes nevertheless.
    let moment = Moment::on(solo.installation)?;
    registry.api().delete("packs", &DeleteParams::default()).await?;
    registry.is_gone_within(DELETED, &moment).await
}

fn is_namespace_get(event: &AuditEvent) -> bool {
    event.user == OPERATOR_USER && event.verb == "get" && event.resource == "namespaces"
}

#[tokio::test]
async fn creates_binding_once_quota_allows() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let namespace = cluster.plain_namespace("full").await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(cluster.client(), &namespace);
    let name = "count/rolebindings.rbac.authorization.k8s.io";
    apply(
        &cluster,
        &json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace},
            "spec": {"hard": {name: "0"}},
        }),
    )
    .await?;
    // As its controller would.
    let status = Patch::Merge(json!({"status": {"hard": {name: "0"}, "used": {name: "0"}}}));
    quotas.patch_status("none", &PatchParams::default(), &status).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client(), &namespace);
    is_full(&bindings).await?;
    label_as_tenant(&cluster, &namespace).await?;
    let operator = harness::shared_operator().await?;
    let is_logged = || async {
        let log = operator.log();
        let names_refusal =
            |line: &&str| line.contains("failed to create the RoleBinding") && line.contains(&namespace);
        ensure!(log.lines().any(|line| names_refusal(&line)), "nothing is said");
        Ok(())
    };
    eventually("the refusal is in the log", is_logged).await?;
    assert!(bindings.get_opt(SERVICE_ACCOUNT).await?.is_none(), "there was room");
    let moment = Moment::on_shared().await?;
    quotas.delete("none", &DeleteParams::default()).await?;
    eventually("the operator is bound", || bindings.get(SERVICE_ACCOUNT)).await?;
    let binds = |event: &AuditEvent| {
        event.is_write() && event.resource == "rolebindings" && event.namespace == namespace
    };
    moment.keeps(RECOVERED, "the operator is bound", binds).await.map(drop)
}

/// Waits until the quota is in force.
async fn is_full(bindings: &Api<RoleBinding>) -> Result<()> {
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let binding: RoleBinding =
        serde_json::from_value(json!({"metadata": {"name": "probe"}, "roleRef": role}))?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let look = || async {
        ensure!(bindings.create(&params, &binding).await.is_err(), "there is room");
        Ok(())
    };
    Ok(eventually("the quota is in force", look).await?)
}

#[tokio::test]
async fn reports_conflicting_binding_with_command() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (server, namespace) = (Protected::start().await?, cluster.plain_namespace("taken").await?);
    let theirs = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": SERVICE_ACCOUNT, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    apply(&cluster, &theirs).await?;
    apply(&cluster, &login(&namespace, "login", "right")).await?;
    label_as_tenant(&cluster, &namespace).await?;
    apply(&cluster, &tenant_registry(&namespace, "packs", server.spec("login"))).await?;
    let registry = cluster.tenant(&namespace, "packs");
    let denied = registry.becomes(&["ResolvedRefs=False/AccessDenied"]).await?;
    let conditions = denied.status.context("status")?.conditions;
    let refs =
        conditions.iter().find(|condition| condition.type_ == "ResolvedRefs").context("ResolvedRefs")?;
    let command = format!("kubectl delete rolebinding registry-operator -n {namespace}");
    assert_eq!(
        refs.message,
        format!(
            "Failed to read Secret {namespace}/login: RoleBinding registry-operator refers to ClusterRole \
             view; its owner can run {command}"
        )
    );
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client(), &namespace);
    assert_eq!(bindings.get(SERVICE_ACCOUNT).await?.role_ref.name, "view", "it is left alone");
    let moment = Moment::on_shared().await?;
    bindings.delete(SERVICE_ACCOUNT, &DeleteParams::default()).await?;
    registry.becomes_within(RECOVERED, &moment, &["Ready=True/Available"]).await?;
    Ok(())
}

#[tokio::test]
async fn ignores_proxy_environment_variables() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let mut options = solo.installation.operator_options().await?;
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        options = options.env(name, "http://127.0.0.1:1");
    }
    let operator = Operator::start(options.env("NO_PROXY", "not [a list")).await?;
    assert_eq!(operator.exited().await?, None);
    Ok(())
}

#[tokio::test]
async fn raises_open_file_limit_at_start() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let mut options = solo.installation.operator_options().await?;
    let script = solo.installation.control_plane().directory().join("with-few-files");
    std::fs::write(&script, format!("#!/bin/sh\nulimit -Sn 128 && exec {OPERATOR} \"$@\"\n"))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    options.binary = script;
    let operator = Operator::start(options).await?;
    let id = operator.id().await.context("it runs")?;
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits"))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("the limit")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    assert!(words[3] == words[4] && words[3] != "128", "{line}");
    Ok(())
}
