//! A changed Secret is tried at once, whatever is under way.

use std::time::Duration;

use serde_json::Value;

use crate::{
    cast::{CastRegistry, REGISTRIES},
    history::{HistoryEvent, UserStep},
    registries::{RegistryBehaviour, ServerCondition, http::base64},
    trace::{AcceptedWrite, HistoryTrace},
    world::promise::SHOWN,
};

/// A changed Secret leads to a request to the registry's host at once, even if a validation with the one before still waits for its answer.
pub fn changed_secrets_are_tried_at_once(trace: &HistoryTrace) -> Vec<String> {
    if trace.has_restored() || trace.has_jumped() || changes_tenants(trace) {
        return Vec::new();
    }
    let late = |registry: &CastRegistry| {
        let changes = trace.writes.iter().filter(|write| is_new_login(write, registry));
        let late = changes.filter(|write| is_awaited(trace, registry, write)).find(|write| {
            let host = host_at(trace, registry, write.at);
            !host.is_some_and(|host| is_asked(trace, &host, write.at))
        })?;
        Some(format!("the Secret of {} changed at {:?}, and its host got no request", registry.name, late.at))
    };
    REGISTRIES.iter().filter_map(late).collect()
}

/// Whether namespaces change their tenants, which the operator validates nothing in then.
fn changes_tenants(trace: &HistoryTrace) -> bool {
    use UserStep as S;
    trace.history.events.iter().any(|event| {
        matches!(
            event.event,
            HistoryEvent::Step(S::Label(..) | S::Relabel(..) | S::DeleteNamespace(_) | S::CreateNamespace(_))
        )
    })
}

/// Whether a write gives a registry's Secret another password.
fn is_new_login(write: &AcceptedWrite, registry: &CastRegistry) -> bool {
    let data = |object: &Option<std::sync::Arc<Value>>| object.as_ref().map(|object| object["data"].clone());
    is_secret_of(write, registry)
        && write.after.as_ref().is_some_and(|secret| secret["type"] == "kubernetes.io/basic-auth")
        && data(&write.before) != data(&write.after)
}

fn is_secret_of(write: &AcceptedWrite, registry: &CastRegistry) -> bool {
    write.kind == "Secret" && write.name == registry.secret() && write.namespace == registry.home()
}

/// Whether a request must follow: nothing goes wrong, nobody changes anything else, the registry is to be validated, its server can be
/// asked, and the password wasn't rejected before.
fn is_awaited(trace: &HistoryTrace, registry: &CastRegistry, write: &AcceptedWrite) -> bool {
    let (at, until) = (write.at, write.at + SHOWN);
    let is_other = |other: &&AcceptedWrite| {
        let is_about = other.is_registry() && other.name == registry.name && !other.by_operator;
        (is_about || is_secret_of(other, registry)) && (at..=until).contains(&other.at) && *other != write
    };
    let Some(host) = host_at(trace, registry, at) else { return false };
    until < trace.end_of_events() + trace.history.calm
        && trace.is_undisturbed_between(at, until)
        && !trace.writes.iter().any(|other| is_other(&other))
        && can_be_asked(trace, &host, at)
        && !was_rejected(trace, registry, &host, write)
}

/// Returns the host that a registry is validated at, at a time; none if it isn't validated.
fn host_at(trace: &HistoryTrace, registry: &CastRegistry, at: Duration) -> Option<String> {
    let is_of = |write: &&AcceptedWrite| write.is_registry() && write.name == registry.name;
    let newest = trace.writes.iter().take_while(|write| write.at <= at).filter(is_of).last()?;
    let object = newest.after.as_deref()?;
    let is_idle = object.pointer("/metadata/deletionTimestamp").is_some()
        || object.pointer("/spec/suspend") == Some(&Value::Bool(true))
        || object.pointer("/spec/auth/basic").is_none();
    let host = object.pointer("/spec/endpoint")?.as_str()?.trim_start_matches("http://");
    (!is_idle).then(|| host.to_owned())
}

/// Whether requests arrive at a host from a time on.
fn can_be_asked(trace: &HistoryTrace, host: &str, at: Duration) -> bool {
    let is_of = |behaviour: &RegistryBehaviour| behaviour.host == host;
    let changes = trace.changes.iter().filter(|change| is_of(&change.behaviour));
    let before = changes.clone().take_while(|change| change.at <= at).last();
    let during = changes.filter(|change| (at..=at + SHOWN).contains(&change.at));
    let is_closed = |behaviour: &RegistryBehaviour| {
        matches!(behaviour.condition, ServerCondition::Refusing | ServerCondition::Unnamed)
    };
    !before.into_iter().chain(during).any(|change| is_closed(&change.behaviour))
}

/// Whether the host has rejected the new password before, which waits then, or has rejected so many that all of them wait.
fn was_rejected(trace: &HistoryTrace, registry: &CastRegistry, host: &str, write: &AcceptedWrite) -> bool {
    let password = write.field("/data/password").and_then(Value::as_str).unwrap_or_default();
    let refused =
        trace.served.iter().take_while(|tried| tried.at <= write.at + SHOWN).filter(|tried| {
            tried.host == host && tried.status != Some(200) && tried.request.login().is_some()
        });
    let logins: Vec<_> = refused.filter_map(|tried| tried.request.login()).collect();
    logins.len() >= MOST_REJECTED
        || logins.iter().any(|(user, tried)| user == registry.name && base64(tried) == password)
}

/// From so many rejected passwords on, a host's others may wait.
const MOST_REJECTED: usize = 10;

fn is_asked(trace: &HistoryTrace, host: &str, from: Duration) -> bool {
    let between = from..=from + SHOWN;
    trace.served.iter().any(|record| record.host == host && between.contains(&record.at))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::invariants::samples::{minute, registry, trace, tried, write};

    fn login(at: Duration, password: &str) -> AcceptedWrite {
        let secret = json!({"type": "kubernetes.io/basic-auth", "data": {"password": base64(password)}});
        AcceptedWrite {
            kind: "Secret".to_owned(),
            namespace: REGISTRIES[0].home().to_owned(),
            name: REGISTRIES[0].secret(),
            by_operator: false,
            ..write(at, "", None, Some(secret))
        }
    }

    /// What is found if the Secret changes after two minutes, and these requests come so many seconds later.
    fn found(requests: &[(u64, u16)]) -> usize {
        let mut trace = trace();
        let mut object = registry(1);
        object["spec"]["auth"] = json!({"basic": {}});
        trace.writes = vec![write(minute(0), "", None, Some(object)), login(minute(2), "password-1")];
        let at = |second: &u64| minute(1) + Duration::from_secs(*second);
        trace.served =
            requests.iter().map(|(at_, status)| tried(at(at_), "r0.zero.example", *status)).collect();
        changed_secrets_are_tried_at_once(&trace).len()
    }

    #[test]
    fn finds_a_changed_secret_that_is_not_tried() {
        assert_eq!(found(&[(61, 200)]), 0);
        assert_eq!(found(&[]), 1);
        assert_eq!(found(&[(59, 200), (70, 200)]), 1, "the one before, and too late");
        assert_eq!(found(&[(10, 401)]), 0, "it was rejected before");
    }
}
