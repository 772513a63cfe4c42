//! Edit: what was changed is sent and nothing else; a stored password goes to no other server; what another tool keeps stays.

use std::{io::ErrorKind, net::TcpListener};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use registry_api::{RegistrySpec, TENANT_POLICY, TenantRegistry};
use registry_testbed::eventually;
use serde_json::{Value, json};

use crate::{
    bed::{Browser, Cluster, PASSWORD, Page, Protected, SYSTEM_NAMESPACE, USER, with},
    counter::ConnectionCounter,
};

/// Everything that the form doesn't show.
const HIDDEN: &str = ", suspend: true, deletionProtection: true, availability: {tenants: [a, b], pullSecret: {name: pull}}, \
                      validation: {interval: 1h, timeout: 7s, failureThreshold: 9, repository: hello}";

async fn add(cluster: &Cluster, name: &str, endpoint: &str, more: &str) -> Result<String> {
    cluster
        .apply(&format!(
            "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry, metadata: {{name: {name}}}, \
             spec: {{endpoint: '{endpoint}', auth: {{basic: {{secretRef: {{name: stored}}}}}}{more}}}}}"
        ))
        .await?;
    Ok(format!("/system/registries/{name}/edit"))
}

/// The fields of the form as it was shown, and a button.
async fn opened(browser: &Browser, url: &str, action: &'static str) -> Result<Vec<(&'static str, String)>> {
    let page = browser.get(url).await?;
    anyhow::ensure!(page.status == 200, "{page:#?}");
    let mut fields = vec![("action", action.to_owned()), ("login", "keep".to_owned())];
    for name in ["draft", "uid", "generation", "endpoint", "base_content_path", "repository"] {
        fields.push((name, page.value(name).to_owned()));
    }
    fields.push((
        "content_type",
        page.text
            .split(" selected>")
            .nth(1)
            .and_then(|rest| rest.split('<').next())
            .context("no provider")?
            .to_owned(),
    ));
    Ok(fields)
}

fn borrowed<'a>(fields: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

async fn spec(cluster: &Cluster, name: &str) -> Result<Value> {
    Ok(serde_json::to_value(cluster.system().get(name).await?.spec)?)
}

fn is_conflict(page: &Page) -> bool {
    page.status == 409 && page.has("Another user has changed")
}

#[tokio::test]
async fn change_touches_only_its_field() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, name) = (cluster.administrator().await?, Cluster::unique("edited"));
    let url = add(&cluster, &name, "https://127.0.0.1:1", HIDDEN).await?;
    let before = spec(&cluster, &name).await?;
    let page = browser.get(&url).await?;
    assert!(
        page.has(&format!("Password: stored in Secret {SYSTEM_NAMESPACE}/stored, unchanged")),
        "{page:#?}"
    );
    assert_eq!((page.value("endpoint"), page.value("repository")), ("https://127.0.0.1:1", "hello"));

    let fields = opened(&browser, &url, "confirm").await?;
    let same = browser.submit(&url, &borrowed(&fields)).await?;
    assert_eq!(same.location(), format!("/system/registries/{name}?unchanged"));
    let changed = with(&borrowed(&fields), &[("base_content_path", "team/packs")]);
    let asked = browser.submit(&url, &changed).await?;
    assert!(asked.has("Save anyway?") && asked.has("The stored login can’t be tried here"), "{asked:#?}");
    assert_eq!(spec(&cluster, &name).await?, before);

    let saved = browser.submit(&url, &with(&changed, &[("action", "confirm-anyway")])).await?;
    assert!(saved.location().starts_with(&format!("/system/registries/{name}?changed=")), "{saved:#?}");
    let mut expected = before;
    expected["baseContentPath"] = json!("team/packs");
    assert_eq!(spec(&cluster, &name).await?, expected);
    assert!(browser.get(saved.location()).await?.has(&format!("{name} changed")));
    Ok(())
}

