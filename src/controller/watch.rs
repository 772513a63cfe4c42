//! What the API server says, as a stream of [`Signal`]s to the controller. Owns the watches, and that each begins with
//! everything there is; decides nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Resource, core::DeserializeGuard, runtime::watcher::Event};
use registry_api::{
    TENANT_LABEL,
    spec::{Registry, Scope as ApiScope},
};
use registry_verdict::{
    cluster_addresses::ClusterAddresses,
    object::{Key, Scope, Subject},
    resolve::{Reading, Reference, ReferenceKind, Shelf},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

use crate::{
    controller::references::References,
    kubernetes::{
        call::backoff,
        watches::{Metadata, Source, Watch, WatchPool, Watched},
    },
    tenancy::access::{Access, Settled},
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
    /// The cluster's own addresses are all known, which they were not before: tenants can be kept away from them.
    Fenced,
}

/// Where signals go. A watch that can't deliver ends with its controller.
pub type Signals = mpsc::Sender<Signal>;

/// Whoever deletes the operator's role bindings again and again has it list and write them this often.
const BETWEEN_SETTLEMENTS: Duration = Duration::from_secs(1);

/// Watches all registries of one scope.
pub async fn registries<S: ApiScope>(watches: Arc<WatchPool>, scope: Scope, signals: Signals) {
    let mut listed = HashSet::new();
    let mut watch = watches.watch(Source::<DeserializeGuard<Registry<S>>>::registries());
    loop {
        let signal = match event_of(&mut watch).await {
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

/// The next event of a watch that goes on by itself after failures.
async fn event_of<T: Watched>(watch: &mut Watch<T>) -> Event<T> {
    loop {
        if let Ok(event) = watch.next().await {
            return event;
        }
    }
}

fn key_of<S: ApiScope>(object: &DeserializeGuard<Registry<S>>) -> Key {
    Key::of::<S>(object.meta().namespace.as_deref(), object.meta().name.as_deref().unwrap_or_default())
}

/// One object that can't be read must not stop the others.
fn seen<S: ApiScope>(object: DeserializeGuard<Registry<S>>) -> Signal {
    match object.0 {
        Ok(registry) => Signal::Seen(Box::new(Subject::of(registry).trimmed())),
        Err(error) => {
            let subject = Subject::of_metadata::<S>(error.metadata);
            tracing::error!(registry = %subject.key, error = error.error, "this object can't be read, and is not validated");
            Signal::Unreadable(Box::new(subject))
        }
    }
}

/// Watches the namespaces that carry the tenant label, and keeps the operator's access to them.
pub async fn tenants(watches: Arc<WatchPool>, access: Arc<Access>, signals: Signals) {
    let mut listed: HashSet<Arc<str>> = HashSet::new();
    let mut work = JoinSet::new(); // ends with this watch
    // An empty label names no tenant.
    let tenants = format!("{TENANT_LABEL},{TENANT_LABEL}!=");
    let unsettled = Arc::new(Notify::new());
    work.spawn(keep_bound(watches.clone(), access.clone(), signals.clone(), unsettled.clone()));
    let mut watch = watches.watch(Source::namespaces().labels(tenants));
    loop {
        let event = event_of(&mut watch).await;
        while work.try_join_next().is_some() {}
        let mut changed: Vec<Signal> = Vec::new();
        let synced = matches!(event, Event::InitDone);
        match event {
            Event::Init => listed = HashSet::new(),
            Event::InitApply(namespace) => {
                listed.insert(namespace.name());
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
                    let unsettled = unsettled.clone();
                    work.spawn(async move {
                        if !access.grant(&namespace).await {
                            unsettled.notify_one();
                        }
                    });
                }
            }
            Event::Delete(namespace) => {
                let name = namespace.name();
                changed.extend(access.unlabelled(&name).then(|| Signal::Tenant(name.clone())));
                // A namespace that is itself deleted takes the binding with it.
                if !namespace.is_being_deleted() {
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

/// The namespace, if it is news that it is a tenant's.
fn labelled(access: &Access, namespace: &Metadata<Namespace>) -> Option<Arc<str>> {
    let (name, tenant) = (namespace.name(), namespace.label(TENANT_LABEL)?.into());
    if access.is_system_namespace(&name) {
        tracing::warn!(
            namespace = %name,
            "ignoring the label {TENANT_LABEL}: a namespace of the system is no tenant's; remove the label"
        );
        return None;
    }
    let news = if namespace.is_being_deleted() {
        access.labelled_and_closing(name.clone(), tenant)
    } else {
        access.labelled(name.clone(), tenant)
    };
    news.then_some(name)
}

/// That the namespace is being deleted, if it is and that is news.
fn closing(access: &Access, namespace: &Metadata<Namespace>) -> Option<Signal> {
    let name = namespace.name();
    let news = namespace.is_being_deleted() && access.closing(&name);
    news.then_some(Signal::Closing(name))
}

/// Keeps the operator bound in tenants' namespaces, from when they were first listed.
async fn keep_bound(watches: Arc<WatchPool>, access: Arc<Access>, signals: Signals, unsettled: Arc<Notify>) {
    unsettled.notified().await;
    let settling = async {
        let mut failures = 0;
        loop {
            let settled = settle(&access, &signals).await;
            failures = if settled { 0 } else { failures + 1 };
            tokio::time::sleep(BETWEEN_SETTLEMENTS).await;
            if settled {
                unsettled.notified().await;
            } else {
                let pause = backoff(failures).saturating_sub(BETWEEN_SETTLEMENTS);
                let _ = tokio::time::timeout(pause, unsettled.notified()).await;
            }
        }
    };
    let bindings = watch_bindings(&watches, &access, &unsettled);
    tokio::join!(settling, bindings, watch_role(&watches, &access, &unsettled));
}

/// Whether all is settled that can be.
async fn settle(access: &Access, signals: &Signals) -> bool {
    match access.settle().await {
        Ok(Settled { left, unbound }) => {
            for namespace in left {
                let _ = signals.send(Signal::Left(namespace)).await;
            }
            !unbound
        }
        Err(error) => {
            tracing::warn!(%error, "could not look for the operator's role bindings");
            false
        }
    }
}

/// Somebody may delete or change them. So may the garbage collector: with the role, and when the role was made anew.
async fn watch_bindings(watches: &Arc<WatchPool>, access: &Access, unsettled: &Notify) {
    let Some((_, named)) = access.bindings() else { return };
    let mut watch = watches.watch(Source::role_bindings().fields(named));
    loop {
        if access.is_unsettled_by(&event_of(&mut watch).await) {
            unsettled.notify_one();
        }
    }
}

/// The role may come after the operator, or again, as when the chart is installed anew.
async fn watch_role(watches: &Arc<WatchPool>, access: &Access, unsettled: &Notify) {
    if access.bindings().is_none() {
        return;
    }
    let (_, named) = access.tenant_role();
    let mut watch = watches.watch(Source::cluster_roles().fields(named));
    loop {
        if matches!(event_of(&mut watch).await, Event::Apply(_)) {
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
pub async fn shelf(
    watches: Arc<WatchPool>,
    access: Arc<Access>,
    shelf: Shelf,
    references: Arc<References>,
    signals: Signals,
) {
    match shelf.kind {
        ReferenceKind::Secret => {
            let watch = watches.watch(Source::secrets_metadata(&access, &shelf.namespace));
            follow(watch, shelf, &references, signals).await;
        }
        ReferenceKind::ConfigMap => {
            let watch = watches.watch(Source::config_maps_metadata(&access, &shelf.namespace));
            follow(watch, shelf, &references, signals).await;
        }
    }
}

async fn follow<K: Clone + 'static>(
    mut watch: Watch<Metadata<K>>,
    shelf: Shelf,
    references: &References,
    signals: Signals,
) {
    let mut listed = HashMap::new();
    loop {
        let signal = match event_of(&mut watch).await {
            Event::Init => {
                listed = HashMap::new();
                continue;
            }
            Event::InitApply(object) => {
                listed.insert(object.name(), object.into_version());
                continue;
            }
            Event::InitDone => {
                references.listed(&shelf, std::mem::take(&mut listed));
                Signal::Shelf(shelf.clone())
            }
            Event::Apply(object) => saw(references, &shelf, object.name(), Some(object.into_version())),
            Event::Delete(object) => saw(references, &shelf, object.name(), None),
        };
        if signals.send(signal).await.is_err() {
            return;
        }
    }
}

fn saw(references: &References, shelf: &Shelf, name: Arc<str>, version: Option<String>) -> Signal {
    let reading = Reading { reference: Reference { shelf: shelf.clone(), name }, version };
    references.saw(&reading);
    Signal::Reference(reading)
}
