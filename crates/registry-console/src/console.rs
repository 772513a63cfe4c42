//! What the handlers share: the sessions, the way in, and what checks are made with.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::{Method, request::Parts};
use registry_check::{advice::CheckOutcome, check::Checker};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};

use crate::{
    bearer_token::TokenDigest,
    console_metrics::ConsoleMetrics,
    draft::FormDraft,
    edge::Edge,
    error::ConsoleError,
    guard::Site,
    headers::SessionCookie,
    public_url::PublicUrl,
    session::{Door, Session, Sessions},
    user::{ApiServerAddress, SignIn, UserClient},
    validation_limits::{KeyedTurn, KeyedTurns, ValidationBudget},
};

/// How many checks run at once.
const MOST_CHECKS: usize = 8;
/// How many tokens the API server is asked about at once, of those that belong to no session.
const MOST_NEW_TOKENS: usize = 16;
/// How long a new token waits for its turn.
const NEW_TOKEN_WAIT: Duration = Duration::from_secs(5);
/// How many pages wait for changes at once.
const MOST_WATCHES: usize = 500;
/// How many of them are of one session.
const MOST_WATCHES_OF_A_SESSION: usize = 4;
/// How many of them are of one user, in all of the user's sessions.
const MOST_WATCHES_OF_A_USER: usize = 32;
/// How many API requests of a user are answered at once.
const MOST_REQUESTS_OF_A_USER: usize = 2;
/// How many checks of a user run at once, in all of the user's sessions.
const MOST_CHECKS_OF_A_USER: usize = 2;

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
    /// What it counts.
    pub metrics: ConsoleMetrics,
    /// In the cluster: the API server whose tokens are accepted.
    pub api_server: Option<ApiServerAddress>,
    checker: Checker,
    checks: Arc<Semaphore>,
    checking: KeyedTurns,
    checking_users: KeyedTurns,
    requests: KeyedTurns,
    budget: Mutex<ValidationBudget>,
    new_tokens: Semaphore,
    watches: Semaphore,
    watching: KeyedTurns,
    watching_users: KeyedTurns,
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

/// The turn of a validation, until it is dropped.
pub struct ValidationTurn {
    _all: OwnedSemaphorePermit,
    _session: KeyedTurn,
    _user: KeyedTurn,
}

/// The turn of a page that waits, until it is dropped.
pub struct WatchTurn<'a> {
    _all: SemaphorePermit<'a>,
    _session: KeyedTurn,
    _user: KeyedTurn,
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
    /// The token that the session belongs to.
    pub token: Option<TokenDigest>,
}

impl SignedIn {
    /// The user of a session.
    pub fn of(id: &str, session: &Session) -> Self {
        Self {
            session: id.to_owned(),
            user: session.user.clone(),
            name: session.name.clone(),
            token: session.token,
        }
    }
}

impl Console {
    /// A console on this machine, that opens `door` once.
    pub fn on_loopback(port: u16, system_namespace: &str, edge: Edge, checker: Checker, door: Door) -> Self {
        let (site, cookie) = (Site::loopback(port), SessionCookie::loopback(port));
        let console = Self::new(site, cookie, system_namespace, edge, checker);
        Self { door: Mutex::new(Some(door)), ..console }
    }

    /// A console for everyone with a token of that API server.
    pub fn in_cluster(
        url: &PublicUrl,
        system_namespace: &str,
        edge: Edge,
        checker: Checker,
        api_server: ApiServerAddress,
    ) -> Self {
        let (site, cookie) = (Site::public(url), SessionCookie::public(url));
        let console = Self::new(site, cookie, system_namespace, edge, checker);
        Self { api_server: Some(api_server), ..console }
    }

