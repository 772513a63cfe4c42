//! Watches: streams of changes, read from the store's log.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::BoxError;

use super::{
    ApiServer,
    connection::bytes_of,
    definition,
    read::{metadata_of, parse_version},
    refusal::ApiFailure,
    request::ApiCall,
    resources::ResourceNature,
    selector::ObjectSelector,
    state::{Answered, ApiAnswer, ServerState},
    store::{StoredChange, is_in},
};

/// How long a watch lasts if the client names no time.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(45);
/// The time between two bookmarks.
const BOOKMARKS: Duration = Duration::from_mins(1);
/// How long before its end a watch sends a bookmark.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// A watch that was accepted.
pub(super) struct WatchStart {
    call: ApiCall,
    selector: ObjectSelector,
    /// The revision of the last change that the client knows.
    known: u64,
    /// Lines to send first.
    first: Vec<Bytes>,
    /// Whether it ends after these lines.
    failed: bool,
    era: u64,
}

impl ServerState {
    pub fn watch(&self, call: &ApiCall) -> Answered {
        let selector = ObjectSelector::parse(&call.options.labels, &call.options.fields)?;
        let mut start = WatchStart {
            call: call.clone(),
            selector,
            known: 0,
            first: Vec::new(),
            failed: false,
            era: self.watch_era,
        };
        match call.options.version.as_str() {
            "" | "0" => self.begin_with_all(&mut start),
            version => self.begin_after(&mut start, parse_version(version)?),
        }
        Ok(ApiAnswer::Watch(Box::new(start)))
    }

    /// Begins with what the replica's watch cache has.
    fn begin_with_all(&self, start: &mut WatchStart) {
        start.known = self.visible(start.call.replica);
        let objects = self.store.at(start.known, start.call.resource, &start.call.namespace);
        let selected = objects.values().filter(|object| start.selector.matches(object));
        start.first = selected.map(|object| start.line("ADDED", object)).collect();
    }

    /// A version that the store doesn't have yet is accepted: the watch is silent until then.
    fn begin_after(&self, start: &mut WatchStart, version: u64) {
        start.known = version;
        if version < self.store.compacted() {
            let compacted = self.store.compacted();
            let failure = ApiFailure::expired(&format!("too old resource version: {version} ({compacted})"));
            start.first = vec![line("ERROR", &failure.status())];
            start.failed = true;
        }
    }

    /// Returns the next lines of a watch, and registers its waker if there are none.
    fn next_lines(&mut self, watch: &mut WatchStart, context: &Context<'_>) -> Vec<Bytes> {
        let visible = self.visible(watch.call.replica);
        let mut lines = Vec::new();
        if visible > watch.known {
            let from = self.store.index_after(watch.known);
            let changes =
                self.store.changes_from(from).iter().take_while(|change| change.revision <= visible);
            lines.extend(changes.filter_map(|change| watch.line_of(change)));
            watch.known = visible;
        }
        if lines.is_empty() {
            self.await_change(watch.call.resource, context.waker());
        }
        lines
    }

    /// Returns whether a watch has to end, and whether with an error.
    fn ending(&self, watch: &WatchStart) -> Option<bool> {
        if watch.era != self.watch_era {
            return Some(self.watches_broke);
        }
        let kind = watch.call.kind();
        let is_served =
            kind.nature != ResourceNature::Custom || self.store.get(&definition::key(kind)).is_some();
        (!is_served).then_some(false)
    }
}

impl WatchStart {
    /// Returns the line for a change, if it is one for this watch: an object that is no longer selected is deleted.
    fn line_of(&self, change: &StoredChange) -> Option<Bytes> {
        if !is_in(&change.key, self.call.resource, &self.call.namespace) {
            return None;
        }
        let was = change.before.as_ref().filter(|before| self.selector.matches(before));
        let is = (!change.deleted).then_some(&change.object).filter(|object| self.selector.matches(object));
        match (was, is) {
            (None, None) => None,
            (None, Some(object)) => Some(self.line("ADDED", object)),
            (Some(_), Some(object)) => Some(self.line("MODIFIED", object)),
            (Some(_), None) if change.deleted => Some(self.line("DELETED", &change.object)),
            (Some(before), None) => {
                let mut last = (**before).clone();
                last["metadata"]["resourceVersion"] = change.object["metadata"]["resourceVersion"].clone();
                Some(self.line("DELETED", &last))
            }
        }
    }

    fn line(&self, event: &str, object: &Value) -> Bytes {
        if self.call.metadata_only { line(event, &metadata_of(object)) } else { line(event, object) }
    }

    fn bookmark(&self, revision: u64) -> Bytes {
        let (api_version, kind) = if self.call.metadata_only {
            ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata")
        } else {
            (self.call.kind().api_version(), self.call.kind().kind)
        };
        let metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        line("BOOKMARK", &json!({"kind": kind, "apiVersion": api_version, "metadata": metadata}))
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    let mut line = format!("{{\"type\":\"{event}\",\"object\":").into_bytes();
    line.extend(bytes_of(object));
    line.extend(b"}\n");
    Bytes::from(line)
}

/// The body of the answer to a watch.
pub(super) struct WatchBody {
    server: ApiServer,
    watch: Box<WatchStart>,
    /// Lines to send before anything else.
    pending: std::collections::VecDeque<Bytes>,
    end: Instant,
    next_bookmark: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

impl WatchBody {
    pub fn new(server: ApiServer, mut watch: Box<WatchStart>) -> Self {
        let now = Instant::now();
        let end = now + watch.call.options.timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let next_bookmark = watch.call.options.bookmarks.then(|| next_bookmark(now, end)).flatten();
        let timer = Box::pin(sleep_until(next_bookmark.map_or(end, |at| at.min(end))));
        let pending = std::mem::take(&mut watch.first).into();
        Self { server, watch, pending, end, next_bookmark, timer, ended: false }
    }

    /// Returns the next line; an error if the connection breaks, and `None` at the end.
    pub fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Poll::Ready(Some(Ok(line)));
            }
            if self.ended || self.watch.failed {
                return Poll::Ready(None);
            }
            if let Some(broke) = self.poll_store(context) {
                self.ended = true;
                return Poll::Ready(broke.then(|| Err("connection reset by peer".into())));
            }
            if self.pending.is_empty() {
                std::task::ready!(self.timer.as_mut().poll(context));
                self.time_is_up();
            }
        }
    }

    /// Takes what is new. Returns whether the watch broke, if it has to end.
    fn poll_store(&mut self, context: &Context<'_>) -> Option<bool> {
        let server = self.server.clone();
        let mut state = server.lock();
        let ending = state.ending(&self.watch);
        if ending != Some(true) {
            self.pending.extend(state.next_lines(&mut self.watch, context));
        }
        if self.pending.is_empty() { ending } else { None }
    }

    /// Sends a bookmark, or ends.
    fn time_is_up(&mut self) {
        let now = Instant::now();
        if now >= self.end {
            self.ended = true;
            return;
        }
        let revision = self.server.lock().visible(self.watch.call.replica);
        self.pending.push_back(self.watch.bookmark(revision.max(self.watch.known)));
        self.next_bookmark = next_bookmark(now, self.end);
        self.timer.as_mut().reset(self.next_bookmark.map_or(self.end, |at| at.min(self.end)));
    }
}

/// A bookmark is sent once a minute and shortly before the end.
fn next_bookmark(now: Instant, end: Instant) -> Option<Instant> {
    let last = end.checked_sub(LAST_BOOKMARK)?;
    (now < last).then(|| (now + BOOKMARKS).min(last))
}
