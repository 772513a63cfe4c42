//! Custom resources: defaults, generation, status, finalizers, deletion.

use anyhow::Result;
use serde_json::{Value, json};

use super::{custom, namespace, registry};
use crate::{call::Call, side::Side};

const STATUS: &str = "fieldManager=registry-operator-status&force=true";
const FINALIZER: &str = "fieldManager=registry-operator-finalizer&force=true";
const OTHER_UID: &str = "00000000-0000-4000-8000-00000000abcd";

pub async fn life(side: &mut Side) -> Result<()> {
    namespace(side, "registries").await?;
    let all = custom("registries");
    creations(side, &all).await?;
    changes(side, &format!("{all}/packs")).await?;
    finalizers(side, &all).await?;
    deletion(side, &format!("{all}/packs")).await
}

async fn creations(side: &mut Side, all: &str) -> Result<()> {
    let unknown =
        json!({"spec": {"unknown": 1, "tls": {"ca": {"secretRef": {"name": "ca"}}}}, "other": true});
    side.send(Call::create(all, &registry("packs", unknown))).await?;
    side.send(Call::create(all, &registry("packs", json!({})))).await?;
    let with_status =
        json!({"status": {"observedGeneration": 9}, "metadata": {"finalizers": ["example.com/a"]}});
    side.send(Call::create(all, &registry("held", with_status))).await?;
    let bare = registry("bare", json!({"spec": null}));
    side.send(Call::create(all, &bare)).await?;
    side.send(Call::create(all, &registry("bare", json!({"spec": {"suspend": "yes"}})))).await?;
    side.send(Call::create(all, &registry("bare", json!({"spec": {"endpoint": null}}))).code_only()).await?;
    let applied = Call::apply(format!("{all}/applied?fieldManager=kubectl"), &registry("applied", json!({})));
    side.send(applied).await?;
    side.send(Call::get(format!("{all}/applied"))).await?;
    side.send(Call::get(format!("{all}/applied")).metadata()).await?;
    let cluster_wide = "/apis/registry.spectrocloud.com/v1alpha1/systemregistries";
    let mut system = registry("registries-system", json!({"kind": "SystemRegistry"}));
    side.send(Call::create(cluster_wide, &system)).await?;
    super::merge(&mut system, json!({"metadata": {"name": "guard"}}));
    let dry = format!("{cluster_wide}/guard?fieldManager=guard&force=true&dryRun=All");
    side.send(Call::apply(dry, &system)).await?;
    Ok(())
}

async fn changes(side: &mut Side, packs: &str) -> Result<()> {
    side.send(Call::merge(packs, &json!({"spec": {"suspend": true}}))).await?;
    side.send(Call::merge(packs, &json!({"spec": {"suspend": true}}))).await?;
    side.send(Call::merge(packs, &json!({"metadata": {"labels": {"a": "b"}}}))).await?;
    side.send(Call::merge(packs, &json!({"status": {"observedGeneration": 5}}))).await?;
    side.send(Call::merge(packs, &json!({"spec": {"suspend": null, "validation": null}}))).await?;
    side.send(Call::replace(packs, &registry("packs", json!({})))).await?;
    let found = side.ask(&Call::get(packs)).await?;
    let at = json!({"metadata": {"resourceVersion": found.version()}, "spec": {"contentType": "Helm"}});
    side.send(Call::replace(packs, &registry("packs", at.clone()))).await?;
    side.send(Call::replace(packs, &registry("packs", at))).await?;
    side.send(Call::merge(packs, &json!({"metadata": {"uid": OTHER_UID}}))).await?;
    side.send(Call::merge(packs, &json!({"metadata": {"generation": 77}}))).await?;
    Ok(())
}

fn finalizers_of(name: &str, uid: &str, finalizers: &Value) -> Value {
    json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": name, "uid": uid, "finalizers": finalizers},
    })
}

async fn finalizers(side: &mut Side, all: &str) -> Result<()> {
    let packs = format!("{all}/packs");
    let own = format!("{packs}?{FINALIZER}");
    let uid = side.ask(&Call::get(&packs)).await?.uid();
    let ours = json!(["registry.example/finalizer"]);
    side.send(Call::apply(&own, &finalizers_of("packs", &uid, &ours))).await?;
    side.send(Call::apply(&own, &finalizers_of("packs", &uid, &ours))).await?;
    side.send(Call::apply(&own, &finalizers_of("packs", OTHER_UID, &ours))).await?;
    side.send(Call::apply(format!("{all}/none?{FINALIZER}"), &finalizers_of("none", &uid, &ours))).await?;
    side.send(Call::apply(&own, &finalizers_of("packs", &uid, &json!([])))).await?;
    side.send(Call::apply(&own, &finalizers_of("packs", &uid, &ours))).await?;
    let both = json!({"metadata": {"finalizers": ["registry.example/finalizer", "example.com/b"]}});
    side.send(Call::merge(&packs, &both)).await?;
    side.send(Call::apply(&own, &finalizers_of("packs", &uid, &json!([])))).await?;
    Ok(())
}

