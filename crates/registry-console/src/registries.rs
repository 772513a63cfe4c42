//! The registries that a page shows, read as the signed-in user.

use k8s_openapi::api::{core::v1::Namespace, events::v1::Event};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, ObjectList},
};
use registry_api::{
    SystemRegistry, TENANT_LABEL, TenantRegistry,
    spec::{Registry, Scope},
};
use registry_check::cluster::{is_forbidden, words};

use crate::{
    detail::RegistryDetail, listing::RegistryRow, pages::Summary, scope::ConsoleScope, user::UserClient,
};

/// Where Events about cluster-scoped objects go, by convention.
const CLUSTER_EVENTS: &str = "default";

/// What a tenant has available, and what a reader should know of what is left out.
#[derive(Debug, Default)]
pub struct TenantView {
    /// The rows, those of the system scope first.
    pub rows: Vec<RegistryRow>,
    /// What is left out, and why.
    pub notes: Vec<String>,
}

/// All SystemRegistries.
pub async fn of_system(user: &UserClient) -> Result<ObjectList<SystemRegistry>, kube::Error> {
    Api::all(user.client()).list(&ListParams::default()).await
}

/// How many of them can be used.
pub fn summary(rows: &[RegistryRow]) -> Summary {
    let count = |mark: &str| rows.iter().filter(|row| row.available.mark == mark).count();
    Summary { all: rows.len(), available: count("✓"), failing: count("✗") }
}

/// The rows of the system scope.
pub fn system_rows(registries: &[SystemRegistry], now: Timestamp, can_delete: bool) -> Vec<RegistryRow> {
    let row = |registry: &SystemRegistry| {
        let url = ConsoleScope::System.registry_url(&registry.name_any());
        RegistryRow::new(registry, now, url, can_delete)
    };
    registries.iter().map(row).collect()
}

/// What a tenant has available: of the system scope what is for it, and the TenantRegistries of its namespaces, or of `namespace`
/// alone.
pub async fn of_tenant(
    user: &UserClient,
    tenant: &str,
    namespace: &str,
    now: Timestamp,
) -> Result<TenantView, kube::Error> {
    let mut view = TenantView::default();
    match of_system(user).await {
        Ok(found) => {
            let is_for = |registry: &SystemRegistry| is_available_to(registry, tenant);
            let mine: Vec<SystemRegistry> = found.items.into_iter().filter(is_for).collect();
            view.rows = system_rows(&mine, now, false);
        }
        Err(error) if is_forbidden(&error) => {
            view.notes.push("Registries of the system scope not shown: you may not list them".to_owned());
        }
        Err(error) => return Err(error),
    }
    for namespace in namespaces(user, tenant, namespace, &mut view.notes).await {
        add_namespace(user, tenant, &namespace, now, &mut view).await?;
    }
    Ok(view)
}

fn is_available_to(registry: &SystemRegistry, tenant: &str) -> bool {
    let named = registry.spec.availability.as_ref().and_then(|availability| availability.tenants.as_ref());
    named.is_none_or(|tenants| tenants.iter().any(|one| one == tenant))
}

async fn add_namespace(
    user: &UserClient,
    tenant: &str,
    namespace: &str,
    now: Timestamp,
    view: &mut TenantView,
) -> Result<(), kube::Error> {
    let scope = ConsoleScope::Tenant { tenant: tenant.to_owned(), namespace: namespace.to_owned() };
    let api: Api<TenantRegistry> = Api::namespaced(user.client(), namespace);
    match api.list(&ListParams::default()).await {
        Ok(found) => {
            let row = |registry: &TenantRegistry| {
                RegistryRow::new(registry, now, scope.registry_url(&registry.name_any()), true)
            };
            view.rows.extend(found.items.iter().map(row));
        }
        Err(error) if is_forbidden(&error) => {
            view.notes.push(format!("Registries of namespace {namespace} not shown: you may not list them"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The namespaces of a tenant; for users who can't list namespaces, the one that they named.
async fn namespaces(
    user: &UserClient,
    tenant: &str,
    namespace: &str,
    notes: &mut Vec<String>,
) -> Vec<String> {
    if !namespace.is_empty() {
        return vec![namespace.to_owned()];
    }
    match namespaces_with(user, &format!("{TENANT_LABEL}={tenant}")).await {
        Ok(found) => found.iter().map(|(name, _)| name.clone()).collect(),
        Err(error) => {
            notes.push(format!(
                "The namespaces of tenant {tenant} can't be listed ({}); name one below to see its registries",
                words(&error)
            ));
            Vec::new()
        }
    }
}

/// The namespaces with that label, and its values.
async fn namespaces_with(user: &UserClient, selector: &str) -> Result<Vec<(String, String)>, kube::Error> {
    let api: Api<Namespace> = Api::all(user.client());
    let found = api.list_metadata(&ListParams::default().labels(selector)).await?;
    let tenant = |labels: &std::collections::BTreeMap<String, String>| labels.get(TENANT_LABEL).cloned();
    Ok(found.items.iter().map(|one| (one.name_any(), tenant(one.labels()).unwrap_or_default())).collect())
}

/// The tenants that the user can see.
pub async fn tenants(user: &UserClient) -> Result<Vec<String>, kube::Error> {
    let found = namespaces_with(user, TENANT_LABEL).await?;
    let mut tenants: Vec<String> =
        found.into_iter().map(|(_, tenant)| tenant).filter(|tenant| !tenant.is_empty()).collect();
    tenants.sort();
    tenants.dedup();
    Ok(tenants)
}

/// One registry, with its newest Events as far as the user can read them.
pub async fn one(
    user: &UserClient,
    scope: &ConsoleScope,
    name: &str,
    now: Timestamp,
) -> Result<RegistryDetail, kube::Error> {
    match scope {
        ConsoleScope::System => read(Api::<SystemRegistry>::all(user.client()), user, scope, name, now).await,
        ConsoleScope::Tenant { namespace, .. } => {
            read(Api::<TenantRegistry>::namespaced(user.client(), namespace), user, scope, name, now).await
        }
    }
}

async fn read<S: Scope>(
    api: Api<Registry<S>>,
    user: &UserClient,
    scope: &ConsoleScope,
    name: &str,
    now: Timestamp,
) -> Result<RegistryDetail, kube::Error> {
    let registry = api.get(name).await?;
    let detail = RegistryDetail::new(&registry, scope, &user.cluster().system_namespace, now);
    let events = events(user, scope, &registry).await.unwrap_or_default();
    Ok(detail.with_events(events, now))
}

async fn events<S: Scope>(
    user: &UserClient,
    scope: &ConsoleScope,
    registry: &Registry<S>,
) -> Result<Vec<Event>, kube::Error> {
    let api: Api<Event> = Api::namespaced(user.client(), scope.namespace().unwrap_or(CLUSTER_EVENTS));
    let about = format!("regarding.kind={},regarding.name={}", S::KIND, registry.name_any());
    let mut events = api.list(&ListParams::default().fields(&about)).await?.items;
    // Not those of another registry that had the name before.
    let uid = registry.metadata.uid.as_deref();
    events.retain(|event| event.regarding.as_ref().and_then(|object| object.uid.as_deref()) == uid);
    Ok(events)
}
