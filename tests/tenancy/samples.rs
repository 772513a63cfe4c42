//! config/samples, applied as it is on a cluster with what is shipped.

use anyhow::{Context as _, Result, ensure};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use registry_testbed::{
    eventually,
    manifests::{self, FIELD_MANAGER, Placeholders},
    samples,
};

use crate::stage::Cluster;

on_each_kubernetes!(api_server_accepts_every_sample);

async fn api_server_accepts_every_sample(cluster: &Cluster) -> Result<()> {
    let client = cluster.root.client();
    let all = manifests::read_directory(&samples::directory(), &Placeholders::default())?;
    let registries = all.iter().filter(|object| manifests::kind(object).ends_with("Registry")).count();
    ensure!(registries >= 8, "{registries} registries");
    manifests::apply(&client, all.clone()).await?;
    for object in &all {
        let applied = applied_again(&client, object).await.with_context(|| object.name_any())?;
        ensure!(applied.metadata.generation.is_none_or(|generation| generation == 1), "{applied:?}");
    }
    clean_up(&client, &all).await
}

/// By a dry run, as `kubectl diff` does.
async fn applied_again(client: &kube::Client, object: &DynamicObject) -> Result<DynamicObject> {
    let api = manifests::api_of(client, object).await?;
    let params = PatchParams { dry_run: true, ..PatchParams::apply(FIELD_MANAGER) };
    Ok(api.patch(&object.name_any(), &params, &Patch::Apply(object)).await?)
}

async fn clean_up(client: &kube::Client, all: &[DynamicObject]) -> Result<()> {
    for object in all.iter().rev() {
        let api = manifests::api_of(client, object).await?;
        api.delete(&object.name_any(), &DeleteParams::default()).await?;
        if manifests::kind(object).ends_with("Registry") {
            let gone = || async {
                ensure!(api.get_opt(&object.name_any()).await?.is_none(), "it is there");
                Ok(())
            };
            eventually(object.name_any(), gone).await?;
        }
    }
    Ok(())
}
