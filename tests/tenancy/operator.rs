//! The permissions of the operator's account, with a token of its own: what it must not do, and what it must be able to do.

use anyhow::{Context as _, Result, ensure};
use registry_testbed::eventually;
use serde_json::{Value, json};

use crate::{
    call::{
        Call, User, a_system_registry, a_tenant_registry, system_registries, system_registry,
        tenant_registries, tenant_registry,
    },
    stage::{Cluster, SERVICE_ACCOUNT, SYSTEM_NAMESPACE, Stage},
};

on_each_kubernetes!(
    operator_writes_only_status_and_finalizer,
    operator_binds_only_itself_in_tenant_namespaces,
    role_bindings_are_owned_by_their_role_only,
    operator_writes_only_its_own_pull_secrets,
    operator_sets_no_foreign_finalizers_or_labels,
    operator_writes_only_events_about_registries,
    operator_only_dry_runs_services,
    operator_writes_only_its_own_lease,
    operator_has_no_other_permissions,
    policies_restrict_operator_with_cluster_admin,
);

fn fenced(kind: &str, name: &str, whose: &str) -> String {
    format!("The operator may write only the status and its own finalizer of {kind} {name}{whose}")
}

/// What the operator must not do to a registry that it may patch.
fn trespasses(path: &str, object: &Value) -> Vec<Call> {
    let owner = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "0d5b2f8e-1f0f-4d0c-8a3b-6a1f8f3c2f11",
    }]);
    let finalizers = |names: Value| Call::merge(path, json!({"metadata": {"finalizers": names}}));
    let mut applied = object.clone();
    applied["spec"]["endpoint"] = json!("https://apply.invalid");
    vec![
        Call::merge(path, json!({"spec": {"endpoint": "https://merge.invalid"}})),
        Call::json_patch(path, json!([{"op": "add", "path": "/spec/suspend", "value": true}])),
        Call::apply(path, applied),
        Call::merge(path, json!({"spec": {"suspend": true}})).dry(),
        Call::merge(path, json!({"metadata": {"labels": {"a": "b"}}})),
        Call::merge(path, json!({"metadata": {"annotations": {"a": "b"}}})),
        Call::merge(path, json!({"metadata": {"ownerReferences": owner}})),
        finalizers(json!([])),
        finalizers(json!(["example.com/theirs", "example.com/mine"])),
        finalizers(json!(["registry.spectrocloud.com/cleanup"])),
        Call::json_patch(
            path,
            json!([
                {"op": "add", "path": "/metadata/finalizers/-", "value": "registry.spectrocloud.com/cleanup"},
                {"op": "add", "path": "/spec/suspend", "value": true},
            ]),
        ),
    ]
}

/// What it must be able to do.
fn duties(path: &str, object: &Value) -> Vec<Call> {
    let bare = |metadata: Value| {
        let mut bare =
            json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata});
        bare["metadata"]["name"] = object["metadata"]["name"].clone();
        bare
    };
    let mut status = bare(json!({}));
    status["status"] = json!({"observedGeneration": 1});
    let ours = "registry.spectrocloud.com/cleanup";
    vec![
        Call::apply(&format!("{path}/status"), status),
        Call::merge(&format!("{path}/status"), json!({"status": {"observedGeneration": 2}})),
        Call::apply(path, bare(json!({"finalizers": [ours]}))),
        Call::apply(path, bare(json!({"finalizers": []}))),
        Call::merge(path, json!({"metadata": {"finalizers": ["example.com/theirs", ours]}})),
        Call::merge(path, json!({"metadata": {"finalizers": ["example.com/theirs"]}})),
    ]
}

