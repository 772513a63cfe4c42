//! The lifecycle of registries: creation, deletion, restarts, and dependencies that disappear and come back.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Secret},
        events::v1::Event,
        rbac::v1::RoleBinding,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use registry_api::{
    SystemRegistry, TENANT_LABEL, crd,
    spec::{Scope, System, Tenant},
};
use registry_testbed::{AuditEvent, Operator, eventually, manifests};
use serde_json::{Value, json};

use crate::{
    exclusive_cluster::{self, ExclusiveCluster, install_definitions},
    harness::{self, Cluster, Installation, OPERATOR_USER, RegistryHandle, SYSTEM_NAMESPACE},
    held_registry::HeldRegistry,
    moment::Moment,
    objects::{
        DOWN, Protected, apply, delete, event_is_written, guarded, has_reconciled, is_guarded, login,
        system_registry, tenant_registry, validate_now, write_lines, writes_since, written,
    },
};

const FIXED: Duration = Duration::from_secs(2);
/// The deadline for deletion, whatever else fails.
const DELETED: Duration = Duration::from_secs(30);
/// After the definitions were away.
const RECOVERED: Duration = Duration::from_mins(1);

// Deletion.

#[tokio::test]
async fn deletes_registry_while_its_server_is_down() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (system, tenant) = both(&cluster, "down", json!({"endpoint": DOWN})).await?;
    system.becomes(&["Ready=False/ConnectionRefused"]).await?;
    tenant.becomes(&["Ready=False/ConnectionRefused"]).await?;
    is_unguarded(&system).await?;
    is_unguarded(&tenant).await?;
    delete_at_once(&system).await?;
    delete_at_once(&tenant).await
}

#[tokio::test]
async fn deletes_registry_without_server_and_secret() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let secret = cluster.unique("login");
    let spec = json!({"endpoint": DOWN, "auth": {"basic": {"secretRef": {"name": secret}}}});
    let (system, tenant) = both(&cluster, "lost", guarded(spec)).await?;
    for namespace in [SYSTEM_NAMESPACE, &cluster.unique("lost")] {
        apply(&cluster, &login(namespace, &secret, "right")).await?;
    }
    system.becomes(&["Ready=False/ConnectionRefused"]).await?;
    tenant.becomes(&["Ready=False/ConnectionRefused"]).await?;
    is_guarded(&system).await?;
    is_guarded(&tenant).await?;
    for namespace in [SYSTEM_NAMESPACE, &cluster.unique("lost")] {
        remove_secret(&cluster, namespace, &secret).await?;
    }
    system.becomes(&["Ready=False/SecretNotFound"]).await?;
    let moment = Moment::on_shared().await?;
    delete(&system).await?;
    delete(&tenant).await?;
    system.is_gone_within(DELETED, &moment).await?;
    tenant.is_gone_within(DELETED, &moment).await
}

#[tokio::test]
async fn deletes_registry_during_validation() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let held = HeldRegistry::start().await?;
    let (system, tenant) = both(&cluster, "hanging", hanging_at(&held)).await?;
    held.wait_for_requests(2).await?;
    delete_at_once(&system).await?;
    delete_at_once(&tenant).await
}

#[tokio::test]
async fn deletes_pull_secret_during_validation() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let held = HeldRegistry::start().await?;
    let (system, tenant) = both(&cluster, "hanging-guarded", guarded(hanging_at(&held))).await?;
    held.wait_for_requests(2).await?;
    is_guarded(&system).await?;
    is_guarded(&tenant).await?;
    let moment = Moment::on_shared().await?;
    delete(&system).await?;
    delete(&tenant).await?;
    system.is_gone_within(DELETED, &moment).await?;
    tenant.is_gone_within(DELETED, &moment).await
}

