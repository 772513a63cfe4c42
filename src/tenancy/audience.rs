//! Which tenants can use a registry. Pure.
//!
//! Owns how `spec.availability` is interpreted in each scope, and how tenants and namespaces are counted.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use registry_verdict::object::{RegistryKey, RegistryObject};

/// The tenants that can use a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Audience {
    /// All tenants.
    All,
    /// The tenants with these names.
    Listed(Arc<BTreeSet<Arc<str>>>),
    /// The tenant of this namespace, which is the registry's own.
    TenantOf(Arc<str>),
}

impl Audience {
    /// Returns the audience that the spec defines. A TenantRegistry's audience is always its own tenant.
    pub fn of(object: &RegistryObject) -> Self {
        if let RegistryKey::Tenant { namespace, .. } = &object.key {
            return Self::TenantOf(namespace.clone());
        }
        let tenants =
            object.spec.availability.as_ref().and_then(|availability| availability.tenants.as_ref());
        tenants.map_or(Self::All, |tenants| {
            Self::Listed(Arc::new(tenants.iter().map(|tenant| tenant.as_str().into()).collect()))
        })
    }
}

/// Which tenant each namespace belongs to. A namespace that is being deleted belongs to no tenant.
#[derive(Debug, Default)]
pub struct TenantIndex {
    tenants: HashMap<Arc<str>, Arc<str>>,
    namespaces: HashMap<Arc<str>, HashSet<Arc<str>>>,
}

/// How many tenants and namespaces can use a registry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reach {
    /// The number of tenants.
    pub tenants: usize,
    /// The number of their namespaces.
    pub namespaces: usize,
    /// Tenants that the spec lists and that have no namespace.
    pub unknown: Vec<Arc<str>>,
}

impl TenantIndex {
    /// Records that a namespace belongs to a tenant.
    pub fn insert(&mut self, namespace: Arc<str>, tenant: Arc<str>) {
        self.remove(&namespace);
        self.namespaces.entry(tenant.clone()).or_default().insert(namespace.clone());
        self.tenants.insert(namespace, tenant);
    }

    /// Records that a namespace belongs to no tenant.
    pub fn remove(&mut self, namespace: &str) {
        let Some(tenant) = self.tenants.remove(namespace) else { return };
        if let Some(namespaces) = self.namespaces.get_mut(&tenant) {
            namespaces.remove(namespace);
            if namespaces.is_empty() {
                self.namespaces.remove(&tenant);
            }
        }
    }

    /// Returns the namespaces of a tenant.
    pub fn namespaces_of(&self, tenant: &str) -> impl Iterator<Item = &Arc<str>> {
        self.namespaces.get(tenant).into_iter().flatten()
    }

    /// Returns the tenant of a namespace.
    pub fn tenant(&self, namespace: &str) -> Option<&Arc<str>> {
        self.tenants.get(namespace)
    }

    /// Counts the tenants and namespaces of an audience.
    pub fn reach(&self, audience: &Audience) -> Reach {
        match audience {
            Audience::All => {
                Reach { tenants: self.namespaces.len(), namespaces: self.tenants.len(), unknown: Vec::new() }
            }
            Audience::Listed(tenants) => self.reach_of(tenants.iter()),
            Audience::TenantOf(namespace) => self.reach_of(self.tenant(namespace).into_iter()),
        }
    }

    fn reach_of<'a>(&self, tenants: impl Iterator<Item = &'a Arc<str>>) -> Reach {
        let mut reach = Reach::default();
        for tenant in tenants {
            match self.namespaces.get(tenant) {
                Some(namespaces) => {
                    reach.tenants += 1;
                    reach.namespaces += namespaces.len();
                }
                None => reach.unknown.push(tenant.clone()),
            }
        }
        reach
    }

    /// Returns whether the audience includes `tenant`.
    pub fn reaches(&self, audience: &Audience, tenant: &Arc<str>) -> bool {
        match audience {
            Audience::All => true,
            Audience::Listed(tenants) => tenants.contains(tenant),
            Audience::TenantOf(namespace) => self.tenant(namespace) == Some(tenant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> TenantIndex {
        let mut index = TenantIndex::default();
        for (namespace, tenant) in [("a-1", "a"), ("a-2", "a"), ("b-1", "b")] {
            index.insert(namespace.into(), tenant.into());
        }
        index
    }

    fn listed(tenants: &[&str]) -> Audience {
        Audience::Listed(Arc::new(tenants.iter().map(|tenant| Arc::from(*tenant)).collect()))
    }

    #[test]
    fn counts_every_tenant_with_a_namespace() {
        let reach = index().reach(&Audience::All);
        assert_eq!((reach.tenants, reach.namespaces, reach.unknown.len()), (2, 3, 0));
    }

    #[test]
    fn named_tenant_without_namespace_is_unknown() {
        let reach = index().reach(&listed(&["a", "nobody"]));
        assert_eq!((reach.tenants, reach.namespaces), (1, 2));
        assert_eq!(reach.unknown, [Arc::from("nobody")]);
    }

    #[test]
    fn tenant_registry_reaches_own_tenant_only() {
        let (index, audience) = (index(), Audience::TenantOf("a-2".into()));
        assert_eq!(index.reach(&audience).namespaces, 2);
        assert!(index.reaches(&audience, &"a".into()));
        assert!(!index.reaches(&audience, &"b".into()));
    }

    #[test]
    fn registry_without_tenant_reaches_no_tenant() {
        let (index, audience) = (index(), Audience::TenantOf("c-1".into()));
        assert_eq!(index.reach(&audience), Reach::default());
        assert!(!index.reaches(&audience, &"a".into()));
    }

    #[test]
    fn counts_moved_namespace_once() {
        let mut index = index();
        index.insert("a-1".into(), "b".into());
        index.remove("b-1");
        let reach = index.reach(&Audience::All);
        assert_eq!((reach.tenants, reach.namespaces), (2, 2));
        index.remove("a-1");
        assert_eq!(index.reach(&Audience::All).tenants, 1);
    }
}
