//! What the handlers share: the sessions, the way in, and what checks are made with.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::{Method, request::Parts};
use registry_check::check::Checker;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    draft::FormDraft,
    edge::Edge,
    error::ConsoleError,
    guard::Site,
    headers::SessionCookie,
    session::{Door, Sessions},
    user::{SignIn, UserClient},
};

/// How many checks run at once.
const MOST_CHECKS: usize = 8;
/// How many pages wait for changes at once.
const MOST_WATCHES: usize = 100;

/// The console. Holds no client of its own: each belongs to a session.
pub struct Console {
    /// Where it is served.
    pub site: Site,
    /// The sessions' cookie.
    pub cookie: SessionCookie,
    /// Where the operator runs.
    pub system_namespace: String,
    /// Clock and random numbers.
    pub edge: Edge,
    checker: Checker,
    checks: Arc<Semaphore>,
    watches: Semaphore,
    /// How many Confirms are being carried out.
    confirms: watch::Sender<usize>,
    door: Mutex<Option<Door>>,
    sessions: Mutex<Sessions>,
}

/// A Confirm that is being carried out, until it is dropped.
pub struct RunningConfirm(watch::Sender<usize>);

impl Drop for RunningConfirm {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running = running.saturating_sub(1));
    }
}

/// The door while someone signs in. Unless [`OpenedDoor::close_for_good`] is called, the code works again afterwards.
pub struct OpenedDoor<'a> {
    console: &'a Console,
    door: Option<Door>,
}

impl OpenedDoor<'_> {
    /// Returns what the holder of the code signs in with.
    pub fn sign_in(&self) -> Option<SignIn> {
        self.door.as_ref().map(Door::sign_in)
    }

    /// Someone is signed in: the code is used up.
    pub fn close_for_good(mut self) {
        self.door = None;
    }
}

impl Drop for OpenedDoor<'_> {
    fn drop(&mut self) {
        if let Some(door) = self.door.take() {
            *self.console.door.lock().unwrap_or_else(PoisonError::into_inner) = Some(door);
        }
    }
}

/// A signed-in user, in a handler.
#[derive(Clone)]
pub struct SignedIn {
    /// The session's id.
    pub session: String,
    /// The user's way to the API server.
    pub user: UserClient,
    /// The user's name.
    pub name: String,
}

impl Console {
    /// A console that opens `door` once.
    pub fn new(port: u16, system_namespace: &str, edge: Edge, checker: Checker, door: Door) -> Self {
        Self {
            site: Site::loopback(port),
            cookie: SessionCookie::loopback(port),
            system_namespace: system_namespace.to_owned(),
            edge,
            checker,
            checks: Arc::new(Semaphore::new(MOST_CHECKS)),
            watches: Semaphore::new(MOST_WATCHES),
            confirms: watch::Sender::new(0),
            door: Mutex::new(Some(door)),
            sessions: Mutex::default(),
        }
    }

