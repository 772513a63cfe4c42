//! What the API server says, as a stream of [`Signal`]s to the controller. Owns the watches, and that each begins with
//! everything there is; decides nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher::{self, Event, watcher},
};
use registry_api::{
    TENANT_LABEL,
    spec::{Registry, Scope as ApiScope},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

use crate::{
    access::Access,
    cluster::ClusterAddresses,
    resolve::{Reading, Reference, ReferenceKind, References, Shelf},
    subject::{Key, Scope, Subject},
};

/// Something that the API server said.
#[derive(Debug)]
pub enum Signal {
    /// A registry is there, in this state.
    Seen(Box<Subject>),
    /// A registry is there, but nothing but its metadata can be read.
    Unreadable(Box<Subject>),
    /// A registry is gone.
    Gone(Key),
    /// These are all the registries of that scope.
    Listed(Scope, HashSet<Key>),
    /// A Secret or ConfigMap is there in another version, or is gone.
    Reference(Reading),
    /// All Secrets or ConfigMaps of a namespace were listed.
    Shelf(Shelf),
    /// A namespace became, or ceased to be, a tenant's.
    Tenant(Arc<str>),
    /// A tenant's namespace is being deleted.
    Closing(Arc<str>),
    /// A namespace that is there, and in which the operator is still bound, is no tenant's any more.
    Left(Arc<str>),
    /// All tenants' namespaces were listed.
    Tenants,
    /// What is to be said of registries' availability may have changed.
    Available,
    /// A registry's pull Secrets are gone, as they should be.
    Cleared(Key),
    /// The cluster's own addresses are all known, which they were not before: tenants can be kept away from them.
    Fenced,
}

/// Where signals go. A watch that can't deliver ends with its controller.
pub type Signals = mpsc::Sender<Signal>;

/// A watch is renewed this often, so that one that hangs in silence is noticed soon after.
const RENEWAL_SECONDS: u32 = 40;
/// Objects a page in the first list: what is held twice for a moment.
const PAGE: u32 = 250;

/// Whoever deletes the operator's role bindings again and again has it list and write them this often.
const BETWEEN_SETTLEMENTS: Duration = Duration::from_secs(1);
/// The role may be on its way, as when the chart is installed again.
const AFTER_A_FAILURE: Duration = Duration::from_secs(5);

fn config() -> watcher::Config {
    watcher::Config::default().timeout(RENEWAL_SECONDS).page_size(PAGE)
}

/// Watches all registries of one scope.
pub async fn registries<S: ApiScope>(client: Client, scope: Scope, signals: Signals) {
    let api: Api<DeserializeGuard<Registry<S>>> = Api::all(client);
    let mut listed = HashSet::new();
    let mut events = patient(watcher(api, config()), S::PLURAL);
    while let Some(event) = events.next().await {
        let signal = match event {
            Event::Init => {
                listed = HashSet::new();
                continue;
            }
            Event::InitApply(object) => {
                listed.insert(key_of::<S>(&object));
                seen(object)
            }
            Event::Apply(object) => seen(object),
            Event::Delete(object) => Signal::Gone(key_of::<S>(&object)),
            Event::InitDone => Signal::Listed(scope, std::mem::take(&mut listed)),
        };
        if signals.send(signal).await.is_err() {
            return;
        }
    }
}

fn key_of<S: ApiScope>(object: &DeserializeGuard<Registry<S>>) -> Key {
    Key::of::<S>(object.meta().namespace.as_deref(), object.meta().name.as_deref().unwrap_or_default())
}

/// One object that can't be read must not stop the others.
fn seen<S: ApiScope>(object: DeserializeGuard<Registry<S>>) -> Signal {
    match object.0 {
        Ok(registry) => Signal::Seen(Box::new(Subject::of(registry))),
        Err(error) => {
            let subject = Subject::of_metadata::<S>(error.metadata);
            tracing::error!(registry = %subject.key, error = error.error, "this object can't be read, and is not validated");
            Signal::Unreadable(Box::new(subject))
        }
    }
}

/// Watches the namespaces that carry the tenant label, and keeps the operator's access to them.
pub async fn tenants(client: Client, access: Arc<Access>, signals: Signals) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let mut listed: HashSet<Arc<str>> = HashSet::new();
    let mut work = JoinSet::new(); // ends with this watch
    // An empty label names no tenant.
    let tenants = format!("{TENANT_LABEL},{TENANT_LABEL}!=");
    let unsettled = Arc::new(Notify::new());
    work.spawn(keep_bound(access.clone(), signals.clone(), unsettled.clone()));
    let mut events = patient(watcher(api, config().labels(&tenants)), "namespaces");
    while let Some(event) = events.next().await {
        while work.try_join_next().is_some() {}
        let mut changed: Vec<Signal> = Vec::new();
        let synced = matches!(event, Event::InitDone);
        match event {
            Event::Init => listed = HashSet::new(),
            Event::InitApply(namespace) => {
                listed.insert(namespace.name_any().into());
                changed.extend(labelled(&access, &namespace).map(Signal::Tenant));
                changed.extend(closing(&access, &namespace));
            }
            Event::InitDone => {
                let known = access.namespaces();
                let gone = known.into_iter().filter(|namespace| !listed.contains(namespace));
                changed.extend(gone.filter(|namespace| access.unlabelled(namespace)).map(Signal::Tenant));
                unsettled.notify_one();
            }
            Event::Apply(namespace) => {
                let news = labelled(&access, &namespace);
                changed.extend(news.clone().map(Signal::Tenant));
                changed.extend(closing(&access, &namespace));
                let access = access.clone();
                if let Some(namespace) = news {
                    work.spawn(async move { access.grant(&namespace).await });
                }
            }
            Event::Delete(namespace) => {
                let name: Arc<str> = namespace.name_any().into();
                changed.extend(access.unlabelled(&name).then(|| Signal::Tenant(name.clone())));
                // A namespace that is itself deleted takes the binding with it.
                if namespace.metadata.deletion_timestamp.is_none() {
                    changed.push(Signal::Left(name));
                }
            }
        }
        for signal in changed {
            if signals.send(signal).await.is_err() {
                return;
            }
        }
        if synced && signals.send(Signal::Tenants).await.is_err() {
            return;
        }
    }
}

