//! Counts the state of a registry's pull Secrets, and describes problems in a message. Pure.
//!
//! Everyone can read a SystemRegistry, so its message contains no namespace of a tenant.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use registry_api::TENANT_LABEL;
use registry_verdict::{
    object::{RegistryKey, RegistryScope},
    text::listed_up_to,
};

use super::plan::DeliveryState;
use crate::tenancy::audience::Reach;

/// The state of one registry's Secrets in all namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// The number of existing Secrets.
    pub there: usize,
    foreign: BTreeSet<Arc<str>>,
    /// By namespace, the registry that has the name there.
    yields: BTreeMap<Arc<str>, RegistryKey>,
    stuck: BTreeSet<Arc<str>>,
    contested: BTreeSet<Arc<str>>,
}

/// Why the Secrets of a namespace aren't up to date.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trouble {
    /// Writes there have failed for a while.
    pub stuck: bool,
    /// Another client keeps changing this Secret.
    pub contested: bool,
}

impl Tally {
    /// Adds the state in one namespace.
    pub fn add(&mut self, namespace: &Arc<str>, state: &DeliveryState, trouble: Trouble) {
        match state {
            DeliveryState::There => self.there += 1,
            DeliveryState::Foreign => drop(self.foreign.insert(namespace.clone())),
            DeliveryState::Yields(winner) => drop(self.yields.insert(namespace.clone(), winner.clone())),
            DeliveryState::Away if trouble.stuck && !trouble.contested => {
                self.stuck.insert(namespace.clone());
            }
            DeliveryState::Away => {}
        }
        if trouble.contested && matches!(state, DeliveryState::There | DeliveryState::Away) {
            self.contested.insert(namespace.clone());
        }
    }

    /// Removes the state that was added for a namespace.
    pub fn remove(&mut self, namespace: &str, state: &DeliveryState) {
        match state {
            DeliveryState::There => self.there -= 1,
            DeliveryState::Foreign => drop(self.foreign.remove(namespace)),
            DeliveryState::Yields(_) => drop(self.yields.remove(namespace)),
            DeliveryState::Away => drop(self.stuck.remove(namespace)),
        }
        self.contested.remove(namespace);
    }
}

