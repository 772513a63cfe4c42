//! Tools that apply manifests and wait for health: no diff, no conflict, the correct state at every moment, and an
//! Event for every change of verdict.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use registry_api::{
    FINALIZER,
    spec::{Registry as Object, Scope},
};
use registry_testbed::{TestCa, eventually};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::{
    fixtures::{
        Declared, Marker, ScriptedServer, TestScope, VALIDATED, Verdict, View, asks_for_password, protected,
        signed_in, spec, tell, welcome,
    },
    harness::{self, Cluster, Installation},
};

const REJECTED: Verdict = Verdict::refused("False/Rejected");

// ---- Applied again

#[tokio::test]
async fn repeated_kubectl_apply_changes_nothing() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let Some(kubectl) = Kubectl::find().await? else { return applied_again_without_kubectl(&cluster).await };
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let object = scene.object("packs");
        let manifest = object.manifest(&scene.for_unknown_tenant(spelled_out(spec(&registry, &ca, &login))));
        let apply = ["apply", "--namespace", scene.namespace(), "--filename", "-"];
        let created = kubectl.run(&apply, &manifest).await?;
        assert!(created.ends_with("created"), "{created}");
        let before = object.shows(&VALIDATED).await?;

        let unchanged = kubectl.run(&apply, &manifest).await?;
        assert!(unchanged.ends_with("unchanged"), "{unchanged}");
        untouched(&before, &object.view().await?);
        let diff =
            kubectl.run(&["diff", "--namespace", scene.namespace(), "--filename", "-"], &manifest).await?;
        assert_eq!(diff, "");
    }
    Ok(())
}

/// What `kubectl apply` does when the manifest is what was applied last: nothing, unless the object differs from it.
async fn applied_again_without_kubectl(cluster: &Cluster) -> Result<()> {
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let spec = scene.for_unknown_tenant(spelled_out(spec(&registry, &ca, &login)));
        let object = scene.declare("packs", spec.clone()).await?;
        let before = object.shows(&VALIDATED).await?;
        untouched(&before, &object.apply(&spec).await?);
    }
    Ok(())
}

/// Everything that the API server could be tempted to write in another way.
fn spelled_out(mut spec: Value) -> Value {
    spec["contentType"] = json!("Helm");
    spec["validation"] = json!({"interval": "600s", "timeout": "0.5m", "failureThreshold": 3});
    spec["suspend"] = json!(false);
    spec["deletionProtection"] = json!(false);
    spec["tls"]["insecureSkipVerify"] = json!(false);
    spec
}

#[tokio::test]
async fn repeated_server_side_apply_has_no_conflict() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let object = scene.object("packs");
        // Not forced: a conflict with the operator would be an error.
        let (params, spec) = (
            PatchParams::apply("kustomize-controller"),
            scene.for_unknown_tenant(spec(&registry, &ca, &login)),
        );
        let manifest = Patch::Apply(object.manifest(&spec));
        object.patch(&params, &manifest).await?;
        let before = object.shows(&VALIDATED).await?;
        untouched(&before, &object.patch(&params, &manifest).await?);

        let mut other = object.manifest(&spec);
        other["spec"]["contentType"] = json!("Zarf");
        object.patch(&params, &Patch::Apply(other)).await?;
        object.shows(&VALIDATED).await?;
    }
    Ok(())
}

#[tokio::test]
async fn operator_owns_status_and_finalizer_only() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let plain = scene.for_unknown_tenant(spec(&registry, &ca, &login));
        let object = scene.declare("plain", plain.clone()).await?;
        object.request("once").await?;
        object.has_handled("once").await?;
        let view = object.shows(&VALIDATED).await?;
        assert_eq!(view.metadata.finalizers, None);
        assert_eq!(owned(&view), [("status".to_owned(), json!(["f:status"]))]);

        let mut with_secret = plain;
        with_secret["availability"]["pullSecret"] = json!({"name": "packs-pull"});
        let object = scene.declare("pulled", with_secret.clone()).await?;
        object.shows(&VALIDATED).await?;
        // The tenant's registry is in the namespace that it is for; the other registry is available to no tenant.
        let delivered = match &object {
            Declared::System(_) => 0,
            Declared::Tenant(_) => 1,
        };
        let view = counts(&object, delivered).await?;
        assert_eq!(view.metadata.finalizers, Some(vec![FINALIZER.to_owned()]));
        let finalizer = json!({"f:finalizers": {format!("v:{FINALIZER:?}"): {}}});
        let expected = [(String::new(), finalizer), ("status".to_owned(), json!(["f:status"]))];
        let mut found = owned(&view);
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(found, expected);
        // Applying the manifest again doesn't mention finalizers and removes none.
        untouched(&view, &object.apply(&with_secret).await?);
    }
    Ok(())
}

