//! A work queue with due times, fair between tenants and between registry hosts. Pure: it never waits.
//!
//! One task at a time works on a key, and a change during its work is not lost. Each tenant, and the system scope, is a group;
//! groups take turns, and so do the hosts within a group. A group or host gets another place only while it holds fewer places than
//! are free to it. So however much one asks for, some places stay free for the next (the dynamic thresholds of Choudhury and
//! Hahne, 1998). A key holds a place only while it is worked on, never while it waits for its turn.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

/// A queue of keys with due times, fair between groups, and within a group between hosts.
#[derive(Debug)]
pub struct Queue<K, G, H> {
    limits: QueueLimits,
    entries: HashMap<K, QueueEntry<G, H>>,
    /// Due times in order; an entry whose due time is not the one named here was rescheduled since.
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    timed: HashMap<u64, K>,
    next_timer: u64,
    ready: HashMap<G, Lines<K, H>>,
    turns: VecDeque<G>,
    running: TakenPlaces<G, H>,
}

/// How many keys are worked on at the same time.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// All keys with a host. Keys without a host have as many places of their own.
    pub places: usize,
    /// Keys with the same host, over all groups.
    pub at_a_host: usize,
}

/// Where a key waits for its turn.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Lane<G, H> {
    /// The group of the key.
    pub group: G,
    /// The host that the work may have to wait for; none for work that contacts no registry.
    pub host: Option<H>,
}

/// The keys of a group that are ready, by host.
#[derive(Debug)]
struct Lines<K, H> {
    by_host: HashMap<Option<H>, VecDeque<K>>,
    turns: VecDeque<Option<H>>,
}

/// The places that are taken.
#[derive(Debug)]
struct TakenPlaces<G, H> {
    by_group: HashMap<G, usize>,
    by_host: HashMap<H, usize>,
    by_lane: HashMap<Lane<G, H>, usize>,
    with_host: usize,
    without_host: usize,
}

#[derive(Debug)]
struct QueueEntry<G, H> {
    lane: Lane<G, H>,
    state: QueueState<G, H>,
}

#[derive(Clone, Debug, PartialEq)]
enum QueueState<G, H> {
    Idle,
    /// Waits until it is due.
    Waiting {
        due: Instant,
        timer: u64,
    },
    /// Is due, and waits for a place.
    Ready {
        since: Instant,
    },
    /// Is worked on, in a place of the lane that it was in when the work started.
    Running {
        lane: Box<Lane<G, H>>,
        /// Whether to run again afterwards.
        stale: bool,
    },
}

