//! The network between a replica of the operator and its API server, with all that goes wrong there.
//!
//! - [`connection`]: the service that the operator's clients use.
//! - [`fate`]: what happens to a request. Pure.
//! - [`log`]: what was sent, when, and what came back.
//! - [`watch`]: the stream of a watch, which can be cut and delayed.

pub mod connection;
pub mod fate;
pub mod log;
mod watch;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{
    fate::{Fate, KillPoint, LinkFaults, RequestPurpose},
    log::RequestLog,
};
use crate::chance::Chance;

/// The connections of one process to the API server. Clones of the pointer share their state.
#[derive(Debug)]
pub struct ApiLink {
    /// The number of the replica.
    pub replica: usize,
    /// How often the replica was started before.
    pub incarnation: u32,
    log: RequestLog,
    state: Mutex<LinkState>,
    changed: Notify,
    killed: CancellationToken,
}

#[derive(Debug)]
struct LinkState {
    faults: LinkFaults,
    chance: Chance,
    /// How often the watches were cut.
    cuts: u64,
}

impl ApiLink {
    /// Connections without faults.
    pub fn new(replica: usize, incarnation: u32, seed: u64, log: RequestLog) -> Arc<Self> {
        let chance = Chance::new(seed ^ (replica as u64) << 32 ^ u64::from(incarnation) << 40);
        let state = LinkState { faults: LinkFaults::default(), chance, cuts: 0 };
        let (changed, killed) = (Notify::new(), CancellationToken::new());
        Arc::new(Self { replica, incarnation, log, state: Mutex::new(state), changed, killed })
    }

    /// Changes what goes wrong from now on.
    pub fn change(&self, change: impl FnOnce(&mut LinkFaults)) {
        change(&mut self.state().faults);
        self.changed.notify_waiters();
    }

    /// Ends all watches that are open, as a reset of the connection does.
    pub fn cut_watches(&self) {
        self.state().cuts += 1;
        self.changed.notify_waiters();
    }

    /// Kills the process: nothing is sent or received any more.
    pub fn kill(&self) {
        self.killed.cancel();
    }

    /// Kills the process at one of its next writes.
    pub fn kill_at(&self, point: KillPoint) {
        self.state().faults.kill_at = Some(point);
    }

    /// Returns when the process was killed.
    pub async fn killed(&self) {
        self.killed.cancelled().await;
    }

    /// Returns whether the process was killed.
    pub fn is_killed(&self) -> bool {
        self.killed.is_cancelled()
    }

    /// Decides what happens to the next request.
    fn fate(&self, purpose: RequestPurpose) -> Fate {
        let state = &mut *self.state();
        state.faults.fate(purpose, &mut state.chance)
    }

    /// Returns how long a message takes.
    fn latency(&self) -> Duration {
        let state = &mut *self.state();
        let slowest = state.faults.slow.unwrap_or_default().as_millis();
        let most = u64::try_from(slowest).unwrap_or(u64::MAX).max(3);
        Duration::from_millis(state.chance.between(1, most))
    }

    /// Waits until the condition holds for the faults.
    async fn until(&self, holds: impl Fn(&LinkState) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