async fn operator_writes_only_status_and_finalizer(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    let namespace = cluster.tenant_namespace("team-a").await?;
    let name = cluster.unique("packs");
    for (all, path, mut object, sentence) in [
        (
            system_registries(),
            system_registry(&name),
            a_system_registry(&name),
            fenced("SystemRegistry", &name, ", which belongs to the system level"),
        ),
        (
            tenant_registries(&namespace),
            tenant_registry(&namespace, &name),
            a_tenant_registry(&name),
            fenced("TenantRegistry", &name, ""),
        ),
    ] {
        operator.has_no_right_to(&Call::create(&all, object.clone())).await?;
        let absent = Call::apply(&format!("{path}-absent"), {
            let mut absent = object.clone();
            absent["metadata"]["name"] = json!(format!("{name}-absent"));
            absent
        });
        operator.has_no_right_to(&absent).await?;
        object["metadata"]["finalizers"] = json!(["example.com/theirs"]);
        let now = cluster.root.may(&Call::create(&all, object.clone())).await?;
        object["metadata"]["finalizers"] = Value::Null;
        for call in trespasses(&path, &object) {
            operator.may_not(&call, &sentence).await?;
        }
        for call in [
            Call::replace(&path, now),
            Call::delete(&path),
            Call::delete_by(&path, "Orphan"),
            Call::delete(&all),
        ] {
            operator.has_no_right_to(&call).await?;
        }
        for call in duties(&path, &object) {
            operator.may(&call).await?;
        }
        cluster.root.may(&Call::merge(&path, json!({"metadata": {"finalizers": null}}))).await?;
    }
    Ok(())
}

fn role_bindings(namespace: &str) -> String {
    format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings")
}

fn itself() -> Value {
    json!([{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": SYSTEM_NAMESPACE}])
}

fn a_role_binding(role: (&str, &str), subjects: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "registry-operator", "labels": {"app.kubernetes.io/managed-by": "registry-operator"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
        "subjects": subjects,
    })
}

const TENANT_ROLE: (&str, &str) = ("ClusterRole", "registry-operator-tenant");

async fn operator_binds_only_itself_in_tenant_namespaces(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    let (tenants, nobodys) =
        (cluster.tenant_namespace("team-a").await?, cluster.plain_namespace("nobody").await?);
    let path = format!("{}/registry-operator", role_bindings(&tenants));
    let only_itself = "The operator may bind only itself, to ClusterRole registry-operator-tenant, in a \
        RoleBinding named registry-operator";
    let user = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"});
    for subjects in [
        json!([user]),
        json!([itself()[0], user]),
        json!([]),
        json!([{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": tenants}]),
        json!([{"kind": "ServiceAccount", "name": "default", "namespace": SYSTEM_NAMESPACE}]),
        json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:serviceaccounts"}]),
    ] {
        operator.may_not(&Call::apply(&path, a_role_binding(TENANT_ROLE, &subjects)), only_itself).await?;
    }
    for role in
        [("ClusterRole", "cluster-admin"), ("ClusterRole", "registry-system-admin"), ("ClusterRole", "edit")]
    {
        operator.has_no_right_to(&Call::apply(&path, a_role_binding(role, &itself()))).await?;
    }
    let elsewhere = Call::apply(
        &format!("{}/registry-operator", role_bindings(&nobodys)),
        a_role_binding(TENANT_ROLE, &itself()),
    );
    let no_label = format!(
        "The operator may bind itself only in tenant namespaces: {nobodys} has no label \
         registry.spectrocloud.com/tenant"
    );
    operator.may_not(&elsewhere, &no_label).await?;
    let mut named = a_role_binding(TENANT_ROLE, &itself());
    named["metadata"]["name"] = json!("another");
    operator.has_no_right_to(&Call::create(&role_bindings(&tenants), named.clone())).await?;
    operator.has_no_right_to(&Call::apply(&format!("{}/another", role_bindings(&tenants)), named)).await?;

    operator.may(&Call::apply(&path, a_role_binding(TENANT_ROLE, &itself()))).await?;
    let widen = Call::json_patch(&path, json!([{"op": "add", "path": "/subjects/-", "value": user}]));
    operator.may_not(&widen, only_itself).await?;
    cluster.label(&tenants, None).await?;
    operator.may(&Call::delete(&path)).await?;

    let mut by_hand = a_role_binding(TENANT_ROLE, &itself());
    by_hand["metadata"]["labels"] = json!({});
    cluster.root.may(&Call::create(&role_bindings(&nobodys), by_hand)).await?;
    let delete = Call::delete(&format!("{}/registry-operator", role_bindings(&nobodys)));
    operator.may_not(&delete, "The operator may delete only RoleBindings that it created").await
}

/// The role, as its bindings' owner.
fn the_role(uid: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "registry-operator-tenant", "uid": uid,
    })
}

/// That with one thing changed.
fn but(mut owner: Value, key: &str, value: Value) -> Value {
    owner[key] = value;
    owner
}

async fn role_bindings_are_owned_by_their_role_only(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    let namespace = cluster.tenant_namespace("team-a").await?;
    let path = format!("{}/registry-operator", role_bindings(&namespace));
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/registry-operator-tenant";
    let role = operator.may(&Call::get(role)).await?;
    let role = the_role(role["metadata"]["uid"].as_str().context("a role has a uid")?);
    let owned = |owners: &[&Value]| {
        let mut binding = a_role_binding(TENANT_ROLE, &itself());
        binding["metadata"]["ownerReferences"] = json!(owners);
        Call::apply(&path, binding)
    };
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "1"});
    let sentence = "The operator may set only ClusterRole registry-operator-tenant as the owner of its \
        RoleBindings";
    for owner in [
        but(role.clone(), "name", json!("cluster-admin")),
        but(role.clone(), "kind", json!("Role")),
        but(role.clone(), "apiVersion", json!("example.com/v1")),
        but(role.clone(), "controller", json!(true)),
        but(role.clone(), "blockOwnerDeletion", json!(true)),
        config_map.clone(),
    ] {
        operator.may_not(&owned(&[&owner]), sentence).await?;
        operator.may_not(&owned(&[&role, &but(owner, "uid", json!("2"))]), sentence).await?;
    }
    operator.may(&owned(&[&role])).await?;
    // A foreign owner doesn't prevent the operator from repairing it. The owner must exist, or the garbage collector takes
    // the reference off.
    let namespace = cluster.read(&format!("/api/v1/namespaces/{namespace}")).await?;
    let theirs = json!({
        "apiVersion": "v1", "kind": "Namespace", "name": namespace["metadata"]["name"], "uid": namespace["metadata"]["uid"],
    });
    let given = json!([{"op": "add", "path": "/metadata/ownerReferences/-", "value": theirs}]);
    cluster.root.may(&Call::json_patch(&path, given)).await?;
    let mended = operator.may(&owned(&[&role])).await?;
    let owners = mended["metadata"]["ownerReferences"].as_array().context("it has owners")?;
    ensure!(owners.contains(&theirs) && owners.contains(&role), "{owners:?}");
    Ok(())
}

fn secrets(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

fn a_pull_secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/managed-by": "registry-operator",
            "registry.spectrocloud.com/registry-uid": "0d5b2f8e-1f0f-4d0c-8a3b-6a1f8f3c2f11",
        }},
        "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    })
}

