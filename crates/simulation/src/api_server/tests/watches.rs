use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client,
    api::{Api, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{client, registry, secret, server};
use crate::api_server::SUPERUSER;

type SecretEvents = BoxStream<'static, kube::Result<WatchEvent<Secret>>>;

async fn watch(client: Client, params: &WatchParams, version: &str) -> SecretEvents {
    Api::default_namespaced(client).watch(params, version).await.unwrap().boxed()
}

async fn next(events: &mut SecretEvents) -> String {
    match timeout(Duration::from_secs(1), events.try_next()).await {
        Err(_) => "silence".to_owned(),
        Ok(Ok(None)) => "end".to_owned(),
        Ok(Err(_)) => "error".to_owned(),
        Ok(Ok(Some(WatchEvent::Added(object)))) => format!("added {}", object.metadata.name.unwrap()),
        Ok(Ok(Some(WatchEvent::Modified(object)))) => format!("modified {}", object.metadata.name.unwrap()),
        Ok(Ok(Some(WatchEvent::Deleted(object)))) => format!("deleted {}", object.metadata.name.unwrap()),
        Ok(Ok(Some(WatchEvent::Bookmark(bookmark)))) => format!("at {}", bookmark.metadata.resource_version),
        Ok(Ok(Some(WatchEvent::Error(status)))) => format!("{}", status.code),
    }
}

#[tokio::test(start_paused = true)]
async fn watch_shows_changes_after_a_version() {
    let server = server();
    server.create(&secret("a")).unwrap();
    let from = server.revision().to_string();
    server.create(&secret("b")).unwrap();
    let mut events = watch(client(&server), &WatchParams::default(), &from).await;
    assert_eq!(next(&mut events).await, "added b");
    server.merge("secrets", "default", "a", &json!({"data": {"x": "eQ=="}})).unwrap();
    assert_eq!(next(&mut events).await, "modified a");
    server.delete("secrets", "default", "a").unwrap();
    assert_eq!(next(&mut events).await, "deleted a");
    assert_eq!(next(&mut events).await, "silence");
}

#[tokio::test(start_paused = true)]
async fn object_that_is_no_longer_selected_is_deleted() {
    let server = server();
    let params = WatchParams::default().labels("mine");
    let mut events = watch(client(&server), &params, &server.revision().to_string()).await;
    server.create(&secret("a")).unwrap();
    server.merge("secrets", "default", "a", &json!({"metadata": {"labels": {"mine": ""}}})).unwrap();
    assert_eq!(next(&mut events).await, "added a");
    server.merge("secrets", "default", "a", &json!({"metadata": {"labels": null}})).unwrap();
    assert_eq!(next(&mut events).await, "deleted a");
}

#[tokio::test(start_paused = true)]
async fn watch_from_compacted_version_is_gone() {
    let server = server();
    let mut open = watch(client(&server), &WatchParams::default(), &server.revision().to_string()).await;
    server.create(&secret("a")).unwrap();
    server.compact();
    let mut events = watch(client(&server), &WatchParams::default(), "2").await;
    assert_eq!([next(&mut events).await, next(&mut events).await], ["410", "end"]);
    assert_eq!(next(&mut open).await, "added a", "an open watch goes on");
}

#[tokio::test(start_paused = true)]
async fn watch_sends_bookmarks_and_ends_in_time() {
    let (server, begun) = (server(), Instant::now());
    let params = WatchParams::default().timeout(100);
    let mut events = watch(client(&server), &params, &server.revision().to_string()).await;
    let mut seen = Vec::new();
    while let Some(event) = events.try_next().await.unwrap() {
        assert!(matches!(event, WatchEvent::Bookmark(_)));
        seen.push(begun.elapsed().as_secs());
    }
    assert_eq!((seen, begun.elapsed().as_secs()), (vec![60, 98], 100));
}

#[tokio::test(start_paused = true)]
async fn frozen_replica_shows_changes_when_thawed() {
    let server = server();
    let stale = Client::new(server.connect_to(1, SUPERUSER), "default");
    let mut events = watch(stale.clone(), &WatchParams::default(), &server.revision().to_string()).await;
    server.freeze(1);
    server.create(&secret("a")).unwrap();
    assert_eq!(next(&mut events).await, "silence");
    let secrets: Api<Secret> = Api::default_namespaced(stale);
    assert!(secrets.get_opt("a").await.unwrap().is_some(), "a read of the newest state");
    let cached = kube::api::ListParams::default().match_any();
    assert!(secrets.list(&cached).await.unwrap().items.is_empty(), "a read from the cache");
    server.thaw(1);
    assert_eq!(next(&mut events).await, "added a");
}

#[tokio::test(start_paused = true)]
async fn restored_store_breaks_watches_and_reuses_revisions() {
    let server = server();
    let backup = server.revision();
    let mut events = watch(client(&server), &WatchParams::default(), &backup.to_string()).await;
    server.create(&secret("a")).unwrap();
    assert_eq!(next(&mut events).await, "added a");
    server.restore(backup);
    assert_eq!(next(&mut events).await, "error");
    assert_eq!((server.get("secrets", "default", "a"), server.revision()), (None, backup));
    let mut ahead = watch(client(&server), &WatchParams::default(), &(backup + 1).to_string()).await;
    server.create(&secret("b")).unwrap();
    assert_eq!(next(&mut ahead).await, "silence", "it has the version that the watch knows");
    server.create(&secret("c")).unwrap();
    assert_eq!(next(&mut ahead).await, "added c");
}

#[tokio::test(start_paused = true)]
async fn removed_definition_takes_its_objects_along() {
    let server = server();
    let mut held = registry("held");
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    server.create(&held).unwrap();
    server.create(&registry("free")).unwrap();
    server.remove_definition("tenantregistries").unwrap();
    assert_eq!(server.get("tenantregistries", "default", "free"), None);
    assert_eq!(server.create(&registry("new")).unwrap_err().code(), 403);
    let none = json!({"metadata": {"finalizers": null}});
    server.merge("tenantregistries", "default", "held", &none).unwrap();
    assert_eq!(server.create(&registry("new")).unwrap_err().code(), 404);
    server.install_definition("tenantregistries").unwrap();
    server.create(&registry("new")).unwrap();
}
