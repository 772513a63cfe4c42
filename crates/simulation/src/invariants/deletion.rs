//! Deletion finishes, and nothing is written to another object of the same name.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    cast::HOSTS,
    registries::ServerCondition,
    trace::{AcceptedWrite, HistoryTrace},
};

/// How long a deletion takes, whatever else fails.
const LONGEST: Duration = Duration::from_secs(30);

/// I4: a registry that is being deleted is gone within 30 s, or a minute and a half after the last fault.
pub fn deletion_finishes(trace: &HistoryTrace) -> Vec<String> {
    let mut deleting: BTreeMap<(String, String), Duration> = BTreeMap::new();
    let mut late = Vec::new();
    for write in trace.writes.iter().filter(|write| write.is_registry()) {
        let key = (write.name.clone(), write.uid().to_owned());
        match &write.after {
            None => late.extend(deleting.remove(&key).and_then(|since| too_late(trace, write, since))),
            Some(object) if object.pointer("/metadata/deletionTimestamp").is_some() => {
                deleting.entry(key).or_insert(write.at);
            }
            Some(_) => {}
        }
    }
    let left = trace
        .snapshots
        .iter()
        .flat_map(|snapshot| snapshot.registries.iter().map(move |view| (snapshot.at, view)));
    let left = left.filter(|(_, view)| view.deleting);
    late.extend(left.map(|(at, view)| format!("at {at:?}, {} is still being deleted", view.key)));
    late
}

fn too_late(trace: &HistoryTrace, write: &AcceptedWrite, since: Duration) -> Option<String> {
    let by = since + LONGEST;
    let is_late =
        write.at > by && trace.is_undisturbed_between(since.max(write.at.saturating_sub(LONGEST)), write.at);
    is_late.then(|| format!("{} was deleted at {since:?} and gone at {:?}", write.name, write.at))
}

/// I5: what the operator writes to a registry is about this object, and not about an earlier one of its name: its status is of no newer
/// generation, and names no host that this object never had, or was redirected to.
pub fn another_object_gets_nothing(trace: &HistoryTrace) -> Vec<String> {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let redirects = trace.changes.iter().filter_map(|change| match change.behaviour.condition {
        ServerCondition::Redirected(host) => Some(HOSTS[host % HOSTS.len()].to_owned()),
        _ => None,
    });
    let redirects: Vec<String> = redirects.collect();
    let mut strays = Vec::new();
    for write in trace.writes.iter().filter(|write| write.is_registry()) {
        let endpoint = write.field("/spec/endpoint").and_then(Value::as_str).unwrap_or_default();
        let known = hosts.entry(write.uid().to_owned()).or_default();
        known.push(endpoint.trim_start_matches("http://").to_owned());
        if write.by_operator && write.subresource == "status" {
            strays.extend(stray(write, known, &redirects));
        }
    }
    strays
}

fn stray(write: &AcceptedWrite, hosts: &[String], redirects: &[String]) -> Option<String> {
    let number = |pointer| write.field(pointer).and_then(Value::as_i64).unwrap_or_default();
    let at = write.at;
    let (observed, generation) = (number("/status/observedGeneration"), number("/metadata/generation"));
    if observed > generation {
        return Some(format!(
            "at {at:?}, {} of generation {generation} got a status of {observed}",
            write.name
        ));
    }
    let text = write.field("/status/conditions").map(Value::to_string).unwrap_or_default();
    let is_known = |host: &str| hosts.iter().chain(redirects).any(|known| known == host);
    let foreign = HOSTS.iter().find(|host| text.contains(**host) && !is_known(host))?;
    Some(format!("at {at:?}, {} got a status about {foreign}, which it never had", write.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::invariants::samples::{minute, registry, trace, write};

    fn deleting() -> Value {
        let mut object = registry(1);
        object["metadata"]["deletionTimestamp"] = json!("now");
        object
    }

    #[test]
    fn finds_a_deletion_that_takes_too_long() {
        let gone_after = |seconds| {
            let mut trace = trace();
            trace.history.events.clear();
            trace.writes = vec![
                write(minute(1), "", Some(registry(1)), Some(deleting())),
                write(minute(1) + Duration::from_secs(seconds), "", Some(deleting()), None),
            ];
            deletion_finishes(&trace).len()
        };
        assert_eq!(gone_after(29), 0);
        assert_eq!(gone_after(31), 1);
    }

    #[test]
    fn finds_a_status_about_an_earlier_object() {
        let with = |uid: &str, observed: i64, message: &str| {
            let mut object = registry(1);
            object["metadata"]["uid"] = json!(uid);
            object["status"] = json!({"observedGeneration": observed, "conditions": [{"message": message}]});
            let mut trace = trace();
            let mut other = registry(1);
            other["spec"]["endpoint"] = json!("http://r1.one.example");
            trace.writes = vec![
                write(minute(0), "", None, Some(other)),
                write(minute(1), "status", Some(registry(1)), Some(object)),
            ];
            another_object_gets_nothing(&trace).len()
        };
        assert_eq!(with("uid-2", 1, "r0.zero.example is rate limiting"), 0);
        assert_eq!(with("uid-1", 1, "r1.one.example is rate limiting"), 0, "it had that host before");
        assert_eq!(with("uid-2", 1, "r1.one.example is rate limiting"), 1);
        assert_eq!(with("uid-2", 2, ""), 1);
    }
}
