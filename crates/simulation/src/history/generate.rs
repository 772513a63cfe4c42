//! Histories by seed. The shorter the seed's history, the easier to read: most have a few steps and a few faults.

use std::time::Duration;

use super::{HistoryEvent, InjectedFault, SimulatedHistory, TimedEvent, UserStep, coincidence::coincidence};
use crate::{
    cast::{HOSTS, NAMESPACES, REGISTRIES},
    chance::Chance,
    registries::behaviour::{ServerCondition, SignInMethod},
    wire::fate::{KillPoint, NextWrites, WriteKind},
};

/// How long events happen, at most.
const LONGEST: u64 = 90;
/// The calm of most histories, and that of one in [`LONG_ONES`].
const CALM: Duration = Duration::from_mins(4);
const LONG_CALM: Duration = Duration::from_mins(75);
const LONG_ONES: u64 = 256;
/// One history in so many has a coincidence.
const COINCIDENCES: u64 = 3;

/// Returns the history of a seed.
pub fn history(seed: u64) -> SimulatedHistory {
    let mut chance = Chance::new(seed);
    let active = chance.between(10, LONGEST);
    let replicas = if chance.once_in(3) { 2 } else { 1 };
    let mut events = beginning(&mut chance);
    for _ in 0..chance.between(2, 12) {
        let event = HistoryEvent::Step(step(&mut chance));
        events.push(TimedEvent { at: moment(&mut chance, active), event });
    }
    for _ in 0..chance.between(0, 4) {
        let event = HistoryEvent::Fault(fault(&mut chance, replicas));
        events.push(TimedEvent { at: moment(&mut chance, active), event });
    }
    if chance.once_in(COINCIDENCES) {
        events.extend(coincidence(&mut chance, replicas, active));
    }
    events.sort_by_key(|event| event.at);
    let calm = if chance.once_in(LONG_ONES) { LONG_CALM } else { CALM };
    let asks = chance.once_in(2);
    SimulatedHistory { seed, replicas, events, active: Duration::from_secs(active), calm, asks }
}

fn moment(chance: &mut Chance, active: u64) -> Duration {
    Duration::from_millis(chance.below(active * 1000))
}

/// Some registries that exist from the start, most with the right password.
fn beginning(chance: &mut Chance) -> Vec<TimedEvent> {
    let at = Duration::ZERO;
    let mut events = Vec::new();
    for number in 0..REGISTRIES.len() {
        if !chance.once_in(3) {
            let password = if chance.once_in(4) { 2 } else { 1 };
            let steps =
                [UserStep::WriteSecret(number, password), UserStep::Create(number, chance.once_in(2))];
            events.extend(steps.map(|step| TimedEvent { at, event: HistoryEvent::Step(step) }));
        }
    }
    events
}

fn step(chance: &mut Chance) -> UserStep {
    let registry = index(chance, REGISTRIES.len());
    let (host, namespace) = (index(chance, HOSTS.len()), index(chance, NAMESPACES.len()));
    let (yes, password) = (chance.once_in(2), if chance.once_in(3) { 2 } else { 1 });
    match chance.below(47) {
        0..5 => UserStep::Create(registry, yes),
        5..8 => UserStep::Delete(registry),
        8..11 => UserStep::Recreate(registry, host),
        11..13 => UserStep::Move(registry, host),
        13 => UserStep::UseSecret(registry, yes),
        14..16 => UserStep::PullSecret(registry, yes),
        16..18 => UserStep::Suspend(registry, yes),
        18..20 => UserStep::Request(registry),
        20..24 => UserStep::WriteSecret(registry, password),
        24 => UserStep::SpoilSecret(registry),
        25 => UserStep::TouchSecret(registry),
        26 => UserStep::DeleteSecret(registry),
        27 => UserStep::DeletePullSecrets(registry),
        28..31 => UserStep::Answer(host, condition(chance)),
        31..33 => UserStep::Accept(host, password),
        33..35 => UserStep::SignIn(host, sign_in(chance)),
        35 => UserStep::Label(namespace, yes),
        36 => UserStep::DeleteNamespace(namespace),
        37..39 => UserStep::CreateNamespace(namespace),
        39 => UserStep::Compact,
        40 => UserStep::Relabel(namespace, host),
        41..43 => UserStep::OverwriteStatus(registry),
        43..45 => UserStep::OverwritePullSecret(registry, namespace),
        45 => UserStep::ForeignSecret(registry, namespace),
        _ => UserStep::Restore(Duration::from_secs(chance.between(1, 30))),
    }
}