/// Waits until the status counts so many pull Secrets: each that is delivered is another reason to write.
async fn counts(object: &Declared, pull_secrets: i64) -> Result<View> {
    let look = || async {
        let view = object.view().await?;
        let found = view.status.availability.as_ref().and_then(|availability| availability.pull_secrets);
        ensure!(found == Some(pull_secrets), "it counts {found:?}");
        Ok(view)
    };
    Ok(eventually(format!("{} counts {pull_secrets} pull Secrets", object.name()), look).await?)
}

/// What the operator's field managers own: the subresource, and the fields by their names; of metadata, all of it.
fn owned(view: &View) -> Vec<(String, Value)> {
    let entries = view.metadata.managed_fields.iter().flatten();
    let ours =
        entries.filter(|entry| entry.manager.as_deref().unwrap_or_default().starts_with("registry-operator"));
    let described = ours.map(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| fields.0.clone()).unwrap_or_default();
        let names: Vec<String> =
            fields.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect();
        let fields = if names == ["f:metadata"] { fields["f:metadata"].clone() } else { json!(names) };
        (entry.subresource.clone().unwrap_or_default(), fields)
    });
    described.collect()
}

fn untouched(before: &View, after: &View) {
    assert_eq!(after.version(), before.version(), "it was written to");
    assert_eq!(after.metadata.managed_fields, before.metadata.managed_fields);
}

// ---- Waited for

#[tokio::test]
async fn kubectl_wait_for_credentials_works() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let Some(kubectl) = Kubectl::find().await? else {
        tell("there is no kubectl here");
        return Ok(());
    };
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let object = scene.declare("packs", spec(&registry, &ca, &login)).await?;
        let wait = |condition: &'static str| {
            let arguments = [
                "wait".to_owned(),
                format!("--for=condition={condition}"),
                object.for_kubectl(),
                format!("--namespace={}", scene.namespace()),
                "--timeout=20s".to_owned(),
            ];
            let kubectl = &kubectl;
            async move { kubectl.run(&arguments.each_ref().map(String::as_str), &Value::Null).await }
        };
        assert!(wait("CredentialsValidated").await?.ends_with("condition met"));
        assert!(wait("Ready").await?.ends_with("condition met"));
        scene.login("login", "demo", "wrong").await?;
        assert!(wait("CredentialsValidated=False").await?.ends_with("condition met"));
        assert!(wait("Stalled").await?.ends_with("condition met"));
    }
    Ok(())
}

/// kubectl, as an administrator of the shared cluster.
struct Kubectl {
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    /// Where there is one.
    async fn find() -> Result<Option<Self>> {
        let control_plane = Installation::shared().await?.control_plane();
        let (kubeconfig, home) = (control_plane.admin_kubeconfig(), control_plane.directory().to_path_buf());
        let is_there = Command::new("kubectl").args(["version", "--client"]).output().is_ok();
        Ok(is_there.then_some(Self { kubeconfig, home }))
    }

    /// Runs it with that manifest as its input; returns what it prints. That it fails is an error.
    async fn run(&self, arguments: &[&str], input: &Value) -> Result<String> {
        let command = command(&self.kubeconfig, &self.home, arguments);
        let (what, input) = (arguments.join(" "), input.to_string());
        let output = tokio::task::spawn_blocking(move || run(command, &input)).await?;
        let output = output.with_context(|| format!("kubectl {what}"))?;
        let text = String::from_utf8(output.stdout)?.trim().to_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {what}: {text} {complaint}");
        Ok(text)
    }
}

