//! The operator's check of its policies: on API servers where they are in force, and where they are not, for several reasons.

use anyhow::{Context as _, Result, ensure};
use registry_api::TENANT_LABEL;
use registry_testbed::{
    Kubernetes, Operator, eventually,
    http_client::Call as Get,
    in_repository,
    manifests::{self, Placeholders},
};
use serde_json::{Value, json};

use crate::{
    call::{
        Call, User, a_namespace, a_tenant_registry, system_registries, tenant_registries, tenant_registry,
    },
    stage::{Cluster, SYSTEM_NAMESPACE, Stage},
};

on_each_kubernetes!(reports_whether_policies_are_in_force);

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

async fn operator(stage: &Stage) -> Result<Operator> {
    Ok(Operator::launch(stage.operator_options().await?).await?)
}

/// The sample of a metric without labels.
fn sample(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Waits until the operator says so, by its metric and at /guardz; returns what it says there.
async fn says(operator: &Operator, in_force: bool) -> Result<String> {
    let look = || async {
        let told = sample(&operator.metrics().await?, "registry_operator_guard_in_force");
        ensure!(told == Some(f64::from(u8::from(in_force))), "{told:?}");
        let answer = Get::get(format!("{}/guardz", operator.url())).send().await?;
        ensure!(answer.status() == if in_force { 200 } else { 503 }, "{}", answer.status());
        Ok(String::from_utf8_lossy(answer.body()).into_owned())
    };
    let what = format!("the guard is said to be in force: {in_force}");
    eventually(what, look).await.with_context(|| operator.log())
}

async fn is_logged(operator: &Operator, text: &str) -> Result<()> {
    let look = || async {
        ensure!(operator.log().contains(text), "{}", operator.log());
        Ok(())
    };
    Ok(eventually(format!("the log says {text}"), look).await?)
}

/// A deleted object of the admission API, which can be restored.
struct RemovedObject {
    collection: String,
    object: Value,
}

impl RemovedObject {
    async fn delete(root: &User, plural: &str, name: &str) -> Result<Self> {
        let collection = format!("{ADMISSION}/{plural}");
        let path = format!("{collection}/{name}.registry.spectrocloud.com");
        let mut object = root.may(&Call::get(&path)).await?;
        root.may(&Call::delete(&path)).await?;
        object["metadata"] =
            json!({"name": object["metadata"]["name"], "labels": object["metadata"]["labels"]});
        Ok(Self { collection, object })
    }

    async fn restore(self, root: &User) -> Result<()> {
        root.may(&Call::create(&self.collection, self.object)).await?;
        Ok(())
    }
}

/// A webhook of another owner that would change registries.
fn a_mutating_webhook() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "theirs"},
        "webhooks": [{
            "name": "theirs.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore", "clientConfig": {"url": "https://theirs.invalid/"},
            "objectSelector": {"matchLabels": {"no": "object"}},
            "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["CREATE", "UPDATE"]}],
        }],
    })
}

/// A policy of another owner that changes registries.
fn a_mutating_policy() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "theirs-too"},
        "spec": {
            "reinvocationPolicy": "Never", "failurePolicy": "Ignore",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["registry.spectrocloud.com"], "apiVersions": ["*"], "resources": ["systemregistries"],
                "operations": ["CREATE", "UPDATE"],
            }]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
                "expression": "Object{spec: Object.spec{endpoint: 'https://theirs.invalid'}}",
            }}],
        },
    })
}

