//! The registries by the tenants that they are available to, and by their references: a change in a namespace costs what it touches.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use registry_verdict::{
    object::{RegistryKey, RegistryObject},
    resolve::{Reference, policy_reference, references},
};

use super::{context::Context, watch::ControllerEvents, watched_scopes::WatchedScopes};
use crate::tenancy::{audience::Audience, audiences::Audiences};

/// The indexes of registries.
pub struct RegistryIndex {
    context: Arc<Context>,
    audiences: Audiences,
    /// The tenant of each namespace, when it was last looked at.
    tenants: HashMap<Arc<str>, Arc<str>>,
    /// The registries by their references.
    pub scopes: WatchedScopes,
}

impl RegistryIndex {
    /// Returns an index without registries. The watches of references send to `events`.
    pub fn new(context: Arc<Context>, events: ControllerEvents) -> Self {
        let scopes = WatchedScopes::new(context.clone(), events);
        Self { context, audiences: Audiences::default(), tenants: HashMap::new(), scopes }
    }

    /// Replaces a registry in its state `before` by its state `after`.
    pub fn update(
        &mut self,
        key: &RegistryKey,
        before: Option<&RegistryObject>,
        after: Option<&RegistryObject>,
    ) {
        if let Some(object) = before {
            self.audiences.remove(key, &Audience::of(object));
        }
        if let Some(object) = after {
            self.audiences.insert(key, &Audience::of(object));
        }
        let references = |object: Option<&RegistryObject>| {
            object.map(|object| self.references_of(object)).unwrap_or_default()
        };
        let (before, after) = (references(before), references(after));
        for reference in after.difference(&before) {
            self.scopes.add(reference, key);
        }
        for reference in before.difference(&after) {
            self.scopes.remove(reference, key);
        }
    }

    fn references_of(&self, object: &RegistryObject) -> HashSet<Reference> {
        let system_namespace = &self.context.system_namespace;
        let namespace = object.key.references_namespace(system_namespace);
        let policy = policy_reference(&object.key, &object.spec, system_namespace);
        references(&object.spec, namespace).into_iter().chain(policy).collect()
    }

    /// Returns the TenantRegistries in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<RegistryKey> {
        self.audiences.in_namespace(namespace).cloned().collect()
    }

    /// Looks up the tenant of a namespace that changed. Returns the registries in it, and those that are available to its tenant
    /// now or before.
    pub fn tenant_changed(&mut self, namespace: &Arc<str>) -> HashSet<RegistryKey> {
        let access = &self.context.access;
        let after = access.open_tenant(namespace);
        let before = match &after {
            Some(tenant) => self.tenants.insert(namespace.clone(), tenant.clone()),
            None => self.tenants.remove(namespace),
        };
        let mut keys: HashSet<RegistryKey> = self.audiences.in_namespace(namespace).cloned().collect();
        for tenant in before.iter().chain(&after) {
            access.with_tenant_index(|index| {
                keys.extend(self.audiences.of_tenant(tenant, index.namespaces_of(tenant)).cloned());
            });
        }
        self.scopes.access_changed(namespace);
        keys
    }
}
