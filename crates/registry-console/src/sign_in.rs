//! The way in and out: the one-time code becomes a session.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::{Method, StatusCode, header::SET_COOKIE};
use serde::Deserialize;

use crate::{
    console::{Console, SignedIn},
    error::ConsoleError,
    session::Session,
    user::{SignIn, UserClient},
};

/// What may stand in the URL of the first page.
#[derive(Deserialize)]
pub struct EntryQuery {
    code: Option<String>,
}

/// `/`: with the code a new session, without it the first page.
pub async fn enter(
    State(console): State<Arc<Console>>,
    method: Method,
    signed_in: Option<SignedIn>,
    Query(query): Query<EntryQuery>,
) -> Result<Response, ConsoleError> {
    if method == Method::HEAD {
        // Link checkers send it; only a page that is opened uses the code up.
        return Ok(StatusCode::OK.into_response());
    }
    match (query.code, signed_in) {
        (Some(code), signed_in) => match begin(&console, &code).await {
            // A user who opens the same link again in the same browser is in already.
            Err(ConsoleError::UsedLink) if signed_in.is_some() => Ok(Redirect::to("/system").into_response()),
            begun => begun,
        },
        (None, Some(_)) => Ok(Redirect::to("/system").into_response()),
        (None, None) => Err(ConsoleError::NotSignedIn),
    }
}

/// Always under a new session id, whatever the browser sent.
async fn begin(console: &Console, code: &str) -> Result<Response, ConsoleError> {
    let door = console.open(code).ok_or(ConsoleError::UsedLink)?;
    let sign_in = door.sign_in().ok_or(ConsoleError::UsedLink)?;
    let user = client(console, sign_in).await?;
    let name = user.name().await?;
    let id = console.edge.unguessable();
    let id = id
        .ok_or_else(|| ConsoleError::Internal("failed to make a session id: no random numbers".to_owned()))?;
    let cookie = console.cookie.set(&id);
    let now = (console.edge.now)();
    console.sessions().begin(id, Session::new(user, name, now), now);
    door.close_for_good();
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/system")).into_response())
}

/// A credential plugin of the kubeconfig blocks its thread until it has a token, for which it may wait for a person. A thread that serves
/// would leave signals and other requests waiting.
async fn client(console: &Console, sign_in: SignIn) -> Result<UserClient, ConsoleError> {
    let namespace = console.system_namespace.clone();
    let made = tokio::task::spawn_blocking(move || UserClient::new(sign_in, &namespace)).await;
    let made = made.map_err(|error| ConsoleError::Internal(error.to_string()))?;
    made.map_err(|error| ConsoleError::Internal(error.to_string()))
}

/// Signs out.
pub async fn leave(State(console): State<Arc<Console>>, signed_in: SignedIn) -> Response {
    console.sessions().end(&signed_in.session);
    ([(SET_COOKIE, console.cookie.clear())], Redirect::to("/")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::simulated::{self, CODE};

    fn visit(method: Method) -> axum::extract::Request {
        simulated::request(method, &format!("/?code={CODE}"), "", Body::empty())
    }

    #[tokio::test]
    async fn failed_sign_in_keeps_the_code() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        console.sessions().end(simulated::SESSION);
        for _ in 0..2 {
            let (status, page) = simulated::answer(&console, visit(Method::GET)).await;
            assert_eq!(status, StatusCode::BAD_GATEWAY, "{page}");
        }
        assert!(console.open(CODE).is_some());
    }

    #[tokio::test]
    async fn head_does_not_take_the_code() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        let (status, _) = simulated::answer(&console, visit(Method::HEAD)).await;
        assert_eq!(status, StatusCode::OK);
        let door = console.open(CODE).unwrap();
        door.close_for_good();
        assert!(console.open(CODE).is_none());
    }
}
