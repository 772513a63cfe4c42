//! `kubectl registry describe`: one registry with its layers, its certificate, who can use it, and its newest events.

use anyhow::bail;
use k8s_openapi::{
    api::{core::v1::Namespace, events::v1::Event},
    jiff::Timestamp,
};
use kube::{Api, ResourceExt, api::ListParams};
use registry_api::{
    ConditionType, RegistrySpec, RegistryStatus, TENANT_LABEL,
    spec::{Scope as ApiScope, System, Tenant},
};
use registry_operator::{resolve, subject::Scope};

use crate::{
    admission::{api, resource},
    age::{age, until},
    cluster::{Cluster, Tenancy, words},
    object::Found,
    page::{Page, Span, Tone, plain, span},
    report::{layers, mark},
};

/// Where Events about cluster-scoped objects go, by convention.
const CLUSTER_EVENTS: &str = "default";
/// As many events as one wants to see.
const EVENTS: usize = 10;
/// As many namespaces as are listed by name.
const NAMESPACES: usize = 20;

/// What was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// In the order in which it is looked for; the first that is there is meant.
    pub scopes: Vec<Scope>,
    /// The name.
    pub name: String,
}

impl Asked {
    /// Understands `NAME`, `systemregistry/NAME` and `tenantregistry/NAME`. A mere name is looked for in both scopes:
    /// where a namespace was given, in that first.
    pub fn parse(text: &str, namespace_given: bool) -> Result<Self, String> {
        let Some((kind, name)) = text.split_once('/') else {
            let mut scopes = vec![Scope::System, Scope::Tenant];
            if namespace_given {
                scopes.reverse();
            }
            return Ok(Self { scopes, name: text.to_owned() });
        };
        let kind = kind.split('.').next().unwrap_or_default().to_lowercase();
        let scope = match kind.as_str() {
            System::SINGULAR | System::PLURAL | System::SHORT => Scope::System,
            Tenant::SINGULAR | Tenant::PLURAL | Tenant::SHORT => Scope::Tenant,
            _ => return Err(format!("{kind} is neither systemregistry nor tenantregistry")),
        };
        Ok(Self { scopes: vec![scope], name: name.to_owned() })
    }
}

/// A registry, and what there is to know around it.
#[derive(Debug)]
pub struct Description {
    /// The registry.
    pub found: Found,
    /// Where its references are read.
    pub references_namespace: String,
    /// Who can use it.
    pub users: Users,
    /// Its newest events, the newest last; or why they can't be read.
    pub events: Result<Vec<Event>, String>,
    /// Lines for a person.
    pub notes: Vec<String>,
}

/// Who can use a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Users {
    /// The tenants, in words.
    pub tenants: String,
    /// The namespaces, or why they can't be read.
    pub namespaces: Result<Vec<String>, String>,
}

/// Asks the cluster; none if there is no such registry.
pub async fn run(asked: &Asked, cluster: &Cluster) -> anyhow::Result<Option<Description>> {
    let (mut found, mut failure) = (Vec::new(), None);
    for scope in &asked.scopes {
        match find(cluster, *scope, &asked.name).await {
            Ok(registry) => found.extend(registry),
            // Who may see one scope need not be allowed to see the other.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let other = found.get(1).map(|other| {
        format!("There is a {} of that name too: {}", resource(other.scope).kind, how_to_name(other))
    });
    let Some(found) = found.into_iter().next() else { return failure.map_or(Ok(None), Err) };
    let description = Description {
        references_namespace: found.namespace().unwrap_or_else(|| cluster.system_namespace.clone()),
        users: users(cluster, &found).await,
        events: events(cluster, &found).await.map_err(|error| words(&error)),
        notes: other.into_iter().collect(),
        found,
    };
    Ok(Some(description))
}

async fn find(cluster: &Cluster, scope: Scope, name: &str) -> anyhow::Result<Option<Found>> {
    match api(cluster, scope, Some(&cluster.namespace)).get_opt(name).await {
        Ok(found) => Ok(found.map(|object| Found { scope, object })),
        Err(error) => bail!("the {} {name} can't be read: {}", resource(scope).kind, words(&error)),
    }
}

fn how_to_name(found: &Found) -> String {
    match found.namespace() {
        None => format!("systemregistry/{}", found.name()),
        Some(namespace) => format!("tenantregistry/{} -n {namespace}", found.name()),
    }
}

async fn users(cluster: &Cluster, found: &Found) -> Users {
    let (tenants, selector) = match found.namespace() {
        Some(namespace) => match cluster.tenancy(&namespace).await {
            Tenancy::Of(tenant) => (tenant.clone(), Some(format!("{TENANT_LABEL}={tenant}"))),
            Tenancy::Nobody | Tenancy::Absent => ("none: its namespace is nobody's".to_owned(), None),
            Tenancy::Unknown(why) => (format!("not known: {why}"), None),
        },
        None => match found.tenants() {
            None => ("all".to_owned(), Some(TENANT_LABEL.to_owned())),
            Some(tenants) => (tenants.join(", "), Some(format!("{TENANT_LABEL} in ({})", tenants.join(",")))),
        },
    };
    let namespaces = match selector {
        Some(selector) => labelled(cluster, &selector).await,
        None => Ok(Vec::new()),
    };
    Users { tenants, namespaces }
}

async fn labelled(cluster: &Cluster, selector: &str) -> Result<Vec<String>, String> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let found = api.list_metadata(&ListParams::default().labels(selector)).await;
    let found = found.map_err(|error| words(&error))?;
    Ok(found.items.iter().map(ResourceExt::name_any).collect())
}

