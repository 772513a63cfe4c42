//! Signing in with a token, in the cluster: pasted into a page, or in the header that a proxy in front sets.
//!
//! Each request is one of its own token: the API server is asked every time who that is, so a token that was revoked is worth nothing
//! any more on any page.

use std::sync::Arc;

use axum::{
    Form,
    extract::{Query, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderValue, Method, StatusCode, header::SET_COOKIE, request::Parts, uri::PathAndQuery};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use crate::{
    bearer_token::{BearerToken, TokenError},
    console::{Console, SignedIn},
    error::{ConsoleError, SignInNeeded},
    pages::{Chrome, SignInPage, html},
    session::Session,
    user::{ApiServerAddress, UserClient},
};

/// The page after signing in, unless another was asked for.
const FIRST_PAGE: &str = "/system";
/// What the API server calls everyone without credentials.
const ANONYMOUS: &str = "system:anonymous";

/// Finds out who sends a request, before the handlers of pages. Without a user, they answer 401 themselves.
pub async fn identify(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let Some(server) = &console.api_server else { return next.run(request).await };
    let (mut parts, body) = request.into_parts();
    let signed_in = match BearerToken::of(&parts.headers) {
        Ok(Some(token)) => by_header(&console, server, &parts, &token).await,
        Ok(None) => by_cookie(&console, &parts).await,
        Err(error) => Err(ConsoleError::TokenRefused(error.to_string())),
    };
    let (signed_in, is_new) = match signed_in {
        Ok(found) => found,
        Err(error) => return error.into_response(),
    };
    let cookie = is_new.then(|| console.cookie.set(&signed_in.session));
    parts.extensions.insert(signed_in);
    let mut response = next.run(Request::from_parts(parts, body)).await;
    // A handler that ends the session says so itself.
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok())
        && !response.headers().contains_key(SET_COOKIE)
    {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// The user of a session, if its token is still one.
async fn by_cookie(console: &Console, parts: &Parts) -> Result<(SignedIn, bool), ConsoleError> {
    let signed_in = console.session_of(parts).ok_or(ConsoleError::NotSignedIn)?;
    confirm(signed_in).await.map(|signed_in| (signed_in, false))
}

/// The user of a token in a header. The session that the browser names is the token's, or the token's own takes its place: proxies renew
/// tokens while their user fills in a form. A token has one session, even for clients that keep no cookie.
async fn by_header(
    console: &Console,
    server: &ApiServerAddress,
    parts: &Parts,
    token: &BearerToken,
) -> Result<(SignedIn, bool), ConsoleError> {
    let known = console.session_of(parts);
    if let Some(same) = known.as_ref().filter(|known| known.token == Some(token.digest())) {
        return confirm(same.clone()).await.map(|signed_in| (signed_in, false));
    }
    let signed_in = match console.session_of_token(&token.digest(), parts) {
        Some(begun) => confirm(begun).await?,
        None => join(console, server, token).await?,
    };
    if let Some(known) = known.filter(|known| known.name == signed_in.name) {
        console.sessions().replace(&known.session, &signed_in.session);
    }
    Ok((signed_in, true))
}

/// Asks the API server whether that is still the user.
async fn confirm(signed_in: SignedIn) -> Result<SignedIn, ConsoleError> {
    let name = name_of(&signed_in.user).await?;
    if name == signed_in.name { Ok(signed_in) } else { Err(ConsoleError::NotSignedIn) }
}

/// The user of a token that belongs to no session, if the API server takes it.
pub async fn user_of(
    console: &Console,
    server: &ApiServerAddress,
    token: &BearerToken,
) -> Result<(UserClient, String), ConsoleError> {
    let _turn = console.new_token().await?;
    let user = client(console, server, token)?;
    let name = name_of(&user).await?;
    Ok((user, name))
}

/// Returns the user's name, if the API server takes the token.
async fn name_of(user: &UserClient) -> Result<String, ConsoleError> {
    match user.name().await {
        Ok(name) if name.is_empty() || name == ANONYMOUS => Err(refused()),
        Ok(name) => Ok(name),
        Err(kube::Error::Api(status)) if status.code == 401 => Err(refused()),
        Err(error) => Err(error.into()),
    }
}

fn refused() -> ConsoleError {
    ConsoleError::TokenRefused(
        "The API server refused the token (401): it is wrong, expired or revoked; sign in with a new one"
            .to_owned(),
    )
}

/// Begins a session with a token that the API server takes, always under a new id.
async fn begin(
    console: &Console,
    server: &ApiServerAddress,
    token: &BearerToken,
) -> Result<SignedIn, ConsoleError> {
    let (signed_in, session, now) = new_session(console, server, token).await?;
    console.sessions().begin(signed_in.session.clone(), session, now);
    Ok(signed_in)
}

/// Begins a session likewise, unless another request with the token has begun one while the API server was asked.
async fn join(
    console: &Console,
    server: &ApiServerAddress,
    token: &BearerToken,
) -> Result<SignedIn, ConsoleError> {
    let (signed_in, session, now) = new_session(console, server, token).await?;
    let id = console.sessions().begin_unless_begun(signed_in.session.clone(), session, now);
    Ok(SignedIn { session: id, ..signed_in })
}

async fn new_session(
    console: &Console,
    server: &ApiServerAddress,
    token: &BearerToken,
) -> Result<(SignedIn, Session, Timestamp), ConsoleError> {
    let (user, name) = user_of(console, server, token).await?;
    let id = console.edge.unguessable();
    let id = id
        .ok_or_else(|| ConsoleError::Internal("failed to make a session id: no random numbers".to_owned()))?;
    let now = (console.edge.now)();
    let session = Session::new(user, name, now).with_token(token.digest(), token.expires());
    Ok((SignedIn::of(&id, &session), session, now))
}

/// The client of a token's user.
fn client(
    console: &Console,
    server: &ApiServerAddress,
    token: &BearerToken,
) -> Result<UserClient, ConsoleError> {
    UserClient::new(server.sign_in(token), &console.system_namespace)
        .map_err(|error| ConsoleError::Internal(error.to_string()))
}

/// What a user signs in with.
#[derive(Deserialize)]
pub struct SignInForm {
    token: String,
    #[serde(default)]
    to: String,
}

/// What may stand in the URL of the page to sign in.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct SignInQuery {
    to: String,
}

/// `/sign-in`: the page.
pub async fn show(State(console): State<Arc<Console>>, Query(query): Query<SignInQuery>) -> Response {
    match console.api_server {
        Some(_) => page(&console, StatusCode::OK, &query.to, ""),
        None => no_page().into_response(),
    }
}

/// On the user's own machine nobody signs in with a token.
fn no_page() -> ConsoleError {
    ConsoleError::NotFound("there is no such page".to_owned())
}

/// `/sign-in`, with a token.
pub async fn submit(
    State(console): State<Arc<Console>>,
    parts: Parts,
    Form(form): Form<SignInForm>,
) -> Response {
    match sign_in(&console, &parts, &form.token).await {
        Ok(cookie) => ([(SET_COOKIE, cookie)], Redirect::to(own_path(&form.to))).into_response(),
        Err(ConsoleError::TokenRefused(why)) => page(&console, StatusCode::UNAUTHORIZED, &form.to, &why),
        Err(error) => error.into_response(),
    }
}

/// The new session's cookie. The session that the browser had ends.
async fn sign_in(console: &Console, parts: &Parts, token: &str) -> Result<String, ConsoleError> {
    let server = console.api_server.as_ref().ok_or_else(no_page)?;
    let token = BearerToken::pasted(token);
    let token = token.map_err(|error: TokenError| ConsoleError::TokenRefused(error.to_string()))?;
    let signed_in = begin(console, server, &token).await?;
    if let Some(old) = console.cookie.read(&parts.headers) {
        console.sessions().end(old);
    }
    Ok(console.cookie.set(&signed_in.session))
}

/// Makes the page to sign in of an answer that needs a user, and ends the session that is worth nothing any more.
pub fn with_page(console: &Console, parts: &Parts, response: Response) -> Response {
    let Some(SignInNeeded(why)) = response.extensions().get().cloned() else { return response };
    if console.api_server.is_none() {
        return response;
    }
    let path = parts.uri.path_and_query().map_or(FIRST_PAGE, PathAndQuery::as_str);
    let to = if matches!(parts.method, Method::GET | Method::HEAD) { path } else { FIRST_PAGE };
    let mut response = page(console, response.status(), to, &why);
    if let Some(id) = console.cookie.read(&parts.headers) {
        console.sessions().end(id);
        if let Ok(cookie) = HeaderValue::from_str(&console.cookie.clear()) {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
    }
    response
}

fn page(console: &Console, status: StatusCode, to: &str, complaint: &str) -> Response {
    let page = SignInPage {
        chrome: Chrome::signed_out(),
        to: own_path(to).to_owned(),
        complaint: complaint.to_owned(),
        namespace: console.system_namespace.clone(),
    };
    html(status, &page)
}

/// A path of this console; the first page for everything that could lead elsewhere.
fn own_path(to: &str) -> &str {
    let is_plain = to.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_path = to.starts_with('/') && !to.starts_with("//");
    let is_way_in = to == "/" || to.starts_with("/sign-");
    if is_plain && is_path && !is_way_in { to } else { FIRST_PAGE }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::header::{AUTHORIZATION, COOKIE};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        draft::{FormDraft, simulated_name},
        routes, simulated,
    };

    /// The cookie that comes with a page, for a token and the cookie that the browser has.
    async fn visit(console: &Arc<Console>, token: &str, cookie: &str) -> Option<String> {
        let mut request = simulated::request(Method::GET, "/system/add/basic", "", Body::empty());
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        headers.insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
        let response = routes::router(console.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let cookie = response.headers().get(SET_COOKIE)?.to_str().unwrap();
        cookie.split(';').next().map(ToOwned::to_owned)
    }

    #[tokio::test]
    async fn token_without_a_cookie_begins_one_session() {
        let console = simulated::in_cluster();
        let first = visit(&console, "ann-1", "").await.unwrap();
        for cookie in ["", "unknown=x"] {
            assert_eq!(visit(&console, "ann-1", cookie).await.as_deref(), Some(&*first));
        }
        assert_eq!(visit(&console, "ann-1", &first).await, None, "it has the cookie");
        assert_eq!(console.sessions().count(), 1);
        assert_ne!(visit(&console, "bob-1", &first).await.unwrap(), first);
        assert_eq!(console.sessions().count(), 2);
    }

    #[tokio::test]
    async fn parallel_requests_with_a_renewed_token_keep_drafts() {
        let console = simulated::in_cluster();
        let cookie = visit(&console, "ann-1", "").await.unwrap();
        let id = |cookie: &str| cookie.split_once('=').unwrap().1.to_owned();
        let draft = FormDraft { validated: Some([1; 32]), ..FormDraft::default() };
        let form = simulated_name("form");
        console.keep_draft(&id(&cookie), &form, draft);
        let visits = [(); 5].map(|()| visit(&console, "ann-2", &cookie));
        let renewed: Vec<_> = futures::future::join_all(visits).await.into_iter().flatten().collect();
        assert!(renewed.len() == 5 && renewed.iter().all(|other| *other == renewed[0]), "{renewed:?}");
        assert!(console.draft(&id(&renewed[0]), &form).validated.is_some());
        assert_eq!(console.sessions().count(), 1);
    }

    #[test]
    fn way_back_stays_on_this_console() {
        for own in ["/system", "/system/registries/a?added", "/tenants/t/registries?namespace=n"] {
            assert_eq!(own_path(own), own);
        }
        for elsewhere in [
            "",
            "/",
            "/sign-out",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/ /evil.example",
            "/a\r\nLocation: https://evil.example",
            "evil.example",
        ] {
            assert_eq!(own_path(elsewhere), FIRST_PAGE, "{elsewhere:?}");
        }
    }
}