async fn reports_whether_policies_are_in_force(cluster: &Cluster) -> Result<()> {
    let stage = Stage::start(cluster.kubernetes).await?;
    let root = User::new("root", stage.control_plane().client().await?);
    // What would change registries is no gap, and is told.
    let mut theirs = vec!["MutatingWebhookConfiguration theirs"];
    root.may(&Call::create(&format!("{ADMISSION}/mutatingwebhookconfigurations"), a_mutating_webhook()))
        .await?;
    if cluster.kubernetes == Kubernetes::Newest {
        theirs.insert(0, "MutatingAdmissionPolicy theirs-too");
        root.may(&Call::create(&format!("{ADMISSION}/mutatingadmissionpolicies"), a_mutating_policy()))
            .await?;
    }
    let first = operator(&stage).await?;
    says(&first, true).await?;
    is_logged(&first, &theirs.join(", ")).await?;
    let mutators = sample(&first.metrics().await?, "registry_operator_registry_mutators");
    ensure!(mutators == Some(if theirs.len() == 2 { 2.0 } else { 1.0 }), "{mutators:?}");
    // The dry run has made nothing.
    ensure!(root.may(&Call::get(&system_registries())).await?["items"] == json!([]));
    drop(first);

    let policy = RemovedObject::delete(&root, "validatingadmissionpolicies", "definitions").await?;
    let second = operator(&stage).await?;
    let why = says(&second, false).await?;
    ensure!(
        why.contains("ValidatingAdmissionPolicy definitions.registry.spectrocloud.com is missing"),
        "{why}"
    );
    is_logged(&second, "ERROR").await?;
    is_logged(&second, "admission policies are not in force").await?;
    drop(second);
    policy.restore(&root).await?;

    let path =
        format!("{ADMISSION}/validatingadmissionpolicybindings/system-registries.registry.spectrocloud.com");
    root.may(&Call::merge(&path, json!({"spec": {"validationActions": ["Warn"]}}))).await?;
    let third = operator(&stage).await?;
    let why = says(&third, false).await?;
    ensure!(why.contains("does not deny (validationActions: Warn)"), "{why}");
    ensure!(root.may(&Call::get(&system_registries())).await?["items"] == json!([]));

    // It works on, and says so when the guard is there again.
    third.wait_ready().await?;
    root.may(&Call::merge(&path, json!({"spec": {"validationActions": ["Deny"]}}))).await?;
    says(&third, true).await?;
    is_logged(&third, "admission policies are in force").await?;
    drop(third);

    RemovedObject::delete(&root, "validatingadmissionpolicybindings", "tenant-labels").await?;
    let fourth = operator(&stage).await?;
    let why = says(&fourth, false).await?;
    ensure!(
        why.contains("ValidatingAdmissionPolicyBinding tenant-labels.registry.spectrocloud.com is missing"),
        "{why}"
    );
    Ok(())
}

/// An API server that stores the policies and doesn't enforce them: users who may label namespaces can label the operator's own.
#[tokio::test]
async fn reports_disabled_admission_plugin() -> Result<()> {
    let off = ["--disable-admission-plugins=ValidatingAdmissionPolicy"];
    let stage = Stage::bare_with(Kubernetes::Newest, &off).await?;
    let root = User::new("root", stage.control_plane().client().await?);
    let shipped = manifests::read_file(&in_repository("config/install.yaml"), &Placeholders::default())?;
    manifests::apply(&root.client(), shipped).await?;
    let own = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}");
    root.may(&Call::merge(&own, json!({"metadata": {"labels": {TENANT_LABEL: "x"}}}))).await?;
    root.may(&Call::create("/api/v1/namespaces", a_namespace("team-a", Some("x")))).await?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "type": "kubernetes.io/basic-auth",
        "stringData": {"username": "alice", "password": "right"},
    });
    root.may(&Call::create(&format!("{own}/secrets"), secret)).await?;
    let mut registry = a_tenant_registry("packs");
    registry["spec"]["endpoint"] = json!("https://127.0.0.1:1");
    registry["spec"]["auth"] = json!({"basic": {"secretRef": {"name": "login"}}});
    root.may(&Call::create(&tenant_registries(SYSTEM_NAMESPACE), registry)).await?;

    let operator = operator(&stage).await?;
    let bindings = |namespace: &str| {
        Call::get(&format!(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/registry-operator"
        ))
    };
    let tenants = bindings("team-a");
    eventually("a tenant's namespace is bound", || root.may(&tenants)).await?;
    let resolved = || async {
        let now = root.may(&Call::get(&tenant_registry(SYSTEM_NAMESPACE, "packs"))).await?;
        let conditions = now["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let refs = conditions.into_iter().find(|condition| condition["type"] == "ResolvedRefs");
        ensure!(refs.as_ref().is_some_and(|refs| refs["reason"] == "NotATenant"), "{refs:?}");
        Ok(())
    };
    eventually("the system's Secret is not read for a tenant", resolved).await?;
    ensure!(root.refusal(&bindings(SYSTEM_NAMESPACE)).await?.0 == 404, "the operator bound itself");
    is_logged(&operator, "on a system namespace").await?;

    let why = says(&operator, false).await?;
    let not_refused =
        "ValidatingAdmissionPolicy system-registries.registry.spectrocloud.com did not refuse a dry run";
    ensure!(why.contains(not_refused), "{why}");
    ensure!(root.may(&Call::get(&system_registries())).await?["items"] == json!([]));
    Ok(())
}
