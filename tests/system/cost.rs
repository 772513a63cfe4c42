//! The operator's cost in requests and writes: none without changes, and few with changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::{
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        rbac::v1::{ClusterRole, PolicyRule},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Resource as _,
    api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use registry_api::{
    ConditionType, FINALIZER, GROUP,
    spec::{Registry as Object, Scope, System, Tenant},
};
use registry_testbed::{AuditEvent, Operator, RegistryOptions, TestRegistry, eventually};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::{
    exclusive_cluster,
    fixtures::unlabel,
    harness::{self, Cluster, OPERATOR_USER, SYSTEM_NAMESPACE},
    held_registry::HeldRegistry,
    objects::{
        DOWN, Protected, apply, delete, events_are_written, guarded, has_reconciled, is_guarded, login,
        system_registry, tenant_registry, validate_now, write_lines, writes_since, written,
    },
};

const NOT_A_TENANT: &str = "Ready=False/NotATenant";
const PROGRESSING: &str = "Progressing";

const SILENCE: Duration = Duration::from_mins(1);
/// The shortest interval, a tenth of it as jitter, and some time for the validation itself.
const REVALIDATED: Duration = Duration::from_secs(75);

/// One object of the fifty.
struct Sample {
    /// Its namespace, if it is a TenantRegistry.
    namespace: Option<String>,
    name: String,
    spec: Value,
    verdict: &'static str,
}

#[tokio::test]
async fn fifty_registries_cost_two_writes_each() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let servers = Servers::start().await?;
    let samples = servers.samples(&solo.cluster).await?;
    assert_eq!(samples.len(), 50);

    let (creation, sayings) = (solo.mark()?, ReadyHistory::watch_from_now(&solo.cluster).await?);
    for sample in samples.iter().filter(|sample| sample.has_no_tenant()) {
        apply(&solo.cluster, &sample.object()).await?;
    }
    unlabel(&solo.cluster, &solo.cluster.unique("nobody")).await?;
    let _operator = Operator::start(solo.installation.operator_options().await?).await?;
    for sample in samples.iter().filter(|sample| !sample.has_no_tenant()) {
        apply(&solo.cluster, &sample.object()).await?;
    }
    for sample in &samples {
        sample.settles(&solo.cluster).await?;
    }
    events_are_written(solo.installation, &creation, samples.len()).await?;
    for sample in &samples {
        let said = sayings.of(sample.namespace.as_deref(), &sample.name).await?;
        assert!(said.len() == 2 || !sample.is_slow(), "{}: {said:?}", sample.name);
        let of_it = |write: &AuditEvent| sample.is_written_by(write);
        let writes = written(solo.installation, &creation, said.len(), of_it).await?;
        assert_eq!(writes.len(), said.len(), "{}: {:#?}", sample.name, write_lines(&writes));
    }
    let writes = writes_since(solo.installation, &creation, OPERATOR_USER)?;
    let events = writes.iter().filter(|write| write.resource == "events").count();
    assert_eq!(events, samples.len(), "one verdict each, one Event each: {:#?}", write_lines(&writes));

    let silence = solo.mark()?;
    let start = Instant::now();
    let often = samples.iter().filter(|sample| sample.is_validated_often()).count();
    let before = servers.validated();
    let again = || async {
        let (looked, times) = (start.elapsed(), servers.validated() - before);
        ensure!(times >= often, "{times} of {often} were validated again");
        Ok(looked)
    };
    let what = "the registries with the shortest interval are validated again";
    let took = eventually(what, again).await?;
    assert!(took <= REVALIDATED, "{what}: took {took:?}");
    tokio::time::sleep(SILENCE.saturating_sub(start.elapsed())).await; // that nothing happens is the test
    let writes = writes_since(solo.installation, &silence, OPERATOR_USER)?;
    assert!(writes.is_empty(), "{:#?}", write_lines(&writes));

    let all = solo.installation.control_plane().audit()?.writes_since(&silence, OPERATOR_USER)?;
    let renewals = all.iter().filter(|write| write.resource == "leases").count() as u64;
    let most = start.elapsed().as_secs() / 2 + 1;
    assert!(
        (most / 3..=most).contains(&renewals),
        "{renewals} renewals of the lease in {:?}",
        start.elapsed()
    );
    assert_eq!(all.len() as u64, renewals, "not even a question: {:#?}", write_lines(&all));
    Ok(())
}

