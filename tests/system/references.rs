//! References: how soon a change takes effect, what is not retried in the meantime, and that the operator reads nothing but
//! the named objects in the allowed namespaces.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{ConfigMap, Secret},
    rbac::v1::{RoleBinding, RoleRef, Subject},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use registry_testbed::{
    AuditEvent, AuditMark, LeafOptions, RegistryAuth, RegistryOptions, RegistryTls, TestCa, TestRegistry,
    eventually,
};
use serde_json::{Value, json};

use crate::{
    fixtures::{
        Declared, PROMISED, ScriptedServer, TestScope, VALIDATED, Verdict, View, asks_for_password, attempts,
        label_as_tenant, protected, signed_in, spec, tell, unlabel, welcome,
    },
    harness::{self, Cluster, Installation, OPERATOR_USER, SERVICE_ACCOUNT, SYSTEM_NAMESPACE},
    moment::Moment,
};

const REJECTED: Verdict = Verdict::refused("False/Rejected");

// ---- How soon

#[tokio::test]
async fn corrected_password_works_within_two_seconds() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "wrong").await?;
        let object = scene.declare("packs", spec(&registry, &ca, &login)).await?;
        object.shows(&REJECTED).await?;
        timed("a corrected password", &object, &VALIDATED, scene.login("login", "demo", "right")).await?;
        timed("a spoilt password", &object, &REJECTED, scene.login("login", "demo", "wrong")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn corrected_ca_works_within_two_seconds() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (ca, other) = (TestCa::new("private authority")?, TestCa::new("another authority")?);
    let registry = protected(&ca, "demo", "right").await?;
    let untrusted = Verdict::untrusted("False/UnknownIssuer");
    let (wrong, right) = ([("ca.crt", other.certificate_pem())], [("ca.crt", ca.certificate_pem())]);
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let with = |source: Value| {
            let mut spec = spec(&registry, &ca, &login);
            spec["tls"]["ca"] = source;
            spec
        };
        let map = scene.config_map("authority", &wrong).await?;
        let object = scene.declare("by-map", with(json!({"configMapRef": {"name": map}}))).await?;
        object.shows(&untrusted).await?;
        timed("a corrected ConfigMap", &object, &VALIDATED, scene.config_map("authority", &right)).await?;

        let secret = scene.secret("authority", "Opaque", &wrong).await?;
        let object = scene.declare("by-secret", with(json!({"secretRef": {"name": secret}}))).await?;
        object.shows(&untrusted).await?;
        let corrected = scene.secret("authority", "Opaque", &right);
        timed("a corrected CA Secret", &object, &VALIDATED, corrected).await?;
    }
    Ok(())
}

