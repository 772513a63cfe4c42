//! Many idle namespaces of tenants, each with a registry and its Secret: how many connections to the API server and how much
//! memory the operator's watches take.

use std::collections::HashSet;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use registry_api::{ConditionType, TENANT_LABEL, TenantRegistry};
use registry_testbed::{AuditMark, eventually};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bed::{self, Bed};
use crate::contender::Kind;
use crate::steady;
use crate::table::{self, mebibytes, thousands};
use crate::tally::mark;
use crate::usage::Memory;

const CREATORS: usize = 16;
/// The number of namespaces of one tenant.
const NAMESPACES_EACH: usize = 10;

/// The measurements.
pub struct Tenants {
    /// The number of namespaces.
    pub namespaces: usize,
    /// The operator's connections to the API server.
    pub connections: usize,
    memory: Memory,
}

/// Measures an idle operator with so many namespaces. The namespaces stay, so this is the last measurement.
pub async fn measure(bed: &Bed, namespaces: usize) -> anyhow::Result<Tenants> {
    eprintln!("{} namespaces of tenants …", thousands(namespaces));
    let since = mark(bed).await?;
    let operator = bed.start_contender(Kind::Operator).await?;
    operator.ready().await?;
    operator.while_running(create_all(bed, namespaces)).await?;
    operator.while_running(all_ready(&bed.client, namespaces)).await?;
    operator.while_running(all_watched(bed, &since, namespaces)).await?;
    steady::quiet(bed).await?;
    let connections = operator.connections_to(bed.api_port()?).await?;
    let tenants = Tenants { namespaces, connections, memory: Memory::of(operator.id().await) };
    operator.stop().await?;
    Ok(tenants)
}

async fn create_all(bed: &Bed, namespaces: usize) -> anyhow::Result<()> {
    stream::iter(0..namespaces)
        .map(|number| create_one(bed, number))
        .buffer_unordered(CREATORS)
        .try_collect()
        .await
}

async fn create_one(bed: &Bed, number: usize) -> anyhow::Result<()> {
    let (client, name) = (&bed.client, format!("bench-{number:05}"));
    let tenant = format!("bench-{}", number / NAMESPACES_EACH);
    let namespace = json!({"metadata": {"name": name, "labels": {TENANT_LABEL: tenant}}});
    create(Api::<Namespace>::all(client.clone()), &namespace).await?;
    create(Api::<Secret>::namespaced(client.clone(), &name), &json!(bed::login())).await?;
    let registry = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1",
        "kind": "TenantRegistry",
        "metadata": {"name": "bench"},
        "spec": {
            "endpoint": format!("https://{}", bed.registry.host_port()),
            "auth": {"basic": {"secretRef": {"name": "bench-login"}}},
            "tls": {"ca": {"inline": bed.authority().certificate_pem()}},
        },
    });
    create(Api::<TenantRegistry>::namespaced(client.clone(), &name), &registry).await
}

async fn create<K>(api: Api<K>, object: &Value) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let object: K = serde_json::from_value(object.clone())?;
    let name = object.meta().name.clone().unwrap_or_default();
    // The policies don't know a namespace's label until a moment after its creation.
    let params = PostParams::default();
    eventually(format!("{name} is created"), || api.create(&params, &object)).await?;
    Ok(())
}

async fn all_ready(client: &Client, count: usize) -> anyhow::Result<()> {
    let all: Api<TenantRegistry> = Api::all(client.clone());
    let look = || async {
        let registries = all.list(&ListParams::default()).await?;
        let is_ready = |registry: &&TenantRegistry| {
            registry.status.as_ref().is_some_and(|status| status.is_true(ConditionType::Ready))
        };
        let ready = registries.iter().filter(is_ready).count();
        ensure!(ready == count, "{ready} of {count} are");
        anyhow::Ok(())
    };
    eventually("the registries of all tenants are Ready", look).await.context("tenants")
}

/// Waits until the operator has a watch of Secrets in each namespace.
async fn all_watched(bed: &Bed, since: &AuditMark, count: usize) -> anyhow::Result<()> {
    let user = Bed::operator_user();
    let look = || async {
        let events = bed.audit()?.since(since)?;
        let watches = events
            .iter()
            .filter(|event| event.user == user && event.verb == "watch" && event.resource == "secrets");
        let watched: HashSet<&str> =
            watches.map(|event| event.namespace.as_str()).filter(|name| name.starts_with("bench-")).collect();
        ensure!(watched.len() >= count, "{} of {count} are", watched.len());
        anyhow::Ok(())
    };
    eventually("all namespaces are watched", look).await.context("tenants")
}

impl Tenants {
    /// Prints a table.
    pub fn print(&self) {
        table::title(&format!(
            "{} idle namespaces of tenants, a registry and a Secret in each",
            thousands(self.namespaces)
        ));
        let Memory { resident, anonymous, peak } = self.memory;
        table::print(
            &["connections", "RSS", "of it anonymous", "peak RSS"],
            &[vec![self.connections.to_string(), mebibytes(resident), mebibytes(anonymous), mebibytes(peak)]],
        );
    }
}