/// Returns a message about problems; `None` if there are none.
pub fn note(registry: &RegistryKey, secret: Option<&str>, reach: &Reach, tally: &Tally) -> Option<String> {
    let mut notes = Vec::new();
    if registry.scope() == RegistryScope::System && !reach.unknown.is_empty() {
        let names = listed_up_to(reach.unknown.iter().map(|tenant| &**tenant), "or", NAMED);
        notes.push(format!("no namespace has the label {TENANT_LABEL} with the value {names}"));
    }
    if let Some(secret) = secret {
        notes.extend(undelivered(registry, secret, tally));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn undelivered(registry: &RegistryKey, secret: &str, tally: &Tally) -> Vec<String> {
    let places = |names: &BTreeSet<Arc<str>>| (!names.is_empty()).then(|| namespaces(registry, names));
    let foreign = places(&tally.foreign).map(|places| {
        format!(
            "pull Secret {secret} not created in {places}: a Secret with that name exists and is not managed by \
             registry-operator"
        )
    });
    let yields = places(&tally.yields.keys().cloned().collect()).map(|places| {
        format!(
            "pull Secret {secret} not created in {places}: {}",
            precedence(registry, tally.yields.values().next())
        )
    });
    let stuck = places(&tally.stuck).map(|places| {
        format!("pull Secret {secret} not up to date in {places}: failed to write it; see the operator's log")
    });
    let contested = places(&tally.contested).map(|places| {
        format!(
            "pull Secret {secret} is repaired only every few seconds in {places}: another client keeps changing it"
        )
    });
    [foreign, yields, stuck, contested].into_iter().flatten().collect()
}

/// Says why another registry has the name. A SystemRegistry only yields to another SystemRegistry, so its message never
/// names a tenant's registry.
fn precedence(registry: &RegistryKey, winner: Option<&RegistryKey>) -> String {
    let name = winner.map_or_else(|| "another registry".to_owned(), RegistryKey::to_string);
    let why = match (registry.scope(), winner.map(RegistryKey::scope)) {
        (RegistryScope::Tenant, Some(RegistryScope::System)) => ", and system scope takes precedence",
        (RegistryScope::System, _) | (RegistryScope::Tenant, Some(RegistryScope::Tenant) | None) => {
            " and is older"
        }
    };
    format!("{name} has the same spec.availability.pullSecret.name{why}")
}

fn namespaces(registry: &RegistryKey, names: &BTreeSet<Arc<str>>) -> String {
    match (registry.scope(), names.len()) {
        (RegistryScope::System, 1) => "1 namespace".to_owned(),
        (RegistryScope::System, count) => format!("{count} namespaces"),
        (RegistryScope::Tenant, count) => {
            let noun = if count == 1 { "namespace" } else { "namespaces" };
            format!("{noun} {}", listed_up_to(names.iter().map(|name| &**name), "and", NAMED))
        }
    }
}

/// The maximum number of names in a message.
const NAMED: usize = 5;

/// Returns every message that `note` makes, with sample values, for docs/messages.md.
pub fn sample_notes() -> Vec<String> {
    let system = RegistryKey::System { name: "packs".into() };
    let tenant = RegistryKey::Tenant { namespace: "team-a".into(), name: "packs".into() };
    let older = RegistryKey::Tenant { namespace: "team-b".into(), name: "charts".into() };
    let reach = Reach { unknown: vec!["team-x".into()], ..Reach::default() };
    let mut notes = vec![note(&system, None, &reach, &Tally::default())];
    let calm = Trouble::default();
    let stuck = Trouble { stuck: true, contested: false };
    let contested = Trouble { stuck: false, contested: true };
    for (registry, state, trouble) in [
        (&system, DeliveryState::Foreign, calm),
        (&tenant, DeliveryState::Foreign, calm),
        (&tenant, DeliveryState::Yields(system.clone()), calm),
        (&tenant, DeliveryState::Yields(older), calm),
        (&tenant, DeliveryState::Away, stuck),
        (&tenant, DeliveryState::There, contested),
    ] {
        let mut tally = Tally::default();
        tally.add(&"team-a".into(), &state, trouble);
        notes.push(note(registry, Some("packs-pull"), &Reach::default(), &tally));
    }
    notes.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> RegistryKey {
        RegistryKey::System { name: "packs".into() }
    }

    fn tenant() -> RegistryKey {
        RegistryKey::Tenant { namespace: "team-a".into(), name: "packs".into() }
    }

    fn tally_of(state: &DeliveryState, namespaces: usize, trouble: Trouble) -> Tally {
        let mut tally = Tally::default();
        for number in 0..namespaces {
            tally.add(&format!("ns-{number}").into(), state, trouble);
        }
        tally
    }

    fn tally(state: &DeliveryState, namespaces: usize) -> Tally {
        tally_of(state, namespaces, Trouble { stuck: true, contested: false })
    }

    fn says(registry: &RegistryKey, tally: &Tally) -> String {
        note(registry, Some("pull"), &Reach::default(), tally).unwrap_or_default()
    }

    #[test]
    fn note_is_empty_if_all_is_well() {
        let tally = tally(&DeliveryState::There, 3);
        assert_eq!(says(&system(), &tally), "");
        assert_eq!(tally.there, 3);
    }

    #[test]
    fn names_tenants_without_namespace() {
        let reach = Reach { unknown: vec!["nobody".into(), "none".into()], ..Reach::default() };
        assert_eq!(
            note(&system(), None, &reach, &Tally::default()).unwrap(),
            "no namespace has the label registry.spectrocloud.com/tenant with the value nobody or none"
        );
    }

    #[test]
    fn names_no_tenants_namespace_to_everyone() {
        assert_eq!(
            says(&system(), &tally(&DeliveryState::Foreign, 2)),
            "pull Secret pull not created in 2 namespaces: a Secret with that name exists and is not managed by \
             registry-operator"
        );
    }

    #[test]
    fn names_a_tenants_own_namespaces_to_it() {
        let state = DeliveryState::Yields(system());
        let why = "SystemRegistry packs has the same spec.availability.pullSecret.name, and system scope takes \
                   precedence";
        for (namespaces, names) in [
            (1, "namespace ns-0"),
            (2, "namespaces ns-0 and ns-1"),
            (3, "namespaces ns-0, ns-1 and ns-2"),
            (7, "namespaces ns-0, ns-1, ns-2, ns-3, ns-4 and 2 more"),
        ] {
            let said = says(&tenant(), &tally(&state, namespaces));
            assert_eq!(said, format!("pull Secret pull not created in {names}: {why}"));
        }
    }

    #[test]
    fn names_the_older_registry() {
        let older = RegistryKey::Tenant { namespace: "team-b".into(), name: "charts".into() };
        let said = says(&tenant(), &tally(&DeliveryState::Yields(older), 1));
        assert!(
            said.ends_with(
                ": TenantRegistry team-b/charts has the same spec.availability.pullSecret.name and is older"
            ),
            "{said}"
        );
    }

    #[test]
    fn reports_failed_write() {
        let said = says(&tenant(), &tally(&DeliveryState::Away, 1));
        assert_eq!(
            said,
            "pull Secret pull not up to date in namespace ns-0: failed to write it; see the operator's log"
        );
    }

    #[test]
    fn reports_contested_secret() {
        let contested = Trouble { stuck: true, contested: true };
        for state in [DeliveryState::There, DeliveryState::Away] {
            let said = says(&tenant(), &tally_of(&state, 1, contested));
            assert_eq!(
                said,
                "pull Secret pull is repaired only every few seconds in namespace ns-0: another client keeps changing it"
            );
        }
    }
}
