//! All namespaces of tenants, with indexes that are updated when one of them changes: where a registry's Secrets are,
//! which namespaces haven't been listed yet, and the state of each registry's Secrets. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use registry_verdict::object::RegistryKey;

use super::{
    namespace_state::NamespaceState,
    note::{Tally, Trouble},
    plan::DeliveryState,
    spec::DeliveryRequest,
};
use crate::tenancy::audiences::remove;

/// The registries that want pull Secrets.
pub type DeliveryRequests = HashMap<RegistryKey, DeliveryRequest>;

/// The namespaces by name. After changing one, call [`NamespaceStates::changed`].
#[derive(Default)]
pub struct NamespaceStates {
    all: HashMap<Arc<str>, NamespaceState>,
    counted: HashMap<Arc<str>, Counted>,
    by_tenant: HashMap<Arc<str>, HashSet<Arc<str>>>,
    by_registry: HashMap<Arc<str>, HashSet<Arc<str>>>,
    pending: HashSet<Arc<str>>,
    tallies: HashMap<RegistryKey, Tally>,
    /// The number of existing Secrets.
    there: usize,
    unreported: HashSet<RegistryKey>,
}

/// What the indexes contain about one namespace.
#[derive(Default, PartialEq)]
struct Counted {
    tenant: Option<Arc<str>>,
    registries: HashSet<Arc<str>>,
    pending: bool,
    states: Vec<(RegistryKey, DeliveryState, Trouble)>,
}

impl Counted {
    fn of(namespace: &NamespaceState, requests: &DeliveryRequests) -> Self {
        let trouble = |key: &RegistryKey| {
            namespace.trouble(requests.get(key).and_then(|request| request.spec.name.as_ref()))
        };
        let counted =
            |(key, state): &(RegistryKey, DeliveryState)| (key.clone(), state.clone(), trouble(key));
        let own = namespace.observed.iter().flat_map(|observed| observed.own.values());
        Self {
            tenant: namespace.tenant().cloned(),
            registries: own.map(|found| found.registry.clone()).collect(),
            pending: namespace.is_pending(),
            states: namespace.states.iter().map(counted).collect(),
        }
    }
}

impl NamespaceStates {
    /// Returns a namespace.
    pub fn get(&self, name: &str) -> Option<&NamespaceState> {
        self.all.get(name)
    }

