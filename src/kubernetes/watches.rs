//! Every watch of the operator: one list, then a stream of changes that is resumed where it ended.
//!
//! Owns which connection a watch goes over (many share one, see [`http2`](super::http2)), when it is renewed, and what
//! follows from a failure. Decides nothing about what it sees.
//!
//! A connection that dies in silence is noticed by the pings of its protocol, so a watch need not end to be trusted: it is
//! renewed to be sure of what lies behind a proxy that answers pings itself. All watches together are renewed at a bounded
//! rate, however many they are.

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
use registry_verdict::backoff::Backoff;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    call::{CallError, CallFailure, call_within},
    http2::{Http2ClientPool, WatchClient},
};
use crate::tenancy::access::Access;

/// Objects of a page of a list. An object may be 1.5 MB, most of it annotations that nobody needs, and a page is in memory as bytes
/// and parsed for a moment.
pub const PAGE: u32 = 20;
/// How long a page of a list, or the beginning of a watch, may take.
const ANSWER: Duration = Duration::from_secs(30);
/// A watch is not renewed sooner than this.
const LEAST_RENEWAL: Duration = Duration::from_mins(10);
/// Between two renewals of any watches, on average at the most.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(20);
/// The API server ends a watch after this time; renewals come before.
const SERVER_TIMEOUT: Duration = Duration::from_hours(24);
/// A watch that ends sooner has failed.
const SHORTEST: Duration = Duration::from_secs(1);
/// A failure that passes with the next tries is no reason to complain.
const QUIET: u32 = 3;

/// Gives out watches.
pub struct WatchPool {
    clients: Http2ClientPool,
    jitter: fn() -> f64,
    live: AtomicUsize,
    broken: Notify,
    set_back: Notify,
}

impl WatchPool {
    /// A pool without watches. `jitter` returns random numbers from 0 to 1.
    pub fn new(clients: Http2ClientPool, jitter: fn() -> f64) -> Self {
        Self { clients, jitter, live: AtomicUsize::new(0), broken: Notify::new(), set_back: Notify::new() }
    }

    /// A watch of `source`. It asks nothing before its first event is waited for.
    pub fn watch<T: Watched>(self: &Arc<Self>, source: WatchSource<T>) -> Watch<T> {
        Watch {
            live: Live::new(self),
            source,
            stream: None,
            silent: None,
            state: WatchState::Unknown,
            failures: 0,
            broken: false,
            pause: None,
        }
    }

    /// Is notified when a watch was ended by the API server, or broke off.
    pub fn broken(&self) -> &Notify {
        &self.broken
    }

    /// Is notified when a watch was to be resumed at a version that the store does not have any more.
    pub fn set_back(&self) -> &Notify {
        &self.set_back
    }

    /// How long a watch lasts, with `spread` from 1 to 2.
    fn renewal(&self, spread: f64) -> Duration {
        let live = u32::try_from(self.live.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        renewal(live).mul_f64(spread).min(SERVER_TIMEOUT)
    }
}

/// How long each of so many watches lasts at least.
fn renewal(watches: u32) -> Duration {
    BETWEEN_RENEWALS.saturating_mul(watches).max(LEAST_RENEWAL).min(SERVER_TIMEOUT / 2)
}

/// One watch of the pool, counted while it lives.
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

/// An object as it is watched.
pub trait Watched: Clone + DeserializeOwned + Send + 'static {
    /// Whether the API server is asked for metadata alone.
    const METADATA_ONLY: bool;

    /// The resource version; none if the API server left it out.
    fn resource_version(&self) -> Option<&str>;
}

/// The metadata that are looked at. Annotations and managed fields, which may be long, are passed over while they are read.
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
    /// The object's name.
    pub fn name(&self) -> Arc<str> {
        self.metadata.name.as_str().into()
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.get(key).map(String::as_str)
    }

    /// Whether the object is being deleted.
    pub fn is_being_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The resource version.
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

/// What a watch is over: the objects of one kind, in one namespace or in all.
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

    /// Those that a label selector selects.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Those that a field selector selects.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// In a namespace to which the operator may have to give itself access.
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
    /// Namespaces.
    pub fn namespaces() -> Self {
        Self::of::<Namespace>("namespaces", None)
    }
}

impl WatchSource<RoleBinding> {
    /// Role bindings in all namespaces.
    pub fn role_bindings() -> Self {
        Self::of::<RoleBinding>("rolebindings", None)
    }
}

impl WatchSource<Metadata<ClusterRole>> {
    /// Cluster roles.
    pub fn cluster_roles() -> Self {
        Self::of::<ClusterRole>("clusterroles", None)
    }
}

impl WatchSource<Secret> {
    /// Whole Secrets of a namespace.
    pub fn secrets(access: &Arc<Access>, namespace: &Arc<str>) -> Self {
        Self::of::<Secret>("secrets", Some(namespace)).with_access(access, namespace)
    }
}

impl WatchSource<Metadata<Secret>> {
    /// The metadata of a namespace's Secrets.
    pub fn secrets_metadata(access: &Arc<Access>, namespace: &Arc<str>) -> Self {
        Self::of::<Secret>("secrets", Some(namespace)).with_access(access, namespace)
    }
}