fn labelled(mut secret: Value, labels: Value) -> Value {
    secret["metadata"]["labels"] = labels;
    secret
}

async fn operator_writes_only_its_own_pull_secrets(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    let namespace = cluster.tenant_namespace("team-a").await?;
    let (all, ours, theirs) = (
        secrets(&namespace),
        format!("{}/packs-pull", secrets(&namespace)),
        format!("{}/theirs", secrets(&namespace)),
    );
    let binding = format!("{}/registry-operator", role_bindings(&namespace));
    operator.may(&Call::apply(&binding, a_role_binding(TENANT_ROLE, &itself()))).await?;
    let apply = Call::apply(&ours, a_pull_secret("packs-pull"));
    eventually("the pull Secret is made", || operator.may(&apply)).await?;
    let mut opaque = a_pull_secret("opaque");
    opaque["type"] = json!("Opaque");
    let uid = json!({"registry.spectrocloud.com/registry-uid": "0d5b2f8e-1f0f-4d0c-8a3b-6a1f8f3c2f11"});
    let managed = json!({"app.kubernetes.io/managed-by": "registry-operator"});
    let as_its_own = "The operator may write only Secrets of type kubernetes.io/dockerconfigjson labelled \
                      app.kubernetes.io/managed-by and registry.spectrocloud.com/registry-uid";
    for (name, secret) in [
        ("opaque", opaque),
        ("no-labels", labelled(a_pull_secret("no-labels"), json!({}))),
        ("no-owner", labelled(a_pull_secret("no-owner"), managed.clone())),
        ("no-manager", labelled(a_pull_secret("no-manager"), uid.clone())),
    ] {
        operator.may_not(&Call::create(&all, secret.clone()), as_its_own).await.with_context(|| name)?;
        operator.may_not(&Call::apply(&format!("{all}/{name}"), secret), as_its_own).await?;
    }
    let unmark = Call::merge(&ours, json!({"metadata": {"labels": null}}));
    operator.may_not(&unmark, as_its_own).await?;

    let only_own = "The operator may change and delete only Secrets that it created";
    for labels in [json!({}), managed, uid] {
        cluster.root.may(&Call::create(&all, labelled(a_pull_secret("theirs"), labels))).await?;
        for call in [
            Call::apply(&theirs, a_pull_secret("theirs")),
            Call::merge(&theirs, json!({"metadata": {"annotations": {"a": "b"}}})),
            Call::json_patch(
                &theirs,
                json!([{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]),
            ),
            Call::delete(&theirs),
        ] {
            operator.may_not(&call, only_own).await?;
        }
        cluster.root.may(&Call::delete(&theirs)).await?;
    }
    operator.has_no_right_to(&Call::delete(&all)).await?;
    operator.has_no_right_to(&Call::replace(&ours, a_pull_secret("packs-pull"))).await?;

    operator
        .may(&Call::merge(&ours, json!({"stringData": {".dockerconfigjson": "{\"auths\":{\"a\":{}}}"}})))
        .await?;
    operator.may(&Call::create(&all, a_pull_secret("other-pull"))).await?;
    label_of_creation_leaves(&operator, &all).await?;
    cluster.label(&namespace, None).await?;
    let no_tenant = format!(
        "The operator may write Secrets only in tenant namespaces: {namespace} has no label \
         registry.spectrocloud.com/tenant"
    );
    operator.may_not(&Call::create(&all, a_pull_secret("late")), &no_tenant).await?;
    operator
        .may_not(&Call::merge(&ours, json!({"metadata": {"annotations": {"a": "b"}}})), &no_tenant)
        .await?;
    operator.may(&Call::delete(&ours)).await?;
    Ok(())
}

/// Does what the operator does: moves the fields of the creation to the apply, then applies without the label.
async fn label_of_creation_leaves(operator: &User, all: &str) -> Result<()> {
    let path = format!("{all}/labelled");
    let mut older = a_pull_secret("labelled");
    older["metadata"]["labels"]["app.kubernetes.io/part-of"] = json!("older");
    let created = operator.may(&Call::create(&format!("{all}?fieldManager=somebody"), older)).await?;
    let mut entries = created["metadata"]["managedFields"].clone();
    entries[0]["operation"] = json!("Apply");
    let version = &created["metadata"]["resourceVersion"];
    let taken = json!({"metadata": {"managedFields": entries, "resourceVersion": version}});
    operator.may(&Call::merge(&path, taken)).await?;
    let applied = operator.may(&Call::apply(&path, a_pull_secret("labelled"))).await?;
    let labels = a_pull_secret("labelled")["metadata"]["labels"].clone();
    ensure!(applied["metadata"]["labels"] == labels, "{applied}");
    Ok(())
}

/// Metadata that makes other controllers act: that delete, copy or block deletion.
fn strange_metadata() -> [Value; 4] {
    [
        json!({"finalizers": ["example.com/never"]}),
        json!({"finalizers": ["foregroundDeletion"]}),
        json!({"labels": {"example.com/select": "me"}}),
        json!({"annotations": {"reflector.example.com/reflection-allowed": "true"}}),
    ]
}

async fn operator_sets_no_foreign_finalizers_or_labels(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    let namespace = cluster.tenant_namespace("team-a").await?;
    let path = format!("{}/registry-operator", role_bindings(&namespace));
    operator.may(&Call::apply(&path, a_role_binding(TENANT_ROLE, &itself()))).await?;
    let (all, pull) = (secrets(&namespace), format!("{}/packs-pull", secrets(&namespace)));
    let apply = Call::apply(&pull, a_pull_secret("packs-pull"));
    eventually("the pull Secret is made", || operator.may(&apply)).await?;

    let plain = "The operator may set only its own labels and annotations, and no finalizers";
    for metadata in strange_metadata() {
        for path in [&path, &pull] {
            operator.may_not(&Call::merge(path, json!({"metadata": metadata})), plain).await?;
        }
        let mut born = a_pull_secret("born");
        for (key, value) in metadata.as_object().into_iter().flatten() {
            match value.as_object() {
                Some(more) => {
                    more.iter().for_each(|(name, value)| born["metadata"][key][name] = value.clone());
                }
                None => born["metadata"][key] = value.clone(),
            }
        }
        operator.may_not(&Call::create(&all, born).dry(), plain).await?;
    }
    let owner = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "0d5b2f8e-1f0f-4d0c-8a3b-6a1f8f3c2f11",
        "blockOwnerDeletion": true,
    }]);
    let owned = Call::merge(&pull, json!({"metadata": {"ownerReferences": owner}}));
    operator.may_not(&owned, "The operator may not set owners of its pull Secrets").await?;
    let one_key = "The operator may write only the key .dockerconfigjson of its pull Secrets, and may not make them \
         immutable";
    operator.may_not(&Call::merge(&pull, json!({"stringData": {"more": "x"}})), one_key).await?;
    operator.may_not(&Call::merge(&pull, json!({"immutable": true})), one_key).await?;

    // What others have put there stays, and keeps the operator from nothing.
    let theirs = json!({
        "metadata": {"finalizers": ["example.com/theirs"], "labels": {"a": "b"}, "annotations": {"a": "b"}, "ownerReferences": owner},
        "stringData": {"more": "x"},
    });
    cluster.root.may(&Call::merge(&pull, theirs).dry()).await?;
    let theirs = json!({
        "metadata": {"finalizers": ["example.com/theirs"], "labels": {"a": "b"}, "annotations": {"a": "b"}},
        "data": {"more": "eA=="},
    });
    cluster.root.may(&Call::merge(&pull, theirs)).await?;
    let strip = Call::merge(&pull, json!({"metadata": {"finalizers": null}}));
    operator.may_not(&strip, plain).await?;
    let content = json!({"stringData": {".dockerconfigjson": "{\"auths\":{\"b\":{}}}"}});
    operator.may(&Call::merge(&pull, content)).await?;
    operator.may(&Call::apply(&pull, a_pull_secret("packs-pull"))).await?;
    cluster.root.may(&Call::merge(&path, json!({"metadata": {"labels": {"a": "b"}}}))).await?;
    operator.may(&Call::apply(&path, a_role_binding(TENANT_ROLE, &itself()))).await?;
    operator.may(&Call::delete(&pull)).await?;
    cluster.root.may(&Call::merge(&pull, json!({"metadata": {"finalizers": null}}))).await?;
    Ok(())
}