fn command(kubeconfig: &Path, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.args(arguments).env("KUBECONFIG", kubeconfig).env("HOME", home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(mut command: Command, input: &str) -> Result<std::process::Output> {
    let mut child = command.spawn()?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

// ---- At every moment

/// What kstatus, and with it Flux and `kubectl`-like tools, makes of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Health {
    Current,
    InProgress,
    Failed,
    Terminating,
}

/// The rules of sigs.k8s.io/cli-utils/pkg/kstatus for kinds that it doesn't know.
fn kstatus(view: &View) -> Health {
    let (status, generation) = (&view.status, view.generation());
    if view.metadata.deletion_timestamp.is_some() {
        return Health::Terminating;
    }
    if status.observed_generation.is_some_and(|observed| observed != generation) {
        return Health::InProgress;
    }
    for condition in status.conditions.iter().filter(|condition| condition.status == "True") {
        match condition.type_.as_str() {
            "Reconciling" => return Health::InProgress,
            "Stalled" => return Health::Failed,
            _ => {}
        }
    }
    match status.conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status != "True" => Health::InProgress,
        _ => Health::Current,
    }
}

/// Long enough that the operator says in the status that it is at work.
const SLOW: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn kstatus_never_shows_old_verdict_as_current() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = slow_registry().await?;
    for scene in TestScope::both(&cluster).await? {
        let (right, wrong) = logins(&scene, &registry).await?;
        let reader = Reader::of(&scene.object("packs")).await?;
        let object = scene.declare("packs", right.clone()).await?;
        object.shows(&VALIDATED.in_the_clear()).await?;
        object.apply(&wrong).await?;
        object.shows(&REJECTED.in_the_clear()).await?;
        object.apply(&right).await?;
        let last = object.shows(&VALIDATED.in_the_clear()).await?;

        let states = reader.until(&last).await?;
        statuses_are_true(&states, &[1, 3]);
        let mut health: Vec<Health> = states.iter().map(kstatus).collect();
        health.dedup();
        let working = Health::InProgress;
        assert_eq!(health, [working, Health::Current, working, Health::Failed, working, Health::Current]);
        let said = states.iter().filter(|state| is_working(state)).count();
        assert_eq!(said, 3, "each of the slow validations says that it is going on");
    }
    Ok(())
}

#[tokio::test]
async fn changed_spec_gets_no_verdict_of_the_old_one() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    for scene in TestScope::both(&cluster).await? {
        for (name, is_right_first) in [("right-first", true), ("wrong-first", false)] {
            let registry = slow_registry().await?;
            let (right, wrong) = logins(&scene, &registry).await?;
            let (first, second) = if is_right_first { (right, wrong) } else { (wrong, right) };
            let reader = Reader::of(&scene.object(name)).await?;
            let object = scene.declare(name, first).await?;
            validating(&registry, 1).await?;
            object.apply(&second).await?;
            let verdict = if is_right_first { REJECTED } else { VALIDATED };
            let last = object.shows(&verdict.in_the_clear()).await?;
            statuses_are_true(&reader.until(&last).await?, if is_right_first { &[1] } else { &[2] });
        }
    }
    Ok(())
}

#[tokio::test]
async fn request_during_validation_gets_its_own() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = slow_registry().await?;
    let scene = TestScope::system(&cluster);
    let (right, _) = logins(&scene, &registry).await?;
    let object = scene.declare("packs", right).await?;
    validating(&registry, 1).await?;
    object.request("meanwhile").await?;
    object.has_handled("meanwhile").await?;
    assert!(
        begun(&registry) >= 2,
        "it was said to be done by a validation that began before it was asked for"
    );
    Ok(())
}

#[tokio::test]
async fn new_object_is_in_progress_without_operator() -> Result<()> {
    let installation = Installation::start(registry_testbed::ControlPlaneOptions::default()).await?;
    let cluster = installation.cluster().await?;
    for scene in TestScope::both(&cluster).await? {
        let object = scene.object("packs");
        let params = PatchParams::apply("kustomize-controller");
        let manifest = Patch::Apply(object.manifest(&json!({"endpoint": "https://registry.example.com"})));
        let created = object.patch(&params, &manifest).await?;
        assert_eq!(kstatus(&created), Health::InProgress);
        assert_eq!(kstatus(&object.view().await?), Health::InProgress);
    }
    Ok(())
}

