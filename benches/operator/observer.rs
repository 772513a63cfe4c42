//! Observes when registries become Ready, with its own watch, which parses only the fields that it needs.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, pin_mut};
use http::Request;
use kube::Client;
use kube::api::WatchEvent;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::floor::REGISTRIES;

/// The parts of a registry that this bench needs.
#[derive(Clone, Debug, Deserialize)]
struct Registry {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    resource_version: String,
    generation: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    observed_generation: Option<i64>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
}

/// A result that was seen.
struct Seen {
    name: String,
    at: Instant,
    ready: bool,
    reason: String,
}

/// Observes results from its start on.
pub struct Observer {
    seen: mpsc::UnboundedReceiver<Seen>,
    ready: HashSet<String>,
    last_unready: Option<String>,
    watch: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Observer {
    /// Starts observing changes from now on.
    pub async fn start(client: &Client) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct List {
            metadata: kube::core::ListMeta,
        }
        let list: List =
            client.request(Request::get(format!("{REGISTRIES}?limit=1")).body(Vec::new())?).await?;
        let since = list.metadata.resource_version.context("the list has no resourceVersion")?;
        let (tell, seen) = mpsc::unbounded_channel();
        let watch = tokio::spawn(watch(client.clone(), since, tell));
        Ok(Self { seen, ready: HashSet::new(), last_unready: None, watch })
    }

    /// Waits until `count` registries are Ready, and returns when the last of them was.
    pub async fn all_ready(&mut self, count: usize, patience: Duration) -> anyhow::Result<Instant> {
        let wait = async {
            let mut last = Instant::now();
            while self.ready.len() < count {
                let Some(seen) = self.seen.recv().await else { return Err(self.why_blind().await) };
                last = seen.at;
                if seen.ready {
                    self.ready.insert(seen.name);
                } else {
                    self.last_unready = Some(format!("{} is {}", seen.name, seen.reason));
                }
            }
            Ok(last)
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(last) => last,
            Err(_) => bail!(
                "{} of {count} registries are Ready after {patience:?}; last seen otherwise: {}",
                self.ready.len(),
                self.last_unready.as_deref().unwrap_or("none"),
            ),
        }
    }
}

impl Observer {
    async fn why_blind(&mut self) -> anyhow::Error {
        match (&mut self.watch).await {
            Ok(Err(error)) => error.context("the bench's own watch"),
            Ok(Ok(())) => anyhow::anyhow!("the bench's own watch ended"),
            Err(error) => error.into(),
        }
    }
}

/// Watches, and resumes when the API server ends the watch, as it does when a CRD changes.
async fn watch(client: Client, mut since: String, tell: mpsc::UnboundedSender<Seen>) -> anyhow::Result<()> {
    loop {
        let path = format!("{REGISTRIES}?watch=true&resourceVersion={since}");
        let events = client.request_events::<Registry>(Request::get(path).body(Vec::new())?).await?;
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let (WatchEvent::Added(registry) | WatchEvent::Modified(registry)) = event? else { continue };
            since.clone_from(&registry.metadata.resource_version);
            if let Some(seen) = verdict(registry)
                && tell.send(seen).is_err()
            {
                return Ok(());
            }
        }
    }
}

/// Returns the result for this generation, if there is one.
fn verdict(registry: Registry) -> Option<Seen> {
    if registry.status.observed_generation != registry.metadata.generation {
        return None;
    }
    let ready = registry.status.conditions.into_iter().find(|condition| condition.r#type == "Ready")?;
    Some(Seen {
        name: registry.metadata.name,
        at: Instant::now(),
        ready: ready.status == "True",
        reason: ready.reason,
    })
}
