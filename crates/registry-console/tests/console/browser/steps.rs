//! The steps of Palette's console, found by their words, in both tabs and both scopes: by mouse, by keyboard, without JavaScript, on a
//! narrow screen and in the dark.

use std::fmt::Debug;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use registry_api::{TENANT_POLICY, TenantRegistry, spec::Auth};
use registry_testbed::Moto;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::OnceCell;

use super::{
    states::{FINE, validated},
    visitor::{Visitor, Way},
};
use crate::bed::{Cluster, PASSWORD, Protected, SYSTEM_NAMESPACE, USER};

/// What moto's tokens hold.
const AWS_PASSWORD: &str = "123456789012-auth-token";

async fn moto() -> Result<&'static Moto> {
    static MOTO: OnceCell<Moto> = OnceCell::const_new();
    Ok(MOTO.get_or_try_init(Moto::start).await?)
}

/// The variables of a console whose AWS is emulated, where it can be.
async fn emulated_aws() -> Result<Vec<(&'static str, String)>> {
    Ok(if Moto::is_possible() { vec![("AWS_ENDPOINT_URL_ECR", moto().await?.url())] } else { Vec::new() })
}

async fn arrives(cluster: &Cluster, member: Option<&str>, way: Way) -> Result<Option<Visitor>> {
    Visitor::arrive(cluster.console(member, &emulated_aws().await?).await?, way).await
}

async fn goes_to_the_form(visitor: &Visitor) -> Result<()> {
    visitor.choose("Administration").await?;
    visitor.sees("Add New Pack Registry").await?;
    visitor.approves("table").await?;
    visitor.choose("Add New Pack Registry").await?;
    visitor.sees("Base Content Path").await
}

/// Trusts the authority of the registry: by its file, or as text where no file can be chosen.
async fn trusts(visitor: &Visitor, way: Way, protected: &Protected) -> Result<()> {
    let ca = protected.ca.certificate_pem();
    if way != Way::Keyboard {
        return visitor.upload("Upload file", "ca.crt", ca).await;
    }
    visitor.choose("CA certificate as text").await?;
    visitor.fill("CA certificate", ca).await
}

/// The tab Basic, from the form to the detail page.
async fn adds_basic(visitor: &Visitor, way: Way, name: &str) -> Result<()> {
    let protected = Protected::start().await?;
    visitor.approves("form").await?;
    visitor.fill("Name", name).await?;
    visitor.fill("Endpoint", &protected.registry.host_port()).await?;
    visitor.fill("Username", USER).await?;
    visitor.fill("Password", PASSWORD).await?;
    visitor.choose("Validate").await?;
    visitor.sees("UnknownIssuer").await?;
    visitor.sees("CN=private authority").await?;
    visitor.approves("verdict that failed").await?;
    trusts(visitor, way, &protected).await?;
    visitor.choose("Validate").await?;
    visitor.sees("Credentials validated").await?;
    visitor.approves("verdict").await?;
    visitor.choose("Confirm").await?;
    visitor.sees(&format!("{name} added")).await?;
    visitor.approves("detail").await
}

/// Changes one field, once the operator has validated the registry: until then, its page loads itself again.
async fn edits<K>(visitor: &Visitor, registries: &Api<K>, name: &str) -> Result<()>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned,
{
    validated(registries, name, &FINE).await?;
    visitor.sees("Certificate verified").await?;
    visitor.choose("Edit").await?;
    visitor.sees("what is not on this page stays as it is").await?;
    visitor.approves("form of a registry that exists").await?;
    visitor.fill("Repository to check", "team/hello").await?;
    visitor.choose("Confirm").await?;
    visitor.sees("The stored login can’t be tried here").await?;
    visitor.approves("question before it is saved").await?;
    visitor.choose("Save anyway?").await?;
    visitor.sees(&format!("{name} changed")).await?;
    validated(registries, name, &FINE).await?;
    visitor.sees("Certificate verified").await
}

/// How a registry's certificate is accepted: tenants may not skip its verification.
#[derive(Clone, Copy)]
enum Certificate {
    Skipped,
    Trusted,
}

