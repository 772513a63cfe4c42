//! Health by the GitOps tools' own code, in every state that the operator produces: kstatus (Flux and others), and
//! Argo CD with and without the project's health script.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{
    Api,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams,
    },
    core::GroupVersionKind,
};
use registry_testbed::{
    Operator, OperatorOptions, RegistryAuth, RegistryOptions, TestRegistry, eventually, in_repository,
    manifests::{self, Placeholders},
    tools::Tool,
};
use serde_json::{Value, json};

use crate::programs::{NAMESPACE, TestCluster, run, text_of};

const SCRIPTS: &str = "config/gitops/argocd/argocd-cm.yaml";

/// The tools' result for one object at one moment.
#[derive(Debug, Eq, PartialEq)]
struct Health {
    kstatus: String,
    argo: String,
    argo_without_script: String,
}

async fn health(objects: &[Value]) -> Result<Vec<Health>> {
    let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
    let (lines, scripts) = (lines.join("\n"), in_repository(SCRIPTS).display().to_string());
    let kstatus = statuses(&run(Tool::FluxHealth, &["health"], &[], &lines).await?.ok()?)?;
    let argo = statuses(&run(Tool::ArgoHealth, &["health", &scripts], &[], &lines).await?.ok()?)?;
    let without = statuses(&run(Tool::ArgoHealth, &["health"], &[], &lines).await?.ok()?)?;
    ensure!(kstatus.len() == objects.len() && argo.len() == objects.len() && without.len() == objects.len());
    let all = kstatus.into_iter().zip(argo).zip(without);
    Ok(all
        .map(|((kstatus, argo), argo_without_script)| Health { kstatus, argo, argo_without_script })
        .collect())
}

fn statuses(answers: &str) -> Result<Vec<String>> {
    let status = |line: &str| {
        let answer: Value = serde_json::from_str(line)?;
        Ok(answer["status"].as_str().context("a status")?.to_owned())
    };
    answers.lines().map(status).collect()
}

/// One object under watch from before its creation on.
struct WatchedObject {
    api: Api<DynamicObject>,
    kind: &'static str,
    name: &'static str,
    states: Arc<Mutex<Vec<Value>>>,
}

impl WatchedObject {
    async fn new(
        place: &TestCluster,
        kind: &'static str,
        name: &'static str,
        namespace: Option<&str>,
    ) -> Result<Self> {
        let gvk = GroupVersionKind::gvk("registry.spectrocloud.com", "v1alpha1", kind);
        let plural = if kind == "SystemRegistry" { "systemregistries" } else { "tenantregistries" };
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        let client = place.control_plane.client().await?;
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let version = api.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let (events, states) =
            (api.watch(&params, &version).await?.boxed(), Arc::<Mutex<Vec<Value>>>::default());
        let seen = states.clone();
        tokio::spawn(events.for_each(move |event| {
            if let Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) = event {
                let object = serde_json::to_value(object).unwrap_or_default();
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(object);
            }
            std::future::ready(())
        }));
        Ok(Self { api, kind, name, states })
    }

    async fn apply(&self, spec: Value) -> Result<()> {
        let object = json!({
            "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": self.kind, "metadata": {"name": self.name}, "spec": spec,
        });
        self.api
            .patch(self.name, &PatchParams::apply("argocd-controller").force(), &Patch::Apply(object))
            .await?;
        Ok(())
    }

    fn last(&self) -> Option<Value> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// Waits until the newest state seen is that; returns what the tools say of it.
    async fn is(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Health> {
        let look = || async {
            let last = self.last().context("nothing is seen yet")?;
            ensure!(holds(&last), "{}", last["status"]);
            Ok::<_, anyhow::Error>(last)
        };
        let object = eventually(format!("{} {}: {what}", self.kind, self.name), look).await?;
        health(&[object]).await?.pop().context("one answer")
    }
}

fn judged(kstatus: &str, argo: &str) -> Health {
    Health { kstatus: kstatus.to_owned(), argo: argo.to_owned(), argo_without_script: String::new() }
}

/// The status and reason of a condition of the current generation.
fn condition(object: &Value, kind: &str) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let is_present = found["observedGeneration"] == object["metadata"]["generation"];
    is_present.then(|| format!("{}/{}", found["status"], found["reason"]).replace('"', ""))
}

fn ready(expected: &str) -> impl Fn(&Value) -> bool + '_ {
    move |object| condition(object, "Ready").as_deref() == Some(expected)
}

/// The chart's objects, CRDs included; no Pod runs, so the operator is started apart.
async fn installed() -> Result<TestCluster> {
    let place = TestCluster::start().await?;
    let client = place.control_plane.client().await?;
    manifests::apply(
        &client,
        manifests::read_file(&in_repository("config/install.yaml"), &Placeholders::default())?,
    )
    .await?;
    place.serves_registries().await?;
    Ok(place)
}