#[tokio::test]
async fn deletes_namespace_with_any_registries() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (held, protected) = (HeldRegistry::start().await?, Protected::start().await?);
    let namespace = cluster.tenant_namespace("closing", "closing").await?;
    apply(&cluster, &login(&namespace, "login", "right")).await?;
    apply(&cluster, &tenant_registry(&namespace, "down", guarded(json!({"endpoint": DOWN})))).await?;
    apply(&cluster, &tenant_registry(&namespace, "hanging", guarded(hanging_at(&held)))).await?;
    apply(&cluster, &tenant_registry(&namespace, "good", guarded(protected.spec("login")))).await?;
    cluster.tenant(&namespace, "good").becomes(&["Ready=True/Available"]).await?;
    cluster.tenant(&namespace, "down").becomes(&["Ready=False/ConnectionRefused"]).await?;
    held.wait_for_requests(1).await?;
    let registries = ["down", "hanging", "good"].map(|name| cluster.tenant(&namespace, name));
    for registry in &registries {
        is_guarded(registry).await?;
    }
    let moment = Moment::on_shared().await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.delete(&namespace, &DeleteParams::default()).await?;
    for registry in &registries {
        registry.is_gone_within(DELETED, &moment).await?;
    }
    let look = || async {
        let found = namespaces.get_opt(&namespace).await?;
        ensure!(found.is_none(), "{:?}", found.and_then(|namespace| namespace.status));
        Ok(())
    };
    Ok(eventually(format!("namespace {namespace} is gone"), look).await?)
}

#[tokio::test]
async fn finishes_deletions_requested_during_downtime() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let (free_system, free_tenant) = both(cluster, "free", json!({"endpoint": DOWN})).await?;
    let (system, tenant) = both(cluster, "guarded", guarded(json!({"endpoint": DOWN}))).await?;
    is_guarded(&system).await?;
    is_guarded(&tenant).await?;

    operator.stop().await?;
    delete_at_once(&free_system).await?;
    delete_at_once(&free_tenant).await?;
    delete(&system).await?;
    delete(&tenant).await?;
    let waiting = system.get().await?;
    assert!(waiting.metadata.deletion_timestamp.is_some(), "only the operator takes its finalizer off");

    let moment = Moment::on(solo.installation)?;
    operator.restart().await?;
    system.is_gone_within(DELETED, &moment).await?;
    tenant.is_gone_within(DELETED, &moment).await
}

// Restarts and re-creations.

/// Whether the request removes the operator's binding in that namespace.
fn unbinds(event: &AuditEvent, namespace: &str) -> bool {
    event.verb == "delete" && event.resource == "rolebindings" && event.namespace == namespace
}

/// Waits until the operator has taken back its binding in a namespace that is no tenant's any more.
async fn is_unbound(cluster: &Cluster, namespace: &str) -> Result<()> {
    let look = || async {
        ensure!(role_binding(cluster, namespace).await?.is_none(), "it is there");
        anyhow::Ok(())
    };
    Ok(eventually("the operator's binding goes", look).await?)
}

#[tokio::test]
async fn restart_after_kill_writes_nothing() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let protected = Protected::start().await?;
    let namespace = cluster.tenant_namespace("kept", "kept").await?;
    let nobody = cluster.tenant_namespace("nobody", "nobody").await?;
    for (secret, password) in [("right", "right"), ("wrong", "wrong")] {
        apply(cluster, &login(&namespace, secret, password)).await?;
    }
    let down = json!({"endpoint": DOWN});
    apply(cluster, &tenant_registry(&namespace, "good", protected.spec("right"))).await?;
    apply(cluster, &tenant_registry(&namespace, "rejected", protected.spec("wrong"))).await?;
    apply(cluster, &tenant_registry(&namespace, "lost", protected.spec("missing"))).await?;
    apply(cluster, &tenant_registry(&namespace, "down", guarded(down.clone()))).await?;
    apply(cluster, &tenant_registry(&nobody, "nobodys", down)).await?;
    label(cluster, &nobody, Value::Null).await?;
    let verdicts = [
        (&namespace, "good", "Ready=True/Available"),
        (&namespace, "rejected", "Ready=False/Rejected"),
        (&namespace, "lost", "Ready=False/SecretNotFound"),
        (&namespace, "down", "Ready=False/ConnectionRefused"),
        (&nobody, "nobodys", "Ready=False/NotATenant"),
    ];
    let mut versions = Vec::new();
    for (namespace, name, verdict) in verdicts {
        let object = cluster.tenant(namespace, name).becomes(&[verdict]).await?;
        versions.push(object.metadata.resource_version);
    }

    for (namespace, name, verdict) in verdicts {
        event_is_written(cluster, namespace, name, verdict).await?;
    }
    is_unbound(cluster, &nobody).await?;
    operator.kill().await;
    let mark = solo.mark()?;
    operator.restart().await?;
    has_reconciled(&operator, 5.0).await?;
    let writes = writes_since(solo.installation, &mark, OPERATOR_USER)?;
    assert!(writes.is_empty(), "{:#?}", write_lines(&writes));
    for ((namespace, name, verdict), version) in verdicts.into_iter().zip(versions) {
        let object = cluster.tenant(namespace, name).becomes(&[verdict]).await?;
        assert_eq!(object.metadata.resource_version, version, "{name} was rewritten");
    }
    Ok(())
}

