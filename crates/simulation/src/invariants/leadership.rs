//! One replica writes at a time, and no process ends by itself.

use std::time::Duration;

use serde_json::Value;

use crate::{
    trace::{AcceptedWrite, HistoryTrace},
    wire::log::SentRequest,
};

/// A replica sends writes of registries only while the Lease names it.
pub fn one_replica_writes_at_a_time(trace: &HistoryTrace) -> Vec<String> {
    let leases: Vec<&AcceptedWrite> = trace.writes.iter().filter(|write| write.kind == "Lease").collect();
    let sent = trace.requests.iter().filter(|request| request.is_write() && is_of_registry(&request.path));
    let foreign =
        sent.filter(|request| holder(&leases, request.at).is_some_and(|holder| holder != identity(request)));
    foreign
        .map(|request| {
            let SentRequest { at, replica, path, .. } = request;
            format!("at {at:?}, replica {replica} wrote {path} in the term of {:?}", holder(&leases, *at))
        })
        .collect()
}

/// A process ends when it is killed or asked to, and otherwise never, whatever it is answered.
pub fn process_keeps_running(trace: &HistoryTrace) -> Vec<String> {
    trace.crashes.clone()
}

fn is_of_registry(path: &str) -> bool {
    path.contains("registries/") && !path.contains("dryRun")
}

fn identity(request: &SentRequest) -> String {
    format!("replica-{}_{}", request.replica, request.incarnation)
}

/// Returns who has the Lease at a time. Within a moment of its change, both may be right.
fn holder(leases: &[&AcceptedWrite], at: Duration) -> Option<String> {
    let index = leases.partition_point(|write| write.at <= at);
    let newest = leases.get(index.checked_sub(1)?)?;
    let holder = newest.field("/spec/holderIdentity").and_then(Value::as_str)?;
    (!holder.is_empty()).then(|| holder.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
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
        trace.requests = vec![sent(minute(1), 0), sent(minute(3), 1)];
        assert!(one_replica_writes_at_a_time(&trace).is_empty());
        trace.requests.push(sent(minute(3), 0));
        assert_eq!(one_replica_writes_at_a_time(&trace).len(), 1);
    }
}
