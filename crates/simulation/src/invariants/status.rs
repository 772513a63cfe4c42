//! What a status never says.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    registries::{ServerRecord, http::base64},
    trace::{AcceptedWrite, HistoryTrace},
};

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

/// How long before a write its validation may have begun, if none is written in between.
const VALIDATION: Duration = Duration::from_secs(15);

/// A status rests on a validation of this object (uid), of its spec (generation), at its host, since the last status, with its Secret.
pub fn verdicts_rest_on_validations(trace: &HistoryTrace) -> Vec<String> {
    let mut specs: BTreeMap<(String, i64), (Duration, String)> = BTreeMap::new();
    let mut last: BTreeMap<String, &AcceptedWrite> = BTreeMap::new();
    let mut baseless = Vec::new();
    for write in trace.writes.iter().filter(|write| write.is_registry()) {
        let (uid, endpoint) = (write.uid().to_owned(), text(write, "/spec/endpoint"));
        let generation = number(write, "/metadata/generation");
        let spec = specs.entry((uid.clone(), generation)).or_insert_with(|| (write.at, endpoint.clone()));
        if spec.1 != endpoint {
            *spec = (write.at, endpoint); // a restore gives a generation another spec
        }
        if !write.by_operator || write.subresource != "status" {
            continue;
        }
        let spec = specs.get(&(uid.clone(), number(write, "/status/observedGeneration")));
        let before = last.insert(uid, write);
        // Another client's status is replaced by the one before it.
        if before.is_some_and(|before| reported(before) == reported(write)) {
            continue;
        }
        let after = before.map(|before| before.at).unwrap_or_default().saturating_sub(VALIDATION);
        let what = match spec {
            None => Some("of a generation that it never had"),
            Some((since, endpoint)) => lacks(trace, write, endpoint, after.max(*since)),
        };
        baseless.extend(what.map(|what| format!("at {:?}, {} got a status {what}", write.at, write.name)));
    }
    baseless
}

/// Returns what a status lacks that rests on a validation at `endpoint` since a time.
fn lacks(
    trace: &HistoryTrace,
    write: &AcceptedWrite,
    endpoint: &str,
    since: Duration,
) -> Option<&'static str> {
    let after = write.after.as_deref()?;
    let all = conditions(after);
    let is =
        |type_: &str, status: &str| all.get(type_).is_some_and(|condition| condition["status"] == status);
    if !is("EndpointReachable", "True") {
        return None;
    }
    let host = endpoint.trim_start_matches("http://");
    let served = trace.served.iter().filter(|record| record.host == host);
    let mut served = served.filter(|record| (since..=write.at).contains(&record.at));
    if served.clone().next().is_none() {
        return Some("without a validation of that spec");
    }
    let uses_secret = after.pointer("/spec/auth/basic").is_some();
    // A restore changes the Secret without a write.
    let is_proven = is("CredentialsValidated", "True") && uses_secret && !trace.has_restored();
    if is_proven && !served.any(|record| is_of_current_secret(trace, write, record)) {
        return Some("of other credentials than those in its Secret");
    }
    None
}

/// Returns which validation a status reports.
fn reported(write: &AcceptedWrite) -> [Option<&Value>; 3] {
    ["/status/observedGeneration", "/status/lastValidationTime", "/status/lastHandledReconcileAt"]
        .map(|pointer| write.field(pointer))
}

/// Whether a request showed what was in the registry's Secret a moment before the write, and was served.
fn is_of_current_secret(trace: &HistoryTrace, write: &AcceptedWrite, record: &ServerRecord) -> bool {
    let Some((user, password)) = record.request.login() else { return false };
    let name = format!("{}-login", write.name);
    let shown = base64(&password);
    let secrets: Vec<&AcceptedWrite> =
        trace.writes.iter().filter(|secret| secret.kind == "Secret" && secret.name == name).collect();
    // While something goes wrong, a status may be written much later.
    let since = if trace.is_undisturbed(write.at) { record.at } else { Duration::ZERO };
    let is_current = secrets.iter().enumerate().any(|(index, secret)| {
        let until = secrets.get(index + 1).map_or(Duration::MAX, |next| next.at + BOUND);
        let holds = secret.at <= record.at && until >= since.min(record.at);
        holds && secret.after.as_ref().is_some_and(|secret| secret["data"]["password"] == shown)
    });
    user == write.name && record.status == Some(200) && is_current
}

