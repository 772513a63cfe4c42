//! Watches: events, selectors, versions, bookmarks, ends.

use anyhow::Result;
use serde_json::json;

use super::{custom, namespace, path, registry, secret};
use crate::{call::Call, side::Side};

pub async fn events(side: &mut Side) -> Result<()> {
    namespace(side, "watches").await?;
    let all = path("watches", "secrets");
    changes(side, &all).await?;
    selected(side, &all).await?;
    from_the_start(side, &all).await?;
    custom_resources(side).await?;
    ends(side, &all).await
}

/// Opens a watch from the newest version.
macro_rules! from_now {
    ($side:expr, $all:expr, $query:expr, $call:expr) => {{
        let version = $side.ask(&Call::get($all)).await?.version();
        $side.alias(&format!("resourceVersion={version}&"), "resourceVersion=now&");
        let path = format!("{}?watch=true&resourceVersion={version}&{}", $all, $query);
        $side.watch($call(Call::get(path))).await?
    }};
}

async fn changes(side: &mut Side, all: &str) -> Result<()> {
    let mut whole = from_now!(side, all, "timeoutSeconds=300", |call| call);
    let mut metadata = from_now!(side, all, "timeoutSeconds=301", Call::metadata);
    side.ask(&Call::create(all, &secret("a", json!({"data": {"x": "MQ=="}})))).await?;
    side.ask(&Call::merge(format!("{all}/a"), &json!({"data": {"x": "Mg=="}}))).await?;
    side.ask(&Call::merge(format!("{all}/a"), &json!({"data": {"x": "Mg=="}}))).await?;
    side.ask(&Call::create(all, &secret("b", json!({})))).await?;
    side.ask(&Call::delete(format!("{all}/a"))).await?;
    side.events(&mut whole, 4).await?;
    side.events(&mut metadata, 4).await?;
    Ok(())
}

async fn selected(side: &mut Side, all: &str) -> Result<()> {
    let mut labelled = from_now!(side, all, "labelSelector=mine%3Dyes&timeoutSeconds=300", |call| call);
    let mut named = from_now!(side, all, "fieldSelector=metadata.name%3Dc&timeoutSeconds=300", |call| call);
    side.ask(&Call::create(all, &secret("c", json!({})))).await?;
    let label = |value: serde_json::Value| json!({"metadata": {"labels": {"mine": value}}});
    side.ask(&Call::merge(format!("{all}/c"), &label(json!("yes")))).await?;
    side.ask(&Call::merge(format!("{all}/b"), &label(json!("yes")))).await?;
    side.ask(&Call::merge(format!("{all}/c"), &label(json!("no")))).await?;
    side.ask(&Call::merge(format!("{all}/c"), &label(json!(null)))).await?;
    side.ask(&Call::delete(format!("{all}/b"))).await?;
    side.ask(&Call::delete(format!("{all}/c"))).await?;
    side.events(&mut labelled, 4).await?;
    side.events(&mut named, 5).await?;
    Ok(())
}

async fn from_the_start(side: &mut Side, all: &str) -> Result<()> {
    for name in ["e", "d"] {
        side.ask(&Call::create(all, &secret(name, json!({})))).await?;
    }
    let path = format!("{all}?watch=true&resourceVersion=0&timeoutSeconds=300");
    let mut all_there = side.watch(Call::get(&path)).await?;
    side.ask(&Call::create(all, &secret("f", json!({})))).await?;
    // Those that are there come in any order.
    side.sorted_events(&mut all_there, 2).await?;
    side.events(&mut all_there, 1).await?;
    Ok(())
}

async fn custom_resources(side: &mut Side) -> Result<()> {
    let all = custom("watches");
    let mut whole = from_now!(side, &all, "timeoutSeconds=300", |call| call);
    let mut metadata = from_now!(side, &all, "timeoutSeconds=301", Call::metadata);
    let held = json!({"metadata": {"finalizers": ["example.com/a"]}});
    side.ask(&Call::create(&all, &registry("held", held))).await?;
    let one = format!("{all}/held");
    side.ask(&Call::merge(format!("{one}/status"), &json!({"status": {"observedGeneration": 1}}))).await?;
    side.ask(&Call::delete(&one)).await?;
    side.ask(&Call::merge(&one, &json!({"metadata": {"finalizers": null}}))).await?;
    side.events(&mut whole, 4).await?;
    side.events(&mut metadata, 4).await?;
    Ok(())
}

async fn ends(side: &mut Side, all: &str) -> Result<()> {
    let mut short = from_now!(side, all, "timeoutSeconds=1", |call| call);
    side.rest(&mut short).await?;
    let version = side.ask(&Call::get(all)).await?.version();
    side.alias(&format!("resourceVersion={version}&"), "resourceVersion=now&");
    let query = format!("watch=true&resourceVersion={version}&timeoutSeconds=12&allowWatchBookmarks=true");
    let bookmarked = format!("{all}?{query}");
    side.bookmark(&Call::get(&bookmarked)).await?;
    side.bookmark(&Call::get(&bookmarked).metadata()).await?;
    let future = format!("{all}?watch=true&resourceVersion=999999999&timeoutSeconds=3");
    let mut silent = side.watch(Call::get(future)).await?;
    side.ask(&Call::create(all, &secret("g", json!({})))).await?;
    side.rest(&mut silent).await?;
    side.cluster.compact();
    let mut old =
        side.watch(Call::get(format!("{}?watch=true&resourceVersion=1", custom("watches")))).await?;
    side.old_version(&mut old).await
}