/// The namespace, if it is news that it is a tenant's. One that is being deleted grants nothing any more.
fn labelled(access: &Access, namespace: &PartialObjectMeta<Namespace>) -> Option<Arc<str>> {
    let tenant = namespace.labels().get(TENANT_LABEL)?;
    let name: Arc<str> = namespace.name_any().into();
    if access.is_system_namespace(&name) {
        tracing::warn!(
            namespace = %name,
            "ignoring the label {TENANT_LABEL}: a namespace of the system is no tenant's; remove the label"
        );
        return None;
    }
    let there = namespace.metadata.deletion_timestamp.is_none();
    (there && access.labelled(name.clone(), tenant.as_str().into())).then_some(name)
}

/// That the namespace is being deleted, if it is and that is news.
fn closing(access: &Access, namespace: &PartialObjectMeta<Namespace>) -> Option<Signal> {
    let name: Arc<str> = namespace.name_any().into();
    let news = namespace.metadata.deletion_timestamp.is_some() && access.closing(&name);
    news.then_some(Signal::Closing(name))
}

/// Keeps the operator bound in tenants' namespaces, from when they were first listed.
async fn keep_bound(access: Arc<Access>, signals: Signals, unsettled: Arc<Notify>) {
    unsettled.notified().await;
    let settling = async {
        loop {
            if settle(&access, &signals).await {
                tokio::time::sleep(BETWEEN_SETTLEMENTS).await;
                unsettled.notified().await;
            } else {
                tokio::time::sleep(AFTER_A_FAILURE).await;
            }
        }
    };
    tokio::join!(settling, watch_bindings(&access, &unsettled));
}

