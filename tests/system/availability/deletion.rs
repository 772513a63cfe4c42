//! Deletion: it finishes in time, and removes the registry's pull Secrets and nothing else.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    api::{core::v1::Secret, rbac::v1::RoleBinding},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use registry_api::{
    MANAGED_BY_LABEL, REGISTRY_UID_LABEL,
    spec::{Scope, System, Tenant},
};
use registry_testbed::{AuditEvent, Operator, eventually};
use serde_json::{Value, json};

use super::secrets::{
    PROMISED, SecretWrite, absent, close, config_for, delivered, label, offered, own, secrets,
    written_in_time,
};
use crate::{
    exclusive_cluster::{self, install_definitions},
    harness::{self, Cluster, OPERATOR_USER, RegistryHandle, SYSTEM_NAMESPACE},
    moment::Moment,
    objects::{Protected, apply, delete, login, system_registry, tenant_registry, write_lines, writes_since},
};

/// The deadline for deletion, whatever else fails.
const DELETED: Duration = Duration::from_secs(30);
/// From the end of a fault until the desired state is reached (docs/reliability.md#what-is-promised).
const RECOVERED: Duration = Duration::from_mins(1);

/// A registry of each scope, whose pull Secrets are in both namespaces of one tenant.
struct Both {
    protected: Protected,
    system: RegistryHandle<System>,
    tenant: RegistryHandle<Tenant>,
    namespaces: [String; 2],
}

impl Both {
    async fn deliver(cluster: &Cluster) -> Result<Self> {
        let protected = Protected::start().await?;
        let name = cluster.unique("packs");
        let namespaces =
            [cluster.tenant_namespace("a", "a-1").await?, cluster.tenant_namespace("a", "a-2").await?];
        apply(cluster, &login(SYSTEM_NAMESPACE, &name, "right")).await?;
        apply(cluster, &login(&namespaces[0], &name, "right")).await?;
        let availability = json!({"tenants": [cluster.unique("a")], "pullSecret": {"name": "system-pull"}});
        apply(cluster, &system_registry(&name, offered(&protected, &name, availability))).await?;
        let availability = json!({"pullSecret": {"name": "tenant-pull"}});
        apply(cluster, &tenant_registry(&namespaces[0], &name, offered(&protected, &name, availability)))
            .await?;
        let (system, tenant) = (cluster.system(&name), cluster.tenant(&namespaces[0], &name));
        let both = Self { protected, system, tenant, namespaces };
        both.are_delivered(cluster).await?;
        Ok(both)
    }

    async fn are_delivered(&self, cluster: &Cluster) -> Result<()> {
        for namespace in &self.namespaces {
            for name in ["system-pull", "tenant-pull"] {
                delivered(cluster, namespace, name, &self.says()).await?;
            }
        }
        Ok(())
    }

    fn says(&self) -> Value {
        config_for(&self.protected.registry.host_port(), "right")
    }

    async fn leave_nothing(&self, cluster: &Cluster) -> Result<()> {
        for namespace in &self.namespaces {
            ensure!(own(cluster, namespace).await?.is_empty(), "{:?}", own(cluster, namespace).await?);
        }
        Ok(())
    }
}

#[tokio::test]
async fn fault_22_deletion_without_server_and_secret() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let both = Both::deliver(&cluster).await?;
    both.protected.registry.component().stop().await?;
    for namespace in [SYSTEM_NAMESPACE, &both.namespaces[0]] {
        secrets(&cluster, namespace).delete(both.system.name(), &DeleteParams::default()).await?;
    }
    let moment = Moment::on_shared().await?;
    delete(&both.system).await?;
    delete(&both.tenant).await?;
    both.system.is_gone_within(DELETED, &moment).await?;
    both.tenant.is_gone_within(DELETED, &moment).await?;
    both.leave_nothing(&cluster).await
}