    /// Returns a namespace that can be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut NamespaceState> {
        self.all.get_mut(name)
    }

    /// Adds a namespace, or replaces its state.
    pub fn insert(&mut self, name: &Arc<str>, namespace: NamespaceState, requests: &DeliveryRequests) {
        self.all.insert(name.clone(), namespace);
        self.changed(name, requests);
    }

    /// Removes a namespace.
    pub fn remove(&mut self, name: &Arc<str>, requests: &DeliveryRequests) {
        self.all.remove(name);
        self.changed(name, requests);
    }

    /// Updates the indexes after a change in that namespace.
    pub fn changed(&mut self, name: &Arc<str>, requests: &DeliveryRequests) {
        let now = self.all.get(name).map(|namespace| Counted::of(namespace, requests)).unwrap_or_default();
        let before = self.counted.remove(name).unwrap_or_default();
        if now != before {
            self.discount(name, &before);
            self.count(name, &now);
        }
        if self.all.contains_key(name) {
            self.counted.insert(name.clone(), now);
        }
    }

    /// Returns the namespaces of a tenant.
    pub fn of_tenant(&self, tenant: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_tenant.get(tenant).into_iter().flatten()
    }

    /// Returns the namespaces of all tenants.
    pub fn of_tenants(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_tenant.values().flatten()
    }

    /// Returns the namespaces with a Secret of the registry with that uid.
    pub fn with_secret_of(&self, uid: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_registry.get(uid).into_iter().flatten()
    }

    /// Returns whether that registry certainly has no Secret in any namespace.
    pub fn is_without(&self, uid: &str) -> bool {
        self.pending.is_empty() && !self.by_registry.contains_key(uid)
    }

    /// Returns the number of existing Secrets.
    pub fn there(&self) -> usize {
        self.there
    }

    /// Returns the registries that changed since the last call, with the state of their Secrets.
    pub fn take_unreported(&mut self) -> Vec<(RegistryKey, Tally)> {
        let tally = |key: RegistryKey| {
            let tally = self.tallies.get(&key).cloned().unwrap_or_default();
            (key, tally)
        };
        self.unreported.drain().map(tally).collect()
    }

    /// Marks registries as changed, because they could not be reported.
    pub fn mark_unreported(&mut self, keys: impl IntoIterator<Item = RegistryKey>) {
        self.unreported.extend(keys);
    }

    fn count(&mut self, name: &Arc<str>, counted: &Counted) {
        if let Some(tenant) = &counted.tenant {
            self.by_tenant.entry(tenant.clone()).or_default().insert(name.clone());
        }
        for registry in &counted.registries {
            self.by_registry.entry(registry.clone()).or_default().insert(name.clone());
        }
        if counted.pending {
            self.pending.insert(name.clone());
        }
        for (key, state, trouble) in &counted.states {
            let tally = self.tallies.entry(key.clone()).or_default();
            let before = tally.there;
            tally.add(name, state, *trouble);
            self.there += tally.there - before;
            self.unreported.insert(key.clone());
        }
    }

    fn discount(&mut self, name: &Arc<str>, counted: &Counted) {
        if let Some(tenant) = &counted.tenant {
            remove(&mut self.by_tenant, tenant, name);
        }
        for registry in &counted.registries {
            remove(&mut self.by_registry, registry, name);
        }
        self.pending.remove(name);
        for (key, state, _) in &counted.states {
            let Some(tally) = self.tallies.get_mut(key) else { continue };
            let before = tally.there;
            tally.remove(name, state);
            self.there -= before - tally.there;
            if *tally == Tally::default() {
                self.tallies.remove(key);
            }
            self.unreported.insert(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull_secrets::{
        namespace_state::Ownership,
        plan::ObservedSecrets,
        secret::{FoundSecret, SecretVersion},
    };

    fn system(name: &str) -> RegistryKey {
        RegistryKey::System { name: name.into() }
    }

    fn namespace(tenant: &str, uid: &str) -> NamespaceState {
        let version = SecretVersion { uid: "secret".into(), resource_version: "7".into() };
        let mut namespace = NamespaceState::new(Ownership::To(tenant.into()));
        namespace.observed = Some(ObservedSecrets {
            own: [("pull".into(), FoundSecret::example(uid, version))].into(),
            ..ObservedSecrets::default()
        });
        namespace.states =
            vec![(system("packs"), DeliveryState::There), (system("charts"), DeliveryState::Foreign)];
        namespace
    }

    #[test]
    fn request_to_all_reaches_each_namespace() {
        let (mut namespaces, none) = (NamespaceStates::default(), DeliveryRequests::new());
        namespaces.insert(&"a-1".into(), namespace("a", "uid-1"), &none);
        namespaces.insert(&"a-2".into(), namespace("a", "uid-1"), &none);
        namespaces.insert(&"b-1".into(), NamespaceState::new(Ownership::To("b".into())), &none);
        assert_eq!((namespaces.of_tenant("a").count(), namespaces.of_tenants().count()), (2, 3));
        assert_eq!((namespaces.with_secret_of("uid-1").count(), namespaces.there()), (2, 2));
        assert!(!namespaces.is_without("uid-2"), "b-1 was not looked at yet");
        namespaces.remove(&"b-1".into(), &none);
        assert!(namespaces.is_without("uid-2") && !namespaces.is_without("uid-1"));
        let told: HashMap<RegistryKey, Tally> = namespaces.take_unreported().into_iter().collect();
        assert_eq!((told.len(), told[&system("packs")].there), (2, 2));
        namespaces.changed(&"a-1".into(), &none);
        assert!(namespaces.take_unreported().is_empty(), "nothing has changed");
    }

    #[test]
    fn removes_all_entries() {
        let (mut namespaces, none) = (NamespaceStates::default(), DeliveryRequests::new());
        for number in 0..3 {
            namespaces.insert(&format!("a-{number}").into(), namespace("a", "uid-1"), &none);
        }
        for number in 0..3 {
            namespaces.remove(&format!("a-{number}").into(), &none);
        }
        assert_eq!(namespaces.there(), 0);
        assert!(
            namespaces.is_without("uid-1") && namespaces.tallies.is_empty() && namespaces.counted.is_empty()
        );
        assert!(
            namespaces.by_tenant.is_empty()
                && namespaces.by_registry.is_empty()
                && namespaces.pending.is_empty()
        );
        assert!(namespaces.take_unreported().iter().all(|(_, tally)| *tally == Tally::default()));
    }
}