#[tokio::test]
async fn anonymous_registry_gets_one_request() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let server = TestRegistry::start(RegistryOptions::default()).await?;
    let registry = cluster.system(&cluster.unique("one-request"));
    apply(&cluster, &system_registry(registry.name(), json!({"endpoint": server.url()}))).await?;
    registry.becomes(&["Ready=True/Available", "CredentialsValidated=True/AnonymousAccess"]).await?;
    assert_eq!(requests(&server), ["GET /v2/ 200"]);
    validate_now(&registry, "once more").await?;
    assert_eq!(requests(&server), ["GET /v2/ 200"; 2]);
    Ok(())
}

#[tokio::test]
async fn registry_with_password_gets_two_requests() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let server = Protected::start().await?;
    let secret = cluster.unique("two-requests");
    apply(&cluster, &login(SYSTEM_NAMESPACE, &secret, "right")).await?;
    let registry = cluster.system(&cluster.unique("two-requests"));
    apply(&cluster, &system_registry(registry.name(), server.spec(&secret))).await?;
    registry.becomes(&["Ready=True/Available", "CredentialsValidated=True/Validated"]).await?;
    assert_eq!(requests(&server.registry), ["GET /v2/ 401", "GET /v2/ 200"]);
    validate_now(&registry, "once more").await?;
    assert_eq!(requests(&server.registry), ["GET /v2/ 401", "GET /v2/ 200", "GET /v2/ 401", "GET /v2/ 200"]);
    assert_eq!(server.registry.authentications().len(), 2, "the password was looked at once a validation");
    Ok(())
}

#[tokio::test]
async fn creating_both_at_once_costs_no_extra_writes() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let operator = Operator::start(solo.alone().await?).await?;
    let (mark, sayings) = (solo.mark()?, ReadyHistory::watch_from_now(&solo.cluster).await?);
    for number in 0..10 {
        // Each of a tenant of its own: a tenant that grows is another reason to write.
        let name = format!("at-once-{number}");
        let namespace = solo.cluster.tenant_namespace(&name, &name).await?;
        apply(&solo.cluster, &tenant_registry(&namespace, "packs", json!({"endpoint": DOWN}))).await?;
    }
    for number in 0..10 {
        let namespace = solo.cluster.unique(&format!("at-once-{number}"));
        solo.cluster.tenant(&namespace, "packs").becomes(&["Ready=False/ConnectionRefused"]).await?;
    }
    has_reconciled(&operator, 10.0).await?;
    let mut all = 0;
    for number in 0..10 {
        let namespace = solo.cluster.unique(&format!("at-once-{number}"));
        all += sayings.of(Some(&namespace), "packs").await?.len();
    }
    let writes = written(solo.installation, &mark, all, |write| write.subresource == "status").await?;
    assert_eq!(
        writes.len(),
        all,
        "a verdict each, and none that said NotATenant: {:#?}",
        write_lines(&writes)
    );
    Ok(())
}

/// A registry's namespace, if it has one, and its name.
type Of = (Option<String>, String);

/// What is said of all registries, from the moment on in which this begins to listen.
struct ReadyHistory {
    said: Arc<Mutex<BTreeMap<Of, Vec<String>>>>,
    listening: [AbortHandle; 2],
}

impl ReadyHistory {
    async fn watch_from_now(cluster: &Cluster) -> Result<Self> {
        let said = Arc::default();
        let listening = [listen::<System>(cluster, &said).await?, listen::<Tenant>(cluster, &said).await?];
        Ok(Self { said, listening })
    }

    /// The reasons of Ready in each status of that registry: its verdict, once it has one; and before it, where that took
    /// longer than a second, that it was being looked for.
    async fn of(&self, namespace: Option<&str>, name: &str) -> Result<Vec<String>> {
        let of = (namespace.map(ToOwned::to_owned), name.to_owned());
        let look = || async {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).get(&of).cloned();
            said.filter(|said| said.last().is_some_and(|last| last != PROGRESSING)).context("no verdict yet")
        };
        let said = eventually(format!("the verdict on {name} is heard"), look).await?;
        let one_verdict = matches!(&said[..], [_]) || matches!(&said[..], [first, _] if first == PROGRESSING);
        ensure!(one_verdict, "{name}: {said:?}");
        Ok(said)
    }
}

