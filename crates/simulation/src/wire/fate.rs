//! What happens to a request on its way. Pure.

use std::time::Duration;

use crate::chance::Chance;

/// What goes wrong on the connections of one process.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LinkFaults {
    /// Of a hundred requests, so many fail.
    pub failing: u64,
    /// Requests wait, and so do answers.
    pub frozen: bool,
    /// Writes to `/status` are refused with 403.
    pub status_forbidden: bool,
    /// What is sent on watches doesn't arrive.
    pub blackholed: bool,
    /// A message takes up to this long.
    pub slow: Option<Duration>,
    /// So many of the next writes are applied, and their answers lost.
    pub lost_replies: u64,
    /// So many of the next writes arrive this late.
    pub late_writes: Option<(u64, Duration)>,
    /// The process is killed at a write.
    pub kill_at: Option<KillPoint>,
}

/// When a process is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KillPoint {
    /// The number of the write, from 1.
    pub write: u64,
    /// After the write was applied, and not before.
    pub after: bool,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It arrives, and so does its answer.
    Arrive,
    /// It arrives late.
    Late(Duration),
    /// It is refused with this status before it has an effect.
    Refused(u16),
    /// The connection is reset before it arrives.
    Reset,
    /// It arrives, and the connection is reset before the answer.
    ReplyLost,
    /// It arrives, and the answer never comes.
    Unanswered,
    /// The process is killed, before it arrives or after.
    Kill {
        /// It arrives.
        after: bool,
    },
}

impl LinkFaults {
    /// Decides what happens to a request.
    pub fn fate(&mut self, is_write: bool, is_status: bool, chance: &mut Chance) -> Fate {
        if is_write && is_status && self.status_forbidden {
            return Fate::Refused(403);
        }
        if is_write && self.lost_replies > 0 {
            self.lost_replies -= 1;
            return if chance.once_in(2) { Fate::ReplyLost } else { Fate::Unanswered };
        }
        if is_write && let Some((writes, late)) = self.late_writes.filter(|(writes, _)| *writes > 0) {
            self.late_writes = Some((writes - 1, late));
            return Fate::Late(late);
        }
        if chance.below(100) < self.failing {
            return failure(is_write, chance);
        }
        Fate::Arrive
    }

    /// Returns whether anything goes wrong.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

fn failure(is_write: bool, chance: &mut Chance) -> Fate {
    match chance.below(if is_write { 6 } else { 4 }) {
        0 => Fate::Refused(500),
        1 => Fate::Refused(429),
        2 => Fate::Refused(503),
        3 => Fate::Reset,
        4 => Fate::ReplyLost,
        _ => Fate::Refused(409),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(faults: &mut LinkFaults, is_write: bool, is_status: bool) -> Vec<Fate> {
        let mut chance = Chance::new(1);
        (0..100).map(|_| faults.fate(is_write, is_status, &mut chance)).collect()
    }

    #[test]
    fn without_faults_everything_arrives() {
        let arrive = |fate: &Fate| *fate == Fate::Arrive;
        assert!(fates(&mut LinkFaults::default(), true, true).iter().all(arrive));
    }

    #[test]
    fn loses_as_many_replies_as_asked_for() {
        let mut faults = LinkFaults { lost_replies: 2, ..LinkFaults::default() };
        assert!(faults.any());
        assert!(fates(&mut faults, false, false).iter().all(|fate| *fate == Fate::Arrive), "reads");
        let lost = fates(&mut faults, true, false).into_iter().filter(|fate| *fate != Fate::Arrive);
        assert_eq!(lost.count(), 2);
        assert!(!faults.any());
    }

    #[test]
    fn a_third_fails_in_every_way() {
        let seen = fates(&mut LinkFaults { failing: 30, ..LinkFaults::default() }, true, false);
        let count = |fate| seen.iter().filter(|seen| **seen == fate).count();
        assert!((50..90).contains(&count(Fate::Arrive)));
        for fate in [429, 500, 409].map(Fate::Refused).into_iter().chain([Fate::Reset, Fate::ReplyLost]) {
            assert!(count(fate) > 0, "{fate:?}");
        }
    }

    #[test]
    fn forbids_only_writes_of_the_status() {
        let mut faults = LinkFaults { status_forbidden: true, ..LinkFaults::default() };
        assert_eq!(fates(&mut faults, true, true)[0], Fate::Refused(403));
        assert_eq!(fates(&mut faults, true, false)[0], Fate::Arrive);
        assert_eq!(fates(&mut faults, false, true)[0], Fate::Arrive);
    }
}
