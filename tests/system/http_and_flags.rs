//! Health, metrics, and the command line with its environment variables.

#![expect(clippy::float_cmp, reason = "counts and whole seconds are exact")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use http::{HeaderValue, Method, header};
use registry_testbed::{
    Operator, OperatorOptions, eventually, http_client::Call, in_repository, ports::Port,
};
use serde_json::{Value, json};

use crate::{
    harness::{self, SYSTEM_NAMESPACE},
    held_registry::HeldRegistry,
    metrics_format::{self, Family},
    objects::{DOWN, Protected, apply, delete, login, system_registry, tenant_registry},
};

const OPERATOR: &str = env!("CARGO_BIN_EXE_operator-in-tests");

/// The flags of the operator, each with a value that it must refuse (docs/architecture.md#promises).
const FLAGS: [(&str, &str); 13] = [
    ("--system-namespace", "Not_A_Namespace"),
    ("--metrics-address", "here"),
    ("--leader-election", "perhaps"),
    ("--tenant-access", "sometimes"),
    ("--egress-allow", "127.0.0.0/64"),
    ("--egress-deny", "everything"),
    ("--trusted-token-service", "https://auth.example.com"),
    ("--proxy", "socks5://proxy.example.com:1080"),
    ("--no-proxy", "10.0.0.0/33"),
    ("--ca-file", "/nowhere/ca.crt"),
    ("--concurrency", "0"),
    ("--log-format", "xml"),
    ("--log-level", "loud"),
];

// Health.

