//! Every way to write an object of a built-in kind.

use anyhow::Result;
use serde_json::json;

use super::{namespace, path, secret};
use crate::{call::Call, side::Side};

pub async fn writes(side: &mut Side) -> Result<()> {
    namespace(side, "secrets").await?;
    let all = path("secrets", "secrets");
    let one = format!("{all}/one");
    creations(side, &all).await?;
    updates(side, &one).await?;
    patches(side, &one).await?;
    refused_contents(side, &all).await?;
    dry_runs(side, &all).await?;
    deletions(side, &all).await
}

async fn creations(side: &mut Side, all: &str) -> Result<()> {
    let fields = json!({"metadata": {"labels": {"a": "1"}}, "data": {"x": "MQ=="}, "stringData": {"y": "2"}});
    let one = secret("one", fields);
    side.send(Call::create(all, &one)).await?;
    side.send(Call::create(all, &one)).await?;
    side.send(Call::create(all, &secret("", json!({"metadata": {"name": null}})))).await?;
    side.send(Call::create(all, &secret("x", json!({"metadata": {"namespace": "other"}})))).await?;
    side.send(Call::create(all, &secret("x", json!({"metadata": {"resourceVersion": "5"}})))).await?;
    side.send(Call::create(super::path("missing", "secrets"), &secret("x", json!({})))).await?;
    let sets_all = json!({"metadata": {
        "uid": "mine", "creationTimestamp": "2000-01-01T00:00:00Z", "generation": 7,
        "deletionTimestamp": "2000-01-01T00:00:00Z",
    }});
    side.send(Call::create(all, &secret("sets-all", sets_all))).await?;
    let generated = secret("", json!({"metadata": {"name": null, "generateName": "gen-"}}));
    let named = side.ask(&Call::create(all, &generated)).await?;
    side.alias(&named.text("/metadata/name"), "gen-suffix");
    side.send(Call::get(format!("{all}/{}", named.text("/metadata/name")))).await?;
    side.send(Call::get(format!("{all}/one"))).await?;
    side.send(Call::get(format!("{all}/one")).metadata()).await?;
    side.send(Call::get(format!("{all}/none"))).await?;
    side.send(Call::get(format!("{all}/none")).metadata()).await?;
    Ok(())
}

async fn updates(side: &mut Side, one: &str) -> Result<()> {
    let found = side.ask(&Call::get(one)).await?.body;
    side.send(Call::replace(one, &found)).await?;
    let mut changed = found.clone();
    changed["data"]["x"] = json!("Mg==");
    side.send(Call::replace(one, &changed)).await?;
    side.send(Call::replace(one, &changed)).await?;
    let unconditional = secret("one", json!({"data": {"z": "Mw=="}}));
    side.send(Call::replace(one, &unconditional)).await?;
    let other = secret("one", json!({"metadata": {"uid": "00000000-0000-4000-8000-00000000abcd"}}));
    side.send(Call::replace(one, &other)).await?;
    side.send(Call::replace(one, &secret("two", json!({})))).await?;
    side.send(Call::replace(format!("{one}-none"), &secret("one-none", json!({})))).await?;
    Ok(())
}

async fn patches(side: &mut Side, one: &str) -> Result<()> {
    let found = side.ask(&Call::get(one)).await?;
    let label = json!({"metadata": {"labels": {"b": "2"}}});
    side.send(Call::merge(one, &label)).await?;
    side.send(Call::merge(one, &label)).await?;
    side.send(Call::merge(format!("{one}?fieldManager=another"), &json!({"data": {"z": "NA=="}}))).await?;
    let outdated = json!({"metadata": {"resourceVersion": found.version(), "labels": {"b": "3"}}});
    side.send(Call::merge(one, &outdated)).await?;
    let uid = json!({"metadata": {"uid": "00000000-0000-4000-8000-00000000abcd", "labels": {"b": "3"}}});
    side.send(Call::merge(one, &uid)).await?;
    side.send(Call::merge(one, &json!({"type": "example.com/other"}))).await?;
    side.send(Call::merge(one, &json!({"data": null, "metadata": {"labels": {"b": null}}}))).await?;
    side.send(Call::merge(format!("{one}-none"), &label)).await?;
    side.send(Call::merge(one, &json!({"metadata": {"managedFields": [{}]}}))).await?;
    side.send(Call::merge(one, &json!({"data": {"y": "NQ=="}}))).await?;
    side.send(Call::apply(
        format!("{one}?fieldManager=first"),
        &secret("one", json!({"data": {"y": "NQ=="}})),
    ))
    .await?;
    Ok(())
}

async fn refused_contents(side: &mut Side, all: &str) -> Result<()> {
    let docker = "kubernetes.io/dockerconfigjson";
    side.send(Call::create(all, &secret("docker", json!({"type": docker})))).await?;
    let bad = json!({"type": docker, "data": {".dockerconfigjson": "e30K"}});
    side.send(Call::create(all, &secret("docker", bad))).await?;
    let broken = json!({"type": docker, "data": {".dockerconfigjson": "eA=="}});
    side.send(Call::create(all, &secret("broken", broken)).code_only()).await?;
    side.send(Call::create(all, &secret("basic", json!({"type": "kubernetes.io/basic-auth"}))).code_only())
        .await?;
    let fixed = json!({"immutable": true, "data": {"x": "MQ=="}});
    side.send(Call::create(all, &secret("fixed", fixed))).await?;
    side.send(Call::merge(format!("{all}/fixed"), &json!({"data": {"x": "Mg=="}})).code_only()).await?;
    side.send(Call::merge(format!("{all}/fixed"), &json!({"metadata": {"labels": {"a": "b"}}}))).await?;
    Ok(())
}

async fn dry_runs(side: &mut Side, all: &str) -> Result<()> {
    side.send(Call::create(format!("{all}?dryRun=All"), &secret("dry", json!({})))).await?;
    side.send(Call::get(format!("{all}/dry"))).await?;
    side.send(Call::create(format!("{all}?dryRun=All"), &secret("one", json!({})))).await?;
    side.send(Call::merge(format!("{all}/one?dryRun=All"), &json!({"data": {"dry": "MQ=="}}))).await?;
    side.send(Call::delete_with(format!("{all}/one"), &json!({"dryRun": ["All"]}))).await?;
    side.send(Call::get(format!("{all}/one"))).await?;
    Ok(())
}

async fn deletions(side: &mut Side, all: &str) -> Result<()> {
    let one = format!("{all}/one");
    let found = side.ask(&Call::get(&one)).await?;
    side.send(Call::merge(&one, &json!({"metadata": {"labels": {"c": "3"}}}))).await?;
    let at = |uid: &str, version: &str| json!({"preconditions": {"uid": uid, "resourceVersion": version}});
    let other = "00000000-0000-4000-8000-00000000abcd";
    side.send(Call::delete_with(&one, &json!({"preconditions": {"uid": other}}))).await?;
    side.send(Call::delete_with(&one, &at(&found.uid(), &found.version()))).await?;
    side.send(Call::delete_with(&one, &json!({"preconditions": {"uid": found.uid()}}))).await?;
    side.send(Call::delete(&one)).await?;
    side.send(Call::delete_with(format!("{all}/fixed"), &json!({}))).await?;
    let selected = json!({"metadata": {"labels": {"all": "yes"}}});
    for name in ["many-1", "many-2"] {
        side.ask(&Call::create(all, &secret(name, selected.clone()))).await?;
    }
    side.send(Call::delete(format!("{all}?labelSelector=all%3Dyes"))).await?;
    side.send(Call::get(format!("{all}/many-1"))).await?;
    Ok(())
}