async fn operator(place: &TestCluster) -> Result<Operator> {
    let kubeconfig =
        place.control_plane.kubeconfig_for_service_account(NAMESPACE, "registry-operator").await?;
    Ok(Operator::start(OperatorOptions::new(env!("CARGO_BIN_EXE_operator-in-tests"), kubeconfig)).await?)
}

async fn password(place: &TestCluster, password: &str) -> Result<()> {
    let secret = format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/basic-auth\nmetadata: {{name: login, namespace: {NAMESPACE}}}\n\
         stringData: {{username: demo, password: {password}}}\n"
    );
    place.kubectl(&["apply", "--filename", "-"], &secret).await?.ok().map(drop)
}

#[tokio::test]
async fn gitops_tools_show_every_state_correctly() -> Result<()> {
    let place = installed().await?;
    let packs = WatchedObject::new(&place, "SystemRegistry", "packs", None).await?;
    let auth = RegistryAuth::htpasswd("demo", "right");
    let registry = TestRegistry::start(RegistryOptions { auth, ..Default::default() }).await?;
    let spec = json!({"endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": "login"}}}});

    packs.apply(spec.clone()).await?;
    let new = packs.is("a new object that nobody has looked at", |_| true).await?;
    assert_eq!(new, judged("InProgress", "Progressing"));

    let _operator = operator(&place).await?;
    let missing = packs.is("its Secret is missing", ready("False/SecretNotFound")).await?;
    assert_eq!(missing, judged("Failed", "Degraded"));

    password(&place, "right").await?;
    assert_eq!(packs.is("validated", ready("True/Available")).await?, judged("Current", "Healthy"));

    password(&place, "wrong").await?;
    assert_eq!(packs.is("rejected", ready("False/Rejected")).await?, judged("Failed", "Degraded"));

    password(&place, "right").await?;
    packs.is("validated again", ready("True/Available")).await?;
    registry.component().stop().await?;
    packs.apply(with(&spec, "contentType", json!("Zarf"))).await?;
    let failing = |object: &Value| {
        condition(object, "Reconciling").is_some() && condition(object, "EndpointReachable").is_some()
    };
    let transient = packs.is("the registry is gone, which may pass", failing).await?;
    assert_eq!(transient.kstatus, "InProgress");
    assert!(["Healthy", "Progressing"].contains(&&*transient.argo), "{transient:?}");
    registry.component().start().await?;
    packs
        .is("it is back", |object| {
            ready("True/Available")(object) && condition(object, "Reconciling").is_none()
        })
        .await?;

    packs.apply(with(&spec, "suspend", json!(true))).await?;
    let suspended = packs.is("suspended", |object| object["spec"]["suspend"] == true).await?;
    // Its status is still that of the previous spec: docs/install.md says what that means for Flux.
    assert_eq!(suspended, judged("InProgress", "Suspended"));

    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    packs.api.patch(packs.name, &PatchParams::default(), &hold).await?;
    packs.api.delete(packs.name, &DeleteParams::default()).await?;
    let leaving =
        packs.is("being deleted", |object| object["metadata"]["deletionTimestamp"].is_string()).await?;
    let terminating =
        Health { argo_without_script: "Progressing".to_owned(), ..judged("Terminating", "Progressing") };
    assert_eq!(leaving, terminating);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    packs.api.patch(packs.name, &PatchParams::default(), &release).await?;
    Ok(())
}

fn with(spec: &Value, field: &str, value: Value) -> Value {
    let mut spec = spec.clone();
    spec[field] = value;
    spec
}

#[tokio::test]
async fn old_verdict_never_counts_for_a_new_spec() -> Result<()> {
    let place = installed().await?;
    let tenant = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a, labels: {registry.spectrocloud.com/tenant: team-a}}\n";
    place.kubectl(&["apply", "--filename", "-"], tenant).await?.ok()?;
    let registry = TestRegistry::start(RegistryOptions::default()).await?;
    let packs = WatchedObject::new(&place, "SystemRegistry", "packs", None).await?;
    let _operator = operator(&place).await?;
    let (good, bad) = (
        json!({"endpoint": registry.url()}),
        json!({"endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": "none"}}}}),
    );
    for _ in 0..3 {
        packs.apply(good.clone()).await?;
        packs.is("usable", ready("True/Available")).await?;
        packs.apply(bad.clone()).await?;
        packs.is("unusable", ready("False/SecretNotFound")).await?;
    }
    let states = packs.states.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(states.len() > 11, "{} states were seen", states.len());
    for (state, health) in states.iter().zip(health(&states).await?) {
        let is_good = state["spec"]["auth"].is_null();
        let (healthy, broken) = (["Current", "Healthy"], ["Failed", "Degraded"]);
        for said in [&health.kstatus, &health.argo] {
            assert!(is_good || !healthy.contains(&&**said), "{health:?} of {state}");
            assert!(!is_good || !broken.contains(&&**said), "{health:?} of {state}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn argo_cd_needs_the_health_script() -> Result<()> {
    let broken = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": "charts", "namespace": "team-a", "generation": 1},
        "spec": {"endpoint": "https://registry.example.com"},
        "status": {"observedGeneration": 1, "conditions": [
            {"type": "Ready", "status": "False", "reason": "Rejected", "message": "no", "observedGeneration": 1},
            {"type": "Stalled", "status": "True", "reason": "Rejected", "message": "no", "observedGeneration": 1},
        ]},
    });
    // No health at all is what Argo CD counts as healthy; docs/install.md says so.
    assert_eq!(health(&[broken]).await?, [judged("Failed", "Degraded")]);
    Ok(())
}

