//! Tells an open table that it is behind: an answer that comes when something has changed.
//!
//! It is a watch with the user's own rights, from the version that the table was read at, so that no change is missed between the two.

use std::{pin::pin, sync::Arc};

use axum::extract::{Query, State};
use futures::StreamExt as _;
use http::StatusCode;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use registry_api::SystemRegistry;
use serde::Deserialize;

use crate::{
    console::{Console, SignedIn},
    error::ConsoleError,
};

/// How long a request waits, in seconds; the page then asks again.
const LONGEST_WAIT: u32 = 25;

/// What the table was read at.
#[derive(Deserialize)]
pub struct ChangesQuery {
    since: String,
}

/// `/system/changes`: 200 as soon as a SystemRegistry has changed, 204 if none has.
pub async fn of_system(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Query(query): Query<ChangesQuery>,
) -> Result<StatusCode, ConsoleError> {
    let _turn = console.watch(&signed_in.session)?;
    let registries: Api<SystemRegistry> = Api::all(signed_in.user.client());
    let params = WatchParams::default().timeout(LONGEST_WAIT).disable_bookmarks();
    let mut events = pin!(registries.watch_metadata(&params, &query.since).await?);
    match events.next().await {
        None | Some(Ok(WatchEvent::Bookmark(_))) => Ok(StatusCode::NO_CONTENT),
        // An error too: the version is too old to be followed, and the table with it.
        Some(_) => Ok(StatusCode::OK),
    }
}
