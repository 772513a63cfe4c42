//! SystemRegistries: only users with `administer` write them, whatever permissions others have; they have no owner
//! and can't be deleted while protected.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    call::{Call, User, a_system_registry, system_registries, system_registry},
    stage::Cluster,
};

on_each_kubernetes!(
    writing_system_registries_needs_administer,
    deleting_collection_needs_administer,
    changing_finalizers_needs_administer,
    rejects_owner_of_system_registry,
    existing_owner_can_only_be_removed,
    protected_system_registry_cannot_be_deleted,
    rejects_unknown_subresource,
    administer_must_be_cluster_wide,
    granting_administer_needs_administer,
    storage_migration_is_allowed,
);

/// The refusal for users without `administer`.
fn belongs_to_the_system_level(name: &str, verb: &str) -> String {
    format!(
        "SystemRegistry {name} belongs to the system level: only users with the verb administer on \
         systemregistries may {verb} it; use a TenantRegistry instead"
    )
}

/// Requests on one SystemRegistry, given as it is now.
type Row = (&'static str, fn(&str, Value) -> Call);

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    if let Some(parent) = object.pointer_mut(parent) {
        parent[key] = value;
    }
    object
}

fn applied(name: &str, metadata: Value, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry"});
    object["metadata"] = metadata;
    object["metadata"]["name"] = json!(name);
    object["spec"] = spec;
    object
}

/// Every way to create one.
const CREATIONS: &[Row] = &[
    ("POST", |name, _| Call::create(&system_registries(), a_system_registry(name))),
    ("POST without effect", |name, _| Call::create(&system_registries(), a_system_registry(name)).dry()),
    ("server-side apply", |name, _| Call::apply(&system_registry(name), a_system_registry(name))),
];

/// Every way to change one.
const CHANGES: &[Row] = &[
    ("PUT", |name, now| {
        Call::replace(&system_registry(name), with(now, "/spec/endpoint", json!("https://other.invalid")))
    }),
    ("a JSON patch", |name, _| {
        let patch = json!([{"op": "replace", "path": "/spec/endpoint", "value": "https://json.invalid"}]);
        Call::json_patch(&system_registry(name), patch)
    }),
    ("a merge patch", |name, _| {
        Call::merge(&system_registry(name), json!({"spec": {"endpoint": "https://merge.invalid"}}))
    }),
    ("server-side apply", |name, _| {
        let spec = json!({"endpoint": "https://apply.invalid"});
        Call::apply(&system_registry(name), applied(name, json!({}), spec))
    }),
    ("a change without effect", |name, _| {
        Call::merge(&system_registry(name), json!({"spec": {"suspend": true}})).dry()
    }),
    ("a patch that changes nothing", |name, _| Call::merge(&system_registry(name), json!({}))),
    ("deletion protection", |name, _| {
        Call::merge(&system_registry(name), json!({"spec": {"deletionProtection": false}}))
    }),
    ("a label", |name, _| {
        Call::merge(&system_registry(name), json!({"metadata": {"labels": {"mine": "yes"}}}))
    }),
    ("an annotation", |name, _| {
        let annotations = json!({"registry.spectrocloud.com/requestedAt": "now"});
        Call::merge(&system_registry(name), json!({"metadata": {"annotations": annotations}}))
    }),
    ("the managed fields", |name, _| {
        let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]);
        Call::json_patch(&system_registry(name), patch)
    }),
    ("PUT of the status", |name, now| {
        let forged = json!({"conditions": [], "observedGeneration": 7});
        Call::replace(&format!("{}/status", system_registry(name)), with(now, "/status", forged))
    }),
    ("a JSON patch of the status", |name, _| {
        let patch = json!([{"op": "add", "path": "/status", "value": {"observedGeneration": 8}}]);
        Call::json_patch(&format!("{}/status", system_registry(name)), patch)
    }),
    ("a merge patch of the status", |name, _| {
        let patch = json!({"status": {"observedGeneration": 9}});
        Call::merge(&format!("{}/status", system_registry(name)), patch)
    }),
    ("server-side apply of the status", |name, _| {
        let object =
            with(applied(name, json!({}), Value::Null), "/status", json!({"observedGeneration": 10}));
        Call::apply(&format!("{}/status", system_registry(name)), without(object, "spec"))
    }),
];

