use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{client, secret, server};
use crate::api_server::WritePhase;

const MANAGER: &str = "registry-operator-pull-secrets";

fn pull_secret(annotations: &Value) -> Value {
    let mut pull = secret("pull");
    pull["metadata"]["annotations"] = annotations.clone();
    pull["data"] = json!({"x": "MQ=="});
    pull
}

#[tokio::test(start_paused = true)]
async fn apply_removes_what_it_took_over_from_a_creation() {
    let server = server();
    let api: Api<Secret> = Api::default_namespaced(client(&server));
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let new = serde_json::from_value(pull_secret(&json!({"old": "1", "kept": "1"}))).unwrap();
    let created = api.create(&params, &new).await.unwrap();
    let apply = PatchParams::apply(MANAGER).force();
    let fewer = Patch::Apply(pull_secret(&json!({"kept": "1"})));
    let still = api.patch("pull", &apply, &fewer).await.unwrap();
    assert!(still.metadata.annotations.unwrap().contains_key("old"), "the creation owns it");
    let mut entries = created.metadata.managed_fields.unwrap();
    entries[0].operation = Some("Apply".to_owned());
    let taken = Patch::Merge(json!({"metadata": {"managedFields": entries}}));
    api.patch("pull", &PatchParams::default(), &taken).await.unwrap();
    let applied = api.patch("pull", &apply, &fewer).await.unwrap();
    assert_eq!(json!(applied.metadata.annotations), json!({"kept": "1"}));
}

#[tokio::test(start_paused = true)]
async fn apply_without_force_conflicts_with_other_managers() {
    let server = server();
    server.apply(&pull_secret(&json!({"a": "1"}))).unwrap();
    let api: Api<Secret> = Api::default_namespaced(client(&server));
    let patch = Patch::Apply(pull_secret(&json!({"a": "2"})));
    let conflict = api.patch("pull", &PatchParams::apply("other"), &patch).await.unwrap_err();
    assert!(matches!(&conflict, kube::Error::Api(status) if status.code == 409), "{conflict}");
    let forced = api.patch("pull", &PatchParams::apply("other").force(), &patch).await.unwrap();
    assert_eq!(json!(forced.metadata.annotations), json!({"a": "2"}));
}

#[tokio::test(start_paused = true)]
async fn hook_is_called_before_and_after_each_write() {
    let server = server();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (inside, notes) = (server.clone(), seen.clone());
    server.on_write(Arc::new(move |phase| {
        let exists = inside.get("secrets", "default", "pull").is_some();
        let (when, code) = match phase {
            WritePhase::Before(_) => ("before", 0),
            WritePhase::After(record) => ("after", record.code),
        };
        notes.lock().unwrap().push((when, code, exists));
    }));
    let api: Api<Secret> = Api::default_namespaced(client(&server));
    let new = serde_json::from_value(secret("pull")).unwrap();
    api.create(&PostParams::default(), &new).await.unwrap();
    server.unavailable(true);
    assert!(api.create(&PostParams::default(), &new).await.is_err());
    let expected = [("before", 0, false), ("after", 201, true), ("before", 0, true), ("after", 500, true)];
    assert_eq!(*seen.lock().unwrap(), expected);
    assert!(!server.writes().last().unwrap().stored);
}

#[tokio::test(start_paused = true)]
async fn namespace_ends_when_its_last_object_is_free() {
    let server = server();
    server.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).unwrap();
    let mut held = secret("held");
    held["metadata"]["namespace"] = json!("team");
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    server.create(&held).unwrap();
    server.delete("namespaces", "", "team").unwrap();
    server.run_controllers();
    held["metadata"]["name"] = json!("late");
    assert_eq!(server.create(&held).unwrap_err().code(), 403);
    server.merge("secrets", "team", "held", &json!({"metadata": {"finalizers": null}})).unwrap();
    server.run_controllers();
    assert_eq!(server.get("namespaces", "", "team"), None);
}
