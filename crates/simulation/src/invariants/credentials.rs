//! Where credentials went, and how often.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    history::{HistoryEvent, InjectedFault, TimedEvent, UserStep},
    registries::ServerRecord,
    trace::{AcceptedWrite, HistoryTrace},
};

/// How long a validation of an older spec may go on.
const UNDER_WAY: Duration = Duration::from_secs(15);

/// How late a request may be acted on, while requests to the API server fail or credentials wait for their turn.
const LATE: Duration = Duration::from_mins(2);

/// I3: a registry's password goes to its endpoint's host alone, and a token to the registry that it is for.
pub fn credentials_stay_at_permitted_hosts(trace: &HistoryTrace) -> Vec<String> {
    let shown = trace.served.iter().filter(|record| record.request.authorization.is_some());
    let strayed = shown.filter(|record| match record.request.login() {
        Some((user, _)) => !was_endpoint_of(trace, &user, record),
        None => record.request.authorization != Some(format!("Bearer token-{}", record.host)),
    });
    strayed.map(|record| format!("at {:?}, credentials went to {}", record.at, record.host)).collect()
}

/// Whether a registry of that name had the host as its endpoint, just before.
fn was_endpoint_of(trace: &HistoryTrace, user: &str, record: &ServerRecord) -> bool {
    let writes: Vec<&AcceptedWrite> =
        trace.writes.iter().filter(|write| write.is_registry() && write.name == user).collect();
    // The writes don't say what was restored.
    let is_known = trace.is_undisturbed(record.at) && !trace.has_restored();
    let since = if is_known { record.at.saturating_sub(UNDER_WAY) } else { Duration::ZERO };
    writes.iter().enumerate().any(|(index, write)| {
        let until = writes.get(index + 1).map_or(Duration::MAX, |next| next.at);
        write.at <= record.at && until >= since && leads_to(write, &record.host)
    })
}

fn leads_to(write: &AcceptedWrite, host: &str) -> bool {
    let endpoint = write.after.as_ref().and_then(|object| object.pointer("/spec/endpoint"));
    endpoint.and_then(Value::as_str) == Some(&format!("http://{host}"))
}

/// A registry that is suspended isn't signed in to, but for a validation that was under way.
pub fn suspended_registries_are_left_alone(trace: &HistoryTrace) -> Vec<String> {
    let users = trace.served.iter().filter_map(|record| Some((record, record.request.login()?.0)));
    users
        .filter(|(record, user)| was_suspended(trace, user, record.at))
        .map(|(record, user)| {
            format!("at {:?}, {user} signed in at {} though suspended", record.at, record.host)
        })
        .collect()
}

/// Whether all registries of that name were suspended since [`UNDER_WAY`] before, and nothing had gone wrong.
fn was_suspended(trace: &HistoryTrace, name: &str, at: Duration) -> bool {
    let since = at.saturating_sub(UNDER_WAY);
    let writes: Vec<&AcceptedWrite> =
        trace.writes.iter().filter(|write| write.is_registry() && write.name == name).collect();
    let mut states = writes.iter().enumerate().filter(|(index, write)| {
        let until = writes.get(index + 1).map_or(Duration::MAX, |next| next.at);
        write.at <= at && until >= since
    });
    let is_suspended = |write: &AcceptedWrite| write.field("/spec/suspend") == Some(&Value::Bool(true));
    // The writes don't say what was restored.
    let is_known = |first: &AcceptedWrite| !trace.was_restored_between(first.at, at);
    trace.is_undisturbed(at)
        && trace.is_undisturbed(since)
        && states.clone().next().is_some_and(|(_, write)| write.at <= since && is_known(write))
        && states.all(|(_, write)| is_suspended(write))
}

/// A rejected password is tried again after growing pauses, and for each request of a user; a restart may forget the newest
/// rejection.
pub fn rejected_passwords_wait(trace: &HistoryTrace) -> Vec<String> {
    let mut tries: BTreeMap<(String, String), Vec<Duration>> = BTreeMap::new();
    for record in trace.served.iter().filter(|record| record.status == Some(401)) {
        if let Some(login) = record.request.login() {
            tries
                .entry((record.host.clone(), format!("{}:{}", login.0, login.1)))
                .or_default()
                .push(record.at);
        }
    }
    let rejected = tries.iter();
    rejected.filter_map(|((host, login), times)| too_many(trace, host, login, times)).collect()
}

