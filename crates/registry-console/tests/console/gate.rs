//! The gate before Validate: a user who may not add a registry reaches its endpoint with no connection. Each test also shows that a
//! connection would have been counted.

use anyhow::{Result, ensure};
use http::{HeaderName, Method, header};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use registry_api::{RegistrySpec, TENANT_POLICY, TenantRegistry};
use registry_testbed::eventually;
use serde_json::json;

use crate::{
    bed::{Browser, Cluster, Page, SYSTEM_NAMESPACE, form_of},
    cluster_bed::{Account, ClusterConsole},
    counter::ConnectionCounter,
    verdicts,
};

const BASIC: &str = "/system/add/basic";

fn typed<'a>(endpoint: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let fields = [
        ("action", "validate"),
        ("content_type", "Pack"),
        ("name", "gated"),
        ("endpoint", endpoint),
        ("draft", "a-draft"),
    ];
    [&fields, more].concat()
}

/// Sends the form to a console, and returns the page and the connections that it caused.
async fn try_at(
    counter: &ConnectionCounter,
    browser: &Browser,
    path: &str,
    more: &[(&str, &str)],
) -> Result<(Page, usize)> {
    let page = browser.submit(path, &typed(&counter.url(), more)).await?;
    Ok((page, counter.connections().await?))
}

async fn refused_with(
    counter: &ConnectionCounter,
    browser: &Browser,
    (path, more): (&str, &[(&str, &str)]),
    (status, words): (u16, &str),
) -> Result<()> {
    let (page, connections) = try_at(counter, browser, path, more).await?;
    ensure!((page.status, connections) == (status, 0), "{connections} connections: {page:#?}");
    ensure!(page.has(words), "{words}: {page:#?}");
    Ok(())
}

/// A user who may create SystemRegistries by RBAC, and doesn't administer them.
async fn creator(cluster: &Cluster) -> Result<Browser> {
    let name = Cluster::unique("creator");
    cluster
        .apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\n\
             rules: [{{apiGroups: [registry.spectrocloud.com], resources: [systemregistries], verbs: [create]}}]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {name}}}]\n"
        ))
        .await?;
    cluster.user(&name).await
}

/// A member of a tenant, signed in, and the form for the tenant's namespace.
async fn member(cluster: &Cluster) -> Result<(Browser, String)> {
    let [tenant, namespace, member] = ["gate", "gate-ns", "gate-member"].map(Cluster::unique);
    cluster.tenant_member(&tenant, &namespace, &member).await?;
    Ok((cluster.user(&member).await?, format!("/tenants/{tenant}/add/basic?namespace={namespace}")))
}

#[tokio::test]
async fn users_without_rights_reach_no_endpoint() -> Result<()> {
    let (cluster, counter) = (Cluster::shared().await?, ConnectionCounter::start().await?);
    let reader = cluster.user("reader").await?;
    refused_with(&counter, &reader, (BASIC, &[]), (422, "you may not create or change it")).await?;
    let (_, in_namespace) = member(&cluster).await?;
    refused_with(&counter, &reader, (&in_namespace, &[]), (422, "you may not create or change it")).await?;
    // RBAC takes effect when the authorizer has seen it: until then the refusal is RBAC's.
    let creator = creator(&cluster).await?;
    let look = || async {
        let (page, connections) = try_at(&counter, &creator, BASIC, &[]).await?;
        ensure!((page.status, connections) == (422, 0), "{connections} connections: {page:#?}");
        ensure!(page.has("belongs to the system level"), "{page:#?}");
        anyhow::Ok(())
    };
    eventually("the policy refuses who doesn't administer", look).await?;
    let (page, connections) = try_at(&counter, &cluster.administrator().await?, BASIC, &[]).await?;
    ensure!(page.status == 200 && connections > 0, "an administrator reaches it: {page:#?}");
    Ok(())
}

#[tokio::test]
async fn tenants_reach_only_what_their_policy_allows() -> Result<()> {
    let (cluster, counter) = (Cluster::shared().await?, ConnectionCounter::start().await?);
    let (member, path) = member(&cluster).await?;
    let skip = [("insecure_skip_verify", "on")];
    let look = || async {
        let skipped = (422, "spec.tls.insecureSkipVerify is not allowed for tenants");
        refused_with(&counter, &member, (&path, &skip), skipped).await
    };
    eventually("the member may create, and not skip", look).await?;
    let plain = typed("http://127.0.0.1:1", &[]);
    let page = member.submit(&path, &plain).await?;
    ensure!(page.status == 422 && page.has("http:// is not allowed for tenants"), "{page:#?}");
    let (page, connections) = try_at(&counter, &member, &path, &[]).await?;
    ensure!(page.status == 200 && connections > 0, "what is allowed is reached: {page:#?}");
    Ok(())
}

