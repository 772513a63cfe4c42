//! What a status never says.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::trace::{AcceptedWrite, HistoryTrace};

/// `lastTransitionTime` moves only when the condition's status does.
pub fn transition_time_moves_with_status(trace: &HistoryTrace) -> Vec<String> {
    let written = trace.writes.iter().filter(|write| write.by_operator && write.is_registry());
    written
        .filter_map(|write| Some(format!("at {:?}, {} of {}", write.at, moved(write)?, write.name)))
        .collect()
}

/// Returns the condition whose time has moved alone.
fn moved(write: &AcceptedWrite) -> Option<String> {
    let (before, after) = (conditions(write.before.as_deref()?), conditions(write.after.as_deref()?));
    let same = |field: &str, one: &Value, other: &Value| one.get(field) == other.get(field);
    let moved = after.iter().find(|(type_, now)| {
        before
            .get(*type_)
            .is_some_and(|then| same("status", then, now) && !same("lastTransitionTime", then, now))
    });
    moved.map(|(type_, _)| type_.clone())
}

fn conditions(object: &Value) -> BTreeMap<String, &Value> {
    let all = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|condition| Some((condition.get("type")?.as_str()?.to_owned(), condition))).collect()
}

/// How long Ready may be of an older spec: a slow validation is in progress after a second.
const BOUND: Duration = Duration::from_secs(5);

/// Ready=True never stands beside an observedGeneration older than a change made longer than its bound ago.
pub fn ready_is_never_stale(trace: &HistoryTrace) -> Vec<String> {
    let mut outdated: BTreeMap<(String, String), Duration> = BTreeMap::new();
    let mut stale = Vec::new();
    for write in trace.writes.iter().filter(|write| write.is_registry()) {
        let key = (write.name.clone(), write.uid().to_owned());
        let since = outdated.remove(&key);
        if let Some(since) =
            since.filter(|since| write.at > *since + BOUND && is_undisturbed(trace, *since, write.at))
        {
            stale.push(format!("{} was Ready of an older spec from {since:?} to {:?}", write.name, write.at));
        }
        if write.after.as_deref().is_some_and(is_stale) {
            outdated.insert(key, since.unwrap_or(write.at));
        }
    }
    let end = trace.end_of_events() + trace.history.calm;
    let left = outdated.iter().filter(|(_, since)| end > **since + BOUND);
    stale.extend(
        left.map(|((name, _), since)| format!("{name} stayed Ready of an older spec from {since:?}")),
    );
    stale
}

fn is_undisturbed(trace: &HistoryTrace, since: Duration, until: Duration) -> bool {
    trace.is_undisturbed(since) && trace.is_undisturbed(until)
}

fn is_stale(object: &Value) -> bool {
    let number = |pointer| object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let ready = conditions(object).get("Ready").is_some_and(|ready| ready["status"] == "True");
    let is_idle = object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true)
        || object.pointer("/metadata/deletionTimestamp").is_some();
    ready && !is_idle && number("/status/observedGeneration") < number("/metadata/generation")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::invariants::samples::{minute, registry, trace, write};

    fn with_ready(generation: i64, status: &str, time: &str) -> Value {
        let mut object = registry(generation);
        let ready = json!({"type": "Ready", "status": status, "lastTransitionTime": time});
        object["status"] = json!({"observedGeneration": 1, "conditions": [ready]});
        object
    }

    #[test]
    fn finds_a_time_that_moves_alone() {
        let then = with_ready(1, "True", "1");
        let found = |now: Value| {
            let mut trace = trace();
            trace.writes = vec![write(minute(0), "status", Some(then.clone()), Some(now))];
            transition_time_moves_with_status(&trace).len()
        };
        assert_eq!(found(with_ready(1, "False", "2")), 0);
        assert_eq!(found(then.clone()), 0);
        assert_eq!(found(with_ready(1, "True", "2")), 1);
    }

    #[test]
    fn finds_ready_of_an_older_spec() {
        let corrected_after = |seconds| {
            let mut trace = trace();
            trace.history.events.clear();
            let stale = with_ready(2, "True", "1");
            let later = minute(1) + Duration::from_secs(seconds);
            trace.writes = vec![
                write(minute(1), "", Some(with_ready(1, "True", "1")), Some(stale.clone())),
                write(later, "status", Some(stale), Some(with_ready(2, "False", "2"))),
            ];
            ready_is_never_stale(&trace).len()
        };
        assert_eq!(corrected_after(2), 0);
        assert_eq!(corrected_after(30), 1);
    }
}
