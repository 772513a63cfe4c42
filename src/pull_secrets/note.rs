//! How the delivery of a registry's pull Secrets stands, and the sentence that says so. Pure.
//!
//! A SystemRegistry is read by everyone: its sentence names no namespace of a tenant.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use registry_api::TENANT_LABEL;
use registry_verdict::{
    object::{Key, Scope},
    text::listed_up_to,
};

use super::plan::Standing;
use crate::tenancy::audience::Reach;

/// How the wishes of one registry stand, over all namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Secrets that are there.
    pub there: usize,
    foreign: BTreeSet<Arc<str>>,
    /// Each with the registry that has the name there.
    yields: BTreeMap<Arc<str>, Key>,
    stuck: BTreeSet<Arc<str>>,
    contested: BTreeSet<Arc<str>>,
}

/// What keeps the Secrets of a namespace from being as they should.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trouble {
    /// Writes there have failed for a while.
    pub stuck: bool,
    /// Another client keeps undoing what the operator writes to this Secret.
    pub contested: bool,
}

impl Tally {
    /// Counts one namespace in.
    pub fn add(&mut self, namespace: &Arc<str>, standing: &Standing, trouble: Trouble) {
        match standing {
            Standing::There => self.there += 1,
            Standing::Foreign => drop(self.foreign.insert(namespace.clone())),
            Standing::Yields(winner) => drop(self.yields.insert(namespace.clone(), winner.clone())),
            Standing::Away if trouble.stuck && !trouble.contested => {
                self.stuck.insert(namespace.clone());
            }
            Standing::Away => {}
        }
        if trouble.contested && matches!(standing, Standing::There | Standing::Away) {
            self.contested.insert(namespace.clone());
        }
    }

    /// Takes a namespace out that was counted in with that standing.
    pub fn remove(&mut self, namespace: &str, standing: &Standing) {
        match standing {
            Standing::There => self.there -= 1,
            Standing::Foreign => drop(self.foreign.remove(namespace)),
            Standing::Yields(_) => drop(self.yields.remove(namespace)),
            Standing::Away => drop(self.stuck.remove(namespace)),
        }
        self.contested.remove(namespace);
    }
}

/// What somebody should know; none if all is well.
pub fn note(registry: &Key, secret: Option<&str>, reach: &Reach, tally: &Tally) -> Option<String> {
    let mut notes = Vec::new();
    if registry.scope() == Scope::System && !reach.unknown.is_empty() {
        let names = listed_up_to(reach.unknown.iter().map(|tenant| &**tenant), "or", NAMED);
        notes.push(format!("no namespace has the label {TENANT_LABEL} with the value {names}"));
    }
    if let Some(secret) = secret {
        notes.extend(undelivered(registry, secret, tally));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn undelivered(registry: &Key, secret: &str, tally: &Tally) -> Vec<String> {
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

/// Why another registry has the name. A SystemRegistry yields to none but another one, so none names a tenant's registry to
/// everyone.
fn precedence(registry: &Key, winner: Option<&Key>) -> String {
    let name = winner.map_or_else(|| "another registry".to_owned(), Key::to_string);
    let why = match (registry.scope(), winner.map(Key::scope)) {
        (Scope::Tenant, Some(Scope::System)) => ", and system scope takes precedence",
        _ => " and is older",
    };
    format!("{name} has the same spec.availability.pullSecret.name{why}")
}

fn namespaces(registry: &Key, names: &BTreeSet<Arc<str>>) -> String {
    match (registry.scope(), names.len()) {
        (Scope::System, 1) => "1 namespace".to_owned(),
        (Scope::System, count) => format!("{count} namespaces"),
        (Scope::Tenant, count) => {
            let noun = if count == 1 { "namespace" } else { "namespaces" };
            format!("{noun} {}", listed_up_to(names.iter().map(|name| &**name), "and", NAMED))
        }
    }
}

/// So many names are spelled out.
const NAMED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> Key {
        Key::System { name: "packs".into() }
    }

    fn tenant() -> Key {
        Key::Tenant { namespace: "team-a".into(), name: "packs".into() }
    }

    fn tally_of(standing: &Standing, namespaces: usize, trouble: Trouble) -> Tally {
        let mut tally = Tally::default();
        for number in 0..namespaces {
            tally.add(&format!("ns-{number}").into(), standing, trouble);
        }
        tally
    }

    fn tally(standing: &Standing, namespaces: usize) -> Tally {
        tally_of(standing, namespaces, Trouble { stuck: true, contested: false })
    }

    fn says(registry: &Key, tally: &Tally) -> String {
        note(registry, Some("pull"), &Reach::default(), tally).unwrap_or_default()
    }

    #[test]
    fn says_nothing_where_all_is_well() {
        let tally = tally(&Standing::There, 3);
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
            says(&system(), &tally(&Standing::Foreign, 2)),
            "pull Secret pull not created in 2 namespaces: a Secret with that name exists and is not managed by \
             registry-operator"
        );
    }

    #[test]
    fn names_a_tenants_own_namespaces_to_it() {
        let standing = Standing::Yields(system());
        let why = "SystemRegistry packs has the same spec.availability.pullSecret.name, and system scope takes \
                   precedence";
        for (namespaces, names) in [
            (1, "namespace ns-0"),
            (2, "namespaces ns-0 and ns-1"),
            (3, "namespaces ns-0, ns-1 and ns-2"),
            (7, "namespaces ns-0, ns-1, ns-2, ns-3, ns-4 and 2 more"),
        ] {
            let said = says(&tenant(), &tally(&standing, namespaces));
            assert_eq!(said, format!("pull Secret pull not created in {names}: {why}"));
        }
    }

    #[test]
    fn names_the_older_registry() {
        let older = Key::Tenant { namespace: "team-b".into(), name: "charts".into() };
        let said = says(&tenant(), &tally(&Standing::Yields(older), 1));
        assert!(
            said.ends_with(
                ": TenantRegistry team-b/charts has the same spec.availability.pullSecret.name and is older"
            ),
            "{said}"
        );
    }

    #[test]
    fn says_that_a_secret_could_not_be_written() {
        let said = says(&tenant(), &tally(&Standing::Away, 1));
        assert_eq!(
            said,
            "pull Secret pull not up to date in namespace ns-0: failed to write it; see the operator's log"
        );
    }

    #[test]
    fn says_that_another_client_keeps_changing_a_secret() {
        let contested = Trouble { stuck: true, contested: true };
        for standing in [Standing::There, Standing::Away] {
            let said = says(&tenant(), &tally_of(&standing, 1, contested));
            assert_eq!(
                said,
                "pull Secret pull is repaired only every few seconds in namespace ns-0: another client keeps changing it"
            );
        }
    }
}
