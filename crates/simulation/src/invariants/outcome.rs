//! The desired state is reached, stays, and is the same as without faults.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::trace::{AcceptedWrite, HistoryTrace, RegistryView, Snapshot};

/// How long after all events nothing more is written.
const SETTLED: Duration = Duration::from_secs(80);

/// I1, first part: a minute after all faults have ended, every registry is as it should be.
pub fn desired_state_is_reached(trace: &HistoryTrace) -> Vec<String> {
    trace.snapshots.first().map(differences).unwrap_or_default()
}

/// I1, second part: and stays so.
pub fn desired_state_stays(trace: &HistoryTrace) -> Vec<String> {
    trace.snapshots.iter().skip(1).flat_map(differences).collect()
}

/// What users change shows within seconds, and what a registry changes when it is validated again.
pub fn changes_show_in_time(trace: &HistoryTrace) -> Vec<String> {
    let calm = trace.looks.iter().filter(|look| trace.is_undisturbed(look.at));
    calm.flat_map(|look| differences(&without_contested(trace, look))).collect()
}

/// How often a pull Secret may be written in a row, and how long it takes until it may be again.
const BUDGET: (usize, Duration) = (12, Duration::from_mins(3));

/// Promises nothing about pull Secrets that were changed so often that their writes have to wait.
fn without_contested(trace: &HistoryTrace, look: &Snapshot) -> Snapshot {
    let mut look = look.clone();
    let recent = (look.at.saturating_sub(BUDGET.1))..look.at;
    for view in &mut look.registries {
        let name = format!("{}-pull", view.key);
        let written = trace.writes.iter().filter(|write| {
            write.by_operator && write.kind == "Secret" && write.name == name && recent.contains(&write.at)
        });
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        written.for_each(|write| *counts.entry(&write.namespace).or_default() += 1);
        if counts.values().any(|count| *count >= BUDGET.0) {
            view.audience = None;
        }
    }
    look
}

fn differences(snapshot: &Snapshot) -> Vec<String> {
    let at = snapshot.at;
    snapshot
        .registries
        .iter()
        .filter(|view| view.due <= at)
        .filter_map(|view| Some(format!("at {at:?}, {}: {}", view.key, difference(view)?)))
        .collect()
}

fn difference(view: &RegistryView) -> Option<String> {
    let RegistryView { deleting, generation, observed, ready, desired, .. } = view;
    if *deleting {
        return None; // another invariant's
    }
    if let Some(desired) = desired {
        if ready != desired {
            return Some(format!("Ready is {ready:?} instead of {desired:?}"));
        }
        if *observed != Some(*generation) {
            return Some(format!("observedGeneration is {observed:?} instead of {generation}"));
        }
    }
    let RegistryView { delivered, audience, wrong, .. } = view;
    let audience = audience.as_ref()?;
    if audience != delivered {
        return Some(format!("pull Secrets are in {delivered:?} instead of {audience:?}"));
    }
    (!wrong.is_empty()).then(|| format!("pull Secrets in {wrong:?} have other contents"))
}

/// I2: the end state is that of the same history without faults, if users could do the same in both, and nothing was restored.
pub fn end_state_is_that_without_faults(trace: &HistoryTrace, without: &HistoryTrace) -> Vec<String> {
    // What a restore undoes depends on what had been written by then.
    if trace.user_actions != without.user_actions || trace.has_restored() {
        return Vec::new();
    }
    let end = |trace: &HistoryTrace| trace.snapshots.last().map(|snapshot| snapshot.state.clone());
    // What a registry's server has changed may be noticed later in one of them.
    let undue: Vec<&str> = [trace, without].into_iter().flat_map(undue).collect();
    let is_due = |difference: &String| !undue.iter().any(|name| difference.contains(name));
    match (end(trace), end(without)) {
        (Some(end), Some(expected)) => unequal("", &end, &expected).into_iter().filter(is_due).collect(),
        _ => vec!["there is no snapshot".to_owned()],
    }
}

