//! All watches of the operator. A watch first lists the objects, and then receives changes. When the stream ends, it
//! resumes at the last known version.
//!
//! Owns which connection a watch uses (many share one, see [`http2`](super::http2)), when it is renewed, and how it
//! reacts to a failure. Knows nothing about the meaning of the objects.
//!
//! Pings of HTTP/2 detect a dead connection. Renewals are for proxies that answer pings themselves. The total rate of
//! renewals is limited, whatever the number of watches.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    marker::PhantomData,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use http::{HeaderValue, Request, header::ACCEPT_ENCODING};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret},
    rbac::v1::{ClusterRole, RoleBinding},
};
use kube::{
    Client, Resource,
    api::{ListParams, WatchEvent, WatchParams},
    core::{DeserializeGuard, ObjectList, request::Request as Requests},
    runtime::watcher::Event,
};
use registry_api::spec::{Registry, Scope as ApiScope};
use registry_probe::Backoff;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use super::{
    call::{CallError, CallFailure, call_within},
    http2::{Http2ClientPool, WatchClient},
};
use crate::tenancy::access::Access;

/// Objects per page of a list. An object may have 1.5 MB, most of it annotations that aren't needed, and a page is in
/// memory both as bytes and parsed for a moment.
pub const PAGE: u32 = 20;
/// Deadline for a page of a list, and for the start of a watch.
const ANSWER: Duration = Duration::from_secs(30);
/// The minimum time before a watch is renewed.
const LEAST_RENEWAL: Duration = Duration::from_mins(10);
/// The minimum average time between two renewals, over all watches.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(20);
/// The timeout that a watch requests from the API server. The operator renews it earlier.
const SERVER_TIMEOUT: Duration = Duration::from_hours(24);
/// A watch that ends sooner than this, without a change, counts as failed.
const SHORTEST: Duration = Duration::from_secs(1);
/// The number of failures in a row that are not logged, because they often pass.
const QUIET: u32 = 3;

/// Creates watches, which share connections.
pub struct WatchPool {
    clients: Http2ClientPool,
    jitter: fn() -> f64,
    live: AtomicUsize,
    broken: Notify,
    set_back: Notify,
}

impl WatchPool {
    /// Creates a pool without watches. `jitter` returns random numbers from 0 to 1.
    pub fn new(clients: Http2ClientPool, jitter: fn() -> f64) -> Self {
        Self { clients, jitter, live: AtomicUsize::new(0), broken: Notify::new(), set_back: Notify::new() }
    }

    /// Creates a watch of `source`. It sends no request before [`Watch::next`] is called.
    pub fn watch<T: Watched>(self: &Arc<Self>, source: WatchSource<T>) -> Watch<T> {
        Watch {
            live: Live::new(self),
            source,
            stream: None,
            silent: None,
            state: WatchState::Unknown,
            failures: 0,
            broken: false,
            check: JoinSet::new(),
            pause: None,
        }
    }

    /// Notified when the API server ended a watch, or its connection broke.
    pub fn broken(&self) -> &Notify {
        &self.broken
    }

    /// Notified when a watch should resume at a version that the store no longer has.
    pub fn set_back(&self) -> &Notify {
        &self.set_back
    }

    /// Returns the time until a watch is renewed, with `spread` from 1 to 2.
    fn renewal(&self, spread: f64) -> Duration {
        let live = u32::try_from(self.live.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        renewal(live).mul_f64(spread).min(SERVER_TIMEOUT)
    }
}

/// Returns the minimum time until a watch is renewed, for a number of watches.
fn renewal(watches: u32) -> Duration {
    BETWEEN_RENEWALS.saturating_mul(watches).max(LEAST_RENEWAL).min(SERVER_TIMEOUT / 2)
}

/// Counts one watch in the pool until dropped.
struct Live(Arc<WatchPool>);

impl Live {
    fn new(pool: &Arc<WatchPool>) -> Self {
        pool.live.fetch_add(1, Ordering::Relaxed);
        Self(pool.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An object that can be watched.
pub trait Watched: Clone + DeserializeOwned + Send + 'static {
    /// Whether to request only the metadata from the API server.
    const METADATA_ONLY: bool;

    /// Returns the resource version, or `None` if the API server omitted it.
    fn resource_version(&self) -> Option<&str>;
}

/// The parts of the metadata that the operator uses. Annotations and managed fields, which may be long, are skipped
/// when it is parsed.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound(deserialize = ""))]
pub struct Metadata<K> {
    metadata: WatchFields,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchFields {
    name: String,
    resource_version: String,
    deletion_timestamp: Option<IgnoredAny>,
    labels: BTreeMap<String, String>,
}

impl<K> Metadata<K> {
    /// Returns the object's name.
    pub fn name(&self) -> Arc<str> {
        self.metadata.name.as_str().into()
    }

    /// Returns the value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.get(key).map(String::as_str)
    }

    /// Returns whether the object is being deleted.
    pub fn is_being_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Returns the resource version.
    pub fn into_version(self) -> String {
        self.metadata.resource_version
    }
}

impl<K: Clone + 'static> Watched for Metadata<K> {
    const METADATA_ONLY: bool = true;

    fn resource_version(&self) -> Option<&str> {
        Some(&*self.metadata.resource_version)
    }
}

impl Watched for Secret {
    const METADATA_ONLY: bool = false;