#[tokio::test]
async fn working_operator_is_alive_and_ready() -> Result<()> {
    let operator = harness::shared_operator().await?;
    for path in ["/healthz", "/readyz"] {
        let answer = Call::get(format!("{}{path}", operator.url())).send().await?;
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"ok\n"[..]), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn not_ready_before_first_list() -> Result<()> {
    let silent = HeldRegistry::start().await?; // an API server that takes requests, and answers none
    let directory = std::env::temp_dir().join(format!("registry-operator-unready-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let kubeconfig = write_kubeconfig(&directory, &silent.url())?;
    let operator =
        Operator::launch(OperatorOptions::new(OPERATOR, kubeconfig).arg("--leader-election=false"));
    let operator = operator.await?;
    silent.wait_for_requests(1).await?;
    let alive = Call::get(format!("{}/healthz", operator.url())).send().await?;
    assert_eq!(alive.status(), 200);
    let ready = Call::get(format!("{}/readyz", operator.url())).send().await?;
    assert_eq!(ready.status(), 503);
    assert!(String::from_utf8_lossy(ready.body()).contains("not synced"));
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

#[tokio::test]
async fn unknown_path_lists_known_paths() -> Result<()> {
    let operator = harness::shared_operator().await?;
    for path in ["/", "/metrics/", "/healthz/deep", "/debug/pprof", "//metrics"] {
        let answer = Call::get(format!("{}{path}", operator.url())).send().await?;
        assert_eq!(answer.status(), 404, "{path}");
        assert!(String::from_utf8_lossy(answer.body()).contains("/metrics"), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn rejects_all_methods_but_get() -> Result<()> {
    let operator = harness::shared_operator().await?;
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let answer = Call::new(method.clone(), format!("{}/healthz", operator.url())).send().await?;
        assert_eq!(answer.status(), 405, "{method}");
    }
    Ok(())
}

// Metrics.

#[tokio::test]
async fn serves_prometheus_text_to_every_client() -> Result<()> {
    let operator = harness::shared_operator().await?;
    for accept in ["*/*", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"] {
        let metrics =
            Call::get(format!("{}/metrics", operator.url())).header(header::ACCEPT, accept).send().await?;
        let kind = metrics.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        assert_eq!(kind, Some(b"text/plain; version=0.0.4; charset=utf-8".as_slice()), "{accept}");
        metrics_format::parse(std::str::from_utf8(metrics.body())?)?;
    }
    Ok(())
}

#[tokio::test]
async fn metrics_are_well_formed_and_named_well() -> Result<()> {
    let operator = harness::shared_operator().await?;
    for (name, family) in metrics_of(operator).await? {
        assert!(name.starts_with("registry_operator_"), "{name}");
        for unit in ["_milliseconds", "_millis", "_ms", "_minutes", "_kb", "_percent", "_total_total"] {
            assert!(!name.ends_with(unit), "{name}");
        }
        if name.contains("duration") || name.contains("wait") || name.contains("timestamp") {
            assert!(name.ends_with("_seconds"), "{name} is a time");
        }
        if family.kind == "gauge" {
            assert!(!name.ends_with("_total") && !name.ends_with("_count"), "{name} looks like a counter");
        }
    }
    Ok(())
}

#[tokio::test]
async fn metrics_cover_validations_queue_and_api() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let operator = harness::shared_operator().await?;
    let server = Protected::start().await?;
    let (name, secret) = (cluster.unique("measured"), cluster.unique("measured"));
    let namespace = cluster.tenant_namespace("measured", "measured").await?;
    apply(&cluster, &login(SYSTEM_NAMESPACE, &secret, "right")).await?;
    apply(&cluster, &system_registry(&name, server.spec(&secret))).await?;
    apply(&cluster, &tenant_registry(&namespace, &name, json!({"endpoint": DOWN}))).await?;
    let good = cluster.system(&name).becomes(&["Ready=True/Available"]).await?;
    cluster.tenant(&namespace, &name).becomes(&["Ready=False/ConnectionRefused"]).await?;

    let system = [("scope", "system"), ("registry_namespace", ""), ("name", &name)];
    let tenant = [("scope", "tenant"), ("registry_namespace", &namespace), ("name", &name)];
    let ready_metrics = || async {
        let metrics = metrics_of(operator).await?;
        ensure!(value(&metrics, "registry_operator_registry_ready", "", &system)? == 1.0, "not yet ready");
        ensure!(value(&metrics, "registry_operator_registry_ready", "", &tenant)? == 0.0, "still ready");
        Ok(metrics)
    };
    let metrics = eventually("the metrics tell what is ready", ready_metrics).await?;

    let end =
        good.status.and_then(|status| status.tls).and_then(|tls| tls.not_after).context("a certificate")?;
    let expiry = "registry_operator_certificate_expiry_timestamp_seconds";
    #[expect(clippy::cast_precision_loss, reason = "a time of this century")]
    let end = end.0.as_second() as f64;
    assert_eq!(value(&metrics, expiry, "", &system)?, end);
    assert!(value(&metrics, expiry, "", &tenant).is_err(), "no certificate was seen there");
    let credentials = &metrics["registry_operator_credentials_expiry_timestamp_seconds"];
    assert!(credentials.samples.is_empty(), "a password has no end that anybody told");

    let valid = [("scope", "system"), ("result", "usable"), ("reason", "Available")];
    let refused = [("scope", "tenant"), ("result", "unusable"), ("reason", "ConnectionRefused")];
    assert!(value(&metrics, "registry_operator_validations_total", "", &valid)? >= 1.0);
    assert!(value(&metrics, "registry_operator_validations_total", "", &refused)? >= 1.0);
    for layer in ["connect", "tls", "request"] {
        let layers = "registry_operator_validation_layer_duration_seconds";
        assert!(value(&metrics, layers, "_count", &[("layer", layer)])? >= 1.0, "{layer}");
    }
    for outcome in ["granted", "refused"] {
        let requests = "registry_operator_registry_requests_total";
        assert!(value(&metrics, requests, "", &[("outcome", outcome)])? >= 1.0, "{outcome}");
    }
    assert!(value(&metrics, "registry_operator_reconcile_duration_seconds", "_count", &[])? >= 2.0);
    assert!(value(&metrics, "registry_operator_queue_wait_seconds", "_count", &[])? >= 2.0);
    value(&metrics, "registry_operator_queue_depth", "", &[])?;
    value(&metrics, "registry_operator_reconciles_in_flight", "", &[])?;
    assert_eq!(value(&metrics, "registry_operator_leader", "", &[])?, 1.0);
    let patched = [("method", "PATCH"), ("code", "200")];
    assert!(value(&metrics, "registry_operator_api_requests_total", "", &patched)? >= 2.0);
    Ok(())
}

/// Of requests to registries; and of writes of pull Secrets.
const OUTCOMES: [&str; 10] = [
    "granted",
    "refused",
    "throttled",
    "server_error",
    "other",
    "failed",
    "done",
    "foreign",
    "conflict",
    "closing",
];

#[tokio::test]
async fn metric_labels_are_bounded() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let operator = harness::shared_operator().await?;
    let registry = cluster.system(&cluster.unique("labelled"));
    apply(&cluster, &system_registry(registry.name(), json!({"endpoint": DOWN}))).await?;
    registry.becomes(&["Ready=False/ConnectionRefused"]).await?;
    let metrics = metrics_of(operator).await?;
    let closed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("scope", ["system", "tenant"].as_slice()),
        ("result", &["usable", "unusable", "unknown"]),
        ("layer", &["resolve", "connect", "tls", "request"]),
        ("outcome", &OUTCOMES),
        ("write", &["create", "change", "delete"]),
        ("kind", &["api-servers", "services"]),
        ("method", &["GET", "POST", "PUT", "PATCH", "DELETE", "other"]),
    ]);
    for (family, sample) in
        metrics.iter().flat_map(|(name, family)| family.samples.iter().map(move |s| (name, s)))
    {
        for (label, value) in &sample.labels {
            let known = match label.as_str() {
                "reason" => value.parse::<registry_api::Reason>().is_ok(),
                "code" => value.parse::<u16>().is_ok(),
                "le" => true,
                "name" | "registry_namespace" => is_of_a_registry(family),
                label => closed.get(label).is_some_and(|values| values.contains(&value.as_str())),
            };
            assert!(known, "{family}: {label}={value:?}");
            assert!(
                !value.contains("127.0.0.1") && !value.contains("localhost"),
                "{family}: {label}={value:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn removes_series_of_deleted_registry() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let operator = harness::shared_operator().await?;
    let namespace = cluster.tenant_namespace("forgotten", "forgotten").await?;
    let name = cluster.unique("forgotten");
    let (system, tenant) = (cluster.system(&name), cluster.tenant(&namespace, &name));
    apply(&cluster, &system_registry(&name, json!({"endpoint": DOWN}))).await?;
    apply(&cluster, &tenant_registry(&namespace, &name, json!({"endpoint": DOWN}))).await?;
    system.becomes(&["Ready=False/ConnectionRefused"]).await?;
    tenant.becomes(&["Ready=False/ConnectionRefused"]).await?;
    let series = |count: usize| {
        let name = &name;
        move || async move {
            let metrics = metrics_of(operator).await?;
            let all = metrics.values().flat_map(|family| &family.samples);
            let of_it = all.filter(|sample| sample.labels.get("name") == Some(name)).count();
            ensure!(of_it == count, "{of_it} series");
            Ok(())
        }
    };
    eventually("each has its series", series(2)).await?;
    delete(&system).await?;
    eventually("the series of one is gone", series(1)).await?;
    delete(&tenant).await?;
    Ok(eventually("the series of both are gone", series(0)).await?)
}

// The command line.

#[test]
fn crds_command_prints_committed_crds() -> Result<()> {
    let output = run(&["crds"], &[])?;
    assert!(output.status.success());
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(in_repository("crds"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    assert_eq!(files.len(), 2);
    let mut expected = String::new();
    for file in files {
        expected += "---\n";
        expected += &std::fs::read_to_string(file)?;
    }
    let printed = String::from_utf8(output.stdout)?;
    for (number, (printed, expected)) in printed.lines().zip(expected.lines()).enumerate() {
        assert_eq!(printed, expected, "line {}: `make generate` brings crds/ up to date", number + 1);
    }
    assert!(printed == expected, "one is longer than the other");
    Ok(())
}

#[test]
fn help_lists_every_flag_and_variable() -> Result<()> {
    let output = run(&["--help"], &[])?;
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout)?;
    let defaults = ["registry-system", "0.0.0.0:8080", "[default: true]", "text", "json", "crds"];
    for word in FLAGS.map(|(flag, _)| flag).iter().chain(&defaults) {
        assert!(help.contains(word), "{word} is not in the help:\n{help}");
    }
    for (flag, _) in FLAGS {
        let variable = format!("[env: {}", variable(flag));
        assert!(help.contains(&variable), "{variable} is not in the help:\n{help}");
    }
    Ok(())
}

#[test]
fn rejects_invalid_flag_value() {
    assert_all_refused(|flag, value| run(&[&format!("{flag}={value}")], &[]));
}

#[test]
fn rejects_invalid_variable_by_flag_name() {
    assert_all_refused(|flag, value| run(&[], &[(&variable(flag), value)]));
}

#[test]
fn ignores_empty_variable() -> Result<()> {
    let variables = FLAGS.map(|(flag, _)| variable(flag));
    let mut empty: Vec<(&str, &str)> = variables.iter().map(|variable| (variable.as_str(), "")).collect();
    empty.retain(|(variable, _)| *variable != "REGISTRY_OPERATOR_METRICS_ADDRESS");
    refuses("KUBECONFIG", run(&["--metrics-address=127.0.0.1:0"], &empty))?;
    let output = run(&["crds"], &[("REGISTRY_OPERATOR_METRICS_ADDRESS", "")])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

#[test]
fn crds_command_survives_closed_pipe() -> Result<()> {
    let mut printing = Command::new(OPERATOR).arg("crds").stdout(Stdio::piped()).spawn()?;
    drop(printing.stdout.take());
    ensure!(printing.wait()?.success());
    Ok(())
}

#[test]
fn rejects_unknown_flag_and_subcommand() -> Result<()> {
    for argument in ["--egress", "crd"] {
        let output = run(&[argument], &[])?;
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr)?.contains(argument));
    }
    Ok(())
}

#[test]
fn reports_address_in_use_by_flag_name() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let output = run(&[&format!("--metrics-address={}", taken.local_addr()?)], &[])?;
    refuses("--metrics-address", Ok(output))
}

#[test]
fn exits_without_kubeconfig() -> Result<()> {
    let output = run(&["--metrics-address=127.0.0.1:0"], &[])?;
    refuses("KUBECONFIG", Ok(output))?;
    let missing = "/nowhere/kubeconfig";
    let output = run(&["--metrics-address=127.0.0.1:0"], &[("KUBECONFIG", missing)])?;
    refuses(missing, Ok(output))
}

#[tokio::test]
async fn applies_every_variable() -> Result<()> {
    let api_server = HeldRegistry::start().await?; // takes requests, and answers none
    let port = Port::reserve()?;
    let metrics = format!("127.0.0.1:{}", port.number());
    let directory = std::env::temp_dir().join(format!("registry-operator-variables-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let kubeconfig = write_kubeconfig(&directory, &api_server.url())?;
    let variables = [
        ("KUBECONFIG", kubeconfig.as_str()),
        ("REGISTRY_OPERATOR_SYSTEM_NAMESPACE", "elsewhere"),
        ("REGISTRY_OPERATOR_METRICS_ADDRESS", metrics.as_str()),
        ("REGISTRY_OPERATOR_LEADER_ELECTION", "true"),
        ("REGISTRY_OPERATOR_TENANT_ACCESS", "manual"),
        ("REGISTRY_OPERATOR_EGRESS_ALLOW", "127.0.0.0/8,10.0.0.0/8"),
        ("REGISTRY_OPERATOR_EGRESS_DENY", "10.1.0.0/16"),
        ("REGISTRY_OPERATOR_TRUSTED_TOKEN_SERVICE", "auth.example.com,auth.example.org:8443"),
        ("REGISTRY_OPERATOR_CONCURRENCY", "8"),
        ("REGISTRY_OPERATOR_LOG_FORMAT", "json"),
        ("REGISTRY_OPERATOR_LOG_LEVEL", "debug"),
    ];
    let log = directory.join("log");
    let mut operator = command(&[], &variables).stderr(std::fs::File::create(&log)?).spawn()?;
    let alive = || async { Call::get(format!("http://{metrics}/healthz")).send().await };
    let answered = eventually("it answers at the address of its variable", alive).await;
    let asked = api_server.wait_for_requests(2).await;
    let _ = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", operator.id())).status();
    let begun = Instant::now();
    let ended = eventually("SIGTERM ends it", || {
        std::future::ready(operator.try_wait().transpose().context("it runs").and_then(|ended| Ok(ended?)))
    })
    .await;
    let took = begun.elapsed();
    let _ = operator.kill();
    let lines = std::fs::read_to_string(&log)?;
    std::fs::remove_dir_all(&directory)?;
    answered?;
    asked.with_context(|| lines.clone())?;
    assert!(ended?.success(), "{lines}");
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    let lease = "GET /apis/coordination.k8s.io/v1/namespaces/elsewhere/leases/registry-operator";
    let requests = api_server.requests();
    assert!(requests.iter().any(|request| request.starts_with(lease)), "{requests:?}");
    let levels = lines.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?["level"].to_string()));
    let levels: BTreeSet<String> = levels.collect::<Result<_>>().with_context(|| lines.clone())?;
    assert!(levels.contains("\"DEBUG\""), "{levels:?}");
    Ok(())
}

fn write_kubeconfig(directory: &Path, server: &str) -> Result<String> {
    let path = directory.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    });
    std::fs::write(&path, config.to_string())?;
    Ok(path.display().to_string())
}

/// The operator with nothing in its environment but these.
fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(OPERATOR);
    command.args(arguments).env_clear().env("HOME", "/nowhere").envs(variables.iter().copied());
    command
}

/// Runs what must end by itself.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let mut limited = Command::new("timeout");
    let inner = command(arguments, variables);
    limited.arg("60").arg(inner.get_program()).args(inner.get_args()).env_clear().env("HOME", "/nowhere");
    limited.env("PATH", "/usr/bin:/bin").envs(variables.iter().copied());
    Ok(limited.output()?)
}

