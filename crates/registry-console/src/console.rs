//! What the handlers share: the sessions, the way in, and what checks are made with.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use registry_check::check::Checker;
use registry_probe::Prober;
use registry_verdict::{ecr::EcrTokens, validate::AdminPolicy};
use tokio::sync::Semaphore;

use crate::{
    draft::FormDraft,
    edge::Edge,
    error::ConsoleError,
    guard::Site,
    headers::SessionCookie,
    session::{Door, Sessions},
    user::UserClient,
};

/// How many checks run at once.
const MOST_CHECKS: usize = 8;
/// How many pages wait for changes at once.
const MOST_WATCHES: usize = 100;

/// What checks are made with.
pub struct CheckKit {
    /// Asks registries.
    pub prober: Prober,
    /// Asks AWS; none in a build without it.
    pub tokens: Option<Arc<EcrTokens>>,
    /// What the administrator allows, as far as it is known here.
    pub admin_policy: AdminPolicy,
}

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
    kit: CheckKit,
    checks: Semaphore,
    watches: Semaphore,
    door: Mutex<Option<Door>>,
    sessions: Mutex<Sessions>,
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
    pub fn new(port: u16, system_namespace: &str, edge: Edge, kit: CheckKit, door: Door) -> Self {
        Self {
            site: Site::loopback(port),
            cookie: SessionCookie::loopback(port),
            system_namespace: system_namespace.to_owned(),
            edge,
            kit,
            checks: Semaphore::new(MOST_CHECKS),
            watches: Semaphore::new(MOST_WATCHES),
            door: Mutex::new(Some(door)),
            sessions: Mutex::default(),
        }
    }

    /// The sessions. The lock is never held while anything is waited for.
    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the holder of that code signs in with; the code works once.
    pub fn open(&self, code: &str) -> Option<Door> {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        door.take_if(|door| door.opens_for(code))
    }

    /// One more check, with its turn; an error if there are too many.
    pub fn checker(&self) -> Result<(Checker, tokio::sync::SemaphorePermit<'_>), ConsoleError> {
        let turn = self.checks.try_acquire();
        let turn =
            turn.map_err(|_| ConsoleError::TooMany("Too many validations at once; try again in a moment"))?;
        let CheckKit { prober, tokens, admin_policy } = &self.kit;
        let checker = Checker {
            prober: prober.clone(),
            tokens: tokens.clone(),
            admin_policy: admin_policy.clone(),
            clock: self.edge.now,
        };
        Ok((checker, turn))
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
        let session = sessions.find(id, (self.edge.now)())?;
        Some(SignedIn { session: id.to_owned(), user: session.user.clone(), name: session.name.clone() })
    }
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
