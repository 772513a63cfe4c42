//! When the same credentials may be sent to the same host again. Pure: `now` is an argument, and nothing waits here.
//!
//! All objects of a group (a tenant, or the system scope) share it. Rejected credentials pause for 1, 2, 4 … 60 minutes,
//! whichever object asks. Credentials of which nothing is known are tried once at a time until their first verdict; those
//! that were accepted a moment ago are not held up. A host rejects at most [`MOST_AT_A_HOST`] tries of a group a minute,
//! and at most [`MOST_OF_THE_SAME`] of the same credentials.
//!
//! Bounded: a group has at most [`MOST_REJECTED`] rejected credentials. Further ones wait rather than push any out, or
//! filling the table would end the pause of a password.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

use crate::{
    backoff::Backoff,
    ecr::{Api, KeyRefusal},
    object::Group,
};

/// A keyed digest of a group, a host and credentials.
pub type Digest = [u8; 16];

/// Tries of one group that a host may reject within a [`WINDOW`].
pub const MOST_AT_A_HOST: usize = 10;
/// Those of the same credentials among them.
pub const MOST_OF_THE_SAME: usize = 3;
/// Rejected credentials that are remembered for a group.
pub const MOST_REJECTED: usize = 256;
/// How long rejected credentials pause.
const REJECTED: Backoff = Backoff::REJECTED_CREDENTIALS;
/// The time within which tries are counted.
pub const WINDOW: Duration = Duration::from_mins(1);
/// After its pause a rejection is remembered for as long again, and at least this long: the next one doubles the pause.
const REMEMBERED: Duration = Duration::from_mins(10);
/// After a restart, a rejection is remembered if it is younger than this.
const RESUMED: Duration = Duration::from_hours(24);
/// Credentials that were accepted this short a time ago are good.
const FRESH: Duration = Duration::from_secs(10);
/// A first try without a verdict for this long lets another begin.
const HANGING: Duration = Duration::from_secs(5);

/// What a host said of credentials that it refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HostRefusal {
    /// 401.
    Rejected,
    /// 403 from a token service, to the account as such.
    Forbidden,
    /// They have ended.
    Expired,
    /// That API of AWS refused the access keys.
    Aws(Api, KeyRefusal),
}

/// What came of a try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialAnswer {
    /// The host refused the credentials.
    Refused(HostRefusal),
    /// It took them, or refused something else.
    Accepted,
    /// They were sent, and no answer came in time: the host may count that as a failure.
    NoAnswer,
    /// Nothing was said of them.
    Nothing,
}

/// A wish to send credentials to a host.
#[derive(Clone, Debug)]
pub struct CredentialUse {
    /// Whose they are.
    pub group: Group,
    /// The host that gets them.
    pub host: Arc<str>,
    /// Which credentials, in that group and at that host.
    pub digest: Digest,
    /// Somebody asked for a validation now.
    pub requested: bool,
}

/// A try that was begun; to be settled.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TryId(u64);

/// What is to be done about a [`CredentialUse`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Send them, and settle the try.
    Send(TryId),
    /// They were refused, and their pause has so long to go.
    Paused(HostRefusal, Duration),
    /// They were refused, and were tried too often within the last minute; their turn comes after this time.
    TriedTooOften(HostRefusal, Duration),
    /// The host refused too many credentials within the last minute; the next turn is after this time.
    TooManyRejected(Duration),
    /// Too many rejected credentials are remembered; ask again after this time.
    Full(Duration),
    /// A try under way will tell: ask again when it is settled, or in a second.
    Wait,
}

/// The rejections of all groups.
#[derive(Debug, Default)]
pub struct Table {
    groups: HashMap<Group, GroupTable>,
    /// What was known before the restart, until somebody asks for it.
    resumed: HashMap<Digest, Stored>,
    next_try: u64,
    swept: Option<Timestamp>,
    revision: u64,
}

