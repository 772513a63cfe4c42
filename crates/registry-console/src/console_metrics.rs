//! What Prometheus and the kubelet ask for: a few numbers, and whether the program answers. Nothing here names a user or a registry.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{StatusCode, header};
use registry_check::advice::CheckOutcome;

use crate::{console::Console, guard::RequestRefusal};

/// Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why a request is refused.
#[derive(Clone, Copy, Debug)]
pub enum RefusalCause {
    /// It is for another host.
    Host,
    /// It would change something, and is from elsewhere.
    Origin,
    /// Nobody is signed in, or the API server refused the token.
    SignIn,
    /// There are too many.
    Limit,
}

impl From<RequestRefusal> for RefusalCause {
    fn from(refusal: RequestRefusal) -> Self {
        match refusal {
            RequestRefusal::Host => Self::Host,
            RequestRefusal::Origin => Self::Origin,
        }
    }
}

/// The numbers since the start.
#[derive(Debug, Default)]
pub struct ConsoleMetrics {
    validations: [AtomicU64; 3],
    refused: [AtomicU64; 4],
}

const OUTCOMES: [&str; 3] = ["usable", "unusable", "unclear"];
const CAUSES: [&str; 4] = ["host", "origin", "sign-in", "limit"];

impl ConsoleMetrics {
    /// Counts a validation.
    pub fn validated(&self, outcome: CheckOutcome) {
        let index = match outcome {
            CheckOutcome::Usable => 0,
            CheckOutcome::Unusable => 1,
            CheckOutcome::Unclear => 2,
        };
        self.validations[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refused request.
    pub fn refused(&self, cause: RefusalCause) {
        let index = match cause {
            RefusalCause::Host => 0,
            RefusalCause::Origin => 1,
            RefusalCause::SignIn => 2,
            RefusalCause::Limit => 3,
        };
        self.refused[index].fetch_add(1, Ordering::Relaxed);
    }

    fn text(&self, sessions: usize, addresses_known: bool) -> String {
        let mut text = String::new();
        let validations = OUTCOMES.into_iter().zip(&self.validations);
        counter(&mut text, ("validations", "Validations by result."), "result", validations);
        let refused = CAUSES.into_iter().zip(&self.refused);
        counter(&mut text, ("refused_requests", "Requests refused, by cause."), "cause", refused);
        gauge(&mut text, "sessions", "Sessions of signed-in users.", sessions);
        let help = "Whether the cluster's own addresses are known; until then, tenants' registries are not validated.";
        gauge(&mut text, "cluster_addresses_known", help, usize::from(addresses_known));
        text
    }
}

/// Writes a counter with one label.
fn counter<'a>(
    text: &mut String,
    (name, help): (&str, &str),
    label: &str,
    samples: impl Iterator<Item = (&'static str, &'a AtomicU64)>,
) {
    let name = format!("registry_console_{name}_total");
    // Writing to a string doesn't fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
    for (value, count) in samples {
        let _ = writeln!(text, "{name}{{{label}=\"{value}\"}} {}", count.load(Ordering::Relaxed));
    }
}

fn gauge(text: &mut String, name: &str, help: &str, value: usize) {
    let name = format!("registry_console_{name}");
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}

/// What `--metrics-address` serves. Every request is answered: nothing here is secret.
pub fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n") })
        .with_state(console)
}

async fn metrics(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let sessions = console.sessions().count();
    let text = console.metrics.text(sessions, console.knows_cluster_addresses());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_prometheus_format() {
        let metrics = ConsoleMetrics::default();
        metrics.validated(CheckOutcome::Usable);
        metrics.validated(CheckOutcome::Unclear);
        metrics.refused(RefusalCause::SignIn);
        let text = metrics.text(7, false);
        for line in [
            "# TYPE registry_console_validations_total counter",
            "registry_console_validations_total{result=\"usable\"} 1",
            "registry_console_validations_total{result=\"unusable\"} 0",
            "registry_console_refused_requests_total{cause=\"sign-in\"} 1",
            "registry_console_sessions 7",
            "registry_console_cluster_addresses_known 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
