//! The description of a registry in the cluster, for people. Pure.

use k8s_openapi::{api::events::v1::Event, jiff::Timestamp};
use registry_api::{ConditionType, RegistrySpec, RegistryStatus};
use registry_check::admission::resource;
use registry_verdict::resolve;
use serde_json::Value;

use crate::{
    age::{age, until},
    describe::{RegistryDescription, time_of},
    page::{Page, Span, Tone, plain, span},
    report::{layers, mark},
};

/// The maximum number of namespaces that are listed by name.
const NAMESPACES: usize = 20;

impl RegistryDescription {
    /// Returns the description as text.
    pub fn page(&self, now: Timestamp) -> Page {
        let mut page = Page::default();
        page.table(0, self.head(now));
        let status = self.found.status().unwrap_or_default();
        self.layers(&status, &mut page);
        certificate(&status, now, &mut page);
        self.users(&status, &mut page);
        self.events(now, &mut page);
        page
    }

    fn head(&self, now: Timestamp) -> Vec<Vec<Span>> {
        let found = &self.found;
        let scope = match found.namespace() {
            None => "system".to_owned(),
            Some(namespace) => format!("tenant, in namespace {namespace}"),
        };
        let ago = |time: Option<Timestamp>| {
            time.map_or_else(|| "never".to_owned(), |time| format!("{} ago", age(time, now)))
        };
        let is_set = |pointer| found.object.data.pointer(pointer).and_then(Value::as_bool) == Some(true);
        let mut rows = vec![
            ("Name", found.name()),
            ("Kind", resource(found.scope).kind),
            ("Scope", scope),
            ("Endpoint", found.text("/spec/endpoint").to_owned()),
            ("Content path", or_none(found.text("/spec/baseContentPath"))),
            ("Content type", found.text("/spec/contentType").to_owned()),
            ("Credentials", self.credentials()),
            ("Created", ago(found.created())),
            ("Validated", ago(found.time("/status/lastValidationTime"))),
        ];
        if let Some(end) = found.time("/status/credentials/expiresAt") {
            rows.push(("Credentials end", format!("{end} ({})", until(end, now))));
        }
        if is_set("/spec/deletionProtection") {
            rows.push(("Deletion", "protected until spec.deletionProtection is false".to_owned()));
        }
        if is_set("/spec/suspend") {
            rows.push(("Suspended", "yes; the conditions below are from before".to_owned()));
        }
        rows.into_iter()
            .map(|(name, value)| vec![span(Tone::Strong, format!("{name}:")), plain(value)])
            .collect()
    }

    /// Describes how the registry signs in, and with which Secret.
    fn credentials(&self) -> String {
        let Some(spec) = self.found.spec() else { return "unreadable".to_owned() };
        let Some(method) = method(&spec) else { return "none: anonymous".to_owned() };
        match resolve::credentials_secret(&spec) {
            Some(name) => {
                format!("{method}, Secret {name} in namespace {}", self.references_namespace)
            }
            None => method.to_owned(),
        }
    }

    fn layers(&self, status: &RegistryStatus, page: &mut Page) {
        page.gap();
        page.line([span(Tone::Strong, "Layers")]);
        if status.conditions.is_empty() {
            page.text("  None yet: the operator has not validated it");
            return;
        }
        let mut rows = layers(status);
        let summary = [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled].into_iter();
        rows.extend(summary.filter_map(|condition| status.condition(condition)).map(|one| {
            let sign = if one.type_ == "Ready" { mark(&one.status, &one.reason) } else { plain("") };
            vec![sign, plain(&one.type_), plain(&one.reason), plain(&one.message)]
        }));
        page.table(2, rows);
        if status.observed_generation != self.found.object.metadata.generation {
            page.text("  From an earlier generation: the operator has not validated the newest change yet");
        }
    }

    fn users(&self, status: &RegistryStatus, page: &mut Page) {
        page.gap();
        page.line([span(Tone::Strong, "Available to")]);
        let namespaces = match &self.users.namespaces {
            Ok(names) => listed(names),
            Err(why) => format!("not shown: {why}"),
        };
        let counts = status.availability.as_ref();
        let secrets = self.found.text("/spec/availability/pullSecret/name");
        let kept = counts.and_then(|counts| counts.pull_secrets);
        let secrets = match (secrets, kept) {
            ("", _) => "not requested".to_owned(),
            (name, Some(kept)) => format!("{name}, in {kept} of these namespaces"),
            (name, None) => {
                format!("{name}, requested; the operator has not reported yet where it is")
            }
        };
        page.table(
            2,
            [("Tenants", self.users.tenants.clone()), ("Namespaces", namespaces), ("Pull Secrets", secrets)]
                .into_iter()
                .map(|(name, value)| vec![span(Tone::Faint, name), plain(value)])
                .collect(),
        );
    }

    fn events(&self, now: Timestamp, page: &mut Page) {
        page.gap();
        page.line([span(Tone::Strong, "Newest events")]);
        let events = match &self.events {
            Ok(events) if events.is_empty() => return page.text("  None"),
            Ok(events) => events,
            Err(why) => return page.text(format!("  Not shown: {why}")),
        };
        let row = |event: &Event| {
            let warning = event.type_.as_deref() == Some("Warning");
            vec![
                plain(time_of(event).map_or_else(String::new, |time| format!("{} ago", age(time, now)))),
                span(if warning { Tone::Bad } else { Tone::Plain }, event.type_.clone().unwrap_or_default()),
                plain(event.reason.clone().unwrap_or_default()),
                plain(event.note.clone().unwrap_or_default()),
            ]
        };
        page.table(2, events.iter().map(row).collect());
    }
}

