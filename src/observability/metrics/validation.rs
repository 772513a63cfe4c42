//! What the metrics and the log say of a validation.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use registry_api::{ConditionType, Reason, RegistryStatus};
use registry_probe::Findings;
use registry_verdict::{
    assess::Observation,
    object::{RegistryObject, RegistryScope},
};

use super::Metrics;

/// Labels of a finished validation.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ValidationLabels {
    scope: &'static str,
    result: &'static str,
    reason: &'static str,
}

/// The label of a layer.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct LayerLabels {
    layer: &'static str,
}

/// The label of an outcome.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct OutcomeLabels {
    outcome: &'static str,
}

impl Metrics {
    /// Counts a validation that led to this status, and logs it.
    pub fn count_validation(
        &self,
        object: &RegistryObject,
        status: &RegistryStatus,
        observation: &Observation,
    ) {
        let Some(ready) = status.condition(ConditionType::Ready) else {
            return;
        };
        let reason = ready.reason.parse::<Reason>().map_or("Unknown", Reason::as_str);
        self.validated(object.key.scope(), &ready.status, reason);
        tracing::info!(registry = %object.key, ready = ready.status, reason, "validated");
        if let Some(findings) = observation.findings() {
            self.observe_layers(findings);
            self.count_requests(findings);
        }
    }

    fn observe_layers(&self, findings: &Findings) {
        let durations = &findings.durations;
        let layers = [
            ("resolve", durations.resolve),
            ("connect", durations.connect),
            ("tls", durations.tls),
            ("request", durations.request),
        ];
        for (layer, duration) in layers {
            self.layer(layer, duration);
        }
    }

    fn count_requests(&self, findings: &Findings) {
        let requests = &findings.requests;
        let outcomes = [
            ("granted", requests.granted),
            ("refused", requests.refused),
            ("throttled", requests.throttled),
            ("server_error", requests.server_error),
            ("other", requests.other),
            ("failed", requests.failed),
        ];
        for (outcome, count) in outcomes.into_iter().filter(|(_, count)| *count > 0) {
            self.registry_requests(outcome, count.into());
        }
    }

    /// Counts a validation with this status and reason of Ready.
    pub fn validated(&self, scope: RegistryScope, ready: &str, reason: &'static str) {
        let result = match ready {
            "True" => "usable",
            "False" => "unusable",
            _ => "unknown",
        };
        self.validations.get_or_create(&ValidationLabels { scope: scope.label(), result, reason }).inc();
    }

    /// Observes the time that a validation spent in a layer.
    pub fn layer(&self, layer: &'static str, duration: Duration) {
        self.layers.get_or_create(&LayerLabels { layer }).observe(duration.as_secs_f64());
    }

    /// Counts requests to registries with this outcome.
    pub fn registry_requests(&self, outcome: &'static str, count: u64) {
        self.requests.get_or_create(&OutcomeLabels { outcome }).inc_by(count);
    }
}
