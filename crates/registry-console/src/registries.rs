//! The registries that a page shows, read as the signed-in user.

use futures::StreamExt as _;
use k8s_openapi::api::{core::v1::Namespace, events::v1::Event};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ListParams, ObjectList},
};
use registry_api::{
    SystemRegistry, TENANT_LABEL, TenantRegistry,
    spec::{Registry, Scope},
};
use registry_check::cluster::{is_forbidden, words};

use serde_json::json;

use crate::{
    detail::RegistryDetail,
    form::digest_of,
    listing::{RegistryRow, RowControls},
    pages::Summary,
    rights,
    scope::ConsoleScope,
    user::UserClient,
};

/// Where Events about cluster-scoped objects go, by convention.
const CLUSTER_EVENTS: &str = "default";
/// What a tenant's view says of registries of the system scope.
const ONLY_THERE: &str = "A registry of the system scope can only be removed there";
/// How many namespaces are read at once.
const AT_ONCE: usize = 8;
/// Registries of one answer of the API server, which is in memory both as bytes and parsed for a moment.
const PAGE: u32 = 100;

/// What a tenant has available, and what a reader should know of what is left out.
#[derive(Debug, Default)]
pub struct TenantView {
    /// What is left out, and why.
    pub notes: Vec<String>,
    /// Those of the system scope that are for it.
    system: Vec<SystemRegistry>,
    /// Those of its namespaces.
    own: Vec<(String, Vec<TenantRegistry>)>,
    /// What was read, and at which version.
    pub read: Vec<(ReadList, String)>,
}

/// A list that a tenant's view was made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadList {
    /// The SystemRegistries.
    System,
    /// The TenantRegistries of a namespace.
    Namespace(String),
    /// The namespaces of the tenant.
    Namespaces,
}

impl TenantView {
    /// The rows, those of the system scope first.
    pub async fn rows(
        &self,
        user: &UserClient,
        tenant: &str,
        now: Timestamp,
    ) -> Result<Vec<RegistryRow>, kube::Error> {
        let elsewhere = Some(ONLY_THERE.to_owned());
        let controls = RowControls::new(elsewhere.clone(), elsewhere);
        let mut rows: Vec<_> = self.system.iter().map(|one| system_row(one, now, &controls)).collect();
        for (namespace, found) in &self.own {
            let scope = ConsoleScope::Tenant { tenant: tenant.to_owned(), namespace: namespace.clone() };
            let controls = rights::controls(user, &scope, None).await?;
            rows.extend(found.iter().map(|registry| {
                RegistryRow::new(registry, now, scope.registry_url(&registry.name_any()), &controls)
            }));
        }
        Ok(rows)
    }

    /// What no other state of what it shows has.
    pub fn version(&self) -> String {
        let system = self.system.iter().map(|one| &one.metadata);
        let own = self.own.iter().flat_map(|(_, found)| found.iter().map(|one| &one.metadata));
        let all: Vec<_> = system.chain(own).map(|meta| json!([meta.uid, meta.resource_version])).collect();
        digest_of(&json!(all))
            .first_chunk()
            .map(|bytes| u128::from_be_bytes(*bytes))
            .unwrap_or_default()
            .to_string()
    }
}

/// What was made of registries that were listed at one version of the store.
#[derive(Debug)]
pub struct RegistryList<T> {
    /// One for each registry.
    pub items: Vec<T>,
    /// The version, for a watch of what follows.
    pub version: String,
}

/// All SystemRegistries, each as `make` makes it.
pub async fn of_system<T>(
    user: &UserClient,
    make: impl FnMut(SystemRegistry) -> T,
) -> Result<RegistryList<T>, kube::Error> {
    listed(&Api::all(user.client()), make).await
}

/// Reads page by page, so that few registries are in memory as the API server sends them.
async fn listed<S: Scope, T>(
    api: &Api<Registry<S>>,
    mut make: impl FnMut(Registry<S>) -> T,
) -> Result<RegistryList<T>, kube::Error> {
    let mut params = ListParams::default().limit(PAGE);
    let mut items = Vec::new();
    loop {
        let page = api.list(&params).await?;
        let version = version_of(&page);
        items.extend(page.items.into_iter().map(&mut make));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(next) => params.continue_token = Some(next),
            None => return Ok(RegistryList { items, version }),
        }
    }
}

/// A registry without its managed fields: they are most of what it takes, and no page shows them.
fn without_managed_fields<S: Scope>(mut registry: Registry<S>) -> Registry<S> {
    registry.metadata.managed_fields = None;
    registry
}

/// How many of them can be used.
pub fn summary(rows: &[RegistryRow]) -> Summary {
    let count = |mark: &str| rows.iter().filter(|row| row.available.mark == mark).count();
    Summary { all: rows.len(), available: count("✓"), failing: count("✗") }
}

/// The row of a SystemRegistry.
pub fn system_row(registry: &SystemRegistry, now: Timestamp, controls: &RowControls) -> RegistryRow {
    RegistryRow::new(registry, now, ConsoleScope::System.registry_url(&registry.name_any()), controls)
}