/// Every way to delete one.
const DELETIONS: &[Row] = &[
    ("deletion without effect", |name, _| Call::delete(&system_registry(name)).dry()),
    ("deletion", |name, _| Call::delete(&system_registry(name))),
    ("deletion in the background", |name, _| Call::delete_by(&system_registry(name), "Background")),
    ("deletion in the foreground", |name, _| Call::delete_by(&system_registry(name), "Foreground")),
    ("deletion that leaves orphans", |name, _| Call::delete_by(&system_registry(name), "Orphan")),
    ("deletion of a selection", |name, _| {
        Call::delete(&format!("{}?labelSelector=row={name}", system_registries()))
    }),
];

fn without(mut object: Value, key: &str) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.remove(key);
    }
    object
}

async fn the_matrix(cluster: &Cluster) -> Result<()> {
    for (rows, verb, exists) in
        [(CREATIONS, "create", false), (CHANGES, "change", true), (DELETIONS, "delete", true)]
    {
        for (number, row) in rows.iter().enumerate() {
            let name = cluster.unique(&format!("{verb}-{number}"));
            if exists {
                let create = Call::create(&system_registries(), a_system_registry(&name));
                cluster.root.may(&create).await?;
            }
            refused_then_granted(cluster, &name, verb, row).await.with_context(|| row.0)?;
        }
    }
    Ok(())
}

async fn refused_then_granted(cluster: &Cluster, name: &str, verb: &str, row: &Row) -> Result<()> {
    let before = cluster.root.send(&Call::get(&system_registry(name))).await?.ok();
    let (code, message) = fresh(cluster, &cluster.broad, name, row).await?.err().context("it was granted")?;
    let sentence = belongs_to_the_system_level(name, verb);
    ensure!(code == 403 && message.ends_with(&format!("denied request: {sentence}")), "{code} {message}");
    let after = cluster.root.send(&Call::get(&system_registry(name))).await?.ok();
    let asked = |object: &Option<Value>| {
        object
            .as_ref()
            .map(|object| (object["spec"].clone(), object["metadata"]["deletionTimestamp"].clone()))
    };
    ensure!(asked(&before) == asked(&after), "it was refused, and changed: {before:?} {after:?}");
    let granted = fresh(cluster, &cluster.administrator, name, row).await?;
    granted.map(drop).map_err(|refusal| anyhow::anyhow!("refused to the administrator: {refusal:?}"))
}

/// Sends a row's request on the object as it is now; again, where the operator wrote in between.
async fn fresh(
    cluster: &Cluster,
    user: &User,
    name: &str,
    (_, call): &Row,
) -> Result<Result<Value, (u16, String)>> {
    loop {
        let now = cluster.root.send(&Call::get(&system_registry(name))).await?.unwrap_or_default();
        match user.send(&call(name, now)).await? {
            Err((409, message)) if message.contains("modified") => {}
            answer => return Ok(answer),
        }
    }
}

async fn writing_system_registries_needs_administer(cluster: &Cluster) -> Result<()> {
    the_matrix(cluster).await
}

#[tokio::test]
async fn needs_administer_while_operator_runs() -> Result<()> {
    the_matrix(&Cluster::enter_with_operator().await?).await
}

async fn deleting_collection_needs_administer(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("one-of-all");
    cluster.root.may(&Call::create(&system_registries(), a_system_registry(&name))).await?;
    let (code, message) = cluster.broad.refusal(&Call::delete(&system_registries())).await?;
    assert!(code == 403 && message.contains("belongs to the system level"), "{code} {message}");
    cluster.read(&system_registry(&name)).await?;
    Ok(())
}

async fn changing_finalizers_needs_administer(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("finalized");
    let path = system_registry(&name);
    cluster.root.may(&Call::create(&system_registries(), a_system_registry(&name))).await?;
    let put_on = Call::merge(&path, json!({"metadata": {"finalizers": ["example.com/mine"]}}));
    cluster.broad.may_not(&put_on, &belongs_to_the_system_level(&name, "change")).await?;
    cluster.administrator.may(&put_on).await?;
    cluster.administrator.may(&Call::delete(&path)).await?;
    let take_off = Call::merge(&path, json!({"metadata": {"finalizers": null}}));
    cluster.broad.may_not(&take_off, &belongs_to_the_system_level(&name, "change")).await?;
    cluster.administrator.may(&take_off).await?;
    assert_eq!(cluster.root.refusal(&Call::get(&path)).await?.0, 404);
    Ok(())
}