#[tokio::test]
async fn restart_does_not_retry_rejected_password() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let protected = Protected::start().await?;
    let namespace = cluster.tenant_namespace("rejected", "rejected").await?;
    let (registry, asked) = (cluster.tenant(&namespace, "rejected"), cluster.tenant(&namespace, "asked"));
    for (name, secret) in [("rejected", "wrong"), ("asked", "wrong-too")] {
        apply(cluster, &login(&namespace, secret, "wrong")).await?;
        apply(cluster, &tenant_registry(&namespace, name, protected.spec(secret))).await?;
        cluster.tenant(&namespace, name).becomes(&["Ready=False/Rejected"]).await?;
    }
    let tries = || protected.registry.authentications().len();

    let before = tries();
    for _ in 0..3 {
        operator.kill().await;
        operator.restart().await?;
        has_reconciled(&operator, 2.0).await?;
    }
    assert_eq!(tries(), before, "tried again");

    operator.kill().await;
    apply(cluster, &login(&namespace, "wrong", "right")).await?;
    let request = json!({"registry.spectrocloud.com/requestedAt": "while it was away"});
    asked.change(json!({"metadata": {"annotations": request}})).await?;
    operator.restart().await?;
    registry.becomes(&["Ready=True/Available"]).await?;
    let look = || async {
        let handled = asked.status().await?.last_handled_reconcile_at;
        ensure!(handled.as_deref() == Some("while it was away"), "handled: {handled:?}");
        Ok(())
    };
    Ok(eventually("what was asked for while the operator was away is done", look).await?)
}

#[tokio::test]
async fn recreated_registry_inherits_nothing() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let held = HeldRegistry::start().await?;
    let registry = cluster.system(&cluster.unique("again"));
    // For an unknown tenant: the status counts tenants, and other tests create some at the same time.
    let availability = json!({"tenants": [cluster.unique("nobody")]});
    let spec = |endpoint: &str| json!({"endpoint": endpoint, "availability": availability});
    apply(&cluster, &system_registry(registry.name(), hanging_at(&held))).await?;
    held.wait_for_requests(1).await?;
    delete_at_once(&registry).await?;

    let mark = Installation::shared().await?.control_plane().audit()?.mark();
    apply(&cluster, &system_registry(registry.name(), spec(DOWN))).await?;
    let uid = registry.get().await?.metadata.uid;
    held.release(); // the predecessor's validation now ends, with a verdict that would be Available
    registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    validate_now(&registry, "and after all that was under way").await?;

    let of_it = |write: &AuditEvent| write.name == registry.name() && write.succeeded();
    let writes = written(Installation::shared().await?, &mark, 2, of_it).await?;
    assert_eq!(writes.len(), 2, "the verdict, and the request handled: {:#?}", write_lines(&writes));
    // Events are written one after the other, beside the work: another verdict's comes after all that were to come before it.
    apply(&cluster, &system_registry(registry.name(), spec(&held.url()))).await?;
    let reasons = events_of(&cluster, uid.as_deref(), 2).await?;
    assert_eq!(reasons, ["ConnectionRefused", "Available"], "Events about the new object");
    assert_eq!(registry.get().await?.metadata.uid, uid);
    Ok(())
}

#[tokio::test]
async fn registry_recreated_in_freeze_inherits_nothing() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let held = HeldRegistry::start().await?;
    let registries: Vec<_> =
        (0..12).map(|n| cluster.system(&cluster.unique(&format!("frozen-{n}")))).collect();
    for registry in &registries {
        apply(cluster, &system_registry(registry.name(), hanging_at(&held))).await?;
    }
    held.wait_for_requests(registries.len()).await?;
    for registry in &registries {
        registry.becomes(&["Ready=Unknown/Progressing"]).await?;
    }

    operator.pause().await?;
    held.release(); // the answers, which would make them Available, wait in the operator's sockets
    for registry in &registries {
        delete_at_once(registry).await?;
        apply(cluster, &system_registry(registry.name(), json!({"endpoint": DOWN}))).await?;
    }
    let mark = solo.mark()?;
    operator.resume().await?;
    for registry in &registries {
        registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    }
    let verdict = |write: &AuditEvent| write.subresource == "status" && write.succeeded();
    let writes = written(solo.installation, &mark, registries.len(), verdict).await?;
    assert_eq!(writes.len(), registries.len(), "a verdict each: {:#?}", write_lines(&writes));
    for registry in &registries {
        registry.change(json!({"spec": {"endpoint": held.url()}})).await?;
    }
    for registry in &registries {
        let uid = registry.get().await?.metadata.uid;
        let reasons = events_of(cluster, uid.as_deref(), 2).await?;
        assert_eq!(reasons, ["ConnectionRefused", "Available"], "Events about the new object");
    }
    Ok(())
}

