//! The way in and out: the one-time code becomes a session.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::header::SET_COOKIE;
use serde::Deserialize;

use crate::{
    console::{Console, SignedIn},
    error::ConsoleError,
    user::UserClient,
};

/// What may stand in the URL of the first page.
#[derive(Deserialize)]
pub struct EntryQuery {
    code: Option<String>,
}

/// `/`: with the code a new session, without it the first page.
pub async fn enter(
    State(console): State<Arc<Console>>,
    signed_in: Option<SignedIn>,
    Query(query): Query<EntryQuery>,
) -> Result<Response, ConsoleError> {
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
    let user = UserClient::new(door.sign_in(), &console.system_namespace)
        .map_err(|error| ConsoleError::Internal(error.to_string()))?;
    let name = user.name().await?;
    let id = console.edge.unguessable();
    let id = id
        .ok_or_else(|| ConsoleError::Internal("failed to make a session id: no random numbers".to_owned()))?;
    let cookie = console.cookie.set(&id);
    if !console.sessions().begin(id, user, name, (console.edge.now)()) {
        return Err(ConsoleError::TooMany("Too many sessions; try again later"));
    }
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/system")).into_response())
}

/// Signs out.
pub async fn leave(State(console): State<Arc<Console>>, signed_in: SignedIn) -> Response {
    console.sessions().end(&signed_in.session);
    ([(SET_COOKIE, console.cookie.clear())], Redirect::to("/")).into_response()
}