    fn resource_version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }
}

impl Watched for RoleBinding {
    const METADATA_ONLY: bool = false;

    fn resource_version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }
}

impl<S: ApiScope> Watched for DeserializeGuard<Registry<S>> {
    const METADATA_ONLY: bool = false;

    fn resource_version(&self) -> Option<&str> {
        self.meta().resource_version.as_deref()
    }
}

/// What a watch covers: the objects of one kind, in one namespace or in all.
pub struct WatchSource<T> {
    path: String,
    what: &'static str,
    labels: Option<String>,
    fields: Option<String>,
    access: Option<(Arc<Access>, Arc<str>)>,
    kind: PhantomData<fn() -> T>,
}

impl<T> WatchSource<T> {
    fn of<K: Resource<DynamicType = ()>>(what: &'static str, namespace: Option<&str>) -> Self {
        let path = K::url_path(&(), namespace);
        Self { path, what, labels: None, fields: None, access: None, kind: PhantomData }
    }

    /// Restricts the watch to a label selector.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Restricts the watch to a field selector.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// Lets the operator bind itself in the namespace if it has no access.
    fn with_access(mut self, access: &Arc<Access>, namespace: &Arc<str>) -> Self {
        self.access = Some((access.clone(), namespace.clone()));
        self
    }
}

impl<S: ApiScope> WatchSource<DeserializeGuard<Registry<S>>> {
    /// All registries of a scope.
    pub fn registries() -> Self {
        Self::of::<Registry<S>>(S::PLURAL, None)
    }
}

impl WatchSource<Metadata<Namespace>> {
    /// All namespaces.
    pub fn namespaces() -> Self {
        Self::of::<Namespace>("namespaces", None)
    }
}

impl WatchSource<RoleBinding> {
    /// RoleBindings in all namespaces.
    pub fn role_bindings() -> Self {
        Self::of::<RoleBinding>("rolebindings", None)
    }
}

impl WatchSource<Metadata<ClusterRole>> {
    /// ClusterRoles.
    pub fn cluster_roles() -> Self {
        Self::of::<ClusterRole>("clusterroles", None)
    }
}

impl WatchSource<Secret> {
    /// Complete Secrets of a namespace.
    pub fn secrets(access: &Arc<Access>, namespace: &Arc<str>) -> Self {
        Self::of::<Secret>("secrets", Some(namespace)).with_access(access, namespace)
    }
}

impl WatchSource<Metadata<Secret>> {
    /// The metadata of the Secrets of a namespace.
    pub fn secrets_metadata(access: &Arc<Access>, namespace: &Arc<str>) -> Self {
        Self::of::<Secret>("secrets", Some(namespace)).with_access(access, namespace)
    }
}

impl WatchSource<Metadata<ConfigMap>> {
    /// The metadata of the ConfigMaps of a namespace.
    pub fn config_maps_metadata(access: &Arc<Access>, namespace: &Arc<str>) -> Self {
        Self::of::<ConfigMap>("configmaps", Some(namespace)).with_access(access, namespace)
    }
}

