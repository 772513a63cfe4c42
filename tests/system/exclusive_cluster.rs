//! Control planes that one test at a time uses alone: for tests that stop or kill servers, or count requests. Each
//! test begins with an empty cluster.

use anyhow::{Context as _, Result};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use registry_api::{
    GROUP, crd,
    spec::{Registry, Scope, System, Tenant, VERSION},
};
use registry_testbed::{AuditMark, ControlPlaneOptions, OperatorOptions, eventually, manifests};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell, Semaphore, SemaphorePermit};

use crate::harness::{Cluster, Installation, SYSTEM_NAMESPACE};

/// The name of the Lease.
pub const LEASE: &str = "registry-operator";

/// Control planes for tests that stop, kill or starve things, each started when it is first needed. There are fewer of
/// them than tests that run at once, for each takes 300 MB.
static SLOTS: [ControlPlaneSlot; 3] = [const { ControlPlaneSlot::new() }; 3];
static FREE: Semaphore = Semaphore::const_new(SLOTS.len());

struct ControlPlaneSlot {
    installation: OnceCell<Installation>,
    turn: Mutex<()>,
}

/// One test's time on a control plane. It begins without registries and without a Lease.
pub struct ExclusiveCluster {
    /// The cluster.
    pub cluster: Cluster,
    /// The control plane.
    pub installation: &'static Installation,
    _alone: MutexGuard<'static, ()>,
    _permit: SemaphorePermit<'static>,
}

/// Waits for a control plane that is free.
pub async fn enter() -> Result<ExclusiveCluster> {
    let permit = FREE.acquire().await?;
    let free = SLOTS.iter().find_map(|stage| Some((stage, stage.turn.try_lock().ok()?)));
    let (stage, turn) = free.context("more permits than control planes")?;
    let start = || Installation::start(ControlPlaneOptions { audit: true, ..ControlPlaneOptions::default() });
    let installation = stage.installation.get_or_try_init(start).await?;
    for server in [installation.control_plane().etcd(), installation.control_plane().api_server()] {
        server.start().await?; // a test that failed may have left it stopped
    }
    let cluster = installation.cluster().await?;
    clear::<System>(&cluster.client()).await?;
    clear::<Tenant>(&cluster.client()).await?;
    install_definitions(&cluster).await?;
    let leases: Api<Lease> = Api::namespaced(cluster.client(), SYSTEM_NAMESPACE);
    absent(leases.delete(LEASE, &DeleteParams::default()).await)?;
    Ok(ExclusiveCluster { cluster, installation, _alone: turn, _permit: permit })
}

impl ControlPlaneSlot {
    const fn new() -> Self {
        Self { installation: OnceCell::const_new(), turn: Mutex::const_new(()) }
    }
}

impl ExclusiveCluster {
    /// How the operator is started where nobody contends for the lease.
    pub async fn alone(&self) -> Result<OperatorOptions> {
        Ok(self.installation.operator_options().await?.arg("--leader-election=false"))
    }

    /// A mark in the audit log.
    pub fn mark(&self) -> Result<AuditMark> {
        Ok(self.installation.control_plane().audit()?.mark())
    }
}

/// Applies both definitions, as the chart does, and waits until they are served: where they were deleted just before, what the
/// API server says of the kinds that it has may be old.
pub async fn install_definitions(cluster: &Cluster) -> Result<()> {
    for (_, yaml) in crd::files()? {
        cluster.apply_yaml(&yaml).await?;
    }
    are_served::<System>(cluster).await?;
    are_served::<Tenant>(cluster).await
}

async fn are_served<S: Scope>(cluster: &Cluster) -> Result<()> {
    let all: Api<DynamicObject> = Api::all_with(cluster.client(), &ApiResource::erase::<Registry<S>>(&()));
    let list = || async { all.list_metadata(&ListParams::default().limit(1)).await };
    eventually(format!("{} are served", S::PLURAL), list).await?;
    Ok(())
}

/// Removes all registries of a scope, readable or not, without the operator's help.
async fn clear<S: Scope>(client: &Client) -> Result<()> {
    let example = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": S::KIND, "metadata": {"name": "any"},
    });
    let example: DynamicObject = serde_json::from_value(example)?;
    let all = ApiResource::erase::<Registry<S>>(&());
    let Ok(listed) = Api::<DynamicObject>::all_with(client.clone(), &all).list(&ListParams::default()).await
    else {
        return Ok(()); // the definition is not there
    };
    for object in listed {
        let mut example = example.clone();
        example.metadata.namespace = object.metadata.namespace.clone();
        let api = manifests::api_of(client, &example).await.with_context(|| S::KIND)?;
        let name = object.metadata.name.unwrap_or_default();
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        absent(api.patch(&name, &PatchParams::default(), &free).await)?;
        absent(api.delete(&name, &DeleteParams::default()).await)?;
    }
    Ok(())
}

/// What is not there needs no removal.
fn absent<T>(answer: Result<T, kube::Error>) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        answer => Ok(answer.map(drop)?),
    }
}
