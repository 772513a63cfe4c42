//! Which handler answers which URL, and what holds for all of them.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use http::{HeaderValue, StatusCode, Uri, header};

use crate::{
    add, administration, api,
    assets::{KEEP, find},
    body_limits, changes,
    console::Console,
    console_metrics::RefusalCause,
    edit,
    error::ConsoleError,
    guard::RequestRefusal,
    headers, sign_in, tenants, token_sign_in,
};

/// The largest request body: a form with a CA.
const LARGEST_BODY: usize = 256 * 1024;
/// The largest body of `/sign-in`, which anyone may send: the longest token, and the page to go to.
const LARGEST_SIGN_IN: usize = 20 * 1024;

/// The whole console.
pub fn router(console: Arc<Console>) -> Router {
    with_body_limit(console, body_limits::LONGEST)
}

fn with_body_limit(console: Arc<Console>, longest: Duration) -> Router {
    let in_time =
        move |request: Request| async move { request.map(|body| body_limits::within(body, longest)) };
    pages(&console)
        .route("/assets/{name}", get(asset))
        .route(api::VALIDATE, post(api::validate))
        .route(
            "/sign-in",
            get(token_sign_in::show)
                .post(token_sign_in::submit)
                .layer(DefaultBodyLimit::max(LARGEST_SIGN_IN)),
        )
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::map_request(in_time))
        .layer(middleware::from_fn_with_state(console.clone(), guard))
        .with_state(console)
}

/// What a user must be signed in for.
fn pages(console: &Arc<Console>) -> Router<Arc<Console>> {
    Router::new()
        .route("/", get(sign_in::enter))
        .route("/sign-out", post(sign_in::leave))
        .merge(system())
        .merge(tenant())
        .layer(middleware::from_fn_with_state(console.clone(), token_sign_in::identify))
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
    let mut response = match admit(&console, request) {
        Ok(request) => {
            let (parts, body) = request.into_parts();
            let asked = parts.clone();
            let response = next.run(Request::from_parts(parts, body)).await;
            count(&console, response.status());
            token_sign_in::with_page(&console, &asked, response)
        }
        Err(refusal) => {
            console.metrics.refused(refusal.into());
            (StatusCode::FORBIDDEN, refusal.message()).into_response()
        }
    };
    headers::secure(response.headers_mut(), console.site.is_https());
    response
}

/// A URL with a host (RFC 9112, section 3.2.2) must name the same host as the header.
fn admit(console: &Console, mut request: Request) -> Result<Request, RequestRefusal> {
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| RequestRefusal::Host)?;
        if request.headers().get(header::HOST).is_some_and(|named| named != host) {
            return Err(RequestRefusal::Host);
        }
        request.headers_mut().insert(header::HOST, host);
    }
    match request.uri().path() {
        api::VALIDATE => console.site.admit_program(request.headers())?,
        _ => console.site.admit(request.method(), request.headers())?,
    }
    Ok(request)
}

fn count(console: &Console, status: StatusCode) {
    match status {
        StatusCode::UNAUTHORIZED => console.metrics.refused(RefusalCause::SignIn),
        StatusCode::TOO_MANY_REQUESTS => console.metrics.refused(RefusalCause::Limit),
        _ => {}
    }
}

async fn asset(uri: Uri) -> Response {
    let Some(asset) = find(uri.path()) else { return StatusCode::NOT_FOUND.into_response() };
    let headers = [(header::CONTENT_TYPE, asset.media_type), (header::CACHE_CONTROL, KEEP)];
    (headers, asset.content).into_response()
}

async fn nothing() -> ConsoleError {
    ConsoleError::NotFound("there is no such page".to_owned())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures::stream;
    use http::Method;
    use tower::ServiceExt as _;

    use super::*;
    use crate::simulated;

    /// The status if the URL and the header name these hosts.
    async fn named(authority: &str, host: Option<&'static str>) -> StatusCode {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        let path = format!("http://{authority}/system/add/basic");
        let mut request = simulated::request(Method::GET, &path, "", Body::empty());
        request.headers_mut().remove(header::HOST);
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, HeaderValue::from_static(host));
        }
        simulated::answer(&console, request).await.0
    }

    #[tokio::test]
    async fn host_in_the_url_counts_too() {
        let own = "127.0.0.1:8080";
        assert_eq!(named(own, None).await, StatusCode::OK);
        assert_eq!(named(own, Some(own)).await, StatusCode::OK);
        for (authority, host) in
            [("evil.example", None), ("evil.example", Some(own)), (own, Some("evil.example"))]
        {
            assert_eq!(named(authority, host).await, StatusCode::FORBIDDEN, "{authority} {host:?}");
        }
    }

    #[tokio::test]
    async fn https_console_is_never_visited_without_tls() {
        for (url, expected) in
            [("https://127.0.0.1:8080", Some("max-age=31536000")), ("http://127.0.0.1:8080", None)]
        {
            let console = simulated::in_cluster_at(url);
            for path in ["/sign-in", "/nothing", "/system"] {
                let request = simulated::request(Method::GET, path, "", Body::empty());
                let response = router(console.clone()).oneshot(request).await.unwrap();
                let header = response.headers().get(header::STRICT_TRANSPORT_SECURITY);
                assert_eq!(header.map(|value| value.to_str().unwrap()), expected, "{url}{path}");
            }
        }
    }

    #[tokio::test]
    async fn sign_in_takes_a_token_and_no_more() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        for (length, status) in
            [(16 * 1024, StatusCode::NOT_FOUND), (LARGEST_SIGN_IN, StatusCode::PAYLOAD_TOO_LARGE)]
        {
            let body = format!("to=/system&token={}", "a".repeat(length));
            let media_type = "application/x-www-form-urlencoded";
            let request = simulated::request(Method::POST, "/sign-in", media_type, body);
            assert_eq!(simulated::answer(&console, request).await.0, status, "{length}");
        }
    }

    #[tokio::test]
    async fn form_that_does_not_arrive_is_refused() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        let mut request = simulated::form("/system/add/basic", &[]);
        *request.body_mut() = Body::from_stream(stream::pending::<Result<String, Infallible>>());
        let answer = with_body_limit(console, Duration::ZERO).oneshot(request);
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap();
        assert_eq!(answer.unwrap().status(), StatusCode::BAD_REQUEST);
    }
}