#[test]
fn both_kinds_share_the_health_script() -> Result<()> {
    let config: Value = serde_saphyr::from_str(&text_of(SCRIPTS)?)?;
    let script = |kind: &str| {
        config["data"][format!("resource.customizations.health.registry.spectrocloud.com_{kind}")].clone()
    };
    assert!(script("SystemRegistry").is_string());
    assert_eq!(script("SystemRegistry"), script("TenantRegistry"));
    Ok(())
}

/// How each tool applies: its own field manager, without force where it does without.
const MANAGERS: [(&str, bool); 4] = [
    ("kustomize-controller", true),
    ("helm-controller", false),
    ("argocd-controller", true),
    ("kubectl", false),
];

/// All of it but the status, which the operator may write at any moment. What changes anything else leaves its time in the
/// managed fields, if nothing more.
fn but_the_operators(mut object: DynamicObject) -> Result<Value> {
    let applied = |entry: &ManagedFieldsEntry| entry.subresource.is_none();
    object.metadata.managed_fields.iter_mut().for_each(|entries| entries.retain(applied));
    object.metadata.resource_version = None;
    let mut object = serde_json::to_value(object)?;
    object.as_object_mut().context("an object")?.remove("status");
    Ok(object)
}

#[tokio::test]
async fn second_apply_changes_nothing() -> Result<()> {
    let place = installed().await?;
    let registry = TestRegistry::start(RegistryOptions::default()).await?;
    let _operator = operator(&place).await?;
    for (manager, forced) in MANAGERS {
        let packs = WatchedObject::new(&place, "SystemRegistry", "packs", None).await?;
        let params = PatchParams { force: forced, ..PatchParams::apply(manager) };
        let object = json!({
            "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry", "metadata": {"name": "packs"},
            "spec": {"endpoint": registry.url(), "availability": {"pullSecret": {"name": "packs-pull"}}},
        });
        packs.api.patch("packs", &params, &Patch::Apply(&object)).await?;
        packs.is("validated", ready("True/Available")).await?;
        let before = packs.api.get("packs").await?;
        let after = packs.api.patch("packs", &params, &Patch::Apply(&object)).await?;
        assert_eq!(but_the_operators(before)?, but_the_operators(after.clone())?, "{manager}");
        // Argo CD's own comparison: what a dry run of the same would give.
        let dry_run = PatchParams { dry_run: true, ..params };
        let predicted = packs.api.patch("packs", &dry_run, &Patch::Apply(&object)).await?;
        assert_eq!(predicted.data["spec"], after.data["spec"], "{manager}");
        packs.api.delete("packs", &DeleteParams::default()).await?;
        let gone = || async {
            match packs.api.get_opt("packs").await? {
                Some(_) => bail!("still there"),
                None => Ok(()),
            }
        };
        eventually("the registry is gone", gone).await?;
    }
    Ok(())
}

/// What Helm wrote, Helm's drift detection (Flux) and Argo CD find unchanged, after the API server has defaulted it.
#[tokio::test]
async fn installation_shows_no_drift() -> Result<()> {
    let place = TestCluster::start().await?;
    let apply =
        ["apply", "--server-side", "--field-manager=argocd-controller", "--filename", "config/install.yaml"];
    place.kubectl(&apply, "").await?.ok()?;
    place.serves_registries().await?;
    let diff =
        ["diff", "--server-side", "--field-manager=argocd-controller", "--filename", "config/install.yaml"];
    // What a controller writes while the command looks is a difference to it, and none to the next.
    let look = || async {
        let difference = place.kubectl(&diff, "").await?.ok()?;
        ensure!(difference.is_empty(), "{difference}");
        anyhow::Ok(())
    };
    Ok(eventually("no difference", look).await?)
}