/// The tab ECR, from the form to the detail page.
async fn adds_ecr(visitor: &Visitor, way: Way, name: &str, certificate: Certificate) -> Result<()> {
    let protected = Protected::with("AWS", AWS_PASSWORD, "Amazon").await?;
    visitor.choose("ECR").await?;
    visitor.sees("IAM for STS").await?;
    visitor.approves("form of ECR").await?;
    visitor.fill("Name", name).await?;
    visitor.fill("Endpoint", &protected.registry.host_port()).await?;
    visitor.fill("Access Key", "AKIAEXAMPLE").await?;
    visitor.fill("Secret access key", PASSWORD).await?;
    visitor.fill("Region", "eu-central-1").await?;
    match certificate {
        Certificate::Skipped => visitor.choose("Insecure Skip TLS Verify").await?,
        Certificate::Trusted => trusts(visitor, way, &protected).await?,
    }
    visitor.choose("Validate").await?;
    visitor.sees("Credentials validated").await?;
    visitor.approves("verdict of ECR").await?;
    visitor.choose("Confirm").await?;
    visitor.sees(&format!("{name} added")).await
}

/// The access keys of that login are in a Secret of that namespace.
async fn keys_are_in(cluster: &Cluster, namespace: &str, auth: Option<Auth>) -> Result<()> {
    let keys = auth.and_then(|auth| auth.ecr?.credentials).context("it has no access keys")?;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let data = secrets.get(&keys.secret_ref.name).await?.data.unwrap_or_default();
    assert_eq!(data["AWS_ACCESS_KEY_ID"].0, b"AKIAEXAMPLE");
    assert_eq!(data["AWS_SECRET_ACCESS_KEY"].0, PASSWORD.as_bytes());
    Ok(())
}

async fn deletes(visitor: &Visitor, name: &str) -> Result<()> {
    visitor.choose("Delete").await?;
    visitor.sees("What goes").await?;
    visitor.approves("deletion").await?;
    visitor.fill(&format!("Type {name} to delete it"), name).await?;
    visitor.choose("Delete").await?;
    visitor.sees(&format!("{name} deleted")).await
}

/// Both tabs of the system scope, and the deletion.
async fn system_scope(way: Way) -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (basic, by_keys) = (Cluster::unique("basic"), Cluster::unique("by-keys"));
    let Some(visitor) = arrives(&cluster, None, way).await? else { return Ok(()) };
    visitor.approves("first page").await?;
    goes_to_the_form(&visitor).await?;
    adds_basic(&visitor, way, &basic).await?;
    edits(&visitor, &cluster.system(), &basic).await?;
    assert!(cluster.system().get(&basic).await?.spec.auth.is_some());
    if Moto::is_possible() {
        goes_to_the_form(&visitor).await?;
        adds_ecr(&visitor, way, &by_keys, Certificate::Skipped).await?;
        keys_are_in(&cluster, SYSTEM_NAMESPACE, cluster.system().get(&by_keys).await?.spec.auth).await?;
        validated(&cluster.system(), &by_keys, &FINE).await?;
        visitor.sees("Certificate verified").await?;
        deletes(&visitor, &by_keys).await?;
        assert!(cluster.system().get_opt(&by_keys).await?.is_none());
    }
    Ok(())
}

/// A login is kept in a Secret, and the roles of registries don't include those. Outside ECR, the console sends AWS's tokens only where
/// it can read that an administrator allows it.
fn may_sign_in(namespace: &str, member: &str) -> String {
    let allow = |name: &str, namespace: &str, rule: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             rules: [{{apiGroups: [''], {rule}}}]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {member}}}]\n"
        )
    };
    let policy = format!("resources: [configmaps], resourceNames: [{TENANT_POLICY}], verbs: [get]");
    let secrets = allow(member, namespace, "resources: [secrets], verbs: [create]");
    format!("{secrets}---\n{}", allow(member, SYSTEM_NAMESPACE, &policy))
}

/// Lists this machine among the hosts that tenants' tokens of AWS may be sent to. Nothing else changes: all endpoints stay allowed.
async fn allow_aws_tokens_here(cluster: &Cluster) -> Result<()> {
    let policies: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
    let here = Patch::Merge(json!({"data": {"allowedEndpoints": "*\n127.0.0.1\n"}}));
    policies.patch(TENANT_POLICY, &PatchParams::default(), &here).await?;
    Ok(())
}

/// A registry of the system scope, for everyone.
fn for_everyone(name: &str) -> String {
    format!(
        "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry, metadata: {{name: {name}}}, \
         spec: {{endpoint: 'https://registry.example'}}}}"
    )
}