#[tokio::test]
async fn deletes_suspended_registry_with_pull_secrets() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let both = Both::deliver(&cluster).await?;
    both.system.change(json!({"spec": {"suspend": true}})).await?;
    both.tenant.change(json!({"spec": {"suspend": true}})).await?;
    let moment = Moment::on_shared().await?;
    delete(&both.system).await?;
    delete(&both.tenant).await?;
    both.system.is_gone_within(DELETED, &moment).await?;
    both.tenant.is_gone_within(DELETED, &moment).await?;
    both.leave_nothing(&cluster).await
}

#[tokio::test]
async fn keeps_unmanaged_secret_on_deletion() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let both = Both::deliver(&cluster).await?;
    let [namespace, _] = &both.namespaces;
    let uid = both.system.get().await?.metadata.uid.context("uid")?;
    // One Secret without one of the two labels, and one without both.
    for labels in
        [json!({REGISTRY_UID_LABEL: uid}), json!({MANAGED_BY_LABEL: "registry-operator"}), json!({})]
    {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"generateName": "theirs-", "labels": labels},
        });
        let secret: Secret = serde_json::from_value(secret)?;
        secrets(&cluster, namespace).create(&PostParams::default(), &secret).await?;
    }
    let moment = Moment::on_shared().await?;
    delete(&both.system).await?;
    both.system.is_gone_within(DELETED, &moment).await?;
    label(&cluster, namespace, None).await?;
    absent(&cluster, namespace, "tenant-pull").await?;
    unbound(&cluster, namespace).await?;
    let left = secrets(&cluster, namespace).list(&kube::api::ListParams::default()).await?;
    let theirs = left.iter().filter(|secret| secret.name_any().starts_with("theirs-")).count();
    assert_eq!(theirs, 3, "{:?}", left.iter().map(ResourceExt::name_any).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn writes_nothing_to_terminating_namespace() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let both = Both::deliver(&cluster).await?;
    let [namespace, other] = &both.namespaces;
    // The one that has no registry in it.
    close(&cluster, other).await?;
    super::secrets::counts(&both.system, (1, 1, Some(1))).await?;
    super::secrets::counts(&both.tenant, (1, 1, Some(1))).await?;
    let log = harness::shared_operator().await?.log();
    let complaints: Vec<&str> =
        log.lines().filter(|line| line.contains(other.as_str()) && line.contains("WARN")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");

    // And the one that has: its Secrets elsewhere go with it.
    let third = cluster.tenant_namespace("a", "a-3").await?;
    delivered(&cluster, &third, "tenant-pull", &both.says()).await?;
    let moment = Moment::on_shared().await?;
    close(&cluster, namespace).await?;
    both.tenant.is_gone_within(DELETED, &moment).await?;
    absent(&cluster, &third, "tenant-pull").await?;
    delivered(&cluster, &third, "system-pull", &both.says()).await?;
    Ok(())
}

#[tokio::test]
async fn removes_secrets_then_access_with_tenant_label() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let both = Both::deliver(&cluster).await?;
    let [namespace, other] = &both.namespaces;
    let moment = Moment::on_shared().await?;
    label(&cluster, other, None).await?;
    for pull_secret in ["system-pull", "tenant-pull"] {
        absent(&cluster, other, pull_secret).await?;
        written_in_time(&moment, SecretWrite::Delete, other, pull_secret).await?;
    }
    unbound(&cluster, other).await?;
    let is_unbinding = |event: &AuditEvent| {
        event.verb == "delete" && event.resource == "rolebindings" && event.namespace == *other
    };
    moment.keeps(PROMISED, "the operator's role binding is gone", is_unbinding).await?;
    delivered(&cluster, namespace, "system-pull", &both.says()).await?;

    // And again, in one breath with its return.
    label(&cluster, namespace, None).await?;
    label(&cluster, namespace, Some(&cluster.unique("a"))).await?;
    label(&cluster, other, Some(&cluster.unique("a"))).await?;
    both.are_delivered(&cluster).await
}

