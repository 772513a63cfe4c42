//! A registry as its own page. Pure.

use k8s_openapi::{
    api::events::v1::Event,
    jiff::{SignedDuration, Timestamp},
};
use kube::Resource as _;
use registry_api::{
    REQUESTED_AT, RegistryStatus,
    spec::{Registry, Scope},
    status::TlsStatus,
};

use crate::{
    listing::{RegistryRow, RowControls, ago},
    marks::managed_by,
    scope::ConsoleScope,
    verdict::{LayerRow, layers},
};

const NEWEST_EVENTS: usize = 8;
/// As long as an operator that runs may take to answer. A page doesn't wait longer for it.
const ANSWERED_WITHIN: SignedDuration = SignedDuration::from_mins(2);

/// A registry on its own page.
#[derive(Clone, Debug)]
pub struct RegistryDetail {
    /// What the table shows.
    pub row: RegistryRow,
    /// The table.
    pub list_url: String,
    /// The layers, in order.
    pub layers: Vec<LayerRow>,
    /// The certificate, field by field; empty if there is none.
    pub certificate: Vec<(&'static str, String)>,
    /// Who can use it.
    pub availability: Vec<(&'static str, String)>,
    /// The newest Events.
    pub events: Vec<EventRow>,
    /// The manifest, without what the API server adds. A registry holds no secrets.
    pub yaml: String,
    /// The tool that the registry is kept by, and where to change it then; empty if none is known.
    pub kept_by: String,
    /// What isn't known about its namespace; empty if all is known.
    pub note: String,
    /// The object, by what no other one has.
    pub uid: String,
    /// Whether the operator has not handled this spec.
    pub is_pending: bool,
    /// Whether the operator should have handled it by now.
    pub is_overdue: bool,
    /// The Secrets that it names, as namespace/name.
    pub secrets: Vec<String>,
    /// Whether nobody can delete it until that is changed.
    pub is_protected: bool,
}

/// An Event.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// When, for people.
    pub when: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// The reason.
    pub reason: String,
    /// The sentence.
    pub note: String,
}

impl RegistryDetail {
    /// Of a registry.
    pub fn new<S: Scope>(
        registry: &Registry<S>,
        scope: &ConsoleScope,
        system_namespace: &str,
        now: Timestamp,
    ) -> Self {
        let name = registry.metadata.name.clone().unwrap_or_default();
        let status = registry.status.clone().unwrap_or_default();
        let is_pending = is_pending(registry, &status);
        let secrets = secret_names(registry);
        let namespace = scope.secrets_namespace(system_namespace);
        Self {
            row: RegistryRow::new(registry, now, scope.registry_url(&name), &RowControls::default()),
            list_url: scope.list_url(),
            layers: layers(&status),
            certificate: status.tls.as_ref().map(|tls| certificate(tls, now)).unwrap_or_default(),
            availability: availability(registry),
            events: Vec::new(),
            yaml: manifest(registry),
            kept_by: managed_by(S::KIND, &registry.metadata).unwrap_or_default(),
            note: String::new(),
            uid: registry.metadata.uid.clone().unwrap_or_default(),
            is_pending: is_pending && !registry.spec.suspend,
            is_overdue: is_overdue(registry, now),
            secrets: secrets.iter().map(|name| format!("{namespace}/{name}")).collect(),
            is_protected: registry.spec.deletion_protection,
        }
    }

