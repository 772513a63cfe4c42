//! The answers of `/healthz` and `/readyz`. Only the event loop decides about `/healthz`. `/readyz` depends on when the
//! API server last answered.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kube::Client;
use tokio::time::Instant;

use crate::kubernetes::call::{CallFailure, call};

/// An event loop that hasn't run for this long is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// How often the event loop shows that it runs.
const TURN: Duration = Duration::from_secs(1);
/// A replica that has had no answer from the API server for this long is not ready.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a replica that doesn't renew a Lease sends a request to the API server.
const ASK: Duration = Duration::from_secs(10);

/// The state behind the kubelet's probes.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// When the event loop last ran, in milliseconds after `started`.
    turned: AtomicU64,
    readiness: Mutex<ReadyState>,
    guard: Mutex<Option<GuardState>>,
}

/// The result of the check of the policies: in force, or what is missing.
pub type GuardState = Result<(), String>;

#[derive(Debug, Default)]
struct ReadyState {
    /// Whether this replica is the leader and hasn't listed everything yet.
    syncing: bool,
    /// When the replica was last able to work: it got an answer, and had listed everything.
    held: Option<Instant>,
}

/// Why a replica is not ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotReady {
    /// It has not listed everything yet.
    Syncing,
    /// It has had no answer from the API server for this long.
    Silence(Duration),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syncing => write!(f, "caches are not synced yet"),
            Self::Silence(time) => write!(f, "no answer from the API server for {} s", time.as_secs()),
        }
    }
}

impl Health {
    /// Alive, and not ready yet.
    pub fn new() -> Arc<Self> {
        let (turned, readiness) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Self { started: Instant::now(), turned, readiness, guard: Mutex::default() })
    }

    /// Records that the policies are in force, or what is missing; `None` if that isn't known.
    pub fn guard(&self, guarded: Option<GuardState>) {
        *self.guarded() = guarded;
    }

    /// Returns whether the policies are in force, if known.
    pub fn guarded(&self) -> MutexGuard<'_, Option<GuardState>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that this replica is a standby, which has nothing to list.
    pub fn stand_by(&self) {
        self.lock().syncing = false;
    }

    /// Records that this replica is the leader, and starts to list everything.
    pub fn begin_syncing(&self) {
        self.lock().syncing = true;
    }

    /// Records that this replica has listed everything.
    pub fn synced(&self) {
        let mut readiness = self.lock();
        if std::mem::take(&mut readiness.syncing) {
            readiness.held = Some(Instant::now());
        }
    }

    /// Records an answer from the API server.
    pub fn answered(&self) {
        let mut readiness = self.lock();
        if !readiness.syncing {
            readiness.held = Some(Instant::now());
        }
    }

    /// Records regularly that the event loop runs. Never returns.
    pub async fn turn(&self) {
        loop {
            self.turned.store(self.age(), Ordering::Relaxed);
            tokio::time::sleep(TURN).await;
        }
    }

    /// Returns whether the event loop runs.
    pub fn is_alive(&self) -> bool {
        self.age().saturating_sub(self.turned.load(Ordering::Relaxed)) < millis(STUCK)
    }

    /// Returns whether this replica can work.
    pub fn is_ready(&self) -> Result<(), NotReady> {
        let readiness = self.lock();
        match readiness.held.map(|held| held.elapsed()) {
            Some(silence) if silence < SILENCE => Ok(()),
            Some(silence) if !readiness.syncing => Err(NotReady::Silence(silence)),
            _ => Err(NotReady::Syncing),
        }
    }

    /// Sends a request to the API server regularly, for a replica that doesn't renew a Lease. Never returns.
    pub async fn keep_asking(&self, client: &Client) {
        loop {
            tokio::time::sleep(ASK).await;
            match call(client.apiserver_version()).await {
                Err(error) if error.failure() == CallFailure::NoAnswer => {
                    tracing::warn!(%error, "liveness request to the API server failed, retrying");
                }
                _ => self.answered(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ReadyState> {
        self.readiness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);
    /// Just before a replica stops being ready.
    const ALMOST: Duration = Duration::from_millis(29_999);
    /// How long a leader works without the API server, and the rest of the silence.
    const TERM: Duration = Duration::from_secs(10);
    const LEFT: Duration = Duration::from_millis(19_999);

    #[tokio::test(start_paused = true)]
    async fn leader_is_ready_while_synced_and_answered() {
        let health = Health::new();
        assert_eq!(health.is_ready(), Err(NotReady::Syncing), "nothing was heard");
        health.begin_syncing();
        health.answered();
        assert_eq!(health.is_ready(), Err(NotReady::Syncing), "the lease alone is not enough");
        health.synced();
        assert_eq!(health.is_ready(), Ok(()));
        advance(ALMOST).await;
        assert_eq!(health.is_ready(), Ok(()));
        health.synced(); // which was said before, and is no answer
        advance(MOMENT).await;
        assert_eq!(health.is_ready(), Err(NotReady::Silence(SILENCE)));
        health.answered();
        assert_eq!(health.is_ready(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn former_leader_is_ready_once_answered() {
        let health = Health::new();
        health.begin_syncing();
        health.synced();
        advance(TERM).await; // the lease is lost
        health.stand_by();
        advance(LEFT).await;
        assert_eq!(health.is_ready(), Ok(()));
        advance(MOMENT).await;
        assert_eq!(health.is_ready(), Err(NotReady::Silence(SILENCE)));
        health.answered();
        assert_eq!(health.is_ready(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn new_leader_has_thirty_seconds_to_sync() {
        let health = Health::new();
        health.answered();
        health.begin_syncing();
        advance(ALMOST).await;
        health.answered();
        assert_eq!(health.is_ready(), Ok(()));
        advance(MOMENT).await;
        assert_eq!(health.is_ready(), Err(NotReady::Syncing));
        health.synced();
        assert_eq!(health.is_ready(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn liveness_depends_on_the_event_loop_only() {
        let health = Health::new();
        let turning = tokio::spawn({
            let health = health.clone();
            async move { health.turn().await }
        });
        sleep(SILENCE * 2 + TURN / 2).await;
        assert!(health.is_alive() && health.is_ready().is_err());
        turning.abort();
        sleep(Duration::from_secs(29)).await;
        assert!(health.is_alive());
        sleep(TURN).await;
        assert!(!health.is_alive());
    }

    #[tokio::test(start_paused = true)]
    async fn replica_without_lease_polls_api_server() {
        for answers in [true, false] {
            let service = tower::service_fn(move |_: http::Request<kube::client::Body>| async move {
                if !answers {
                    std::future::pending::<()>().await;
                }
                // An error response is an answer too.
                let body = kube::client::Body::from(br#"{"code": 403}"#.to_vec());
                Ok::<_, std::io::Error>(http::Response::builder().status(403).body(body).unwrap())
            });
            let (client, health) = (Client::new(service, "default"), Health::new());
            health.begin_syncing();
            health.synced();
            let _ = tokio::time::timeout(Duration::from_mins(1), health.keep_asking(&client)).await;
            assert_eq!(health.is_ready().is_ok(), answers);
        }
    }
}