/// What is stored of a rejection: nothing that changes with each further one, so that nothing is written again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stored {
    /// What was said.
    pub refusal: HostRefusal,
    /// When it was said first.
    pub since: Timestamp,
}

/// That credentials were refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Rejection {
    stored: Stored,
    /// How often in a row.
    times: u32,
    /// The end of the pause.
    until: Timestamp,
}

#[derive(Debug, Default)]
struct GroupTable {
    credentials: HashMap<Digest, CredentialRecord>,
    /// The tries of the last [`WINDOW`] at each host.
    tries: HashMap<Arc<str>, Vec<Try>>,
}

/// What is known of credentials.
#[derive(Clone, Copy, Debug)]
enum CredentialRecord {
    Refused(Rejection, Timestamp),
    Accepted(Timestamp),
}

#[derive(Clone, Copy, Debug)]
struct Try {
    id: TryId,
    digest: Digest,
    /// When it began, or was refused.
    at: Timestamp,
    state: RecordState,
    requested: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RecordState {
    Open,
    Refused,
    NoAnswer,
}

impl Table {
    /// What was known before a restart.
    pub fn resume(&mut self, rejections: impl IntoIterator<Item = (Digest, Stored)>) {
        self.resumed.extend(rejections);
    }

    /// All rejections that are remembered.
    pub fn rejections(&self, now: Timestamp) -> Vec<(Digest, Stored)> {
        let known = self.groups.values().flat_map(|group| &group.credentials);
        let refused = known.filter_map(|(digest, known)| match known {
            CredentialRecord::Refused(rejection, _) if rejection.is_remembered(now) => {
                Some((*digest, rejection.stored))
            }
            CredentialRecord::Refused(..) | CredentialRecord::Accepted(_) => None,
        });
        let resumed = self.resumed.iter().filter(|(_, stored)| stored.is_recent(now));
        refused.chain(resumed.map(|(digest, stored)| (*digest, *stored))).collect()
    }

    /// A number that changes with every change of [`Self::rejections`], save that one ends by itself.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Decides about a wish.
    pub fn decide(&mut self, wish: &CredentialUse, now: Timestamp) -> Decision {
        self.sweep(now);
        let group = self.groups.entry(wish.group.clone()).or_default();
        let resumed = self.resumed.remove(&wish.digest).filter(|stored| stored.is_recent(now));
        if let Some(stored) = resumed {
            group
                .credentials
                .insert(wish.digest, CredentialRecord::Refused(stored.resumed(now), Timestamp::MIN));
        }
        let tries = group.tries.entry(wish.host.clone()).or_default();
        tries.retain(|tried| tried.counts(now));
        let blocked = match group.credentials.get(&wish.digest).filter(|known| known.holds(now)) {
            Some(CredentialRecord::Refused(rejection, _)) => refused_before(rejection, wish, tries, now),
            Some(CredentialRecord::Accepted(_)) => crowded(tries, now),
            None => unknown(wish, tries, now).or_else(|| group.full(now)),
        };
        if let Some(decision) = blocked {
            return decision;
        }
        let id = TryId(self.next_try);
        self.next_try += 1;
        let tried =
            Try { id, digest: wish.digest, at: now, state: RecordState::Open, requested: wish.requested };
        self.groups
            .entry(wish.group.clone())
            .or_default()
            .tries
            .entry(wish.host.clone())
            .or_default()
            .push(tried);
        Decision::Send(id)
    }