impl<T: Watched> WatchSource<T> {
    fn list(&self, next: Option<String>) -> Result<Request<Vec<u8>>, kube::Error> {
        let params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            continue_token: next,
            ..ListParams::default()
        };
        let requests = Requests::new(self.path.clone());
        let request = if T::METADATA_ONLY { requests.list_metadata(&params) } else { requests.list(&params) };
        request.map_err(kube::Error::BuildRequest)
    }

    fn changes(&self, version: &str) -> Result<Request<Vec<u8>>, kube::Error> {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: u32::try_from(SERVER_TIMEOUT.as_secs()).ok(),
            ..WatchParams::default()
        };
        let requests = Requests::new(self.path.clone());
        let request = if T::METADATA_ONLY {
            requests.watch_metadata(&params, version)
        } else {
            requests.watch(&params, version)
        };
        let mut request = request.map_err(kube::Error::BuildRequest)?;
        // The API server delays a compressed stream until there is enough to compress.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(request)
    }

    /// Returns the back-off after failures. In a namespace, it is slower, because there may be thousands of these
    /// watches, and only five over the whole cluster. A new permission, or an API server that shuts down, needs a
    /// moment.
    fn backoff(&self) -> Backoff {
        if self.access.is_some() { Backoff::NAMESPACE_WATCH } else { Backoff::WATCH }
    }
}

/// One watch. It never ends: after a failure, it returns the error once, and continues after a delay.
pub struct Watch<T> {
    live: Live,
    source: WatchSource<T>,
    stream: Option<WatchClient>,
    /// The connection on which the last request got no answer.
    silent: Option<usize>,
    state: WatchState<T>,
    /// The number of failures in a row.
    failures: u32,
    /// Whether it broke off, or failed to resume, since the last comparison of its version with the store's began.
    broken: bool,
    /// That comparison, while it is under way: one task, or none.
    check: JoinSet<Result<(), CallError>>,
    /// The delay before the next request.
    pause: Option<Duration>,
}

enum WatchState<T> {
    /// Nothing is known.
    Unknown,
    /// Listing, with the token of the next page; the first page if there is none.
    Listing { next: Option<String> },
    /// A page was read.
    Listed { items: std::vec::IntoIter<T>, next: Option<String>, version: String },
    /// All changes up to this version are known.
    Known { version: String },
    /// A stream of changes is open.
    Open { version: String, changes: Changes },
}

/// A stream of changes.
struct Changes {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    /// The incomplete line.
    line: Vec<u8>,
    opened: Instant,
    /// Whether there was a change.
    delivered: bool,
    /// A factor for the time until it is renewed, from 1 to 2.
    spread: f64,
}

/// The result of a step: nothing to return yet, an event, or a failure.
type WatchStep<T> = Result<Option<Event<T>>, CallError>;

