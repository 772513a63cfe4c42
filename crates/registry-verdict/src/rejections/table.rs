//! Decides when credentials may be sent to a host again. Pure: `now` is an argument, and nothing waits here.
//!
//! All objects of a group (a tenant, or the system scope) share it. Rejected credentials wait for
//! [`Backoff::REJECTED_CREDENTIALS`], whichever object uses them. Unknown credentials are tried by one validation at a time until the first result.
//! Credentials that were accepted a moment ago don't wait. A host may reject at most [`MOST_AT_A_HOST`] attempts of a
//! group a minute, and at most [`MOST_OF_THE_SAME`] with the same credentials.
//!
//! A group has at most [`MOST_REJECTED`] rejected credentials. Further ones wait and don't replace others. Otherwise,
//! filling the table would end the delay of a password.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

use registry_probe::Backoff;

use crate::{
    ecr::{Api, KeyRefusal},
    object::Group,
};

/// A keyed digest of a group, a host and credentials.
pub type Digest = [u8; 16];

/// The number of attempts of one group that a host may reject within a [`WINDOW`].
pub const MOST_AT_A_HOST: usize = 10;
/// The number of these with the same credentials.
pub const MOST_OF_THE_SAME: usize = 3;
/// The number of rejected credentials that are remembered per group.
pub const MOST_REJECTED: usize = 256;
/// The delay after rejected credentials.
const REJECTED: Backoff = Backoff::REJECTED_CREDENTIALS;
/// The time within which attempts are counted.
pub const WINDOW: Duration = Duration::from_mins(1);
/// After its delay, a rejection is remembered for as long again, and at least for this time. Another rejection in that
/// time doubles the delay.
const REMEMBERED: Duration = Duration::from_mins(10);
/// After a restart, older rejections than this are forgotten.
const RESUMED: Duration = Duration::from_hours(24);
/// Credentials that were accepted within this time don't wait.
const FRESH: Duration = Duration::from_secs(10);
/// If the first attempt has no result after this time, another may start.
const HANGING: Duration = Duration::from_secs(5);

/// How a host refused credentials.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HostRefusal {
    /// 401.
    Rejected,
    /// 403 from a token service, about the account itself.
    Forbidden,
    /// The credentials have expired.
    Expired,
    /// That API of AWS refused the access keys.
    Aws(Api, KeyRefusal),
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CredentialAnswer {
    /// The host refused the credentials.
    Refused(HostRefusal),
    /// The host accepted them, or refused something else.
    Accepted,
    /// They were sent without an answer in time. The host may count that as a failure.
    NoAnswer,
    /// The answer says nothing about them.
    Nothing,
}

/// A request to send credentials to a host.
#[derive(Clone, Debug)]
pub struct CredentialUse {
    /// The group.
    pub group: Group,
    /// The host that gets them.
    pub host: Arc<str>,
    /// The digest of the credentials, the group and the host.
    pub digest: Digest,
    /// Someone requested the validation.
    pub requested: bool,
    /// Since when the registry's status says that its credentials are validated; none if it doesn't.
    pub validated: Option<Timestamp>,
}

/// An attempt that was started. Its result must be reported.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TryId(u64);

/// Whether credentials may be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Send them, and report the result.
    Send(TryId),
    /// They were rejected, and have to wait for this time.
    Paused(HostRefusal, Duration),
    /// They were rejected, and tried too often within the last minute. They can be sent after this time.
    TriedTooOften(HostRefusal, Duration),
    /// The host rejected too many credentials within the last minute. They can be sent after this time.
    TooManyRejected(Duration),
    /// Too many rejected credentials are remembered. Ask again after this time.
    Full(Duration),
    /// Another attempt will show the result. Ask again when it has one, or in a second.
    Wait,
}

/// The rejections of all groups.
#[derive(Debug, Default)]
pub struct Table {
    groups: HashMap<Group, GroupTable>,
    /// Rejections from before a restart, until their credentials are used.
    resumed: HashMap<Digest, Stored>,
    next_try: u64,
    swept: Option<Timestamp>,
    revision: u64,
}