fn owned(metadata: &Value, block: bool) -> Value {
    json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"],
        "blockOwnerDeletion": block, "controller": block,
    }])
}

async fn rejects_owner_of_system_registry(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("owned");
    let path = system_registry(&name);
    let owner = json!({"name": "kube-root-ca.crt", "uid": "0d5b2f8e-1f0f-4d0c-8a3b-6a1f8f3c2f11"});
    let sentence = format!(
        "SystemRegistry {name} belongs to the system level and must not have an owner; remove \
         metadata.ownerReferences"
    );
    for block in [false, true] {
        let references = owned(&owner, block);
        let born = with(a_system_registry(&name), "/metadata/ownerReferences", references.clone());
        cluster.administrator.may_not(&Call::create(&system_registries(), born), &sentence).await?;
    }
    let now = cluster.root.may(&Call::create(&system_registries(), a_system_registry(&name))).await?;
    for (user, block) in [(&cluster.administrator, false), (&cluster.root, true)] {
        let references = owned(&owner, block);
        let spec = json!({"endpoint": "https://registry.invalid"});
        for call in [
            Call::replace(&path, with(now.clone(), "/metadata/ownerReferences", references.clone())),
            Call::json_patch(
                &path,
                json!([{"op": "add", "path": "/metadata/ownerReferences", "value": references}]),
            ),
            Call::merge(&path, json!({"metadata": {"ownerReferences": references}})),
            Call::apply(&path, applied(&name, json!({"ownerReferences": references}), spec)),
        ] {
            user.may_not(&call, &sentence).await?;
        }
    }
    let patch = Call::merge(&path, json!({"metadata": {"ownerReferences": owned(&owner, false)}}));
    cluster.broad.may_not(&patch, &belongs_to_the_system_level(&name, "change")).await
}

async fn existing_owner_can_only_be_removed(cluster: &Cluster) -> Result<()> {
    // A control plane of its own: while its policy binds nobody, an object is made that is older than it.
    let stage = crate::stage::Stage::start(cluster.kubernetes).await?;
    let root = User::new("root", stage.control_plane().client().await?);
    let binding = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/\
                   system-registries.registry.spectrocloud.com";
    let kept = root.may(&Call::get(binding)).await?;
    root.may(&Call::delete(binding)).await?;
    let owner = json!({"name": "gone", "uid": "0d5b2f8e-1f0f-4d0c-8a3b-6a1f8f3c2f11"});
    let born = with(a_system_registry("older"), "/metadata/ownerReferences", owned(&owner, false));
    let born = with(born, "/metadata/finalizers", json!(["example.com/kept"]));
    let create = Call::create(&system_registries(), born);
    registry_testbed::eventually("the policy is off", || root.may(&create)).await?;
    let kept = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": kept["metadata"]["name"]}, "spec": kept["spec"],
    });
    let bindings = binding.rsplit_once('/').map_or("", |(bindings, _)| bindings);
    root.may(&Call::create(bindings, kept)).await?;
    registry_testbed::policies_are_in_force(&root.client()).await?;

    let path = system_registry("older");
    root.may(&Call::merge(&path, json!({"metadata": {"labels": {"a": "b"}}}))).await?;
    root.may(&Call::merge(&path, json!({"metadata": {"ownerReferences": null}}))).await?;
    let again = Call::merge(&path, json!({"metadata": {"ownerReferences": owned(&owner, false)}}));
    assert!(root.refusal(&again).await?.1.contains("must not have an owner"));
    Ok(())
}

async fn protected_system_registry_cannot_be_deleted(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("protected");
    let path = system_registry(&name);
    let protected = with(a_system_registry(&name), "/spec/deletionProtection", json!(true));
    cluster.administrator.may(&Call::create(&system_registries(), protected)).await?;
    let sentence = format!(
        "SystemRegistry {name} is protected from deletion; set spec.deletionProtection to false first"
    );
    for user in [&cluster.administrator, &cluster.root] {
        for (what, call) in DELETIONS {
            user.may_not(&call(&name, Value::Null), &sentence).await.with_context(|| *what)?;
        }
    }
    let unprotect = Call::merge(&path, json!({"spec": {"deletionProtection": false}}));
    cluster.broad.may_not(&unprotect, &belongs_to_the_system_level(&name, "change")).await?;
    cluster.administrator.may(&unprotect).await?;
    cluster.administrator.may(&Call::delete(&path)).await?;
    assert_eq!(cluster.root.refusal(&Call::get(&path)).await?.0, 404);
    Ok(())
}