/// A registry that wants a password, and takes its time for everything.
async fn slow_registry() -> Result<ScriptedServer> {
    ScriptedServer::start(|asked| {
        (SLOW, if signed_in(asked, "demo", "right") { welcome() } else { asks_for_password() })
    })
    .await
}

/// Two specs that differ in the Secret: one with the right password, one with the wrong.
async fn logins(scene: &TestScope<'_>, registry: &ScriptedServer) -> Result<(Value, Value)> {
    let (right, wrong) =
        (scene.login("right", "demo", "right").await?, scene.login("wrong", "demo", "wrong").await?);
    let with = |login| json!({"endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": login}}}});
    Ok((with(right), with(wrong)))
}

/// The number of validations that have begun: each begins without credentials.
fn begun(registry: &ScriptedServer) -> usize {
    registry.requests().iter().filter(|asked| asked.authorization().is_none()).count()
}

async fn validating(registry: &ScriptedServer, times: usize) -> Result<()> {
    let look = || async {
        ensure!(begun(registry) >= times, "{} have begun", begun(registry));
        Ok(())
    };
    Ok(eventually(format!("validation {times} begins"), look).await?)
}

fn is_working(view: &View) -> bool {
    let mut conditions = view.status.conditions.iter();
    conditions.any(|condition| condition.type_ == "Ready" && condition.reason == "Progressing")
}

/// At every moment: what is said of the present generation is true of it. `good` are the generations that are.
fn statuses_are_true(states: &[View], good: &[i64]) {
    assert_eq!(kstatus(&states[0]), Health::InProgress, "the first moment: {:?}", states[0].status);
    for state in states {
        let is_good = good.contains(&state.generation());
        let health = kstatus(state);
        assert!(
            health != Health::Current || is_good,
            "Current at generation {}: {state:?}",
            state.generation()
        );
        assert!(
            health != Health::Failed || !is_good,
            "Failed at generation {}: {state:?}",
            state.generation()
        );
        for condition in &state.status.conditions {
            let is_present = condition.observed_generation == Some(state.generation());
            let (kind, verdict) = (condition.type_.as_str(), condition.status.as_str());
            if is_present && matches!(kind, "Ready" | "CredentialsValidated") {
                assert!(verdict != "True" || is_good, "generation {}: {condition:?}", state.generation());
                assert!(verdict != "False" || !is_good, "generation {}: {condition:?}", state.generation());
            }
        }
    }
}

/// Sees every state of one object from its creation on.
struct Reader {
    states: Arc<Mutex<Vec<View>>>,
    task: AbortHandle,
}

impl Reader {
    /// Begins before the object is there.
    async fn of(object: &Declared) -> Result<Self> {
        match object {
            Declared::System(subject) => Self::follow(subject.api().clone(), subject.name()).await,
            Declared::Tenant(subject) => Self::follow(subject.api().clone(), subject.name()).await,
        }
    }

