//! Delivery of validated credentials as Secrets in tenants' namespaces, and everything that changes them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use registry_api::{
    HOSTS_ANNOTATION, MANAGED_BY_LABEL, PULL_SECRET_MANAGER, REGISTRY_ANNOTATION, REGISTRY_UID_LABEL,
    TENANT_LABEL, spec::System,
};
use registry_testbed::{ControlPlaneOptions, eventually};
use serde_json::{Value, json};

use super::secrets::{
    SecretWrite, absent, config, config_for, counts, delivered, label, offered, own, ready_says, secrets,
    written_in_time,
};
use crate::{
    harness::{self, Cluster, Installation, OPERATOR_USER, RegistryHandle, SYSTEM_NAMESPACE},
    moment::Moment,
    objects::{DOWN, Protected, apply, login, system_registry, tenant_registry, validate_now},
};

/// A SystemRegistry for the tenants of one test, its pull Secret `pull` delivered to one namespace of each.
struct Shared {
    cluster: Cluster,
    protected: Protected,
    registry: RegistryHandle<System>,
    name: String,
    namespaces: [String; 2],
}

impl Shared {
    async fn deliver() -> Result<Self> {
        let cluster = harness::cluster_with_operator().await?;
        let protected = Protected::start().await?;
        let name = cluster.unique("packs");
        let namespaces =
            [cluster.tenant_namespace("a", "a-1").await?, cluster.tenant_namespace("b", "b-1").await?];
        apply(&cluster, &login(SYSTEM_NAMESPACE, &name, "right")).await?;
        let registry = cluster.system(&name);
        let shared = Self { cluster, protected, registry, name, namespaces };
        shared.apply(shared.availability()).await?;
        for namespace in &shared.namespaces {
            shared.delivered(namespace).await?;
        }
        Ok(shared)
    }

    fn availability(&self) -> Value {
        json!({"tenants": [self.tenant("a"), self.tenant("b")], "pullSecret": {"name": "pull"}})
    }

    fn tenant(&self, tenant: &str) -> String {
        self.cluster.unique(tenant)
    }

    async fn apply(&self, availability: Value) -> Result<()> {
        apply(&self.cluster, &system_registry(&self.name, offered(&self.protected, &self.name, availability)))
            .await
    }

    fn says(&self) -> Value {
        config_for(&self.protected.registry.host_port(), "right")
    }

    async fn delivered(&self, namespace: &str) -> Result<Secret> {
        delivered(&self.cluster, namespace, "pull", &self.says()).await
    }

    /// Waits until the pull Secret is delivered, and checks that the operator wrote it as soon as is promised.
    async fn delivered_in_time(&self, since: &Moment, namespace: &str) -> Result<Secret> {
        let secret = self.delivered(namespace).await?;
        written_in_time(since, SecretWrite::Write, namespace, "pull").await?;
        Ok(secret)
    }

    /// Waits until another registry's pull Secret is in a namespace of the tenant `a`. By then, this registry's Secrets are final.
    async fn has_others(&self, namespace: &str) -> Result<()> {
        let (other, name) = (Protected::start().await?, format!("{}-other", self.name));
        apply(&self.cluster, &login(SYSTEM_NAMESPACE, &name, "right")).await?;
        let availability = json!({"tenants": [self.tenant("a")], "pullSecret": {"name": "other"}});
        apply(&self.cluster, &system_registry(&name, offered(&other, &name, availability))).await?;
        let says = config_for(&other.registry.host_port(), "right");
        delivered(&self.cluster, namespace, "other", &says).await?;
        Ok(())
    }

    async fn gone(&self) -> Result<()> {
        for namespace in &self.namespaces {
            absent(&self.cluster, namespace, "pull").await?;
        }
        Ok(())
    }
}

// Which namespaces a registry reaches.

