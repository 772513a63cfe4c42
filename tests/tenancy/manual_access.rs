//! tenantAccess: manual, where an administrator binds the operator in tenants' namespaces.

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{Kubernetes, Operator, eventually, manifests, policies_are_in_force};
use serde_json::json;

use crate::{
    call::{Call, User, a_namespace, a_tenant_registry, tenant_registries, tenant_registry},
    helm::Helm,
    stage::{SYSTEM_NAMESPACE, Stage},
};

#[tokio::test]
async fn manual_access_waits_for_the_binding() -> Result<()> {
    let stage = Stage::bare(Kubernetes::Newest).await?;
    let root = User::new("root", stage.control_plane().client().await?);
    let rendered = Helm::of(&stage).await?.template(&["--set=tenantAccess=manual"]).await?;
    assert!(rendered.contains("--tenant-access=manual"), "the Deployment tells the operator");
    assert!(!rendered.contains("name: operator-role-bindings"), "no policy on what it can't do");
    let mut objects = manifests::parse("the chart", &rendered)?;
    objects.insert(0, serde_json::from_value(a_namespace(SYSTEM_NAMESPACE, None))?);
    manifests::apply(&root.client(), objects).await?;
    policies_are_in_force(&root.client()).await?;

    let account = stage.operator().await?;
    root.may(&Call::create("/api/v1/namespaces", a_namespace("team-a", Some("team")))).await?;
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/rolebindings";
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "registry-operator", "namespace": "team-a"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "registry-operator-tenant"},
        "subjects": [{"kind": "ServiceAccount", "name": "registry-operator", "namespace": SYSTEM_NAMESPACE}],
    });
    account.has_no_right_to(&Call::apply(&format!("{bindings}/registry-operator"), binding.clone())).await?;
    account.has_no_right_to(&Call::get(bindings)).await?;

    let operator = Operator::start(stage.operator_options().await?.arg("--tenant-access=manual")).await?;
    let mut object = a_tenant_registry("packs");
    object["spec"]["endpoint"] = json!("https://127.0.0.1:1");
    object["spec"]["auth"] = json!({"basic": {"secretRef": {"name": "login"}}});
    root.may(&Call::create(&tenant_registries("team-a"), object)).await?;
    let resolved = |reason: &'static str| {
        let (root, get) = (root.clone(), Call::get(&tenant_registry("team-a", "packs")));
        move || {
            let (root, get) = (root.clone(), get.clone());
            async move {
                let object = root.may(&get).await?;
                let conditions = object["status"]["conditions"].as_array().context("no conditions")?.clone();
                let found = conditions.into_iter().find(|condition| condition["type"] == "ResolvedRefs");
                let found = found.context("no ResolvedRefs")?;
                ensure!(found["reason"] == reason, "{found}");
                Ok(found["message"].as_str().unwrap_or_default().to_owned())
            }
        }
    };
    let message = eventually("access is denied", resolved("AccessDenied")).await?;
    assert_eq!(
        message,
        "Failed to read Secret team-a/login: forbidden; run kubectl create rolebinding \
         registry-operator --clusterrole=registry-operator-tenant --serviceaccount=registry-system:registry-operator -n \
         team-a"
    );
    root.may(&Call::create(bindings, binding)).await?;
    eventually("it may look", resolved("SecretNotFound")).await?;
    let log = operator.log();
    assert!(!log.contains("failed to create the RoleBinding"), "it did not even try:\n{log}");
    Ok(())
}
