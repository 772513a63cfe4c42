//! Leases, Events, and what the operator reads of the cluster.

use anyhow::Result;
use serde_json::{Value, json};

use super::{namespace, path};
use crate::{call::Call, side::Side};

fn lease(fields: Value) -> Value {
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "registry-operator"},
        "spec": {
            "holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 1,
            "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z",
        },
    });
    super::merge(&mut lease, fields);
    lease
}

pub async fn leases_and_events(side: &mut Side) -> Result<()> {
    namespace(side, "leases").await?;
    leases(side).await?;
    events(side).await?;
    cluster(side).await
}

async fn leases(side: &mut Side) -> Result<()> {
    let all = "/apis/coordination.k8s.io/v1/namespaces/leases/leases";
    let one = format!("{all}/registry-operator");
    side.send(Call::get(&one)).await?;
    let created = side.send(Call::create(all, &lease(json!({})))).await?;
    side.send(Call::create(all, &lease(json!({})))).await?;
    let at = |version: &str| json!({"metadata": {"resourceVersion": version}});
    let mut renewed = lease(at(&created.version()));
    super::merge(&mut renewed, json!({"spec": {"renewTime": "2026-01-01T00:00:05.000000Z"}}));
    let second = side.send(Call::replace(&one, &renewed)).await?;
    side.send(Call::replace(&one, &renewed)).await?;
    side.send(Call::replace(&one, &lease(json!({})))).await?;
    let mut released = lease(at(&second.version()));
    super::merge(&mut released, json!({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}));
    side.send(Call::replace(&one, &released)).await?;
    let mut broken = lease(json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}));
    super::merge(&mut broken, json!({"metadata": {"name": "broken"}}));
    side.send(Call::create(all, &broken)).await?;
    Ok(())
}

async fn events(side: &mut Side) -> Result<()> {
    let all = "/apis/events.k8s.io/v1/namespaces/leases/events";
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "packs.1", "namespace": "leases"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/operator",
        "reportingInstance": "a", "action": "Validate", "reason": "Ready", "type": "Normal", "note": "fine",
        "regarding": {"kind": "TenantRegistry", "name": "packs", "namespace": "leases", "uid": "x"},
    });
    side.send(Call::create(all, &event).code_only()).await?;
    side.send(Call::create(all, &event)).await?;
    side.send(Call::create("/apis/events.k8s.io/v1/namespaces/missing/events", &event).code_only()).await?;
    Ok(())
}

async fn cluster(side: &mut Side) -> Result<()> {
    let config_maps = path("leases", "configmaps");
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": "x"}});
    side.send(Call::create(&config_maps, &map)).await?;
    side.send(Call::get(format!("{config_maps}/ca"))).await?;
    side.send(Call::get("/version").code_only()).await?;
    let ranges = side.ask(&Call::get("/apis/networking.k8s.io/v1/servicecidrs")).await?;
    side.note(
        "the ranges of Services",
        ranges.code,
        &json!([ranges.body["kind"], ranges.body["items"][0]["spec"]]),
    );
    side.send(Call::get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")).await?;
    let admission = "/apis/admissionregistration.k8s.io";
    side.send(Call::get(format!("{admission}/v1/mutatingwebhookconfigurations?limit=50"))).await?;
    side.send(Call::get(format!("{admission}/v1/mutatingadmissionpolicies?limit=50&continue="))).await?;
    side.send(Call::get(format!("{admission}/v1/validatingadmissionpolicies/none"))).await?;
    Ok(())
}