    /// Adds the newest of these Events.
    #[must_use]
    pub fn with_events(mut self, mut events: Vec<Event>, now: Timestamp) -> Self {
        events.sort_by_key(|event| std::cmp::Reverse(time_of(event)));
        self.events = events.iter().take(NEWEST_EVENTS).map(|event| event_row(event, now)).collect();
        self
    }
}

/// Whether the operator has not handled this spec yet, or a validation that was requested.
fn is_pending<S: Scope>(registry: &Registry<S>, status: &RegistryStatus) -> bool {
    let annotations = registry.metadata.annotations.as_ref();
    let asked = annotations.and_then(|annotations| annotations.get(REQUESTED_AT));
    status.observed_generation != registry.metadata.generation
        || (asked.is_some() && asked != status.last_handled_reconcile_at.as_ref())
}

/// Whether the last request to the operator, a changed spec or a validation that was asked for, is older than it takes to answer.
fn is_overdue<S: Scope>(registry: &Registry<S>, now: Timestamp) -> bool {
    let metadata = &registry.metadata;
    let asked = metadata.annotations.as_ref().and_then(|annotations| annotations.get(REQUESTED_AT));
    let asked = asked.and_then(|asked| asked.parse().ok());
    let changes = metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    let changed = changes.filter_map(|entry| entry.time.as_ref().map(|time| time.0)).max();
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    let is_recent = |at: &Timestamp| now.duration_since(*at).abs() < ANSWERED_WITHIN;
    !created.iter().chain(&asked).chain(&changed).any(is_recent)
}

fn time_of(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    series.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

fn event_row(event: &Event, now: Timestamp) -> EventRow {
    EventRow {
        when: time_of(event).map(|at| ago(now.duration_since(at))).unwrap_or_default(),
        kind: event.type_.clone().unwrap_or_default(),
        reason: event.reason.clone().unwrap_or_default(),
        note: event.note.clone().unwrap_or_default(),
    }
}

fn certificate(tls: &TlsStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let ends = tls.not_after.as_ref().map(|time| {
        let days = time.0.duration_since(now).as_secs() / 86_400;
        let left = if days < 0 { "expired".to_owned() } else { format!("{days} days left") };
        format!("{} ({left})", time.0)
    });
    let fields = [
        ("Subject", tls.subject.clone()),
        ("Issuer", tls.issuer.clone()),
        ("Expires", ends),
        ("SHA-256", tls.sha256_fingerprint.clone()),
        ("TLS version", tls.version.clone()),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn availability<S: Scope>(registry: &Registry<S>) -> Vec<(&'static str, String)> {
    let asked = registry.spec.availability.clone().unwrap_or_default();
    let tenants = match asked.tenants {
        _ if S::NAMESPACED => "The namespace's own tenant".to_owned(),
        None => "All tenants".to_owned(),
        Some(tenants) => tenants.join(", "),
    };
    let mut rows = vec![("Available to", tenants)];
    let counts = registry.status.as_ref().and_then(|status| status.availability.clone()).unwrap_or_default();
    rows.extend(counts.namespaces.map(|count| ("Namespaces", count.to_string())));
    rows.extend(asked.pull_secret.map(|secret| {
        let count = counts.pull_secrets.map_or(String::new(), |count| format!(" (in {count} namespaces)"));
        ("Pull Secret", format!("{}{count}", secret.name))
    }));
    rows
}

fn secret_names<S: Scope>(registry: &Registry<S>) -> Vec<String> {
    let secret = registry_verdict::resolve::credentials_secret(&registry.spec);
    secret.into_iter().map(ToOwned::to_owned).collect()
}

fn manifest<S: Scope>(registry: &Registry<S>) -> String {
    let mut shown = registry.clone();
    shown.status = None;
    shown.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut shown.meta_mut().annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    serde_saphyr::to_string(&shown).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use registry_api::SystemRegistry;
    use serde_json::{Value, json};

    use super::*;

    fn detail(metadata: &Value, status: &Value) -> RegistryDetail {
        let spec = json!({"endpoint": "https://r", "auth": {"basic": {"secretRef": {"name": "login"}}}});
        let object = json!({"metadata": metadata, "spec": spec, "status": status});
        let registry: SystemRegistry = serde_json::from_value(object).unwrap();
        RegistryDetail::new(&registry, &ConsoleScope::System, "registry-system", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn certificate_says_how_many_days_are_left() {
        let tls = json!({"subject": "CN=r", "notAfter": "1970-01-11T12:00:00Z"});
        let detail =
            detail(&json!({"name": "packs", "generation": 1}), &json!({"observedGeneration": 1, "tls": tls}));
        assert_eq!(detail.certificate[0], ("Subject", "CN=r".to_owned()));
        assert!(detail.certificate[1].1.ends_with("(10 days left)"), "{:?}", detail.certificate);
        assert!(!detail.is_pending);
        assert_eq!(detail.secrets, ["registry-system/login"]);
    }

    #[test]
    fn is_pending_until_this_generation_is_observed() {
        assert!(detail(&json!({"name": "p", "generation": 2}), &json!({"observedGeneration": 1})).is_pending);
        assert!(
            detail(&json!({"name": "p", "generation": 1}), &json!({"observedGeneration": -1})).is_pending
        );
    }

    #[test]
    fn page_waits_two_minutes_for_the_operator() {
        let overdue = |metadata: Value| detail(&metadata, &json!({})).is_overdue;
        assert!(!overdue(json!({"creationTimestamp": "1969-12-31T23:58:01Z"})));
        assert!(overdue(json!({"creationTimestamp": "1969-12-31T23:58:00Z"})));
        let requested = |at: &str| json!({"creationTimestamp": "1969-01-01T00:00:00Z", "annotations": {REQUESTED_AT: at}});
        assert!(!overdue(requested("1969-12-31T23:59:00Z")));
        assert!(overdue(requested("2969-12-31T23:59:00Z")), "a time to come keeps no page loading");
        let edited = |more: &str| {
            let entry = format!("{{\"time\": \"1969-12-31T23:59:00Z\"{more}}}");
            json!({"managedFields": [serde_json::from_str::<Value>(&entry).unwrap()]})
        };
        assert!(!overdue(edited("")));
        assert!(overdue(edited(", \"subresource\": \"status\"")), "the operator's own write");
    }

    #[test]
    fn manifest_holds_what_users_write() {
        let metadata = json!({"name": "p", "managedFields": [{"manager": "m"}]});
        let yaml = detail(&metadata, &json!({"observedGeneration": 1})).yaml;
        assert!(
            yaml.contains("endpoint: ") && !yaml.contains("managedFields") && !yaml.contains("status"),
            "{yaml}"
        );
    }
}