impl<K, G, H> Queue<K, G, H>
where
    K: Clone + Eq + Hash,
    G: Clone + Eq + Hash,
    H: Clone + Eq + Hash,
{
    /// Returns an empty queue.
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            timers: BinaryHeap::new(),
            timed: HashMap::new(),
            next_timer: 0,
            ready: HashMap::new(),
            turns: VecDeque::new(),
            running: TakenPlaces::default(),
        }
    }

    /// Makes `key` ready now, or again after the work in flight. From now on, it waits in `lane`.
    pub fn now(&mut self, key: &K, lane: &Lane<G, H>, now: Instant) {
        match self.entries.get_mut(key) {
            Some(QueueEntry { state: QueueState::Ready { .. }, lane: same }) if same == lane => {}
            Some(QueueEntry { state: QueueState::Ready { since }, .. }) => {
                let since = *since;
                self.make_ready(key, lane, since);
            }
            Some(entry @ QueueEntry { state: QueueState::Running { .. }, .. }) => entry.run_again(lane),
            Some(QueueEntry { state: QueueState::Waiting { timer, .. }, .. }) => {
                self.timed.remove(timer);
                self.make_ready(key, lane, now);
            }
            Some(QueueEntry { state: QueueState::Idle, .. }) | None => self.make_ready(key, lane, now),
        }
    }

    /// Makes `key` ready at `due`, unless it is due earlier. Does nothing for a key that is worked on: [`Queue::done`] says when it is
    /// due again.
    pub fn at(&mut self, key: &K, lane: &Lane<G, H>, due: Instant) {
        match self.entries.get(key).map(|entry| &entry.state) {
            Some(QueueState::Waiting { due: earlier, .. }) if *earlier <= due => return,
            Some(QueueState::Waiting { timer, .. }) => {
                self.timed.remove(timer);
            }
            Some(QueueState::Idle) | None => {}
            Some(QueueState::Ready { .. } | QueueState::Running { .. }) => return,
        }
        let timer = self.next_timer;
        self.next_timer += 1;
        self.timers.push(Reverse((due, timer)));
        self.timed.insert(timer, key.clone());
        self.entries.insert(
            key.clone(),
            QueueEntry { lane: lane.clone(), state: QueueState::Waiting { due, timer } },
        );
    }

    /// Forgets `key`. Work in flight keeps its place until it is `done`.
    pub fn forget(&mut self, key: &K) {
        match self.entries.get_mut(key).map(|entry| &mut entry.state) {
            Some(QueueState::Running { stale, .. }) => *stale = false,
            Some(QueueState::Waiting { timer, .. }) => {
                self.timed.remove(timer);
                self.entries.remove(key);
            }
            // A key that is forgotten while ready stays in its line, and is passed over there.
            Some(QueueState::Idle | QueueState::Ready { .. }) => {
                self.entries.remove(key);
            }
            None => {}
        }
    }

    /// Ends the work on `key`. The key is due again after `again`, if that is given, or at once if it was made ready during the work.
    pub fn done(&mut self, key: &K, now: Instant, again: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let QueueState::Running { lane: held, stale } = std::mem::replace(&mut entry.state, QueueState::Idle)
        else {
            return;
        };
        let lane = entry.lane.clone();
        self.running.leave(&held);
        match again {
            _ if stale => self.now(key, &lane, now),
            Some(delay) => self.at(key, &lane, now + delay),
            None => {
                self.entries.remove(key);
            }
        }
    }

    /// Returns the next key to work on, and the time for which it was ready; none if nothing is due or no place is free.
    pub fn next(&mut self, now: Instant) -> Option<(K, Duration)> {
        self.wake(now);
        for _ in 0..self.turns.len() {
            let group = self.turns.pop_front()?;
            let taken = self.take(&group);
            if self.ready.contains_key(&group) {
                self.turns.push_back(group);
            }
            if let Some((key, since)) = taken {
                return Some((key, now.saturating_duration_since(since)));
            }
        }
        None
    }

    /// Returns when the next key becomes due.
    pub fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, timer))) = self.timers.peek().copied() {
            if self.timed.contains_key(&timer) {
                return Some(due);
            }
            self.timers.pop();
        }
        None
    }

    /// Returns the number of keys that are ready and wait for a place.
    pub fn depth(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.state, QueueState::Ready { .. })).count()
    }

    /// Returns the number of keys that are worked on.
    pub fn in_flight(&self) -> usize {
        self.running.with_host + self.running.without_host
    }

    fn wake(&mut self, now: Instant) {
        while let Some(due) = self.next_due() {
            if due > now {
                return;
            }
            let Some(Reverse((due, timer))) = self.timers.pop() else {
                return;
            };
            let Some(key) = self.timed.remove(&timer) else {
                continue;
            };
            if let Some(lane) = self.entries.get(&key).map(|entry| entry.lane.clone()) {
                self.make_ready(&key, &lane, due);
            }
        }
    }

    /// Gives a place to the first key of a group that may have one, and removes empty lines.
    fn take(&mut self, group: &G) -> Option<(K, Instant)> {
        let lines = self.ready.get_mut(group)?;
        let mut taken = None;
        for _ in 0..lines.turns.len() {
            let host = lines.turns.pop_front()?;
            let lane = Lane { group: group.clone(), host };
            if self.running.may_enter(&lane, self.limits) {
                taken = lines.first(&lane, &self.entries);
            }
            lines.keep(lane.host);
            if taken.is_some() {
                break;
            }
        }
        if lines.turns.is_empty() {
            self.ready.remove(group);
        }
        let (key, since) = taken?;
        let entry = self.entries.get_mut(&key)?;
        self.running.enter(&entry.lane);
        entry.state = QueueState::Running { lane: Box::new(entry.lane.clone()), stale: false };
        Some((key, since))
    }

    fn make_ready(&mut self, key: &K, lane: &Lane<G, H>, since: Instant) {
        self.entries
            .insert(key.clone(), QueueEntry { lane: lane.clone(), state: QueueState::Ready { since } });
        if !self.ready.contains_key(&lane.group) {
            self.turns.push_back(lane.group.clone());
        }
        self.ready.entry(lane.group.clone()).or_default().push(lane.host.clone(), key.clone());
    }
}

