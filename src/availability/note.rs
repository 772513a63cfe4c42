//! How the delivery of a registry's pull Secrets stands, and the sentence that says so. Pure.
//!
//! A SystemRegistry is read by everyone: its sentence names no namespace of a tenant.

use std::{collections::BTreeSet, sync::Arc};

use registry_api::TENANT_LABEL;

use super::{audience::Reach, plan::Standing};
use crate::subject::{Key, Scope};

/// How the wishes of one registry stand, over all namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Secrets that are there.
    pub there: usize,
    foreign: BTreeSet<Arc<str>>,
    yields: BTreeSet<Arc<str>>,
    /// To whom, in the first of those namespaces.
    older: Option<Key>,
    stuck: BTreeSet<Arc<str>>,
}

impl Tally {
    /// Counts one namespace in. `stuck`: writes there have failed for a while.
    pub fn add(&mut self, namespace: &Arc<str>, standing: &Standing, stuck: bool) {
        match standing {
            Standing::There => self.there += 1,
            Standing::Foreign => drop(self.foreign.insert(namespace.clone())),
            Standing::Yields(older) => {
                self.yields.insert(namespace.clone());
                if self.yields.first() == Some(namespace) {
                    self.older = Some(older.clone());
                }
            }
            Standing::Away if stuck => drop(self.stuck.insert(namespace.clone())),
            Standing::Away => {}
        }
    }
}

/// What somebody should know; none if all is well.
pub fn note(registry: &Key, secret: Option<&str>, reach: &Reach, tally: &Tally) -> Option<String> {
    let mut notes = Vec::new();
    if registry.scope() == Scope::System && !reach.unknown.is_empty() {
        let names = listed(reach.unknown.iter().map(|tenant| &**tenant));
        notes.push(format!("no namespace has the label {TENANT_LABEL} with the value {names}"));
    }
    if let Some(secret) = secret {
        notes.extend(undelivered(registry, secret, tally));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn undelivered(registry: &Key, secret: &str, tally: &Tally) -> Vec<String> {
    let foreign = || "a Secret of that name that is not the operator's own is there".to_owned();
    let yields = || {
        let told = tally
            .older
            .as_ref()
            .filter(|older| older.scope() == Scope::System || registry.scope() == Scope::Tenant);
        let older = told.map_or_else(String::new, |older| format!(" ({older})"));
        format!("a registry that is older{older} keeps one of that name there")
    };
    let stuck = || "the operator could not write it there, and its log says why".to_owned();
    let whys: [(_, &dyn Fn() -> String); 3] =
        [(&tally.foreign, &foreign), (&tally.yields, &yields), (&tally.stuck, &stuck)];
    let told = whys.into_iter().filter(|(where_to, _)| !where_to.is_empty());
    told.map(|(where_to, why)| {
        format!("the pull Secret {secret} is not delivered to {}: {}", namespaces(registry, where_to), why())
    })
    .collect()
}

fn namespaces(registry: &Key, names: &BTreeSet<Arc<str>>) -> String {
    match (registry.scope(), names.len()) {
        (Scope::System, 1) => "1 namespace".to_owned(),
        (Scope::System, count) => format!("{count} namespaces"),
        (Scope::Tenant, _) => format!("namespace {}", listed(names.iter().map(|name| &**name))),
    }
}

/// So many names are spelled out.
const NAMED: usize = 5;

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> Key {
        Key::System { name: "packs".into() }
    }

    fn tenant() -> Key {
        Key::Tenant { namespace: "team-a".into(), name: "packs".into() }
    }

    fn tally(standing: &Standing, namespaces: usize) -> Tally {
        let mut tally = Tally::default();
        for number in 0..namespaces {
            tally.add(&format!("ns-{number}").into(), standing, true);
        }
        tally
    }

    #[test]
    fn nothing_is_said_where_all_is_well() {
        let tally = tally(&Standing::There, 3);
        assert_eq!(note(&system(), Some("pull"), &Reach::default(), &tally), None);
        assert_eq!(tally.there, 3);
    }

    #[test]
    fn tenants_that_nobody_is_are_named() {
        let reach = Reach { unknown: vec!["nobody".into(), "none".into()], ..Reach::default() };
        assert_eq!(
            note(&system(), None, &reach, &Tally::default()).unwrap(),
            "no namespace has the label registry.spectrocloud.com/tenant with the value nobody, none"
        );
    }

    #[test]
    fn what_everyone_reads_names_no_tenants_namespace() {
        let note = note(&system(), Some("pull"), &Reach::default(), &tally(&Standing::Foreign, 2)).unwrap();
        assert_eq!(
            note,
            "the pull Secret pull is not delivered to 2 namespaces: a Secret of that name that is not the operator's own \
             is there"
        );
    }

    #[test]
    fn what_a_tenant_reads_names_its_own() {
        let standing = Standing::Yields(system());
        let note = note(&tenant(), Some("pull"), &Reach::default(), &tally(&standing, 7)).unwrap();
        assert_eq!(
            note,
            "the pull Secret pull is not delivered to namespace ns-0, ns-1, ns-2, ns-3, ns-4 and 2 more: a registry that \
             is older (SystemRegistry packs) keeps one of that name there"
        );
    }

    #[test]
    fn what_can_not_be_written_is_said() {
        let note = note(&tenant(), Some("pull"), &Reach::default(), &tally(&Standing::Away, 1)).unwrap();
        assert!(note.contains("could not write it there"), "{note}");
    }
}
