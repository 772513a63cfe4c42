//! `kubectl registry list`: the registries in both scopes that are available to a namespace's tenant.
//!
//! [`select`], which is pure, decides which registries these are. The rest reads the cluster, and notes what the user
//! isn't allowed to read.

use anyhow::bail;
use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{ListParams, TypeMeta},
    core::ApiResource,
};
use registry_api::TENANT_LABEL;
use registry_check::{
    admission::{api, resource},
    cluster::{Cluster, Tenancy, is_forbidden, words},
};
use registry_verdict::{object::RegistryScope, text::listed};
use serde_json::Value;

use crate::{
    age::age,
    cli::{ListArgs, TableFormat},
    object::FoundRegistry,
    output,
    page::{Page, Span, Tone, plain, span},
};

/// The available registries, with notes about how they were found.
#[derive(Debug, Default)]
pub struct Listing {
    /// The registries.
    pub registries: Vec<FoundRegistry>,
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// Reads the registries.
pub async fn run(args: &ListArgs, cluster: &Cluster) -> anyhow::Result<Listing> {
    if args.all_namespaces {
        return everything(cluster).await;
    }
    let namespace = cluster.namespace.clone();
    let tenancy = cluster.tenancy(&namespace).await;
    if tenancy == Tenancy::Absent {
        bail!("namespace {namespace} not found");
    }
    let mut notes = Vec::new();
    notes.extend(about_tenancy(&namespace, &tenancy));
    let system = readable(all(cluster, RegistryScope::System, None).await, "SystemRegistries", &mut notes)?;
    let namespaces = namespaces(cluster, &namespace, &tenancy, &mut notes).await;
    let tenants = of_namespaces(cluster, &namespaces, &mut notes).await?;
    let (registries, note) = select(system, tenants, &tenancy);
    notes.extend(note);
    Ok(Listing { registries, namespace: Some(namespace), notes })
}

async fn everything(cluster: &Cluster) -> anyhow::Result<Listing> {
    let mut notes = Vec::new();
    let mut registries =
        readable(all(cluster, RegistryScope::System, None).await, "SystemRegistries", &mut notes)?;
    let tenants = all(cluster, RegistryScope::Tenant, None).await;
    registries.extend(readable(tenants, "TenantRegistries of all namespaces", &mut notes)?);
    Ok(Listing { registries, namespace: None, notes })
}

/// Returns the registries that are available to a tenant, and notes about omitted ones.
fn select(
    system: Vec<FoundRegistry>,
    tenants: Vec<FoundRegistry>,
    tenancy: &Tenancy,
) -> (Vec<FoundRegistry>, Option<String>) {
    let (open, named): (Vec<FoundRegistry>, Vec<FoundRegistry>) =
        system.into_iter().partition(|registry| registry.tenants().is_none());
    let mine = |registry: &FoundRegistry| match tenancy {
        Tenancy::Of(tenant) => registry.tenants().is_some_and(|named| named.contains(&tenant.as_str())),
        Tenancy::Nobody | Tenancy::Absent | Tenancy::Unknown(_) => false,
    };
    let (named, others): (Vec<FoundRegistry>, Vec<FoundRegistry>) = named.into_iter().partition(mine);
    let left_out = (matches!(tenancy, Tenancy::Unknown(_)) && !others.is_empty()).then(|| {
        format!(
            "Not shown: {} for named tenants only, which may include this namespace's tenant",
            counted(others.len(), "SystemRegistry", "SystemRegistries")
        )
    });
    let mut system: Vec<FoundRegistry> = open.into_iter().chain(named).collect();
    system.sort_by_key(FoundRegistry::name);
    (system.into_iter().chain(tenants).collect(), left_out)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

fn about_tenancy(namespace: &str, tenancy: &Tenancy) -> Option<String> {
    match tenancy {
        Tenancy::Of(_) | Tenancy::Absent => None,
        Tenancy::Nobody => Some(format!(
            "Namespace {namespace} belongs to no tenant (no label {TENANT_LABEL}): showing registries for all \
             tenants and those declared in it"
        )),
        Tenancy::Unknown(why) => Some(format!(
            "Tenant of namespace {namespace} unknown ({why}): showing registries for all tenants and those \
             declared in it"
        )),
    }
}

/// Returns the namespaces whose TenantRegistries count.
async fn namespaces(
    cluster: &Cluster,
    namespace: &str,
    tenancy: &Tenancy,
    notes: &mut Vec<String>,
) -> Vec<String> {
    let Tenancy::Of(tenant) = tenancy else { return vec![namespace.to_owned()] };
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let of_tenant = ListParams::default().labels(&format!("{TENANT_LABEL}={tenant}"));
    match api.list_metadata(&of_tenant).await {
        Ok(found) => found.items.iter().map(ResourceExt::name_any).collect(),
        Err(error) => {
            notes.push(format!(
                "The other namespaces of the tenant {tenant} can't be listed ({}): TenantRegistries of {namespace} alone are \
                 shown",
                words(&error)
            ));
            vec![namespace.to_owned()]
        }
    }
}

/// Returns the TenantRegistries of these namespaces: with one request if the user can list all, otherwise one per
/// namespace.
async fn of_namespaces(
    cluster: &Cluster,
    namespaces: &[String],
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<FoundRegistry>> {
    if namespaces.len() > 1
        && let Ok(mut found) = all(cluster, RegistryScope::Tenant, None).await
    {
        found.retain(|one| one.namespace().is_some_and(|inside| namespaces.contains(&inside)));
        return Ok(found);
    }
    let (mut registries, mut forbidden) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        match all(cluster, RegistryScope::Tenant, Some(namespace)).await {
            Err(error) if is_forbidden(&error) => forbidden.push((namespace.as_str(), words(&error))),
            found => registries.extend(readable(found, "TenantRegistries", notes)?),
        }
    }
    if let Some((_, why)) = forbidden.first() {
        let names = listed(forbidden.iter().map(|(name, _)| *name), "and");
        notes.push(format!("TenantRegistries in {names} not shown: {why}"));
    }
    Ok(registries)
}

/// Returns all registries of a scope, ordered by namespace and name.
pub async fn all(
    cluster: &Cluster,
    scope: RegistryScope,
    namespace: Option<&str>,
) -> Result<Vec<FoundRegistry>, kube::Error> {
    let found = api(cluster, scope, namespace).list(&ListParams::default()).await?;
    let ApiResource { api_version, kind, .. } = resource(scope);
    let mut found: Vec<FoundRegistry> = found
        .items
        .into_iter()
        .map(|mut object| {
            // The items of a list don't contain their kind.
            object.types = Some(TypeMeta { api_version: api_version.clone(), kind: kind.clone() });
            FoundRegistry { scope, object }
        })
        .collect();
    found.sort_by_key(|registry| (registry.namespace(), registry.name()));
    Ok(found)
}

/// Omits what the user isn't allowed to list, with a note.
fn readable(
    found: Result<Vec<FoundRegistry>, kube::Error>,
    what: &str,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<FoundRegistry>> {
    match found {
        Ok(found) => Ok(found),
        Err(error) if is_forbidden(&error) => {
            notes.push(format!("{what} not shown: {}", words(&error)));
            Ok(Vec::new())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            bail!("the CRDs of registry-operator are not installed in this cluster; install the chart")
        }
        Err(error) => bail!("failed to list {what}: {}", words(&error)),
    }
}

impl Listing {
    /// Returns the output in the requested format.
    pub fn render(&self, args: &ListArgs, now: Timestamp) -> Result<String, output::OutputError> {
        let items =
            || output::list(&self.registries.iter().map(FoundRegistry::for_printing).collect::<Vec<Value>>());
        match args.output {
            Some(TableFormat::Json) => output::json(&items()),
            Some(TableFormat::Yaml) => output::yaml(items()),
            Some(TableFormat::Name) => {
                Ok(self.registries.iter().map(|one| output::name(one.scope, &one.name())).collect())
            }
            wide => Ok(self.table(wide.is_some(), !args.no_headers, now).render()),
        }
    }

    /// One table for both scopes.
    fn table(&self, wide: bool, headers: bool, now: Timestamp) -> Page {
        let mut page = Page::default();
        if self.registries.is_empty() {
            return page;
        }
        let elsewhere =
            |found: &FoundRegistry| found.namespace().is_some() && found.namespace() != self.namespace;
        let columns = Columns { namespace: self.registries.iter().any(elsewhere), wide };
        let mut rows: Vec<Vec<Span>> = Vec::new();
        if headers {
            rows.push(columns.headers());
        }
        rows.extend(self.registries.iter().map(|found| columns.row(found, now)));
        page.table(0, rows);
        page
    }

    /// Returns a note if there is no registry.
    pub fn nothing(&self) -> Option<String> {
        let whom = self.namespace.as_ref().map_or_else(
            || "No registries found".to_owned(),
            |namespace| format!("No registries are available to namespace {namespace}"),
        );
        self.registries.is_empty().then_some(whom)
    }
}

#[derive(Clone, Copy)]
struct Columns {
    namespace: bool,
    wide: bool,
}

impl Columns {
    fn headers(self) -> Vec<Span> {
        let mut names = vec!["SCOPE"];
        if self.namespace {
            names.push("NAMESPACE");
        }
        names.extend(["NAME", "ENDPOINT", "READY", "CREDENTIALS", "REASON", "AGE"]);
        if self.wide {
            names.extend(["CONTENT-PATH", "TYPE", "LAST-VALIDATED", "MESSAGE"]);
        }
        names.into_iter().map(|name| span(Tone::Strong, name)).collect()
    }

    fn row(self, found: &FoundRegistry, now: Timestamp) -> Vec<Span> {
        let ago = |time: Option<Timestamp>| plain(time.map_or_else(String::new, |time| age(time, now)));
        let mut row = vec![plain(found.scope.label())];
        if self.namespace {
            row.push(plain(found.namespace().unwrap_or_default()));
        }
        row.extend([
            plain(found.name()),
            plain(found.text("/spec/endpoint")),
            standing(found.condition("Ready", "status")),
            standing(found.condition("CredentialsValidated", "status")),
            plain(found.condition("Ready", "reason")),
            ago(found.created()),
        ]);
        if self.wide {
            row.extend([
                plain(found.text("/spec/baseContentPath")),
                plain(found.text("/spec/contentType")),
                ago(found.time("/status/lastValidationTime")),
                plain(found.condition("Ready", "message")),
            ]);
        }
        row
    }
}

fn standing(status: &str) -> Span {
    let tone = match status {
        "True" => Tone::Good,
        "False" => Tone::Bad,
        _ => Tone::Doubt,
    };
    span(tone, status)
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::json;

    use super::*;

    fn found(scope: RegistryScope, name: &str, namespace: Option<&str>, spec: &Value) -> FoundRegistry {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec,
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "reason": "Available", "message": "Credentials validated"},
                {"type": "CredentialsValidated", "status": "True", "reason": "Validated"},
            ]},
        }))
        .unwrap();
        FoundRegistry { scope, object }
    }

    fn system(name: &str, tenants: Option<&[&str]>) -> FoundRegistry {
        let mut spec = json!({"endpoint": "https://registry.example.com", "contentType": "Pack"});
        if let Some(tenants) = tenants {
            spec["availability"] = json!({"tenants": tenants});
        }
        found(RegistryScope::System, name, None, &spec)
    }

    fn charts(namespace: &str) -> FoundRegistry {
        found(RegistryScope::Tenant, "charts", Some(namespace), &json!({"endpoint": "https://a"}))
    }

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    #[test]
    fn lists_registries_available_to_the_tenant() {
        let system =
            vec![system("packs", None), system("b", Some(&["team-a"])), system("c", Some(&["team-b"]))];
        let (registries, note) = select(system, vec![charts("a")], &Tenancy::Of("team-a".into()));
        let names: Vec<String> = registries.iter().map(FoundRegistry::name).collect();
        assert_eq!((names, note), (vec!["b".into(), "packs".into(), "charts".into()], None));
    }

    #[test]
    fn counts_registries_hidden_from_unknown_tenant() {
        let system = vec![system("packs", None), system("b", Some(&["team-a"]))];
        let (registries, note) = select(system, Vec::new(), &Tenancy::Unknown("forbidden".into()));
        assert_eq!(registries.len(), 1);
        assert_eq!(
            note.unwrap(),
            "Not shown: 1 SystemRegistry for named tenants only, which may include this namespace's tenant"
        );
    }

    #[test]
    fn lists_both_scopes_in_one_table() {
        let listing = Listing {
            registries: vec![system("packs", None), charts("team-a")],
            namespace: Some("team-a".to_owned()),
            notes: Vec::new(),
        };
        let table = "\
SCOPE   NAME    ENDPOINT                      READY  CREDENTIALS  REASON     AGE
system  packs   https://registry.example.com  True   True         Available  10m
tenant  charts  https://a                     True   True         Available  10m
";
        assert_eq!(listing.table(false, true, now()).without_colours(), table);
    }

    #[test]
    fn shows_namespace_column_when_it_differs() {
        let listing = Listing {
            registries: vec![charts("team-a"), charts("team-a-dev")],
            namespace: Some("team-a".to_owned()),
            notes: Vec::new(),
        };
        let table = listing.table(true, true, now()).without_colours();
        assert!(table.starts_with("SCOPE   NAMESPACE   NAME"), "{table}");
        assert!(table.lines().next().unwrap().ends_with("LAST-VALIDATED  MESSAGE"), "{table}");
        assert!(table.lines().nth(2).unwrap().ends_with("Credentials validated"), "{table}");
    }

    #[test]
    fn escapes_control_characters_of_objects() {
        let mut evil = charts("team-a");
        evil.object.data["spec"]["endpoint"] = json!("https://a\u{1b}[2J\u{9b}31m");
        let listing = Listing { registries: vec![evil], ..Listing::default() };
        let table = listing.table(true, true, now()).without_colours();
        assert!(!table.contains(['\u{1b}', '\u{9b}']), "{table:?}");
    }
}
