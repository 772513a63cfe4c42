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
    /// The next writes of a kind that are applied, and their answers lost.
    pub lost_replies: Option<NextWrites>,
    /// The next writes of a kind that arrive this late.
    pub late_writes: Option<(NextWrites, Duration)>,
    /// The process is killed at a write.
    pub kill_at: Option<KillPoint>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestPurpose {
    /// It changes nothing.
    Read,
    /// It changes nothing of what users see: the Lease, a review, or a dry run.
    Upkeep,
    /// It writes.
    Write(WriteKind),
}

impl RequestPurpose {
    /// Returns the purpose of a request.
    pub fn of(method: &str, path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let is_upkeep = path.contains("/leases") || path.contains("reviews") || query.contains("dryRun");
        match method {
            "GET" => Self::Read,
            _ if is_upkeep => Self::Upkeep,
            _ if path.ends_with("/status") => Self::Write(WriteKind::Status),
            _ if query.contains("registry-operator-finalizer") => Self::Write(WriteKind::Finalizer),
            "POST" if path.ends_with("/secrets") => Self::Write(WriteKind::PullSecret),
            _ => Self::Write(WriteKind::Any),
        }
    }

    fn is(self, kind: WriteKind) -> bool {
        matches!(self, Self::Write(its) if kind == WriteKind::Any || kind == its)
    }
}

/// A kind of write that a fault is about. None counts the Lease, reviews and dry runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WriteKind {
    /// All of them.
    Any,
    /// Of a status.
    Status,
    /// Of a finalizer.
    Finalizer,
    /// The creation of a pull Secret.
    PullSecret,
}

/// So many of the next writes of a kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NextWrites {
    /// The kind.
    pub kind: WriteKind,
    /// How many are left.
    pub count: u64,
}

impl NextWrites {
    /// Counts a request if it is one of them. Returns what is left then.
    fn take(self, purpose: RequestPurpose) -> Option<Self> {
        let left = Self { count: self.count.saturating_sub(1), ..self };
        (self.count > 0 && purpose.is(self.kind)).then_some(left)
    }

    fn any_left(self) -> bool {
        self.count > 0
    }
}

/// When a process is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KillPoint {
    /// The kind of write.
    pub kind: WriteKind,
    /// The number of the write of that kind, from 1.
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
    pub fn fate(&mut self, purpose: RequestPurpose, chance: &mut Chance) -> Fate {
        if let Some(fate) = self.kill(purpose) {
            return fate;
        }
        if self.status_forbidden && purpose.is(WriteKind::Status) {
            return Fate::Refused(403);
        }
        if let Some(left) = self.lost_replies.and_then(|writes| writes.take(purpose)) {
            self.lost_replies = Some(left).filter(|left| left.any_left());
            return if chance.once_in(2) { Fate::ReplyLost } else { Fate::Unanswered };
        }
        if let Some((writes, late)) = self.late_writes
            && let Some(left) = writes.take(purpose)
        {
            self.late_writes = Some((left, late)).filter(|(left, _)| left.any_left());
            return Fate::Late(late);
        }
        if chance.below(100) < self.failing {
            return failure(purpose != RequestPurpose::Read, chance);
        }
        Fate::Arrive
    }

    /// Counts a write towards the one at which the process is killed.
    fn kill(&mut self, purpose: RequestPurpose) -> Option<Fate> {
        let point = self.kill_at.filter(|point| purpose.is(point.kind))?;
        let left = point.write.saturating_sub(1);
        self.kill_at = (left > 0).then_some(KillPoint { write: left, ..point });
        (left == 0).then_some(Fate::Kill { after: point.after })
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

    const STATUS: RequestPurpose = RequestPurpose::Write(WriteKind::Status);
    const SECRET: RequestPurpose = RequestPurpose::Write(WriteKind::PullSecret);

    fn fates(faults: &mut LinkFaults, purpose: RequestPurpose) -> Vec<Fate> {
        let mut chance = Chance::new(1);
        (0..100).map(|_| faults.fate(purpose, &mut chance)).collect()
    }

    #[test]
    fn knows_what_a_request_is_for() {
        let of = RequestPurpose::of;
        assert_eq!(of("GET", "/api/v1/secrets"), RequestPurpose::Read);
        assert_eq!(of("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"), RequestPurpose::Upkeep);
        assert_eq!(of("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"), RequestPurpose::Upkeep);
        assert_eq!(of("POST", "/apis/x/systemregistries?dryRun=All"), RequestPurpose::Upkeep);
        assert_eq!(of("PATCH", "/apis/x/systemregistries/a/status?force=true"), STATUS);
        let finalizer = of("PATCH", "/apis/x/a?fieldManager=registry-operator-finalizer");
        assert_eq!(finalizer, RequestPurpose::Write(WriteKind::Finalizer));
        assert_eq!(of("POST", "/api/v1/namespaces/a/secrets?fieldManager=x"), SECRET);
        assert_eq!(of("PATCH", "/api/v1/namespaces/a/secrets/b"), RequestPurpose::Write(WriteKind::Any));
    }

    #[test]
    fn without_faults_everything_arrives() {
        let arrive = |fate: &Fate| *fate == Fate::Arrive;
        assert!(fates(&mut LinkFaults::default(), STATUS).iter().all(arrive));
    }

    #[test]
    fn loses_as_many_replies_as_asked_for() {
        let two = NextWrites { kind: WriteKind::Status, count: 2 };
        let mut faults = LinkFaults { lost_replies: Some(two), ..LinkFaults::default() };
        assert!(faults.any());
        for other in [RequestPurpose::Read, RequestPurpose::Upkeep, SECRET] {
            assert!(fates(&mut faults, other).iter().all(|fate| *fate == Fate::Arrive), "{other:?}");
        }
        let lost = fates(&mut faults, STATUS).into_iter().filter(|fate| *fate != Fate::Arrive);
        assert_eq!(lost.count(), 2);
        assert!(!faults.any());
    }

    #[test]
    fn kills_at_the_write_that_is_named() {
        let point = KillPoint { kind: WriteKind::PullSecret, write: 2, after: true };
        let mut faults = LinkFaults { kill_at: Some(point), ..LinkFaults::default() };
        let mut chance = Chance::new(1);
        let fates = [STATUS, SECRET, RequestPurpose::Upkeep, SECRET, SECRET]
            .map(|purpose| faults.fate(purpose, &mut chance));
        let killed = Fate::Kill { after: true };
        assert_eq!(fates, [Fate::Arrive, Fate::Arrive, Fate::Arrive, killed, Fate::Arrive]);
    }

    #[test]
    fn a_third_fails_in_every_way() {
        let seen = fates(&mut LinkFaults { failing: 30, ..LinkFaults::default() }, STATUS);
        let count = |fate| seen.iter().filter(|seen| **seen == fate).count();
        assert!((50..90).contains(&count(Fate::Arrive)));
        for fate in [429, 500, 409].map(Fate::Refused).into_iter().chain([Fate::Reset, Fate::ReplyLost]) {
            assert!(count(fate) > 0, "{fate:?}");
        }
    }

    #[test]
    fn forbids_only_writes_of_the_status() {
        let mut faults = LinkFaults { status_forbidden: true, ..LinkFaults::default() };
        assert_eq!(fates(&mut faults, STATUS)[0], Fate::Refused(403));
        assert_eq!(fates(&mut faults, SECRET)[0], Fate::Arrive);
        assert_eq!(fates(&mut faults, RequestPurpose::Read)[0], Fate::Arrive);
    }
}
