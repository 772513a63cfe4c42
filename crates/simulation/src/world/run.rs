//! One history, from its beginning to its trace, in a thread of its own.

use std::{
    io,
    sync::{
        Once, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{SimulatedWorld, promise::SHOWN};
use crate::{
    chance, clock,
    history::{HistoryEvent, SimulatedHistory, generate},
    panics,
    registries::ServerCondition,
    trace::{HistoryTrace, RECOVERY, Snapshot},
};

/// How long a history may take by a real clock. It takes less than a second.
const LONGEST: Duration = Duration::from_mins(2);

/// A moment.
const MOMENT: Duration = Duration::from_millis(10);

/// Why a history didn't come to its end.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The thread or its runtime can't be started.
    #[error("failed to start the simulation: {0}")]
    Start(#[from] io::Error),
    /// Something panicked.
    #[error("the simulation panicked")]
    Panicked,
    /// Something works without a pause, so that time stands still, and it isn't a process of the operator, which would be ended.
    #[error("the history didn't end in {LONGEST:?}: something works without a pause")]
    Stuck,
}

/// Lets a history happen, in a thread of its own, whose chance follows from the history's seed.
pub fn run(history: &SimulatedHistory) -> Result<HistoryTrace, HistoryError> {
    static WARM: Once = Once::new();
    // What is made once in a process is made in another thread, so that the first history is like all others.
    WARM.call_once(|| drop(in_own_thread(generate::history(0))));
    in_own_thread(history.clone())
}

fn in_own_thread(history: SimulatedHistory) -> Result<HistoryTrace, HistoryError> {
    let thread = thread::Builder::new().name(format!("history-{}", history.seed));
    let (end, ended) = mpsc::channel();
    // A thread that is stuck ends with the process.
    thread.spawn(move || drop(end.send(in_this_thread(history))))?;
    ended.recv_timeout(LONGEST).map_err(|error| match error {
        RecvTimeoutError::Timeout => HistoryError::Stuck,
        RecvTimeoutError::Disconnected => HistoryError::Panicked,
    })?
}

fn in_this_thread(history: SimulatedHistory) -> Result<HistoryTrace, HistoryError> {
    chance::seed_thread(history.seed);
    panics::note_all();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(happen(history)))
}

async fn happen(history: SimulatedHistory) -> HistoryTrace {
    clock::begin();
    let began = Instant::now();
    let world = SimulatedWorld::begin(&history);
    let mut looks = Vec::new();
    for (index, event) in history.events.iter().enumerate() {
        sleep_until(began + event.at).await;
        match &event.event {
            HistoryEvent::Step(step) => world.step(step),
            HistoryEvent::Fault(fault) => world.inject(fault),
        }
        let next = history.events.get(index + 1).map_or(history.active, |next| next.at);
        world.look_until(next, began, &mut looks).await;
    }
    sleep_until(began + history.active).await;
    world.end_faults();
    world.calm_registries();
    if history.asks {
        world.request_all();
    }
    world.look();
    let mut snapshots = Vec::new();
    for after in [RECOVERY, history.calm] {
        sleep_until(began + history.active + after).await;
        snapshots.push(world.snapshot());
    }
    HistoryTrace {
        looks,
        changes: world.registries.changes(),
        idle_writes: world.idle_writes(),
        broken: world.broken(),
        writes: world.writes(),
        requests: world.log.take(),
        served: world.registries.take_records(),
        starts: world.starts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        crashes: world.crashes.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        user_actions: world.user_actions.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        snapshots,
        history,
    }
}

impl SimulatedWorld {
    /// Looks after an event, and just before the next one, whether everything is as it should be.
    async fn look_until(&self, next: Duration, began: Instant, looks: &mut Vec<Snapshot>) {
        let now = clock::elapsed();
        if next <= now {
            return;
        }
        self.look();
        let (shown, last) = (now + SHOWN + MOMENT, next.saturating_sub(MOMENT));
        for at in [shown, last] {
            if at >= shown && at < next && at > clock::elapsed() {
                sleep_until(began + at).await;
                looks.push(self.look());
            }
        }
    }

    /// Returns what the simulation itself can't go on from.
    fn broken(&self) -> Vec<String> {
        let unknown = self.server.unknown_requests();
        let unknown = unknown.into_iter().map(|request| format!("answered with 501: {request}"));
        unknown.chain(panics::take()).collect()
    }

    /// Lets all registries answer.
    fn calm_registries(&self) {
        for host in crate::cast::HOSTS {
            self.registries.change(host, |server| server.condition = ServerCondition::Up);
        }
    }
}
