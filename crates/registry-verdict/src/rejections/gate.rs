//! Connects validations with the table of rejections. Each validation has a [`CredentialSession`], which decides
//! whether credentials may be sent and reports the result.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use registry_probe::{
    Admission, Credentials, CredentialsFinding, Findings, Gate, HostPort, Stage, Unavailable, Withholding,
};
use secrecy::ExposeSecret;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    records::encode,
    table::{CredentialAnswer, CredentialUse, Decision, Digest, HostRefusal, Table, TryId},
};
use crate::object::Group;

/// A validation that waits for another one's result checks again at least this often.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// An answer is awaited for this time after the deadline of its validation. So long, an attempt counts in the table.
const LATEST_ANSWER: Duration = super::table::WINDOW;
/// The number of validations that continue in the background. Each may hold a connection, some tens of kilobytes. Of further ones, the
/// answer isn't awaited.
const MOST_FINISHING: usize = 256;
/// The number of these of one group.
const MOST_FINISHING_OF_A_GROUP: usize = 16;

/// The rejections of all groups. Shared by all validations.
pub struct Rejections {
    table: Mutex<Table>,
    key: hmac::Key,
    clock: fn() -> Timestamp,
    settled: Notify,
    /// Notified when there is something to store.
    changed: Notify,
}

/// Validations that continue without a verdict, because the answer about their credentials is still needed: they were superseded, or
/// the answer is later than their deadline. They end when this is dropped.
#[derive(Debug, Default)]
pub struct FinishingValidations(Mutex<HashMap<Group, JoinSet<()>>>);

impl Rejections {
    /// Creates the rejections from `table`, whose digests were made with `key`.
    pub fn new(table: Table, key: hmac::Key, clock: fn() -> Timestamp) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(table),
            key,
            clock,
            settled: Notify::new(),
            changed: Notify::new(),
        })
    }

    /// Starts a session for one validation with those credentials of a `group`. `requested`: someone requested the
    /// validation. `validated`: since when the registry's status says that its credentials are validated.
    pub fn session(
        self: &Arc<Self>,
        group: Group,
        credentials: &[&[u8]],
        requested: bool,
        validated: Option<Timestamp>,
    ) -> Arc<CredentialSession> {
        let mut digest = hmac::Context::with_key(&self.key);
        for part in credentials {
            add(&mut digest, part);
        }
        Arc::new(CredentialSession {
            rejections: self.clone(),
            group,
            digest,
            requested,
            validated,
            state: Mutex::new(SessionState::default()),
        })
    }

    /// Waits until the rejections may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns a number that changes whenever [`Self::encoded`] does, except when a rejection ends by itself.
    pub fn revision(&self) -> u64 {
        self.table().revision()
    }

    /// Returns all current rejections as bytes, to be stored.
    pub fn encoded(&self) -> Vec<u8> {
        encode(self.table().rejections(self.now()))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Decides. Waits for other attempts whose result is needed.
    async fn decide(&self, wish: &CredentialUse) -> Decision {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let decision = self.change(|table| table.decide(wish, self.now()));
            if decision != Decision::Wait {
                return decision;
            }
            // The decision may also change over time.
            let _ = tokio::time::timeout(LOOK_AGAIN, settled).await;
        }
    }

    /// Whether these credentials were refused before. Then an attempt without an answer counts as refused too, at once.
    fn is_refused(&self, tried: &SentCredentials) -> bool {
        self.table().is_refused(&tried.wish, self.now())
    }

    fn settle(&self, tried: &SentCredentials, verdict: CredentialAnswer) -> Option<Duration> {
        let pause = self.change(|table| table.conclude(&tried.wish, tried.id, verdict, self.now()));
        self.settled.notify_waiters();
        pause
    }

    /// Changes the table, and says if there is something to store then.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let (result, is_changed) = {
            let mut table = self.table();
            let before = table.revision();
            let result = change(&mut table);
            (result, table.revision() != before)
        };
        if is_changed {
            self.changed.notify_one();
        }
        result
    }
}

impl FinishingValidations {
    /// Lets the rest of a validation continue if it has sent credentials: the host may reject them, and the next attempt
    /// depends on that.
    pub fn finish(&self, session: Arc<CredentialSession>, rest: impl Future<Output = ()> + Send + 'static) {
        if !session.is_open() {
            return;
        }
        let mut finishing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        finishing.retain(|_, validations| {
            while validations.try_join_next().is_some() {}
            !validations.is_empty()
        });
        let all: usize = finishing.values().map(JoinSet::len).sum();
        let of_group = finishing.get(&session.group).map_or(0, JoinSet::len);
        if all >= MOST_FINISHING || of_group >= MOST_FINISHING_OF_A_GROUP {
            return;
        }
        finishing.entry(session.group.clone()).or_default().spawn(async move {
            rest.await;
            session.await_late_answer().await;
        });
    }
}

