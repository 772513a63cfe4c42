use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use registry_api::TenantRegistry;
use serde_json::{Value, json};

use super::{client, registry, secret, server};
use k8s_openapi::api::core::v1::Secret;

const STATUS: &str = "registry-operator-status";

fn conditions(types: &[&str]) -> Value {
    let condition = |its: &&str| {
        json!({
            "type": its, "status": "True", "reason": "Fine", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        })
    };
    types.iter().map(condition).collect()
}

fn status_patch(conditions: &Value) -> Patch<Value> {
    Patch::Apply(json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": "packs"}, "status": {"observedGeneration": 1, "conditions": conditions},
    }))
}

#[tokio::test(start_paused = true)]
async fn status_writes_leave_spec_and_generation() {
    let server = server();
    server.create(&registry("packs")).unwrap();
    let api: Api<TenantRegistry> = Api::default_namespaced(client(&server));
    let params = PatchParams::apply(STATUS).force();
    let written = api
        .patch_status("packs", &params, &status_patch(&conditions(&["Ready", "Reachable"])))
        .await
        .unwrap();
    assert_eq!(written.metadata.generation, Some(1));
    assert_eq!(written.status.unwrap().conditions.len(), 2);
    let fewer = api.patch_status("packs", &params, &status_patch(&conditions(&["Ready"]))).await.unwrap();
    assert_eq!(fewer.status.unwrap().conditions.len(), 1, "an apply removes what it no longer has");
    let spec = json!({"spec": {"suspend": true}, "status": {"conditions": []}});
    let changed = server.merge("tenantregistries", "default", "packs", &spec).unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    assert_eq!(changed["status"]["conditions"].as_array().unwrap().len(), 1);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(
        server.merge("tenantregistries", "default", "packs", &label).unwrap()["metadata"]["generation"],
        2
    );
}

#[tokio::test(start_paused = true)]
async fn write_without_change_keeps_the_version() {
    let server = server();
    server.create(&registry("packs")).unwrap();
    let api: Api<TenantRegistry> = Api::default_namespaced(client(&server));
    let params = PatchParams::apply(STATUS).force();
    let patch = status_patch(&conditions(&["Ready"]));
    let first = api.patch_status("packs", &params, &patch).await.unwrap();
    let revision = server.revision();
    let second = api.patch_status("packs", &params, &patch).await.unwrap();
    assert_eq!(
        (first.metadata.resource_version, server.revision()),
        (second.metadata.resource_version, revision)
    );
    assert!(!server.writes().last().unwrap().stored);
}

#[tokio::test(start_paused = true)]
async fn finalizer_holds_the_object_until_removed() {
    let server = server();
    let mut held = registry("packs");
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    server.create(&held).unwrap();
    server.delete("tenantregistries", "default", "packs").unwrap();
    let marked = server.get("tenantregistries", "default", "packs").unwrap();
    assert_eq!(marked["metadata"]["deletionTimestamp"], "1970-01-01T00:00:00Z");
    let more = json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}});
    assert_eq!(server.merge("tenantregistries", "default", "packs", &more).unwrap_err().code(), 422);
    let none = json!({"metadata": {"finalizers": null}});
    server.merge("tenantregistries", "default", "packs", &none).unwrap();
    assert_eq!(server.get("tenantregistries", "default", "packs"), None);
}

#[tokio::test(start_paused = true)]
async fn outdated_versions_and_uids_conflict() {
    let server = server();
    server.create(&secret("pull")).unwrap();
    let api: Api<Secret> = Api::default_namespaced(client(&server));
    let first = api.get("pull").await.unwrap();
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    server.merge("secrets", "default", "pull", &label).unwrap();
    let conflict = api.replace("pull", &PostParams::default(), &first).await.unwrap_err();
    assert!(matches!(&conflict, kube::Error::Api(status) if status.code == 409), "{conflict}");
    let at = |uid: Option<&str>, version: Option<String>| {
        let preconditions =
            kube::api::Preconditions { uid: uid.map(str::to_owned), resource_version: version };
        DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
    };
    assert!(api.delete("pull", &at(None, first.metadata.resource_version)).await.is_err());
    assert!(api.delete("pull", &at(Some("other"), None)).await.is_err());
    api.delete("pull", &at(first.metadata.uid.as_deref(), None)).await.unwrap();
    assert_eq!(api.get_opt("pull").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn list_continues_in_the_state_of_its_first_page() {
    let server = server();
    for name in ["a", "b", "c"] {
        server.create(&secret(name)).unwrap();
    }
    let api: Api<Secret> = Api::default_namespaced(client(&server));
    let page = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(page.metadata.remaining_item_count, Some(1));
    server.delete("secrets", "default", "c").unwrap();
    let token = page.metadata.continue_.unwrap();
    let rest = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(rest.items[0].metadata.name.as_deref(), Some("c"));
    assert_eq!(rest.metadata.resource_version, page.metadata.resource_version);
    server.compact();
    let expired = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap_err();
    assert!(matches!(&expired, kube::Error::Api(status) if status.code == 410), "{expired}");
}
