//! The two baselines ("floors"). Each is its own process: this program, started with `--floor`.
//!
//! *Exchanges*: for each of n validations, one TLS connection with the private CA, an anonymous GET of /v2/, and one
//!   with Basic.
//! *Patches*: the smallest possible operator. It lists and watches the registries, has the same exchange for each, and
//!   writes the status
//! that the operator would write, prepared in advance. It has no queue, conditions, Events or error handling: it fails
//! on any error.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use http::Method;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::wire::{Address, Ask, Connection, Server};

/// The path of the registries in the API.
pub const REGISTRIES: &str = "/apis/registry.spectrocloud.com/v1alpha1/systemregistries";

/// The plan of a baseline.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Plan {
    /// The registry.
    pub registry: Address,
    /// The number of concurrent exchanges, as the operator's prober has for one host.
    pub exchanges: usize,
    /// What to do.
    pub work: Work,
}

/// Which baseline.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Work {
    /// This many exchanges; then a line is printed.
    Exchanges(usize),
    /// An exchange and a patch for every registry that exists or is created, until killed.
    Patches {
        /// The API server.
        api: Address,
        /// The number of objects processed at the same time, and of connections, as the operator has for one tenant.
        workers: usize,
        /// The status that the operator writes.
        status: String,
    },
}

/// Runs a baseline.
pub fn run(plan: &Path) -> anyhow::Result<()> {
    let plan: Plan = serde_json::from_str(&std::fs::read_to_string(plan)?)?;
    let floor = Floor { registry: Server::new(plan.registry)?, turns: Semaphore::new(plan.exchanges) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match plan.work {
            Work::Exchanges(count) => exchanges(Arc::new(floor), count, plan.exchanges).await,
            Work::Patches { api, workers, status } => patches(Arc::new(floor), api, workers, status).await,
        }
    })
}

struct Floor {
    registry: Server,
    turns: Semaphore,
}

impl Floor {
    /// Sends the requests of one validation.
    async fn exchange(&self) -> anyhow::Result<()> {
        let _turn = self.turns.acquire().await?;
        let ask = |authorized| Ask { path: "/v2/".to_owned(), authorized, ..Ask::default() };
        let mut connection = self.registry.connect().await.context("the registry")?;
        connection.expect(401, ask(false)).await?;
        connection.expect(200, ask(true)).await?;
        Ok(())
    }
}

async fn exchanges(floor: Arc<Floor>, count: usize, workers: usize) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let floor = floor.clone();
        let share = count / workers + usize::from(worker < count % workers);
        tasks.spawn(async move {
            for _ in 0..share {
                floor.exchange().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    println!("done");
    std::future::pending().await
}

/// What the smallest operator knows about a registry.
struct Found {
    name: String,
    uid: String,
}

async fn patches(floor: Arc<Floor>, api: Address, workers: usize, status: String) -> anyhow::Result<()> {
    let api = Arc::new(Server::new(api)?);
    let (found, inbox) = mpsc::channel(1024);
    let (inbox, status) = (Arc::new(Mutex::new(inbox)), Arc::new(status));
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (floor, api, inbox, status) = (floor.clone(), api.clone(), inbox.clone(), status.clone());
        tasks.spawn(async move {
            let mut connection = None;
            loop {
                let Some(registry) = inbox.lock().await.recv().await else { return anyhow::Ok(()) };
                floor.exchange().await?;
                let connection = match &mut connection {
                    Some(connection) => connection,
                    none => none.insert(api.connect().await.context("the API server")?),
                };
                patch(connection, &registry, &status).await?;
            }
        });
    }
    tasks.spawn(async move { watch(&api, found).await });
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn patch(connection: &mut Connection<'_>, registry: &Found, status: &str) -> anyhow::Result<()> {
    let Found { name, uid } = registry;
    let body = format!(
        r#"{{"apiVersion":"registry.spectrocloud.com/v1alpha1","kind":"SystemRegistry","metadata":{{"name":"{name}","uid":"{uid}"}},"status":{status}}}"#
    );
    let ask = Ask {
        method: Method::PATCH,
        path: format!("{REGISTRIES}/{name}/status?fieldManager=registry-operator-status&force=true"),
        authorized: true,
        body: Some(("application/apply-patch+yaml", body)),
    };
    connection.expect(200, ask).await?;
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

#[derive(Deserialize)]
struct Object {
    metadata: Meta,
}

#[derive(Deserialize)]
struct List {
    metadata: Meta,
    items: Vec<Object>,
}

#[derive(Deserialize)]
struct Change {
    r#type: String,
    object: Object,
}

/// Lists and watches forever; returns each registry once.
async fn watch(api: &Server, found: mpsc::Sender<Found>) -> anyhow::Result<()> {
    let mut handed_out = HashSet::new();
    loop {
        let mut connection = api.connect().await.context("the API server")?;
        let since = list(&mut connection, &mut handed_out, &found).await?;
        let path = format!("{REGISTRIES}?watch=true&resourceVersion={since}");
        let mut body = connection.send(Ask { path, authorized: true, ..Ask::default() }).await?.into_body();
        let mut line = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame?.into_data().unwrap_or_default();
            for piece in data.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if line.ends_with(b"\n") {
                    let change: Change = serde_json::from_slice(&line)?;
                    if change.r#type == "ADDED" {
                        hand_out(&mut handed_out, &found, change.object.metadata).await?;
                    }
                    line.clear();
                }
            }
        }
    }
}

/// Lists in pages; returns the version from which to watch.
async fn list(
    connection: &mut Connection<'_>,
    handed_out: &mut HashSet<String>,
    found: &mpsc::Sender<Found>,
) -> anyhow::Result<String> {
    let mut next = String::new();
    loop {
        let path = format!("{REGISTRIES}?limit=500&continue={next}");
        let page = connection.expect(200, Ask { path, authorized: true, ..Ask::default() }).await?;
        let list: List = serde_json::from_slice(&page)?;
        for object in list.items {
            hand_out(handed_out, found, object.metadata).await?;
        }
        next = list.metadata.r#continue;
        if next.is_empty() {
            return Ok(list.metadata.resource_version);
        }
    }
}

async fn hand_out(
    handed_out: &mut HashSet<String>,
    found: &mpsc::Sender<Found>,
    meta: Meta,
) -> anyhow::Result<()> {
    if handed_out.insert(meta.uid.clone()) {
        found.send(Found { name: meta.name, uid: meta.uid }).await?;
    }
    Ok(())
}