#[tokio::test]
async fn corrected_client_certificate_works_at_once() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let (ca, strangers) = (TestCa::new("private authority")?, TestCa::new("strangers")?);
    let tls = RegistryTls::Server {
        leaf: ca.issue(&LeafOptions::server("registry"))?,
        ca_pem: ca.certificate_pem().to_owned(),
        client_ca_pem: Some(ca.certificate_pem().to_owned()),
    };
    let auth = RegistryAuth::htpasswd("demo", "right");
    let registry = TestRegistry::start(RegistryOptions { auth, tls }).await?;
    let client = LeafOptions::client("operator", Vec::<String>::new());
    let (wrong, right) = (strangers.issue(&client)?, ca.issue(&client)?);
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let write = |leaf: &registry_testbed::Leaf| {
            let entries =
                [("tls.crt", leaf.certificate_pem().to_owned()), ("tls.key", leaf.key_pem().to_owned())];
            let scene = &scene;
            async move {
                let entries = entries.each_ref().map(|(key, value)| (*key, value.as_str()));
                scene.secret("client", "kubernetes.io/tls", &entries).await
            }
        };
        let secret = write(&wrong).await?;
        let mut spec = spec(&registry, &ca, &login);
        spec["tls"]["clientCertificate"] = json!({"secretRef": {"name": secret}});
        let object = scene.declare("packs", spec).await?;
        object.shows(&Verdict::untrusted("False/ClientCertificateRequired")).await?;
        timed("a corrected client certificate", &object, &VALIDATED, write(&right)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn corrected_object_works_within_two_seconds() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        let no_login = scene.named("no-such-login");
        let object = scene.declare("packs", spec(&registry, &ca, &no_login)).await?;
        object.shows(&Verdict::unresolved("False/SecretNotFound")).await?;
        let good = spec(&registry, &ca, &login);
        timed("a corrected reference", &object, &VALIDATED, object.apply(&good)).await?;

        object.change(json!({"spec": {"tls": {"ca": null}}})).await?;
        object.shows(&Verdict::untrusted("False/UnknownIssuer")).await?;
        timed("a corrected object", &object, &VALIDATED, object.apply(&good)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn notices_created_and_deleted_references() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    for scene in TestScope::both(&cluster).await? {
        let (login, map) = (scene.named("login"), scene.named("authority"));
        let mut spec = spec(&registry, &ca, &login);
        spec["tls"]["ca"] = json!({"configMapRef": {"name": map}});
        let object = scene.declare("packs", spec).await?;
        let no_secret = Verdict::unresolved("False/SecretNotFound");
        let no_map = Verdict::unresolved("False/ConfigMapNotFound");
        object.shows(&no_secret).await?;
        timed("a Secret created later", &object, &no_map, scene.login("login", "demo", "right")).await?;
        let entries = [("ca.crt", ca.certificate_pem())];
        let write = scene.config_map("authority", &entries);
        timed("a ConfigMap created later", &object, &VALIDATED, write).await?;

        let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), scene.namespace());
        let params = DeleteParams::default();
        timed("a deleted ConfigMap", &object, &no_map, async { Ok(maps.delete(&map, &params).await?) })
            .await?;
        let secrets: Api<Secret> = Api::namespaced(cluster.client(), scene.namespace());
        let delete = async { Ok(secrets.delete(&login, &params).await?) };
        timed("a deleted Secret", &object, &no_secret, delete).await?;
    }
    Ok(())
}

#[tokio::test]
async fn correction_does_not_wait_for_hanging_check() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    // It answers requests with the right password, and leaves all others waiting except the first.
    let registry = ScriptedServer::start(|asked| match asked.authorization() {
        None => (Duration::ZERO, asks_for_password()),
        Some(_) if signed_in(asked, "demo", "right") => (Duration::ZERO, welcome()),
        Some(_) => (Duration::from_mins(10), asks_for_password()),
    })
    .await?;
    let tried = |times: usize| {
        let registry = &registry;
        let look = move || async move {
            let tried = registry.requests().iter().filter(|asked| asked.authorization().is_some()).count();
            ensure!(tried >= times, "{tried} passwords were sent");
            Ok(())
        };
        async move { anyhow::Ok(eventually("the validation hangs", look).await?) }
    };
    let validated = VALIDATED.in_the_clear();
    for scene in TestScope::both(&cluster).await? {
        let before = registry.requests().iter().filter(|asked| asked.authorization().is_some()).count();
        let login = scene.login("login", "demo", "wrong").await?;
        let with = |login: &str| {
            json!({
                "endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": login}}},
                "validation": {"timeout": "5m"},
            })
        };
        let object = scene.declare("packs", with(&login)).await?;
        tried(before + 1).await?;
        timed("a Secret corrected meanwhile", &object, &validated, scene.login("login", "demo", "right"))
            .await?;

        let wrong = scene.login("wrong-login", "demo", "wrong").await?;
        object.apply(&with(&wrong)).await?;
        tried(before + 3).await?;
        timed("an object corrected meanwhile", &object, &validated, object.apply(&with(&login))).await?;
    }
    Ok(())
}

/// Writes, waits for the verdict, and checks that it came as soon as is promised.
async fn timed<T>(
    what: &str,
    object: &Declared,
    verdict: &Verdict,
    write: impl Future<Output = Result<T>>,
) -> Result<View> {
    let moment = Moment::on_shared().await?;
    write.await?;
    object.shows_within(PROMISED, &moment, verdict).await.with_context(|| what.to_owned())
}

// ---- What is not tried again