impl Drop for ReadyHistory {
    fn drop(&mut self) {
        self.listening.iter().for_each(AbortHandle::abort);
    }
}

async fn listen<S: Scope>(
    cluster: &Cluster,
    said: &Arc<Mutex<BTreeMap<Of, Vec<String>>>>,
) -> Result<AbortHandle> {
    let api: Api<Object<S>> = Api::all(cluster.client());
    let version = api.list(&ListParams::default().limit(1)).await?.metadata.resource_version;
    let events = api.watch(&WatchParams::default(), &version.unwrap_or_default()).await?;
    let said = said.clone();
    let listening = events.for_each(move |event| {
        if let Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) = event {
            let (meta, status) = (object.meta(), object.status.as_ref());
            let of = (meta.namespace.clone(), meta.name.clone().unwrap_or_default());
            let ready = status.and_then(|status| status.condition(ConditionType::Ready));
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.entry(of).or_default().extend(ready.map(|ready| ready.reason.clone()));
        }
        std::future::ready(())
    });
    Ok(tokio::spawn(listening).abort_handle())
}

/// What the fifty ask.
struct Servers {
    protected: Protected,
    anonymous: TestRegistry,
    hanging: HeldRegistry,
}

impl Servers {
    async fn start() -> Result<Self> {
        Ok(Self {
            protected: Protected::start().await?,
            anonymous: TestRegistry::start(RegistryOptions::default()).await?,
            hanging: HeldRegistry::start().await?,
        })
    }

    /// Fifty objects: half of either scope, about half of them good, and of the bad ones some of each kind.
    async fn samples(&self, cluster: &Cluster) -> Result<Vec<Sample>> {
        let [team, nobody] = [
            cluster.tenant_namespace("steady", "steady").await?,
            cluster.tenant_namespace("nobody", "nobody").await?,
        ];
        for namespace in [SYSTEM_NAMESPACE, &team] {
            apply(cluster, &login(namespace, "steady-right", "right")).await?;
            apply(cluster, &login(namespace, "steady-wrong", "wrong")).await?;
        }
        let mut samples = Vec::new();
        for namespace in [None, Some(&team)] {
            for (kind, count, spec, verdict) in self.kinds() {
                for number in 0..count {
                    let name = cluster.unique(&format!("{kind}-{number}"));
                    samples.push(Sample { namespace: namespace.cloned(), name, spec: spec.clone(), verdict });
                }
            }
        }
        for sample in samples.iter_mut().filter(|sample| sample.namespace.is_some()).take(2) {
            sample.namespace = Some(nobody.clone());
            sample.verdict = NOT_A_TENANT;
        }
        Ok(samples)
    }

    fn kinds(&self) -> [(&'static str, usize, Value, &'static str); 9] {
        let good = self.protected.spec("steady-right");
        let mut often = good.clone();
        often["validation"] = json!({"interval": "1m"});
        let mut unknown = good.clone();
        unknown["tls"] = json!({});
        let mut skipping = good.clone();
        skipping["tls"] = json!({"insecureSkipVerify": true});
        let anonymous = json!({"endpoint": self.anonymous.url()});
        let hanging = json!({"endpoint": self.hanging.url(), "validation": {"timeout": "2s"}});
        [
            ("good", 4, good, "Ready=True/Available"),
            ("often", 6, often, "Ready=True/Available"),
            ("anonymous", 3, anonymous, "Ready=True/Available"),
            ("skipping", 1, skipping, "TLSVerified=False/VerificationSkipped"),
            ("wrong", 3, self.protected.spec("steady-wrong"), "Ready=False/Rejected"),
            ("unknown", 3, unknown, "Ready=False/UnknownIssuer"),
            ("lost", 2, self.protected.spec("steady-missing"), "Ready=False/SecretNotFound"),
            ("down", 2, json!({"endpoint": DOWN}), "Ready=False/ConnectionRefused"),
            ("hanging", 1, hanging, "Ready=False/Timeout"),
        ]
    }

