//! Administration: the first page, the table of SystemRegistries, and the pages of one registry of either scope.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Form,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::{StatusCode, header};
use kube::{
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::Status,
};
use registry_api::REQUESTED_AT;
use registry_check::{
    admission::api,
    cluster::{Cluster, is_forbidden, words},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    console::{Console, SignedIn},
    detail::RegistryDetail,
    error::ConsoleError,
    listing::RowControls,
    membership,
    pages::{Chrome, DeletePage, DetailPage, HomePage, ListPage, html},
    registries, rights,
    scope::{ConsoleScope, is_name},
    shown::ShownRegistry,
    trial::FIELD_MANAGER,
};

type PageAnswer = Result<Response, ConsoleError>;

/// What may stand in the URL of a table.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    /// Words that a row must have.
    pub filter: String,
    /// The namespace that a tenant's view is limited to.
    pub namespace: String,
    /// What was just done to which registry.
    pub deleted: String,
}

/// `/system`.
pub async fn home(State(console): State<Arc<Console>>, signed_in: SignedIn) -> PageAnswer {
    let (now, controls) = ((console.edge.now)(), RowControls::default());
    let row = |registry| registries::system_row(&registry, now, &controls);
    let summary = match registries::of_system(&signed_in.user, row).await {
        Ok(found) => Ok(registries::summary(&found.items)),
        Err(error) if is_forbidden(&error) => Err(words(&error)),
        Err(error) => return Err(error.into()),
    };
    let page = HomePage { chrome: Chrome::new(&signed_in.name, ""), summary };
    Ok(html(StatusCode::OK, &page))
}

/// `/system/registries`.
pub async fn list(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Query(query): Query<ListQuery>,
) -> PageAnswer {
    let scope = ConsoleScope::System;
    let (cannot_add, controls) = tokio::try_join!(
        rights::missing(&signed_in.user, &scope, "create"),
        rights::controls(&signed_in.user, &scope, None),
    )?;
    let mut version = String::new();
    let now = (console.edge.now)();
    let row = |registry| registries::system_row(&registry, now, &controls);
    let rows = match registries::of_system(&signed_in.user, row).await {
        Ok(found) => {
            version = found.version;
            let mut rows = found.items;
            rows.retain(|row| row.matches(&query.filter));
            Ok(rows)
        }
        Err(error) if is_forbidden(&error) => Err(not_listed(&error)),
        Err(error) => return Err(error.into()),
    };
    let page = ListPage {
        chrome: Chrome::new(&signed_in.name, "system"),
        title: "Administration".to_owned(),
        rows,
        version,
        changes_url: "/system/changes?".to_owned(),
        notes: Vec::new(),
        filter: query.filter,
        add_url: scope.add_url("basic"),
        cannot_add,
        done: deleted(&query.deleted),
        tenant: String::new(),
        namespace: String::new(),
    };
    Ok(html(StatusCode::OK, &page))
}

fn not_listed(error: &kube::Error) -> String {
    format!("{}; ask a cluster administrator for the ClusterRole registry-system-view", words(error))
}

/// What to say of a registry that was just deleted.
pub fn deleted(name: &str) -> String {
    if is_name(name) { format!("{name} deleted") } else { String::new() }
}