/// Returns the registries that need not be as they should at the end.
fn undue(trace: &HistoryTrace) -> impl Iterator<Item = &str> {
    let end = trace.snapshots.last();
    let late = end.into_iter().flat_map(|end| end.registries.iter().filter(|view| view.due > end.at));
    late.map(|view| &*view.key)
}

/// Returns where two values differ.
fn unequal(place: &str, found: &Value, expected: &Value) -> Vec<String> {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            let keys = found.keys().chain(expected.keys().filter(|key| !found.contains_key(*key)));
            let of =
                |object: &serde_json::Map<String, Value>, key| object.get(key).cloned().unwrap_or_default();
            keys.flat_map(|key| unequal(&format!("{place}/{key}"), &of(found, key), &of(expected, key)))
                .collect()
        }
        _ if found == expected => Vec::new(),
        _ => vec![format!("{place} is {found}, and {expected} without faults")],
    }
}

/// Nothing is written in the steady state but the Lease, and the time of a validation once an hour.
pub fn steady_state_writes_nothing(trace: &HistoryTrace) -> Vec<String> {
    let settled = trace.end_of_events() + SETTLED;
    let written = trace.writes.iter().filter(|write| write.at >= settled && write.by_operator);
    let written =
        written.filter(|write| write.kind != "Lease" && !is_time_alone(write) && !may_be_late(trace, write));
    written
        .map(|write| {
            format!("at {:?}, wrote {:?} {}: {}", write.at, write.key(), write.subresource, changes(write))
        })
        .collect()
}

/// Whether a write may be about a registry that was not yet due when everything had settled: its server has changed, and it is
/// validated again once in an hour, or its password waits.
fn may_be_late(trace: &HistoryTrace, write: &AcceptedWrite) -> bool {
    let settled = trace.end_of_events() + SETTLED;
    let about = |name: &str| {
        write.name == name
            || write.name == format!("{name}-pull")
            || write.field("/regarding/name").and_then(Value::as_str) == Some(name)
    };
    let views = trace.snapshots.first().into_iter().flat_map(|snapshot| &snapshot.registries);
    let is_shared = write.name == "registry-operator-rejections";
    if is_shared && trace.has_jumped() {
        return true; // a rejection that is forgotten by then is stored again
    }
    views.into_iter().any(|view| (is_shared || about(&view.key)) && view.due + LATE >= settled)
}

/// How long after its time a validation may be written: ten seconds of it, and retries.
const LATE: Duration = Duration::from_secs(15);

/// An unchanged status isn't written.
pub fn nothing_is_written_in_vain(trace: &HistoryTrace) -> Vec<String> {
    let of_status = trace.idle_writes.iter().filter(|write| write.subresource == "status");
    let vain = of_status.filter(|write| {
        write.by_operator && trace.is_undisturbed_between(write.at.saturating_sub(LATE), write.at)
    });
    vain.map(|write| format!("at {:?}, wrote the status of {} without a change", write.at, write.name))
        .collect()
}

fn changes(write: &AcceptedWrite) -> String {
    let of = |object: &Option<std::sync::Arc<Value>>| object.as_deref().cloned().unwrap_or_default();
    unequal("", &of(&write.after), &of(&write.before)).join("; ")
}

