//! Coincidences: a few events at almost the same time, about the same registry. Chance alone brings them together too rarely, and it is
//! there that controllers break.

use std::time::Duration;

use super::{HistoryEvent, InjectedFault, TimedEvent, UserStep};
use crate::{
    cast::{NAMESPACES, REGISTRIES},
    chance::Chance,
    registries::behaviour::ServerCondition,
    wire::fate::{NextWrites, WriteKind},
};

/// Where and when it happens.
#[derive(Clone, Copy, Debug)]
struct Scene {
    registry: usize,
    replica: usize,
    /// When it begins, in milliseconds.
    begin: u64,
    /// When all events must have happened, in milliseconds.
    end: u64,
}

/// Returns the events of one coincidence within so many seconds.
pub fn coincidence(chance: &mut Chance, replicas: usize, active: u64) -> Vec<TimedEvent> {
    let pick =
        |chance: &mut Chance, count: usize| usize::try_from(chance.below(count as u64)).unwrap_or_default();
    let scene = Scene {
        registry: pick(chance, REGISTRIES.len()),
        replica: pick(chance, replicas),
        begin: chance.below(active * 900),
        end: active * 1000,
    };
    match chance.below(6) {
        0..2 => slow_validation(chance, scene),
        2 => refused_status(chance, scene),
        3 => taken_name(chance, scene),
        4 => slow_then_failing(chance, scene),
        _ => clock_set_back(chance, scene),
    }
}

/// Something changes while a validation takes long, and maybe the operator doesn't see it.
fn slow_validation(chance: &mut Chance, scene: Scene) -> Vec<TimedEvent> {
    let Scene { registry, replica, .. } = scene;
    let slow = ServerCondition::Slow(Duration::from_millis(chance.between(500, 8000)));
    let long = Duration::from_secs(chance.between(5, 25));
    let blind = match chance.below(5) {
        0 | 1 => Some(InjectedFault::Blackholed(replica, long)),
        2 => Some(InjectedFault::Stale(replica, long)),
        3 => Some(InjectedFault::LostReplies(replica, NextWrites { kind: WriteKind::Any, count: 2 })),
        _ => None,
    };
    let (asked, changed) = (chance.between(1, 50), chance.between(100, 3000));
    let mut events = vec![
        scene.step(0, UserStep::Answer(REGISTRIES[registry].host, slow)),
        scene.step(asked, UserStep::Request(registry)),
        scene.step(asked + changed, change(chance, registry)),
    ];
    events.extend(blind.map(|fault| scene.fault(asked + 60, fault)));
    events
}

/// The status can't be written, and something changes.
fn refused_status(chance: &mut Chance, scene: Scene) -> Vec<TimedEvent> {
    let long = Duration::from_secs(chance.between(5, 40));
    let fault = if chance.once_in(2) {
        InjectedFault::StatusForbidden(scene.replica, long)
    } else {
        InjectedFault::Failing(scene.replica, 100, long / 6)
    };
    let changed = chance.between(1, 2000);
    vec![scene.fault(0, fault), scene.step(changed, change(chance, scene.registry))]
}

/// A user replaces a pull Secret by one of the same name.
fn taken_name(chance: &mut Chance, scene: Scene) -> Vec<TimedEvent> {
    let Scene { registry, .. } = scene;
    let namespace = usize::try_from(chance.below(NAMESPACES.len() as u64)).unwrap_or_default();
    vec![
        scene.step(0, UserStep::PullSecret(registry, true)),
        scene.step(2000, UserStep::DeletePullSecrets(registry)),
        scene.step(2000, UserStep::ForeignSecret(registry, namespace)),
    ]
}

/// The answers of the API server take long, and then there are none, while users change things.
fn slow_then_failing(chance: &mut Chance, scene: Scene) -> Vec<TimedEvent> {
    let Scene { registry, replica, .. } = scene;
    let slow = Duration::from_millis(chance.between(4000, 9000));
    let slowest = Duration::from_millis(chance.between(500, 1450));
    let mut events = vec![scene.fault(0, InjectedFault::Slow(replica, slowest, slow))];
    let fails = u64::try_from(slow.as_millis()).unwrap_or_default();
    events.push(scene.fault(fails, InjectedFault::Failing(replica, 100, Duration::from_secs(14))));
    let changes = (0..16).map(|number| fails + number * 800);
    events.extend(changes.map(|at| scene.step(at, UserStep::Request(registry))));
    events
}

/// The clock is set back, and what a registry accepts changes.
fn clock_set_back(chance: &mut Chance, scene: Scene) -> Vec<TimedEvent> {
    let Scene { registry, .. } = scene;
    let back = i64::try_from(chance.between(60, 7200)).unwrap_or_default();
    vec![
        scene.fault(0, InjectedFault::Jump(-back)),
        scene.step(chance.between(10, 5000), UserStep::Accept(REGISTRIES[registry].host, 2)),
    ]
}

/// A change of a registry, or of what it depends on.
fn change(chance: &mut Chance, registry: usize) -> UserStep {
    let host = usize::try_from(chance.below(4)).unwrap_or_default();
    match chance.below(8) {
        0..2 => UserStep::Recreate(registry, host),
        2 => UserStep::Move(registry, host),
        3..5 => UserStep::WriteSecret(registry, if chance.once_in(2) { 1 } else { 2 }),
        5 => UserStep::DeleteSecret(registry),
        6 => UserStep::UseSecret(registry, false),
        _ => UserStep::OverwriteStatus(registry),
    }
}

impl Scene {
    fn step(self, after: u64, step: UserStep) -> TimedEvent {
        self.event(after, HistoryEvent::Step(step))
    }

    fn fault(self, after: u64, fault: InjectedFault) -> TimedEvent {
        self.event(after, HistoryEvent::Fault(fault))
    }

    fn event(self, after: u64, event: HistoryEvent) -> TimedEvent {
        TimedEvent { at: Duration::from_millis((self.begin + after).min(self.end - 1)), event }
    }
}