fn events(namespace: &str) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}

/// An Event as the operator writes it, about that kind of registry in that namespace.
fn an_event(kind: &str, namespace: Option<&str>) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "packs.1"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Validate", "reason": "Available", "type": "Normal",
        "reportingController": "registry.spectrocloud.com/registry-operator", "reportingInstance": "a",
        "regarding": {
            "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": kind, "name": "packs", "namespace": namespace,
        },
    })
}

async fn operator_writes_only_events_about_registries(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    let namespace = cluster.tenant_namespace("team-a").await?;
    let tenants = an_event("TenantRegistry", Some(&namespace));
    operator.may(&Call::create(&events(&namespace), tenants.clone())).await?;
    operator.may(&Call::create(&events("default"), an_event("SystemRegistry", None)).dry()).await?;

    let with = |pointer: &str, value: Value| {
        let mut event = tenants.clone();
        if let Some(place) = event.pointer_mut(pointer) {
            *place = value;
        }
        event
    };
    let name = "The operator may only create Events, with reportingController \
                registry.spectrocloud.com/registry-operator";
    let forged = with("/reportingController", json!("kubelet"));
    operator.may_not(&Call::create(&events(&namespace), forged), name).await?;
    let about = "The operator may create Events only about a TenantRegistry in its namespace, or about a \
        SystemRegistry in the namespace default";
    let mut related = tenants.clone();
    related["related"] = json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "namespace": namespace});
    for (event, place) in [
        (with("/regarding/kind", json!("Pod")), namespace.as_str()),
        (with("/regarding/apiVersion", json!("v1")), &namespace),
        (with("/regarding/apiVersion", json!("example.com/v1")), &namespace),
        (related, &namespace),
        (an_event("SystemRegistry", None), "kube-system"),
        (an_event("SystemRegistry", Some(&namespace)), &namespace),
    ] {
        operator.may_not(&Call::create(&events(place), event), about).await?;
    }
    let bare = "The operator may not set labels, annotations, finalizers or owners of Events";
    for metadata in strange_metadata() {
        let mut event = tenants.clone();
        event["metadata"] = metadata;
        event["metadata"]["name"] = json!("packs.2");
        operator.may_not(&Call::create(&events(&namespace), event), bare).await?;
    }
    let path = format!("{}/packs.1", events(&namespace));
    operator.has_no_right_to(&Call::merge(&path, json!({"note": "x"}))).await?;
    Ok(())
}

