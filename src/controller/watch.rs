//! The watches of registries and of what they refer to. Each sends [`ControllerEvent`]s to the controller, and begins with everything
//! that exists. Decides nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use kube::{Resource, core::DeserializeGuard, runtime::watcher::Event};
use registry_api::spec::{Registry, Scope as ApiScope};
use registry_verdict::{
    cluster_addresses::ClusterAddresses,
    object::{RegistryKey, RegistryObject, RegistryScope},
    resolve::{ObservedReference, Reference, ReferenceKind, WatchScope},
};
use tokio::sync::mpsc;

use crate::{
    controller::references::References,
    kubernetes::watches::{Metadata, Watch, WatchPool, WatchSource, Watched},
    pull_secrets::PullSecretChange,
    tenancy::access::Access,
};

/// What the controller of registries is told.
#[derive(Debug)]
pub enum ControllerEvent {
    /// A registry exists, in this state.
    Observed(Box<RegistryObject>),
    /// A registry exists, but only its metadata can be read.
    Unreadable(Box<RegistryObject>),
    /// A registry no longer exists.
    Gone(RegistryKey),
    /// All registries of a scope were listed.
    Listed(RegistryScope, HashSet<RegistryKey>),
    /// A Secret or ConfigMap has another version, or is gone.
    Reference(ObservedReference),
    /// All Secrets or ConfigMaps of a namespace were listed.
    ScopeListed(WatchScope),
    /// A namespace became, or ceased to be, a tenant's.
    TenantChanged(Arc<str>),
    /// A tenant's namespace is being deleted.
    Terminating(Arc<str>),
    /// A namespace in which the operator still has a RoleBinding is no tenant's any more.
    Left(Arc<str>),
    /// All namespaces of tenants were listed.
    TenantsListed,
    /// The cluster's own addresses, which tenants may not connect to, are known now.
    AddressesKnown,
    /// Pull Secrets changed.
    PullSecrets(PullSecretChange),
}

/// The channel to the controller. A watch ends when the controller does.
pub type ControllerEvents = mpsc::Sender<ControllerEvent>;

/// Watches all registries of one scope.
pub async fn registries<S: ApiScope>(
    watches: Arc<WatchPool>,
    scope: RegistryScope,
    events: ControllerEvents,
) {
    let mut listed = HashSet::new();
    let mut watch = watches.watch(WatchSource::<DeserializeGuard<Registry<S>>>::registries());
    loop {
        let event = match event_of(&mut watch).await {
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
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Returns the next event of a watch. After a failure, the watch starts again by itself.
pub(super) async fn event_of<T: Watched>(watch: &mut Watch<T>) -> Event<T> {
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

/// Returns the event for an object. One that can't be read must not stop the others.
fn event_for<S: ApiScope>(object: DeserializeGuard<Registry<S>>) -> ControllerEvent {
    match object.0 {
        Ok(registry) => ControllerEvent::Observed(Box::new(RegistryObject::of(registry).trimmed())),
        Err(error) => {
            let object = RegistryObject::of_metadata::<S>(error.metadata);
            tracing::error!(registry = %object.key, error = error.error, "failed to parse the object; it is \
                not validated");
            ControllerEvent::Unreadable(Box::new(object))
        }
    }
}

/// Reports when the cluster's own addresses are known, unless they are already.
pub async fn cluster_addresses(addresses: ClusterAddresses, events: ControllerEvents) {
    if addresses.gap().is_some() {
        addresses.completed().await;
        let _ = events.send(ControllerEvent::AddressesKnown).await;
    }
}

/// Watches the metadata in one scope. [`References`] learns of a change before the controller does.
pub async fn watch_scope(
    watches: Arc<WatchPool>,
    access: Arc<Access>,
    scope: WatchScope,
    references: Arc<References>,
    events: ControllerEvents,
) {
    match scope.kind {
        ReferenceKind::Secret => {
            let watch = watches.watch(WatchSource::secrets_metadata(&access, &scope.namespace));
            follow(watch, scope, &references, events).await;
        }
        ReferenceKind::ConfigMap => {
            let watch = watches.watch(WatchSource::config_maps_metadata(&access, &scope.namespace));
            follow(watch, scope, &references, events).await;
        }
    }
}

async fn follow<K: Clone + 'static>(
    mut watch: Watch<Metadata<K>>,
    scope: WatchScope,
    references: &References,
    events: ControllerEvents,
) {
    let mut listed = HashMap::new();
    loop {
        let event = match event_of(&mut watch).await {
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
        if events.send(event).await.is_err() {
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
    let observed = ObservedReference { reference: Reference { scope: scope.clone(), name }, version };
    references.observe(&observed);
    ControllerEvent::Reference(observed)
}