/// Long enough for a retry that should not be to be seen.
const OBSERVED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn does_not_retry_rejected_password() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    let scenes = TestScope::both(&cluster).await?;
    for scene in &scenes {
        let login = scene.login("login", "demo", "wrong").await?;
        let object = scene.declare("packs", spec(&registry, &ca, &login)).await?;
        object.shows(&REJECTED).await?;
        // None of these is a reason to try the password again.
        object.change(json!({"metadata": {"labels": {"colour": "green"}}})).await?;
        object.change(json!({"metadata": {"annotations": {"example.com/note": "later"}}})).await?;
        scene.login("another-login", "demo", "wrong").await?;
        scene.config_map("another-map", &[("a", "b")]).await?;
    }
    tokio::time::sleep(OBSERVED).await;
    let seen = registry.authentications();
    assert_eq!(seen.len(), 2, "one attempt for each scope: {seen:?}");
    assert!(seen.iter().all(|seen| !seen.accepted && seen.user == "demo"), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn busy_object_gets_verdict_with_one_try() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = ScriptedServer::start(|_| (Duration::from_millis(300), asks_for_password())).await?;
    let scene = TestScope::tenant(&cluster).await?;
    let login = scene.login("login", "demo", "wrong").await?;
    let auth = json!({"basic": {"secretRef": {"name": login}}});
    let object = scene.declare("packs", json!({"endpoint": registry.url(), "auth": auth})).await?;
    let verdict = REJECTED.in_the_clear();
    let mut writes = 0;
    let others = async {
        loop {
            writes += 1;
            let written = object
                .change(json!({"metadata": {"annotations": {"example.com/count": writes.to_string()}}}));
            if let Err(error) = written.await {
                return error;
            }
        }
    };
    tokio::select! {
        error = others => return Err(error),
        shown = object.shows(&verdict) => drop(shown?),
    }
    tell(&format!("{writes} other writes until the verdict"));
    let sent = registry.requests().into_iter().filter(|asked| asked.authorization().is_some()).count();
    assert_eq!(sent, 1, "passwords sent, with {writes} other writes");
    Ok(())
}

#[tokio::test]
async fn retries_rejected_password_on_request_or_change() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    for scene in TestScope::both(&cluster).await? {
        let registry = protected(&ca, "demo", "right").await?;
        let login = scene.login("login", "demo", "wrong").await?;
        let object = scene.declare("packs", spec(&registry, &ca, &login)).await?;
        object.shows(&REJECTED).await?;
        assert_eq!(attempts(&registry), 1);

        object.request("now").await?;
        attempted(&registry, 2, "requestedAt").await?;
        scene.login("login", "demo", "wrong again").await?;
        attempted(&registry, 3, "another Secret").await?;
        object.change(json!({"spec": {"contentType": "Helm"}})).await?;
        attempted(&registry, 4, "another spec").await?;
        object.shows(&REJECTED).await?;
        assert_eq!(attempts(&registry), 4, "once for each change: {:?}", registry.authentications());
    }
    Ok(())
}

async fn attempted(registry: &TestRegistry, times: usize, why: &str) -> Result<()> {
    let look = || async {
        let seen = attempts(registry);
        ensure!(seen >= times, "{seen} attempts");
        Ok(())
    };
    Ok(eventually(format!("attempt {times}, for {why}"), look).await?)
}

// ---- Nothing but what is named, from where it may be

#[tokio::test]
async fn scopes_do_not_read_each_others_references() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let mark = audit_mark().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    let [system, tenant] = TestScope::both(&cluster).await?;
    for (right, wrong, name) in [(&system, &tenant, "system-has-it"), (&tenant, &system, "tenant-has-it")] {
        // The same names in both namespaces.
        let login = right.login(name, "demo", "right").await?;
        wrong.login(name, "demo", "wrong").await?;
        right.declare(name, spec(&registry, &ca, &login)).await?.shows(&VALIDATED).await?;
        wrong.declare(name, spec(&registry, &ca, &login)).await?.shows(&REJECTED).await?;

        // A name in the other namespace only.
        let only = format!("{name}-alone");
        let login = right.login(&only, "demo", "right").await?;
        let object = wrong.declare(&only, spec(&registry, &ca, &login)).await?;
        object.shows(&Verdict::unresolved("False/SecretNotFound")).await?;
        let read = namespaces_read(&mark, "secrets", &login).await?;
        assert_eq!(read, BTreeSet::from([wrong.namespace().to_owned()]), "Secret {login}");

        let map = right.config_map(&only, &[("ca.crt", ca.certificate_pem())]).await?;
        let mut by_map = spec(&registry, &ca, &wrong.login("login", "demo", "right").await?);
        by_map["tls"]["ca"] = json!({"configMapRef": {"name": map}});
        let object = wrong.declare(&format!("{only}-map"), by_map).await?;
        object.shows(&Verdict::unresolved("False/ConfigMapNotFound")).await?;
        let read = namespaces_read(&mark, "configmaps", &map).await?;
        assert_eq!(read, BTreeSet::from([wrong.namespace().to_owned()]), "ConfigMap {map}");
    }
    Ok(())
}

