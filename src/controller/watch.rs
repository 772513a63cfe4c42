//! What the API server says, as a stream of [`ControllerEvent`]s to the controller. Owns the watches, and that each begins with
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
use registry_probe::Backoff;
use registry_verdict::{
    cluster_addresses::ClusterAddresses,
    object::{RegistryKey, RegistryObject, RegistryScope},
    resolve::{ObservedReference, Reference, ReferenceKind, WatchScope},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

use crate::{
    controller::references::References,
    kubernetes::watches::{Metadata, Watch, WatchPool, WatchSource, Watched},
    tenancy::access::{Access, Settled},
};

/// Something that the API server said.
#[derive(Debug)]
pub enum ControllerEvent {
    /// A registry is there, in this state.
    Seen(Box<RegistryObject>),
    /// A registry is there, but nothing but its metadata can be read.
    Unreadable(Box<RegistryObject>),
    /// A registry is gone.
    Gone(RegistryKey),
    /// These are all the registries of that scope.
    Listed(RegistryScope, HashSet<RegistryKey>),
    /// A Secret or ConfigMap is there in another version, or is gone.
    Reference(ObservedReference),
    /// All Secrets or ConfigMaps of a namespace were listed.
    ScopeListed(WatchScope),
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
pub type ControllerEvents = mpsc::Sender<ControllerEvent>;

/// Whoever deletes the operator's role bindings again and again has it list and write them this often.
const BETWEEN_SETTLEMENTS: Duration = Duration::from_secs(1);

/// Watches all registries of one scope.
pub async fn registries<S: ApiScope>(
    watches: Arc<WatchPool>,
    scope: RegistryScope,
    signals: ControllerEvents,
) {
    let mut listed = HashSet::new();
    let mut watch = watches.watch(WatchSource::<DeserializeGuard<Registry<S>>>::registries());
    loop {
        let signal = match event_of(&mut watch).await {
            Event::Init => {
                listed = HashSet::new();
                continue;
            }
            Event::InitApply(object) => {
                listed.insert(key_of::<S>(&object));
                event_for(object)
            }
            Event::Apply(object) => event_for(object),
            Event::Delete(object) => ControllerEvent::Gone(key_of::<S>(&object)),
            Event::InitDone => ControllerEvent::Listed(scope, std::mem::take(&mut listed)),
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

fn key_of<S: ApiScope>(object: &DeserializeGuard<Registry<S>>) -> RegistryKey {
    RegistryKey::of::<S>(
        object.meta().namespace.as_deref(),
        object.meta().name.as_deref().unwrap_or_default(),
    )
}

/// One object that can't be read must not stop the others.
fn event_for<S: ApiScope>(object: DeserializeGuard<Registry<S>>) -> ControllerEvent {
    match object.0 {
        Ok(registry) => ControllerEvent::Seen(Box::new(RegistryObject::of(registry).trimmed())),
        Err(error) => {
            let object = RegistryObject::of_metadata::<S>(error.metadata);
            tracing::error!(registry = %object.key, error = error.error, "failed to parse the object; it is \
                not validated");
            ControllerEvent::Unreadable(Box::new(object))
        }
    }
}

/// Watches the namespaces that carry the tenant label, and keeps the operator's access to them.
pub async fn tenants(watches: Arc<WatchPool>, access: Arc<Access>, signals: ControllerEvents) {
    let mut listed: HashSet<Arc<str>> = HashSet::new();
    let mut work = JoinSet::new(); // ends with this watch
    // An empty label names no tenant.
    let tenants = format!("{TENANT_LABEL},{TENANT_LABEL}!=");
    let unsettled = Arc::new(Notify::new());
    work.spawn(keep_bound(watches.clone(), access.clone(), signals.clone(), unsettled.clone()));
    let mut watch = watches.watch(WatchSource::namespaces().labels(tenants));
    loop {
        let event = event_of(&mut watch).await;
        while work.try_join_next().is_some() {}
        let mut changed: Vec<ControllerEvent> = Vec::new();
        let synced = matches!(event, Event::InitDone);
        match event {
            Event::Init => listed = HashSet::new(),
            Event::InitApply(namespace) => {
                listed.insert(namespace.name());
                changed.extend(labelled(&access, &namespace).map(ControllerEvent::Tenant));
                changed.extend(closing(&access, &namespace));
            }
            Event::InitDone => {
                let known = access.namespaces();
                let gone = known.into_iter().filter(|namespace| !listed.contains(namespace));
                changed.extend(
                    gone.filter(|namespace| access.unlabelled(namespace)).map(ControllerEvent::Tenant),
                );
                unsettled.notify_one();
            }
            Event::Apply(namespace) => {
                let news = labelled(&access, &namespace);
                changed.extend(news.clone().map(ControllerEvent::Tenant));
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
                changed.extend(access.unlabelled(&name).then(|| ControllerEvent::Tenant(name.clone())));
                // A namespace that is itself deleted takes the binding with it.
                if !namespace.is_being_deleted() {
                    changed.push(ControllerEvent::Left(name));
                }
            }
        }
        for signal in changed {
            if signals.send(signal).await.is_err() {
                return;
            }
        }
        if synced && signals.send(ControllerEvent::Tenants).await.is_err() {
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
            "ignoring the label {TENANT_LABEL} on a system namespace; remove the label"
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
fn closing(access: &Access, namespace: &Metadata<Namespace>) -> Option<ControllerEvent> {
    let name = namespace.name();
    let news = namespace.is_being_deleted() && access.closing(&name);
    news.then_some(ControllerEvent::Closing(name))
}

/// Keeps the operator bound in tenants' namespaces, from when they were first listed.
async fn keep_bound(
    watches: Arc<WatchPool>,
    access: Arc<Access>,
    signals: ControllerEvents,
    unsettled: Arc<Notify>,
) {
    unsettled.notified().await;
    let settling = async {
        let mut failures = 0;
        loop {
            let settled = reconcile_bindings(&access, &signals).await;
            failures = if settled { 0 } else { failures + 1 };
            tokio::time::sleep(BETWEEN_SETTLEMENTS).await;
            if settled {
                unsettled.notified().await;
            } else {
                let pause = Backoff::API_CALL.after(failures).saturating_sub(BETWEEN_SETTLEMENTS);
                let _ = tokio::time::timeout(pause, unsettled.notified()).await;
            }
        }
    };
    let bindings = watch_bindings(&watches, &access, &unsettled);
    tokio::join!(settling, bindings, watch_role(&watches, &access, &unsettled));
}

/// Whether all is settled that can be.
async fn reconcile_bindings(access: &Access, signals: &ControllerEvents) -> bool {
    match access.settle().await {
        Ok(Settled { left, unbound }) => {
            for namespace in left {
                let _ = signals.send(ControllerEvent::Left(namespace)).await;
            }
            !unbound
        }
        Err(error) => {
            tracing::warn!(%error, "failed to list the operator's RoleBindings, retrying");
            false
        }
    }
}

/// Somebody may delete or change them. So may the garbage collector: with the role, and when the role was made anew.
async fn watch_bindings(watches: &Arc<WatchPool>, access: &Access, unsettled: &Notify) {
    let Some((_, named)) = access.bindings() else { return };
    let mut watch = watches.watch(WatchSource::role_bindings().fields(named));
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
    let mut watch = watches.watch(WatchSource::cluster_roles().fields(named));
    loop {
        if matches!(event_of(&mut watch).await, Event::Apply(_)) {
            unsettled.notify_one();
        }
    }
}

/// Tells when the cluster's own addresses are known, if they are not yet.
pub async fn cluster_addresses(addresses: ClusterAddresses, signals: ControllerEvents) {
    if addresses.gap().is_some() {
        addresses.completed().await;
        let _ = signals.send(ControllerEvent::Fenced).await;
    }
}

/// Watches the metadata of one scope, and tells [`References`] before it tells the controller.
pub async fn watch_scope(
    watches: Arc<WatchPool>,
    access: Arc<Access>,
    scope: WatchScope,
    references: Arc<References>,
    signals: ControllerEvents,
) {
    match scope.kind {
        ReferenceKind::Secret => {
            let watch = watches.watch(WatchSource::secrets_metadata(&access, &scope.namespace));
            follow(watch, scope, &references, signals).await;
        }
        ReferenceKind::ConfigMap => {
            let watch = watches.watch(WatchSource::config_maps_metadata(&access, &scope.namespace));
            follow(watch, scope, &references, signals).await;
        }
    }
}

async fn follow<K: Clone + 'static>(
    mut watch: Watch<Metadata<K>>,
    scope: WatchScope,
    references: &References,
    signals: ControllerEvents,
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
                references.listed(&scope, std::mem::take(&mut listed));
                ControllerEvent::ScopeListed(scope.clone())
            }
            Event::Apply(object) => observed(references, &scope, object.name(), Some(object.into_version())),
            Event::Delete(object) => observed(references, &scope, object.name(), None),
        };
        if signals.send(signal).await.is_err() {
            return;
        }
    }
}

fn observed(
    references: &References,
    scope: &WatchScope,
    name: Arc<str>,
    version: Option<String>,
) -> ControllerEvent {
    let reading = ObservedReference { reference: Reference { scope: scope.clone(), name }, version };
    references.observe(&reading);
    ControllerEvent::Reference(reading)
}