fn method(spec: &RegistrySpec) -> Option<&'static str> {
    let auth = spec.auth.as_ref()?;
    let ecr = auth.ecr.as_ref();
    match auth {
        auth if auth.basic.is_some() => Some("user and password"),
        auth if auth.token.is_some() => Some("token"),
        _ if ecr.is_some_and(|ecr| ecr.credentials.is_some()) => Some("AWS access keys"),
        _ => ecr.and_then(|ecr| ecr.sts.as_ref()).map(|sts| {
            if sts.secret_ref.is_some() {
                "AWS role, assumed with access keys"
            } else {
                "AWS role, assumed with the operator's identity"
            }
        }),
    }
}

fn certificate(status: &RegistryStatus, now: Timestamp, page: &mut Page) {
    page.gap();
    page.line([span(Tone::Strong, "Certificate")]);
    let Some(tls) = &status.tls else {
        return page.text("  None presented");
    };
    let ends = tls.not_after.as_ref().map(|time| format!("{} ({})", time.0, until(time.0, now)));
    let rows = [
        ("subject", tls.subject.clone()),
        ("issuer", tls.issuer.clone()),
        ("valid until", ends),
        ("sha256", tls.sha256_fingerprint.clone()),
        ("TLS version", tls.version.clone()),
    ];
    let rows =
        rows.into_iter().filter_map(|(name, value)| Some(vec![span(Tone::Faint, name), plain(value?)]));
    page.table(2, rows.collect());
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "none".to_owned() } else { text.to_owned() }
}

fn listed(names: &[String]) -> String {
    match names.len() {
        0 => "none".to_owned(),
        all @ ..=NAMESPACES => format!("{all}: {}", names.join(", ")),
        all => format!("{all}: {}, and {} more", names[..NAMESPACES].join(", "), all - NAMESPACES),
    }
}

#[cfg(test)]
mod tests {
    use registry_verdict::object::RegistryScope;
    use serde_json::json;

    use super::*;
    use crate::{describe::Users, object::FoundRegistry};

    fn described(status: &serde_json::Value) -> String {
        let object = serde_json::from_value(json!({
            "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry",
            "metadata": {"name": "packs", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "endpoint": "https://registry.example.com", "contentType": "Pack",
                "auth": {"basic": {"secretRef": {"name": "login"}}},
                "availability": {"tenants": ["a", "b"], "pullSecret": {"name": "packs-pull"}},
            },
            "status": status,
        }));
        let description = RegistryDescription {
            found: FoundRegistry { scope: RegistryScope::System, object: object.unwrap() },
            references_namespace: "registry-system".to_owned(),
            users: Users { tenants: "a, b".to_owned(), namespaces: Ok(vec!["a-dev".into(), "b-dev".into()]) },
            events: Ok(Vec::new()),
            notes: Vec::new(),
        };
        description.page("2026-01-01T01:00:00Z".parse().unwrap()).without_colours()
    }

    #[test]
    fn shows_conditions_certificate_users_and_events() {
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let text = described(&json!({
            "observedGeneration": 1, "lastValidationTime": "2026-01-01T00:30:00Z",
            "conditions": [
                condition("ResolvedRefs", "True", "Resolved", "found"),
                condition("TLSVerified", "False", "VerificationSkipped", "skipped"),
                condition("ContentPathAccessible", "Unknown", "Inconclusive", "who knows"),
                condition("Ready", "True", "Available", "Credentials validated"),
            ],
            "tls": {"subject": "CN=r", "issuer": "CN=ca", "notAfter": "2026-01-03T01:00:00Z", "sha256Fingerprint": "ab"},
            "availability": {"pullSecrets": 2},
        }));
        assert_eq!(
            text,
            "\
Name:          packs
Kind:          SystemRegistry
Scope:         system
Endpoint:      https://registry.example.com
Content path:  none
Content type:  Pack
Credentials:   user and password, Secret login in namespace registry-system
Created:       60m ago
Validated:     30m ago

Layers
  ✓  ResolvedRefs           Resolved             found
  ✗  TLSVerified            VerificationSkipped  skipped
  ?  ContentPathAccessible  Inconclusive         who knows
  ✓  Ready                  Available            Credentials validated

Certificate
  subject      CN=r
  issuer       CN=ca
  valid until  2026-01-03T01:00:00Z (in 2d)
  sha256       ab

Available to
  Tenants       a, b
  Namespaces    2: a-dev, b-dev
  Pull Secrets  packs-pull, in 2 of these namespaces

Newest events
  None
"
        );
    }

    #[test]
    fn describes_registry_without_status() {
        let text = described(&json!({"observedGeneration": -1}));
        assert!(text.contains("None yet: the operator has not validated it"), "{text}");
        assert!(!text.contains("Deletion:") && !text.contains("Suspended:"), "{text}");
        assert!(text.contains("None presented") && text.contains("Validated:     never"), "{text}");
    }
}