/// The stored part of a rejection. It doesn't change with further rejections, so nothing is written for them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stored {
    /// How the host refused the credentials.
    pub refusal: HostRefusal,
    /// The time of the first refusal in a row.
    pub since: Timestamp,
}

/// Rejected credentials.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Rejection {
    stored: Stored,
    /// The number of rejections in a row.
    times: u32,
    /// The delay.
    pause: Duration,
    /// The end of the delay.
    until: Timestamp,
}

#[derive(Debug, Default)]
struct GroupTable {
    credentials: HashMap<Digest, CredentialRecord>,
    /// The attempts within the last [`WINDOW`], by host.
    tries: HashMap<Arc<str>, Vec<Try>>,
}

/// What is known about credentials.
#[derive(Clone, Copy, Debug)]
enum CredentialRecord {
    Refused(Rejection, Timestamp),
    Accepted(Timestamp),
}

#[derive(Clone, Copy, Debug)]
struct Try {
    id: TryId,
    digest: Digest,
    /// When it started, or was refused.
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
    /// Adds rejections from before a restart.
    pub fn resume(&mut self, rejections: impl IntoIterator<Item = (Digest, Stored)>) {
        self.resumed.extend(rejections);
    }

    /// Returns all rejections that are remembered.
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

    /// Returns a number that changes whenever [`Self::rejections`] does, except when a rejection ends by itself.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Decides about a request.
    pub fn decide(&mut self, wish: &CredentialUse, now: Timestamp) -> Decision {
        self.sweep(now);
        let group = self.groups.entry(wish.group.clone()).or_default();
        if let Some(stored) = self.resumed.remove(&wish.digest).filter(|stored| stored.is_recent(now)) {
            // The process may have ended when the registry had accepted them, and before the rejection was removed.
            if wish.validated.is_some_and(|validated| stored.since < validated) {
                self.revision += 1;
            } else {
                let refused = CredentialRecord::Refused(stored.resumed(now), Timestamp::MIN);
                group.credentials.insert(wish.digest, refused);
            }
        }
        if let Some(CredentialRecord::Refused(rejection, at)) = group.credentials.get_mut(&wish.digest)
            && rejection.begins_again(now)
        {
            *at = Timestamp::MIN; // it wasn't later than the next attempt
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

    /// Returns whether a refusal of these credentials is remembered.
    pub fn is_refused(&self, wish: &CredentialUse, now: Timestamp) -> bool {
        self.groups.get(&wish.group).is_some_and(|group| group.refused(&wish.digest, now).is_some())
    }

    /// Records the result of an attempt. Returns the delay for the credentials, if they were refused.
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
        // An attempt that took longer than the window counts from its result.
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
                // The host probably refuses again what it refused before, and counts it.
                let refusal = group.refused(&wish.digest, now)?.stored.refusal;
                Some(group.refuse(&tried, refusal, now).0)
            }
            CredentialAnswer::Accepted => {
                // Earlier attempts with these credentials that had no answer were not wrong passwords.
                tries.retain(|other| other.digest != wish.digest || other.state == RecordState::Open);
                let before = group.credentials.insert(wish.digest, CredentialRecord::Accepted(now));
                self.revision += u64::from(matches!(before, Some(CredentialRecord::Refused(..))));
                None
            }
            CredentialAnswer::Nothing => None,
        }
    }

    /// Removes what is over, once per [`WINDOW`].
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
    /// Returns the last refusal of these credentials, if it is remembered.
    fn refused(&self, digest: &Digest, now: Timestamp) -> Option<&Rejection> {
        match self.credentials.get(digest)? {
            CredentialRecord::Refused(rejection, _) if rejection.is_remembered(now) => Some(rejection),
            CredentialRecord::Refused(..) | CredentialRecord::Accepted(_) => None,
        }
    }

    /// Records a refusal. Returns the delay, and whether the refusal is the first in a row.
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
            // Attempts that were made at the same time count as one.
            Some((rejection, at)) if at > tried.at && !tried.requested => rejection.times,
            Some((rejection, _)) => rejection.times.saturating_add(1),
            None => 1,
        };
        let pause = REJECTED.after(times);
        let stored = before.map_or(Stored { refusal, since: now }, |(rejection, _)| rejection.stored);
        let rejection =
            Rejection { stored: Stored { refusal, ..stored }, times, pause, until: after(now, pause) };
        entry.insert_entry(CredentialRecord::Refused(rejection, now));
        (pause, before.is_none())
    }

    /// Returns whether there is no room for further unknown credentials.
    fn full(&self, now: Timestamp) -> Option<Decision> {
        let refused = || {
            self.credentials.values().filter_map(|known| match known {
                CredentialRecord::Refused(rejection, _) if rejection.is_remembered(now) => Some(rejection),
                CredentialRecord::Refused(..) | CredentialRecord::Accepted(_) => None,
            })
        };
        // All attempts in progress may be refused.
        let open = self.tries.values().flatten().filter(|tried| tried.state == RecordState::Open).count();
        if refused().count() + open < MOST_REJECTED {
            return None;
        }
        let first = refused().map(Rejection::forgotten_at).min().unwrap_or(now);
        Some(Decision::Full(until(first, now).clamp(Duration::from_secs(1), REMEMBERED)))
    }
}