/// What a tenant has available: of the system scope what is for it, and the TenantRegistries of its namespaces, or of `namespace`
/// alone.
pub async fn of_tenant(user: &UserClient, tenant: &str, namespace: &str) -> Result<TenantView, kube::Error> {
    let mut view = TenantView::default();
    match of_system(user, without_managed_fields).await {
        Ok(found) => {
            view.read.push((ReadList::System, found.version));
            let is_for = |registry: &SystemRegistry| is_available_to(registry, tenant);
            view.system = found.items.into_iter().filter(is_for).collect();
        }
        Err(error) if is_forbidden(&error) => {
            view.notes.push("Registries of the system scope not shown: you may not list them".to_owned());
        }
        Err(error) => return Err(error),
    }
    let namespaces = namespaces(user, tenant, namespace, &mut view).await;
    let lists = namespaces.into_iter().map(|namespace| async move {
        let api: Api<TenantRegistry> = Api::namespaced(user.client(), &namespace);
        (listed(&api, without_managed_fields).await, namespace)
    });
    let mut lists = futures::stream::iter(lists).buffered(AT_ONCE);
    while let Some((found, namespace)) = lists.next().await {
        view.add(namespace, found)?;
    }
    Ok(view)
}

fn version_of<T: Clone>(list: &ObjectList<T>) -> String {
    list.metadata.resource_version.clone().unwrap_or_default()
}

fn is_available_to(registry: &SystemRegistry, tenant: &str) -> bool {
    let named = registry.spec.availability.as_ref().and_then(|availability| availability.tenants.as_ref());
    named.is_none_or(|tenants| tenants.iter().any(|one| one == tenant))
}

impl TenantView {
    fn add(
        &mut self,
        namespace: String,
        found: Result<RegistryList<TenantRegistry>, kube::Error>,
    ) -> Result<(), kube::Error> {
        match found {
            Ok(found) => {
                self.read.push((ReadList::Namespace(namespace.clone()), found.version));
                if !found.items.is_empty() {
                    self.own.push((namespace, found.items));
                }
            }
            Err(error) if is_forbidden(&error) => {
                let note = format!("Registries of namespace {namespace} not shown: you may not list them");
                self.notes.push(note);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The namespaces of a tenant; for users who can't list namespaces, the one that they named.
async fn namespaces(user: &UserClient, tenant: &str, namespace: &str, view: &mut TenantView) -> Vec<String> {
    if !namespace.is_empty() {
        return vec![namespace.to_owned()];
    }
    match namespaces_with(user, &format!("{TENANT_LABEL}={tenant}")).await {
        Ok((found, version)) => {
            view.read.push((ReadList::Namespaces, version));
            found.into_iter().map(|(name, _)| name).collect()
        }
        Err(error) => {
            view.notes.push(format!(
                "The namespaces of tenant {tenant} can't be listed ({}); name one below to see its registries",
                words(&error)
            ));
            Vec::new()
        }
    }
}

/// The namespaces with that label and its values, and the version of the list.
async fn namespaces_with(
    user: &UserClient,
    selector: &str,
) -> Result<(Vec<(String, String)>, String), kube::Error> {
    let api: Api<Namespace> = Api::all(user.client());
    let found = api.list_metadata(&ListParams::default().labels(selector)).await?;
    let tenant = |labels: &std::collections::BTreeMap<String, String>| labels.get(TENANT_LABEL).cloned();
    let version = version_of(&found);
    let one = |one: &_| (ResourceExt::name_any(one), tenant(ResourceExt::labels(one)).unwrap_or_default());
    Ok((found.items.iter().map(one).collect(), version))
}

/// The tenants that the user can see.
pub async fn tenants(user: &UserClient) -> Result<Vec<String>, kube::Error> {
    let (found, _) = namespaces_with(user, TENANT_LABEL).await?;
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::{Client, client::Body};

    use super::*;

    /// Answers with one of two pages.
    async fn page(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let query = request.uri().query().unwrap_or_default();
        let (name, next) = if query.contains("continue=rest") { ("second", "") } else { ("first", "rest") };
        let list = json!({
            "metadata": {"resourceVersion": "7", "continue": next},
            "items": [{
                "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry",
                "metadata": {"name": name, "managedFields": [{"manager": query}]}, "spec": {"endpoint": "https://r"},
            }],
        });
        Ok(Response::new(Body::from(list.to_string().into_bytes())))
    }

    #[tokio::test]
    async fn pages_make_one_list_without_managed_fields() {
        let api: Api<SystemRegistry> = Api::all(Client::new(tower::service_fn(page), "default"));
        let list = listed(&api, without_managed_fields).await.unwrap();
        let names: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!((names, list.version.as_str()), (vec!["first".to_owned(), "second".to_owned()], "7"));
        assert!(list.items.iter().all(|registry| registry.metadata.managed_fields.is_none()));
    }
}