/// How the label that makes a Secret the operator's own stands in a request.
const REGISTRY_UID_LABEL_QUOTED: &str = "registry.spectrocloud.com%2Fregistry-uid";

#[tokio::test]
async fn never_reads_unreferenced_secrets() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let mark = audit_mark().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    // A tenant without a registry.
    let idle = TestScope::inside(&cluster, cluster.tenant_namespace("team", "idle").await?);
    let unnamed = idle.login("unnamed", "demo", "right").await?;
    has_binding(&cluster, idle.namespace()).await?;
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("login", "demo", "right").await?;
        scene.login("unnamed", "demo", "right").await?;
        let object = scene.declare("packs", spec(&registry, &ca, &login)).await?;
        object.shows(&VALIDATED).await?;
        // A change of it is seen by the watch; that is no reason to read it either.
        scene.login("unnamed", "demo", "another").await?;
        object.request("now").await?;
        object.has_handled("now").await?;
        assert!(namespaces_read(&mark, "secrets", &login).await?.contains(scene.namespace()));
    }
    let audit = Installation::shared().await?.control_plane().audit()?;
    let asked: Vec<AuditEvent> = audit.since(&mark)?.into_iter().filter(by_operator).collect();
    let of_unnamed = asked.iter().filter(|event| event.resource == "secrets" && event.name == unnamed);
    assert_eq!(of_unnamed.count(), 0, "what no registry names is never asked for");
    let own_pull_secrets = |event: &AuditEvent| event.request_uri.contains(REGISTRY_UID_LABEL_QUOTED);
    let at_idle =
        asked.iter().filter(|event| event.resource == "secrets" && event.namespace == idle.namespace());
    // Other tests have registries whose pull Secrets are for every tenant: they are written here too.
    let read = at_idle.filter(|event| ["get", "list", "watch"].contains(&event.verb.as_str()));
    let read: Vec<_> =
        read.filter(|event| !own_pull_secrets(event)).map(|event| &event.request_uri).collect();
    assert!(read.is_empty(), "without a registry, only own pull Secrets are read: {read:?}");
    let cluster_wide = asked.iter().filter(|event| event.resource == "secrets" && event.namespace.is_empty());
    assert_eq!(cluster_wide.count(), 0, "Secrets are never asked for in all namespaces at once");
    Ok(())
}

#[tokio::test]
async fn unreferenced_secret_is_not_in_memory() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let (named, unnamed) = (cluster.unique("4f9c-named-password"), cluster.unique("71ab-unnamed-password"));
    let registry = protected(&ca, "demo", &named).await?;
    let mut objects = Vec::new();
    for scene in TestScope::both(&cluster).await? {
        scene.login("unnamed", "demo", &unnamed).await?;
        let login = scene.login("login", "demo", &named).await?;
        objects.push(scene.declare("packs", spec(&registry, &ca, &login)).await?);
        scene.login("unnamed-too", "demo", &unnamed).await?;
    }
    for object in &objects {
        object.shows(&VALIDATED).await?;
    }
    // It keeps what it has read while its watch over the namespace runs, which may have begun after the first validation.
    let (validations, sought) = (AtomicUsize::new(0), [named, unnamed]);
    let look = || async {
        let number = validations.fetch_add(1, Ordering::Relaxed).to_string();
        for object in &objects {
            object.request(&number).await?;
            object.has_handled(&number).await?;
        }
        let found = in_the_operators_memory(sought.clone()).await?;
        ensure!(found[0], "what is named is not there either");
        Ok(found)
    };
    let found = eventually("what is named is in the operator's memory", look).await?;
    assert_eq!(found, [true, false], "[named, unnamed]");
    Ok(())
}

