//! Leader election with two replicas: which one leads, takeover, and that only the leader writes. And the operator without its API
//! server.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use registry_api::spec::System;
use registry_testbed::{AuditEvent, AuditMark, Operator, OperatorOptions, eventually, http_client::Call};
use serde_json::json;

use crate::{
    exclusive_cluster::{self, ExclusiveCluster, LEASE},
    harness::{OPERATOR_USER, RegistryHandle, SYSTEM_NAMESPACE},
    held_registry::HeldRegistry,
    moment::Moment,
    objects::{DOWN, apply, samples, system_registry, write_lines, writes_since, written},
};

/// The Lease's 15 s, from its last renewal, and the looks of a standby, every 2 s.
const TAKEN_OVER: Duration = Duration::from_secs(20);
/// A lease that was given back is taken at the next look, every 2 s; one that was not, when its 15 s are over.
const HANDED_OVER: Duration = Duration::from_secs(6);
/// From the end of a fault until the desired state is reached (docs/reliability.md#what-is-promised).
const RECOVERED: Duration = Duration::from_mins(1);
/// The other replica's account, so that the audit log tells the two apart.
const OTHER_ACCOUNT: &str = "registry-operator-2";
const OTHER_USER: &str = "system:serviceaccount:registry-system:registry-operator-2";

#[tokio::test]
async fn only_one_of_two_replicas_writes() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let mark = solo.mark()?;
    let (leader, standby) = leader_and_standby(&solo).await?;
    let registries = registries_at(&solo, DOWN, 5).await?;
    for registry in &registries {
        registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    }
    assert!(leads(&leader).await? && !leads(&standby).await?);
    assert_eq!(Call::get(format!("{}/readyz", standby.url())).send().await?.status(), 200);
    let holder = lease(&solo).await?.and_then(|lease| lease.holder_identity).unwrap_or_default();
    let standbys = samples(&standby.metrics().await?, "registry_operator_registry_ready");
    assert!(standbys.is_empty(), "a standby speaks of no registry: {standbys:?}");
    assert!(leader.log().contains(&holder) && !standby.log().contains(&holder), "the Lease names {holder}");
    written(solo.installation, &mark, registries.len(), |_| true).await?;
    let of_standby = writes_since(solo.installation, &mark, OTHER_USER)?;
    assert!(of_standby.is_empty(), "a standby writes nothing: {:#?}", write_lines(&of_standby));
    Ok(())
}

#[tokio::test]
async fn standby_takes_over_from_killed_leader() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let good = open_registry().await?;
    let (leader, standby) = leader_and_standby(&solo).await?;
    let registries = registries_at(&solo, DOWN, 2).await?;
    for registry in &registries {
        registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    }
    let moment = Moment::on(solo.installation)?.of_user(OTHER_USER);
    leader.kill().await;
    registries[0].change(json!({"spec": {"endpoint": good.url()}})).await?;
    registries[0].becomes_within(RECOVERED, &moment, &["Ready=True/Available"]).await?;
    moment.keeps(TAKEN_OVER, "the standby takes the Lease", is_lease_write).await?;
    registries[1].becomes(&["Ready=False/ConnectionRefused"]).await?;
    assert!(leads(&standby).await?);
    let taken = lease(&solo).await?;
    assert_eq!(taken.and_then(|lease| lease.lease_transitions), Some(2), "its first holder, and its second");
    Ok(())
}

