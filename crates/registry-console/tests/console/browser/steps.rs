//! The steps of Palette's console, found by their words, in both tabs and both scopes: by mouse, by keyboard, without JavaScript, on a
//! narrow screen and in the dark.

use std::fmt::Debug;

use anyhow::Result;
use kube::Api;
use registry_api::TenantRegistry;
use registry_testbed::{LeafOptions, Moto, RegistryAuth, RegistryOptions, RegistryTls, TestCa, TestRegistry};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::{
    states::{FINE, validated},
    visitor::{Visitor, Way},
};
use crate::bed::{Cluster, PASSWORD, Protected, USER};

/// What moto's tokens hold.
const AWS_PASSWORD: &str = "123456789012-auth-token";

async fn moto() -> Result<&'static Moto> {
    static MOTO: OnceCell<Moto> = OnceCell::const_new();
    Ok(MOTO.get_or_try_init(Moto::start).await?)
}

/// A registry that takes the tokens of an emulated AWS.
async fn ecr() -> Result<TestRegistry> {
    let ca = TestCa::new("Amazon")?;
    let leaf = ca.issue(&LeafOptions::server("registry"))?;
    let tls = RegistryTls::Server { leaf, ca_pem: ca.certificate_pem().to_owned(), client_ca_pem: None };
    let auth = RegistryAuth::htpasswd("AWS", AWS_PASSWORD);
    Ok(TestRegistry::start(RegistryOptions { auth, tls }).await?)
}

async fn administrator(cluster: &Cluster, way: Way) -> Result<Option<Visitor>> {
    let aws =
        if Moto::is_possible() { vec![("AWS_ENDPOINT_URL_ECR", moto().await?.url())] } else { Vec::new() };
    Visitor::arrive(cluster.console(None, &aws).await?, way).await
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

/// The tab ECR, from the form to the detail page.
async fn adds_ecr(visitor: &Visitor, name: &str) -> Result<()> {
    let registry = ecr().await?;
    visitor.choose("ECR").await?;
    visitor.sees("IAM for STS").await?;
    visitor.approves("form of ECR").await?;
    visitor.fill("Name", name).await?;
    visitor.fill("Endpoint", &registry.host_port()).await?;
    visitor.fill("Access Key", "AKIAEXAMPLE").await?;
    visitor.fill("Secret access key", PASSWORD).await?;
    visitor.fill("Region", "eu-central-1").await?;
    visitor.choose("Insecure Skip TLS Verify").await?;
    visitor.choose("Validate").await?;
    visitor.sees("Credentials validated").await?;
    visitor.approves("verdict of ECR").await?;
    visitor.choose("Confirm").await?;
    visitor.sees(&format!("{name} added")).await
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
    let Some(visitor) = administrator(&cluster, way).await? else { return Ok(()) };
    visitor.approves("first page").await?;
    goes_to_the_form(&visitor).await?;
    adds_basic(&visitor, way, &basic).await?;
    edits(&visitor, &cluster.system(), &basic).await?;
    assert!(cluster.system().get(&basic).await?.spec.auth.is_some());
    if Moto::is_possible() {
        goes_to_the_form(&visitor).await?;
        adds_ecr(&visitor, &by_keys).await?;
        let auth = cluster.system().get(&by_keys).await?.spec.auth.unwrap_or_default();
        assert!(auth.ecr.is_some_and(|ecr| ecr.credentials.is_some()));
        validated(&cluster.system(), &by_keys, &FINE).await?;
        visitor.sees("Certificate verified").await?;
        deletes(&visitor, &by_keys).await?;
        assert!(cluster.system().get_opt(&by_keys).await?.is_none());
    }
    Ok(())
}

/// A login is kept in a Secret, and the roles of registries don't include those.
fn may_create_secrets(namespace: &str, member: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: s, namespace: {namespace}}}\n\
         rules: [{{apiGroups: [''], resources: [secrets], verbs: [create]}}]\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: s, namespace: {namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: s}}\n\
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {member}}}]\n"
    )
}

/// Both tabs of a tenant, whose administrator sees what is available and can't remove what is the system scope's.
async fn tenant_scope(way: Way) -> Result<()> {
    let cluster = Cluster::shared().await?;
    let [tenant, namespace, member, everyones, own] =
        ["team", "team-ns", "member", "everyones", "own"].map(Cluster::unique);
    cluster.tenant_member(&tenant, &namespace, &member).await?;
    cluster.apply(&may_create_secrets(&namespace, &member)).await?;
    cluster
        .apply(&format!(
            "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry, metadata: {{name: {everyones}}}, \
             spec: {{endpoint: 'https://registry.example'}}}}"
        ))
        .await?;
    let console = cluster.console(Some(&member), &[]).await?;
    let Some(visitor) = Visitor::arrive(console, way).await? else { return Ok(()) };
    visitor.choose("Tenants").await?;
    visitor.sees("What a tenant has available").await?;
    visitor.approves("tenants").await?;
    visitor.fill("Tenant", &tenant).await?;
    visitor.choose("Show").await?;
    visitor.sees(&format!("Tenant {tenant}")).await?;
    visitor.fill("Namespace", &namespace).await?;
    visitor.choose("Filter").await?;
    visitor.sees(&everyones).await?;
    visitor.approves("table of a tenant").await?;
    visitor.choose(&format!("Actions for {everyones}")).await?;
    visitor.sees("A registry of the system scope can only be removed there").await?;
    visitor.choose("Add New Pack Registry").await?;
    visitor.sees("Base Content Path").await?;
    visitor.choose("ECR").await?;
    visitor.sees("IAM for STS").await?;
    visitor.choose("Basic").await?;
    visitor.sees("Username").await?;
    adds_basic(&visitor, way, &own).await?;
    edits(&visitor, &Api::<TenantRegistry>::namespaced(cluster.client.clone(), &namespace), &own).await?;
    visitor.choose("Pack Registries").await?;
    visitor.sees(&everyones).await?;
    visitor.choose(&own).await?;
    visitor.sees("Manifest").await?;
    deletes(&visitor, &own).await
}

#[tokio::test]
async fn system_scope_by_mouse() -> Result<()> {
    system_scope(Way::Mouse).await
}

#[tokio::test]
async fn system_scope_by_keyboard() -> Result<()> {
    system_scope(Way::Keyboard).await
}

#[tokio::test]
async fn system_scope_without_javascript() -> Result<()> {
    system_scope(Way::WithoutScript).await
}

#[tokio::test]
async fn system_scope_at_320_pixels() -> Result<()> {
    system_scope(Way::Narrow).await
}

#[tokio::test]
async fn system_scope_in_the_dark() -> Result<()> {
    system_scope(Way::Dark).await
}

#[tokio::test]
async fn tenant_scope_by_mouse() -> Result<()> {
    tenant_scope(Way::Mouse).await
}

#[tokio::test]
async fn tenant_scope_by_keyboard() -> Result<()> {
    tenant_scope(Way::Keyboard).await
}

#[tokio::test]
async fn tenant_scope_without_javascript() -> Result<()> {
    tenant_scope(Way::WithoutScript).await
}

#[tokio::test]
async fn tenant_scope_at_320_pixels() -> Result<()> {
    tenant_scope(Way::Narrow).await
}

#[tokio::test]
async fn tenant_scope_in_the_dark() -> Result<()> {
    tenant_scope(Way::Dark).await
}