#[tokio::test]
async fn change_of_another_user_is_a_conflict() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, name) = (cluster.administrator().await?, Cluster::unique("contested"));
    let url = add(&cluster, &name, "https://127.0.0.1:1", "").await?;
    let fields = opened(&browser, &url, "confirm-anyway").await?;
    let mine = with(&borrowed(&fields), &[("base_content_path", "mine")]);
    let patch = |patch: Value| {
        let cluster = &cluster;
        let name = &name;
        async move { cluster.system().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await }
    };
    // The operator's status and a request for a validation are no changes of the form.
    patch(json!({"metadata": {"annotations": {registry_api::REQUESTED_AT: "now"}}})).await?;
    let validated = browser.submit(&url, &with(&mine, &[("action", "validate")])).await?;
    assert_eq!(validated.status, 200, "{validated:#?}");

    patch(json!({"spec": {"contentType": "Helm"}})).await?;
    for action in ["validate", "confirm", "confirm-anyway"] {
        let page = browser.submit(&url, &with(&mine, &[("action", action)])).await?;
        assert!(is_conflict(&page) && page.has("What you had entered"), "{page:#?}");
        assert!(page.has("<option selected>Helm") && page.value("base_content_path").is_empty(), "{page:#?}");
        assert!(page.has("<dd><bdi>mine</bdi></dd>"), "{page:#?}");
    }
    assert!(spec(&cluster, &name).await?.get("baseContentPath").is_none());

    let again = opened(&browser, &url, "confirm-anyway").await?;
    let saved = browser.submit(&url, &with(&borrowed(&again), &[("base_content_path", "mine")])).await?;
    assert_eq!(saved.status, 303, "{saved:#?}");
    let now = spec(&cluster, &name).await?;
    assert_eq!((&now["contentType"], &now["baseContentPath"]), (&json!("Helm"), &json!("mine")));
    Ok(())
}