#[tokio::test]
async fn delivers_to_the_tenants_that_it_names() -> Result<()> {
    let shared = Shared::deliver().await?;
    let cluster = &shared.cluster;
    let other = cluster.tenant_namespace("c", "c-1").await?;
    let second = cluster.tenant_namespace("a", "a-2").await?;
    let secret = shared.delivered(&second).await?;
    let registry = counts(&shared.registry, (2, 3, Some(3))).await?;
    assert_eq!(own(cluster, &other).await?, [""; 0]);

    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
    assert_eq!(secret.labels().get(MANAGED_BY_LABEL).map(String::as_str), Some("registry-operator"));
    assert_eq!(secret.labels().get(REGISTRY_UID_LABEL), registry.metadata.uid.as_ref());
    assert_eq!(
        secret.annotations().get(REGISTRY_ANNOTATION),
        Some(&format!("SystemRegistry/{}", shared.name))
    );
    let managers = secret.metadata.managed_fields.context("managed fields")?;
    assert!(
        managers.iter().all(|entry| entry.manager.as_deref() == Some(PULL_SECRET_MANAGER)),
        "{managers:?}"
    );
    Ok(())
}

#[tokio::test]
async fn delivers_to_namespaces_of_own_tenant_only() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let protected = Protected::start().await?;
    let [first, second] =
        [cluster.tenant_namespace("a", "a-1").await?, cluster.tenant_namespace("a", "a-2").await?];
    let other = cluster.tenant_namespace("b", "b-1").await?;
    apply(&cluster, &login(&first, "login", "right")).await?;
    let spec = offered(&protected, "login", json!({"pullSecret": {"name": "charts-pull"}}));
    apply(&cluster, &tenant_registry(&first, "charts", spec)).await?;
    let says = config_for(&protected.registry.host_port(), "right");
    for namespace in [&first, &second] {
        let secret = delivered(&cluster, namespace, "charts-pull", &says).await?;
        let named = format!("TenantRegistry/{first}/charts");
        assert_eq!(secret.annotations().get(REGISTRY_ANNOTATION), Some(&named));
    }
    counts(&cluster.tenant(&first, "charts"), (1, 2, Some(2))).await?;
    assert_eq!(own(&cluster, &other).await?, [""; 0]);

    // The registry's namespace moves to another tenant, and the registry with it.
    label(&cluster, &first, Some(&cluster.unique("b"))).await?;
    delivered(&cluster, &other, "charts-pull", &says).await?;
    absent(&cluster, &second, "charts-pull").await?;
    counts(&cluster.tenant(&first, "charts"), (1, 2, Some(2))).await?;
    Ok(())
}

#[tokio::test]
async fn counts_tenants_without_pull_secret() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let namespace = cluster.tenant_namespace("a", "a-1").await?;
    let (name, tenants) = (cluster.unique("plain"), [cluster.unique("a"), cluster.unique("b")]);
    let spec = json!({"endpoint": DOWN, "availability": {"tenants": tenants}});
    apply(&cluster, &system_registry(&name, spec)).await?;
    apply(&cluster, &tenant_registry(&namespace, "plain", json!({"endpoint": DOWN}))).await?;
    counts(&cluster.system(&name), (1, 1, None)).await?;
    counts(&cluster.tenant(&namespace, "plain"), (1, 1, None)).await?;
    cluster.tenant_namespace("b", "b-1").await?;
    cluster.tenant_namespace("b", "b-2").await?;
    counts(&cluster.system(&name), (2, 3, None)).await?;
    counts(&cluster.tenant(&namespace, "plain"), (1, 1, None)).await?;
    Ok(())
}

#[tokio::test]
async fn unknown_tenant_is_a_message_not_a_failure() -> Result<()> {
    let shared = Shared::deliver().await?;
    let nobody = shared.tenant("nobody");
    shared.apply(json!({"tenants": [shared.tenant("a"), nobody], "pullSecret": {"name": "pull"}})).await?;
    let says = format!("no namespace has the label {TENANT_LABEL} with the value {nobody}");
    ready_says(&shared.registry, &format!("Credentials validated; {says}")).await?;
    let registry = shared.registry.becomes(&["Ready=True/Available", "!Stalled"]).await?;
    let conditions = registry.status.context("status")?.conditions;
    let credentials = conditions.iter().find(|condition| condition.type_ == "CredentialsValidated");
    assert_eq!(credentials.context("condition")?.message, "Credentials validated");
    counts(&shared.registry, (1, 1, Some(1))).await?;
    let namespace = shared.cluster.tenant_namespace("nobody", "nobody-1").await?;
    shared.delivered(&namespace).await?;
    let message_is_gone = || async {
        let conditions = shared.registry.status().await?.conditions;
        ensure!(conditions.iter().all(|condition| !condition.message.contains(&nobody)), "it is still said");
        Ok(())
    };
    Ok(eventually("the message goes", message_is_gone).await?)
}