#[tokio::test]
async fn leader_releases_lease_on_sigterm() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let held = HeldRegistry::start().await?;
    let (leader, standby) = leader_and_standby(&solo).await?;
    let registries = registries_at(&solo, &held.url(), 3).await?;
    held.wait_for_requests(3).await?;

    let moment = Moment::on(solo.installation)?.of_user(OTHER_USER);
    let took = leader.stop().await?;
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    let holder = lease(&solo).await?.and_then(|lease| lease.holder_identity).unwrap_or_default();
    assert!(holder.is_empty() || !leader.log().contains(&holder), "{holder} still holds the Lease");
    becomes_leader(&standby).await?;
    moment.keeps(took + HANDED_OVER, "the standby takes the Lease", is_lease_write).await?;
    held.release();
    for registry in registries {
        registry.becomes(&["Ready=True/Available"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn thawed_leader_writes_nothing_after_its_lease() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let held = HeldRegistry::start().await?;
    let (frozen, successor) = leader_and_standby(&solo).await?;
    let process = frozen.id().await;
    let registries = registries_at(&solo, &held.url(), 12).await?;
    held.wait_for_requests(12).await?;
    // Each status now says that a validation is under way; nothing more is written until it ends.
    for registry in &registries {
        registry.becomes(&["Ready=Unknown/Progressing"]).await?;
    }

    let moment = Moment::on(solo.installation)?.of_user(OTHER_USER);
    frozen.pause().await?;
    becomes_leader(&successor).await?;
    moment.keeps(TAKEN_OVER, "the standby takes the Lease", is_lease_write).await?;
    held.release(); // the answers to the frozen one wait in its sockets
    for registry in &registries {
        registry.becomes(&["Ready=True/Available"]).await?;
    }
    let mark = solo.mark()?;
    frozen.resume().await?;
    stands_by(&frozen).await?;
    registries[0].change(json!({"spec": {"endpoint": DOWN}})).await?;
    registries[0].becomes(&["Ready=False/ConnectionRefused"]).await?;

    let late = writes_since(solo.installation, &mark, OPERATOR_USER)?;
    assert!(late.is_empty(), "the old leader wrote: {:#?}", write_lines(&late));
    assert!(lease_writes(&solo, &mark)?.is_empty(), "it did not contend for the lease of its successor");
    assert_eq!(frozen.id().await, process);
    assert_eq!(frozen.exited().await?, None);
    assert_eq!(Call::get(format!("{}/readyz", frozen.url())).send().await?.status(), 200);
    assert!(leads(&successor).await?);
    Ok(())
}

#[tokio::test]
async fn thawed_leader_takes_over_again() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let (frozen, successor) = leader_and_standby(&solo).await?;
    let moment = Moment::on(solo.installation)?.of_user(OTHER_USER);
    frozen.pause().await?;
    becomes_leader(&successor).await?;
    moment.keeps(TAKEN_OVER, "the standby takes the Lease", is_lease_write).await?;
    frozen.resume().await?;
    stands_by(&frozen).await?;
    let moment = Moment::on(solo.installation)?;
    let took = successor.stop().await?;
    becomes_leader(&frozen).await?;
    moment.keeps(took + HANDED_OVER, "the standby takes the Lease", is_lease_write).await?;
    let registries = registries_at(&solo, DOWN, 1).await?;
    registries[0].becomes(&["Ready=False/ConnectionRefused"]).await?;
    Ok(())
}

#[tokio::test]
async fn works_without_leader_election() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let mark = solo.mark()?;
    let _operator = Operator::start(solo.alone().await?).await?;
    let registries = registries_at(&solo, DOWN, 1).await?;
    registries[0].becomes(&["Ready=False/ConnectionRefused"]).await?;
    assert!(lease(&solo).await?.is_none());
    let asked = solo.installation.control_plane().audit()?.since(&mark)?;
    assert!(!asked.iter().any(|event| event.resource == "leases" && event.user == OPERATOR_USER));
    Ok(())
}

#[tokio::test]
async fn survives_api_server_outage_of_twenty_seconds() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let good = open_registry().await?;
    let operator = Operator::start(solo.installation.operator_options().await?).await?;
    let process = operator.id().await;
    let registries = registries_at(&solo, DOWN, 2).await?;
    for registry in &registries {
        registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    }
    let api_server = solo.installation.control_plane().api_server();
    api_server.stop().await?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await; // the absence is the test
        assert_eq!(Call::get(format!("{}/healthz", operator.url())).send().await?.status(), 200);
    }
    api_server.start().await?;
    let moment = Moment::on(solo.installation)?;
    registries[0].change(json!({"spec": {"endpoint": good.url()}})).await?;
    registries[0].becomes_within(RECOVERED, &moment, &["Ready=True/Available"]).await?;
    let newcomers = registries_at(&solo, &good.url(), 1).await?;
    newcomers[0].becomes(&["Ready=True/Available"]).await?;
    assert_eq!(operator.id().await, process);
    assert_eq!(operator.exited().await?, None);
    Ok(())
}

#[tokio::test]
async fn waits_for_api_server_at_start() -> Result<()> {
    for leader_election in [true, false] {
        let solo = exclusive_cluster::enter().await?;
        let options = solo.installation.operator_options().await?;
        let options = options.arg(format!("--leader-election={leader_election}"));
        let api_server = solo.installation.control_plane().api_server();
        api_server.stop().await?;
        let operator = Operator::launch(options).await?;
        is_alive(&operator).await?;
        tokio::time::sleep(Duration::from_secs(5)).await; // it must go on waiting
        is_alive(&operator).await?;
        let ready = Call::get(format!("{}/readyz", operator.url())).send().await?.status();
        assert_eq!(ready, 503, "nothing was heard of the API server yet");
        let process = operator.id().await;
        api_server.start().await?;
        let moment = Moment::on(solo.installation)?;
        let registries = registries_at(&solo, DOWN, 1).await?;
        registries[0].becomes_within(RECOVERED, &moment, &["Ready=False/ConnectionRefused"]).await?;
        operator.wait_ready().await?;
        assert_eq!(operator.id().await, process);
    }
    Ok(())
}

