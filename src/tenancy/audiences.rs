//! An index of the registries that are available to a tenant, so that an event in a namespace only costs what it
//! affects. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use registry_verdict::object::RegistryKey;

use super::audience::Audience;

/// Registries by the tenants that can use them.
#[derive(Debug, Default)]
pub struct Audiences {
    everyone: HashSet<RegistryKey>,
    /// The registries that list this tenant.
    listed: HashMap<Arc<str>, HashSet<RegistryKey>>,
    /// The TenantRegistries in this namespace.
    own: HashMap<Arc<str>, HashSet<RegistryKey>>,
}

impl Audiences {
    /// Adds a registry with that audience.
    pub fn insert(&mut self, key: &RegistryKey, audience: &Audience) {
        match audience {
            Audience::All => drop(self.everyone.insert(key.clone())),
            Audience::Listed(tenants) => {
                for tenant in tenants.iter() {
                    self.listed.entry(tenant.clone()).or_default().insert(key.clone());
                }
            }
            Audience::TenantOf(namespace) => {
                self.own.entry(namespace.clone()).or_default().insert(key.clone());
            }
        }
    }

    /// Removes a registry with that audience.
    pub fn remove(&mut self, key: &RegistryKey, audience: &Audience) {
        match audience {
            Audience::All => drop(self.everyone.remove(key)),
            Audience::Listed(tenants) => {
                tenants.iter().for_each(|tenant| remove(&mut self.listed, tenant, key));
            }
            Audience::TenantOf(namespace) => remove(&mut self.own, namespace, key),
        }
    }

    /// Returns the TenantRegistries in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &RegistryKey> {
        self.own.get(namespace).into_iter().flatten()
    }

    /// Returns the registries that are available to a tenant with these namespaces.
    pub fn of_tenant<'a>(
        &'a self,
        tenant: &str,
        namespaces: impl Iterator<Item = &'a Arc<str>>,
    ) -> impl Iterator<Item = &'a RegistryKey> {
        let listed = self.listed.get(tenant).into_iter().flatten();
        let own = namespaces.flat_map(|namespace| self.in_namespace(namespace));
        self.everyone.iter().chain(listed).chain(own)
    }
}

/// Removes a member from a set, and the set if it is empty then.
pub(crate) fn remove<M: std::hash::Hash + Eq>(
    sets: &mut HashMap<Arc<str>, HashSet<M>>,
    name: &str,
    member: &M,
) {
    if let Some(set) = sets.get_mut(name) {
        set.remove(member);
        if set.is_empty() {
            sets.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(name: &str) -> RegistryKey {
        RegistryKey::System { name: name.into() }
    }

    fn tenant(namespace: &str) -> RegistryKey {
        RegistryKey::Tenant { namespace: namespace.into(), name: "packs".into() }
    }

    fn reached(audiences: &Audiences, tenant: &str, namespaces: &[&str]) -> HashSet<RegistryKey> {
        let namespaces: Vec<Arc<str>> = namespaces.iter().map(|name| Arc::from(*name)).collect();
        audiences.of_tenant(tenant, namespaces.iter()).cloned().collect()
    }

    fn listed(tenants: &[&str]) -> Audience {
        Audience::Listed(Arc::new(tenants.iter().map(|tenant| Arc::from(*tenant)).collect()))
    }

    #[test]
    fn finds_the_registries_of_a_tenant() {
        let mut audiences = Audiences::default();
        audiences.insert(&system("all"), &Audience::All);
        audiences.insert(&system("some"), &listed(&["a", "b"]));
        audiences.insert(&tenant("a-1"), &Audience::TenantOf("a-1".into()));
        audiences.insert(&tenant("b-1"), &Audience::TenantOf("b-1".into()));
        let of_a = [system("all"), system("some"), tenant("a-1")];
        assert_eq!(reached(&audiences, "a", &["a-1", "a-2"]), of_a.into());
        assert_eq!(reached(&audiences, "c", &["c-1"]), [system("all")].into());
        assert_eq!(audiences.in_namespace("b-1").collect::<Vec<_>>(), [&tenant("b-1")]);
    }

    #[test]
    fn removes_all_entries() {
        let mut audiences = Audiences::default();
        for audience in [Audience::All, listed(&["a", "b"]), Audience::TenantOf("a-1".into())] {
            audiences.insert(&system("one"), &audience);
            audiences.remove(&system("one"), &audience);
        }
        assert!(audiences.everyone.is_empty() && audiences.listed.is_empty() && audiences.own.is_empty());
    }
}