    async fn follow<S: Scope>(api: Api<Object<S>>, name: &str) -> Result<Self> {
        let version = api.list(&ListParams::default().limit(1)).await?.metadata.resource_version;
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let events = api.watch(&params, &version.unwrap_or_default()).await?;
        let states = Arc::<Mutex<Vec<View>>>::default();
        let seen = states.clone();
        let reading = events.for_each(move |event| {
            if let Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) = event {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(object.into());
            }
            std::future::ready(())
        });
        Ok(Self { states, task: tokio::spawn(reading).abort_handle() })
    }

    /// All states up to that one.
    async fn until(&self, last: &View) -> Result<Vec<View>> {
        let look = || async {
            let states = self.states.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(end) = states.iter().position(|state| state.version() == last.version()) else {
                bail!("{} states", states.len());
            };
            Ok(states[..=end].to_vec())
        };
        Ok(eventually("the reader sees the last state", look).await?)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// ---- Events

#[tokio::test]
async fn sends_events_on_verdict_changes_only() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "wrong").await?;
        let object = scene.declare("packs", spec(&registry, &ca, &login)).await?;
        let rejected = object.shows(&REJECTED).await?;
        scene.login("login", "demo", "right").await?;
        let validated = object.shows(&VALIDATED).await?;
        for value in ["1", "2", "3"] {
            object.request(value).await?;
            object.has_handled(value).await?;
        }
        object.change(json!({"spec": {"contentType": "Zarf"}})).await?;
        object.shows(&VALIDATED).await?;
        // The next change of verdict comes after all that could have been told before it.
        object.change(json!({"spec": {"auth": null}})).await?;
        let required = object.shows(&Verdict::refused("False/Required")).await?;

        let events = events_of(&cluster, &object, &required, 3).await?;
        let expected = [
            ("Warning", "Rejected", rejected.message("Ready")),
            ("Normal", "Available", validated.message("Ready")),
            ("Warning", "Required", required.message("Ready")),
        ];
        let seen: Vec<_> = events.iter().map(gist).collect();
        assert_eq!(seen, expected);
        for event in &events {
            assert_eq!(event.action.as_deref(), Some("Validate"));
            let controller = event.reporting_controller.as_deref().unwrap_or_default();
            assert!(controller.starts_with("registry.spectrocloud.com/"), "{controller}");
            assert!(event.reporting_instance.as_deref().is_some_and(|instance| !instance.is_empty()));
            assert!(event.event_time.is_some());
        }
    }
    Ok(())
}

#[tokio::test]
async fn same_verdict_of_changed_spec_makes_no_event() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = slow_registry().await?;
    let scene = TestScope::system(&cluster);
    let (right, wrong) = logins(&scene, &registry).await?;
    let object = scene.declare("packs", right).await?;
    object.shows(&VALIDATED.in_the_clear()).await?;
    object.change(json!({"spec": {"contentType": "Zarf"}})).await?;
    object.shows(&VALIDATED.in_the_clear()).await?;
    object.apply(&wrong).await?;
    let last = object.shows(&REJECTED.in_the_clear()).await?;
    let events = events_of(&cluster, &object, &last, 2).await?;
    let reasons: Vec<_> = events.iter().map(|event| event.reason.as_deref().unwrap_or_default()).collect();
    assert_eq!(reasons, ["Available", "Rejected"]);
    Ok(())
}

#[tokio::test]
async fn sends_event_for_unprovable_credentials() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = ScriptedServer::promptly(|_| welcome()).await?;
    let scene = TestScope::tenant(&cluster).await?;
    let (spec, _) = logins(&scene, &registry).await?;
    let object = scene.declare("packs", spec).await?;
    let verdict = Verdict {
        credentials: "Unknown/Unprovable",
        ready: "True/CredentialsUnprovable",
        marker: Marker::None,
        ..VALIDATED.in_the_clear()
    };
    let view = object.shows(&verdict).await?;
    let events = events_of(&cluster, &object, &view, 1).await?;
    assert_eq!(gist(&events[0]), ("Normal", "CredentialsUnprovable", view.message("Ready")));
    Ok(())
}

fn gist(event: &Event) -> (&str, &str, &str) {
    (
        event.type_.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        event.note.as_deref().unwrap_or_default(),
    )
}

/// The Events regarding an object, oldest first, as soon as there are that many. Where Events about it belong, and found
/// by all that identifies it.
async fn events_of(cluster: &Cluster, object: &Declared, view: &View, count: usize) -> Result<Vec<Event>> {
    let namespace = view.metadata.namespace.as_deref().unwrap_or("default");
    let events: Api<Event> = Api::namespaced(cluster.client(), namespace);
    let manifest = object.manifest(&Value::Null);
    let look = || async {
        let mut found = events.list(&ListParams::default()).await?.items;
        found.retain(|event| {
            let regarding = event.regarding.clone().unwrap_or_default();
            regarding.uid == view.metadata.uid
                && regarding.name == view.metadata.name
                && regarding.namespace == view.metadata.namespace
                && regarding.kind.as_deref() == manifest["kind"].as_str()
                && regarding.api_version.as_deref() == manifest["apiVersion"].as_str()
        });
        found.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        ensure!(found.len() >= count, "{found:?}");
        Ok(found)
    };
    Ok(eventually(format!("{count} Events regard {}", object.name()), look).await?)
}
