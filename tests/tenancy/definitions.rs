//! The objects that the policies depend on: CRDs, APIServices of the group, the chart's roles and parameters.

use anyhow::{Context as _, Result};
use registry_api::{
    GROUP,
    spec::{Scope as _, System, Tenant},
};
use serde_json::{Value, json};

use crate::{
    call::{Call, a_system_registry, is_refused_by_policy, system_registries},
    stage::{Cluster, SYSTEM_NAMESPACE, Stage},
};

on_each_kubernetes!(
    changing_crds_needs_administer,
    administrator_may_reapply_crds,
    taking_over_the_api_group_needs_administer,
    changing_roles_and_policy_needs_administer,
    policies_ignore_other_crds_and_config_maps,
    administrator_deletes_crd_with_registries,
);

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const HOLDER: &str = "only users with the verb administer on systemregistries may";

fn of_the_definition(name: &str, verb: &str) -> String {
    format!("The definition {name} belongs to the system level: {HOLDER} {verb} it")
}

fn of_the_installation(kind: &str, name: &str, verb: &str) -> String {
    format!("{kind} {name} belongs to the system level: {HOLDER} {verb} it")
}

fn names() -> [String; 2] {
    [System::PLURAL, Tenant::PLURAL].map(|plural| format!("{plural}.{GROUP}"))
}