async fn operator_only_dry_runs_services(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    let services = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/services");
    let path = format!("{services}/registry-operator-service-range");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "registry-operator-service-range"},
        "spec": {"ports": [{"port": 443}], "externalIPs": ["192.0.2.1"]},
    });
    let dry_only = "The operator may create and change Services only as a dry run";
    operator.may_not(&Call::apply(&path, service.clone()), dry_only).await?;
    operator.may(&Call::apply(&path, service.clone()).dry()).await?;
    operator.has_no_right_to(&Call::create(&services, service.clone())).await?;
    let elsewhere = path.replace(SYSTEM_NAMESPACE, "default");
    operator.has_no_right_to(&Call::apply(&elsewhere, service.clone())).await?;
    cluster.root.may(&Call::create(&services, service)).await?;
    let change = Call::merge(&path, json!({"spec": {"externalIPs": ["192.0.2.2"]}}));
    operator.may_not(&change, dry_only).await?;
    cluster.root.may(&Call::delete(&path)).await?;
    Ok(())
}

async fn operator_writes_only_its_own_lease(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    let all = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases");
    let lease = |name: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": "somebody"},
        })
    };
    let another = Call::create(&all, lease("another"));
    operator.may_not(&another, "The operator may write only the Lease registry-operator").await?;
    let mut held = operator.may(&Call::create(&all, lease("registry-operator"))).await?;
    let one = format!("{all}/registry-operator");
    for metadata in strange_metadata() {
        let mut strange = held.clone();
        for (key, value) in metadata.as_object().into_iter().flatten() {
            strange["metadata"][key] = value.clone();
        }
        let plain = "The operator may set only its own labels and annotations, and no finalizers";
        operator.may_not(&Call::replace(&one, strange), plain).await?;
    }
    let mut owned = held.clone();
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1"}]);
    operator
        .may_not(
            &Call::replace(&one, owned),
            "The operator may set only its ServiceAccount as the owner of its Lease",
        )
        .await?;
    held["spec"]["holderIdentity"] = json!("");
    operator.may(&Call::replace(&format!("{all}/registry-operator"), held)).await?;
    let elsewhere = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    operator.has_no_right_to(&Call::create(elsewhere, lease("registry-operator"))).await?;
    operator.has_no_right_to(&Call::delete(&format!("{all}/registry-operator"))).await?;
    cluster.root.may(&Call::delete(&format!("{all}/registry-operator"))).await?;
    Ok(())
}

