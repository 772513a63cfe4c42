//! One of the two servers, as a scenario talks to it, and the transcript of what was said.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail, ensure};
use futures::{AsyncBufRead, AsyncBufReadExt as _};
use http::Request;
use http_body_util::BodyExt as _;
use kube::Client;
use registry_testbed::eventually;
use serde_json::{Value, json};

use crate::{call::Call, cluster::Cluster, normal::Transcript};

/// How long an event may take on a slow machine.
const EVENT: Duration = Duration::from_mins(1);

/// How many watches are opened until one gets a bookmark.
const WATCHES: usize = 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
}

impl Answer {
    /// The text at a JSON pointer; empty if there is none.
    pub fn text(&self, pointer: &str) -> String {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub fn uid(&self) -> String {
        self.text("/metadata/uid")
    }

    pub fn version(&self) -> String {
        self.text("/metadata/resourceVersion")
    }
}

/// An open watch.
pub struct OpenWatch {
    path: String,
    lines: Box<dyn AsyncBufRead + Send + Unpin>,
}

/// One of the two servers.
pub struct Side {
    pub cluster: Cluster,
    clients: BTreeMap<String, Client>,
    transcript: Transcript,
}

impl Side {
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, clients: BTreeMap::new(), transcript: Transcript::default() }
    }

    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    async fn client(&mut self, user: &str) -> Result<Client> {
        if !self.clients.contains_key(user) {
            self.clients.insert(user.to_owned(), self.cluster.client(user).await?);
        }
        Ok(self.clients[user].clone())
    }

    /// Sends a request, and notes the answer.
    pub async fn send(&mut self, call: Call) -> Result<Answer> {
        let answer = self.ask(&call).await?;
        self.transcript.add(&call, &answer);
        Ok(answer)
    }

    /// The same, in a transcript where this text stands for what only this side knows.
    pub fn alias(&mut self, text: &str, alias: &str) {
        self.transcript.alias(text, alias);
    }

    /// Repeats a request until it has this code, and notes the last answer.
    pub async fn send_until(&mut self, code: u16, call: Call) -> Result<Answer> {
        let client = self.client(call.user).await?;
        let cluster = self.cluster.clone();
        let look = || async {
            cluster.run_controllers();
            let answer = answer(&client, &call).await?;
            ensure!(answer.code == code, "{} {}", answer.code, answer.body);
            Ok(answer)
        };
        let answer = eventually(format!("{} {} with {code}", call.method, call.path), look).await?;
        self.transcript.add(&call, &answer);
        Ok(answer)
    }

    /// Sends a request without noting it.
    pub async fn ask(&mut self, call: &Call) -> Result<Answer> {
        let client = self.client(call.user).await?;
        answer(&client, call).await
    }

    /// Repeats a request until its answer is as wanted, without noting it.
    pub async fn ask_until(&mut self, call: Call, is_wanted: impl Fn(&Answer) -> bool) -> Result<()> {
        let client = self.client(call.user).await?;
        let look = || async {
            let answer = answer(&client, &call).await?;
            ensure!(is_wanted(&answer), "{} {}", answer.code, answer.body);
            Ok(())
        };
        Ok(eventually(format!("{} {}", call.method, call.path), look).await?)
    }

    /// Notes what a scenario picked from an answer.
    pub fn note(&mut self, what: &str, code: u16, picked: &Value) {
        self.transcript.note(what, code, picked);
    }

    /// Opens a watch.
    pub async fn watch(&mut self, call: Call) -> Result<OpenWatch> {
        let client = self.client(call.user).await?;
        let (parts, _) = call.request()?.into_parts();
        let lines = client.request_stream(Request::from_parts(parts, Vec::new())).await?;
        Ok(OpenWatch { path: call.path, lines: Box::new(Box::pin(lines)) })
    }

    /// Reads and notes that many events.
    pub async fn events(&mut self, watch: &mut OpenWatch, count: usize) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        for _ in 0..count {
            let Some(event) = watch.next().await? else { bail!("the watch {} ended", watch.path) };
            self.transcript.add_event(&watch.path, &event);
            events.push(event);
        }
        Ok(events)
    }

    /// The same for events in any order: noted in the order of the objects' names.
    pub async fn sorted_events(&mut self, watch: &mut OpenWatch, count: usize) -> Result<()> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.extend(watch.next().await?);
        }
        self.add_sorted(watch, events);
        Ok(())
    }

    fn add_sorted(&mut self, watch: &OpenWatch, mut events: Vec<Value>) {
        events.sort_by_key(|event| event["object"]["metadata"]["name"].as_str().map(str::to_owned));
        for event in events {
            self.transcript.add_event(&watch.path, &event);
        }
    }

    /// Reads and notes the events until the watch ends.
    pub async fn rest(&mut self, watch: &mut OpenWatch) -> Result<()> {
        while let Some(event) = watch.next().await? {
            self.transcript.add_event(&watch.path, &event);
        }
        self.transcript.add_event(&watch.path, &json!("end"));
        Ok(())
    }

    /// The same for events of several objects that happen in any order: sorted by the object's name, for each in their order.
    pub async fn sorted_rest(&mut self, watch: &mut OpenWatch) -> Result<()> {
        let mut events = Vec::new();
        while let Some(event) = watch.next().await? {
            events.push(event);
        }
        self.add_sorted(watch, events);
        Ok(())
    }

    /// Opens watches that end soon until one of them gets a bookmark, and notes that. The real server promises none.
    pub async fn bookmark(&mut self, call: &Call) -> Result<()> {
        for _ in 0..WATCHES {
            let mut watch = self.watch(call.clone()).await?;
            while let Some(event) = watch.next().await? {
                if event["type"] == "BOOKMARK" {
                    self.transcript.add_event(&watch.path, &event);
                    return Ok(());
                }
            }
        }
        bail!("no bookmark in {WATCHES} watches")
    }

    /// Reads the refusal of a version that is too old, whose message has numbers of the server's own.
    pub async fn old_version(&mut self, watch: &mut OpenWatch) -> Result<()> {
        let Some(mut event) = watch.next().await? else { bail!("no refusal") };
        let message = event["object"]["message"].as_str().unwrap_or_default();
        event["object"]["message"] = json!(message.split('(').next());
        self.transcript.add_event(&watch.path, &event);
        self.rest(watch).await
    }

    pub fn into_transcript(self) -> Transcript {
        self.transcript
    }
}

impl OpenWatch {
    async fn next(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        let read = tokio::time::timeout(EVENT, self.lines.read_line(&mut line)).await;
        let Ok(read) = read else { bail!("no event of {} within {EVENT:?}", self.path) };
        if read? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

async fn answer(client: &Client, call: &Call) -> Result<Answer> {
    let answer = client.send(call.request()?).await?;
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await?.to_bytes();
    let text = || json!(String::from_utf8_lossy(&bytes).trim());
    Ok(Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) })
}
