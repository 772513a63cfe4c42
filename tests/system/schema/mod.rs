//! The API server's own validation of manifests: the schema of both kinds, its rules and messages, without the
//! operator. Requests go to a real kube-apiserver, as a dry run where possible.

mod accepted;
mod budget;
mod refused;
mod served;

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow};
use kube::{Client, core::Status};
use registry_api::{
    GROUP, crd,
    spec::{Scope, System, Tenant, VERSION},
};
use registry_check::schema;
use registry_verdict::object::RegistryScope;
use serde_json::{Value, json};

use crate::harness;

/// One of the two kinds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    System,
    Tenant,
}

use Kind::{System as SystemKind, Tenant as TenantKind};

const BOTH: &[Kind] = &[SystemKind, TenantKind];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            SystemKind => System::KIND,
            TenantKind => Tenant::KIND,
        }
    }

    fn plural(self) -> &'static str {
        match self {
            SystemKind => System::PLURAL,
            TenantKind => Tenant::PLURAL,
        }
    }

    fn scope(self) -> RegistryScope {
        match self {
            SystemKind => RegistryScope::System,
            TenantKind => RegistryScope::Tenant,
        }
    }

    /// The definition, as it is generated.
    fn definition(self) -> Result<Value> {
        let definition = match self {
            SystemKind => crd::definition::<System>(),
            TenantKind => crd::definition::<Tenant>(),
        };
        Ok(serde_json::to_value(definition?)?)
    }

    /// The schema of its objects, as it is generated.
    fn schema(self) -> Result<Value> {
        let definition = self.definition()?;
        let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema");
        schema.cloned().with_context(|| format!("the definition of {} has no schema", self.name()))
    }
}

/// A valid manifest of the kind, overlaid with a YAML text. A `null` in it is sent, and does not remove anything.
fn manifest(kind: Kind, overlay: &str) -> Result<Value> {
    let mut manifest = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind.name(),
        "metadata": {"name": "packs"},
        "spec": {"endpoint": "https://registry.example.com"},
    });
    let overlay =
        serde_saphyr::from_str(overlay).with_context(|| format!("the overlay is not YAML: {overlay}"))?;
    lay_over(&mut manifest, overlay);
    Ok(manifest)
}

fn lay_over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay_over(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// Where manifests are sent, and a namespace of a tenant there.
struct ApiServer {
    client: Client,
    namespace: String,
}

impl ApiServer {
    async fn shared() -> Result<Self> {
        let cluster = harness::cluster().await?;
        Ok(Self { client: cluster.client(), namespace: cluster.tenant_namespace("team", "schema").await? })
    }

    /// The URL of the kind's objects.
    fn path(&self, kind: Kind) -> String {
        let namespace = match kind {
            SystemKind => String::new(),
            TenantKind => format!("namespaces/{}/", self.namespace),
        };
        format!("/apis/{GROUP}/{VERSION}/{namespace}{}", kind.plural())
    }

    /// Creates the object as a dry run, with unknown fields refused. `Err` of the inner result is the refusal.
    async fn submit(&self, kind: Kind, manifest: &Value) -> Result<Result<Value, Status>> {
        self.send("POST", &format!("{}?dryRun=All&fieldValidation=Strict", self.path(kind)), manifest).await
    }

    /// Creates the object for good, under a name of its own.
    async fn keep(&self, kind: Kind, overlay: &str) -> Result<CreatedObject> {
        static KEPT: AtomicUsize = AtomicUsize::new(1);
        let name = format!("schema-{}", KEPT.fetch_add(1, Ordering::Relaxed));
        let mut manifest = manifest(kind, overlay)?;
        manifest["metadata"]["name"] = json!(name);
        let object = self.send("POST", &self.path(kind), &manifest).await?;
        Ok(CreatedObject {
            name,
            object: object.map_err(|refusal| anyhow!("refused: {:?}", causes(&refusal)))?,
        })
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Result<Value, Status>> {
        let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", content);
        match self.client.request(request.body(serde_json::to_vec(body)?)?).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(kube::Error::Api(status)) => Ok(Err(*status)),
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&self, path: &str, accept: &str) -> Result<Value> {
        let request = http::Request::get(path).header("accept", accept).body(Vec::new())?;
        Ok(self.client.request(request).await?)
    }
}

/// An object that was created, and the API server's answer.
struct CreatedObject {
    name: String,
    object: Value,
}

/// The API server's errors for a manifest: field and message. Without its note that it skipped
/// further validation, which it adds if it did not evaluate the rules.
fn causes(refusal: &Status) -> Vec<(String, String)> {
    let causes = refusal.details.iter().flat_map(|details| &details.causes);
    let refusals = causes.map(|cause| (cause.field.clone(), cause.message.clone()));
    refusals.filter(|(_, message)| !message.contains("some validation rules were not checked")).collect()
}

/// What the plugin says to a manifest without an API server.
fn said_offline(kind: Kind, manifest: &Value) -> Result<Vec<String>> {
    let complaints = schema::complaints(kind.scope(), manifest)?;
    if complaints.is_empty() { Ok(schema::broken_rules(kind.scope(), manifest)?) } else { Ok(complaints) }
}

/// Calls `visit` with every property of a schema and its path, parents first. Items of a list are `path[*]`.
fn walk<'a>(schema: &'a Value, path: &str, visit: &mut impl FnMut(&str, &'a Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        walk(property, &path, visit);
    }
    if let Some(items) = schema.get("items") {
        walk(items, &format!("{path}[*]"), visit);
    }
}

/// Fails with all findings at once.
fn none_of(findings: &[String]) -> Result<()> {
    anyhow::ensure!(
        findings.is_empty(),
        "{} of the table are not as they should be:\n{}",
        findings.len(),
        findings.join("\n")
    );
    Ok(())
}