fn too_many(trace: &HistoryTrace, host: &str, login: &str, times: &[Duration]) -> Option<String> {
    let user = login.split(':').next().unwrap_or_default();
    for (first, from) in times.iter().enumerate() {
        for (count, to) in times[first..].iter().enumerate().map(|(index, to)| (index + 1, to)) {
            let extra = starts(trace, *from, *to)
                + requests(trace, user, *from, *to)
                + accepted(trace, host, login, *from, *to);
            if count > allowed_between(trace, *from, *to) + extra {
                return Some(format!("{login} was rejected {count} times at {host} from {from:?} to {to:?}"));
            }
        }
    }
    None
}

/// How often a password may be tried from one time to another. After a restore, and in a namespace that becomes another tenant's, which
/// shares nothing with the tenant before, the pauses begin again.
fn allowed_between(trace: &HistoryTrace, from: Duration, to: Duration) -> usize {
    let begins = trace.history.events.iter().filter(|event| begins_again(event)).map(|event| event.at);
    let mut times: Vec<Duration> = begins.filter(|at| (from..to).contains(at)).collect();
    times.insert(0, from);
    times.push(to);
    times.sort();
    let spans = times.windows(2).map(|span| (span[0], span[1]));
    spans.map(|(from, to)| allowed(to.saturating_sub(from) + jumped(trace, from, to))).sum()
}

fn begins_again(event: &TimedEvent) -> bool {
    matches!(
        event.event,
        HistoryEvent::Step(UserStep::Restore(_) | UserStep::Label(..) | UserStep::Relabel(..))
    )
}

/// How often a password may be tried within a time, if each pause is twice the one before.
fn allowed(time: Duration) -> usize {
    let minutes = time.as_secs() / 60 + 1;
    usize::try_from(minutes.ilog2()).unwrap_or_default() + 1
}

/// How far the operator's clock was set forward in a time: for a node that was suspended, so much time has passed.
fn jumped(trace: &HistoryTrace, from: Duration, to: Duration) -> Duration {
    let jumps = trace.history.events.iter().filter_map(|event| match event.event {
        HistoryEvent::Fault(InjectedFault::Jump(seconds)) if (from..=to).contains(&event.at) => {
            u64::try_from(seconds).ok()
        }
        _ => None,
    });
    Duration::from_secs(jumps.sum())
}

fn starts(trace: &HistoryTrace, from: Duration, to: Duration) -> usize {
    trace.starts.iter().filter(|at| (from..=to).contains(*at)).count()
}

/// How often users asked for a validation, by the annotation or a new spec, which may be acted on later. So may be what lets the pauses
/// begin again.
fn requests(trace: &HistoryTrace, user: &str, from: Duration, to: Duration) -> usize {
    let earliest = from.saturating_sub(LATE);
    let asked = trace.writes.iter().filter(|write| {
        (earliest..=to).contains(&write.at) && write.name == user && write.is_registry() && asks(write)
    });
    // Who loses the Lease before the answer is in the status acts on the request again.
    let is_undisturbed = |at| trace.is_undisturbed_between(at, at + UNDER_WAY);
    let asked = asked.map(|write| if is_undisturbed(write.at) { 1 } else { 2 });
    let events = trace.history.events.iter();
    let before = events.filter(|event| begins_again(event) && (earliest..from).contains(&event.at));
    asked.sum::<usize>() + before.count()
}

fn asks(write: &AcceptedWrite) -> bool {
    let asked = |object: &Value| {
        let metadata = &object["metadata"];
        (metadata["generation"].clone(), metadata["annotations"][registry_api::REQUESTED_AT].clone())
    };
    let (Some(before), Some(after)) = (&write.before, &write.after) else { return false };
    !write.by_operator && asked(before) != asked(after)
}