#[tokio::test]
async fn replaced_password_is_validated_and_stored_anew() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, protected) = (cluster.administrator().await?, Protected::start().await?);
    let (name, endpoint) = (Cluster::unique("relogin"), protected.registry.url());
    let url = add(&cluster, &name, &endpoint, ", tls: {insecureSkipVerify: true}").await?;
    let mut fields = opened(&browser, &url, "validate").await?;
    fields.push(("insecure_skip_verify", "on".to_owned()));

    let kept = browser.submit(&url, &borrowed(&fields)).await?;
    assert!(kept.has("the console does not read Secrets; the operator checks the credentials after Confirm"));
    assert!(kept.has("class=\"conclusion doubt\"") && kept.has("VerificationSkipped"), "{kept:#?}");

    let typed = with(&borrowed(&fields), &[("login", "replace"), ("username", USER), ("password", PASSWORD)]);
    let valid = browser.submit(&url, &typed).await?;
    assert!(valid.has("class=\"conclusion good\"") && valid.has("Credentials validated"), "{valid:#?}");
    let confirm = with(&typed, &[("action", "confirm"), ("password", "")]);
    let saved = browser.submit(&url, &confirm).await?;
    assert!(saved.location().starts_with(&format!("/system/registries/{name}?changed=")), "{saved:#?}");
    let auth = cluster.system().get(&name).await?.spec.auth.unwrap_or_default();
    let secret = auth.basic.context("no login")?.secret_ref.name;
    assert!(secret.starts_with(&format!("{name}-login-")), "{secret}");
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let secret = secrets.get(&secret).await?;
    assert_eq!(secret.annotations()[registry_api::HOSTS_ANNOTATION], protected.registry.host_port());
    assert_eq!(secret.data.unwrap_or_default()["password"].0, PASSWORD.as_bytes());
    let detail = browser.get(saved.location()).await?;
    assert!(detail.has(&format!("kubectl delete secret -n {SYSTEM_NAMESPACE} stored")), "{detail:#?}");
    for page in [&kept, &valid, &saved, &detail] {
        assert!(!page.has(PASSWORD), "{page:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn stored_password_goes_to_no_other_server() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, name) = (cluster.administrator().await?, Cluster::unique("moved"));
    let url = add(&cluster, &name, "https://127.0.0.1:1", "").await?;
    let canary = TcpListener::bind("127.0.0.1:0")?;
    canary.set_nonblocking(true)?;
    let other = format!("https://{}", canary.local_addr()?);
    let fields = opened(&browser, &url, "validate").await?;
    for endpoint in [&*other, "http://127.0.0.1:1", "https://127.0.0.1:2"] {
        for action in ["validate", "confirm", "confirm-anyway"] {
            for named in ["", "stored"] {
                let changes = [("endpoint", endpoint), ("action", action), ("existing_secret", named)];
                let page = browser.submit(&url, &with(&borrowed(&fields), &changes)).await?;
                assert_eq!(page.status, 422, "{endpoint} {action} {named}: {page:#?}");
                assert!(
                    page.has("id=\"password-wrong\">The stored login is for https://127.0.0.1:1"),
                    "{page:#?}"
                );
            }
        }
    }
    let path = with(&borrowed(&fields), &[("endpoint", "https://127.0.0.1:1/suffix")]);
    assert_eq!(browser.submit(&url, &path).await?.status, 200, "the same server");
    let connected = canary.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(connected, Err(ErrorKind::WouldBlock), "nothing was sent");
    assert_eq!(spec(&cluster, &name).await?["endpoint"], "https://127.0.0.1:1");
    Ok(())
}

#[tokio::test]
async fn refusals_stand_at_the_field() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, name) = (cluster.administrator().await?, Cluster::unique("wrong"));
    let url = add(&cluster, &name, "https://127.0.0.1:1", "").await?;
    let fields = opened(&browser, &url, "validate").await?;
    for action in ["validate", "confirm-anyway"] {
        let changes = [("base_content_path", "/Team/"), ("action", action)];
        let page = browser.submit(&url, &with(&borrowed(&fields), &changes)).await?;
        assert!(
            page.status == 422 && page.has("id=\"base_content_path-wrong\">spec.baseContentPath"),
            "{page:#?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn refused_change_takes_the_new_secret_back() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, name) = (cluster.administrator().await?, Cluster::unique("late"));
    let url = add(&cluster, &name, "https://127.0.0.1:1", "").await?;
    cluster.refuse_writes_of(&name, "UPDATE").await?;
    let fields = opened(&browser, &url, "confirm-anyway").await?;
    let typed = with(&borrowed(&fields), &[("login", "replace"), ("username", USER), ("password", PASSWORD)]);
    let page = browser.submit(&url, &typed).await?;
    assert!(
        page.status == 422 && page.has("refused when it is too late") && !page.has("is left"),
        "{page:#?}"
    );
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let left = secrets.list(&kube::api::ListParams::default()).await?;
    assert!(!left.items.iter().any(|secret| secret.name_any().starts_with(&format!("{name}-login"))));
    Ok(())
}

/// An administrator of the system scope who may create Secrets and do nothing else to them.
async fn creator_of_secrets(cluster: &Cluster) -> Result<Browser> {
    let name = Cluster::unique("no-deletion");
    let to = |kind: &str, inside: &str, role: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\nmetadata: {{name: {name}{inside}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {role}}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {name}}}]\n---\n"
        )
    };
    let inside = format!(", namespace: {SYSTEM_NAMESPACE}");
    let bindings = to("ClusterRole", "", "registry-system-admin") + &to("Role", &inside, &name);
    let role = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {name}{inside}}}\n\
         rules: [{{apiGroups: [''], resources: [secrets], verbs: [create]}}]\n"
    );
    cluster.apply(&(bindings + &role)).await?;
    cluster.user(&name).await
}

#[tokio::test]
async fn second_confirm_gets_a_secret_of_its_own() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, name) = (creator_of_secrets(&cluster).await?, Cluster::unique("twice"));
    let url = add(&cluster, &name, "https://127.0.0.1:1", "").await?;
    cluster.refuse_writes_of(&name, "UPDATE").await?;
    let fields = opened(&browser, &url, "confirm-anyway").await?;
    let typed = with(&borrowed(&fields), &[("login", "replace"), ("username", USER), ("password", PASSWORD)]);
    let first = browser.submit(&url, &typed).await?;
    ensure!(first.status == 422 && first.has("is left: "), "{first:#?}");
    let again = with(&typed, &[("draft", first.value("draft")), ("password", "")]);
    let second = browser.submit(&url, &again).await?;
    ensure!(second.has("is left: ") && !second.has("already exists"), "{second:#?}");
    let stale = browser.submit(&url, &typed).await?;
    ensure!(stale.has("already exists; confirm again, and the new one gets another name"), "{stale:#?}");
    Ok(())
}