async fn changing_crds_needs_administer(cluster: &Cluster) -> Result<()> {
    for name in names() {
        let path = format!("{DEFINITIONS}/{name}");
        replacing_is_refused(cluster, &path, &of_the_definition(&name, "change")).await?;
        let applied = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": name, "labels": {"mine": "yes"}},
        });
        let lax = json!([{
            "op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
            "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }]);
        for call in [
            Call::json_patch(&path, lax),
            Call::merge(&path, json!({"metadata": {"labels": {"mine": "yes"}}})),
            Call::merge(&path, json!({"metadata": {"finalizers": ["example.com/mine"]}})),
            Call::apply(&path, applied),
            Call::merge(&format!("{path}/status"), json!({"status": {"storedVersions": ["v1"]}})),
        ] {
            cluster.broad.may_not(&call, &of_the_definition(&name, "change")).await?;
        }
        for call in [
            Call::delete(&path),
            Call::delete_by(&path, "Foreground"),
            Call::delete_by(&path, "Orphan"),
            Call::delete(&format!("{DEFINITIONS}?fieldSelector=metadata.name={name}")),
        ] {
            cluster.broad.may_not(&call, &of_the_definition(&name, "delete")).await?;
        }
        assert!(cluster.read(&path).await?["metadata"]["deletionTimestamp"].is_null());
    }
    Ok(())
}

/// Another test may have written in between.
async fn replacing_is_refused(cluster: &Cluster, path: &str, sentence: &str) -> Result<()> {
    loop {
        let mut renamed = cluster.read(path).await?;
        renamed["spec"]["names"]["shortNames"] = json!(["mine"]);
        let replace = Call::replace(path, renamed).dry();
        let answer = cluster.broad.refusal(&replace).await?;
        if answer.0 != 409 {
            return is_refused_by_policy(&replace, &answer, sentence);
        }
    }
}

async fn administrator_may_reapply_crds(cluster: &Cluster) -> Result<()> {
    for (_, yaml) in registry_api::crd::files()? {
        let definition: Value = serde_saphyr::from_str(&yaml)?;
        let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let apply = Call::apply(&format!("{DEFINITIONS}/{name}"), definition);
        cluster.broad.may_not(&apply, &of_the_definition(&name, "change")).await?;
        cluster.administrator.may(&apply).await?;
    }
    Ok(())
}

async fn taking_over_the_api_group_needs_administer(cluster: &Cluster) -> Result<()> {
    let local = format!("v1alpha1.{GROUP}");
    let elsewhere =
        json!({"spec": {"service": {"name": "mine", "namespace": "default"}, "insecureSkipTLSVerify": true}});
    // The API server makes it by itself, some moments after the definition.
    let get = Call::get(&format!("{API_SERVICES}/{local}"));
    registry_testbed::eventually("the group is served", || cluster.root.may(&get)).await?;
    let merge = Call::merge(&format!("{API_SERVICES}/{local}"), elsewhere);
    cluster.broad.may_not(&merge, &of_the_definition(&local, "change")).await?;
    let delete = Call::delete(&format!("{API_SERVICES}/{local}"));
    cluster.broad.may_not(&delete, &of_the_definition(&local, "delete")).await?;

    let name = format!("v9.{GROUP}");
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
        "spec": {
            "group": GROUP, "version": "v9", "groupPriorityMinimum": 20000, "versionPriority": 100,
            "service": {"name": "mine", "namespace": "default"}, "insecureSkipTLSVerify": true,
        },
    });
    cluster.broad.may_not(&Call::create(API_SERVICES, service), &of_the_definition(&name, "create")).await?;

    let name = format!("others.{GROUP}");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {
            "group": GROUP, "scope": "Cluster", "names": {"plural": "others", "kind": "Other"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    cluster.broad.may_not(&Call::create(DEFINITIONS, definition), &of_the_definition(&name, "create")).await
}

async fn changing_roles_and_policy_needs_administer(cluster: &Cluster) -> Result<()> {
    let roles = [
        "registry-operator",
        "registry-operator-tenant",
        "registry-system-admin",
        "registry-system-view",
        "registry-tenant-admin",
        "registry-tenant-view",
    ];
    let bindings = ["registry-operator", "registry-system-view"];
    let objects = roles
        .map(|name| ("ClusterRole", name, format!("{RBAC}/clusterroles/{name}")))
        .into_iter()
        .chain(
            bindings.map(|name| ("ClusterRoleBinding", name, format!("{RBAC}/clusterrolebindings/{name}"))),
        )
        .chain([(
            "ConfigMap",
            "registry-operator-tenant-policy",
            format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/registry-operator-tenant-policy"),
        )]);
    for (kind, name, path) in objects {
        let (collection, _) = path.rsplit_once('/').context("no collection")?;
        let label = Call::merge(&path, json!({"metadata": {"labels": {"touched": "yes"}}}));
        let (code, message) = cluster.broad.refusal(&label).await?;
        // RBAC answers first where a role holds what the user does not.
        let by_rbac = message.contains("attempting to grant RBAC permissions not currently held");
        let by_policy = message.ends_with(&of_the_installation(kind, name, "change"));
        assert!(code == 403 && (by_rbac || by_policy), "{path}: {code} {message}");
        let all = Call::delete(&format!("{collection}?fieldSelector=metadata.name={name}"));
        for call in [Call::delete(&path), all] {
            cluster.broad.may_not(&call, &of_the_installation(kind, name, "delete")).await?;
        }
        cluster.root.may(&label).await?;
    }
    Ok(())
}

async fn policies_ignore_other_crds_and_config_maps(cluster: &Cluster) -> Result<()> {
    let plural = cluster.unique("widgets");
    let name = format!("{plural}.example.com");
    let kind = cluster.unique("Widget");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": plural, "kind": kind.replace('-', "")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let config_map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": cluster.unique("other")}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}});
    for (collection, object) in [
        (DEFINITIONS.to_owned(), definition),
        (format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps"), config_map),
        (format!("{RBAC}/clusterroles"), role),
    ] {
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
        cluster.broad.may(&Call::create(&collection, object)).await?;
        cluster.broad.may(&Call::merge(&path, json!({"metadata": {"labels": {"a": "b"}}}))).await?;
        cluster.broad.may(&Call::delete(&path)).await?;
    }
    Ok(())
}

async fn administrator_deletes_crd_with_registries(cluster: &Cluster) -> Result<()> {
    let stage = Stage::start(cluster.kubernetes).await?; // what is deleted here is missed elsewhere
    let administrator = stage.user("administrator").await?;
    let mut object = a_system_registry("packs");
    object["spec"]["deletionProtection"] = json!(true);
    administrator.may(&Call::create(&system_registries(), object)).await?;
    for name in names() {
        let path = format!("{DEFINITIONS}/{name}");
        administrator.may(&Call::delete(&path)).await?;
        let get = Call::get(&path);
        let look = || async {
            let code = administrator.send(&get).await?.err().map(|(code, _)| code);
            anyhow::ensure!(code == Some(404), "{code:?}");
            Ok(())
        };
        registry_testbed::eventually(format!("{name} is gone"), look).await?;
    }
    Ok(())
}
