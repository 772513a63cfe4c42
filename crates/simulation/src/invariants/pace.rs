//! How often registries are asked: not before they allow it, not without pauses, and again in time.

use std::time::Duration;

use serde_json::Value;

use crate::{
    cast::{CastRegistry, REGISTRIES},
    registries::ServerRecord,
    trace::{AcceptedWrite, HistoryTrace},
    world::promise::again,
};

/// How long the requests of one validation may take.
const VALIDATION: Duration = Duration::from_secs(12);
/// The time in which validations are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// A registry that asks to wait (`Retry-After`) gets no request before, if nobody changes anything meanwhile.
pub fn retry_after_is_honoured(trace: &HistoryTrace) -> Vec<String> {
    let asked = trace
        .served
        .iter()
        .filter_map(|record| Some((record, record.at + Duration::from_secs(record.retry_after?))));
    let early = asked.filter_map(|(record, until)| {
        let since = record.at.saturating_sub(VALIDATION);
        if users(trace, &record.host, until).len() != 1 || !is_quiet(trace, since, until) {
            return None;
        }
        let soon = record.at + Duration::from_secs(1); // another request of the same validation
        let mut later = trace.served.iter().filter(|later| later.host == record.host);
        later.find(|later| soon < later.at && later.at < until).map(|later| (record, later))
    });
    early
        .map(|(record, later)| {
            let ServerRecord { at, host, retry_after, .. } = record;
            format!(
                "{host} asked at {at:?} to wait for {retry_after:?} s, and got a request at {:?}",
                later.at
            )
        })
        .collect()
}

/// A host gets a few validations in ten seconds at most from each registry, however it answers, and one more for each change.
pub fn validations_have_pauses(trace: &HistoryTrace) -> Vec<String> {
    let pings: Vec<&ServerRecord> =
        trace.served.iter().filter(|record| record.request.authorization.is_none()).collect();
    let mut hasty = Vec::new();
    for (index, first) in pings.iter().enumerate() {
        let window = pings[index..].iter().take_while(|ping| ping.at < first.at + WINDOW);
        let count = window.filter(|ping| ping.host == first.host).count();
        if count > 4 && count > most(trace, first) {
            hasty.push(format!("{} was asked {count} times in {WINDOW:?} from {:?}", first.host, first.at));
        }
    }
    hasty.truncate(1);
    hasty
}

/// How many requests without credentials a host may get in the window that begins with one: each validation makes up to two.
fn most(trace: &HistoryTrace, first: &ServerRecord) -> usize {
    let (from, to) = (first.at.saturating_sub(VALIDATION), first.at + WINDOW);
    let starts = trace.starts.iter().filter(|at| (from..=to).contains(*at)).count();
    let changes = user_writes(trace, from, to).count();
    let terms = trace.writes.windows(2).filter(|pair| (from..=to).contains(&pair[1].at)).count();
    let restarts = if trace.is_undisturbed_between(from, to) { 0 } else { starts + terms };
    2 * (users(trace, &first.host, to).len() * (2 + restarts) + changes)
}

