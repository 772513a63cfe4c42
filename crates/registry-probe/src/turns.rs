//! Turns: how many validations are under way at one registry host, over all tenants.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::host::HostPort;

/// Hands out turns by host.
pub(crate) struct Turns {
    at_once: usize,
    hosts: Arc<Mutex<HashMap<HostPort, Arc<Semaphore>>>>,
}

/// The right to have one validation under way at a host, until dropped.
pub(crate) struct Turn {
    host: HostPort,
    hosts: Arc<Mutex<HashMap<HostPort, Arc<Semaphore>>>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    pub(crate) fn new(at_once: NonZeroUsize) -> Self {
        Self { at_once: at_once.get(), hosts: Arc::default() }
    }

    /// Waits, first come, first served.
    pub(crate) async fn take(&self, host: &HostPort) -> Turn {
        let semaphore = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.entry(host.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.at_once))).clone()
        };
        let mut turn = Turn { host: host.clone(), hosts: self.hosts.clone(), permit: None };
        // Fails only for a closed semaphore, and none is ever closed.
        turn.permit = semaphore.acquire_owned().await.ok();
        turn
    }
}

impl Drop for Turn {
    /// Forgets the host with the last of its turns, waiting ones included.
    fn drop(&mut self) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        self.permit = None;
        if hosts.get(&self.host).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            hosts.remove(&self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn host(name: &str) -> HostPort {
        HostPort { host: name.parse().unwrap(), port: 443 }
    }

    #[tokio::test]
    async fn a_host_has_so_many_turns_and_no_more() {
        let turns = Turns::new(NonZeroUsize::new(2).unwrap());
        let (first, _second) = (turns.take(&host("a")).await, turns.take(&host("a")).await);
        assert!(turns.take(&host("a")).now_or_never().is_none());
        assert!(turns.take(&host("b")).now_or_never().is_some(), "other hosts do not wait");
        drop(first);
        assert!(turns.take(&host("a")).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_came_first_goes_first_and_nothing_is_left_behind() {
        let turns = Arc::new(Turns::new(NonZeroUsize::MIN));
        let held = turns.take(&host("a")).await;
        let a = host("a");
        let mut waiting = Box::pin(turns.take(&a));
        assert!((&mut waiting).now_or_never().is_none());
        drop(held);
        assert!(turns.take(&host("a")).now_or_never().is_none(), "it is the other's turn");
        drop(waiting.await);
        assert!(turns.hosts.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let turns = Turns::new(NonZeroUsize::MIN);
        let held = turns.take(&host("a")).await;
        assert!(turns.take(&host("a")).now_or_never().is_none());
        drop(held);
        assert!(turns.hosts.lock().unwrap().is_empty());
    }
}