#[tokio::test]
async fn tenants_reach_no_endpoint_outside_the_list() -> Result<()> {
    let (cluster, counter) = (verdicts::cluster().await?, ConnectionCounter::start().await?);
    let (member, path) = member(&cluster).await?;
    let policies: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let only = json!({"data": {"allowedEndpoints": "registry.example\n"}});
    policies.patch(TENANT_POLICY, &PatchParams::default(), &Patch::Merge(only)).await?;
    let namespace = path.rsplit('=').next().unwrap_or_default();
    let (registries, dry_run) = (
        Api::<TenantRegistry>::namespaced(cluster.client.clone(), namespace),
        PostParams { dry_run: true, ..PostParams::default() },
    );
    let spec = RegistrySpec { endpoint: counter.url(), ..RegistrySpec::default() };
    let look = || async {
        let refusal = registries.create(&dry_run, &TenantRegistry::new("gated", spec.clone())).await;
        ensure!(format!("{refusal:?}").contains("is not allowed for tenants"), "{refusal:?}");
        refused_with(&counter, &member, (&path, &[]), (422, "is not allowed for tenants")).await
    };
    eventually("the endpoint is not allowed", look).await?;
    Ok(())
}

#[tokio::test]
async fn namespace_without_a_tenant_reaches_no_endpoint() -> Result<()> {
    let (cluster, counter) = (Cluster::shared().await?, ConnectionCounter::start().await?);
    let namespace = Cluster::unique("no-tenants");
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}")).await?;
    let administrator = cluster.administrator().await?;
    let path = format!("/tenants/anyone/add/basic?namespace={namespace}");
    let wanted = (404, "does not belong to tenant anyone");
    refused_with(&counter, &administrator, (&path, &[]), wanted).await?;
    let absent = "/tenants/anyone/add/basic?namespace=there-is-none";
    refused_with(&counter, &administrator, (absent, &[]), (404, "does not exist")).await?;
    Ok(())
}

/// The user can't read the namespace, so the page doesn't know that it belongs to no tenant; the dry run does.
#[tokio::test]
async fn unreadable_namespace_reaches_no_endpoint() -> Result<()> {
    let (cluster, counter) = (Cluster::shared().await?, ConnectionCounter::start().await?);
    let console = ClusterConsole::start(&cluster, &["--egress-allow", "127.0.0.0/8"]).await?;
    console.knows_addresses().await?;
    let (namespace, account) = (Cluster::unique("unread"), Account::nobody(&cluster, "creator").await?);
    cluster
        .apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: creator, namespace: {namespace}}}\n\
             rules: [{{apiGroups: [registry.spectrocloud.com], resources: [tenantregistries], verbs: [create]}}]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: creator, namespace: {namespace}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: creator}}\n\
             subjects: [{{kind: ServiceAccount, name: {}, namespace: {SYSTEM_NAMESPACE}}}]\n",
            account.name
        ))
        .await?;
    let path = format!("/tenants/anyone/add/basic?namespace={namespace}");
    let page = console.signed_in(&account.token).await?.submit(&path, &typed(&counter.url(), &[])).await?;
    let refused = format!("Namespace {namespace} belongs to no tenant");
    ensure!(page.has(&refused) && counter.connections().await? == 0, "{page:#?}");
    let (tenant, url) = (Cluster::unique("known"), counter.url());
    let member = Account::member(&cluster, &tenant, &tenant).await?;
    let path = format!("/tenants/{tenant}/add/basic?namespace={tenant}");
    let page = console.signed_in(&member.token).await?.submit(&path, &typed(&url, &[])).await?;
    ensure!(counter.connections().await? > 0, "{page:#?}");
    Ok(())
}

#[tokio::test]
async fn requests_from_elsewhere_reach_no_endpoint() -> Result<()> {
    let (cluster, counter) = (Cluster::shared().await?, ConnectionCounter::start().await?);
    let administrator = cluster.administrator().await?;
    let (media_type, body) = form_of(&typed(&counter.url(), &[]));
    let fetch_site = HeaderName::from_static("sec-fetch-site");
    let elsewhere: [&[(HeaderName, &str)]; 5] = [
        &[],
        &[(header::ORIGIN, "http://evil.example")],
        &[(header::ORIGIN, "null")],
        &[(fetch_site.clone(), "same-site"), (header::ORIGIN, &administrator.origin)],
        &[(fetch_site, "cross-site")],
    ];
    for headers in elsewhere {
        let headers = [headers, &[(header::CONTENT_TYPE, media_type.as_str())]].concat();
        let page = administrator.send_with(Method::POST, BASIC, &headers, &body).await?;
        ensure!((page.status, counter.connections().await?) == (403, 0), "{headers:?}: {page:#?}");
    }
    let stranger = cluster.stranger().await?;
    let (page, connections) = try_at(&counter, &stranger, BASIC, &[]).await?;
    ensure!((page.status, connections) == (401, 0), "without a session: {page:#?}");
    Ok(())
}

#[tokio::test]
async fn validation_over_the_limit_reaches_no_endpoint() -> Result<()> {
    let (cluster, counter) = (Cluster::shared().await?, ConnectionCounter::start().await?);
    let browser = cluster.administrator().await?;
    // On a slow machine, the first ones are more than a minute ago at the 21st; so many can't be.
    for number in 1..=200 {
        let (page, connections) = try_at(&counter, &browser, BASIC, &[]).await?;
        if page.status == 429 {
            ensure!(
                number > 20 && connections == 0 && page.has("at most 20 a minute"),
                "{number}: {page:#?}"
            );
            return Ok(());
        }
        ensure!(page.status == 200 && connections > 0, "{number}: {page:#?}");
    }
    anyhow::bail!("none was refused")
}