#[tokio::test]
async fn delivers_to_new_namespace_within_two_seconds() -> Result<()> {
    let shared = Shared::deliver().await?;
    let moment = Moment::on_shared().await?;
    let fresh = shared.cluster.tenant_namespace("a", "fresh").await?;
    shared.delivered_in_time(&moment, &fresh).await?;
    let plain = shared.cluster.plain_namespace("plain").await?;
    assert_eq!(own(&shared.cluster, &plain).await?, [""; 0]);
    let moment = Moment::on_shared().await?;
    label(&shared.cluster, &plain, Some(&shared.tenant("b"))).await?;
    shared.delivered_in_time(&moment, &plain).await?;
    counts(&shared.registry, (2, 4, Some(4))).await?;
    Ok(())
}

// What users do to a pull Secret.

#[tokio::test]
async fn repairs_pull_secret_within_two_seconds() -> Result<()> {
    let shared = Shared::deliver().await?;
    let [namespace, _] = &shared.namespaces;
    let api = secrets(&shared.cluster, namespace);
    let before = shared.delivered(namespace).await?;

    let moment = Moment::on_shared().await?;
    api.delete("pull", &DeleteParams::default()).await?;
    let made = shared.delivered_in_time(&moment, namespace).await?;
    assert_ne!(made.uid(), before.uid());
    for change in [
        json!({"data": {".dockerconfigjson": "e30="}}),
        json!({"metadata": {"annotations": {REGISTRY_ANNOTATION: "SystemRegistry/other"}}}),
        json!({"metadata": {"labels": {REGISTRY_UID_LABEL: "another"}}}),
    ] {
        let moment = Moment::on_shared().await?;
        api.patch("pull", &PatchParams::default(), &Patch::Merge(&change)).await?;
        let mended = || async {
            let secret = api.get("pull").await?;
            ensure!(secret.labels() == before.labels(), "labels {:?}", secret.labels());
            ensure!(secret.annotations() == before.annotations(), "annotations {:?}", secret.annotations());
            ensure!(config(&secret)? == shared.says(), "the configuration is another");
            Ok(())
        };
        eventually(format!("{change} is undone"), mended).await?;
        written_in_time(&moment, SecretWrite::Write, namespace, "pull").await?;
    }
    Ok(())
}

#[tokio::test]
async fn recreates_immutable_pull_secret() -> Result<()> {
    let shared = Shared::deliver().await?;
    let [namespace, _] = &shared.namespaces;
    let api = secrets(&shared.cluster, namespace);
    let frozen = json!({"data": {".dockerconfigjson": "e30="}, "immutable": true});
    api.patch("pull", &PatchParams::default(), &Patch::Merge(frozen)).await?;
    shared.delivered(namespace).await?;

    // Managed by labels and field manager, but of another type: only possible if it did not exist for a
    // moment.
    let labels = shared.delivered(namespace).await?.labels().clone();
    let opaque = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "pull", "labels": labels},
    });
    let opaque: Secret = serde_json::from_value(opaque)?;
    let params = PostParams { field_manager: Some(PULL_SECRET_MANAGER.to_owned()), ..PostParams::default() };
    let replaced = || async {
        let _ = api.delete("pull", &DeleteParams::default()).await;
        Ok::<_, anyhow::Error>(api.create(&params, &opaque).await?)
    };
    eventually("the test is faster than the operator, once", replaced).await?;
    let secret = shared.delivered(namespace).await?;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
    Ok(())
}