    fn new(site: Site, cookie: SessionCookie, system_namespace: &str, edge: Edge, checker: Checker) -> Self {
        Self {
            site,
            cookie,
            system_namespace: system_namespace.to_owned(),
            edge,
            metrics: ConsoleMetrics::default(),
            api_server: None,
            checker,
            checks: Arc::new(Semaphore::new(MOST_CHECKS)),
            checking: KeyedTurns::default(),
            checking_users: KeyedTurns::default(),
            requests: KeyedTurns::default(),
            budget: Mutex::default(),
            new_tokens: Semaphore::new(MOST_NEW_TOKENS),
            watches: Semaphore::new(MOST_WATCHES),
            watching: KeyedTurns::default(),
            watching_users: KeyedTurns::default(),
            confirms: watch::Sender::new(0),
            door: Mutex::new(None),
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

    /// The turn of a token that belongs to no session, until it is dropped. Anyone may send one, and each takes a connection.
    pub async fn new_token(&self) -> Result<SemaphorePermit<'_>, ConsoleError> {
        let turn = tokio::time::timeout(NEW_TOKEN_WAIT, self.new_tokens.acquire()).await;
        let turn = turn.ok().and_then(Result::ok);
        turn.ok_or(ConsoleError::TooMany("Too many users sign in at once; try again in a moment"))
    }

    /// One more API request of a user, until the returned value is dropped; an error if there are too many.
    pub fn begin_request(&self, user: &str) -> Result<KeyedTurn, ConsoleError> {
        self.requests.take(user, MOST_REQUESTS_OF_A_USER).ok_or(ConsoleError::TooMany(
            "Two requests of this user are running already; wait for a result, and try again",
        ))
    }

    /// One more validation of a session by a user; an error if there are too many.
    pub fn begin_validation(
        &self,
        session: &str,
        user: &str,
    ) -> Result<(Checker, ValidationTurn), ConsoleError> {
        let of_session = self.checking.take(session, 1).ok_or(ConsoleError::TooMany(
            "A validation of this session is running already; wait for its result, and try again",
        ))?;
        let of_user = self.checking_users.take(user, MOST_CHECKS_OF_A_USER).ok_or(ConsoleError::TooMany(
            "Two validations of this user are running already; wait for a result, and try again",
        ))?;
        let of_all = self.checks.clone().try_acquire_owned().map_err(|_| {
            ConsoleError::TooMany("Too many validations at once: 8 are running; try again in a moment")
        })?;
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        if !budget.take(user, (self.edge.now)()) {
            return Err(ConsoleError::TooMany(
                "Too many validations: at most 20 a minute for a user; try again in a minute",
            ));
        }
        let turn = ValidationTurn { _all: of_all, _session: of_session, _user: of_user };
        Ok((self.checker.clone(), turn))
    }

    /// Counts what a validation found.
    pub fn validated(&self, outcome: CheckOutcome) {
        self.metrics.validated(outcome);
    }

    /// Whether the egress policy for tenants is complete.
    pub fn knows_cluster_addresses(&self) -> bool {
        self.checker.admin_policy.cluster_addresses.gap().is_none()
    }

    /// A turn to wait for changes; an error if too many pages do.
    pub fn watch(&self, session: &str) -> Result<WatchTurn<'_>, ConsoleError> {
        let user = self.sessions().peek(session, (self.edge.now)()).map(|session| session.name.clone());
        let user = user.ok_or(ConsoleError::NotSignedIn)?;
        let turn = || {
            Some(WatchTurn {
                _session: self.watching.take(session, MOST_WATCHES_OF_A_SESSION)?,
                _user: self.watching_users.take(&user, MOST_WATCHES_OF_A_USER)?,
                _all: self.watches.try_acquire().ok()?,
            })
        };
        turn().ok_or(ConsoleError::TooMany("Too many open pages; close some"))
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

    /// The session that a request names by its cookie, which is used by it if a person caused it.
    pub fn session_of(&self, parts: &Parts) -> Option<SignedIn> {
        self.session(self.cookie.read(&parts.headers)?, parts)
    }

    /// The session of a token, likewise.
    pub fn session_of_token(&self, token: &TokenDigest, parts: &Parts) -> Option<SignedIn> {
        let id = self.sessions().of_token(token, (self.edge.now)())?.to_owned();
        self.session(&id, parts)
    }

    fn session(&self, id: &str, parts: &Parts) -> Option<SignedIn> {
        let mut sessions = self.sessions();
        let now = (self.edge.now)();
        let session = if is_by_user(parts) {
            sessions.find(id, now).map(|session| &*session)
        } else {
            sessions.peek(id, now)
        }?;
        Some(SignedIn::of(id, session))
    }

    /// In the cluster, [`crate::token_sign_in`] has asked the API server who it is.
    fn signed_in(&self, parts: &Parts) -> Option<SignedIn> {
        match self.api_server {
            Some(_) => parts.extensions.get().cloned(),
            None => self.session_of(parts),
        }
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
    use futures::FutureExt as _;
    use http::StatusCode;
    use k8s_openapi::jiff::{SignedDuration, Timestamp};

    use super::{MOST_NEW_TOKENS, MOST_WATCHES_OF_A_SESSION, MOST_WATCHES_OF_A_USER};
    use crate::{session::Session, simulated, user::UserClient};

    static MINUTES: AtomicI64 = AtomicI64::new(0);

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(MINUTES.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn new_tokens_take_turns() {
        let console = simulated::console(simulated::api(|_| 200).0, now);
        let turn = || console.new_token().now_or_never().and_then(Result::ok);
        let mut turns: Vec<_> = (0..100).map_while(|_| turn()).collect();
        assert_eq!(turns.len(), MOST_NEW_TOKENS);
        turns.pop();
        assert!(turn().is_some());
    }

    #[tokio::test]
    async fn user_has_the_same_limits_in_several_sessions() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        let sessions = ["0", "1", "2", "3", "4", "5", "6", "7", "8"];
        for id in sessions {
            let user = UserClient::simulated(simulated::cluster(simulated::api(|_| 200).0));
            let session = Session::new(user, "ann".to_owned(), simulated::epoch());
            console.sessions().begin(id.to_owned(), session, simulated::epoch());
        }
        let turns: Vec<_> =
            sessions.iter().filter_map(|id| console.begin_validation(id, "ann").ok()).collect();
        assert_eq!(turns.len(), 2);
        assert!(console.begin_validation("bobs", "bob").is_ok());

        let pages = |id| (0..100).map_while(|_| console.watch(id).ok()).collect::<Vec<_>>();
        let pages: Vec<_> = sessions.map(pages).into_iter().map(|turns| (turns.len(), turns)).collect();
        assert_eq!(pages[0].0, MOST_WATCHES_OF_A_SESSION);
        assert_eq!(pages.iter().map(|(count, _)| count).sum::<usize>(), MOST_WATCHES_OF_A_USER);
        assert!(console.watch("ended").is_err());
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