async fn rejects_unknown_subresource(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("subresource");
    cluster.root.may(&Call::create(&system_registries(), a_system_registry(&name))).await?;
    for subresource in ["scale", "proxy", "finalize", "eviction"] {
        let path = format!("{}/{subresource}", system_registry(&name));
        for call in [
            Call::create(&path, json!({})),
            Call::replace(&path, a_system_registry(&name)),
            Call::merge(&path, json!({"spec": {"replicas": 0}})),
            Call::delete(&path),
        ] {
            for user in [&cluster.broad, &cluster.root] {
                assert_eq!(user.refusal(&call).await?.0, 404, "{call:?}");
            }
        }
    }
    Ok(())
}

async fn administer_must_be_cluster_wide(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("delegated");
    let user = cluster.unique("nearly");
    cluster.root.may(&Call::create(&system_registries(), a_system_registry(&name))).await?;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]);
    let binding = |kind: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": format!("{user}-{role}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": subjects,
        })
    };
    let one_name = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": user},
        "rules": [{
            "apiGroups": ["registry.spectrocloud.com"], "resources": ["systemregistries"],
            "resourceNames": [name], "verbs": ["administer"],
        }],
    });
    let namespaced = format!("{rbac}/namespaces/default/rolebindings");
    cluster.root.may(&Call::create(&namespaced, binding("RoleBinding", "registry-system-admin"))).await?;
    cluster.root.may(&Call::create(&format!("{rbac}/clusterroles"), one_name)).await?;
    let bindings = format!("{rbac}/clusterrolebindings");
    cluster.root.may(&Call::create(&bindings, binding("ClusterRoleBinding", &user))).await?;
    cluster.root.may(&Call::create(&bindings, binding("ClusterRoleBinding", "far-too-broad"))).await?;
    let user = cluster.stage.user(&user).await?;
    let delete = Call::delete(&system_registry(&name));
    let by_the_policy = || async {
        let (_, message) = user.refusal(&delete).await?;
        ensure!(message.contains("denied request"), "{message}");
        Ok(())
    };
    registry_testbed::eventually("the rights arrive", by_the_policy).await?;
    user.may_not(&delete, &belongs_to_the_system_level(&name, "delete")).await
}

async fn granting_administer_needs_administer(cluster: &Cluster) -> Result<()> {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let name = cluster.unique("grab");
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}},
        "rules": [{
            "apiGroups": ["registry.spectrocloud.com"], "resources": ["systemregistries"], "verbs": ["administer"],
        }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "registry-system-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "broad"}],
    });
    cluster.broad.has_no_right_to(&Call::create(&format!("{rbac}/clusterroles"), role)).await?;
    cluster.broad.has_no_right_to(&Call::create(&format!("{rbac}/clusterrolebindings"), binding)).await
}

async fn storage_migration_is_allowed(cluster: &Cluster) -> Result<()> {
    let name = cluster.unique("migrated");
    let path = system_registry(&name);
    cluster.root.may(&Call::create(&system_registries(), a_system_registry(&name))).await?;
    let account = cluster.unique("storage-version-migrator");
    let account_object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}});
    let accounts = "/api/v1/namespaces/kube-system/serviceaccounts";
    cluster.root.may(&Call::create(accounts, account_object)).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "far-too-broad"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    cluster.root.may(&Call::create(bindings, binding)).await?;
    let client = cluster.stage.control_plane().client_for_service_account("kube-system", &account).await?;
    let migrator = User::new("the migrator", client);
    let write_back = Call::replace(&path, cluster.read(&path).await?);
    let look = || migrator.may(&write_back);
    registry_testbed::eventually("it is written back", look).await?;
    let changed = Call::merge(&path, json!({"metadata": {"labels": {"row": "other"}}}));
    migrator.may_not(&changed, &belongs_to_the_system_level(&name, "change")).await?;
    migrator.may_not(&Call::delete(&path), &belongs_to_the_system_level(&name, "delete")).await
}