/// Decides for one validation whether it may send credentials. An attempt without a result counts as unanswered.
pub struct CredentialSession {
    rejections: Arc<Rejections>,
    group: Group,
    /// A digest that already contains the credentials.
    digest: hmac::Context,
    requested: bool,
    validated: Option<Timestamp>,
    state: Mutex<SessionState>,
}

#[derive(Default)]
struct SessionState {
    tries: Vec<SentCredentials>,
    late: Option<LateAnswer>,
    forbidden: Vec<HostPort>,
    /// The time until the credentials may be sent.
    wait: Option<Duration>,
}

struct SentCredentials {
    /// `None` for AWS.
    server: Option<HostPort>,
    wish: CredentialUse,
    id: TryId,
}

/// The answer to an attempt, which didn't come before the validation's deadline.
struct LateAnswer {
    /// `None` for AWS.
    server: Option<HostPort>,
    answer: BoxFuture<'static, CredentialAnswer>,
}

impl CredentialSession {
    /// Returns whether credentials were sent and there is no result yet.
    pub fn is_open(&self) -> bool {
        !self.state().tries.is_empty()
    }

    /// Returns the time until the credentials may be sent, if they may not be sent now.
    pub fn wait(&self) -> Option<Duration> {
        self.state().wait
    }

    /// Reports the findings, and adds to them when the same credentials may be tried again. An attempt without an answer stays open
    /// if the answer can be awaited.
    pub fn conclude(&self, findings: &mut Findings) {
        let SessionState { tries, late, forbidden, wait } = &mut *self.state();
        let mut pause = None;
        for tried in std::mem::take(tries) {
            let verdict = verdict(&findings.credentials, tried.server.as_ref(), forbidden);
            let is_awaited = verdict == CredentialAnswer::NoAnswer
                && late.as_ref().is_some_and(|late| late.server == tried.server)
                && !self.rejections.is_refused(&tried);
            if is_awaited {
                tries.push(tried);
            } else {
                pause = self.rejections.settle(&tried, verdict).or(pause);
            }
        }
        if let Some(wait) = pause.or(*wait) {
            findings.retry_after = Some(wait);
        }
    }

    /// Decides whether these credentials may be used at AWS.
    pub async fn admit_at(&self, place: &str) -> Decision {
        let wish = self.wish(place);
        let decision = self.rejections.decide(&wish).await;
        self.note(None, wish, decision);
        decision
    }

    /// Lets AWS's answer be awaited after the validation's deadline.
    pub fn await_later(&self, answer: BoxFuture<'static, CredentialAnswer>) {
        self.state().late = Some(LateAnswer { server: None, answer });
    }

    /// Awaits the answer that didn't come before the deadline, for some time.
    async fn await_late_answer(&self) {
        let Some(late) = self.state().late.take() else { return };
        let answer = tokio::time::timeout(LATEST_ANSWER, late.answer).await;
        self.settle(answer.unwrap_or(CredentialAnswer::NoAnswer));
    }

    /// Reports the answer to what is open. Returns the delay for the credentials, if they were rejected.
    pub fn settle(&self, verdict: CredentialAnswer) -> Option<Duration> {
        let tries = std::mem::take(&mut self.state().tries);
        tries.iter().filter_map(|tried| self.rejections.settle(tried, verdict)).last()
    }

    fn note(&self, server: Option<HostPort>, wish: CredentialUse, decision: Decision) {
        let mut state = self.state();
        match decision {
            Decision::Send(id) => state.tries.push(SentCredentials { server, wish, id }),
            Decision::Paused(_, wait)
            | Decision::TriedTooOften(_, wait)
            | Decision::TooManyRejected(wait)
            | Decision::Full(wait) => state.wait = Some(wait),
            Decision::Wait => {}
        }
    }

    fn wish(&self, host: &str) -> CredentialUse {
        let mut digest = self.digest.clone();
        add(&mut digest, group_name(&self.group).as_bytes());
        add(&mut digest, host.as_bytes());
        let mut short: Digest = Digest::default();
        let length = short.len();
        short.copy_from_slice(&digest.sign().as_ref()[..length]);
        CredentialUse {
            group: self.group.clone(),
            host: host.into(),
            digest: short,
            requested: self.requested,
            validated: self.validated,
        }
    }