    /// The sessions. The lock is never held while anything is waited for.
    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the door for the holder of that code; the code works once, unless signing in fails.
    pub fn open(&self, code: &str) -> Option<OpenedDoor<'_>> {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let door = door.take_if(|door| door.opens_for(code))?;
        Some(OpenedDoor { console: self, door: Some(door) })
    }

    /// Counts a Confirm until the returned value is dropped.
    pub fn confirm_begins(&self) -> RunningConfirm {
        self.confirms.send_modify(|running| *running += 1);
        RunningConfirm(self.confirms.clone())
    }

    /// Waits until no Confirm is being carried out, at most that long.
    pub async fn confirms_end(&self, longest: Duration) {
        let mut running = self.confirms.subscribe();
        // Neither result changes what follows: the program ends.
        let _ = tokio::time::timeout(longest, running.wait_for(|running| *running == 0)).await;
    }

    /// One more check, with its turn; an error if there are too many.
    pub fn checker(&self) -> Result<(Checker, OwnedSemaphorePermit), ConsoleError> {
        let turn = self.checks.clone().try_acquire_owned();
        let turn =
            turn.map_err(|_| ConsoleError::TooMany("Too many validations at once; try again in a moment"))?;
        Ok((self.checker.clone(), turn))
    }

    /// A turn to wait for changes; an error if too many pages do.
    pub fn watch(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ConsoleError> {
        self.watches.try_acquire().map_err(|_| ConsoleError::TooMany("Too many open pages; close some"))
    }

    /// The user of a request that is no use of the session.
    pub fn waiting_user(&self, headers: &http::HeaderMap) -> Option<UserClient> {
        let id = self.cookie.read(headers)?;
        let sessions = self.sessions();
        sessions.peek(id, (self.edge.now)()).map(|session| session.user.clone())
    }

    /// The draft of a form.
    pub fn draft(&self, session: &str, name: &str) -> FormDraft {
        let mut sessions = self.sessions();
        sessions.find(session, (self.edge.now)()).map(|session| session.drafts.get(name)).unwrap_or_default()
    }

    /// The Secret that a registry no longer uses since that form was confirmed; empty for none. Looking is no use of the session.
    pub fn unused_secret(&self, session: &str, draft: &str) -> String {
        let sessions = self.sessions();
        let session = sessions.peek(session, (self.edge.now)());
        session.map(|session| session.drafts.get(draft).unused_secret).unwrap_or_default()
    }

    /// Keeps the draft of a form.
    pub fn keep_draft(&self, session: &str, name: &str, draft: FormDraft) {
        if let Some(session) = self.sessions().find(session, (self.edge.now)()) {
            session.drafts.keep(name, draft);
        }
    }

    /// Forgets the draft of a form.
    pub fn forget_draft(&self, session: &str, name: &str) {
        if let Some(session) = self.sessions().find(session, (self.edge.now)()) {
            session.drafts.forget(name);
        }
    }

    fn signed_in(&self, parts: &Parts) -> Option<SignedIn> {
        let id = self.cookie.read(&parts.headers)?;
        let mut sessions = self.sessions();
        let now = (self.edge.now)();
        let session = if is_by_user(parts) {
            sessions.find(id, now).map(|session| &*session)
        } else {
            sessions.peek(id, now)
        }?;
        Some(SignedIn { session: id.to_owned(), user: session.user.clone(), name: session.name.clone() })
    }
}

/// Returns whether a person caused the request. Browsers mark navigations by users; a page that loads itself again has no such mark.
fn is_by_user(parts: &Parts) -> bool {
    let mark = parts.headers.get("sec-fetch-user").and_then(|value| value.to_str().ok());
    !matches!(parts.method, Method::GET | Method::HEAD) || mark == Some("?1")
}

impl FromRequestParts<Arc<Console>> for SignedIn {
    type Rejection = ConsoleError;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, ConsoleError> {
        console.signed_in(parts).ok_or(ConsoleError::NotSignedIn)
    }
}

impl OptionalFromRequestParts<Arc<Console>> for SignedIn {
    type Rejection = ConsoleError;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Option<Self>, ConsoleError> {
        Ok(console.signed_in(parts))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use axum::body::Body;
    use http::StatusCode;
    use k8s_openapi::jiff::{SignedDuration, Timestamp};

    use crate::simulated;

    static MINUTES: AtomicI64 = AtomicI64::new(0);

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(MINUTES.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn reload_without_a_user_keeps_nobody_in() {
        let console = simulated::console(simulated::api(|_| 200).0, now);
        let path = "/system/add/basic";
        MINUTES.store(20, Ordering::Relaxed);
        assert_eq!(simulated::get(&console, path).await.0, StatusCode::OK);
        MINUTES.store(29, Ordering::Relaxed);
        let mut by_user = simulated::request(http::Method::GET, path, "", Body::empty());
        by_user.headers_mut().insert("sec-fetch-user", http::HeaderValue::from_static("?1"));
        assert_eq!(simulated::answer(&console, by_user).await.0, StatusCode::OK);
        MINUTES.store(50, Ordering::Relaxed);
        assert_eq!(simulated::get(&console, path).await.0, StatusCode::OK, "used in minute 29");
        MINUTES.store(59, Ordering::Relaxed);
        assert_eq!(simulated::get(&console, path).await.0, StatusCode::UNAUTHORIZED);
    }
}