/// Which of these the operator holds.
async fn in_the_operators_memory(sought: [String; 2]) -> Result<[bool; 2]> {
    let Some(process) = harness::shared_operator().await?.id().await else {
        bail!("the operator does not run");
    };
    let look = move || memory::holds(process, sought.each_ref().map(String::as_str));
    tokio::task::spawn_blocking(look).await?
}

#[tokio::test]
async fn secret_access_is_limited_to_tenants() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let operator = operator_client().await?;
    let everywhere = Api::<Secret>::all(operator.clone()).list(&ListParams::default()).await;
    assert_eq!(code(everywhere)?, 403);
    assert_eq!(code(Api::<ConfigMap>::all(operator.clone()).list(&ListParams::default()).await)?, 403);
    let plain = cluster.plain_namespace("nobody").await?;
    let tenant = cluster.tenant_namespace("team", "somebody").await?;
    has_binding(&cluster, &tenant).await?;
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        for namespace in ["", "kube-system", "default", &plain] {
            assert!(!may(&operator, verb, "secrets", namespace).await?, "{verb} secrets in {namespace:?}");
        }
    }
    for verb in ["get", "list", "watch"] {
        for namespace in [SYSTEM_NAMESPACE, &tenant] {
            assert!(may(&operator, verb, "secrets", namespace).await?, "{verb} secrets in {namespace:?}");
        }
    }
    assert!(!may(&operator, "*", "*", "").await?);
    Ok(())
}

#[tokio::test]
async fn binds_only_itself_in_tenant_namespaces() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let operator = operator_client().await?;
    let namespace = cluster.plain_namespace("somebody").await?;
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client(), &namespace);
    assert!(!may(&operator, "get", "secrets", &namespace).await?);
    label_as_tenant(&cluster, &namespace).await?;
    let binding = has_binding(&cluster, &namespace).await?;
    let role = RoleRef {
        api_group: "rbac.authorization.k8s.io".to_owned(),
        kind: "ClusterRole".to_owned(),
        name: "registry-operator-tenant".to_owned(),
    };
    assert_eq!(binding.role_ref, role);
    let itself = Subject {
        api_group: None,
        kind: "ServiceAccount".to_owned(),
        name: SERVICE_ACCOUNT.to_owned(),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
    };
    assert_eq!(binding.subjects, Some(vec![itself]));
    let all = bindings.list(&ListParams::default()).await?;
    assert_eq!(all.items.len(), 1, "{:?}", all.items);

    unlabel(&cluster, &namespace).await?;
    let look = || async {
        ensure!(bindings.get_opt(SERVICE_ACCOUNT).await?.is_none(), "it is still there");
        ensure!(!may(&operator, "get", "secrets", &namespace).await?, "the right is still there");
        Ok(())
    };
    Ok(eventually("the operator's right is gone with the label", look).await?)
}

#[tokio::test]
async fn keeps_unmanaged_role_binding() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let namespace = cluster.tenant_namespace("team", "somebody").await?;
    let ours = has_binding(&cluster, &namespace).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client(), &namespace);
    let theirs = RoleBinding {
        metadata: ObjectMeta { name: Some("theirs".to_owned()), ..ObjectMeta::default() },
        ..ours
    };
    bindings.create(&PostParams::default(), &theirs).await?;
    unlabel(&cluster, &namespace).await?;
    let look = || async {
        ensure!(bindings.get_opt(SERVICE_ACCOUNT).await?.is_none(), "it is still there");
        Ok(())
    };
    eventually("the operator's binding is gone with the label", look).await?;
    assert!(bindings.get_opt("theirs").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn cannot_bind_another_role() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let namespace = cluster.tenant_namespace("team", "somebody").await?;
    let ours = has_binding(&cluster, &namespace).await?;
    let operator = operator_client().await?;
    let bindings: Api<RoleBinding> = Api::namespaced(operator, &namespace);
    for role in ["cluster-admin", "edit", "view"] {
        let binding = RoleBinding {
            metadata: ObjectMeta { name: Some(format!("as-{role}")), ..ObjectMeta::default() },
            role_ref: RoleRef { name: role.to_owned(), ..ours.role_ref.clone() },
            subjects: ours.subjects.clone(),
        };
        assert_eq!(code(bindings.create(&PostParams::default(), &binding).await)?, 403, "{role}");
    }
    Ok(())
}