async fn operator_has_no_other_permissions(cluster: &Cluster) -> Result<()> {
    let operator = cluster.stage.operator().await?;
    let namespace = cluster.plain_namespace("nobody").await?;
    let system = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}");
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    });
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "a"}});
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    for call in [
        Call::get("/api/v1/secrets"),
        Call::get("/api/v1/configmaps"),
        Call::get(&secrets(&namespace)),
        Call::get(&secrets("kube-system")),
        Call::create(&secrets(&namespace), a_pull_secret("a")),
        Call::create(&secrets(SYSTEM_NAMESPACE), a_pull_secret("a")),
        Call::delete(&format!("{}/a", secrets(SYSTEM_NAMESPACE))),
        Call::create(&format!("{system}/configmaps"), config_map),
        Call::merge(&format!("{system}/configmaps/registry-operator-tenant-policy"), json!({"data": {}})),
        Call::create(&format!("{system}/serviceaccounts/{SERVICE_ACCOUNT}/token"), token),
        Call::create(&format!("{system}/pods"), pod),
        Call::get(&format!("{system}/pods")),
        Call::merge(&format!("/api/v1/namespaces/{namespace}"), json!({"metadata": {"labels": {"a": "b"}}})),
        Call::delete(&format!("/api/v1/namespaces/{namespace}")),
        Call::create(&format!("{rbac}/clusterroles"), role),
        Call::get(&format!("{rbac}/clusterroles")),
        Call::get(&format!("{rbac}/clusterroles/cluster-admin")),
        Call::merge(&format!("{rbac}/clusterroles/registry-operator"), json!({"rules": []})),
        Call::merge(&format!("{rbac}/clusterroles/registry-operator-tenant"), json!({"rules": []})),
        Call::delete(&format!("{rbac}/clusterroles/registry-operator-tenant")),
        Call::merge(&format!("{rbac}/clusterrolebindings/registry-operator"), json!({"subjects": []})),
        Call::delete(&format!("{policies}/operator-secrets.registry.spectrocloud.com")),
        Call::get(policies),
        Call::delete(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/systemregistries.registry.spectrocloud.com",
        ),
        Call::get("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"),
        Call::merge(
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/tenant-labels.registry.spectrocloud.com",
            json!({"spec": {"validationActions": ["Warn"]}}),
        ),
        Call::create(&system_registries(), a_system_registry("registry-operator-guard")),
        Call::get(&format!("{system}/services")),
        Call::get("/apis/events.k8s.io/v1/events"),
        Call::delete(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")),
    ] {
        operator.has_no_right_to(&call).await?;
    }
    Ok(())
}