/// Whether a write changes nothing but the time of the last validation.
fn is_time_alone(write: &AcceptedWrite) -> bool {
    let without_time = |object: &Value| {
        let mut object = object.clone();
        if let Some(status) = object.pointer_mut("/status").and_then(Value::as_object_mut) {
            status.remove("lastValidationTime");
        }
        if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        object
    };
    let (Some(before), Some(after)) = (&write.before, &write.after) else { return false };
    write.subresource == "status" && without_time(before) == without_time(after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        history::{HistoryEvent, InjectedFault, TimedEvent},
        invariants::samples::{minute, registry, trace, write},
    };

    fn view(ready: &str, desired: &str, delivered: &[&str], audience: &[&str]) -> RegistryView {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        RegistryView {
            key: "packs".to_owned(),
            deleting: false,
            generation: 1,
            observed: Some(1),
            ready: (ready.to_owned(), "Reason".to_owned()),
            desired: Some((desired.to_owned(), "Reason".to_owned())),
            delivered: owned(delivered),
            audience: Some(owned(audience)),
            wrong: Vec::new(),
            due: minute(1),
        }
    }

    fn snapshot(views: &[RegistryView]) -> Snapshot {
        Snapshot { at: minute(2), registries: views.to_vec(), state: json!({"a": {"b": 1}}) }
    }

    #[test]
    fn finds_registries_that_are_not_as_desired() {
        let good = view("True", "True", &["a"], &["a"]);
        let bad = [
            view("False", "True", &["a"], &["a"]),
            view("True", "True", &[], &["a"]),
            RegistryView { observed: Some(0), ..good.clone() },
            RegistryView { wrong: vec!["a".to_owned()], ..good.clone() },
        ];
        let suspended = RegistryView { desired: None, audience: None, ..bad[0].clone() };
        let early = RegistryView { due: minute(3), ..bad[0].clone() };
        let mut trace = trace();
        trace.snapshots = vec![snapshot(&[good.clone(), suspended, early]), snapshot(&bad)];
        assert!(desired_state_is_reached(&trace).is_empty());
        assert_eq!(desired_state_stays(&trace).len(), 4);
        trace.snapshots.reverse();
        assert_eq!(desired_state_is_reached(&trace).len(), 4);
        trace.looks = trace.snapshots.clone();
        assert_eq!(changes_show_in_time(&trace).len(), 4);
        trace.history.events = vec![cut(minute(2))];
        assert!(changes_show_in_time(&trace).is_empty(), "something has gone wrong before");
    }

    fn cut(at: Duration) -> TimedEvent {
        TimedEvent { at, event: HistoryEvent::Fault(InjectedFault::CutWatches(0)) }
    }

    #[test]
    fn finds_a_status_that_is_written_without_a_change() {
        let mut trace = trace();
        trace.idle_writes = vec![write(minute(5), "status", None, None), write(minute(5), "", None, None)];
        assert_eq!(nothing_is_written_in_vain(&trace).len(), 1);
        trace.history.events = vec![cut(minute(5))];
        assert!(nothing_is_written_in_vain(&trace).is_empty(), "the answer to another may be lost");
    }

    #[test]
    fn finds_an_end_state_that_differs() {
        let (mut one, mut other) = (trace(), trace());
        one.snapshots = vec![snapshot(&[])];
        other.snapshots = one.snapshots.clone();
        assert!(end_state_is_that_without_faults(&one, &other).is_empty());
        other.snapshots[0].state["a"]["b"] = json!(2);
        let found = end_state_is_that_without_faults(&one, &other);
        assert_eq!(found, ["/a/b is 1, and 2 without faults"]);
    }

    #[test]
    fn finds_writes_in_the_steady_state() {
        let mut trace = trace();
        let later = trace.end_of_events() + minute(10);
        let mut timed = write(later, "status", Some(registry(1)), Some(registry(1)));
        timed.after = Some(json!({"metadata": {}, "status": {"lastValidationTime": "later"}}).into());
        timed.before = Some(json!({"metadata": {}, "status": {"lastValidationTime": "now"}}).into());
        trace.writes = vec![timed, write(minute(0), "status", Some(registry(1)), Some(registry(2)))];
        assert!(steady_state_writes_nothing(&trace).is_empty());
        trace.writes.push(write(later, "status", Some(registry(1)), Some(registry(2))));
        assert_eq!(steady_state_writes_nothing(&trace).len(), 1);
    }
}
