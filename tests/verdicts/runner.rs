//! Runs a row: starts its hosts, validates the registry twice as the operator would, and compares every cell.
//!
//! The path is that of the operator's `reconcile`: spec → target, references → material, probe, assess. Only the API server
//! is played, and nothing is published.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use registry_api::{RegistrySpec, RegistryStatus};
use registry_probe::{Prober, ProberSettings};
use registry_verdict::{
    assess::{AvailabilityReport, Observation, ValidationOutcome, ValidationRecord, assess},
    cluster_addresses::ClusterAddresses,
    ecr::Urgency,
    known_status::KnownStatus,
    object::{RegistryKey, RegistryObject, RegistryScope},
    resolve::PolicySource,
    steps::{self, Askers, NamespaceTenant, NextStep, ValidationContext},
    validate::AdminPolicy,
};

use crate::{
    cluster,
    hosts::Stage,
    pki::{Client, PKI},
    row::{LAYERS, Line, Marker, Row},
    secrets::{Ledger, Secret},
    spec::{SYSTEM_NAMESPACE, Spec, TENANT_NAMESPACE},
    support::now,
};

/// The result of a row.
#[derive(Debug, Default)]
pub struct RowResult {
    /// How many cells were compared.
    pub cells: usize,
    /// Those that are wrong: what, expected, got.
    pub wrong: Vec<WrongCell>,
}

/// A wrong cell.
#[derive(Debug)]
pub struct WrongCell {
    pub cell: String,
    pub expected: String,
    pub got: String,
}

impl RowResult {
    /// One more cell.
    fn cell(&mut self, cell: &str, expected: impl ToString, got: impl ToString) {
        self.cells += 1;
        let (expected, got) = (expected.to_string(), got.to_string());
        if expected != got {
            self.wrong.push(WrongCell { cell: cell.to_owned(), expected, got });
        }
    }

    /// Checks an invariant of every row.
    fn holds(&mut self, what: &str, holds: bool, got: impl ToString) {
        if !holds {
            self.wrong.push(WrongCell { cell: what.to_owned(), expected: "so".into(), got: got.to_string() });
        }
    }
}

/// One validation.
struct Validation {
    status: RegistryStatus,
    outcome: ValidationOutcome,
    /// The findings as `Debug` text.
    debug: String,
    /// How many requests it took, at the registry and its token service.
    requests: u32,
}

/// Runs a row against its hosts.
pub async fn play(row: &Row, stage: &Stage, ledger: &Ledger) -> RowResult {
    let prober = prober(stage);
    let first = validate(row, stage, &prober).await;
    let requests = stage.requests("registry");
    let second = validate(row, stage, &prober).await;

    let mut outturn = RowResult::default();
    compare_conditions(&mut outturn, row, &first.status);
    compare_words(&mut outturn, row, stage, &first);
    if let Some(expected) = row.requests {
        outturn.cell("requests to the registry", expected, requests);
    }
    compare_details(&mut outturn, row, &first.status);
    compare_arrivals(&mut outturn, row, stage, ledger);
    keeps_the_contract(&mut outturn, row, &first, ledger);
    let differs = first.status.conditions != second.status.conditions;
    let both = format!("{}\n        then      {}", summary(&first.status), summary(&second.status));
    outturn.holds("two runs say the same", !differs, both);
    outturn
}

/// Validates once, and says the verdict on the credentials.
pub async fn validate_once(row: &Row, stage: &Stage, prober: &Prober) -> String {
    let played = validate(row, stage, prober).await;
    line(&played.status, "CredentialsValidated").to_string()
}

/// Validates once; returns the conditions and the number of requests.
pub async fn verdict_and_cost(row: &Row, stage: &Stage, prober: &Prober) -> (RegistryStatus, u32) {
    let played = validate(row, stage, prober).await;
    (played.status, played.requests)
}

/// A prober that knows the row's names.
pub fn prober(stage: &Stage) -> Prober {
    let name_servers = vec![stage.names.address];
    Prober::new(ProberSettings { version: "1.2.3".into(), name_servers, ..ProberSettings::default() })
        .unwrap()
}

async fn validate(row: &Row, stage: &Stage, prober: &Prober) -> Validation {
    let object = object(&row.spec, stage);
    let seen = look(&row.spec, &object, stage, prober).await;
    let failures = row.spec.was_ready.unwrap_or(0);
    let validation =
        ValidationRecord { transient_failures: failures, ..ValidationRecord::first(seen, now()) };
    let status = assess(&object, &validation, &AvailabilityReport::default());
    let (outcome, seen) = (validation.outcome(), validation.observation);
    let requests = match &seen {
        Observation::Probed(findings) => findings.requests.total(),
        _ => 0,
    };
    Validation { status, outcome, debug: format!("{seen:?}"), requests }
}

