//! Which registries refer to which Secrets and ConfigMaps, and the watches of these. A watch runs while a registry refers to something in
//! its scope and the operator has access to the namespace.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use registry_verdict::{
    object::RegistryKey,
    resolve::{Reference, ReferenceKind, WatchScope},
};
use tokio::task::AbortHandle;

use super::{
    context::Context,
    watch::{ControllerEvents, watch_scope},
};

/// The scopes to which registries refer.
pub struct WatchedScopes {
    context: Arc<Context>,
    events: ControllerEvents,
    scopes: HashMap<WatchScope, WatchedScope>,
}

/// The registries that refer to each name in a scope, and the watch, if there is one.
#[derive(Default)]
struct WatchedScope {
    registries: HashMap<Arc<str>, HashSet<RegistryKey>>,
    watch: Option<AbortHandle>,
}

impl WatchedScopes {
    /// Returns an index without references. The watches send to `events`.
    pub fn new(context: Arc<Context>, events: ControllerEvents) -> Self {
        Self { context, events, scopes: HashMap::new() }
    }

    /// Adds a reference of a registry, and starts the watch if it is the first in its scope.
    pub fn add(&mut self, reference: &Reference, key: &RegistryKey) {
        let scope = self.scopes.entry(reference.scope.clone()).or_default();
        scope.registries.entry(reference.name.clone()).or_default().insert(key.clone());
        self.update_watch(&reference.scope);
    }

    /// Removes a reference of a registry, and ends the watch if it is the last in its scope.
    pub fn remove(&mut self, reference: &Reference, key: &RegistryKey) {
        let Some(scope) = self.scopes.get_mut(&reference.scope) else {
            return;
        };
        if let Some(keys) = scope.registries.get_mut(&reference.name) {
            keys.remove(key);
            if keys.is_empty() {
                scope.registries.remove(&reference.name);
            }
        }
        if scope.registries.is_empty() {
            self.scopes.remove(&reference.scope);
            self.context.references.unwatched(&reference.scope);
        }
    }

    /// Starts or ends the watches in a namespace that became, or ceased to be, a tenant's.
    pub fn access_changed(&mut self, namespace: &Arc<str>) {
        for kind in [ReferenceKind::Secret, ReferenceKind::ConfigMap] {
            self.update_watch(&WatchScope { kind, namespace: namespace.clone() });
        }
    }

    /// Returns the registries with this reference.
    pub fn registries_with(&self, reference: &Reference) -> Vec<RegistryKey> {
        let scope = self.scopes.get(&reference.scope);
        let keys = scope.and_then(|scope| scope.registries.get(&reference.name));
        keys.into_iter().flatten().cloned().collect()
    }

    /// Returns the references in a scope.
    pub fn references_in(&self, scope: &WatchScope) -> Vec<Reference> {
        let names = self.scopes.get(scope).into_iter().flat_map(|watched| watched.registries.keys());
        names.map(|name| Reference { scope: scope.clone(), name: name.clone() }).collect()
    }

    fn update_watch(&mut self, scope: &WatchScope) {
        let has_access = self.has_access(&scope.namespace);
        let Some(watched) = self.scopes.get_mut(scope) else {
            return;
        };
        if watched.watch.is_none() && has_access {
            watched.watch = Some(start_watch(&self.context, &self.events, scope));
        } else if watched.watch.is_some() && !has_access {
            watched.end_watch();
            self.context.references.unwatched(scope);
        }
    }

    /// Whether the operator has access to Secrets and ConfigMaps: in its own namespace and in those of tenants.
    fn has_access(&self, namespace: &str) -> bool {
        namespace == self.context.system_namespace || self.context.access.tenant(namespace).is_some()
    }
}

impl WatchedScope {
    fn end_watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }
}

impl Drop for WatchedScope {
    fn drop(&mut self) {
        self.end_watch();
    }
}

fn start_watch(context: &Context, events: &ControllerEvents, scope: &WatchScope) -> AbortHandle {
    let (watches, access) = (context.watches.clone(), context.access.clone());
    let watch = watch_scope(watches, access, scope.clone(), context.references.clone(), events.clone());
    tokio::spawn(watch).abort_handle()
}
