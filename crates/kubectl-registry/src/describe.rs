//! `kubectl registry describe`: prints one registry, the namespaces in which it is available, and its newest Events.
//! [`description`](crate::description) has the output.

use anyhow::bail;
use k8s_openapi::{
    api::{core::v1::Namespace, events::v1::Event},
    jiff::Timestamp,
};
use kube::{Api, ResourceExt, api::ListParams};
use registry_api::{
    TENANT_LABEL,
    spec::{Scope as ApiScope, System, Tenant},
};
use registry_check::{
    admission::{api, resource},
    cluster::{Cluster, Tenancy, words},
};
use registry_verdict::object::RegistryScope;

use crate::object::FoundRegistry;

/// The namespace of Events about cluster-scoped objects, by convention.
const CLUSTER_EVENTS: &str = "default";
/// The maximum number of Events to show.
const EVENTS: usize = 10;

/// The registry to describe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DescribeRequest {
    /// The scopes to search, in order. The first match counts.
    pub scopes: Vec<RegistryScope>,
    /// The name.
    pub name: String,
}

impl DescribeRequest {
    /// Parses `NAME`, `systemregistry/NAME` and `tenantregistry/NAME`. A plain name is searched in both scopes: with a
    /// namespace, first as a TenantRegistry.
    pub fn parse(text: &str, namespace_given: bool) -> Result<Self, String> {
        let Some((kind, name)) = text.split_once('/') else {
            let mut scopes = vec![RegistryScope::System, RegistryScope::Tenant];
            if namespace_given {
                scopes.reverse();
            }
            return Ok(Self { scopes, name: text.to_owned() });
        };
        let kind = kind.split('.').next().unwrap_or_default().to_lowercase();
        let scope = match kind.as_str() {
            System::SINGULAR | System::PLURAL | System::SHORT => RegistryScope::System,
            Tenant::SINGULAR | Tenant::PLURAL | Tenant::SHORT => RegistryScope::Tenant,
            _ => return Err(format!("unknown kind {kind}; use systemregistry or tenantregistry")),
        };
        Ok(Self { scopes: vec![scope], name: name.to_owned() })
    }
}

/// A registry with related information.
#[derive(Debug)]
pub struct RegistryDescription {
    /// The registry.
    pub found: FoundRegistry,
    /// The namespace of its references.
    pub references_namespace: String,
    /// Who can use it.
    pub users: Users,
    /// Its newest Events, the newest last; or why they can't be read.
    pub events: Result<Vec<Event>, String>,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// Who can use a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Users {
    /// The tenants, as text.
    pub tenants: String,
    /// The namespaces; or why they can't be read.
    pub namespaces: Result<Vec<String>, String>,
}

/// Reads the registry; `None` if it doesn't exist.
pub async fn run(asked: &DescribeRequest, cluster: &Cluster) -> anyhow::Result<Option<RegistryDescription>> {
    let (mut found, mut failure) = (Vec::new(), None);
    for scope in &asked.scopes {
        match find(cluster, *scope, &asked.name).await {
            Ok(registry) => found.extend(registry),
            // The user may have permission for only one of the scopes.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let other = found
        .get(1)
        .map(|other| format!("A {} has the same name; {}", resource(other.scope).kind, how_to_name(other)));
    let Some(found) = found.into_iter().next() else { return failure.map_or(Ok(None), Err) };
    let description = RegistryDescription {
        references_namespace: found.namespace().unwrap_or_else(|| cluster.system_namespace.clone()),
        users: users(cluster, &found).await,
        events: events(cluster, &found).await.map_err(|error| words(&error)),
        notes: other.into_iter().collect(),
        found,
    };
    Ok(Some(description))
}

async fn find(cluster: &Cluster, scope: RegistryScope, name: &str) -> anyhow::Result<Option<FoundRegistry>> {
    match api(cluster, scope, Some(&cluster.namespace)).get_opt(name).await {
        Ok(found) => Ok(found.map(|object| FoundRegistry { scope, object })),
        Err(error) => bail!("failed to get {} {name}: {}", resource(scope).kind, words(&error)),
    }
}

fn how_to_name(found: &FoundRegistry) -> String {
    match found.namespace() {
        None => format!("systemregistry/{}", found.name()),
        Some(namespace) => format!("tenantregistry/{} -n {namespace}", found.name()),
    }
}

async fn users(cluster: &Cluster, found: &FoundRegistry) -> Users {
    let (tenants, selector) = match found.namespace() {
        Some(namespace) => match cluster.tenancy(&namespace).await {
            Tenancy::Of(tenant) => (tenant.clone(), Some(format!("{TENANT_LABEL}={tenant}"))),
            Tenancy::Nobody | Tenancy::Absent => {
                ("none: its namespace belongs to no tenant".to_owned(), None)
            }
            Tenancy::Unknown(why) => (format!("unknown: {why}"), None),
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

async fn events(cluster: &Cluster, found: &FoundRegistry) -> Result<Vec<Event>, kube::Error> {
    let namespace = found.namespace().unwrap_or_else(|| CLUSTER_EVENTS.to_owned());
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &namespace);
    let about = format!("regarding.kind={},regarding.name={}", resource(found.scope).kind, found.name());
    let uid = found.object.metadata.uid.as_deref();
    let mut events = api.list(&ListParams::default().fields(&about)).await?.items;
    // Omits Events of an earlier registry with the same name.
    events.retain(|event| event.regarding.as_ref().and_then(|object| object.uid.as_deref()) == uid);
    events.sort_by_key(time_of);
    Ok(events.split_off(events.len().saturating_sub(EVENTS)))
}

/// Returns when an Event was last seen.
pub fn time_of(event: &Event) -> Option<Timestamp> {
    let last = event.series.as_ref().map(|series| series.last_observed_time.0);
    let own = event.event_time.as_ref().map(|time| time.0);
    let older = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let made = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    last.or(own).or(older).or(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_up_name_in_the_requested_scope() {
        let scopes = |text: &str, given| DescribeRequest::parse(text, given).map(|asked| asked.scopes);
        assert_eq!(scopes("packs", false), Ok(vec![RegistryScope::System, RegistryScope::Tenant]));
        assert_eq!(scopes("packs", true), Ok(vec![RegistryScope::Tenant, RegistryScope::System]));
        for kind in
            ["systemregistry", "SystemRegistries", "sysreg", "systemregistry.registry.spectrocloud.com"]
        {
            assert_eq!(scopes(&format!("{kind}/packs"), true), Ok(vec![RegistryScope::System]), "{kind}");
        }
        assert_eq!(scopes("tenreg/charts", false), Ok(vec![RegistryScope::Tenant]));
        assert!(scopes("pod/x", false).is_err());
    }
}
