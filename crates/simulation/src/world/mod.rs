//! A world: an API server, registries, replicas of the operator, and a history that happens to them.
//!
//! - `chart`: what the chart installs.
//! - [`desired`]: what the operator should say. Pure.
//! - `faults`: what goes wrong.
//! - [`promise`]: until when a registry must be as it should. Pure.
//! - `replicas`: processes that start again when they end.
//! - `run`: one history from its beginning to its trace.
//! - `setting`: what exists before a history.
//! - `steps`: what users and registries do.
//! - `view`: the state of all registries, for the invariants.

mod chart;
pub mod desired;
mod faults;
pub mod promise;
mod replicas;
mod run;
mod setting;
mod steps;
mod view;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use self::run::run;
use self::{
    promise::InputChanges,
    replicas::{ReplicaSlot, ReplicaSurroundings},
};
use crate::{
    api_server::{ApiServer, WriteRecord},
    cast::NAMESPACES,
    history::SimulatedHistory,
    registries::Registries,
    trace::AcceptedWrite,
    wire::log::RequestLog,
};

/// A world.
pub struct SimulatedWorld {
    server: ApiServer,
    registries: Registries,
    log: RequestLog,
    starts: Arc<Mutex<Vec<Duration>>>,
    crashes: Arc<Mutex<Vec<String>>>,
    /// What users did, in order.
    user_actions: Arc<Mutex<Vec<String>>>,
    replicas: Vec<Arc<ReplicaSlot>>,
    /// When what registries depend on changed.
    changes: Mutex<InputChanges>,
    /// The last restore, if there was one.
    restored: Mutex<Option<LastRestore>>,
}

/// A restore of the store. The revisions of the writes before it name other states now.
#[derive(Clone, Copy)]
struct LastRestore {
    /// How many writes there were before it.
    writes: usize,
    /// The revision that the store was set back to.
    revision: u64,
}

impl SimulatedWorld {
    /// Returns a world at the beginning of a history.
    fn begin(history: &SimulatedHistory) -> Self {
        let (server, registries) = setting::setting();
        let (log, starts, crashes) = (RequestLog::default(), Arc::default(), Arc::default());
        let changes = Mutex::default();
        let around = ReplicaSurroundings {
            server: server.clone(),
            registries: registries.clone(),
            log: log.clone(),
            starts: Arc::clone(&starts),
            crashes: Arc::clone(&crashes),
            seed: history.seed,
        };
        let replicas = (0..history.replicas).map(|number| ReplicaSlot::start(number, around.clone()));
        let replicas = replicas.collect();
        let user_actions = Arc::default();
        let restored = Mutex::default();
        Self { server, registries, log, starts, crashes, user_actions, replicas, changes, restored }
    }

    /// Sets the store back to its state so long ago, but no further than to the last restore.
    fn restore(&self, back: Duration) {
        let then = crate::clock::elapsed().saturating_sub(back);
        let writes = self.server.writes();
        let restored = &mut *self.restored.lock().unwrap_or_else(PoisonError::into_inner);
        let since = restored.map_or(0, |restored| restored.writes);
        let written = writes[since..].iter().rfind(|write| setting::at(write.time) <= then);
        let revision = written.map(|write| write.revision).or(restored.map(|restored| restored.revision));
        if let Some(revision) = revision {
            *restored = Some(LastRestore { writes: writes.len(), revision });
            self.server.restore(revision);
            for (namespace, _) in NAMESPACES {
                self.finish_deletion(namespace);
            }
        }
    }

    /// Lets a replica's API server serve watches from a cache that stands still, for so long.
    fn let_lag(&self, replica: usize, long: Duration) {
        self.server.freeze(replica);
        self.replicas[replica].cut_watches();
        let (server, slot) = (self.server.clone(), self.replicas[replica].clone());
        tokio::spawn(async move {
            tokio::time::sleep(long).await;
            server.thaw(replica);
            slot.cut_watches();
        });
    }

    /// Ends that.
    fn catch_up(&self, replica: usize) {
        self.server.thaw(replica);
    }

    fn writes(&self) -> Vec<AcceptedWrite> {
        self.server.writes().iter().filter(|record| record.stored).map(setting::accepted).collect()
    }

    /// Returns the writes that were accepted and changed nothing.
    fn idle_writes(&self) -> Vec<AcceptedWrite> {
        let is_idle = |record: &&WriteRecord| {
            !record.stored && record.code < 300 && !record.target.dry_run && record.before.is_none()
        };
        self.server.writes().iter().filter(is_idle).map(setting::accepted).collect()
    }
}