#[tokio::test]
async fn what_git_keeps_is_read_only_here() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, name) = (cluster.administrator().await?, Cluster::unique("flux"));
    let url = add(&cluster, &name, "https://127.0.0.1:1", "").await?;
    let fields = opened(&browser, &url, "confirm-anyway").await?;
    let uid = cluster.system().get(&name).await?.metadata.uid.unwrap_or_default();
    let labels = json!({"kustomize.toolkit.fluxcd.io/name": "infra", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    cluster.system().patch(&name, &PatchParams::default(), &patch).await?;

    let registry = format!("/system/registries/{name}");
    let place = "Managed by Flux, Kustomization flux-system/infra: change it in Git";
    let detail = browser.get(&registry).await?;
    assert!(detail.has(place), "{detail:#?}");
    for control in ["Edit", "Delete"] {
        assert!(
            detail.has(&format!("disabled aria-describedby=\"cannot\">{control}</button>")),
            "{detail:#?}"
        );
    }
    assert!(detail.has("<button type=\"submit\">Validate now</button>"), "{detail:#?}");
    let table = browser.get(&format!("/system/registries?filter={name}")).await?;
    assert!(table.has(place) && !table.has(&format!("{registry}/edit\"")), "{table:#?}");

    let changed = with(&borrowed(&fields), &[("base_content_path", "mine")]);
    for page in [
        browser.get(&url).await?,
        browser.submit(&url, &changed).await?,
        browser.post(&format!("{registry}/delete"), &format!("name={name}&uid={uid}")).await?,
    ] {
        assert!(page.status == 409 && page.has(place), "{page:#?}");
    }
    assert!(spec(&cluster, &name).await?.get("baseContentPath").is_none());
    Ok(())
}

#[tokio::test]
async fn without_the_right_controls_say_whom_to_ask() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let name = Cluster::unique("locked");
    let url = add(&cluster, &name, "https://127.0.0.1:1", "").await?;
    let reader = cluster.user("reader").await?;
    let detail = reader.get(&format!("/system/registries/{name}")).await?;
    for control in ["Validate now", "Edit", "Delete"] {
        assert!(
            detail.has(&format!("disabled aria-describedby=\"cannot\">{control}</button>")),
            "{detail:#?}"
        );
    }
    let whom = "You may not patch SystemRegistries; ask a cluster administrator for the ClusterRole registry-system-admin";
    assert!(detail.has(whom), "{detail:#?}");
    let page = reader.get(&url).await?;
    assert!(page.status == 403 && page.has(whom), "{page:#?}");
    let sent =
        reader.submit(&url, &[("action", "confirm-anyway"), ("endpoint", "https://127.0.0.1:2")]).await?;
    assert_eq!(sent.status, 403, "{sent:#?}");
    assert_eq!(spec(&cluster, &name).await?["endpoint"], "https://127.0.0.1:1");
    Ok(())
}

#[tokio::test]
async fn tenant_edits_its_own_registry() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (tenant, namespace, member) =
        (Cluster::unique("editors"), Cluster::unique("editors-ns"), Cluster::unique("editor"));
    cluster.tenant_member(&tenant, &namespace, &member).await?;
    cluster
        .apply(&format!(
            "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: TenantRegistry, \
             metadata: {{name: charts, namespace: {namespace}}}, spec: {{endpoint: 'https://127.0.0.1:1'}}}}"
        ))
        .await?;
    let browser = cluster.user(&member).await?;
    let url = format!("/tenants/{tenant}/registries/{namespace}/charts/edit");
    let fields = opened(&browser, &url, "confirm-anyway").await?;
    let skip = browser.submit(&url, &with(&borrowed(&fields), &[("insecure_skip_verify", "on")])).await?;
    assert!(skip.status == 422 && skip.has("id=\"insecure_skip_verify-wrong\">"), "{skip:#?}");
    let saved = browser.submit(&url, &with(&borrowed(&fields), &[("content_type", "Helm")])).await?;
    let detail = format!("/tenants/{tenant}/registries/{namespace}/charts?changed=");
    assert!(saved.location().starts_with(&detail), "{saved:#?}");
    let other = format!("/tenants/another/registries/{namespace}/charts/edit");
    assert_eq!(
        browser.get(&other).await?.status,
        200,
        "whether it is the tenant's is not known to this user"
    );
    assert_eq!(cluster.administrator().await?.get(&other).await?.status, 404);
    Ok(())
}

