//! Which handler answers which URL, and what holds for all of them.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use http::{StatusCode, Uri, header};

use crate::{
    add, administration,
    assets::{KEEP, find},
    changes,
    console::Console,
    edit,
    error::ConsoleError,
    headers, sign_in, tenants,
};

/// The largest request body: a form with a CA.
const LARGEST_BODY: usize = 256 * 1024;

/// The whole console.
pub fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(sign_in::enter))
        .route("/sign-out", post(sign_in::leave))
        .route("/assets/{name}", get(asset))
        .merge(system())
        .merge(tenant())
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(console.clone(), guard))
        .with_state(console)
}

fn system() -> Router<Arc<Console>> {
    Router::new()
        .route("/system", get(administration::home))
        .route("/system/registries", get(administration::list))
        .route("/system/changes", get(changes::of_system))
        .route("/system/registries/{name}", get(administration::detail))
        .route("/system/registries/{name}/validate", post(administration::validate_now))
        .route("/system/registries/{name}/delete", get(administration::ask).post(administration::delete))
        .route("/system/registries/{name}/edit", get(edit::show_system).post(edit::submit_system))
        .route("/system/add/{tab}", get(add::show).post(add::submit))
}

fn tenant() -> Router<Arc<Console>> {
    let registry = "/tenants/{tenant}/registries/{namespace}/{name}";
    Router::new()
        .route("/tenants", get(tenants::choose))
        .route("/tenants/{tenant}/registries", get(tenants::list))
        .route("/tenants/{tenant}/changes", get(changes::of_tenant))
        .route(registry, get(tenants::detail))
        .route(&format!("{registry}/validate"), post(tenants::validate_now))
        .route(&format!("{registry}/delete"), get(tenants::ask).post(tenants::delete))
        .route(&format!("{registry}/edit"), get(edit::show_tenant).post(edit::submit_tenant))
        .route("/tenants/{tenant}/add/{tab}", get(add::show).post(add::submit))
}

/// Before any handler, and after all of them.
async fn guard(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let mut response = match console.site.admit(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => (StatusCode::FORBIDDEN, refusal.message()).into_response(),
    };
    headers::secure(response.headers_mut());
    response
}

async fn asset(uri: Uri) -> Response {
    let Some(asset) = find(uri.path()) else { return StatusCode::NOT_FOUND.into_response() };
    let headers = [(header::CONTENT_TYPE, asset.media_type), (header::CACHE_CONTROL, KEEP)];
    (headers, asset.content).into_response()
}

async fn nothing() -> ConsoleError {
    ConsoleError::NotFound("there is no such page".to_owned())
}