async fn look(spec: &Spec, object: &RegistryObject, stage: &Stage, prober: &Prober) -> Observation {
    let has_no_tenant = spec.scope == RegistryScope::Tenant && !spec.labelled;
    let references = cluster::references(spec, |text| stage.fill(text)).await;
    let context = ValidationContext {
        tenant: if has_no_tenant { NamespaceTenant::None } else { NamespaceTenant::Unknown },
        namespace: object.key.references_namespace(SYSTEM_NAMESPACE),
        policy: PolicySource::Namespace(SYSTEM_NAMESPACE),
        admin_policy: &admin_policy(spec, stage),
    };
    match steps::examine(object, context, &references).await.unwrap().plan {
        NextStep::Stop(seen) => seen,
        NextStep::Probe(case) => {
            let askers = Askers { prober: prober.clone(), tokens: None, now: now() };
            steps::probe(askers, *case, Urgency::Changed, None).await.seen
        }
    }
}

fn admin_policy(spec: &Spec, stage: &Stage) -> AdminPolicy {
    let ranges = |texts: &[String]| texts.iter().map(|text| stage.fill(text).parse().unwrap()).collect();
    AdminPolicy {
        egress_allow: ranges(&spec.allow),
        egress_deny: ranges(&spec.deny),
        cluster_addresses: ClusterAddresses::new(ranges(&spec.cluster)),
        trusted_token_services: spec.trusted.iter().map(|text| stage.fill(text).parse().unwrap()).collect(),
    }
}

const GENERATION: i64 = 3;

fn object(spec: &Spec, stage: &Stage) -> RegistryObject {
    let text = stage.fill(&spec.spec.to_string());
    let filled: RegistrySpec = serde_json::from_str(&text).unwrap();
    let key = match spec.scope {
        RegistryScope::System => RegistryKey::System { name: "packs".into() },
        RegistryScope::Tenant => {
            RegistryKey::Tenant { namespace: TENANT_NAMESPACE.into(), name: "packs".into() }
        }
    };
    RegistryObject {
        key,
        uid: "1".into(),
        created: None,
        resource_version: "1".into(),
        generation: GENERATION,
        deleting: false,
        finalizer: false,
        requested_at: None,
        spec: filled,
        status: spec.was_ready.map(|_| KnownStatus::of(&ready())).unwrap_or_default(),
        trimmed: false,
    }
}

/// The status of a registry that was ready until now.
fn ready() -> RegistryStatus {
    let condition = Condition {
        type_: "Ready".into(),
        status: "True".into(),
        reason: "Available".into(),
        message: "Credentials validated".into(),
        observed_generation: Some(GENERATION),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    };
    RegistryStatus {
        observed_generation: Some(GENERATION),
        conditions: vec![condition],
        ..RegistryStatus::default()
    }
}

/// Status and reason of a condition.
pub fn line(status: &RegistryStatus, kind: &str) -> Line {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or_else(
        || Line::new("absent", "absent"),
        |condition| Line::new(&condition.status, &condition.reason),
    )
}

/// Every condition in one line.
fn summary(status: &RegistryStatus) -> String {
    let conditions = status.conditions.iter();
    let parts = conditions.map(|condition| {
        format!("{} {}: {}", line(status, &condition.type_), condition.type_, condition.message)
    });
    parts.collect::<Vec<_>>().join(" | ")
}

fn message<'a>(status: &'a RegistryStatus, kind: &str) -> &'a str {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or("", |condition| &condition.message)
}

fn compare_conditions(outturn: &mut RowResult, row: &Row, status: &RegistryStatus) {
    let mut compare = |kind: &str, expected: &Line| {
        let got = line(status, kind);
        let shown =
            if got == *expected { got.to_string() } else { format!("{got}: {}", message(status, kind)) };
        outturn.cell(kind, expected, shown);
    };
    for (kind, expected) in LAYERS.iter().zip(&row.expected.layers) {
        compare(kind, expected);
    }
    compare("Ready", &row.expected.ready);
    let (reconciling, stalled) = match row.expected.marker {
        Marker::None => ("absent".to_owned(), "absent".to_owned()),
        Marker::Reconciling => ("True/Progressing".to_owned(), "absent".to_owned()),
        Marker::Stalled => ("absent".to_owned(), format!("True/{}", row.expected.ready.reason)),
    };
    for (kind, expected) in [("Reconciling", reconciling), ("Stalled", stalled)] {
        let got = status.conditions.iter().find(|condition| condition.type_ == kind);
        let got =
            got.map_or_else(|| "absent".to_owned(), |found| format!("{}/{}", found.status, found.reason));
        outturn.cell(kind, expected, got);
    }
}

fn compare_words(outturn: &mut RowResult, row: &Row, stage: &Stage, played: &Validation) {
    for (kind, words) in &row.message_contains {
        let (words, message) = (stage.fill(words), message(&played.status, kind));
        let got = if message.contains(&words) { words.clone() } else { message.to_owned() };
        outturn.cell(&format!("message of {kind}"), words, got);
    }
    if let Some(retry_after) = row.retry_after {
        let outcome = ValidationOutcome::Transient { retry_after };
        outturn.cell("Retry-After", format!("{outcome:?}"), format!("{:?}", played.outcome));
    }
}