/// How often the same password was accepted meanwhile, after which the pause begins again.
fn accepted(trace: &HistoryTrace, host: &str, login: &str, from: Duration, to: Duration) -> usize {
    let between =
        trace.served.iter().filter(|record| (from..=to).contains(&record.at) && record.host == host);
    let same = |record: &ServerRecord| {
        record.request.login().is_some_and(|(user, password)| format!("{user}:{password}") == login)
    };
    between.filter(|record| record.status == Some(200) && same(record)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::samples::{minute, registry, trace, tried, write};

    const HOST: &str = "r0.zero.example";

    #[test]
    fn finds_credentials_at_another_host() {
        let mut trace = trace();
        trace.history.events.clear();
        let mut moved = registry(2);
        moved["spec"]["endpoint"] = "http://r1.one.example".into();
        trace.writes = vec![
            write(minute(0), "", None, Some(registry(1))),
            write(minute(2), "", Some(registry(1)), Some(moved)),
        ];
        let soon = minute(2) + Duration::from_secs(5);
        trace.served = vec![
            tried(minute(1), HOST, 200),
            tried(soon, HOST, 200),
            tried(minute(3), "r1.one.example", 200),
        ];
        assert!(credentials_stay_at_permitted_hosts(&trace).is_empty());
        trace.served = vec![
            tried(minute(1), "r1.one.example", 200),
            tried(minute(3), HOST, 200),
            tried(minute(3), "tokens.elsewhere.example", 200),
        ];
        assert_eq!(credentials_stay_at_permitted_hosts(&trace).len(), 3);
    }

    #[test]
    fn finds_suspended_registries_that_are_signed_in_to() {
        let mut trace = trace();
        trace.history.events.clear();
        let mut suspended = registry(2);
        suspended["spec"]["suspend"] = true.into();
        trace.writes = vec![
            write(minute(0), "", None, Some(registry(1))),
            write(minute(2), "", Some(registry(1)), Some(suspended.clone())),
        ];
        let soon = minute(2) + Duration::from_secs(5);
        trace.served = vec![tried(minute(1), HOST, 200), tried(soon, HOST, 200)];
        assert!(suspended_registries_are_left_alone(&trace).is_empty());
        trace.served.push(tried(minute(3), HOST, 200));
        assert_eq!(suspended_registries_are_left_alone(&trace).len(), 1);
        let restored = HistoryEvent::Step(UserStep::Restore(Duration::from_secs(9)));
        trace.history.events.push(TimedEvent { at: minute(2) + Duration::from_secs(8), event: restored });
        assert!(suspended_registries_are_left_alone(&trace).is_empty(), "it was restored without it");
        trace.history.events.clear();
        trace.writes.push(write(minute(2), "", Some(suspended), Some(registry(3))));
        assert!(suspended_registries_are_left_alone(&trace).is_empty(), "it was resumed");
    }

    #[test]
    fn finds_passwords_that_are_tried_too_often() {
        let after = |seconds: &[u64]| {
            let mut trace = trace();
            trace.history.events.clear();
            trace.history.active = minute(100);
            let times = seconds.iter().map(|seconds| Duration::from_secs(*seconds));
            trace.served = times.map(|at| tried(at, HOST, 401)).collect();
            rejected_passwords_wait(&trace).len()
        };
        assert_eq!(after(&[0, 60, 180, 420]), 0);
        assert_eq!(after(&[0, 59]), 1);
        assert_eq!(after(&[0, 60, 120]), 1);
    }

    #[test]
    fn pauses_begin_again_for_another_tenant() {
        let tried_at = |seconds: &[u64]| {
            let mut trace = trace();
            let relabelled = HistoryEvent::Step(UserStep::Relabel(2, 0));
            trace.history.events = vec![TimedEvent { at: Duration::from_secs(70), event: relabelled }];
            trace.history.active = minute(100);
            let times = seconds.iter().map(|seconds| Duration::from_secs(*seconds));
            trace.served = times.map(|at| tried(at, HOST, 401)).collect();
            rejected_passwords_wait(&trace).len()
        };
        assert_eq!(tried_at(&[0, 60, 71, 131, 251]), 0);
        assert_eq!(tried_at(&[0, 60, 71, 90]), 1);
    }
}
