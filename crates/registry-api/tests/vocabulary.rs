//! The vocabulary of conditions is complete in three places that users meet: the types, the table of which reason goes
//! with which status, and the documentation.

use registry_api::{ConditionType, Reason, condition::LAYERS};
use strum::IntoEnumIterator;

const DOCUMENTATION: &str = include_str!("../../../docs/conditions.md");

#[test]
fn explains_every_condition_and_reason() {
    for name in ConditionType::iter().map(ConditionType::as_str).chain(Reason::iter().map(Reason::as_str)) {
        assert!(DOCUMENTATION.contains(&format!("`{name}`")), "docs/conditions.md says nothing of `{name}`");
    }
}

#[test]
fn every_reason_belongs_to_a_condition() {
    let of_layers: Vec<Reason> =
        LAYERS.iter().flat_map(|layer| [layer.good, layer.bad, layer.unknown].concat()).collect();
    let of_ready = [Reason::Available, Reason::CredentialsUnprovable, Reason::Progressing];
    for reason in Reason::iter() {
        assert!(of_layers.contains(&reason) || of_ready.contains(&reason), "{reason} is used nowhere");
    }
}

#[test]
fn reason_has_one_status_per_condition() {
    for layer in &LAYERS {
        let all = [layer.good, layer.bad, layer.unknown].concat();
        let unique: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(all.len(), unique.len(), "{}", layer.condition);
    }
}