fn fault(chance: &mut Chance, replicas: usize) -> InjectedFault {
    let replica = index(chance, replicas);
    let long = |chance: &mut Chance, most: u64| Duration::from_millis(chance.between(100, most * 1000));
    match chance.below(26) {
        0..4 => InjectedFault::Failing(replica, chance.between(10, 60), long(chance, 40)),
        4..6 => InjectedFault::Frozen(replica, long(chance, 40)),
        6 => InjectedFault::StatusForbidden(replica, long(chance, 30)),
        7..9 => InjectedFault::CutWatches(replica),
        9 => InjectedFault::Blackholed(replica, long(chance, 30)),
        10..12 => InjectedFault::Slow(replica, long(chance, 2), long(chance, 30)),
        12..15 => InjectedFault::LostReplies(replica, next_writes(chance)),
        15..17 => InjectedFault::LateWrites(replica, next_writes(chance), long(chance, 15)),
        17..19 => InjectedFault::Kill(replica, long(chance, 10)),
        19..22 => {
            let NextWrites { kind, count } = next_writes(chance);
            let point = KillPoint { kind, write: count, after: chance.once_in(2) };
            InjectedFault::KillAt(replica, point, long(chance, 5))
        }
        22 => InjectedFault::Stop(replica, long(chance, 10)),
        23 => {
            let seconds = i64::try_from(chance.between(1, 7200)).unwrap_or_default();
            InjectedFault::Jump(if chance.once_in(2) { seconds } else { -seconds })
        }
        _ => InjectedFault::Stale(replica, long(chance, 30)),
    }
}

fn next_writes(chance: &mut Chance) -> NextWrites {
    let kind = match chance.below(6) {
        0..3 => WriteKind::Any,
        3 => WriteKind::Finalizer,
        4 => WriteKind::PullSecret,
        _ => WriteKind::Status,
    };
    let most = if kind == WriteKind::Any { 8 } else { 3 };
    NextWrites { kind, count: chance.between(1, most) }
}

fn condition(chance: &mut Chance) -> ServerCondition {
    match chance.below(11) {
        0 => ServerCondition::Status(503, None),
        1 => ServerCondition::Status(503, Some(chance.between(1, 30))),
        2 => ServerCondition::Status(429, None),
        3 => ServerCondition::Slow(Duration::from_millis(chance.between(100, 8000))),
        4 => ServerCondition::Silent,
        5 => ServerCondition::Reset,
        6 => ServerCondition::Refusing,
        7 => ServerCondition::Unnamed,
        8 => ServerCondition::Status(429, Some(chance.between(5, 60))),
        9 => ServerCondition::Redirected(index(chance, HOSTS.len())),
        _ => ServerCondition::Up,
    }
}

fn sign_in(chance: &mut Chance) -> SignInMethod {
    match chance.below(4) {
        0 => SignInMethod::Anonymous,
        1 => SignInMethod::Token,
        2 => SignInMethod::TokenElsewhere,
        _ => SignInMethod::Basic,
    }
}

fn index(chance: &mut Chance, count: usize) -> usize {
    usize::try_from(chance.below(count as u64)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_history() {
        assert_eq!(history(7), history(7));
        assert_ne!(history(7), history(8));
    }

    #[test]
    fn events_are_in_order_and_in_time() {
        for seed in 0..200 {
            let SimulatedHistory { events, active, .. } = history(seed);
            assert!(events.is_sorted_by_key(|event| event.at));
            assert!(events.iter().all(|event| event.at < active));
        }
    }
}