    /// Notes what came of a try. Returns how long the credentials pause, if they were refused.
    pub fn conclude(
        &mut self,
        wish: &CredentialUse,
        id: TryId,
        verdict: CredentialAnswer,
        now: Timestamp,
    ) -> Option<Duration> {
        let group = self.groups.entry(wish.group.clone()).or_default();
        let tries = group.tries.entry(wish.host.clone()).or_default();
        let tried = tries.iter().position(|tried| tried.id == id).map(|index| tries.swap_remove(index));
        // A try that took longer than the window is in it again by what it came to.
        let tried = tried.unwrap_or(Try {
            id,
            digest: wish.digest,
            at: Timestamp::MIN,
            state: RecordState::Open,
            requested: wish.requested,
        });
        match verdict {
            CredentialAnswer::Refused(refusal) => {
                tries.push(Try { at: now, state: RecordState::Refused, ..tried });
                let (pause, is_first) = group.refuse(&tried, refusal, now);
                self.revision += u64::from(is_first);
                Some(pause)
            }
            CredentialAnswer::NoAnswer => {
                tries.push(Try { at: now, state: RecordState::NoAnswer, ..tried });
                None
            }
            CredentialAnswer::Accepted => {
                // Nothing that was sent in vain before was a wrong password.
                tries.retain(|other| other.digest != wish.digest || other.state == RecordState::Open);
                let before = group.credentials.insert(wish.digest, CredentialRecord::Accepted(now));
                self.revision += u64::from(matches!(before, Some(CredentialRecord::Refused(..))));
                None
            }
            CredentialAnswer::Nothing => None,
        }
    }

    /// Forgets what is over, once a [`WINDOW`].
    fn sweep(&mut self, now: Timestamp) {
        if self.swept.is_some_and(|swept| now >= swept && now < after(swept, WINDOW)) {
            return;
        }
        self.swept = Some(now);
        self.resumed.retain(|_, stored| stored.is_recent(now));
        for group in self.groups.values_mut() {
            group.credentials.retain(|_, known| known.holds(now));
            group.tries.retain(|_, tries| {
                tries.retain(|tried| tried.counts(now));
                !tries.is_empty()
            });
        }
        self.groups.retain(|_, group| !group.credentials.is_empty() || !group.tries.is_empty());
    }
}

impl GroupTable {
    /// Notes a refusal; returns the pause, and whether it is the first in a row.
    fn refuse(&mut self, tried: &Try, refusal: HostRefusal, now: Timestamp) -> (Duration, bool) {
        let entry = self.credentials.entry(tried.digest);
        let before = match &entry {
            hash_map::Entry::Occupied(entry) => match entry.get() {
                CredentialRecord::Refused(rejection, at) if rejection.is_remembered(now) => {
                    Some((*rejection, *at))
                }
                CredentialRecord::Refused(..) | CredentialRecord::Accepted(_) => None,
            },
            hash_map::Entry::Vacant(_) => None,
        };
        let times = match before {
            // Tries that were under way together are one step.
            Some((rejection, at)) if at > tried.at && !tried.requested => rejection.times,
            Some((rejection, _)) => rejection.times.saturating_add(1),
            None => 1,
        };
        let pause = REJECTED.after(times);
        let stored = before.map_or(Stored { refusal, since: now }, |(rejection, _)| rejection.stored);
        let rejection = Rejection { stored: Stored { refusal, ..stored }, times, until: after(now, pause) };
        entry.insert_entry(CredentialRecord::Refused(rejection, now));
        (pause, before.is_none())
    }

    /// Whether there is no room for further credentials, which may be wrong.
    fn full(&self, now: Timestamp) -> Option<Decision> {
        let refused = || {
            self.credentials.values().filter_map(|known| match known {
                CredentialRecord::Refused(rejection, _) if rejection.is_remembered(now) => Some(rejection),
                CredentialRecord::Refused(..) | CredentialRecord::Accepted(_) => None,
            })
        };
        // Tries under way may all be refused.
        let open = self.tries.values().flatten().filter(|tried| tried.state == RecordState::Open).count();
        if refused().count() + open < MOST_REJECTED {
            return None;
        }
        let first = refused().map(Rejection::forgotten_at).min().unwrap_or(now);
        Some(Decision::Full(until(first, now).clamp(Duration::from_secs(1), REMEMBERED)))
    }
}

impl Try {
    /// Whether it is within the window. One from the future is too, unless the clock was set back by more than that.
    fn counts(&self, now: Timestamp) -> bool {
        now < after(self.at, WINDOW) && self.at < after(now, WINDOW)
    }
}

impl Stored {
    /// Whether it is worth resuming. Credentials that were rejected long ago may be tried once; they pause from then on.
    fn is_recent(&self, now: Timestamp) -> bool {
        now < after(self.since, RESUMED)
    }

