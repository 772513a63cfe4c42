//! The quota of registries that are validated for each tenant: the oldest ones, up to a limit. Pure.
//!
//! Admission policies can't count, so this limits what one tenant costs: of a registry beyond the quota, the operator keeps nothing
//! long, resolves no reference, and contacts no server.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use registry_verdict::object::RegistryKey;

/// The registries of each tenant, within its quota and beyond.
#[derive(Debug)]
pub struct Quota {
    most: usize,
    tenants: HashMap<Arc<str>, Share>,
    placed: HashMap<RegistryKey, (Arc<str>, QuotaRank)>,
}

/// The rank of a registry: older ones first, then by name.
type QuotaRank = (Option<Timestamp>, Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Share {
    within: BTreeSet<QuotaRank>,
    beyond: BTreeSet<QuotaRank>,
}

impl Quota {
    /// Returns a quota of `most` registries for each tenant.
    pub fn new(most: usize) -> Self {
        Self { most, tenants: HashMap::new(), placed: HashMap::new() }
    }

    /// Returns the limit.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether a registry is beyond its tenant's quota.
    pub fn is_beyond(&self, key: &RegistryKey) -> bool {
        self.placed
            .get(key)
            .and_then(|(tenant, place)| Some(self.tenants.get(tenant)?.beyond.contains(place)))
            .unwrap_or(false)
    }

    /// Adds or moves a registry, whose namespace belongs to `tenant`. Returns the other registries that this moves across the limit.
    pub fn observe(
        &mut self,
        key: &RegistryKey,
        created: Option<Timestamp>,
        tenant: Option<Arc<str>>,
    ) -> Vec<RegistryKey> {
        let RegistryKey::Tenant { namespace, name } = key else { return Vec::new() };
        let place = (created, namespace.clone(), name.clone());
        let known = self.placed.get(key);
        if known.is_some_and(|(known, at)| Some(known) == tenant.as_ref() && *at == place) {
            return Vec::new();
        }
        let mut changed = self.forget(key);
        let Some(tenant) = tenant else { return changed };
        self.placed.insert(key.clone(), (tenant.clone(), place.clone()));
        let share = self.tenants.entry(tenant).or_default();
        share.within.insert(place);
        if share.within.len() > self.most
            && let Some(newest) = share.within.pop_last()
        {
            changed.push(key_of(&newest));
            share.beyond.insert(newest);
        }
        changed.retain(|other| other != key);
        changed
    }

    /// Removes a registry. Returns those that are within the quota now.
    pub fn forget(&mut self, key: &RegistryKey) -> Vec<RegistryKey> {
        let Some((tenant, place)) = self.placed.remove(key) else { return Vec::new() };
        let Some(share) = self.tenants.get_mut(&tenant) else { return Vec::new() };
        let mut promoted = Vec::new();
        if !share.beyond.remove(&place)
            && share.within.remove(&place)
            && let Some(oldest) = share.beyond.pop_first()
        {
            promoted.push(key_of(&oldest));
            share.within.insert(oldest);
        }
        if share.within.is_empty() {
            self.tenants.remove(&tenant);
        }
        promoted
    }
}

fn key_of((_, namespace, name): &QuotaRank) -> RegistryKey {
    RegistryKey::Tenant { namespace: namespace.clone(), name: name.clone() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: u8) -> RegistryKey {
        RegistryKey::Tenant { namespace: "team".into(), name: format!("r{name:03}").into() }
    }

    fn at(second: u8) -> Option<Timestamp> {
        Timestamp::from_second(second.into()).ok()
    }

    #[test]
    fn newest_registries_are_beyond_the_quota() {
        let mut quota = Quota::new(2);
        let tenant = || Some(Arc::from("a"));
        for name in [3, 2] {
            assert_eq!(quota.observe(&key(name), at(name), tenant()), []);
        }
        assert_eq!(quota.observe(&key(1), at(1), tenant()), [key(3)], "an older one was listed later");
        assert!(quota.is_beyond(&key(3)) && !quota.is_beyond(&key(1)));
        assert_eq!(quota.observe(&key(4), at(4), tenant()), []);
        assert!(quota.is_beyond(&key(4)));
        assert_eq!(quota.observe(&key(5), at(1), Some("b".into())), [], "another tenant has its own");
        assert_eq!(quota.forget(&key(4)), []);
        assert_eq!(quota.forget(&key(1)), [key(3)]);
        assert_eq!(quota.observe(&key(2), at(2), None), [], "its namespace is no tenant's any more");
        assert!(!quota.is_beyond(&key(2)));
    }

    #[test]
    fn quota_ignores_system_scope() {
        let mut quota = Quota::new(0);
        let system = RegistryKey::System { name: "packs".into() };
        assert_eq!(quota.observe(&system, at(1), None), []);
        assert!(!quota.is_beyond(&system));
    }

    proptest! {
        /// Whatever comes and goes, in whichever order: the oldest are within, and every change is told.
        #[test]
        fn oldest_registries_are_within_the_quota(steps in prop::collection::vec((0..12u8, any::<bool>()), 0..60)) {
            let mut quota = Quota::new(3);
            let mut there: BTreeSet<u8> = BTreeSet::new();
            let mut beyond: BTreeSet<u8> = BTreeSet::new();
            for (name, comes) in steps {
                let changed = if comes {
                    there.insert(name);
                    quota.observe(&key(name), at(name), Some("a".into()))
                } else {
                    there.remove(&name);
                    quota.forget(&key(name))
                };
                let now: BTreeSet<u8> = there.iter().skip(3).copied().collect();
                for other in there.iter().filter(|other| **other != name) {
                    prop_assert_eq!(quota.is_beyond(&key(*other)), now.contains(other));
                    if now.contains(other) != beyond.contains(other) {
                        prop_assert!(changed.contains(&key(*other)));
                    }
                }
                beyond = now;
            }
        }
    }
}