#[tokio::test]
async fn backs_off_when_another_client_reverts_writes() -> Result<()> {
    let shared = Shared::deliver().await?;
    let [namespace, _] = &shared.namespaces;
    let (api, audit) =
        (secrets(&shared.cluster, namespace), Installation::shared().await?.control_plane().audit()?);
    let mark = audit.mark();
    for number in 0..200 {
        let undo =
            json!({"data": {".dockerconfigjson": BASE64_STANDARD.encode(format!("{{\"n\": {number}}}"))}});
        api.patch("pull", &PatchParams::default(), &Patch::Merge(undo)).await?;
        tokio::time::sleep(Duration::from_millis(10)).await; // the other client writes at this rate
    }
    let mut writes = audit.writes_since(&mark, OPERATOR_USER)?;
    writes.retain(|write| write.resource == "secrets" && write.namespace == *namespace);
    assert!((1..30).contains(&writes.len()), "{} writes against 200", writes.len());
    shared.delivered(namespace).await?;
    Ok(())
}

#[tokio::test]
async fn keeps_fields_that_others_add() -> Result<()> {
    let shared = Shared::deliver().await?;
    let [namespace, other] = &shared.namespaces;
    let api = secrets(&shared.cluster, namespace);
    let added = json!({"metadata": {"labels": {"team": "blue"}}});
    let version = api.patch("pull", &PatchParams::default(), &Patch::Merge(added)).await?.resource_version();
    // A repair elsewhere shows that the operator has observed this change.
    secrets(&shared.cluster, other).delete("pull", &DeleteParams::default()).await?;
    shared.delivered(other).await?;
    assert_eq!(shared.delivered(namespace).await?.resource_version(), version);
    Ok(())
}

#[tokio::test]
async fn removes_label_that_is_no_longer_written() -> Result<()> {
    let shared = Shared::deliver().await?;
    let [namespace, _] = &shared.namespaces;
    let api = secrets(&shared.cluster, namespace);
    let add = async |label: &str, manager: &str| {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        api.patch("pull", &params, &Patch::Merge(json!({"metadata": {"labels": {label: "x"}}}))).await
    };
    add("team", "kubectl-label").await?;
    // As if an older version had created the Secret with it.
    let moment = Moment::on_shared().await?;
    add("older", PULL_SECRET_MANAGER).await?;
    let left = || async {
        let secret = api.get("pull").await?;
        ensure!(!secret.labels().contains_key("older"), "labels {:?}", secret.labels());
        Ok(secret)
    };
    let secret = eventually("the label leaves", left).await?;
    written_in_time(&moment, SecretWrite::Write, namespace, "pull").await?;
    assert_eq!(secret.labels().get("team").map(String::as_str), Some("x"), "somebody else wrote it");
    assert_eq!(config(&secret)?, shared.says());
    let own = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() == Some(PULL_SECRET_MANAGER);
    let operations = secret.managed_fields().iter().filter(own).map(|entry| entry.operation.as_deref());
    assert_eq!(operations.collect::<Vec<_>>(), [Some("Apply")]);
    Ok(())
}

#[tokio::test]
async fn reports_unmanaged_secret_of_the_same_name() -> Result<()> {
    let shared = Shared::deliver().await?;
    let (cluster, foreign) = (&shared.cluster, shared.cluster.plain_namespace("foreign").await?);
    let api = secrets(cluster, &foreign);
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "pull", "labels": {MANAGED_BY_LABEL: "registry-operator"}},
        "stringData": {".dockerconfigjson": shared.says().to_string()},
    });
    let before = api.create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;
    label(cluster, &foreign, Some(&shared.tenant("a"))).await?;
    let says = "pull Secret pull not created in 1 namespace: a Secret with that name exists and is not managed by \
                registry-operator";
    ready_says(&shared.registry, says).await?;
    counts(&shared.registry, (2, 3, Some(2))).await?;
    shared.registry.becomes(&["Ready=True/Available"]).await?;
    assert_eq!(api.get("pull").await?, before, "it was touched");

    api.delete("pull", &DeleteParams::default()).await?;
    shared.delivered(&foreign).await?;
    counts(&shared.registry, (2, 3, Some(3))).await?;
    Ok(())
}

