//! The metrics for Prometheus. Label values come from closed sets, or are the name and namespace of a registry; never a
//! host.

mod validation;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use registry_api::ConditionType;
use registry_verdict::object::{RegistryKey, RegistryObject};

use crate::observability::exposition;

/// Labels of a request to AWS.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct AwsLabels {
    api: &'static str,
    outcome: &'static str,
}

/// Labels of a request to the API server.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ApiLabels {
    method: &'static str,
    code: u16,
}

/// A kind of write of a pull Secret.
#[derive(Clone, Copy, Debug)]
pub enum SecretWrite {
    /// The Secret didn't exist.
    Create,
    /// The Secret had to be changed.
    Change,
    /// The Secret had to be deleted.
    Delete,
}

/// The result of a write of a pull Secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretWriteOutcome {
    /// The write succeeded.
    Done,
    /// A Secret that the operator doesn't manage has the name.
    Foreign,
    /// The API server refused it.
    Refused,
    /// Another client wrote at the same time.
    Conflict,
    /// The namespace is being deleted.
    Closing,
    /// The namespace's quota is used up.
    Quota,
    /// Another failure, which will be retried.
    Failed,
}

impl SecretWriteOutcome {
    fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Foreign => "foreign",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Closing => "closing",
            Self::Quota => "quota",
            Self::Failed => "failed",
        }
    }
}

impl SecretWrite {
    fn label(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Delete => "delete",
        }
    }
}

/// Labels of a write of a pull Secret.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct SecretWriteLabels {
    write: &'static str,
    outcome: &'static str,
}

use validation::{LayerLabels, OutcomeLabels, ValidationLabels};

/// Everything that is measured.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    validations: Family<ValidationLabels, Counter>,
    layers: Family<LayerLabels, Histogram>,
    requests: Family<OutcomeLabels, Counter>,
    api_requests: Family<ApiLabels, Counter>,
    aws_requests: Family<AwsLabels, Counter>,
    secret_writes: Family<SecretWriteLabels, Counter>,
    secrets: Gauge,
    reconciles: Histogram,
    waits: Histogram,
    depth: Gauge,
    in_flight: Gauge,
    leading: Gauge,
    registries: RegistryGauges,
    checks: Checks,
}

const NETWORK_SECONDS: [f64; 10] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates all metrics, at zero.
    pub fn new() -> Self {
        let histogram = || Histogram::new(NETWORK_SECONDS);
        let mut metrics = Self {
            registry: Arc::default(),
            validations: Family::default(),
            layers: Family::new_with_constructor(|| Histogram::new(NETWORK_SECONDS)),
            requests: Family::default(),
            api_requests: Family::default(),
            aws_requests: Family::default(),
            secret_writes: Family::default(),
            secrets: Gauge::default(),
            reconciles: histogram(),
            waits: histogram(),
            depth: Gauge::default(),
            in_flight: Gauge::default(),
            leading: Gauge::default(),
            registries: RegistryGauges::default(),
            checks: Checks::default(),
        };
        metrics.registry = Arc::new(metrics.registered());
        metrics
    }

    fn registered(&self) -> Registry {
        let mut r = Registry::with_prefix("registry_operator");
        r.register("validations", "Validations by scope, result and reason", self.validations.clone());
        let (seconds, name) = (Unit::Seconds, "validation_layer_duration");
        r.register_with_unit(name, "Time that a validation spent in a layer", seconds, self.layers.clone());
        r.register("registry_requests", "Requests to registries by outcome", self.requests.clone());
        r.register(
            "api_requests",
            "Requests to the API server by method and code",
            self.api_requests.clone(),
        );
        r.register("aws_requests", "Requests to AWS by API and outcome", self.aws_requests.clone());
        r.register(
            "pull_secret_writes",
            "Writes of pull Secrets by kind and outcome",
            self.secret_writes.clone(),
        );
        r.register("pull_secrets", "Pull Secrets that are in tenants' namespaces", self.secrets.clone());
        let name = "reconcile_duration";
        r.register_with_unit(
            name,
            "Time from taking a registry up to its end",
            Unit::Seconds,
            self.reconciles.clone(),
        );
        let name = "queue_wait";
        r.register_with_unit(
            name,
            "Time that a due registry waited for its turn",
            Unit::Seconds,
            self.waits.clone(),
        );
        r.register("queue_depth", "Registries that are due and wait for their turn", self.depth.clone());
        r.register("reconciles_in_flight", "Registries being worked on", self.in_flight.clone());
        r.register("leader", "1 while this replica is the leader", self.leading.clone());
        r.register_collector(Box::new(self.registries.clone()));
        r.register_collector(Box::new(self.checks.clone()));
        r
    }

    /// Returns all metrics in Prometheus' text format.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut openmetrics = String::new();
        prometheus_client::encoding::text::encode(&mut openmetrics, &self.registry)?;
        Ok(exposition::prometheus(&openmetrics))
    }

    /// Counts a request to the API server; code 0 means no response.
    pub fn api_request(&self, method: &'static str, code: u16) {
        self.api_requests.get_or_create(&ApiLabels { method, code }).inc();
    }

    /// Counts a request to AWS with that outcome.
    pub fn aws_request(&self, api: &'static str, outcome: &'static str) {
        self.aws_requests.get_or_create(&AwsLabels { api, outcome }).inc();
    }

    /// Counts a write of a pull Secret with that outcome.
    pub fn pull_secret_write(&self, write: SecretWrite, outcome: SecretWriteOutcome) {
        let (write, outcome) = (write.label(), outcome.label());
        self.secret_writes.get_or_create(&SecretWriteLabels { write, outcome }).inc();
    }

    /// Sets the number of existing pull Secrets.
    pub fn pull_secrets(&self, count: usize) {
        self.secrets.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Records how long a registry waited in the queue.
    pub fn waited(&self, time: Duration) {
        self.waits.observe(time.as_secs_f64());
    }

    /// Records how long a reconcile took.
    pub fn reconciled(&self, time: Duration) {
        self.reconciles.observe(time.as_secs_f64());
    }

    /// Sets the length of the queue, and the number of reconciles in progress.
    pub fn queue(&self, depth: usize, in_flight: usize) {
        self.depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }

    /// Sets whether this replica is the leader. A standby exposes no metrics about registries.
    pub fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
        if !leading {
            self.secrets.set(0);
            self.registries.lock().clear();
        }
    }

    /// Sets whether the admission policies are in force; `None` if that isn't known.
    pub fn guard_in_force(&self, in_force: Option<bool>) {
        self.checks.lock().guard_in_force = in_force;
    }

    /// Sets the number of mutating webhooks and policies that match registries.
    pub fn registry_mutators(&self, count: usize) {
        self.checks.lock().mutators = Some(count);
    }

    /// Sets whether the cluster's own addresses of that kind are known.
    pub fn cluster_addresses_known(&self, kind: &'static str, known: bool) {
        self.checks.lock().addresses.insert(kind, known);
    }

    /// Sets the gauges of a registry from its status.
    pub fn registry(&self, object: &RegistryObject) {
        self.registries.lock().insert(object.key.clone(), Gauges::of(object));
    }

    /// Removes the gauges of a registry.
    pub fn forget(&self, key: &RegistryKey) {
        self.registries.lock().remove(key);
    }
}