impl Try {
    /// Returns whether the attempt is within the window. A time in the future counts too, unless the clock was set back
    /// by more than a window.
    fn counts(&self, now: Timestamp) -> bool {
        now < after(self.at, WINDOW) && self.at < after(now, WINDOW)
    }
}

impl Stored {
    /// Returns whether to remember it after a restart. Older credentials are tried once, and wait again if they are
    /// rejected.
    fn is_recent(&self, now: Timestamp) -> bool {
        now < after(self.since, RESUMED)
    }

    /// Estimates how often the credentials were rejected, as if each attempt had come when it was due. The delay is
    /// never shorter than it was.
    fn resumed(self, now: Timestamp) -> Rejection {
        let elapsed = until(now, self.since);
        let (mut times, mut newest) = (1, Duration::ZERO);
        loop {
            let next = newest + REJECTED.after(times);
            if next > elapsed {
                // The last attempt may have been later, because each delay may be a tenth longer.
                let left = next.saturating_sub(elapsed) + newest.mul_f64(0.1);
                let pause = left.min(REJECTED.longest());
                return Rejection { stored: self, times, pause, until: after(now, pause) };
            }
            (times, newest) = (times.saturating_add(1), next);
        }
    }
}

impl Rejection {
    /// Begins the delay again if more than all of it is left, because the clock was set back. Otherwise, it would last longer by that.
    /// Returns whether it did.
    fn begins_again(&mut self, now: Timestamp) -> bool {
        let is_set_back = until(self.until, now) > self.pause;
        if is_set_back {
            self.until = after(now, self.pause);
        }
        is_set_back
    }

    fn forgotten_at(&self) -> Timestamp {
        after(self.until, REJECTED.after(self.times).max(REMEMBERED))
    }

    fn is_remembered(&self, now: Timestamp) -> bool {
        now < self.forgotten_at()
    }
}

impl CredentialRecord {
    /// Returns whether it is still needed.
    fn holds(&self, now: Timestamp) -> bool {
        match self {
            Self::Refused(rejection, _) => rejection.is_remembered(now),
            Self::Accepted(at) => now < after(*at, FRESH),
        }
    }
}

/// Returns why credentials that were rejected before may not be sent.
fn refused_before(
    rejection: &Rejection,
    wish: &CredentialUse,
    tries: &[Try],
    now: Timestamp,
) -> Option<Decision> {
    let left = until(rejection.until, now);
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

/// Returns why unknown credentials may not be sent.
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

/// Returns whether the host has reached its limit of attempts within the window.
fn crowded(tries: &[Try], now: Timestamp) -> Option<Decision> {
    if tries.len() < MOST_AT_A_HOST {
        return None;
    }
    if tries.iter().any(|tried| tried.state == RecordState::Open) {
        return Some(Decision::Wait);
    }
    Some(Decision::TooManyRejected(next_turn(tries.iter(), now)))
}

/// Returns when the first of those attempts leaves the window.
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
