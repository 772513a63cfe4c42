//! What goes wrong, and how it ends.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::SignedDuration;

use super::{SimulatedWorld, replicas::ReplicaSlot};
use crate::{clock, history::InjectedFault, wire::fate::LinkFaults};

impl SimulatedWorld {
    /// Lets something go wrong. Faults that last end by themselves.
    pub(super) fn inject(&self, fault: &InjectedFault) {
        let slot = |number: usize| &self.replicas[number % self.replicas.len()];
        match *fault {
            InjectedFault::Failing(replica, percent, long) => {
                lasting(slot(replica), long, move |faults, on| faults.failing = if on { percent } else { 0 });
            }
            InjectedFault::Frozen(replica, long) => {
                lasting(slot(replica), long, |faults, on| faults.frozen = on);
            }
            InjectedFault::StatusForbidden(replica, long) => {
                lasting(slot(replica), long, |faults, on| faults.status_forbidden = on);
            }
            InjectedFault::Slow(replica, slowest, long) => {
                lasting(slot(replica), long, move |faults, on| faults.slow = on.then_some(slowest));
            }
            InjectedFault::CutWatches(replica) => slot(replica).cut_watches(),
            InjectedFault::Blackholed(replica, long) => blackhole(slot(replica), long),
            InjectedFault::LostReplies(replica, writes) => {
                slot(replica).change(|faults| faults.lost_replies = Some(writes));
            }
            InjectedFault::LateWrites(replica, writes, late) => {
                slot(replica).change(|faults| faults.late_writes = Some((writes, late)));
            }
            InjectedFault::Kill(replica, down) => slot(replica).kill(down),
            InjectedFault::KillAt(replica, point, down) => slot(replica).kill_at(point, down),
            InjectedFault::Stop(replica, down) => slot(replica).stop(down),
            InjectedFault::Jump(seconds) => {
                clock::jump(SignedDuration::from_secs(seconds));
                let changes = &mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner);
                let set = if seconds < 0 { &mut changes.set_back } else { &mut changes.set_ahead };
                *set = Some(clock::elapsed());
            }
            InjectedFault::Stale(replica, long) => self.let_lag(replica % self.replicas.len(), long),
        }
    }

    /// Ends all faults.
    pub(super) fn end_faults(&self) {
        for slot in &self.replicas {
            slot.change(|faults| *faults = LinkFaults::default());
        }
        for replica in 0..self.replicas.len() {
            self.catch_up(replica);
        }
    }
}

/// Switches something on, and off again after a while.
fn lasting(slot: &Arc<ReplicaSlot>, long: Duration, switch: impl Fn(&mut LinkFaults, bool) + Send + 'static) {
    slot.change(|faults| switch(faults, true));
    let slot = slot.clone();
    tokio::spawn(async move {
        tokio::time::sleep(long).await;
        slot.change(|faults| switch(faults, false));
    });
}

/// Lets the watches be silent, until the pings of HTTP/2 notice it and their connection breaks.
fn blackhole(slot: &Arc<ReplicaSlot>, long: Duration) {
    slot.change(|faults| faults.blackholed = true);
    let slot = slot.clone();
    tokio::spawn(async move {
        tokio::time::sleep(long).await;
        slot.cut_watches();
        slot.change(|faults| faults.blackholed = false);
    });
}
