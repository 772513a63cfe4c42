//! Traces for the tests of the invariants.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    history::generate::history,
    registries::{ServerRecord, http::HttpRequest},
    trace::{AcceptedWrite, HistoryTrace},
};

/// A trace in which nothing happened.
pub fn trace() -> HistoryTrace {
    let mut history = history(1);
    history.events.clear();
    history.active = Duration::from_mins(1);
    HistoryTrace {
        history,
        writes: Vec::new(),
        requests: Vec::new(),
        idle_writes: Vec::new(),
        served: Vec::new(),
        changes: Vec::new(),
        broken: Vec::new(),
        looks: Vec::new(),
        starts: Vec::new(),
        crashes: Vec::new(),
        user_actions: Vec::new(),
        snapshots: Vec::new(),
    }
}

/// So many minutes.
pub fn minute(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

/// The registry `system-a` in that generation, at its own host.
pub fn registry(generation: i64) -> Value {
    json!({
        "metadata": {"name": "system-a", "uid": "uid-1", "generation": generation},
        "spec": {"endpoint": "http://r0.zero.example"},
        "status": {},
    })
}

/// A write of the registry `system-a` by the operator.
pub fn write(at: Duration, subresource: &str, before: Option<Value>, after: Option<Value>) -> AcceptedWrite {
    AcceptedWrite {
        at,
        by_operator: true,
        kind: "SystemRegistry".to_owned(),
        namespace: String::new(),
        name: "system-a".to_owned(),
        subresource: subresource.to_owned(),
        before: before.map(Into::into),
        after: after.map(Into::into),
    }
}

/// A request to a host with the password of `system-a`.
pub fn tried(at: Duration, host: &str, status: u16) -> ServerRecord {
    let authorization = format!("Basic {}", crate::registries::http::base64("system-a:password-1"));
    ServerRecord {
        at,
        host: host.to_owned(),
        request: HttpRequest {
            method: "GET".to_owned(),
            path: "/v2/".to_owned(),
            authorization: Some(authorization),
        },
        status: Some(status),
        retry_after: None,
    }
}