async fn events(cluster: &Cluster, found: &Found) -> Result<Vec<Event>, kube::Error> {
    let namespace = found.namespace().unwrap_or_else(|| CLUSTER_EVENTS.to_owned());
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &namespace);
    let about = format!("regarding.kind={},regarding.name={}", resource(found.scope).kind, found.name());
    let uid = found.object.metadata.uid.as_deref();
    let mut events = api.list(&ListParams::default().fields(&about)).await?.items;
    // Not those of another registry that had the name before.
    events.retain(|event| event.regarding.as_ref().and_then(|object| object.uid.as_deref()) == uid);
    events.sort_by_key(time_of);
    Ok(events.split_off(events.len().saturating_sub(EVENTS)))
}

fn time_of(event: &Event) -> Option<Timestamp> {
    let last = event.series.as_ref().map(|series| series.last_observed_time.0);
    let own = event.event_time.as_ref().map(|time| time.0);
    let older = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let made = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    last.or(own).or(older).or(made)
}

impl Description {
    /// For a person.
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
            Some(namespace) => format!("tenant, in the namespace {namespace}"),
        };
        let ago = |time: Option<Timestamp>| {
            time.map_or_else(|| "never".to_owned(), |time| format!("{} ago", age(time, now)))
        };
        let suspended = found.object.data.pointer("/spec/suspend").and_then(serde_json::Value::as_bool);
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
        if suspended == Some(true) {
            rows.push(("Suspended", "yes: what follows is of before that".to_owned()));
        }
        rows.into_iter()
            .map(|(name, value)| vec![span(Tone::Strong, format!("{name}:")), plain(value)])
            .collect()
    }

    /// Which way of signing in, and by which Secret.
    fn credentials(&self) -> String {
        let Some(spec) = self.found.spec() else { return "can't be read".to_owned() };
        let Some(method) = method(&spec) else { return "none: anonymous".to_owned() };
        match resolve::credentials_secret(&spec) {
            Some(secret) => {
                format!("{method}, Secret {} in the namespace {}", secret.name, self.references_namespace)
            }
            None => method.to_owned(),
        }
    }

    fn layers(&self, status: &RegistryStatus, page: &mut Page) {
        page.gap();
        page.line([span(Tone::Strong, "Layers")]);
        if status.conditions.is_empty() {
            page.text("  None yet: the operator has not looked at it");
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
            page.text("  Of an earlier version of the registry: the newest change has yet to be looked at");
        }
    }

    fn users(&self, status: &RegistryStatus, page: &mut Page) {
        page.gap();
        page.line([span(Tone::Strong, "Available to")]);
        let namespaces = match &self.users.namespaces {
            Ok(names) => listed(names),
            Err(why) => format!("can't be listed: {why}"),
        };
        let counts = status.availability.as_ref();
        let secrets = self.found.text("/spec/availability/pullSecret/name");
        let kept = counts.and_then(|counts| counts.pull_secrets);
        let secrets = match (secrets, kept) {
            ("", _) => "none are asked for".to_owned(),
            (name, Some(kept)) => format!("{name}, kept in {kept} of these namespaces"),
            (name, None) => {
                format!("{name} is asked for; the operator has yet to say in how many namespaces it is")
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
            Err(why) => return page.text(format!("  They can't be read: {why}")),
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
                "AWS role by access keys"
            } else {
                "AWS role by the operator's own identity"
            }
        }),
    }
}

fn certificate(status: &RegistryStatus, now: Timestamp, page: &mut Page) {
    page.gap();
    page.line([span(Tone::Strong, "Certificate")]);
    let Some(tls) = &status.tls else {
        return page.text("  None was presented");
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
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_looked_for_where_it_is_meant_to_be() {
        let scopes = |text: &str, given| Asked::parse(text, given).map(|asked| asked.scopes);
        assert_eq!(scopes("packs", false), Ok(vec![Scope::System, Scope::Tenant]));
        assert_eq!(scopes("packs", true), Ok(vec![Scope::Tenant, Scope::System]));
        for kind in
            ["systemregistry", "SystemRegistries", "sysreg", "systemregistry.registry.spectrocloud.com"]
        {
            assert_eq!(scopes(&format!("{kind}/packs"), true), Ok(vec![Scope::System]), "{kind}");
        }
        assert_eq!(scopes("tenreg/charts", false), Ok(vec![Scope::Tenant]));
        assert!(scopes("pod/x", false).is_err());
    }

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
        let description = Description {
            found: Found { scope: Scope::System, object: object.unwrap() },
            references_namespace: "registry-system".to_owned(),
            users: Users { tenants: "a, b".to_owned(), namespaces: Ok(vec!["a-dev".into(), "b-dev".into()]) },
            events: Ok(Vec::new()),
            notes: Vec::new(),
        };
        description.page("2026-01-01T01:00:00Z".parse().unwrap()).render(false)
    }

    #[test]
    fn a_description_holds_layers_certificate_users_and_events() {
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
Credentials:   user and password, Secret login in the namespace registry-system
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
  Pull Secrets  packs-pull, kept in 2 of these namespaces

Newest events
  None
"
        );
    }

    #[test]
    fn a_registry_that_nobody_has_looked_at_says_so() {
        let text = described(&json!({"observedGeneration": -1}));
        assert!(text.contains("None yet: the operator has not looked at it"), "{text}");
        assert!(text.contains("None was presented") && text.contains("Validated:     never"), "{text}");
    }
}