impl WatchSource<Metadata<ConfigMap>> {
    /// The metadata of a namespace's ConfigMaps.
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
        // A compressed stream is held back until there is enough to compress.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(request)
    }

    /// A right may take a moment to arrive, and an API server that shuts down another. There are five watches over the whole
    /// cluster, and there may be thousands in namespaces.
    fn backoff(&self) -> Backoff {
        if self.access.is_some() { Backoff::NAMESPACE_WATCH } else { Backoff::WATCH }
    }
}

/// One watch. It goes on for ever: after a failure it says so, and goes on after a pause.
pub struct Watch<T> {
    live: Live,
    source: WatchSource<T>,
    stream: Option<WatchClient>,
    /// The connection that gave no answer last.
    silent: Option<usize>,
    state: WatchState<T>,
    /// In a row.
    failures: u32,
    /// Whether it broke off since the store was last known to have its version.
    broken: bool,
    /// To be waited before the next request.
    pause: Option<Duration>,
}

enum WatchState<T> {
    /// Nothing is known.
    Unknown,
    /// A list goes on at that page, the first one if there is none.
    Listing { next: Option<String> },
    /// A page was read.
    Listed { items: std::vec::IntoIter<T>, next: Option<String>, version: String },
    /// All changes up to that version are known.
    Known { version: String },
    /// Changes are being told.
    Open { version: String, changes: Changes },
}

/// A stream of changes.
struct Changes {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    /// The line that is being read.
    line: Vec<u8>,
    opened: Instant,
    /// When it is renewed, in proportion to when that is due.
    spread: f64,
}

/// What a step comes to: nothing to be told yet, an event, or a failure.
type WatchStep<T> = Result<Option<Event<T>>, CallError>;

impl<T: Watched> Watch<T> {
    /// The next event. An error is told once, for whom it concerns; it was logged, and the watch goes on after a pause.
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
                let opened = self.open(&version).await;
                match opened {
                    Ok(changes) => self.state = WatchState::Open { version, changes },
                    Err(error) => return Err(self.keep_unless_gone(version, error)),
                }
                Ok(None)
            }
            WatchState::Open { version, changes } => self.read(version, changes).await,
        }
    }

    /// A list that fails begins anew: its pages are those of one version.
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

    /// Where a watch broke off, the API server may have been started with an older store, in which it would be silent.
    async fn verify(&mut self, version: &str) -> Result<(), CallError> {
        let requests = Requests::new(self.source.path.clone());
        let request =
            requests.list_metadata(&ListParams::default().limit(1)).map_err(kube::Error::BuildRequest)?;
        let client = self.connect().await?;
        let list: ObjectList<Metadata<Namespace>> = self.answered(client.request(request)).await?;
        if is_older(list.metadata.resource_version.as_deref().unwrap_or_default(), version) {
            self.live.0.set_back.notify_waiters();
        }
        Ok(())
    }

    async fn open(&mut self, version: &str) -> Result<Changes, CallError> {
        if self.broken {
            self.verify(version).await?;
            self.broken = false;
        }
        let request = self.source.changes(version)?;
        let spread = 1.0 + (self.live.0.jitter)();
        let client = self.connect().await?;
        let body = self.answered(client.request_stream(request)).await?;
        Ok(Changes { body: Box::pin(body), line: Vec::new(), opened: Instant::now(), spread })
    }

    /// Waits out a pause, and has a client to ask with.
    async fn connect(&mut self) -> Result<Client, CallError> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        if self.stream.is_none() {
            self.stream = self.live.0.clients.stream(self.silent.take()).await;
        }
        self.stream.as_ref().map(|stream| stream.client.clone()).ok_or_else(no_answer)
    }

    /// What doesn't answer on one connection may do so on another.
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
        let read = timeout_at(until, changes.body.read_until(b'\n', &mut changes.line)).await;
        match read {
            // There may be more watches by now, and each the longer for it.
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

    /// The API server ends a watch at its time, and when it shuts down.
    fn ended(&mut self, version: String, changes: &Changes) -> WatchStep<T> {
        self.broken = true;
        self.live.0.broken.notify_one();
        self.state = WatchState::Known { version };
        if changes.opened.elapsed() < SHORTEST {
            return Err(kube::Error::ReadEvents(io::ErrorKind::UnexpectedEof.into()).into());
        }
        self.pause = Some(Backoff::WATCH.first().mul_f64(1.0 + (self.live.0.jitter)()));
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
        self.state = WatchState::Open { version, changes };
        Ok(event)
    }

    /// What is known up to a version that the API server has no longer is of no use: it lists anew.
    fn keep_unless_gone(&mut self, version: String, error: CallError) -> CallError {
        let gone = error.failure() == CallFailure::Gone;
        self.state = if gone { WatchState::Unknown } else { WatchState::Known { version } };
        error
    }

    /// The access of a namespace is given once, after the first failure; it may be on its way, or not the operator's to give.
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

/// Whether the store's revision is older than a version of it that was seen.
fn is_older(revision: &str, seen: &str) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    matches!((number(revision), number(seen)), (Some(revision), Some(seen)) if revision < seen)
}

fn no_answer() -> CallError {
    kube::Error::ReadEvents(io::Error::other("the API server answers neither by HTTP/2 nor by HTTP/1.1"))
        .into()
}

/// The pause after so many failures in a row, or what the API server asks for, and up to half as much again. A refusal ends by
/// somebody's deed.
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