#[tokio::test]
async fn recreated_registry_does_not_wait_for_old_one() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let held = HeldRegistry::start().await?;
    let registry = cluster.system(&cluster.unique("again-soon"));
    apply(&cluster, &system_registry(registry.name(), hanging_at(&held))).await?;
    held.wait_for_requests(1).await?;
    delete_at_once(&registry).await?;
    let moment = Moment::on_shared().await?;
    apply(&cluster, &system_registry(registry.name(), json!({"endpoint": DOWN}))).await?;
    registry.becomes_within(FIXED, &moment, &["Ready=False/ConnectionRefused"]).await?;
    Ok(())
}

#[tokio::test]
async fn corrected_endpoint_does_not_wait_for_hanging() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (held, good) = (HeldRegistry::start().await?, HeldRegistry::start().await?);
    good.release();
    let (system, tenant) = both(&cluster, "corrected", hanging_at(&held)).await?;
    held.wait_for_requests(2).await?;
    let moment = Moment::on_shared().await?;
    system.change(json!({"spec": {"endpoint": good.url()}})).await?;
    system.becomes_within(FIXED, &moment, &["Ready=True/Available"]).await?;
    let moment = Moment::on_shared().await?;
    tenant.change(json!({"spec": {"endpoint": good.url()}})).await?;
    tenant.becomes_within(FIXED, &moment, &["Ready=True/Available"]).await?;
    Ok(())
}

// What a registry depends on.

#[tokio::test]
async fn reports_deleted_secret_within_two_seconds() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let protected = Protected::start().await?;
    let secret = cluster.unique("login");
    let (system, tenant) = both(&cluster, "secretless", protected.spec(&secret)).await?;
    let namespaces = [SYSTEM_NAMESPACE.to_owned(), cluster.unique("secretless")];
    for namespace in &namespaces {
        apply(&cluster, &login(namespace, &secret, "right")).await?;
    }
    system.becomes(&["Ready=True/Available"]).await?;
    tenant.becomes(&["Ready=True/Available"]).await?;

    let missing =
        ["Ready=False/SecretNotFound", "ResolvedRefs=False/SecretNotFound", "Stalled=True/SecretNotFound"];
    let moment = Moment::on_shared().await?;
    remove_secret(&cluster, &namespaces[0], &secret).await?;
    system.becomes_within(FIXED, &moment, &missing).await?;
    let moment = Moment::on_shared().await?;
    remove_secret(&cluster, &namespaces[1], &secret).await?;
    tenant.becomes_within(FIXED, &moment, &missing).await?;

    let ready = ["Ready=True/Available", "!Stalled"];
    let moment = Moment::on_shared().await?;
    apply(&cluster, &login(&namespaces[0], &secret, "right")).await?;
    system.becomes_within(FIXED, &moment, &ready).await?;
    let moment = Moment::on_shared().await?;
    apply(&cluster, &login(&namespaces[1], &secret, "right")).await?;
    tenant.becomes_within(FIXED, &moment, &ready).await?;
    Ok(())
}