/// `/system/registries/{name}`.
pub async fn detail(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> PageAnswer {
    show(&console, &signed_in, &ConsoleScope::System, &name, &query).await
}

/// `/system/registries/{name}/validate`.
pub async fn validate_now(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(name): Path<String>,
) -> PageAnswer {
    request_validation(&console, &signed_in, &ConsoleScope::System, &name).await
}

/// `/system/registries/{name}/delete`.
pub async fn ask(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(name): Path<String>,
) -> PageAnswer {
    ask_to_delete(&console, &signed_in, &ConsoleScope::System, &name, String::new()).await
}

/// `/system/registries/{name}/delete`, answered.
pub async fn delete(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(name): Path<String>,
    Form(answer): Form<DeleteAnswer>,
) -> PageAnswer {
    delete_registry(&console, &signed_in, &ConsoleScope::System, &name, &answer).await
}

/// The answer to the question before a registry is deleted.
#[derive(Deserialize)]
pub struct DeleteAnswer {
    name: String,
    /// The object that the question was asked about; another one of the same name isn't deleted.
    #[serde(default)]
    uid: String,
}

/// A registry, with what the user may do to it.
async fn find(
    console: &Console,
    signed_in: &SignedIn,
    scope: &ConsoleScope,
    name: &str,
) -> Result<RegistryDetail, ConsoleError> {
    let note = verify(signed_in, scope, name).await?;
    let (mut registry, controls) = tokio::try_join!(
        registries::one(&signed_in.user, scope, name, (console.edge.now)()),
        rights::controls(&signed_in.user, scope, Some(name)),
    )?;
    let kept_by = Some(registry.kept_by.clone()).filter(|tool| !tool.is_empty());
    registry.row.controls = controls.of_kept(kept_by);
    Ok(RegistryDetail { note, ..registry })
}

/// Returns an error if the URL is no registry's, and otherwise what isn't known about its namespace.
pub async fn verify(signed_in: &SignedIn, scope: &ConsoleScope, name: &str) -> Result<String, ConsoleError> {
    if !is_name(name) {
        return Err(ConsoleError::NotFound("there is no such page".to_owned()));
    }
    membership::verify(&signed_in.user, scope).await
}

/// The page of a registry.
pub async fn show(
    console: &Console,
    signed_in: &SignedIn,
    scope: &ConsoleScope,
    name: &str,
    query: &BTreeMap<String, String>,
) -> PageAnswer {
    let registry = find(console, signed_in, scope, name).await?;
    let refreshes = registry.is_pending && !registry.is_overdue;
    let namespace = scope.secrets_namespace(&console.system_namespace);
    let page = DetailPage {
        chrome: Chrome::new(&signed_in.name, section(scope)),
        registry,
        done: done(name, query),
        unused: query
            .get("changed")
            .map(|draft| console.unused_secret(&signed_in.session, draft))
            .unwrap_or_default(),
        secrets_namespace: namespace.to_owned(),
    };
    let mut response = html(StatusCode::OK, &page);
    if refreshes {
        // Shows the verdict as soon as it is there, without a script.
        response.headers_mut().insert(header::REFRESH, http::HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// What was just done.
fn done(name: &str, query: &BTreeMap<String, String>) -> String {
    let is = |what: &str| query.contains_key(what);
    match () {
        () if is("added") => format!("{name} added"),
        () if is("changed") => format!("{name} changed"),
        () if is("unchanged") => "Nothing was changed".to_owned(),
        () => String::new(),
    }
}

/// The entry of the Main Menu that a scope belongs to.
pub fn section(scope: &ConsoleScope) -> &'static str {
    match scope {
        ConsoleScope::System => "system",
        ConsoleScope::Tenant { .. } => "tenants",
    }
}

/// Asks the operator for a validation.
pub async fn request_validation(
    console: &Console,
    signed_in: &SignedIn,
    scope: &ConsoleScope,
    name: &str,
) -> PageAnswer {
    verify(signed_in, scope, name).await?;
    let registries = api(signed_in.user.cluster(), scope.registry_scope(), scope.namespace());
    let asked = json!({"metadata": {"annotations": {REQUESTED_AT: (console.edge.now)().to_string()}}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    registries.patch(name, &params, &Patch::Merge(asked)).await?;
    Ok(Redirect::to(&scope.registry_url(name)).into_response())
}

/// The question before a registry is deleted.
pub async fn ask_to_delete(
    console: &Console,
    signed_in: &SignedIn,
    scope: &ConsoleScope,
    name: &str,
    complaint: String,
) -> PageAnswer {
    let registry = find(console, signed_in, scope, name).await?;
    let status = if complaint.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let page = DeletePage { chrome: Chrome::new(&signed_in.name, section(scope)), registry, complaint };
    Ok(html(status, &page))
}

/// Deletes a registry whose name was typed.
pub async fn delete_registry(
    console: &Console,
    signed_in: &SignedIn,
    scope: &ConsoleScope,
    name: &str,
    answer: &DeleteAnswer,
) -> PageAnswer {
    verify(signed_in, scope, name).await?;
    if answer.uid.is_empty() {
        let complaint = "Confirm the deletion on this page".to_owned();
        return ask_to_delete(console, signed_in, scope, name, complaint).await;
    }
    if answer.name.trim() != name {
        let complaint = format!("Type {name} to delete it");
        return ask_to_delete(console, signed_in, scope, name, complaint).await;
    }
    match delete_as_read(signed_in.user.cluster(), scope, name, &answer.uid).await? {
        Ok(()) => {
            let list = scope.list_url();
            let separator = if list.contains('?') { '&' } else { '?' };
            Ok(Redirect::to(&format!("{list}{separator}deleted={name}")).into_response())
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            ask_to_delete(console, signed_in, scope, name, refusal(&status)).await
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let complaint =
                format!("{name} was changed or was replaced since this page was shown; look at it again");
            ask_to_delete(console, signed_in, scope, name, complaint).await
        }
        Err(error) => Err(error.into()),
    }
}

/// How often a registry is read for its deletion, if the operator's writes come between.
const ATTEMPTS: usize = 5;

/// Deletes the object that was read: another tool may begin to keep it between the two.
async fn delete_as_read(
    cluster: &Cluster,
    scope: &ConsoleScope,
    name: &str,
    uid: &str,
) -> Result<Result<(), kube::Error>, ConsoleError> {
    let registries = api(cluster, scope.registry_scope(), scope.namespace());
    let mut attempts = 1..=ATTEMPTS;
    loop {
        let shown = ShownRegistry::read(cluster, scope, name).await?;
        if let Some(tool) = shown.managed_by(scope) {
            return Err(ConsoleError::KeptElsewhere(tool));
        }
        let is_same = shown.metadata.uid.as_deref() == Some(uid);
        let preconditions =
            Preconditions { uid: Some(uid.to_owned()), resource_version: shown.metadata.resource_version };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = registries.delete(name, &params).await.map(drop);
        let is_conflict = matches!(&deleted, Err(kube::Error::Api(status)) if status.code == 409);
        if !(is_conflict && is_same && attempts.next().is_some()) {
            return Ok(deleted);
        }
    }
}

/// A policy's own sentence comes behind what the API server says of the policy.
fn refusal(status: &Status) -> String {
    status
        .message
        .split_once("denied request: ")
        .map_or_else(|| status.message.clone(), |(_, own)| own.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Router, body::to_bytes, extract::Request};
    use http::{Method, StatusCode};
    use serde_json::{Value, json};

    use crate::simulated;

    #[tokio::test]
    async fn what_is_no_name_is_not_asked_for() {
        let (api, log) = simulated::api(|_| 200);
        let console = simulated::console(api, simulated::epoch);
        for path in ["/system/registries/a%2Fb/validate", "/system/registries/a%2Fb/delete"] {
            let media_type = "application/x-www-form-urlencoded";
            let request = simulated::request(Method::POST, path, media_type, "name=a%2Fb&uid=u");
            assert_eq!(simulated::answer(&console, request).await.0, http::StatusCode::NOT_FOUND, "{path}");
        }
        assert!(log.lines().is_empty(), "{:?}", log.lines());
    }

    #[tokio::test]
    async fn deletion_is_of_the_object_that_was_shown() {
        let (api, log) = simulated::api(|_| 200);
        let console = simulated::console(api, simulated::epoch);
        let media_type = "application/x-www-form-urlencoded";
        let path = "/system/registries/p/delete";
        let request = simulated::request(Method::POST, path, media_type, "name=p&uid=the-uid");
        assert_eq!(simulated::answer(&console, request).await.0, http::StatusCode::SEE_OTHER);
        let body = log.body_of("DELETE").unwrap();
        assert_eq!(body.pointer("/preconditions/uid").unwrap(), "the-uid");
    }

    /// The versions that were to be deleted.
    type Deletions = Arc<Mutex<Vec<Value>>>;

    /// An API server where another write comes before the first deletion; with it, Flux may begin to keep the registry.
    fn contested(is_kept: bool) -> (Router, Deletions) {
        let deletions = Deletions::default();
        let seen = deletions.clone();
        let handle = move |request: Request| async move {
            let method = request.method().clone();
            let body = to_bytes(request.into_body(), 4096).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let mut seen = seen.lock().unwrap();
            let labels = json!({"kustomize.toolkit.fluxcd.io/name": "infra"});
            let labels = if is_kept && !seen.is_empty() { labels } else { json!({}) };
            if method == Method::GET {
                let version = format!("version-{}", seen.len());
                let metadata =
                    json!({"name": "p", "uid": "the-uid", "resourceVersion": version, "labels": labels});
                return (StatusCode::OK, json!({"metadata": metadata}).to_string());
            }
            seen.push(body["preconditions"]["resourceVersion"].clone());
            let (code, status) = if seen.len() == 1 { (409, "Failure") } else { (200, "Success") };
            let answer = json!({"kind": "Status", "apiVersion": "v1", "status": status, "code": code, "reason": "Conflict"});
            (StatusCode::from_u16(code).unwrap(), answer.to_string())
        };
        (Router::new().fallback(handle), deletions)
    }

    #[tokio::test]
    async fn deletion_is_of_the_version_that_was_read() {
        for (is_kept, expected, versions) in [
            (false, StatusCode::SEE_OTHER, &["version-0", "version-1"][..]),
            (true, StatusCode::CONFLICT, &["version-0"]),
        ] {
            let (api, deletions) = contested(is_kept);
            let console = simulated::console(api, simulated::epoch);
            let media_type = "application/x-www-form-urlencoded";
            let path = "/system/registries/p/delete";
            let request = simulated::request(Method::POST, path, media_type, "name=p&uid=the-uid");
            let (status, page) = simulated::answer(&console, request).await;
            assert_eq!((status, page.contains("Managed by Flux")), (expected, is_kept), "{page}");
            assert_eq!(*deletions.lock().unwrap(), versions);
        }
    }
}
