//! The replicas: each process is started again after it has ended, as the kubelet does.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    api_server::ApiServer,
    cast::ACCOUNT,
    clock,
    operator::{OperatorProcess, ProcessEnd},
    registries::Registries,
    wire::{
        ApiLink,
        fate::{KillPoint, LinkFaults},
        log::RequestLog,
    },
};

/// How long a process that ended by itself takes to start again.
const RESTART: Duration = Duration::from_secs(1);

/// What all replicas share.
#[derive(Clone)]
pub(super) struct ReplicaSurroundings {
    pub(super) server: ApiServer,
    pub(super) registries: Registries,
    pub(super) log: RequestLog,
    /// When processes started and ended.
    pub(super) starts: Arc<Mutex<Vec<Duration>>>,
    /// Why processes didn't start, or ended by themselves.
    pub(super) crashes: Arc<Mutex<Vec<String>>>,
    pub(super) seed: u64,
}

impl ReplicaSurroundings {
    fn crashed(&self, replica: usize, why: &str) {
        let crash = format!("at {:?}, replica {replica}: {why}", clock::elapsed());
        self.crashes.lock().unwrap_or_else(PoisonError::into_inner).push(crash);
    }
}

/// A replica, whose process changes.
pub(super) struct ReplicaSlot {
    number: usize,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    faults: LinkFaults,
    link: Option<Arc<ApiLink>>,
    stop: tokio_util::sync::CancellationToken,
    /// How long the process stays away after its next end.
    down: Duration,
}

impl ReplicaSlot {
    /// Starts a replica, and starts it again whenever it ends.
    pub(super) fn start(number: usize, around: ReplicaSurroundings) -> Arc<Self> {
        let slot = Arc::new(Self { number, state: Mutex::default() });
        tokio::spawn(slot.clone().keep_running(around));
        slot
    }

    async fn keep_running(self: Arc<Self>, around: ReplicaSurroundings) {
        for incarnation in 0.. {
            let link = ApiLink::new(self.number, incarnation, around.seed, around.log.clone());
            let connection = around.server.connect_to(self.number, ACCOUNT);
            let mut process = match OperatorProcess::start(link.clone(), connection, &around.registries) {
                Ok(process) => process,
                Err(error) => return around.crashed(self.number, &error.to_string()),
            };
            self.attach(link, process.stop_token());
            note(&around.starts);
            if let ProcessEnd::Unwanted(why) = process.ended().await {
                around.crashed(self.number, &why);
            }
            note(&around.starts);
            let down = std::mem::take(&mut self.state().down).max(RESTART);
            tokio::time::sleep(down).await;
        }
    }

    fn attach(&self, link: Arc<ApiLink>, stop: tokio_util::sync::CancellationToken) {
        let state = &mut *self.state();
        let faults = state.faults.clone();
        link.change(|its| *its = faults);
        (state.link, state.stop) = (Some(link), stop);
    }

    /// Changes what goes wrong on the replica's connections, those of later processes too.
    pub(super) fn change(&self, change: impl Fn(&mut LinkFaults)) {
        let state = &mut *self.state();
        change(&mut state.faults);
        // What happens once, to the next writes, is the process's alone.
        state.faults =
            LinkFaults { kill_at: None, lost_replies: None, late_writes: None, ..state.faults.clone() };
        if let Some(link) = &state.link {
            link.change(change);
        }
    }

    pub(super) fn cut_watches(&self) {
        if let Some(link) = &self.state().link {
            link.cut_watches();
        }
    }

    pub(super) fn kill(&self, down: Duration) {
        let state = &mut *self.state();
        state.down = down;
        if let Some(link) = &state.link {
            link.kill();
        }
    }

    /// Kills the process at one of its writes, counted from now.
    pub(super) fn kill_at(&self, point: KillPoint, down: Duration) {
        let state = &mut *self.state();
        state.down = down;
        if let Some(link) = &state.link {
            link.kill_at(point);
        }
    }

    pub(super) fn stop(&self, down: Duration) {
        let state = &mut *self.state();
        state.down = down;
        state.stop.cancel();
    }

    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(times: &Mutex<Vec<Duration>>) {
    times.lock().unwrap_or_else(PoisonError::into_inner).push(clock::elapsed());
}