#[tokio::test]
async fn removing_tenant_label_removes_access_and_verdict() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let protected = Protected::start().await?;
    let namespace = cluster.tenant_namespace("leaving", "leaving").await?;
    apply(&cluster, &login(&namespace, "login", "right")).await?;
    apply(&cluster, &tenant_registry(&namespace, "packs", protected.spec("login"))).await?;
    let registry = cluster.tenant(&namespace, "packs");
    registry.becomes(&["Ready=True/Available"]).await?;

    let moment = Moment::on_shared().await?;
    label(&cluster, &namespace, Value::Null).await?;
    let expected = ["Ready=False/NotATenant", "ResolvedRefs=False/NotATenant"];
    registry.becomes_within(FIXED, &moment, &expected).await?;
    is_unbound(&cluster, &namespace).await?;
    moment.keeps(FIXED, "the operator's role binding is gone", |event| unbinds(event, &namespace)).await?;

    label(&cluster, &namespace, json!("another-tenant")).await?;
    registry.becomes(&["Ready=True/Available", "!Stalled"]).await?;
    assert!(role_binding(&cluster, &namespace).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn removes_stale_role_binding_at_start() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let namespace = cluster.tenant_namespace("left", "left").await?;
    let look = |there: bool| {
        let namespace = &namespace;
        move || async move {
            ensure!(role_binding(cluster, namespace).await?.is_some() == there, "the other way");
            Ok(())
        }
    };
    eventually("the operator has bound itself", look(true)).await?;
    operator.kill().await;
    label(cluster, &namespace, Value::Null).await?;
    operator.restart().await?;
    Ok(eventually("what it left behind is removed", look(false)).await?)
}

// The definitions.

#[tokio::test]
async fn fault_15_crds_removed_and_installed_again() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let process = operator.id().await;
    let good = HeldRegistry::start().await?;
    good.release();
    let (system, tenant) = both(cluster, "before", json!({"endpoint": good.url()})).await?;
    let (guarded_system, _) = both(cluster, "guarded", guarded(json!({"endpoint": DOWN}))).await?;
    system.becomes(&["Ready=True/Available"]).await?;
    tenant.becomes(&["Ready=True/Available"]).await?;
    is_guarded(&guarded_system).await?;

    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let names = [System::PLURAL, Tenant::PLURAL].map(|plural| format!("{plural}.registry.spectrocloud.com"));
    let moment = Moment::on(solo.installation)?;
    for name in &names {
        definitions.delete(name, &DeleteParams::default()).await?;
    }
    guarded_system.is_gone_within(DELETED, &moment).await?;
    for name in &names {
        let look = || async {
            ensure!(definitions.get_opt(name).await?.is_none(), "still there");
            Ok(())
        };
        eventually(format!("the definition {name} is gone with its objects"), look).await?;
    }
    install_definitions(cluster).await?;
    let moment = Moment::on(solo.installation)?;
    let (system, tenant) = both(cluster, "before", json!({"endpoint": good.url()})).await?;
    system.becomes_within(RECOVERED, &moment, &["Ready=True/Available"]).await?;
    tenant.becomes_within(RECOVERED, &moment, &["Ready=True/Available"]).await?;
    assert_eq!(operator.id().await, process);
    assert_eq!(operator.exited().await?, None);
    Ok(())
}

#[tokio::test]
async fn unreadable_object_does_not_stop_others() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let good = HeldRegistry::start().await?;
    good.release();
    accept_anything(&solo).await?;
    let unreadable = [json!({"endpoint": 5}), json!({"endpoint": DOWN, "validation": {"interval": "often"}})];
    let namespace = cluster.tenant_namespace("mixed", "mixed").await?;
    for (number, spec) in unreadable.into_iter().enumerate() {
        apply_when_accepted(cluster, &system_registry(&format!("unreadable-{number}"), spec.clone())).await?;
        apply_when_accepted(cluster, &tenant_registry(&namespace, &format!("unreadable-{number}"), spec))
            .await?;
    }
    let (system, tenant) = both(cluster, "mixed", json!({"endpoint": good.url()})).await?;
    system.becomes(&["Ready=True/Available"]).await?;
    tenant.becomes(&["Ready=True/Available"]).await?;

    operator.kill().await;
    operator.restart().await?; // ready only when everything is listed
    system.change(json!({"spec": {"endpoint": DOWN}})).await?;
    system.becomes(&["Ready=False/ConnectionRefused"]).await?;
    tenant.change(json!({"spec": {"endpoint": DOWN}})).await?;
    tenant.becomes(&["Ready=False/ConnectionRefused"]).await?;
    let lines = operator.log();
    assert!(lines.contains("unreadable-0"), "the log names what can't be read:\n{lines}");
    Ok(())
}