    fn state(&self) -> MutexGuard<'_, SessionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for CredentialSession {
    async fn admit(&self, server: &HostPort) -> Admission {
        let wish = self.wish(&server.to_string());
        let decision = self.rejections.decide(&wish).await;
        self.note(Some(server.clone()), wish, decision);
        let withheld = |why| Admission::Refused(CredentialsFinding::Withheld { server: server.clone(), why });
        match decision {
            Decision::Send(_) => Admission::Granted,
            Decision::TriedTooOften(HostRefusal::Rejected, _) => withheld(Withholding::TriedTooOften),
            Decision::Paused(refusal, _) | Decision::TriedTooOften(refusal, _) => {
                Admission::Refused(finding(refusal, server))
            }
            Decision::TooManyRejected(_) => withheld(Withholding::TooManyRejected),
            Decision::Full(_) => withheld(Withholding::MemoryFull),
            Decision::Wait => withheld(Withholding::UnderWay),
        }
    }

    fn forbidden(&self, server: &HostPort) {
        self.state().forbidden.push(server.clone());
    }

    fn unanswered(&self, server: &HostPort, answer: BoxFuture<'static, Option<CredentialsFinding>>) {
        let by = server.clone();
        let answer = Box::pin(async move {
            let forbidden = std::slice::from_ref(&by);
            answer.await.map_or(CredentialAnswer::NoAnswer, |finding| verdict(&finding, Some(&by), forbidden))
        });
        self.state().late = Some(LateAnswer { server: Some(server.clone()), answer });
    }
}

impl Drop for CredentialSession {
    fn drop(&mut self) {
        self.settle(CredentialAnswer::NoAnswer);
    }
}

/// Returns the finding for credentials that a server rejected before.
fn finding(refusal: HostRefusal, server: &HostPort) -> CredentialsFinding {
    match refusal {
        HostRefusal::Forbidden => CredentialsFinding::Forbidden { by: server.clone() },
        HostRefusal::Expired => CredentialsFinding::Expired,
        HostRefusal::Rejected | HostRefusal::Aws(..) => {
            CredentialsFinding::Rejected { by: server.clone(), status: 401 }
        }
    }
}

/// Returns what a finding says about the credentials at a server that they were sent to.
fn verdict(
    finding: &CredentialsFinding,
    server: Option<&HostPort>,
    forbidden: &[HostPort],
) -> CredentialAnswer {
    use CredentialsFinding as F;
    let Some(server) = server else { return CredentialAnswer::Nothing };
    match finding {
        F::Rejected { by, .. } if by == server => CredentialAnswer::Refused(HostRefusal::Rejected),
        F::Forbidden { by } if by == server && forbidden.contains(by) => {
            CredentialAnswer::Refused(HostRefusal::Forbidden)
        }
        F::Expired => CredentialAnswer::Refused(HostRefusal::Expired),
        F::TemporarilyUnavailable { server: failed, cause: Unavailable::Timeout(Stage::Request) }
            if failed == server =>
        {
            CredentialAnswer::NoAnswer
        }
        F::TemporarilyUnavailable { server: failed, .. } | F::Throttled { by: failed }
            if failed == server =>
        {
            CredentialAnswer::Nothing
        }
        F::NotAttempted | F::Withheld { .. } => CredentialAnswer::Nothing,
        // It took them, or another server refused them.
        F::Validated(_)
        | F::AnonymousAccess
        | F::Rejected { .. }
        | F::Forbidden { .. }
        | F::ForbiddenToAll { .. }
        | F::Required
        | F::UntrustedTokenService { .. }
        | F::TokenRefused { .. }
        | F::UnsupportedScheme { .. }
        | F::Unprovable(_)
        | F::TemporarilyUnavailable { .. }
        | F::Throttled { .. } => CredentialAnswer::Accepted,
    }
}

/// Returns the parts that distinguish credentials from others.
pub fn parts(credentials: &Credentials) -> Vec<&[u8]> {
    match credentials {
        Credentials::Basic { username, password } => {
            vec![b"basic", username.as_bytes(), password.expose_secret().as_bytes()]
        }
        Credentials::RegistryToken(token) => vec![b"token", token.expose_secret().as_bytes()],
        Credentials::IdentityToken { username, token } => {
            let username = username.as_deref().unwrap_or_default();
            vec![b"identity", username.as_bytes(), token.expose_secret().as_bytes()]
        }
    }
}

/// Adds a part with its length, so that different lists of parts never have the same input.
fn add(digest: &mut hmac::Context, part: &[u8]) {
    digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
    digest.update(part);
}

/// Returns a unique name for the group.
fn group_name(group: &Group) -> String {
    match group {
        Group::System => "system".to_owned(),
        Group::Tenant(tenant) => format!("tenant/{tenant}"),
        Group::Namespace(namespace) => format!("namespace/{namespace}"),
    }
}

#[cfg(test)]
mod tests;