/// What the status says beside its conditions.
fn compare_details(outturn: &mut RowResult, row: &Row, status: &RegistryStatus) {
    if let Some(expected) = row.presents {
        let tls = status.tls.clone().unwrap_or_default();
        let text = |part: Option<String>| part.unwrap_or_else(|| "nothing".into());
        let end = tls.not_after.map(|end| end.0.to_string());
        let parts = [text(tls.version), text(tls.subject), text(tls.issuer), text(end)];
        outturn.cell("status.tls", expected, parts.join(" | "));
        let fingerprint = tls.sha256_fingerprint.unwrap_or_default();
        let is_hex = fingerprint.len() == 64 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
        outturn.holds("a SHA-256 fingerprint", is_hex, fingerprint);
    }
    if let Some(expected) = row.ends {
        let end = status.credentials.as_ref().and_then(|credentials| credentials.expires_at.as_ref());
        outturn.cell("status.credentials", expected, end.map_or("nothing".into(), |end| end.0.to_string()));
    }
}

/// Credentials arrived only where the row permits, and somewhere if they are said to be right or wrong.
fn compare_arrivals(outturn: &mut RowResult, row: &Row, stage: &Stage, ledger: &Ledger) {
    let arrivals = stage.log.arrivals();
    let mut by_kind: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (secret, place) in ledger.trace(&arrivals) {
        let (kind, allowed) = match secret {
            Secret::Credential => ("credentials", row.permits.contains(&place.as_str())),
            Secret::IssuedToken => ("issued tokens", place == "registry"),
            Secret::ClientKey => ("the client's key", false),
        };
        let strays = by_kind.entry(kind).or_default();
        if !allowed {
            strays.push(place);
        }
    }
    let shown_to =
        arrivals.iter().filter(|arrival| arrival.certificate && !may_see_certificate(row, &arrival.place));
    by_kind
        .entry("the client certificate")
        .or_default()
        .extend(shown_to.map(|arrival| arrival.place.clone()));
    for kind in ["credentials", "issued tokens", "the client's key", "the client certificate"] {
        let strays = by_kind.get(kind).cloned().unwrap_or_default();
        outturn.cell(
            &format!("strays of {kind}"),
            "none",
            if strays.is_empty() { "none".into() } else { strays.join(", ") },
        );
    }
    for role in row.untouched {
        outturn.cell(&format!("connections to {role}"), 0, stage.connections(role));
    }
    let strangers: Vec<_> = arrivals
        .iter()
        .filter(|arrival| arrival.place.contains(':') || arrival.place == "elsewhere")
        .collect();
    outturn.cell("connections elsewhere", 0, strangers.len());
    let judged = ["Validated", "Rejected"].contains(&row.expected.layers[3].reason.as_str());
    let real = row.hosts.iter().any(crate::hosts::Host::is_a_process);
    let sent = arrivals.iter().flat_map(|arrival| &arrival.asked).any(|asked| {
        asked.authorization().is_some()
            || asked.body.contains("password=")
            || asked.body.contains("refresh_token=")
    });
    outturn.holds("no judgement of credentials that were not sent", !judged || real || sent, "sent nowhere");
}

/// The registry, and a token service that may have the credentials.
fn may_see_certificate(row: &Row, place: &str) -> bool {
    place == "registry" || row.permits.contains(&place)
}

/// Checks the invariants of every row.
fn keeps_the_contract(outturn: &mut RowResult, row: &Row, played: &Validation, ledger: &Ledger) {
    let status = &played.status;
    let order: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    let well_ordered = order.len() <= 7 && order.starts_with(&LAYERS) && order.get(5) == Some(&"Ready");
    outturn.holds("the layers in their order, then Ready", well_ordered, format!("{order:?}"));
    for condition in &status.conditions {
        let message = &condition.message;
        let length = message.chars().count();
        outturn.holds("a message of 1 to 1,024 characters", (1..=1024).contains(&length), message);
        outturn.holds(
            "no control characters",
            !message.chars().any(char::is_control),
            format!("{message:?}"),
        );
        outturn.holds(
            "observedGeneration",
            condition.observed_generation == Some(GENERATION),
            format!("{condition:?}"),
        );
    }
    let validated = line(status, "CredentialsValidated") == Line::new("True", "Validated");
    let message_contains = message(status, "CredentialsValidated") == "Credentials validated";
    outturn.holds(
        "`Credentials validated`, exactly where they are",
        validated == message_contains,
        message(status, "CredentialsValidated"),
    );
    for (what, text) in
        [("the status", serde_json::to_string(status).unwrap()), ("the findings", played.debug.clone())]
    {
        let secrets = ledger.found_in(text.as_bytes());
        outturn.holds(&format!("no secret in {what}"), secrets.is_empty(), format!("{secrets:?} in {text}"));
    }
    let unresolved = row.expected.layers[0].status != "True";
    outturn.holds("tls only where a server was reached", !(unresolved && status.tls.is_some()), "status.tls");
}

/// The ledger of rows whose servers make no secrets of their own.
pub fn ledger() -> Ledger {
    Ledger::new(&PKI.client(Client::Right).key_pem)
}