/// A tenant's registry at the counter, as its member edits it.
struct TenantsRegistry {
    browser: Browser,
    counter: ConnectionCounter,
    namespace: String,
    url: String,
}

impl TenantsRegistry {
    async fn start(cluster: &Cluster) -> Result<Self> {
        let [tenant, namespace, member] = ["moved-on", "moved-on-ns", "moved-on-member"].map(Cluster::unique);
        cluster.tenant_member(&tenant, &namespace, &member).await?;
        let url = format!("/tenants/{tenant}/registries/{namespace}/charts/edit");
        let counter = ConnectionCounter::start().await?;
        Ok(Self { browser: cluster.user(&member).await?, counter, namespace, url })
    }

    async fn add(&self, cluster: &Cluster) -> Result<()> {
        let url = self.counter.url();
        let text = format!(
            "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: TenantRegistry, \
             metadata: {{name: charts, namespace: {}}}, spec: {{endpoint: '{url}'}}}}",
            self.namespace
        );
        cluster.apply(&text).await
    }

    /// Validates with these changes, and returns the page and the connections that it caused.
    async fn validate(&self, changes: &[(&'static str, &str)]) -> Result<(Page, usize)> {
        let fields = opened(&self.browser, &self.url, "validate").await?;
        let page = self.browser.submit(&self.url, &with(&borrowed(&fields), changes)).await?;
        Ok((page, self.counter.connections().await?))
    }

    async fn is_reached(&self) -> Result<()> {
        let (page, connections) = self.validate(&[]).await?;
        ensure!(page.status == 200 && connections > 0, "{connections} connections: {page:#?}");
        Ok(())
    }

    /// Waits until such a registry can't be added with those words; an edit is refused with the same, and reaches nothing. An empty
    /// provider becomes the default one, so that nothing is changed in the end.
    async fn is_refused(&self, cluster: &Cluster, words: &str) -> Result<()> {
        let registries = Api::<TenantRegistry>::namespaced(cluster.client.clone(), &self.namespace);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let spec = RegistrySpec { endpoint: self.counter.url(), ..RegistrySpec::default() };
        let look = || async {
            let refusal = registries.create(&dry_run, &TenantRegistry::new("another", spec.clone())).await;
            ensure!(format!("{refusal:?}").contains(words), "{refusal:?}");
            Ok(())
        };
        eventually(words, look).await?;
        for changes in [&[][..], &[("content_type", "Helm")], &[("content_type", "")]] {
            let (page, connections) = self.validate(changes).await?;
            ensure!((page.status, connections) == (422, 0), "{connections}: {changes:?} {page:#?}");
            ensure!(page.has(words), "{changes:?} {page:#?}");
        }
        Ok(())
    }
}

#[tokio::test]
async fn endpoint_that_is_forbidden_later_is_not_reached() -> Result<()> {
    // The policy is for all tenants, and no operator may connect either.
    let cluster = Cluster::own().await?;
    let registry = TenantsRegistry::start(&cluster).await?;
    let policies: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    registry.add(&cluster).await?;
    registry.is_reached().await?;
    let only = Patch::Merge(json!({"data": {"allowedEndpoints": "registry.example\n"}}));
    policies.patch(TENANT_POLICY, &PatchParams::default(), &only).await?;
    registry.is_refused(&cluster, "is not allowed for tenants").await
}

#[tokio::test]
async fn registry_that_lost_its_tenant_is_not_reached() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let registry = TenantsRegistry::start(&cluster).await?;
    registry.add(&cluster).await?;
    registry.is_reached().await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let no_label = Patch::Merge(json!({"metadata": {"labels": {registry_api::TENANT_LABEL: null}}}));
    namespaces.patch(&registry.namespace, &PatchParams::default(), &no_label).await?;
    registry.is_refused(&cluster, "belongs to no tenant").await
}