/// Returns the registries that a host may have been the endpoint of until a time.
fn users(trace: &HistoryTrace, host: &str, until: Duration) -> Vec<String> {
    let endpoint = Value::from(format!("http://{host}"));
    let there = trace.writes.iter().filter(|write| {
        write.at <= until && write.is_registry() && write.field("/spec/endpoint") == Some(&endpoint)
    });
    let mut names: Vec<String> = there.map(|write| write.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn user_writes(trace: &HistoryTrace, from: Duration, to: Duration) -> impl Iterator<Item = &AcceptedWrite> {
    trace.writes.iter().filter(move |write| !write.by_operator && (from..=to).contains(&write.at))
}

/// Whether nobody changes anything in a time, and nothing goes wrong.
fn is_quiet(trace: &HistoryTrace, from: Duration, to: Duration) -> bool {
    trace.is_undisturbed_between(from, to) && user_writes(trace, from, to).next().is_none()
}

/// A registry that is Ready is validated again within its interval.
pub fn registries_are_validated_again(trace: &HistoryTrace) -> Vec<String> {
    let Some(end) = trace.snapshots.last() else { return Vec::new() };
    let views = end.registries.iter().filter(|view| {
        view.due <= end.at && view.desired.as_ref().is_some_and(|(_, reason)| reason == "Available")
    });
    let registries = views.filter_map(|view| REGISTRIES.iter().find(|registry| registry.name == view.key));
    registries.filter_map(|registry| forgotten(trace, registry, end.at)).collect()
}

fn forgotten(trace: &HistoryTrace, registry: &CastRegistry, end: Duration) -> Option<String> {
    let calm = trace.end_of_events() + crate::trace::RECOVERY;
    let since = end.saturating_sub(again(registry));
    if since < calm {
        return None; // not long enough to be due
    }
    let mut signed_in = trace.served.iter().filter(|record| {
        record.at >= since && record.request.login().is_some_and(|(user, _)| user == registry.name)
    });
    let uses_secret = trace.writes.iter().rfind(|write| write.is_registry() && write.name == registry.name);
    let uses_secret = uses_secret.is_some_and(|write| write.field("/spec/auth/basic").is_some());
    (uses_secret && signed_in.next().is_none())
        .then(|| format!("{} was not validated from {since:?} to {end:?}", registry.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        invariants::samples::{minute, registry, trace, tried, write},
        registries::http::HttpRequest,
        trace::{RegistryView, Snapshot},
    };

    const HOST: &str = "r0.zero.example";

    fn asked(at: Duration, retry_after: Option<u64>) -> ServerRecord {
        ServerRecord { request: HttpRequest::default(), retry_after, ..tried(at, HOST, 429) }
    }

    fn second(seconds: u64) -> Duration {
        minute(5) + Duration::from_secs(seconds)
    }

    #[test]
    fn finds_requests_before_retry_after() {
        let mut trace = trace();
        trace.writes = vec![write(minute(0), "", None, Some(registry(1)))];
        trace.served = vec![asked(second(0), Some(30)), asked(second(31), None)];
        assert!(retry_after_is_honoured(&trace).is_empty());
        trace.served.insert(1, asked(second(20), None));
        assert_eq!(retry_after_is_honoured(&trace).len(), 1);
        let edit = write(second(19), "", Some(registry(1)), Some(registry(2)));
        trace.writes.push(AcceptedWrite { by_operator: false, ..edit });
        assert!(retry_after_is_honoured(&trace).is_empty(), "a user has changed it");
    }

    #[test]
    fn finds_requests_without_pauses() {
        let mut trace = trace();
        trace.writes = vec![write(minute(0), "", None, Some(registry(1)))];
        trace.served = (0..4).map(|number| asked(second(number * 3), None)).collect();
        assert!(validations_have_pauses(&trace).is_empty());
        trace.served = (0..10).map(|number| asked(second(number), None)).collect();
        assert_eq!(validations_have_pauses(&trace).len(), 1);
    }

    #[test]
    fn finds_registries_that_are_not_validated_again() {
        let mut trace = trace();
        let mut object = registry(1);
        object["spec"]["auth"] = json!({"basic": {}});
        trace.writes = vec![write(minute(0), "", None, Some(object))];
        let available = ("True".to_owned(), "Available".to_owned());
        let view = RegistryView {
            key: "system-a".to_owned(),
            deleting: false,
            generation: 1,
            observed: Some(1),
            ready: available.clone(),
            desired: Some(available),
            delivered: Vec::new(),
            audience: None,
            wrong: Vec::new(),
            due: minute(1),
        };
        trace.snapshots = vec![Snapshot { at: minute(6), registries: vec![view], state: Value::Null }];
        trace.served = vec![tried(second(0), HOST, 200)];
        assert!(registries_are_validated_again(&trace).is_empty());
        trace.served = vec![tried(minute(3), HOST, 200)];
        assert_eq!(registries_are_validated_again(&trace).len(), 1);
    }
}