// Two registries with the same pull Secret name.

#[tokio::test]
async fn older_registry_wins_secret_name() -> Result<()> {
    let shared = Shared::deliver().await?;
    let (cluster, [namespace, _]) = (&shared.cluster, &shared.namespaces);
    let younger = Protected::start().await?;
    is_older_than_anything_new(&shared.registry).await?;
    apply(cluster, &login(namespace, "login", "right")).await?;
    let spec = offered(&younger, "login", json!({"pullSecret": {"name": "pull"}}));
    apply(cluster, &tenant_registry(namespace, "younger", spec)).await?;
    let object = cluster.tenant(namespace, "younger");
    let says = format!(
        "Credentials validated; pull Secret pull not created in namespace {namespace}: SystemRegistry {} has the same \
         spec.availability.pullSecret.name, and system scope takes precedence",
        shared.name
    );
    ready_says(&object, &says).await?;
    counts(&object, (1, 1, Some(0))).await?;
    let version = shared.delivered(namespace).await?.resource_version();
    validate_now(&object, "again").await?;
    validate_now(&shared.registry, "again").await?;
    assert_eq!(shared.delivered(namespace).await?.resource_version(), version, "they fight over it");

    shared.registry.api().delete(&shared.name, &DeleteParams::default()).await?;
    let says = config_for(&younger.registry.host_port(), "right");
    delivered(cluster, namespace, "pull", &says).await?;
    counts(&object, (1, 1, Some(1))).await?;
    Ok(())
}

#[tokio::test]
async fn tenants_at_one_host_get_their_own_credentials() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = crate::fixtures::ScriptedServer::promptly(|asked| {
        let known = [("alice", "a-secret"), ("bob", "b-secret")];
        let signed_in =
            known.iter().any(|(user, password)| crate::fixtures::signed_in(asked, user, password));
        if signed_in { crate::fixtures::welcome() } else { crate::fixtures::asks_for_password() }
    })
    .await?;
    let mut logins = Vec::new();
    for (tenant, user, password) in [("a", "alice", "a-secret"), ("b", "bob", "b-secret")] {
        let namespaces = [
            cluster.tenant_namespace(tenant, &format!("{tenant}-1")).await?,
            cluster.tenant_namespace(tenant, &format!("{tenant}-2")).await?,
        ];
        let mut login = login(&namespaces[0], "login", password);
        login["stringData"]["username"] = json!(user);
        apply(&cluster, &login).await?;
        let spec = json!({
            "endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": "login"}}},
            "availability": {"pullSecret": {"name": "pull"}},
        });
        apply(&cluster, &tenant_registry(&namespaces[0], "packs", spec)).await?;
        logins.push((namespaces, user, password));
    }
    for (namespaces, user, password) in logins {
        let entry = json!({
            "username": user, "password": password,
            "auth": BASE64_STANDARD.encode(format!("{user}:{password}")),
        });
        for namespace in &namespaces {
            let says = json!({"auths": {registry.host_port(): entry}});
            delivered(&cluster, namespace, "pull", &says).await?;
            assert_eq!(own(&cluster, namespace).await?, ["pull"]);
        }
    }
    Ok(())
}

// What the registry's user changes.

#[tokio::test]
async fn delivers_rotated_password_once_validated() -> Result<()> {
    let shared = Shared::deliver().await?;
    let (cluster, [namespace, _]) = (&shared.cluster, &shared.namespaces);
    apply(cluster, &login(SYSTEM_NAMESPACE, &shared.name, "wrong")).await?;
    shared.registry.becomes(&["CredentialsValidated=False/Rejected"]).await?;
    shared.gone().await?;
    counts(&shared.registry, (2, 2, Some(0))).await?;
    apply(cluster, &login(SYSTEM_NAMESPACE, &shared.name, "right")).await?;
    shared.delivered(namespace).await?;

    // Another registry with another password at the same name: what is delivered follows.
    let next = Protected::with_password("n3xt").await?;
    apply(cluster, &login(SYSTEM_NAMESPACE, &shared.name, "n3xt")).await?;
    apply(cluster, &system_registry(&shared.name, offered(&next, &shared.name, shared.availability())))
        .await?;
    delivered(cluster, namespace, "pull", &config_for(&next.registry.host_port(), "n3xt")).await?;
    Ok(())
}

