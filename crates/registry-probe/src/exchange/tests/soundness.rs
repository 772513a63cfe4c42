//! Every combination of behaviours: a wrong password is never validated, and the request budget always holds.

use super::simulation::*;
use crate::findings::{CredentialsFinding, Unprovable};

/// Every sensible combination. Left out: services that give a wrong password more than an anonymous client, because
/// no evidence distinguishes those from services that check it; and behaviours that make no difference.
fn worlds() -> Vec<World> {
    let registries = challenges().into_iter().flat_map(|challenges| registries(&challenges));
    registries
        .flat_map(|registry| services(&registry).into_iter().map(move |service| (registry.clone(), service)))
        .map(|(registry, service)| World { registry, service })
        .collect()
}

fn challenges() -> Vec<Vec<String>> {
    [vec![BEARER], vec![BASIC], vec![BASIC, BEARER], vec![]]
        .map(|lines| lines.into_iter().map(ToOwned::to_owned).collect())
        .into()
}

fn registries(challenges: &[String]) -> Vec<SimulatedRegistry> {
    let mut registries = Vec::new();
    for bits in 0..64_u8 {
        let bit = |index: u8| bits & (1 << index) != 0;
        let (open, public, exists, denies_alice) = (bit(0), bit(1), bit(2), bit(3));
        let (always_challenges, checks_when_open) = (bit(4), bit(5));
        if (!open && (always_challenges || checks_when_open)) || (challenges.is_empty() && checks_when_open) {
            continue;
        }
        if denies_alice && (public || !exists) {
            continue;
        }
        let takes_tokens = challenges.iter().any(|challenge| challenge == BEARER);
        let all = [Opens::Any, Opens::Named, Opens::WithoutScope, Opens::WithScope, Opens::Never];
        let different = if takes_tokens && (!open || checks_when_open) { all.len() } else { 1 };
        for v2 in all.into_iter().take(different) {
            let challenges = challenges.to_vec();
            registries.push(SimulatedRegistry {
                challenges,
                open,
                always_challenges,
                v2,
                checks: true,
                checks_when_open,
                public,
                exists,
                denies_alice,
            });
        }
    }
    registries
}

fn services(registry: &SimulatedRegistry) -> Vec<Service> {
    if !registry.challenges.iter().any(|challenge| challenge == BEARER) {
        return vec![Service::default()];
    }
    let mut services = Vec::new();
    for anonymous in [Gives::Token, Gives::TokenForScopeOnly, Gives::Status(401), Gives::Status(400)] {
        for wrong in [anonymous, Gives::Status(403)] {
            for tokens in [
                SimulatedTokens::Named,
                SimulatedTokens::Numbered,
                SimulatedTokens::Nameless,
                SimulatedTokens::Opaque,
            ] {
                for without_scope in [None, Some(400)] {
                    services.push(Service { anonymous, wrong, without_scope, tokens, ..Service::default() });
                }
            }
        }
    }
    services
}

#[test]
fn never_validates_wrong_password() {
    for world in worlds() {
        for repository in [None, Some("hello")] {
            let run = world.probe(&SimulatedQuestion { credentials: basic(WRONG), repository });
            let validated = matches!(run.verdict.credentials, CredentialsFinding::Validated(_));
            assert!(!validated, "{repository:?} {world:#?} {run:#?}");
        }
    }
}

#[test]
fn never_validates_unchecked_password() {
    for world in worlds() {
        // No password is checked: a wrong one gets what an anonymous client gets.
        let careless = World {
            registry: SimulatedRegistry { checks: false, checks_when_open: false, ..world.registry.clone() },
            service: Service { wrong: world.service.anonymous, ..world.service.clone() },
        };
        let takes_basic = careless.registry.challenges.iter().any(|challenge| challenge == BASIC);
        if takes_basic {
            continue; // It refuses without a password and grants with any: by the rule, that is evidence.
        }
        for repository in [None, Some("hello")] {
            let run = careless.probe(&SimulatedQuestion { credentials: basic(WRONG), repository });
            let validated = matches!(run.verdict.credentials, CredentialsFinding::Validated(_));
            assert!(!validated, "{repository:?} {careless:#?} {run:#?}");
        }
    }
}

#[test]
fn never_rejects_right_password() {
    for world in worlds() {
        if world.service.without_scope.is_some() {
            continue; // Without a scope to name, every response is 400.
        }
        for repository in [None, Some("hello")] {
            let run = world.probe(&SimulatedQuestion { credentials: basic(PASSWORD), repository });
            let wronged = matches!(
                run.verdict.credentials,
                CredentialsFinding::Rejected { .. }
                    | CredentialsFinding::Forbidden { .. }
                    | CredentialsFinding::Required
            );
            assert!(!wronged || world.registry.challenges.is_empty(), "{repository:?} {world:#?} {run:#?}");
        }
    }
}

#[test]
fn validates_right_password_at_closed_registry() {
    for world in worlds() {
        let SimulatedRegistry { open, public, v2, .. } = &world.registry;
        let scope_blind = matches!(v2, Opens::Any | Opens::Named | Opens::WithoutScope);
        let guarded = matches!(world.service.anonymous, Gives::Status(_));
        let offered = !world.registry.challenges.is_empty() && world.service.without_scope.is_none();
        if *open || *public || !scope_blind || !guarded || !offered {
            continue;
        }
        for repository in [None, Some("hello")] {
            let run = world.probe(&SimulatedQuestion { credentials: basic(PASSWORD), repository });
            let validated = matches!(run.verdict.credentials, CredentialsFinding::Validated(_));
            assert!(validated, "{repository:?} {world:#?} {run:#?}");
        }
    }
}

#[test]
fn stays_within_request_budget() {
    let mut most = 0;
    for world in worlds() {
        let bearer = world.registry.challenges.iter().any(|challenge| challenge == BEARER);
        for (credentials, repository) in
            [(None, None), (None, Some("hello")), (basic(PASSWORD), None), (basic(PASSWORD), Some("hello"))]
        {
            let ask = SimulatedQuestion { credentials, repository };
            let run = world.probe(&ask);
            let base = match (&ask.credentials, bearer) {
                (None, false) => 1,
                (Some(_), false) => 2,
                (None, true) => 4,
                (Some(_), true) => 4 + 2,
            };
            let budget = base + if repository.is_some() { 3 } else { 0 };
            most = most.max(run.requests.len());
            assert!(run.requests.len() <= budget, "{budget} {ask:?} {world:#?} {run:#?}");
        }
    }
    assert_eq!(most, 9);
}

#[test]
fn never_requires_credentials_at_open_registry() {
    for world in worlds().into_iter().filter(|world| world.registry.open) {
        let run = world.probe(&SimulatedQuestion { credentials: None, repository: None });
        assert_eq!(run.verdict.credentials, CredentialsFinding::AnonymousAccess, "{world:#?}");
        let run = world.probe(&SimulatedQuestion { credentials: basic(PASSWORD), repository: None });
        let unprovable = CredentialsFinding::Unprovable(Unprovable::AnonymousServed);
        let validated = matches!(run.verdict.credentials, CredentialsFinding::Validated(_));
        let settled = validated || run.verdict.credentials == unprovable;
        assert!(settled || !world.registry.challenges.is_empty(), "{world:#?} {run:#?}");
    }
}