    /// How often the right password was seen.
    fn validated(&self) -> usize {
        self.protected.registry.authentications().iter().filter(|seen| seen.accepted).count()
    }
}

impl Sample {
    fn object(&self) -> Value {
        match &self.namespace {
            None => system_registry(&self.name, self.spec.clone()),
            Some(namespace) => tenant_registry(namespace, &self.name, self.spec.clone()),
        }
    }

    async fn settles(&self, cluster: &Cluster) -> Result<()> {
        match &self.namespace {
            None => drop(cluster.system(&self.name).becomes(&[self.verdict]).await?),
            Some(namespace) => {
                drop(cluster.tenant(namespace, &self.name).becomes(&[self.verdict]).await?);
            }
        }
        Ok(())
    }

    /// Whether it lies in a namespace that is no tenant's any more.
    fn has_no_tenant(&self) -> bool {
        self.verdict == NOT_A_TENANT
    }

    fn is_validated_often(&self) -> bool {
        self.spec["validation"]["interval"] == "1m" && self.verdict == "Ready=True/Available"
    }

    /// Whether its verdict takes longer than a second, however fast the machine.
    fn is_slow(&self) -> bool {
        self.verdict == "Ready=False/Timeout"
    }

    /// Whether that is a write to this object.
    fn is_written_by(&self, write: &AuditEvent) -> bool {
        let resource = if self.namespace.is_some() { "tenantregistries" } else { "systemregistries" };
        write.resource == resource
            && write.name == self.name
            && write.namespace == self.namespace.clone().unwrap_or_default()
    }
}

/// What a registry was asked, and what it answered.
fn requests(registry: &TestRegistry) -> Vec<String> {
    let tell = |access: &registry_testbed::registry::LoggedRequest| {
        format!("{} {} {}", access.method, access.path, access.status)
    };
    registry.requests().iter().map(tell).collect()
}

#[tokio::test]
async fn backs_off_from_blocked_api_requests() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let _operator = Operator::start(solo.installation.operator_options().await?).await?;
    let rules = may_patch_registries(&solo.cluster, false).await?;
    let (mark, start) = (solo.mark()?, Instant::now());
    let registry = solo.cluster.system(&solo.cluster.unique("unwritable"));
    apply(&solo.cluster, &system_registry(registry.name(), guarded(json!({"endpoint": DOWN})))).await?;
    let is_try = |event: &AuditEvent| {
        event.user == OPERATOR_USER && event.name == registry.name() && event.verb == "patch"
    };
    let is_third =
        |tries: &[AuditEvent]| if tries.len() >= 3 { Ok(()) } else { Err(format!("{} tries", tries.len())) };
    let audit = solo.installation.control_plane().audit()?;
    let tried = audit.until("the finalizer is tried a third time", &mark, is_try, is_third).await;
    let took = start.elapsed();
    may_patch_registries(&solo.cluster, true).await?;
    tried.with_context(|| format!("the operator may do {rules:?}"))?;
    assert!(took >= Duration::from_secs(2), "three tries within {took:?}");
    is_guarded(&registry).await
}

/// Blocks access with another owner's role binding of the same name.
#[tokio::test]
async fn backs_off_from_forbidden_namespace() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let namespace = solo.cluster.tenant_namespace("unread", "unread").await?;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": {"name": "registry-operator", "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "view"},
    });
    apply(&solo.cluster, &binding).await?;
    let spec = json!({"endpoint": DOWN, "auth": {"basic": {"secretRef": {"name": "login"}}}});
    apply(&solo.cluster, &tenant_registry(&namespace, "charts", guarded(spec))).await?;
    let mark = solo.mark()?;
    let operator = Operator::start(solo.installation.operator_options().await?).await?;
    let is_list = |event: &AuditEvent| {
        event.verb == "list" && event.resource == "secrets" && event.namespace == namespace
    };
    let of_each_kind = |lists: &[AuditEvent]| -> [Vec<AuditEvent>; 2] {
        let is_own = |event: &AuditEvent| event.request_uri.contains("labelSelector");
        let (own, all) = lists.iter().cloned().partition(is_own);
        [own, all]
    };
    let are_five = |lists: &[AuditEvent]| {
        let counts = of_each_kind(lists).map(|each| each.len());
        if counts.iter().all(|count| *count >= 5) { Ok(()) } else { Err(format!("{counts:?} lists")) }
    };
    let audit = solo.installation.control_plane().audit()?;
    let tried = audit.until("its Secrets are asked for a fifth time", &mark, is_list, are_five).await;
    unlabel(&solo.cluster, &namespace).await?;
    for lists in of_each_kind(&tried?) {
        let asked = |index: usize| lists[index].received.parse::<Timestamp>();
        let took = Duration::try_from(asked(4)?.duration_since(asked(0)?))?;
        assert!(took >= Duration::from_secs(1), "five lists within {took:?}");
    }
    let log = operator.log();
    assert!(log.contains("failed to watch; retrying with growing pauses what=\"secrets\""), "{log}");
    Ok(())
}