/// Two replicas, of which the first leads.
async fn leader_and_standby(solo: &ExclusiveCluster) -> Result<(Operator, Operator)> {
    let leader = Operator::start(solo.installation.operator_options().await?).await?;
    becomes_leader(&leader).await?;
    let standby = Operator::start(other_replica(solo).await?).await?;
    ensure!(!leads(&standby).await?, "both lead");
    Ok((leader, standby))
}

/// A replica with an account of its own, which has the rights of the chart's. The policies know the operator by the name of
/// the chart's account; this one passes them by `administer`.
async fn other_replica(solo: &ExclusiveCluster) -> Result<OperatorOptions> {
    let subject =
        format!("subjects: [{{kind: ServiceAccount, namespace: {SYSTEM_NAMESPACE}, name: {OTHER_ACCOUNT}}}]");
    solo.cluster
        .apply_yaml(&format!(
            r"
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {OTHER_ACCOUNT}, namespace: {SYSTEM_NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {OTHER_ACCOUNT}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: registry-operator}}
{subject}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {OTHER_ACCOUNT}-administers}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: registry-system-admin}}
{subject}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {OTHER_ACCOUNT}, namespace: {SYSTEM_NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: registry-operator-system}}
{subject}
"
        ))
        .await?;
    let mut options = solo.installation.operator_options().await?;
    options.kubeconfig = solo
        .installation
        .control_plane()
        .kubeconfig_for_service_account(SYSTEM_NAMESPACE, OTHER_ACCOUNT)
        .await?;
    Ok(options)
}

async fn open_registry() -> Result<HeldRegistry> {
    let registry = HeldRegistry::start().await?;
    registry.release();
    Ok(registry)
}

/// So many SystemRegistries, named by the last part of their endpoint, so that each call makes new ones.
async fn registries_at(
    solo: &ExclusiveCluster,
    endpoint: &str,
    count: usize,
) -> Result<Vec<RegistryHandle<System>>> {
    let kind = endpoint.rsplit(':').next().unwrap_or_default();
    let mut registries = Vec::new();
    for number in 0..count {
        let name = solo.cluster.unique(&format!("at-{kind}-{number}"));
        let spec = json!({"endpoint": endpoint, "validation": {"timeout": "5m"}});
        apply(&solo.cluster, &system_registry(&name, spec)).await?;
        registries.push(solo.cluster.system(&name));
    }
    Ok(registries)
}

fn is_lease_write(event: &AuditEvent) -> bool {
    event.is_write() && event.resource == "leases"
}

async fn lease(solo: &ExclusiveCluster) -> Result<Option<LeaseSpec>> {
    let leases: Api<Lease> = Api::namespaced(solo.cluster.client(), SYSTEM_NAMESPACE);
    Ok(leases.get_opt(LEASE).await?.and_then(|lease| lease.spec))
}

/// What the first replica tried to write to the Lease.
fn lease_writes(solo: &ExclusiveCluster, mark: &AuditMark) -> Result<Vec<String>> {
    let mut writes = solo.installation.control_plane().audit()?.writes_since(mark, OPERATOR_USER)?;
    writes.retain(|write| write.resource == "leases");
    Ok(write_lines(&writes))
}

async fn leads(operator: &Operator) -> Result<bool> {
    let leader = samples(&operator.metrics().await?, "registry_operator_leader");
    match leader.values().copied().collect::<Vec<f64>>()[..] {
        [value] => Ok(value > 0.0),
        _ => bail!("registry_operator_leader is {leader:?}"),
    }
}

async fn becomes_leader(operator: &Operator) -> Result<()> {
    let look = || async {
        ensure!(leads(operator).await?, "it stands by");
        Ok(())
    };
    Ok(eventually("the replica leads", look).await?)
}

async fn stands_by(operator: &Operator) -> Result<()> {
    let look = || async {
        ensure!(!leads(operator).await?, "it leads");
        Ok(())
    };
    Ok(eventually("the replica stands by", look).await?)
}

async fn is_alive(operator: &Operator) -> Result<()> {
    let look = || async {
        let status = Call::get(format!("{}/healthz", operator.url())).send().await?.status();
        ensure!(status == 200, "/healthz says {status}");
        Ok(())
    };
    Ok(eventually("the operator is alive", look).await?)
}
