//! Server-side apply, as the operator writes pull Secrets and role bindings.

use anyhow::Result;
use serde_json::{Value, json};

use super::{namespace, path, secret};
use crate::{call::Call, side::Side};

const MANAGER: &str = "registry-operator-pull-secrets";

fn manifest(name: &str, fields: Value) -> Value {
    let mut pull = secret(
        name,
        json!({
            "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="},
            "metadata": {
                "labels": {"app.kubernetes.io/managed-by": "registry-operator", "registry-uid": "1"},
                "annotations": {"registry": "TenantRegistry/x"},
            },
        }),
    );
    super::merge(&mut pull, fields);
    pull
}

pub async fn apply(side: &mut Side) -> Result<()> {
    namespace(side, "pull-secrets").await?;
    let all = path("pull-secrets", "secrets");
    let pull = format!("{all}/pull");
    take_over(side, &all, &pull).await?;
    changes(side, &pull).await?;
    other_managers(side, &pull).await?;
    refusals(side, &all, &pull).await?;
    new_objects(side, &all).await
}

/// What a POST wrote becomes the apply's.
async fn take_over(side: &mut Side, all: &str, pull: &str) -> Result<()> {
    let created = Call::create(format!("{all}?fieldManager={MANAGER}"), &manifest("pull", json!({})));
    let created = side.send(created).await?;
    let mut entries = created.body["metadata"]["managedFields"].clone();
    entries[0]["operation"] = json!("Apply");
    let taken = json!({"metadata": {
        "uid": created.uid(), "resourceVersion": created.version(), "managedFields": entries,
    }});
    side.send(Call::merge(format!("{pull}?fieldManager={MANAGER}"), &taken)).await?;
    Ok(())
}

async fn changes(side: &mut Side, pull: &str) -> Result<()> {
    let own = format!("{pull}?fieldManager={MANAGER}&force=true");
    let found = side.ask(&Call::get(pull)).await?;
    let at = json!({"uid": found.uid(), "resourceVersion": found.version()});
    let without = json!({"metadata": {"annotations": null, "labels": {"registry-uid": "2"}}, "data": {".dockerconfigjson": "eyJhIjp7fX0="}});
    let mut changed = manifest("pull", without);
    super::merge(&mut changed, json!({"metadata": at}));
    side.send(Call::apply(&own, &changed)).await?;
    side.send(Call::apply(&own, &changed)).await?;
    super::merge(&mut changed, json!({"metadata": {"resourceVersion": null}}));
    side.send(Call::apply(&own, &changed)).await?;
    Ok(())
}

async fn other_managers(side: &mut Side, pull: &str) -> Result<()> {
    let label = |value: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull", "labels": {"registry-uid": value, "team": "a"}},
        })
    };
    side.send(Call::apply(format!("{pull}?fieldManager=other"), &label("2"))).await?;
    side.send(Call::apply(format!("{pull}?fieldManager=other"), &label("3"))).await?;
    side.send(Call::apply(format!("{pull}?fieldManager=other&force=true"), &label("3"))).await?;
    side.send(Call::merge(
        format!("{pull}?fieldManager=editor"),
        &json!({"metadata": {"labels": {"team": "b"}}}),
    ))
    .await?;
    side.send(Call::apply(format!("{pull}?fieldManager=other"), &label("4"))).await?;
    let nothing = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}});
    side.send(Call::apply(format!("{pull}?fieldManager=other"), &nothing)).await?;
    side.send(Call::apply(format!("{pull}?fieldManager={MANAGER}&force=true"), &manifest("pull", json!({}))))
        .await?;
    Ok(())
}

async fn refusals(side: &mut Side, all: &str, pull: &str) -> Result<()> {
    let own = format!("{pull}?fieldManager={MANAGER}&force=true");
    let other = "00000000-0000-4000-8000-00000000abcd";
    side.send(Call::apply(&own, &manifest("pull", json!({"metadata": {"uid": other}})))).await?;
    side.send(Call::apply(&own, &manifest("pull", json!({"metadata": {"resourceVersion": "1"}})))).await?;
    side.send(Call::apply(pull, &manifest("pull", json!({}))).code_only()).await?;
    side.send(Call::apply(format!("{pull}?force=true"), &manifest("pull", json!({})))).await?;
    let fields = json!({"metadata": {"managedFields": [{"manager": "x", "operation": "Apply"}]}});
    side.send(Call::apply(&own, &manifest("pull", fields))).await?;
    side.send(Call::apply(&own, &manifest("pull", json!({"type": "Opaque"})))).await?;
    let none = format!("{all}/none?fieldManager={MANAGER}&force=true");
    side.send(Call::apply(&none, &manifest("none", json!({"metadata": {"uid": other}})))).await?;
    side.send(Call::apply(&none, &manifest("none", json!({"metadata": {"resourceVersion": "1"}})))).await?;
    Ok(())
}

async fn new_objects(side: &mut Side, all: &str) -> Result<()> {
    let new = |options: &str| format!("{all}/new?fieldManager={MANAGER}&force=true{options}");
    side.send(Call::apply(new("&dryRun=All"), &manifest("new", json!({})))).await?;
    side.send(Call::get(format!("{all}/new"))).await?;
    side.send(Call::apply(new(""), &manifest("new", json!({})))).await?;
    side.send(Call::apply(new("&dryRun=All"), &manifest("new", json!({"metadata": {"labels": {"x": "y"}}}))))
        .await?;
    side.send(Call::get(format!("{all}/new"))).await?;
    let elsewhere = format!("{}/new?fieldManager={MANAGER}", path("missing", "secrets"));
    side.send(Call::apply(elsewhere, &manifest("new", json!({})))).await?;
    Ok(())
}