#[tokio::test]
async fn deletion_skips_unwritable_namespace() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let both = Both::deliver(cluster).await?;
    operator.pause().await?;
    // It may not write there, nor bind itself again.
    let forbid = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": cluster.unique("nothing-goes")},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["", "rbac.authorization.k8s.io"], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["secrets", "rolebindings"],
            }]},
            "matchConditions": [{"name": "operator", "expression": format!("request.userInfo.username == '{OPERATOR_USER}'")}],
            "validations": [{"expression": "false", "message": "nothing goes"}],
        },
    });
    apply(cluster, &forbid).await?;
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": cluster.unique("nothing-goes")},
        "spec": {"policyName": cluster.unique("nothing-goes"), "validationActions": ["Deny"]},
    });
    apply(cluster, &binding).await?;
    let enforced = || async {
        let operators = solo.installation.control_plane().client_for_user(OPERATOR_USER, &[]).await?;
        let api: Api<Secret> = Api::namespaced(operators, &both.namespaces[0]);
        let refused =
            api.delete("system-pull", &DeleteParams { dry_run: true, ..DeleteParams::default() }).await;
        ensure!(
            matches!(&refused, Err(kube::Error::Api(status)) if status.message.contains("nothing goes")),
            "{refused:?}"
        );
        Ok(())
    };
    let enforced = eventually("the policy is enforced", enforced).await;
    let result = async {
        enforced?;
        operator.resume().await?;
        let moment = Moment::on(solo.installation)?;
        delete(&both.system).await?;
        both.system.is_gone_within(DELETED, &moment).await
    }
    .await;
    let end = Moment::on(solo.installation)?;
    for kind in ["ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"] {
        remove(cluster, kind, &cluster.unique("nothing-goes")).await?;
    }
    result?;
    // The remaining Secret is deleted as soon as that is possible.
    for namespace in &both.namespaces {
        absent(cluster, namespace, "system-pull").await?;
        let deletes = |event: &AuditEvent| {
            event.verb == "delete" && event.resource == "secrets" && event.namespace == *namespace
        };
        end.keeps(RECOVERED, "the remaining Secret is deleted", deletes).await?;
    }
    Ok(())
}

#[tokio::test]
async fn cleans_up_namespaces_that_left_during_downtime() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let both = Both::deliver(cluster).await?;
    let [namespace, other] = &both.namespaces;
    operator.kill().await;
    label(cluster, other, None).await?;
    delete(&both.system).await?;
    let moment = Moment::on(solo.installation)?;
    operator.restart().await?;
    both.system.is_gone_within(DELETED, &moment).await?;
    absent(cluster, other, "system-pull").await?;
    absent(cluster, other, "tenant-pull").await?;
    unbound(cluster, other).await?;
    delivered(cluster, namespace, "tenant-pull", &both.says()).await?;
    absent(cluster, namespace, "system-pull").await
}

#[tokio::test]
async fn deleting_crds_removes_registries_and_secrets() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let _operator = Operator::start(solo.alone().await?).await?;
    let both = Both::deliver(cluster).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let names = [System::PLURAL, Tenant::PLURAL].map(|plural| format!("{plural}.registry.spectrocloud.com"));
    let moment = Moment::on(solo.installation)?;
    for name in &names {
        definitions.delete(name, &DeleteParams::default()).await?;
    }
    both.system.is_gone_within(DELETED, &moment).await?;
    both.tenant.is_gone_within(DELETED, &moment).await?;
    for name in &names {
        let look = || async {
            ensure!(definitions.get_opt(name).await?.is_none(), "still there");
            Ok(())
        };
        eventually(format!("the definition {name} is gone with its objects"), look).await?;
    }
    let result = both.leave_nothing(cluster).await;
    install_definitions(cluster).await?;
    result
}

#[tokio::test]
async fn recreated_registry_inherits_nothing() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let both = Both::deliver(cluster).await?;
    let (name, predecessor) = (both.system.name(), both.system.get().await?.metadata.uid.context("uid")?);
    operator.pause().await?;
    // Without the finalizer it is gone at once, and another registry takes its name while the operator is stopped.
    both.system.change(json!({"metadata": {"finalizers": null}})).await?;
    delete(&both.system).await?;
    both.system.is_gone().await?;
    let availability = json!({"tenants": [cluster.unique("a")], "pullSecret": {"name": "successor-pull"}});
    apply(cluster, &system_registry(name, offered(&both.protected, "missing", availability))).await?;
    let mark = solo.mark()?;
    operator.resume().await?;
    both.system.becomes(&["Ready=False/SecretNotFound"]).await?;
    for namespace in &both.namespaces {
        absent(cluster, namespace, "system-pull").await?;
        assert_eq!(own(cluster, namespace).await?, ["tenant-pull"]);
    }
    assert_ne!(both.system.get().await?.metadata.uid.as_ref(), Some(&predecessor));
    let writes = writes_since(solo.installation, &mark, OPERATOR_USER)?;
    let made = writes.iter().filter(|write| write.resource == "secrets" && write.verb != "delete").count();
    assert_eq!(made, 0, "{:#?}", write_lines(&writes));
    Ok(())
}

