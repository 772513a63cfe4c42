//! The dashboard and the alerts: parsed by Prometheus' own parser, about metrics that the operator has, and firing if
//! and only if they should.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use registry_api::spec::{Registry, Tenant};
use registry_operator::observability::metrics::{Metrics, SecretWrite, SecretWriteOutcome};
use registry_testbed::{in_repository, tools::Tool};
use registry_verdict::object::{self, RegistryObject};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::programs::{run, text_of};

const ALERTS: &str = "charts/registry-operator/files/alerts.yaml";
const DASHBOARD: &str = "charts/registry-operator/files/dashboard.json";

#[derive(Deserialize)]
struct Alert {
    #[serde(rename = "alert")]
    name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    metrics: BTreeMap<String, Option<Vec<String>>>,
}

async fn alerts() -> Result<Vec<Alert>> {
    let file = in_repository(ALERTS).display().to_string();
    let lines = run(Tool::PrometheusRules, &["check", &file], &[], "").await?.ok()?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The operator's metrics, each with a sample.
fn measured() -> Result<Metrics> {
    let metrics = Metrics::new();
    metrics.validated(object::RegistryScope::System, "True", "Available");
    metrics.layer("tls", Duration::from_millis(1));
    metrics.registry_requests("answered", 1);
    metrics.api_request("GET", 200);
    metrics.aws_request("ecr", "granted");
    metrics.pull_secret_write(SecretWrite::Create, SecretWriteOutcome::Foreign);
    metrics.waited(Duration::ZERO);
    metrics.reconciled(Duration::ZERO);
    metrics.registry(&tenants_registry()?);
    metrics.guard_in_force(Some(true));
    metrics.registry_mutators(0);
    metrics.cluster_addresses_known("services", true);
    Ok(metrics)
}

/// The operator's metrics by the names of their samples, each with its labels.
pub fn exposed() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text = measured()?.text()?;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if !line.starts_with('#') {
            let (name, labels) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap_or(line), ""));
            let labels =
                labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
            found.entry(name.to_owned()).or_insert_with(BTreeSet::new).extend(labels);
        }
    }
    Ok(found)
}

/// The operator's metrics by the names that pages have for them: without the parts of a histogram.
pub fn families() -> Result<BTreeSet<String>> {
    let metrics = measured()?;
    let text = metrics.text()?;
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let families: BTreeSet<String> = kinds.map(|(name, _)| name.to_owned()).collect();
    // A metric without a sample is not exposed.
    for name in registered(&metrics) {
        let is_exposed = ["", "_seconds", "_total"]
            .iter()
            .any(|suffix| families.contains(&format!("registry_operator_{name}{suffix}")));
        ensure!(is_exposed, "add a sample of the metric {name} to `measured`");
    }
    Ok(families)
}

/// The names in the registry of metrics, which shows them only so.
fn registered(metrics: &Metrics) -> BTreeSet<String> {
    let shown = format!("{metrics:?}");
    let names = shown.split("Descriptor { name: \"").skip(1);
    names.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
}

/// A registry of which every metric can be told.
fn tenants_registry() -> Result<RegistryObject> {
    let (at, time) = ("2026-01-01T00:00:00Z", "lastTransitionTime");
    let ready = json!({"type": "Ready", "status": "True", "reason": "Available", "message": "", time: at});
    let registry = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": "charts", "namespace": "team-a"}, "spec": {"endpoint": "https://registry.example.com"},
        "status": {"conditions": [ready], "tls": {"notAfter": at}, "credentials": {"expiresAt": at}},
    });
    Ok(RegistryObject::of(serde_json::from_value::<Registry<Tenant>>(registry)?))
}

fn assert_exposed(used: &BTreeMap<String, Option<Vec<String>>>, by: &str) -> Result<()> {
    let exposed = exposed()?;
    for (metric, labels) in used {
        let known =
            exposed.get(metric).with_context(|| format!("{by}: the operator has no metric {metric}"))?;
        for label in labels.iter().flatten() {
            assert!(known.contains(label), "{by}: {metric} has no label {label}, but {known:?}");
        }
    }
    Ok(())
}

/// What scraping puts into a label of its own: Prometheus with the Prometheus Operator, and Google's managed Prometheus. OpenShift forces
/// `namespace` upon metrics, rules and alerts.
const LABELS_OF_THE_TARGET: [&str; 14] = [
    "cluster",
    "container",
    "endpoint",
    "exported_namespace",
    "instance",
    "job",
    "location",
    "namespace",
    "node",
    "pod",
    "project_id",
    "prometheus",
    "service",
    "top_level_controller_name",
];

#[test]
fn no_metric_has_a_scrape_label() -> Result<()> {
    let exposed = exposed()?;
    assert!(exposed["registry_operator_registry_ready"].contains("registry_namespace"));
    for (metric, labels) in exposed {
        let taken = LABELS_OF_THE_TARGET.into_iter().find(|label| labels.contains(*label));
        assert_eq!(taken, None, "{metric}");
    }
    Ok(())
}