/// The table of a tenant, from the first page.
async fn goes_to_the_tenant(visitor: &Visitor, tenant: &str, namespace: &str) -> Result<()> {
    visitor.choose("Tenants").await?;
    visitor.sees("What a tenant has available").await?;
    visitor.approves("tenants").await?;
    visitor.fill("Tenant", tenant).await?;
    visitor.choose("Show").await?;
    visitor.sees(&format!("Tenant {tenant}")).await?;
    visitor.fill("Namespace", namespace).await?;
    visitor.choose("Filter").await
}

/// The form of a tenant's registry, from its table, by way of both tabs.
async fn goes_to_the_tenants_form(visitor: &Visitor) -> Result<()> {
    visitor.choose("Add New Pack Registry").await?;
    visitor.sees("Base Content Path").await?;
    visitor.choose("ECR").await?;
    visitor.sees("IAM for STS").await?;
    visitor.choose("Basic").await?;
    visitor.sees("Username").await
}

/// Both tabs of a tenant, whose administrator sees what is available and can't remove what is the system scope's.
async fn tenant_scope(way: Way) -> Result<()> {
    let cluster = Cluster::shared().await?;
    let [tenant, namespace, member, everyones, own, by_keys] =
        ["team", "team-ns", "member", "everyones", "own", "own-by-keys"].map(Cluster::unique);
    cluster.tenant_member(&tenant, &namespace, &member).await?;
    cluster.apply(&may_sign_in(&namespace, &member)).await?;
    cluster.apply(&for_everyone(&everyones)).await?;
    allow_aws_tokens_here(&cluster).await?;
    let Some(visitor) = arrives(&cluster, Some(&member), way).await? else { return Ok(()) };
    goes_to_the_tenant(&visitor, &tenant, &namespace).await?;
    visitor.sees(&everyones).await?;
    visitor.approves("table of a tenant").await?;
    visitor.choose(&format!("Actions for {everyones}")).await?;
    visitor.sees("A registry of the system scope can only be removed there").await?;
    goes_to_the_tenants_form(&visitor).await?;
    adds_basic(&visitor, way, &own).await?;
    let registries = Api::<TenantRegistry>::namespaced(cluster.client.clone(), &namespace);
    edits(&visitor, &registries, &own).await?;
    if Moto::is_possible() {
        visitor.choose("Pack Registries").await?;
        visitor.choose("Add New Pack Registry").await?;
        adds_ecr(&visitor, way, &by_keys, Certificate::Trusted).await?;
        keys_are_in(&cluster, &namespace, registries.get(&by_keys).await?.spec.auth).await?;
        validated(&registries, &by_keys, &FINE).await?;
        visitor.sees("Certificate verified").await?;
    }
    visitor.choose("Pack Registries").await?;
    visitor.sees(&everyones).await?;
    visitor.choose(&own).await?;
    visitor.sees("Manifest").await?;
    deletes(&visitor, &own).await
}

#[tokio::test]
async fn system_scope_by_mouse() -> Result<()> {
    Box::pin(system_scope(Way::Mouse)).await
}

#[tokio::test]
async fn system_scope_by_keyboard() -> Result<()> {
    Box::pin(system_scope(Way::Keyboard)).await
}

#[tokio::test]
async fn system_scope_without_javascript() -> Result<()> {
    Box::pin(system_scope(Way::WithoutScript)).await
}

#[tokio::test]
async fn system_scope_at_320_pixels() -> Result<()> {
    Box::pin(system_scope(Way::Narrow)).await
}

#[tokio::test]
async fn system_scope_in_the_dark() -> Result<()> {
    Box::pin(system_scope(Way::Dark)).await
}

#[tokio::test]
async fn tenant_scope_by_mouse() -> Result<()> {
    Box::pin(tenant_scope(Way::Mouse)).await
}

#[tokio::test]
async fn tenant_scope_by_keyboard() -> Result<()> {
    Box::pin(tenant_scope(Way::Keyboard)).await
}

#[tokio::test]
async fn tenant_scope_without_javascript() -> Result<()> {
    Box::pin(tenant_scope(Way::WithoutScript)).await
}

#[tokio::test]
async fn tenant_scope_at_320_pixels() -> Result<()> {
    Box::pin(tenant_scope(Way::Narrow)).await
}

#[tokio::test]
async fn tenant_scope_in_the_dark() -> Result<()> {
    Box::pin(tenant_scope(Way::Dark)).await
}