#[tokio::test]
async fn keeps_pull_secrets_during_registry_outage() -> Result<()> {
    let shared = Shared::deliver().await?;
    let [namespace, other] = &shared.namespaces;
    let before = shared.delivered(namespace).await?;
    shared.protected.registry.component().stop().await?;
    validate_now(&shared.registry, "while it is down").await?;
    shared.registry.becomes(&["Ready=True/Available"]).await?;
    let moment = Moment::on_shared().await?;
    secrets(&shared.cluster, other).delete("pull", &DeleteParams::default()).await?;
    shared.delivered_in_time(&moment, other).await?;
    for request in ["a second time", "a third time"] {
        validate_now(&shared.registry, request).await?;
    }
    shared.registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    let fresh = shared.cluster.tenant_namespace("a", "fresh").await?;
    counts(&shared.registry, (2, 3, Some(2))).await?;
    shared.has_others(&fresh).await?;
    assert_eq!(own(&shared.cluster, &fresh).await?, ["other"], "nothing new comes while it is down");
    let after = shared.delivered(namespace).await?;
    assert_eq!(after.resource_version(), before.resource_version());

    shared.protected.registry.component().start().await?;
    validate_now(&shared.registry, "when it is back").await?;
    shared.delivered(&fresh).await?;
    Ok(())
}

#[tokio::test]
async fn delivers_only_credentials_that_are_needed() -> Result<()> {
    let shared = Shared::deliver().await?;
    let open = registry_testbed::TestRegistry::start(registry_testbed::RegistryOptions::default()).await?;
    let unprovable = json!({
        "endpoint": open.url(), "auth": {"basic": {"secretRef": {"name": shared.name}}},
        "availability": shared.availability(),
    });
    apply(&shared.cluster, &system_registry(&shared.name, unprovable)).await?;
    shared.registry.becomes(&["CredentialsValidated=Unknown/Unprovable"]).await?;
    shared.gone().await?;

    shared.apply(shared.availability()).await?;
    shared.delivered(&shared.namespaces[0]).await?;
    shared.registry.change(json!({"spec": {"endpoint": open.url(), "auth": null}})).await?;
    shared.registry.becomes(&["CredentialsValidated=True/AnonymousAccess"]).await?;
    shared.gone().await?;
    counts(&shared.registry, (2, 2, Some(0))).await?;
    Ok(())
}

#[tokio::test]
async fn renames_and_removes_pull_secrets() -> Result<()> {
    let shared = Shared::deliver().await?;
    let [namespace, _] = &shared.namespaces;
    shared.registry.change(json!({"spec": {"availability": {"pullSecret": {"name": "renamed"}}}})).await?;
    delivered(&shared.cluster, namespace, "renamed", &shared.says()).await?;
    shared.gone().await?;
    shared.registry.change(json!({"spec": {"availability": {"pullSecret": null}}})).await?;
    absent(&shared.cluster, namespace, "renamed").await?;
    counts(&shared.registry, (2, 2, None)).await?;
    let unguarded = || async {
        let finalizers = shared.registry.get().await?.metadata.finalizers;
        ensure!(finalizers.is_none(), "finalizers {finalizers:?}");
        Ok(())
    };
    Ok(eventually("the finalizer goes with the last Secret", unguarded).await?)
}

#[tokio::test]
async fn removes_secret_of_tenant_no_longer_named() -> Result<()> {
    let shared = Shared::deliver().await?;
    let [first, second] = &shared.namespaces;
    shared.registry.change(json!({"spec": {"availability": {"tenants": [shared.tenant("b")]}}})).await?;
    absent(&shared.cluster, first, "pull").await?;
    counts(&shared.registry, (1, 1, Some(1))).await?;
    shared.delivered(second).await?;
    Ok(())
}

