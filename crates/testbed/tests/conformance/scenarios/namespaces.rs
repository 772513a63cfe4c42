//! Namespaces and their end.

use anyhow::Result;
use serde_json::json;

use super::{NAMESPACES, path, secret};
use crate::{call::Call, side::Side};

pub async fn life(side: &mut Side) -> Result<()> {
    let one = format!("{NAMESPACES}/team");
    let manifest = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "labels": {"tenant": "a"}},
    });
    side.send(Call::create(NAMESPACES, &manifest)).await?;
    side.send(Call::create(NAMESPACES, &manifest)).await?;
    side.send(Call::get(&one).metadata()).await?;
    side.send(Call::merge(&one, &json!({"metadata": {"labels": {"tenant": "b"}}}))).await?;
    side.send(Call::merge(&one, &json!({"metadata": {"labels": {"kubernetes.io/metadata.name": null}}})))
        .await?;
    side.send(Call::merge(&one, &json!({"status": {"phase": "Terminating"}}))).await?;
    side.send(Call::delete(format!("{NAMESPACES}/default"))).await?;
    side.send(Call::delete(format!("{NAMESPACES}/none"))).await?;
    end(side, &one).await
}

/// The namespace is held by an object with a finalizer, and nothing new may be created in it.
async fn end(side: &mut Side, one: &str) -> Result<()> {
    let secrets = path("team", "secrets");
    let held = secret("held", json!({"metadata": {"finalizers": ["example.com/a"]}}));
    side.ask(&Call::create(&secrets, &held)).await?;
    side.ask(&Call::create(&secrets, &secret("free", json!({})))).await?;
    let version = side.ask(&Call::get(NAMESPACES)).await?.version();
    side.alias(&format!("resourceVersion={version}&"), "resourceVersion=now&");
    let watch = format!(
        "{NAMESPACES}?watch=true&resourceVersion={version}&fieldSelector=metadata.name%3Dteam&timeoutSeconds=600"
    );
    let mut namespaces = side.watch(Call::get(watch).metadata()).await?;
    let deleted = side.ask(&Call::delete(one)).await?;
    anyhow::ensure!(deleted.code == 200 && deleted.body["status"]["phase"] == "Terminating", "{deleted:?}");
    side.events(&mut namespaces, 1).await?;
    side.send_until(404, Call::get(format!("{secrets}/free"))).await?;
    side.send(Call::create(&secrets, &secret("late", json!({})))).await?;
    side.send(Call::apply(format!("{secrets}/late?fieldManager=x"), &secret("late", json!({})))).await?;
    side.send(Call::merge(format!("{secrets}/held"), &json!({"data": {"x": "MQ=="}}))).await?;
    side.send(Call::merge(format!("{secrets}/held"), &json!({"metadata": {"finalizers": null}}))).await?;
    side.send_until(404, Call::get(one)).await?;
    side.send(Call::create(&secrets, &secret("late", json!({})))).await?;
    Ok(())
}