async fn given_every_right(stage: &Stage, root: &User) -> Result<User> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "mistake"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": itself(),
    });
    root.may(&Call::create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)).await?;
    let operator = stage.operator().await?;
    let read = Call::get("/api/v1/nodes");
    eventually("the rights arrive", || operator.may(&read)).await?;
    Ok(operator)
}

async fn policies_restrict_operator_with_cluster_admin(cluster: &Cluster) -> Result<()> {
    let stage = Stage::start(cluster.kubernetes).await?; // nobody else's operator should have them
    let root = User::new("root", stage.control_plane().client().await?);
    let operator = given_every_right(&stage, &root).await?;
    let path = system_registry("packs");
    let sentence = fenced("SystemRegistry", "packs", ", which belongs to the system level");
    operator.may_not(&Call::create(&system_registries(), a_system_registry("packs")), &sentence).await?;
    let now = root.may(&Call::create(&system_registries(), a_system_registry("packs"))).await?;
    for call in [
        Call::replace(&path, {
            let mut now = now;
            now["spec"]["suspend"] = json!(true);
            now
        }),
        Call::merge(&path, json!({"metadata": {"labels": {"a": "b"}}})),
        Call::delete(&path),
        Call::delete(&system_registries()),
    ] {
        operator.may_not(&call, &sentence).await?;
    }
    // The one that it may try to make, to see that it is refused.
    let canary = fenced("SystemRegistry", "registry-operator-guard", ", which belongs to the system level");
    let apply = Call::apply(
        &system_registry("registry-operator-guard"),
        a_system_registry("registry-operator-guard"),
    );
    operator.may_not(&apply, &canary).await?;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a.1"}, "type": "Warning", "reason": "Forged",
        "reportingComponent": "kubelet", "source": {"component": "kubelet"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "a", "namespace": "default"},
    });
    let (code, message) = operator.refusal(&Call::create("/api/v1/namespaces/default/events", event)).await?;
    ensure!(code == 403 && message.contains("The operator may only create Events"), "{code} {message}");
    let only_own = "The operator may change and delete only Secrets that it created";
    let mut theirs = a_pull_secret("theirs");
    theirs["metadata"]["labels"] = json!({});
    root.may(&Call::create(&secrets("default"), theirs)).await?;
    operator.may_not(&Call::delete(&format!("{}/theirs", secrets("default"))), only_own).await?;
    operator.may_not(&Call::delete(&secrets("default")), only_own).await?;
    let binding = a_role_binding(("ClusterRole", "cluster-admin"), &itself());
    let (code, message) = operator.refusal(&Call::create(&role_bindings("default"), binding)).await?;
    ensure!(code == 403 && message.contains("The operator may bind only itself"), "{code} {message}");
    Ok(())
}