#[tokio::test]
async fn alerts_and_dashboard_use_registry_namespace() -> Result<()> {
    for alert in alerts().await? {
        let summary = &alert.annotations["summary"];
        let is_of_a_registry = summary.contains("$labels.name");
        assert_eq!(is_of_a_registry, summary.contains("$labels.registry_namespace"), "{summary}");
        // For the routes of Alertmanager, where nothing forces another.
        assert_eq!(is_of_a_registry, alert.labels.contains_key("namespace"), "{}", alert.name);
    }
    for file in [ALERTS, DASHBOARD] {
        let text = text_of(file)?;
        assert!(!text.contains("(scope, namespace") && !text.contains("$labels.namespace"), "{file}");
    }
    Ok(())
}

#[tokio::test]
async fn alerts_are_valid_and_use_existing_metrics() -> Result<()> {
    let alerts = alerts().await?;
    assert!(alerts.len() >= 10);
    for alert in &alerts {
        assert!(!alert.metrics.is_empty(), "{}", alert.name);
        assert_exposed(&alert.metrics, &alert.name)?;
        assert!(["warning", "critical"].contains(&&*alert.labels["severity"]), "{}", alert.name);
        for annotation in ["summary", "description"] {
            assert!(alert.annotations[annotation].len() > 30, "{} says no {annotation}", alert.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_alert_is_optional_and_documented() -> Result<()> {
    let schema: Value = serde_json::from_str(&text_of("charts/registry-operator/values.schema.json")?)?;
    let known = &schema["properties"]["prometheusRule"]["properties"]["disabled"]["items"]["enum"];
    let names: Vec<String> = alerts().await?.into_iter().map(|alert| alert.name).collect();
    assert_eq!(known, &json!(names));
    let operations = text_of("docs/operations.md")?;
    for name in names {
        assert!(operations.contains(&format!("### {name}\n")), "docs/operations.md does not explain {name}");
    }
    Ok(())
}

#[tokio::test]
async fn dashboard_uses_existing_metrics() -> Result<()> {
    let dashboard: Value = serde_json::from_str(&text_of(DASHBOARD)?)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions: Vec<String> = targets
        .filter_map(|target| {
            Some(target["expr"].as_str()?.replace("$__rate_interval", "5m").replace('\n', " "))
        })
        .collect();
    assert!(expressions.len() > 15);
    let answers = run(Tool::PrometheusRules, &["metrics"], &[], &expressions.join("\n")).await?.ok()?;
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers.len(), expressions.len());
    for (expression, answer) in expressions.iter().zip(answers) {
        assert_exposed(&serde_json::from_str(answer)?, expression)?;
    }
    Ok(())
}

#[tokio::test]
async fn operations_page_lists_every_metric() -> Result<()> {
    let operations = text_of("docs/operations.md")?;
    for line in Metrics::new().text()?.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(operations.contains(&format!("`{name}")), "docs/operations.md does not explain {name}");
    }
    Ok(())
}

// ---- When they fire

/// Healthy for two hours: one leader of two replicas, four registries that are ready.
const HEALTHY: [&str; 6] = [
    r#"registry_operator_leader{pod="a"} 1x120"#,
    r#"registry_operator_leader{pod="b"} 0x120"#,
    r#"registry_operator_registry_ready{scope="system",name="one"} 1x120"#,
    r#"registry_operator_registry_ready{scope="system",name="two"} 1x120"#,
    r#"registry_operator_registry_ready{scope="tenant",registry_namespace="team-a",name="three"} 1x120"#,
    r#"registry_operator_registry_ready{scope="tenant",registry_namespace="team-b",name="three"} 1x120"#,
];

async fn firing(series: &[&str], minutes: u32) -> Result<Vec<String>> {
    let case = json!({"series": series, "minutes": minutes}).to_string();
    let file = in_repository(ALERTS).display().to_string();
    let answer = run(Tool::PrometheusRules, &["fire", &file], &[], &case).await?.ok()?;
    Ok(serde_json::from_str(&answer)?)
}

/// The healthy series, with those that begin like one of `changed` replaced by it.
fn but(changed: &[&'static str]) -> Vec<&'static str> {
    let name = |series: &str| series.split(' ').next().unwrap_or_default().to_owned();
    let kept = HEALTHY.into_iter().filter(|series| !changed.iter().any(|other| name(other) == name(series)));
    kept.chain(changed.iter().copied()).collect()
}

#[tokio::test]
async fn no_alert_fires_while_healthy() -> Result<()> {
    let quiet = but(&[
        r#"registry_operator_guard_in_force{pod="a"} 1x120"#,
        r#"registry_operator_cluster_addresses_known{kind="services",pod="a"} 1x120"#,
        r#"registry_operator_api_requests_total{method="GET",code="200"} 0+60x120"#,
        r#"registry_operator_api_requests_total{method="GET",code="404"} 0+30x120"#,
        r#"registry_operator_queue_wait_seconds_bucket{le="1.0"} 0+60x120"#,
        r#"registry_operator_queue_wait_seconds_bucket{le="30.0"} 0+60x120"#,
        r#"registry_operator_queue_wait_seconds_bucket{le="+Inf"} 0+60x120"#,
        r#"registry_operator_certificate_expiry_timestamp_seconds{scope="system",name="one"} 2592000x120"#,
        r#"registry_operator_credentials_expiry_timestamp_seconds{scope="system",name="one"} 43200x120"#,
        r#"registry_operator_aws_requests_total{api="ecr",outcome="granted"} 0+1x120"#,
    ]);
    assert_eq!(firing(&quiet, 100).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn each_alert_fires_for_its_cause_only() -> Result<()> {
    let cases: [(&str, Vec<&str>); 11] = [
        ("RegistryOperatorAbsent", vec![r#"up{job="other"} 1x120"#]),
        ("RegistryOperatorWithoutLeader", but(&[r#"registry_operator_leader{pod="a"} 0x120"#])),
        ("RegistryOperatorSeveralLeaders", but(&[r#"registry_operator_leader{pod="b"} 1x120"#])),
        ("RegistryOperatorUnguarded", but(&[r#"registry_operator_guard_in_force{pod="b"} 0x120"#])),
        (
            "RegistryOperatorClusterAddressesUnknown",
            but(&[r#"registry_operator_cluster_addresses_known{kind="services",pod="a"} 0x120"#]),
        ),
        ("RegistryNotReady", but(&[r#"registry_operator_registry_ready{scope="system",name="one"} 0x120"#])),
        (
            "RegistryOperatorApiErrors",
            but(&[
                r#"registry_operator_api_requests_total{method="PATCH",code="403"} 0+10x120"#,
                r#"registry_operator_api_requests_total{method="GET",code="200"} 0+50x120"#,
            ]),
        ),
        (
            "RegistryOperatorFallsBehind",
            but(&[
                r#"registry_operator_queue_wait_seconds_bucket{le="10.0"} 0+1x120"#,
                r#"registry_operator_queue_wait_seconds_bucket{le="30.0"} 0+50x120"#,
                r#"registry_operator_queue_wait_seconds_bucket{le="+Inf"} 0+60x120"#,
            ]),
        ),
        (
            "RegistryCertificateEndsSoon",
            but(&[
                r#"registry_operator_certificate_expiry_timestamp_seconds{scope="system",name="one"} 86400x120"#,
            ]),
        ),
        (
            "RegistryCredentialsEndSoon",
            but(&[
                r#"registry_operator_credentials_expiry_timestamp_seconds{scope="system",name="one"} 7000x120"#,
            ]),
        ),
        (
            "RegistryAwsThrottled",
            but(&[
                r#"registry_operator_aws_requests_total{api="sts",outcome="throttled"} 0+3x120"#,
                r#"registry_operator_aws_requests_total{api="sts",outcome="granted"} 0+1x120"#,
            ]),
        ),
    ];
    for (alert, series) in cases {
        assert_eq!(firing(&series, 100).await?, [alert], "{series:?}");
    }
    Ok(())
}

#[tokio::test]
async fn alerts_when_most_registries_fail() -> Result<()> {
    let most = but(&[
        r#"registry_operator_registry_ready{scope="system",name="one"} 0x120"#,
        r#"registry_operator_registry_ready{scope="system",name="two"} 0x120"#,
        r#"registry_operator_registry_ready{scope="tenant",registry_namespace="team-a",name="three"} 0x120"#,
    ]);
    assert_eq!(firing(&most, 100).await?, ["RegistriesFailTogether", "RegistryNotReady"]);
    Ok(())
}

/// Series as OpenShift stores them: `namespace` is that of the Pod that was scraped, whatever the metric says.
fn as_openshift_stores_them(series: &[&str]) -> Result<Vec<String>> {
    let stored = |series: &&str| {
        let (name, rest) = series.split_once('{').with_context(|| format!("labels in {series}"))?;
        let (labels, values) = rest.split_once('}').with_context(|| format!("labels in {series}"))?;
        let kept = labels.split(',').filter(|label| !label.starts_with("namespace="));
        let labels: Vec<&str> = kept.chain([r#"namespace="registry-system""#]).collect();
        Ok(format!("{name}{{{}}}{values}", labels.join(",")))
    };
    series.iter().map(stored).collect()
}

fn texts(series: &[String]) -> Vec<&str> {
    series.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn openshift_alert_separates_tenants() -> Result<()> {
    let failing =
        r#"registry_operator_registry_ready{scope="tenant",registry_namespace="team-a",name="three"} 0x120"#;
    let stored = as_openshift_stores_them(&but(&[failing]))?;
    ensure!(stored.iter().all(|series| series.contains(r#"namespace="registry-system""#)), "{stored:?}");
    assert_eq!(firing(&texts(&stored), 100).await?, ["RegistryNotReady"]);
    assert_eq!(firing(&texts(&as_openshift_stores_them(&HEALTHY)?), 100).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn short_failure_fires_no_alert() -> Result<()> {
    let brief = but(&[r#"registry_operator_registry_ready{scope="system",name="one"} 1x92 0x28"#]);
    assert_eq!(firing(&brief, 100).await?, Vec::<String>::new());
    Ok(())
}