impl<G: Clone + PartialEq, H: Clone + PartialEq> QueueEntry<G, H> {
    fn run_again(&mut self, lane: &Lane<G, H>) {
        self.lane = lane.clone();
        if let QueueState::Running { stale, .. } = &mut self.state {
            *stale = true;
        }
    }
}

impl<K, H> Default for Lines<K, H> {
    fn default() -> Self {
        Self { by_host: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, H: Clone + Eq + Hash> Lines<K, H> {
    fn push(&mut self, host: Option<H>, key: K) {
        if !self.by_host.contains_key(&host) {
            self.turns.push_back(host.clone());
        }
        self.by_host.entry(host).or_default().push_back(key);
    }

    /// Takes the first key that still waits in a line.
    fn first<G: PartialEq>(
        &mut self,
        lane: &Lane<G, H>,
        entries: &HashMap<K, QueueEntry<G, H>>,
    ) -> Option<(K, Instant)> {
        let line = self.by_host.get_mut(&lane.host)?;
        while let Some(key) = line.pop_front() {
            let entry = entries.get(&key).filter(|entry| entry.lane == *lane);
            if let Some(QueueState::Ready { since }) = entry.map(|entry| &entry.state) {
                return Some((key, *since));
            }
        }
        None
    }

    /// Lets a line wait for its next turn, unless it is empty.
    fn keep(&mut self, host: Option<H>) {
        if self.by_host.get(&host).is_some_and(|line| !line.is_empty()) {
            self.turns.push_back(host);
        } else {
            self.by_host.remove(&host);
        }
    }
}

impl<G, H> Default for TakenPlaces<G, H> {
    fn default() -> Self {
        Self {
            by_group: HashMap::new(),
            by_host: HashMap::new(),
            by_lane: HashMap::new(),
            with_host: 0,
            without_host: 0,
        }
    }
}

impl<G: Clone + Eq + Hash, H: Clone + Eq + Hash> TakenPlaces<G, H> {
    /// Whether one more key in `lane` leaves enough places to others: to other groups, to other groups at the same host, and to the
    /// group's own registries at other hosts. A group's first key at a host may have the last place of the group.
    fn may_enter(&self, lane: &Lane<G, H>, limits: QueueLimits) -> bool {
        let Some(host) = &lane.host else { return self.without_host < limits.places };
        let free = limits.places.saturating_sub(self.with_host);
        let (group, here) = (taken(&self.by_group, &lane.group), taken(&self.by_lane, lane));
        let free_at_host = limits.at_a_host.saturating_sub(taken(&self.by_host, host));
        // What the group could still start after this one.
        let left_to_group = free.saturating_sub(1).saturating_sub(group + 1);
        group < free && here < free_at_host && (here == 0 || here < left_to_group)
    }

    fn enter(&mut self, lane: &Lane<G, H>) {
        let Some(host) = &lane.host else {
            self.without_host += 1;
            return;
        };
        self.with_host += 1;
        *self.by_group.entry(lane.group.clone()).or_default() += 1;
        *self.by_host.entry(host.clone()).or_default() += 1;
        *self.by_lane.entry(lane.clone()).or_default() += 1;
    }

    fn leave(&mut self, lane: &Lane<G, H>) {
        let Some(host) = &lane.host else {
            self.without_host = self.without_host.saturating_sub(1);
            return;
        };
        self.with_host = self.with_host.saturating_sub(1);
        give_back(&mut self.by_group, &lane.group);
        give_back(&mut self.by_host, host);
        give_back(&mut self.by_lane, lane);
    }
}

fn taken<T: Eq + Hash>(places: &HashMap<T, usize>, by: &T) -> usize {
    places.get(by).copied().unwrap_or(0)
}

fn give_back<T: Eq + Hash>(places: &mut HashMap<T, usize>, by: &T) {
    if let Some(count) = places.get_mut(by) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            places.remove(by);
        }
    }
}

/// Waits until that time; forever, if there is none.
pub async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