    /// How often they were rejected if each try came when it was due, and the pause after the newest: never shorter than it
    /// was.
    fn resumed(self, now: Timestamp) -> Rejection {
        let elapsed = until(now, self.since);
        let (mut times, mut newest) = (1, Duration::ZERO);
        loop {
            let next = newest + REJECTED.after(times);
            if next > elapsed {
                // The newest may have come later, as each wait before it may be a tenth longer.
                let left = next.saturating_sub(elapsed) + newest.mul_f64(0.1);
                return Rejection { stored: self, times, until: after(now, left.min(REJECTED.longest())) };
            }
            (times, newest) = (times.saturating_add(1), next);
        }
    }
}

impl Rejection {
    fn forgotten_at(&self) -> Timestamp {
        after(self.until, REJECTED.after(self.times).max(REMEMBERED))
    }

    fn is_remembered(&self, now: Timestamp) -> bool {
        now < self.forgotten_at()
    }
}

impl CredentialRecord {
    /// Whether it is still of use.
    fn holds(&self, now: Timestamp) -> bool {
        match self {
            Self::Refused(rejection, _) => rejection.is_remembered(now),
            Self::Accepted(at) => now < after(*at, FRESH),
        }
    }
}

/// What stands in the way of credentials that were refused before.
fn refused_before(
    rejection: &Rejection,
    wish: &CredentialUse,
    tries: &[Try],
    now: Timestamp,
) -> Option<Decision> {
    let left = until(rejection.until, now).min(REJECTED.longest());
    if !wish.requested && !left.is_zero() {
        return Some(Decision::Paused(rejection.stored.refusal, left));
    }
    let same = || tries.iter().filter(|tried| tried.digest == wish.digest);
    if same().any(|tried| tried.state == RecordState::Open) {
        return Some(Decision::Wait);
    }
    let too_often = |wait| Decision::TriedTooOften(rejection.stored.refusal, wait);
    if same().count() >= MOST_OF_THE_SAME {
        return Some(too_often(next_turn(same(), now)));
    }
    match crowded(tries, now) {
        Some(Decision::TooManyRejected(wait)) => Some(too_often(wait)),
        other => other,
    }
}

/// What stands in the way of credentials of which nothing is known.
fn unknown(wish: &CredentialUse, tries: &[Try], now: Timestamp) -> Option<Decision> {
    let open =
        || tries.iter().filter(|tried| tried.digest == wish.digest && tried.state == RecordState::Open);
    let newest = open().map(|tried| tried.at).max();
    let hangs = newest.is_none_or(|at| now >= after(at, HANGING));
    if !hangs || open().count() >= MOST_OF_THE_SAME {
        return Some(Decision::Wait);
    }
    crowded(tries, now)
}

/// Whether a host has as many tries as it may reject within the window.
fn crowded(tries: &[Try], now: Timestamp) -> Option<Decision> {
    if tries.len() < MOST_AT_A_HOST {
        return None;
    }
    if tries.iter().any(|tried| tried.state == RecordState::Open) {
        return Some(Decision::Wait);
    }
    Some(Decision::TooManyRejected(next_turn(tries.iter(), now)))
}

/// When the first of those tries leaves the window.
fn next_turn<'a>(tries: impl Iterator<Item = &'a Try>, now: Timestamp) -> Duration {
    tries.map(|tried| until(after(tried.at, WINDOW), now)).min().unwrap_or_default()
}

fn until(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or_default()
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