fn text(write: &AcceptedWrite, pointer: &str) -> String {
    write.field(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(write: &AcceptedWrite, pointer: &str) -> i64 {
    write.field(pointer).and_then(Value::as_i64).unwrap_or_default()
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
            since.filter(|since| write.at > *since + BOUND && trace.is_undisturbed_between(*since, write.at))
        {
            stale.push(format!("{} was Ready of an older spec from {since:?} to {:?}", write.name, write.at));
        }
        if write.after.as_deref().is_some_and(is_stale) {
            outdated.insert(key, since.unwrap_or(write.at));
        }
    }
    if trace.has_restored() {
        return stale; // what was outdated may be as before, without a write
    }
    let end = trace.end_of_events() + trace.history.calm;
    let left = outdated.iter().filter(|(_, since)| end > **since + BOUND);
    stale.extend(
        left.map(|((name, _), since)| format!("{name} stayed Ready of an older spec from {since:?}")),
    );
    stale
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
    use crate::invariants::samples::{minute, registry, trace, tried, write};

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

    fn validated(generation: i64, time: &str) -> Value {
        let mut object = registry(generation);
        object["spec"]["auth"] = json!({"basic": {"secretRef": {"name": "system-a-login"}}});
        let conditions = [("EndpointReachable", "True"), ("CredentialsValidated", "True")]
            .map(|(type_, status)| json!({"type": type_, "status": status}));
        object["status"] = json!({
            "observedGeneration": generation, "lastValidationTime": time, "conditions": conditions,
        });
        object
    }

    /// What is found if these passwords were tried at these seconds, before a status of generation 2 is written at 100 s.
    fn baseless(tries: &[(u64, &str)]) -> Vec<String> {
        let second = Duration::from_secs;
        let secret = json!({"data": {"password": base64("password-1")}});
        let mut trace = trace();
        trace.writes = vec![
            AcceptedWrite {
                kind: "Secret".to_owned(),
                name: "system-a-login".to_owned(),
                ..write(second(1), "", None, Some(secret))
            },
            write(second(1), "", None, Some(validated(1, "1"))),
            write(second(70), "", Some(validated(1, "1")), Some(registry(2))),
            write(second(100), "status", Some(registry(2)), Some(validated(2, "2"))),
        ];
        trace.served = tries.iter().map(|(at, host)| tried(second(*at), host, 200)).collect();
        verdicts_rest_on_validations(&trace)
    }

    #[test]
    fn finds_verdicts_that_rest_on_nothing() {
        let host = "r0.zero.example";
        assert_eq!(baseless(&[(95, host)]), Vec::<String>::new());
        assert!(baseless(&[(60, host)])[0].contains("without a validation"), "it was of the older spec");
        assert!(baseless(&[(95, "r1.one.example")])[0].contains("without a validation"));
    }

    #[test]
    fn finds_verdicts_of_an_older_secret() {
        let mut trace = trace();
        let second = Duration::from_secs;
        let secret = |at, password: &str| AcceptedWrite {
            kind: "Secret".to_owned(),
            name: "system-a-login".to_owned(),
            ..write(second(at), "", None, Some(json!({"data": {"password": base64(password)}})))
        };
        let status = write(second(100), "status", Some(registry(1)), Some(validated(1, "2")));
        trace.writes =
            vec![write(second(1), "", None, Some(registry(1))), secret(1, "password-1"), status.clone()];
        trace.served = vec![tried(second(95), "r0.zero.example", 200)];
        assert!(verdicts_rest_on_validations(&trace).is_empty());
        trace.writes = vec![
            write(second(1), "", None, Some(registry(1))),
            secret(1, "password-1"),
            secret(80, "password-2"),
            status,
        ];
        assert!(verdicts_rest_on_validations(&trace)[0].contains("other credentials"));
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
