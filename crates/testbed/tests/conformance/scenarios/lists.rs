//! Lists: pages, selectors, versions.

use anyhow::Result;
use serde_json::json;

use super::{custom, namespace, path, registry, secret};
use crate::{
    call::Call,
    side::{Answer, Side},
};

pub async fn pages(side: &mut Side) -> Result<()> {
    namespace(side, "lists").await?;
    let all = path("lists", "secrets");
    let empty = side.send(Call::get(&all)).await?;
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red"), ("d", "blue"), ("e", "red")] {
        let labelled = json!({"metadata": {"labels": {"color": color}}});
        side.ask(&Call::create(&all, &secret(name, labelled))).await?;
    }
    selected(side, &all).await?;
    paged(side, &all).await?;
    custom_resources(side).await?;
    versions(side, &all, &empty).await
}

async fn selected(side: &mut Side, all: &str) -> Result<()> {
    for query in [
        "labelSelector=color%3Dred",
        "labelSelector=color%21%3Dred",
        "labelSelector=color+in+%28red%2Cblue%29%2C%21size",
        "labelSelector=color+notin+%28red%29",
        "fieldSelector=metadata.name%3Db",
        "fieldSelector=metadata.name%21%3Db&labelSelector=color%3Dblue",
        "labelSelector=size",
    ] {
        side.send(Call::get(format!("{all}?{query}"))).await?;
    }
    side.send(Call::get(format!("{all}?labelSelector=color%3Dred")).list_metadata()).await?;
    side.send(Call::get("/api/v1/secrets?labelSelector=color%3Dred")).await?;
    Ok(())
}

async fn next_page(side: &mut Side, all: &str, page: &Answer, query: &str) -> Result<Answer> {
    let token = page.text("/metadata/continue");
    side.alias(&token, "token");
    side.send(Call::get(format!("{all}?{query}&continue={token}"))).await
}

async fn paged(side: &mut Side, all: &str) -> Result<()> {
    let first = side.send(Call::get(format!("{all}?limit=2"))).await?;
    side.ask(&Call::merge(format!("{all}/e"), &json!({"metadata": {"labels": {"late": "yes"}}}))).await?;
    side.ask(&Call::create(all, &secret("f", json!({})))).await?;
    let second = next_page(side, all, &first, "limit=2").await?;
    let third = next_page(side, all, &second, "limit=2").await?;
    for page in [&second, &third] {
        let same = page.version() == first.version();
        anyhow::ensure!(same && !same_as_newest(side, all, page).await?, "the pages have different versions");
    }
    let red = side.send(Call::get(format!("{all}?limit=1&labelSelector=color%3Dred"))).await?;
    next_page(side, all, &red, "limit=5&labelSelector=color%3Dred").await?;
    side.send(Call::get(format!("{all}?limit=6"))).await?;
    side.send(Call::get(format!("{all}?limit=2")).list_metadata()).await?;
    side.send(Call::get(format!("{all}?limit=2&continue=nonsense")).code_only()).await?;
    Ok(())
}

async fn same_as_newest(side: &mut Side, all: &str, page: &Answer) -> Result<bool> {
    let newest = side.ask(&Call::get(format!("{all}?limit=1"))).await?;
    Ok(newest.version() == page.version())
}

async fn custom_resources(side: &mut Side) -> Result<()> {
    let all = custom("lists");
    for name in ["x", "y"] {
        side.ask(&Call::create(&all, &registry(name, json!({})))).await?;
    }
    side.send(Call::get(&all)).await?;
    side.send(Call::get(&all).list_metadata()).await?;
    let first = side.send(Call::get(format!("{all}?limit=1"))).await?;
    next_page(side, &all, &first, "limit=1").await?;
    Ok(())
}

async fn versions(side: &mut Side, all: &str, empty: &Answer) -> Result<()> {
    let version = empty.version();
    side.alias(&format!("resourceVersion={version}&"), "resourceVersion=empty&");
    let exact = format!("{all}?resourceVersion={version}&resourceVersionMatch=Exact");
    side.send(Call::get(exact)).await?;
    side.send(Call::get(format!("{all}?resourceVersion={version}&resourceVersionMatch=NotOlderThan")))
        .await?;
    let newest = side.ask(&Call::get(all)).await?.version();
    side.alias(&format!("resourceVersion={newest}&"), "resourceVersion=newest&");
    side.send(Call::get(format!("{all}?resourceVersion={newest}&limit=500"))).await?;
    side.send(Call::get(format!("{all}?resourceVersion=0&limit=500"))).await?;
    side.send(Call::get(format!("{all}/a?resourceVersion=0"))).await?;
    Ok(())
}

/// The first page's state is compacted before the second is read.
pub async fn expiry(side: &mut Side) -> Result<()> {
    namespace(side, "expiry").await?;
    let all = path("expiry", "secrets");
    for name in ["a", "b", "c", "d"] {
        side.ask(&Call::create(&all, &secret(name, json!({})))).await?;
    }
    let first = side.send(Call::get(format!("{all}?limit=2"))).await?;
    side.ask(&Call::delete(format!("{all}/c"))).await?;
    side.cluster.compact();
    let token = first.text("/metadata/continue");
    side.alias(&token, "token");
    let refused = side.send_until(410, Call::get(format!("{all}?limit=2&continue={token}"))).await?;
    next_page(side, &all, &refused, "limit=2").await?;
    Ok(())
}