#[tokio::test]
async fn fault_03_killed_during_cleanup() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let cluster = &solo.cluster;
    let operator = Operator::start(solo.alone().await?).await?;
    let protected = Protected::start().await?;
    let (name, mut namespaces) = (cluster.unique("packs"), Vec::new());
    for number in 0..300 {
        namespaces.push(cluster.tenant_namespace("many", &format!("many-{number}")).await?);
    }
    apply(cluster, &login(SYSTEM_NAMESPACE, &name, "right")).await?;
    let availability = json!({"tenants": [cluster.unique("many")], "pullSecret": {"name": "pull"}});
    apply(cluster, &system_registry(&name, offered(&protected, &name, availability))).await?;
    let registry = cluster.system(&name);

    let begun = halfway(cluster, &operator, &namespaces).await?;
    operator.kill().await;
    crate::objects::is_guarded(&registry).await?;
    operator.restart().await?;
    count(cluster, &namespaces, 300).await?;

    delete(&registry).await?;
    let half = halfway(cluster, &operator, &namespaces).await?;
    operator.kill().await;
    ensure!(
        registry.get().await?.metadata.deletion_timestamp.is_some(),
        "it was faster than the test: {begun} {half}"
    );
    let moment = Moment::on(solo.installation)?;
    operator.restart().await?;
    registry.is_gone_within(DELETED, &moment).await?;
    count(cluster, &namespaces, 0).await?;
    Ok(())
}

/// Waits until there are that many managed Secrets.
async fn count(cluster: &Cluster, of: &[String], count: usize) -> Result<()> {
    let look = || async {
        let there = there(cluster, of).await?;
        ensure!(there == count, "{there} are");
        anyhow::Ok(())
    };
    Ok(eventually(format!("{count} pull Secrets are there"), look).await?)
}

/// Freezes the operator when some of its Secrets exist and some don't; returns how many. It runs only between two checks, so
/// that no check is too late.
async fn halfway(cluster: &Cluster, operator: &Operator, of: &[String]) -> Result<usize> {
    let look = || async {
        operator.pause().await?;
        let there = there(cluster, of).await?;
        if (5..290).contains(&there) {
            return Ok(there);
        }
        operator.resume().await?;
        anyhow::bail!("{there} are")
    };
    Ok(eventually("it is in the middle of its work", look).await?)
}

/// The number of managed Secrets.
async fn there(cluster: &Cluster, of: &[String]) -> Result<usize> {
    let api: Api<Secret> = Api::all(cluster.client());
    let listed = api.list_metadata(&kube::api::ListParams::default().labels(REGISTRY_UID_LABEL)).await?;
    let here = |secret: &&kube::core::PartialObjectMeta<Secret>| {
        secret.namespace().is_some_and(|ns| of.contains(&ns))
    };
    Ok(listed.iter().filter(here).count())
}

async fn unbound(cluster: &Cluster, namespace: &str) -> Result<()> {
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client(), namespace);
    let look = || async {
        ensure!(bindings.get_opt("registry-operator").await?.is_none(), "the role binding is still there");
        Ok(())
    };
    Ok(eventually("the operator's role binding is gone", look).await?)
}

async fn remove(cluster: &Cluster, kind: &str, name: &str) -> Result<()> {
    let example = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
    });
    let example = serde_json::from_value(example)?;
    let api = registry_testbed::manifests::api_of(&cluster.client(), &example).await?;
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}