/// The gauges of all registries. They are stored compactly, and encoded only for a scrape.
#[derive(Clone, Debug, Default)]
struct RegistryGauges(Arc<Mutex<std::collections::HashMap<RegistryKey, Gauges>>>);

#[derive(Clone, Copy, Debug)]
struct Gauges {
    ready: bool,
    certificate_end: Option<Timestamp>,
    credentials_end: Option<Timestamp>,
}

impl Gauges {
    fn of(object: &RegistryObject) -> Self {
        let status = &object.status;
        Self {
            ready: status.is_true(ConditionType::Ready),
            certificate_end: status.certificate_end,
            credentials_end: status.credentials_end,
        }
    }
}

impl RegistryGauges {
    fn lock(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<RegistryKey, Gauges>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encode_gauge(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, unit): (&str, &str, Option<&Unit>),
        value: impl Fn(&Gauges) -> Option<f64>,
    ) -> Result<(), fmt::Error> {
        let registries = self.lock();
        let mut metric =
            encoder.encode_descriptor(name, help, unit, prometheus_client::metrics::MetricType::Gauge)?;
        for (key, gauges) in registries.iter() {
            let Some(value) = value(gauges) else { continue };
            let labels = [
                ("scope", key.scope().label()),
                // Not `namespace`, which is the namespace of the scraped Pod.
                ("registry_namespace", key.namespace().unwrap_or_default()),
                ("name", key.name()),
            ];
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for RegistryGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ready = ("registry_ready", "1 while the registry is Ready", None);
        self.encode_gauge(&mut encoder, ready, |gauges| Some(f64::from(u8::from(gauges.ready))))?;
        let end = |name, help| (name, help, Some(&Unit::Seconds));
        let certificate = end("certificate_expiry_timestamp", "When the registry's certificate ends");
        self.encode_gauge(&mut encoder, certificate, |gauges| seconds(gauges.certificate_end))?;
        let credentials = end("credentials_expiry_timestamp", "When the credentials end");
        self.encode_gauge(&mut encoder, credentials, |gauges| seconds(gauges.credentials_end))
    }
}

/// The results of checks of the cluster; absent until they are known.
#[derive(Clone, Debug, Default)]
struct Checks(Arc<Mutex<LastCheck>>);

#[derive(Debug, Default)]
struct LastCheck {
    guard_in_force: Option<bool>,
    mutators: Option<usize>,
    addresses: BTreeMap<&'static str, bool>,
}

impl Checks {
    fn lock(&self) -> std::sync::MutexGuard<'_, LastCheck> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Checks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let checked = self.lock();
        let gauge = prometheus_client::metrics::MetricType::Gauge;
        let help = "1 while the admission policies are in force, 0 while they are not";
        let metric = encoder.encode_descriptor("guard_in_force", help, None, gauge)?;
        if let Some(in_force) = checked.guard_in_force {
            ConstGauge::new(i64::from(in_force)).encode(metric)?;
        }
        let help = "Mutating webhooks and policies that match registries";
        let metric = encoder.encode_descriptor("registry_mutators", help, None, gauge)?;
        if let Some(count) = checked.mutators {
            ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX)).encode(metric)?;
        }
        let help = "1 while the addresses of the cluster itself that tenants may not reach are known";
        let mut metric = encoder.encode_descriptor("cluster_addresses_known", help, None, gauge)?;
        for (kind, known) in &checked.addresses {
            let labels = [("kind", *kind)];
            ConstGauge::new(i64::from(*known)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Unix time in seconds. The loss of precision beyond 2^53 seconds doesn't matter.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 fit a double exactly for 285 million years"
)]
fn seconds(time: Option<Timestamp>) -> Option<f64> {
    time.map(|time| time.as_second() as f64)
}
