//! One replica writes at a time, and no process ends by itself.

use std::time::Duration;

use serde_json::Value;

use crate::{
    history::{HistoryEvent, InjectedFault, UserStep},
    trace::{AcceptedWrite, HistoryTrace},
    wire::{fate::RequestPurpose, log::SentRequest},
};

/// How long a leader may write after it has renewed its Lease.
const TERM: Duration = Duration::from_secs(10);
/// How long a leader that ends may take to release its Lease.
const RELEASE: Duration = Duration::from_secs(2);

/// A replica sends writes (of a status, a finalizer, a pull Secret, an Event …) only while the Lease names it, and not longer than its
/// term after it was renewed.
pub fn one_replica_writes_at_a_time(trace: &HistoryTrace) -> Vec<String> {
    let leases: Vec<&AcceptedWrite> = trace.writes.iter().filter(|write| write.kind == "Lease").collect();
    let sent = trace.requests.iter().filter(|request| matches!(request.purpose(), RequestPurpose::Write(_)));
    let foreign = sent.filter(|request| !is_in_term(&leases, request) && !was_restored(trace, request.at));
    foreign
        .map(|request| {
            let SentRequest { at, replica, path, .. } = request;
            format!("at {at:?}, replica {replica} wrote {path} in the term of {:?}", holder(&leases, *at))
        })
        .collect()
}

/// A restored Lease may name two leaders for a term.
fn was_restored(trace: &HistoryTrace, at: Duration) -> bool {
    trace.history.events.iter().any(|event| {
        matches!(event.event, HistoryEvent::Step(UserStep::Restore(_)))
            && event.at <= at
            && at < event.at + TERM
    })
}

fn is_in_term(leases: &[&AcceptedWrite], request: &SentRequest) -> bool {
    holder(leases, request.at)
        .is_some_and(|(holder, since)| holder == identity(request) && request.at < since + TERM)
}

/// A leader that is asked to end releases its Lease.
pub fn lease_is_released(trace: &HistoryTrace) -> Vec<String> {
    let leases: Vec<&AcceptedWrite> = trace.writes.iter().filter(|write| write.kind == "Lease").collect();
    let stops = trace.history.events.iter().filter_map(|event| match event.event {
        HistoryEvent::Fault(InjectedFault::Stop(replica, _)) => Some((event.at, replica)),
        _ => None,
    });
    let kept = stops.filter(|(at, replica)| {
        let prefix = format!("replica-{replica}_");
        let leads = |at| holder(&leases, at).filter(|(holder, _)| holder.starts_with(&prefix));
        let Some((leader, since)) = leads(*at) else { return false };
        // Within the next renewal, the answer to a claim may be under way.
        let is_calm = trace.is_calm_but_for(*at, at.saturating_sub(TERM), *at + RELEASE);
        is_calm
            && *at > since + Duration::from_millis(10)
            && leads(*at + RELEASE).is_some_and(|(holder, _)| holder == leader)
    });
    kept.map(|(at, replica)| format!("replica {replica} was asked to end at {at:?} and kept the Lease"))
        .collect()
}

/// A process ends when it is killed or asked to, and otherwise never, whatever it is answered.
pub fn process_keeps_running(trace: &HistoryTrace) -> Vec<String> {
    trace.crashes.clone()
}

/// No task panics, and the API server in memory knows every request.
pub fn nothing_breaks(trace: &HistoryTrace) -> Vec<String> {
    trace.broken.clone()
}

fn identity(request: &SentRequest) -> String {
    format!("replica-{}_{}", request.replica, request.incarnation)
}

/// Returns who has the Lease at a time, and when it was written last.
fn holder(leases: &[&AcceptedWrite], at: Duration) -> Option<(String, Duration)> {
    let index = leases.partition_point(|write| write.at <= at);
    let newest = leases.get(index.checked_sub(1)?)?;
    let holder = newest.field("/spec/holderIdentity").and_then(Value::as_str)?;
    (!holder.is_empty()).then(|| (holder.to_owned(), newest.at))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        history::TimedEvent,
        invariants::samples::{minute, trace, write},
        wire::fate::Fate,
    };

    fn lease(at: Duration, holder: &str) -> AcceptedWrite {
        let object = json!({"spec": {"holderIdentity": holder}});
        AcceptedWrite { kind: "Lease".to_owned(), ..write(at, "", None, Some(object)) }
    }

    fn sent(at: Duration, replica: usize) -> SentRequest {
        SentRequest {
            at,
            replica,
            incarnation: 0,
            method: "PATCH".to_owned(),
            path: "/apis/registry.spectrocloud.com/v1alpha1/systemregistries/x/status?force=true".to_owned(),
            fate: Fate::Arrive,
        }
    }

    #[test]
    fn finds_processes_that_ended_by_themselves() {
        let mut trace = trace();
        assert!(process_keeps_running(&trace).is_empty());
        trace.crashes.push("at 1s, replica 0: it ended by itself".to_owned());
        assert_eq!(process_keeps_running(&trace).len(), 1);
    }

    #[test]
    fn finds_writes_after_the_term() {
        let mut trace = trace();
        trace.writes = vec![lease(minute(0), "replica-0_0"), lease(minute(2), "replica-1_0")];
        let soon = Duration::from_secs(9);
        trace.requests = vec![sent(soon, 0), sent(minute(2) + soon, 1)];
        assert!(one_replica_writes_at_a_time(&trace).is_empty());
        trace.requests = vec![sent(minute(2) + soon, 0)];
        assert_eq!(one_replica_writes_at_a_time(&trace).len(), 1, "in the term of another");
        trace.requests = vec![sent(minute(1), 0)];
        assert_eq!(one_replica_writes_at_a_time(&trace).len(), 1, "after its own");
        trace.writes.clear();
        trace.requests = vec![SentRequest { path: "/api/v1/namespaces/a/secrets".into(), ..sent(soon, 0) }];
        assert_eq!(one_replica_writes_at_a_time(&trace).len(), 1, "nobody has the Lease");
    }

    #[test]
    fn finds_a_lease_that_is_kept() {
        let mut trace = trace();
        let stop = HistoryEvent::Fault(InjectedFault::Stop(0, minute(1)));
        trace.history.events = vec![TimedEvent { at: minute(1), event: stop }];
        trace.writes = vec![lease(Duration::from_secs(57), "replica-0_0")];
        assert_eq!(lease_is_released(&trace).len(), 1);
        trace.writes.push(lease(minute(1) + Duration::from_secs(1), ""));
        assert!(lease_is_released(&trace).is_empty());
    }

    #[test]
    fn finds_what_breaks_the_simulation() {
        let mut trace = trace();
        assert!(nothing_breaks(&trace).is_empty());
        trace.broken.push("answered with 501: GET /".to_owned());
        assert_eq!(nothing_breaks(&trace).len(), 1);
    }
}