/// That it ended as a failure, and told why by that word, in a line or a few.
fn refuses(word: &str, output: Result<Output>) -> Result<()> {
    let output = output?;
    let message = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() != Some(124), "{word}: it runs on:\n{message}");
    ensure!(output.status.code().is_some_and(|code| code != 0), "{word}: {}\n{message}", output.status);
    ensure!(message.contains(word), "the message does not name {word}: {message}");
    ensure!(
        !message.contains("panicked") && message.lines().count() <= 5,
        "{word}: that is no message:\n{message}"
    );
    Ok(())
}

/// Every flag's wrong value is refused, by a program that is given it so.
fn assert_all_refused(given: impl Fn(&str, &str) -> Result<Output>) {
    let accepted: Vec<String> = FLAGS
        .iter()
        .filter_map(|(flag, value)| refuses(flag, given(flag, value)).err())
        .map(|error| format!("{error:#}"))
        .collect();
    assert!(accepted.is_empty(), "{}", accepted.join("\n"));
}

/// `--log-level` is `REGISTRY_OPERATOR_LOG_LEVEL`.
fn variable(flag: &str) -> String {
    format!("REGISTRY_OPERATOR_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase())
}

async fn metrics_of(operator: &Operator) -> Result<BTreeMap<String, Family>> {
    metrics_format::parse(&operator.metrics().await?)
}

fn is_of_a_registry(family: &str) -> bool {
    family.contains("registry_ready") || family.contains("expiry")
}

/// The one sample of a family with that suffix and exactly these labels.
fn value(
    metrics: &BTreeMap<String, Family>,
    family: &str,
    suffix: &str,
    labels: &[(&str, &str)],
) -> Result<f64> {
    let (name, labels) =
        (format!("{family}{suffix}"), labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let labels: BTreeMap<String, String> = labels.collect();
    let family = metrics.get(family).with_context(|| format!("there is no metric {family}"))?;
    let found = family.samples.iter().find(|sample| sample.name == name && sample.labels == labels);
    Ok(found.with_context(|| format!("there is no {name}{labels:?}"))?.value)
}
