//! A definition is removed and installed again.

use anyhow::Result;
use registry_api::{crd, spec::Tenant};
use serde_json::json;

use super::{custom, namespace, registry};
use crate::{call::Call, side::Side};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAME: &str = "tenantregistries.registry.spectrocloud.com";

pub async fn removal(side: &mut Side) -> Result<()> {
    namespace(side, "definitions").await?;
    let all = custom("definitions");
    let held = json!({"metadata": {"finalizers": ["example.com/a"]}});
    side.send(Call::create(&all, &registry("held", held))).await?;
    side.send(Call::create(&all, &registry("free", json!({})))).await?;
    let version = side.ask(&Call::get(&all)).await?.version();
    side.alias(&format!("resourceVersion={version}&"), "resourceVersion=now&");
    let watch = format!("{all}?watch=true&resourceVersion={version}&timeoutSeconds=600");
    let mut watch = side.watch(Call::get(watch)).await?;
    side.send(Call::delete(format!("{DEFINITIONS}/{NAME}")).code_only()).await?;
    side.send_until(404, Call::get(format!("{all}/free"))).await?;
    side.send_until(403, Call::create(&all, &registry("new", json!({})))).await?;
    side.send(Call::get(format!("{all}/held"))).await?;
    side.send(Call::merge(format!("{all}/held/status"), &json!({"status": {"observedGeneration": 1}})))
        .await?;
    side.send(Call::merge(format!("{all}/held"), &json!({"metadata": {"finalizers": null}}))).await?;
    side.send_until(404, Call::get(format!("{DEFINITIONS}/{NAME}"))).await?;
    side.send_until(404, Call::get(&all)).await?;
    side.send(Call::create(&all, &registry("new", json!({})))).await?;
    side.sorted_rest(&mut watch).await?;
    side.send(Call::create(DEFINITIONS, &json!(crd::definition::<Tenant>()?)).code_only()).await?;
    side.send_until(200, Call::get(&all)).await?;
    side.send_until(201, Call::create(&all, &registry("new", json!({}))).code_only()).await?;
    Ok(())
}