#[tokio::test]
async fn suspended_registry_keeps_existing_secrets_only() -> Result<()> {
    let shared = Shared::deliver().await?;
    let (cluster, [namespace, other]) = (&shared.cluster, &shared.namespaces);
    shared.registry.change(json!({"spec": {"suspend": true}})).await?;
    // Secrets that it no longer requests are removed anyway, which shows that the operator has observed the change.
    shared.registry.change(json!({"spec": {"availability": {"tenants": [shared.tenant("a")]}}})).await?;
    absent(cluster, other, "pull").await?;
    apply(cluster, &login(SYSTEM_NAMESPACE, &shared.name, "wrong")).await?;
    shared.delivered(namespace).await?;
    let fresh = cluster.tenant_namespace("a", "fresh").await?;
    shared.has_others(&fresh).await?;
    assert_eq!(own(cluster, &fresh).await?, ["other"], "nothing new comes of a suspended registry");

    apply(cluster, &login(SYSTEM_NAMESPACE, &shared.name, "right")).await?;
    assert_eq!(own(cluster, &fresh).await?, ["other"]);
    shared.registry.change(json!({"spec": {"suspend": false}})).await?;
    shared.delivered(&fresh).await?;
    Ok(())
}

/// The API server says in whole seconds when an object was created: waits until that second is over.
async fn is_older_than_anything_new(registry: &RegistryHandle<System>) -> Result<()> {
    let created = registry.get().await?.metadata.creation_timestamp.context("created")?.0;
    let over = std::time::SystemTime::from(created) + Duration::from_secs(1);
    tokio::time::sleep(over.duration_since(std::time::SystemTime::UNIX_EPOCH)?.saturating_sub(now()?)).await;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
fn now() -> Result<Duration> {
    Ok(std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH)?)
}

/// A proxy in front of the API server may not support HTTP/2, which most watches use.
#[tokio::test]
async fn delivers_and_repairs_without_http_2() -> Result<()> {
    let options = ControlPlaneOptions {
        api_server_flags: vec!["--disable-http2-serving".to_owned()],
        ..ControlPlaneOptions::default()
    };
    let installation = Installation::start(options).await?;
    let cluster = installation.cluster().await?;
    let operator = installation.start_operator().await?;
    let (protected, namespace) = (Protected::start().await?, cluster.tenant_namespace("a", "a").await?);
    let name = cluster.unique("packs");
    apply(&cluster, &login(SYSTEM_NAMESPACE, &name, "right")).await?;
    let spec = offered(&protected, &name, json!({"pullSecret": {"name": "pull"}}));
    apply(&cluster, &system_registry(&name, spec)).await?;
    let says = config_for(&protected.registry.host_port(), "right");
    delivered(&cluster, &namespace, "pull", &says).await.with_context(|| operator.log())?;
    let spoilt = Patch::Merge(json!({"data": {".dockerconfigjson": BASE64_STANDARD.encode("{}")}}));
    secrets(&cluster, &namespace).patch("pull", &PatchParams::default(), &spoilt).await?;
    delivered(&cluster, &namespace, "pull", &says).await.with_context(|| operator.log())?;
    Ok(())
}

#[tokio::test]
async fn stops_delivery_when_hosts_no_longer_match() -> Result<()> {
    let shared = Shared::deliver().await?;
    let api = secrets(&shared.cluster, SYSTEM_NAMESPACE);
    let restrict = |hosts: Value| {
        let patch = json!({"metadata": {"annotations": {HOSTS_ANNOTATION: hosts}}});
        let (api, name) = (&api, &shared.name);
        async move {
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            anyhow::Ok(())
        }
    };
    restrict(json!("elsewhere.example.org")).await?;
    shared.registry.becomes(&["ResolvedRefs=False/SecretInvalid"]).await?;
    shared.gone().await?;
    restrict(json!(shared.protected.registry.host_port())).await?;
    for namespace in &shared.namespaces {
        shared.delivered(namespace).await?;
    }
    Ok(())
}