async fn deletion(side: &mut Side, packs: &str) -> Result<()> {
    let uid = side.ask(&Call::get(packs)).await?.uid();
    side.send(Call::delete(packs)).await?;
    side.send(Call::delete(packs)).await?;
    side.send(Call::merge(packs, &json!({"spec": {"contentType": "Zarf"}}))).await?;
    let more =
        json!({"metadata": {"finalizers": ["registry.example/finalizer", "example.com/b", "example.com/c"]}});
    side.send(Call::merge(packs, &more)).await?;
    let status = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": "packs"}, "status": {"observedGeneration": 3},
    });
    side.send(Call::apply(format!("{packs}/status?{STATUS}"), &status)).await?;
    let fewer = json!({"metadata": {"finalizers": ["registry.example/finalizer"]}});
    side.send(Call::merge(packs, &fewer)).await?;
    let own = format!("{packs}?{FINALIZER}");
    side.send(Call::apply(&own, &finalizers_of("packs", &uid, &json!([])))).await?;
    side.send(Call::merge(packs, &json!({"metadata": {"finalizers": []}}))).await?;
    side.send(Call::get(packs)).await?;
    side.send(Call::apply(&own, &finalizers_of("packs", &uid, &json!([])))).await?;
    side.send(Call::apply(format!("{packs}/status?{STATUS}"), &status)).await?;
    Ok(())
}

fn condition(kind: &str, status: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": "Reason", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    })
}

fn status_of(conditions: &Value) -> Value {
    json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry", "metadata": {"name": "packs"},
        "status": {"observedGeneration": 1, "conditions": conditions, "lastValidationTime": "2026-01-01T00:00:00Z"},
    })
}

pub async fn status(side: &mut Side) -> Result<()> {
    namespace(side, "statuses").await?;
    let packs = format!("{}/packs", custom("statuses"));
    let created = side.send(Call::create(custom("statuses"), &registry("packs", json!({})))).await?;
    let own = format!("{packs}/status?{STATUS}");
    let three =
        json!([condition("Ready", "True", "a"), condition("A", "True", "b"), condition("B", "False", "c")]);
    let mut first = status_of(&three);
    super::merge(&mut first, json!({"metadata": {"resourceVersion": created.version()}}));
    side.send(Call::apply(&own, &first)).await?;
    side.send(Call::apply(&own, &first)).await?;
    side.send(Call::apply(&own, &status_of(&three))).await?;
    let reordered = json!([condition("B", "False", "c"), condition("Ready", "False", "d")]);
    side.send(Call::apply(&own, &status_of(&reordered))).await?;
    let with_spec =
        json!({"spec": {"endpoint": "https://other.example"}, "metadata": {"labels": {"x": "y"}}});
    let mut more = status_of(&reordered);
    super::merge(&mut more, with_spec);
    side.send(Call::apply(&own, &more)).await?;
    let mut other_uid = status_of(&json!([condition("Ready", "True", "e")]));
    super::merge(&mut other_uid, json!({"metadata": {"uid": OTHER_UID}}));
    side.send(Call::apply(&own, &other_uid)).await?;
    leftovers(side, &packs, &own).await
}

/// What another manager wrote into the status, and how the operator removes it.
async fn leftovers(side: &mut Side, packs: &str, own: &str) -> Result<()> {
    let status = format!("{packs}/status");
    let theirs = json!({"status": {"conditions": [condition("Old", "True", "x")], "observedGeneration": 4}});
    side.send(Call::merge(format!("{status}?fieldManager=backup"), &theirs)).await?;
    let found = side.send(Call::apply(own, &status_of(&json!([condition("Ready", "True", "f")])))).await?;
    let cleared = json!({
        "metadata": {"resourceVersion": found.version()}, "status": {"conditions": [condition("Ready", "True", "f")]},
    });
    let manager = "fieldManager=registry-operator-status";
    side.send(Call::merge(format!("{status}?{manager}"), &cleared)).await?;
    side.send(Call::merge(format!("{status}?{manager}"), &cleared)).await?;
    side.send(Call::merge(&status, &json!({"status": null}))).await?;
    let whole = side.ask(&Call::get(packs)).await?.body;
    let mut replaced = whole;
    replaced["status"] = json!({"observedGeneration": 1});
    replaced["spec"]["suspend"] = json!(true);
    side.send(Call::replace(&status, &replaced)).await?;
    side.send(Call::get(&status)).await?;
    side.send(Call::get(packs)).await?;
    side.send(Call::merge(packs, &json!({"spec": {"suspend": true}, "status": null}))).await?;
    side.send(Call::merge(&status, &json!({"status": {"observedGeneration": "one"}}))).await?;
    Ok(())
}