// ---- What is used above

async fn has_binding(cluster: &Cluster, namespace: &str) -> Result<RoleBinding> {
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client(), namespace);
    let look = || bindings.get(SERVICE_ACCOUNT);
    Ok(eventually(format!("the operator is bound in {namespace}"), look).await?)
}

async fn operator_client() -> Result<Client> {
    let control_plane = Installation::shared().await?.control_plane();
    Ok(control_plane.client_for_service_account(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?)
}

/// What `kubectl auth can-i` asks; an empty namespace means all.
async fn may(client: &Client, verb: &str, resource: &str, namespace: &str) -> Result<bool> {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some(verb.to_owned()),
        resource: Some(resource.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// The HTTP status of an answer.
fn code<T>(answer: kube::Result<T>) -> Result<u16> {
    match answer {
        Ok(_) => Ok(200),
        Err(kube::Error::Api(status)) => Ok(status.code),
        Err(error) => Err(error.into()),
    }
}

async fn audit_mark() -> Result<AuditMark> {
    Ok(Installation::shared().await?.control_plane().audit()?.mark())
}

fn by_operator(event: &AuditEvent) -> bool {
    event.user == OPERATOR_USER && event.user_agent.starts_with("registry-operator/")
}

/// The namespaces in which the operator has asked for that object by its name, as soon as it is known to have done so: the API
/// server logs a request after it has answered it.
async fn namespaces_read(mark: &AuditMark, resource: &str, name: &str) -> Result<BTreeSet<String>> {
    let audit = Installation::shared().await?.control_plane().audit()?;
    let of_it = |event: &AuditEvent| by_operator(event) && event.resource == resource && event.name == name;
    let is_any = |asked: &[AuditEvent]| if asked.is_empty() { Err("it has not".to_owned()) } else { Ok(()) };
    let asked =
        audit.until(format!("the operator has asked for {resource}/{name}"), mark, of_it, is_any).await?;
    Ok(asked.into_iter().map(|event| event.namespace).collect())
}

/// The memory of another process, as a debugger sees it.
mod memory {
    use std::{
        fs::File,
        io::{Read as _, Seek as _, SeekFrom},
    };

    use anyhow::{Context as _, Result};

    /// What is looked through at a time; a text that lies across two pieces is found by what they have in common.
    const PIECE: u64 = 1 << 18;
    const COMMON: u64 = 1 << 10;

    /// For each of the texts, whether that process holds it anywhere.
    pub fn holds<const N: usize>(process: u32, texts: [&str; N]) -> Result<[bool; N]> {
        let maps = std::fs::read_to_string(format!("/proc/{process}/maps"))?;
        let mut memory =
            File::open(format!("/proc/{process}/mem")).context("looking into the operator's memory")?;
        let untouched = vec![0; usize::try_from(PIECE)?];
        let mut found = [false; N];
        for (start, end) in maps.lines().filter_map(writable) {
            for piece in (start..end).step_by(usize::try_from(PIECE - COMMON)?) {
                let mut bytes = Vec::new();
                memory.seek(SeekFrom::Start(piece))?;
                // Some ranges, such as a guard page, can't be read; what could be read counts.
                let _ = (&mut memory).take(PIECE.min(end - piece)).read_to_end(&mut bytes);
                if untouched.starts_with(&bytes) {
                    continue;
                }
                let text = String::from_utf8_lossy(&bytes);
                found.iter_mut().zip(texts).for_each(|(found, sought)| *found |= text.contains(sought));
            }
        }
        Ok(found)
    }

    /// A range of addresses, of a line such as `7f00-7f10 rw-p 00000000 00:00 0`.
    fn writable(line: &str) -> Option<(u64, u64)> {
        let mut words = line.split(' ');
        let (start, end) = words.next()?.split_once('-')?;
        let is_writable = words.next()?.starts_with("rw");
        is_writable.then_some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    }
}
