//! The tenants' view: what a tenant has available, of both scopes, and the registries of its own namespaces.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Form,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use registry_check::cluster::words;
use serde::Deserialize;

use crate::{
    administration::{
        DeleteAnswer, ListQuery, ask_to_delete, delete_registry, deleted, request_validation, show,
    },
    console::{Console, SignedIn},
    error::ConsoleError,
    membership,
    pages::{Chrome, ListPage, TenantsPage, html},
    registries, rights,
    scope::{ConsoleScope, is_name},
};

/// What may stand in the URL of the choice.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct TenantQuery {
    tenant: String,
}

/// `/tenants`.
pub async fn choose(signed_in: SignedIn, Query(query): Query<TenantQuery>) -> Response {
    let typed = query.tenant.trim();
    if is_name(typed) {
        return Redirect::to(&format!("/tenants/{typed}/registries")).into_response();
    }
    let (tenants, note) = match registries::tenants(&signed_in.user).await {
        Ok(tenants) => (tenants, String::new()),
        Err(error) => (Vec::new(), format!("Tenants can't be listed: {}", words(&error))),
    };
    let page = TenantsPage { chrome: Chrome::new(&signed_in.name, "tenants"), tenants, note };
    html(StatusCode::OK, &page)
}

/// `/tenants/{tenant}/registries`.
pub async fn list(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(tenant): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response, ConsoleError> {
    if !is_name(&tenant) || !(query.namespace.is_empty() || is_name(&query.namespace)) {
        return Err(ConsoleError::NotFound("there is no such tenant or namespace".to_owned()));
    }
    let scope = ConsoleScope::Tenant { tenant: tenant.clone(), namespace: query.namespace.clone() };
    let note = membership::verify(&signed_in.user, &scope).await?;
    let now = (console.edge.now)();
    let mut view = registries::of_tenant(&signed_in.user, &tenant, &query.namespace).await?;
    view.notes.extend(Some(note).filter(|note| !note.is_empty()));
    let mut rows = view.rows(&signed_in.user, &tenant, now).await?;
    rows.retain(|row| row.matches(&query.filter));
    let page = ListPage {
        chrome: Chrome::new(&signed_in.name, "tenants"),
        title: format!("Tenant {tenant}"),
        rows: Ok(rows),
        version: view.version(),
        changes_url: format!("/tenants/{tenant}/changes?namespace={}&", query.namespace),
        notes: view.notes,
        filter: query.filter,
        add_url: scope.add_url("basic"),
        cannot_add: cannot_add(&signed_in, &scope).await?,
        done: deleted(&query.deleted),
        tenant,
        namespace: query.namespace,
    };
    Ok(html(StatusCode::OK, &page))
}

async fn cannot_add(signed_in: &SignedIn, scope: &ConsoleScope) -> Result<Option<String>, kube::Error> {
    if scope.namespace().is_some_and(str::is_empty) {
        return Ok(Some("Choose a namespace first: a tenant's registry belongs to one".to_owned()));
    }
    rights::missing(&signed_in.user, scope, "create").await
}

/// The parts of the URL of a tenant's registry.
pub(crate) type RegistryPath = Path<(String, String, String)>;

/// The scope and the name that they say.
pub fn parts(Path((tenant, namespace, name)): RegistryPath) -> Result<(ConsoleScope, String), ConsoleError> {
    if is_name(&tenant) && is_name(&namespace) {
        Ok((ConsoleScope::Tenant { tenant, namespace }, name))
    } else {
        Err(ConsoleError::NotFound("there is no such tenant or namespace".to_owned()))
    }
}

/// `/tenants/{tenant}/registries/{namespace}/{name}`.
pub async fn detail(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    path: RegistryPath,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, ConsoleError> {
    let (scope, name) = parts(path)?;
    show(&console, &signed_in, &scope, &name, &query).await
}

/// `/tenants/{tenant}/registries/{namespace}/{name}/validate`.
pub async fn validate_now(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    path: RegistryPath,
) -> Result<Response, ConsoleError> {
    let (scope, name) = parts(path)?;
    request_validation(&console, &signed_in, &scope, &name).await
}

/// `/tenants/{tenant}/registries/{namespace}/{name}/delete`.
pub async fn ask(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    path: RegistryPath,
) -> Result<Response, ConsoleError> {
    let (scope, name) = parts(path)?;
    ask_to_delete(&console, &signed_in, &scope, &name, String::new()).await
}

/// `/tenants/{tenant}/registries/{namespace}/{name}/delete`, answered.
pub async fn delete(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    path: RegistryPath,
    Form(answer): Form<DeleteAnswer>,
) -> Result<Response, ConsoleError> {
    let (scope, name) = parts(path)?;
    delete_registry(&console, &signed_in, &scope, &name, &answer).await
}