impl<T: Watched> Watch<T> {
    /// Waits for the next event. An error is returned once, and was logged already; the watch continues after a delay.
    pub async fn next(&mut self) -> Result<Event<T>, CallError> {
        loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(event),
                Err(error) => {
                    self.failed(&error).await;
                    return Err(error);
                }
            }
        }
    }

    async fn step(&mut self) -> WatchStep<T> {
        match std::mem::replace(&mut self.state, WatchState::Unknown) {
            WatchState::Unknown => {
                self.state = WatchState::Listing { next: None };
                Ok(Some(Event::Init))
            }
            WatchState::Listing { next } => self.list(next).await,
            WatchState::Listed { mut items, next, version } => match items.next() {
                Some(item) => {
                    self.state = WatchState::Listed { items, next, version };
                    Ok(Some(Event::InitApply(item)))
                }
                None if next.is_some() => {
                    self.state = WatchState::Listing { next };
                    Ok(None)
                }
                None => {
                    self.state = WatchState::Known { version };
                    Ok(Some(Event::InitDone))
                }
            },
            WatchState::Known { version } => {
                let was_broken = self.broken || !self.check.is_empty();
                let opened = self.open(&version).await;
                match opened {
                    Ok(changes) => self.state = WatchState::Open { version, changes },
                    Err(error) => {
                        self.broken = was_broken;
                        return Err(self.keep_unless_gone(version, error));
                    }
                }
                Ok(None)
            }
            WatchState::Open { version, changes } => self.read(version, changes).await,
        }
    }

    /// Requests a page. A list that fails starts again, because all its pages must have the same version.
    async fn list(&mut self, next: Option<String>) -> WatchStep<T> {
        let request = self.source.list(next)?;
        let client = self.connect().await?;
        let list: ObjectList<T> = self.answered(client.request(request)).await?;
        let next = list.metadata.continue_.filter(|token| !token.is_empty());
        let version = list.metadata.resource_version.unwrap_or_default();
        self.failures = 0;
        self.state = WatchState::Listed { items: list.items.into_iter(), next, version };
        Ok(None)
    }

    async fn open(&mut self, version: &str) -> Result<Changes, CallError> {
        let request = self.source.changes(version)?;
        let spread = 1.0 + (self.live.0.jitter)();
        let client = self.connect().await?;
        self.check(&client, version)?;
        let body = self.answered(client.request_stream(request)).await?;
        let opened = Instant::now();
        Ok(Changes { body: Box::pin(body), line: Vec::new(), opened, delivered: false, spread })
    }

    /// Checks, after a watch broke off, that the store isn't older than the known version: the API server may have been restarted with
    /// a restored store, where the watch would be silent. The watch resumes meanwhile: a busy API server ends watches, and takes a
    /// second for a list. If it breaks off again meanwhile, the comparison ends before another begins, or none would end while
    /// watches last for less time than a list takes.
    fn check(&mut self, client: &Client, version: &str) -> Result<(), CallError> {
        if self.check.try_join_next().is_some_and(|checked| !matches!(checked, Ok(Ok(())))) {
            self.broken = true;
        }
        if !self.broken || !self.check.is_empty() {
            return Ok(());
        }
        let requests = Requests::new(self.source.path.clone());
        let request =
            requests.list_metadata(&ListParams::default().limit(1)).map_err(kube::Error::BuildRequest)?;
        let (client, pool, version) = (client.clone(), self.live.0.clone(), version.to_owned());
        self.broken = false;
        self.check.spawn(async move {
            let list: ObjectList<Metadata<Namespace>> = call_within(ANSWER, client.request(request)).await?;
            if is_older(list.metadata.resource_version.as_deref().unwrap_or_default(), &version) {
                pool.set_back.notify_waiters();
            }
            Ok(())
        });
        Ok(())
    }

    /// Waits for the delay, and returns a client.
    async fn connect(&mut self) -> Result<Client, CallError> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        if self.stream.is_none() {
            self.stream = self.live.0.clients.stream(self.silent.take()).await;
        }
        self.stream.as_ref().map(|stream| stream.client.clone()).ok_or_else(no_answer)
    }

    /// Waits for an answer. If there is none, the next request uses another connection.
    async fn answered<A>(
        &mut self,
        answer: impl Future<Output = Result<A, kube::Error>>,
    ) -> Result<A, CallError> {
        let asked = Instant::now();
        let answer = call_within(ANSWER, answer).await;
        if answer.is_err() && asked.elapsed() >= ANSWER {
            self.silent = self.stream.take().and_then(|stream| stream.connection);
        }
        answer
    }

    async fn read(&mut self, version: String, mut changes: Changes) -> WatchStep<T> {
        let until = changes.opened + self.live.0.renewal(changes.spread);
        let read = tokio::select! {
            biased;
            Some(checked) = self.check.join_next() => return self.checked(checked, version, changes),
            read = timeout_at(until, changes.body.read_until(b'\n', &mut changes.line)) => read,
        };
        match read {
            // With more watches, each of them is renewed later.
            Err(_) if Instant::now() < changes.opened + self.live.0.renewal(changes.spread) => {
                self.state = WatchState::Open { version, changes };
                Ok(None)
            }
            Err(_) => {
                self.state = WatchState::Known { version };
                Ok(None)
            }
            Ok(Err(error)) => {
                self.broken = true;
                self.live.0.broken.notify_one();
                self.state = WatchState::Known { version };
                Err(kube::Error::ReadEvents(error).into())
            }
            Ok(Ok(_)) if changes.line.ends_with(b"\n") => {
                self.failures = 0;
                self.changed(version, changes)
            }
            Ok(Ok(_)) => self.ended(version, &changes),
        }
    }

    /// The comparison with the store's version has ended. It is repeated if the watch broke off meanwhile, because the store may have been
    /// restored since. Without a result, the watch starts again, and so does the comparison.
    fn checked(
        &mut self,
        checked: Result<Result<(), CallError>, JoinError>,
        version: String,
        changes: Changes,
    ) -> WatchStep<T> {
        let checked =
            checked.unwrap_or_else(|error| Err(kube::Error::ReadEvents(io::Error::other(error)).into()));
        if let Err(error) = checked {
            self.broken = true;
            self.state = WatchState::Known { version };
            return Err(error);
        }
        if let Some(client) = self.stream.as_ref().map(|stream| stream.client.clone()) {
            self.check(&client, &version)?;
        }
        self.state = WatchState::Open { version, changes };
        Ok(None)
    }

    /// The API server ended the watch: at its timeout, because it shuts down, or because it is too busy to send all changes in time.
    fn ended(&mut self, version: String, changes: &Changes) -> WatchStep<T> {
        self.broken = true;
        self.live.0.broken.notify_one();
        self.state = WatchState::Known { version };
        if changes.opened.elapsed() < SHORTEST && !changes.delivered {
            return Err(kube::Error::ReadEvents(io::ErrorKind::UnexpectedEof.into()).into());
        }
        // There may be thousands of watches in namespaces.
        let pause = || Backoff::WATCH.first().mul_f64(1.0 + (self.live.0.jitter)());
        self.pause = self.source.access.is_some().then(pause);
        Ok(None)
    }

    fn changed(&mut self, mut version: String, mut changes: Changes) -> WatchStep<T> {
        let line = std::mem::take(&mut changes.line);
        let event = match serde_json::from_slice::<WatchEvent<T>>(&line).map_err(kube::Error::SerdeError)? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(Event::Apply(object)),
            WatchEvent::Deleted(object) => Some(Event::Delete(object)),
            WatchEvent::Bookmark(bookmark) => {
                version = bookmark.metadata.resource_version;
                None
            }
            WatchEvent::Error(status) => {
                return Err(self.keep_unless_gone(version, kube::Error::Api(status).into()));
            }
        };
        if let Some(Event::Apply(object) | Event::Delete(object)) = &event
            && let Some(newer) = object.resource_version()
        {
            newer.clone_into(&mut version);
        }
        changes.delivered |= event.is_some();
        self.state = WatchState::Open { version, changes };
        Ok(event)
    }

    /// After 410, the known version is useless, and the watch lists again.
    fn keep_unless_gone(&mut self, version: String, error: CallError) -> CallError {
        let gone = error.failure() == CallFailure::Gone;
        self.state = if gone { WatchState::Unknown } else { WatchState::Known { version } };
        error
    }

    /// Handles a failure. In a namespace, it asks for access after the first one, once: the access may need a moment,
    /// or may not be the operator's to create.
    async fn failed(&mut self, error: &CallError) {
        self.failures = self.failures.saturating_add(1);
        self.log(error);
        if self.failures == 1
            && error.failure() == CallFailure::Forbidden
            && let Some((access, namespace)) = &self.source.access
            && access.is_ours_to_grant(namespace)
        {
            access.grant(namespace).await;
        }
        let jitter = (self.live.0.jitter)();
        self.pause = Some(pause(error, self.failures, self.source.backoff(), jitter));
    }

    fn log(&self, error: &CallError) {
        let (what, failures) = (self.source.what, self.failures);
        let namespace = self.source.access.as_ref().map(|(_, namespace)| &**namespace);
        if failures == QUIET {
            tracing::warn!(what, namespace, %error, "failed to watch; retrying with growing pauses");
        } else {
            tracing::debug!(what, namespace, failures, %error, "failed to watch");
        }
    }
}

/// Returns whether the store's revision is older than a version that was seen before.
fn is_older(revision: &str, seen: &str) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    matches!((number(revision), number(seen)), (Some(revision), Some(seen)) if revision < seen)
}

fn no_answer() -> CallError {
    kube::Error::ReadEvents(io::Error::other("the API server answers neither by HTTP/2 nor by HTTP/1.1"))
        .into()
}

/// Returns the delay after a number of failures in a row, or what the API server asks for, plus up to half of it. After
/// 403, only someone's change helps.
fn pause(error: &CallError, failures: u32, backoff: Backoff, jitter: f64) -> Duration {
    let backoff = match error.failure() {
        CallFailure::Forbidden | CallFailure::Terminating => Backoff::REFUSED_WATCH,
        CallFailure::Gone
        | CallFailure::Conflict
        | CallFailure::Quota
        | CallFailure::Throttled
        | CallFailure::NoAnswer
        | CallFailure::Other => backoff,
    };
    backoff.after(failures).max(error.retry_after().unwrap_or_default()).mul_f64(1.0 + jitter / 2.0)
}