/// Whether all is settled that can be.
async fn settle(access: &Access, signals: &Signals) -> bool {
    match access.settle().await {
        Ok(left) => {
            for namespace in left {
                let _ = signals.send(Signal::Left(namespace)).await;
            }
            true
        }
        Err(error) => {
            tracing::warn!(%error, "could not look for the operator's role bindings");
            false
        }
    }
}

/// Somebody may delete or change them. So may the garbage collector: with the role, and when the role was made anew.
async fn watch_bindings(access: &Access, unsettled: &Notify) {
    let Some((api, named)) = access.bindings() else { return };
    let mut events = patient(watcher(api, config().fields(&named)), "rolebindings");
    while let Some(event) = events.next().await {
        if access.is_unsettled_by(&event) {
            unsettled.notify_one();
        }
    }
}

/// Tells when the cluster's own addresses are known, if they are not yet.
pub async fn cluster_addresses(addresses: ClusterAddresses, signals: Signals) {
    if addresses.gap().is_some() {
        addresses.completed().await;
        let _ = signals.send(Signal::Fenced).await;
    }
}

/// Watches the metadata of one shelf, and tells [`References`] before it tells the controller.
pub async fn shelf(client: Client, shelf: Shelf, references: Arc<References>, signals: Signals) {
    let namespace = shelf.namespace.clone();
    match shelf.kind {
        ReferenceKind::Secret => {
            let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, &namespace);
            follow(watcher(api, config()), shelf, &references, signals).await;
        }
        ReferenceKind::ConfigMap => {
            let api: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client, &namespace);
            follow(watcher(api, config()), shelf, &references, signals).await;
        }
    }
}

async fn follow<K: ResourceExt + Send>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    shelf: Shelf,
    references: &References,
    signals: Signals,
) {
    let mut events = patient(events, "references");
    let mut listed = HashMap::new();
    while let Some(event) = events.next().await {
        let signal = match event {
            Event::Init => {
                listed = HashMap::new();
                continue;
            }
            Event::InitApply(object) => {
                listed.insert(object.name_any().into(), object.resource_version().unwrap_or_default());
                continue;
            }
            Event::InitDone => {
                references.listed(&shelf, std::mem::take(&mut listed));
                Signal::Shelf(shelf.clone())
            }
            Event::Apply(object) => saw(references, &shelf, &object, object.resource_version()),
            Event::Delete(object) => saw(references, &shelf, &object, None),
        };
        if signals.send(signal).await.is_err() {
            return;
        }
    }
}

fn saw(references: &References, shelf: &Shelf, object: &impl ResourceExt, version: Option<String>) -> Signal {
    let reference = Reference { shelf: shelf.clone(), name: object.name_any().into() };
    let reading = Reading { reference, version };
    references.saw(&reading);
    Signal::Reference(reading)
}

/// A watch that logs its errors and goes on after a pause, for ever. The pauses grow until the API server answers.
fn patient<K: Send>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    what: &'static str,
) -> impl Stream<Item = Event<K>> + Send + Unpin {
    let begin = (Box::pin(events), 0);
    Box::pin(stream::unfold(begin, move |(mut events, mut failures)| async move {
        loop {
            match events.next().await? {
                Ok(event) => {
                    failures = if is_answer(&event) { 0 } else { failures };
                    return Some((event, (events, failures)));
                }
                Err(error) => tracing::warn!(what, %error, "a watch failed; it is tried again"),
            }
            tokio::time::sleep(pause(failures)).await;
            failures = failures.saturating_add(1);
        }
    }))
}

/// Whether the API server has said anything. That a list begins is told before it is asked for.
pub fn is_answer<K>(event: &Event<K>) -> bool {
    !matches!(event, Event::Init)
}

/// The pause after so many failures and one: from 100 ms, for a right may take a moment to arrive, to 5 s.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(100).saturating_mul(1 << failures.min(6)).min(Duration::from_secs(5))
}