#[tokio::test]
async fn restores_finalizer_of_replaced_object() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = cluster.system(&cluster.unique("replaced"));
    apply(&cluster, &system_registry(registry.name(), guarded(json!({"endpoint": DOWN})))).await?;
    is_guarded(&registry).await?;
    registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    registry.change(json!({"metadata": {"finalizers": null}})).await?;
    is_guarded(&registry).await
}

/// Who applies a registry just as it was once read (a backup, a copy of another) applies the operator's finalizer with it, and
/// owns it then as much as the operator does.
#[tokio::test]
async fn other_finalizer_blocks_no_verdict_or_deletion() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = cluster.system(&cluster.unique("restored"));
    for spec in [guarded(json!({"endpoint": DOWN})), json!({"endpoint": DOWN})] {
        let mut copy = system_registry(registry.name(), spec.clone());
        copy["metadata"]["finalizers"] = json!([FINALIZER]);
        apply(&cluster, &copy).await?;
        registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
        delete(&registry).await?;
        registry.is_gone().await?;
    }
    Ok(())
}

/// Backups can be restored with their status.
#[tokio::test]
async fn overwrites_foreign_status_fields() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = cluster.system(&cluster.unique("restored-status"));
    let suspended = json!({"endpoint": DOWN, "suspend": true});
    apply(&cluster, &system_registry(registry.name(), suspended)).await?;
    let stalled = json!({
        "type": "Stalled", "status": "True", "reason": "Rejected", "message": "", "observedGeneration": 1,
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    });
    let restored = Patch::Merge(json!({
        "status": {"conditions": [stalled], "tls": {"subject": "CN=old"}, "lastHandledReconcileAt": "old"},
    }));
    registry.api().patch_status(registry.name(), &PatchParams::apply("backup"), &restored).await?;
    registry.change(json!({"spec": {"suspend": false}})).await?;
    let seen = registry.becomes(&["Ready=False/ConnectionRefused", "!Stalled"]).await?;
    let status = seen.status.unwrap_or_default();
    assert_eq!((status.tls, status.last_handled_reconcile_at), (None, None));
    Ok(())
}

/// Takes from the operator, or gives back to it, the right by which it writes its finalizers.
async fn may_patch_registries(cluster: &Cluster, may: bool) -> Result<Vec<PolicyRule>> {
    let roles: Api<ClusterRole> = Api::all(cluster.client().clone());
    let mut rules = roles.get("registry-operator").await?.rules.unwrap_or_default();
    for rule in &mut rules {
        if rule.resources.iter().flatten().any(|resource| resource == "systemregistries") {
            rule.verbs.retain(|verb| verb != "patch");
            rule.verbs.extend(may.then(|| "patch".to_owned()));
        }
    }
    let patch = Patch::Merge(json!({"rules": rules}));
    roles.patch("registry-operator", &PatchParams::default(), &patch).await?;
    let look = || async {
        ensure!(operator_may_patch_registries(cluster).await? == Some(may), "the API server does not know");
        Ok::<_, anyhow::Error>(())
    };
    eventually(format!("that the operator may patch registries is {may}"), look).await?;
    Ok(rules)
}

/// By the API server's own word: its view of the roles may be behind.
async fn operator_may_patch_registries(cluster: &Cluster) -> Result<Option<bool>> {
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some(System::PLURAL.to_owned()),
        verb: Some("patch".to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        user: Some(OPERATOR_USER.to_owned()),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer = Api::all(cluster.client()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.map(|status| status.allowed))
}