#[tokio::test]
async fn deletes_object_that_became_unreadable() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let (seen, _) = both(cluster, "spoilt", guarded(json!({"endpoint": DOWN}))).await?;
    let (missed, _) = both(cluster, "spoilt-unseen", guarded(json!({"endpoint": DOWN}))).await?;
    is_guarded(&seen).await?;
    is_guarded(&missed).await?;
    accept_anything(&solo).await?;
    spoil(cluster, seen.name()).await?;
    let moment = Moment::on(solo.installation)?;
    delete_unread(cluster, seen.name()).await?;
    seen.is_gone_within(DELETED, &moment).await?;

    operator.kill().await;
    spoil(cluster, missed.name()).await?;
    delete_unread(cluster, missed.name()).await?;
    let moment = Moment::on(solo.installation)?;
    operator.restart().await?;
    missed.is_gone_within(DELETED, &moment).await
}

/// One registry of each scope with the same spec; the tenant's in a namespace of that name.
async fn both(
    cluster: &Cluster,
    name: &str,
    spec: Value,
) -> Result<(RegistryHandle<System>, RegistryHandle<Tenant>)> {
    let namespace = cluster.tenant_namespace(name, name).await?;
    let system = cluster.unique(name);
    apply(cluster, &system_registry(&system, spec.clone())).await?;
    apply(cluster, &tenant_registry(&namespace, name, spec)).await?;
    Ok((cluster.system(&system), cluster.tenant(&namespace, name)))
}

/// A validation that goes on for as long as one may.
fn hanging_at(held: &HeldRegistry) -> Value {
    json!({"endpoint": held.url(), "validation": {"timeout": "5m"}})
}

async fn is_unguarded<S: Scope>(subject: &RegistryHandle<S>) -> Result<()> {
    let finalizers = subject.get().await?.metadata.finalizers;
    ensure!(finalizers.is_none(), "{} has the finalizers {finalizers:?}", subject.name());
    Ok(())
}

/// Deletes a registry without a finalizer: it is gone when the API server answers, whatever the operator does.
async fn delete_at_once<S: Scope>(subject: &RegistryHandle<S>) -> Result<()> {
    delete(subject).await?;
    let left = subject.api().get_opt(subject.name()).await?.map(|left| left.metadata.finalizers);
    ensure!(left.is_none(), "{} is still there, with the finalizers {left:?}", subject.name());
    Ok(())
}

async fn remove_secret(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    secrets.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

async fn role_binding(cluster: &Cluster, namespace: &str) -> Result<Option<RoleBinding>> {
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client(), namespace);
    Ok(bindings.get_opt("registry-operator").await?)
}

async fn label(cluster: &Cluster, namespace: &str, tenant: Value) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let patch = Patch::Merge(json!({"metadata": {"labels": {TENANT_LABEL: tenant}}}));
    namespaces.patch(namespace, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The reasons of all Events about the object with that uid, oldest first, as soon as there are so many.
async fn events_of(cluster: &Cluster, uid: Option<&str>, count: usize) -> Result<Vec<String>> {
    let events: Api<Event> = Api::all(cluster.client());
    let about =
        |event: &Event| event.regarding.as_ref().and_then(|regarding| regarding.uid.as_deref()) == uid;
    let look = || async {
        let mut found = events.list(&ListParams::default()).await?.items;
        found.retain(about);
        found.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let reasons: Vec<String> = found.into_iter().filter_map(|event| event.reason).collect();
        ensure!(reasons.len() >= count, "{reasons:?}");
        Ok::<_, anyhow::Error>(reasons)
    };
    Ok(eventually(format!("{count} Events are written"), look).await?)
}

/// Installs CRDs without validation, as an older or newer version might have.
async fn accept_anything(solo: &ExclusiveCluster) -> Result<()> {
    for (name, yaml) in crd::files()? {
        for definition in manifests::parse(name, &yaml)? {
            let mut definition = serde_json::to_value(definition)?;
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            apply(&solo.cluster, &definition).await?;
        }
    }
    Ok(())
}

/// Waits until the API server uses the new schema.
async fn apply_when_accepted(cluster: &Cluster, object: &Value) -> Result<()> {
    Ok(eventually("the lax definition is served", || apply(cluster, object)).await?)
}

/// Makes a SystemRegistry unreadable.
async fn spoil(cluster: &Cluster, name: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"endpoint": 5}}));
    let look = || async { unread(cluster).patch(name, &PatchParams::default(), &patch).await };
    eventually("the lax definition is served", look).await?;
    Ok(())
}

async fn delete_unread(cluster: &Cluster, name: &str) -> Result<()> {
    unread(cluster).delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// SystemRegistries, whatever their spec.
fn unread(cluster: &Cluster) -> Api<DynamicObject> {
    Api::all_with(cluster.client(), &ApiResource::erase::<SystemRegistry>(&()))
}
