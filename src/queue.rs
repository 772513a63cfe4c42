//! Which registry is worked on next. Pure: keeps due times, hands out keys, never waits.
//!
//! Owns: that a registry is worked on by one task at a time and that a change during its work is not lost; that no
//! tenant takes the place of another. Each tenant (and the system level) is a group of its own; groups take turns,
//! and a group may start another piece of work only while it holds fewer places than are free, so that however much
//! one asks for, a part of the places stays free for the next (the dynamic thresholds of Choudhury and Hahne, 1998).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

/// A queue of keys with due times, fair between groups.
#[derive(Debug)]
pub struct Queue<K, G> {
    places: usize,
    entries: HashMap<K, Entry<G>>,
    /// Due times in order; an entry whose due time is not the one named here was rescheduled since.
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    timed: HashMap<u64, K>,
    next_timer: u64,
    ready: HashMap<G, VecDeque<K>>,
    turns: VecDeque<G>,
    running: HashMap<G, usize>,
    running_in_all: usize,
}

#[derive(Debug)]
struct Entry<G> {
    group: G,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Idle,
    /// Waits for its time.
    Waiting {
        due: Instant,
        timer: u64,
    },
    /// Its time has come; since then.
    Ready {
        since: Instant,
    },
    Running,
    /// Running, and to run again afterwards.
    RunningStale,
}

impl<K: Clone + Eq + Hash, G: Clone + Eq + Hash> Queue<K, G> {
    /// An empty queue that lets `places` keys be worked on at the same time.
    pub fn new(places: usize) -> Self {
        Self {
            places,
            entries: HashMap::new(),
            timers: BinaryHeap::new(),
            timed: HashMap::new(),
            next_timer: 0,
            ready: HashMap::new(),
            turns: VecDeque::new(),
            running: HashMap::new(),
            running_in_all: 0,
        }
    }

    /// Asks for work on `key` now, or again after the work that is under way.
    pub fn now(&mut self, key: &K, group: &G, now: Instant) {
        match self.entries.get(key).map(|entry| entry.state) {
            Some(State::Ready { .. } | State::RunningStale) => {}
            Some(State::Running) => self.set(key, State::RunningStale),
            Some(State::Waiting { timer, .. }) => {
                self.timed.remove(&timer);
                self.make_ready(key, group, now);
            }
            Some(State::Idle) | None => self.make_ready(key, group, now),
        }
    }

    /// Asks for work on `key` at `due`, in place of any later time asked for before. Does nothing for a key that is
    /// running: its end says when it is due again.
    pub fn at(&mut self, key: &K, group: &G, due: Instant) {
        match self.entries.get(key).map(|entry| entry.state) {
            Some(State::Waiting { due: earlier, .. }) if earlier <= due => return,
            Some(State::Waiting { timer, .. }) => {
                self.timed.remove(&timer);
            }
            Some(State::Idle) | None => {}
            Some(State::Ready { .. } | State::Running | State::RunningStale) => return,
        }
        let timer = self.next_timer;
        self.next_timer += 1;
        self.timers.push(Reverse((due, timer)));
        self.timed.insert(timer, key.clone());
        self.entries
            .insert(key.clone(), Entry { group: group.clone(), state: State::Waiting { due, timer } });
    }

    /// Forgets `key`. Work that is under way keeps its place until it is `done`.
    pub fn forget(&mut self, key: &K) {
        match self.entries.get(key).map(|entry| entry.state) {
            Some(State::Running | State::RunningStale) => self.set(key, State::Running),
            Some(State::Waiting { timer, .. }) => {
                self.timed.remove(&timer);
                self.entries.remove(key);
            }
            // A key that is forgotten while ready stays in its group's line, and is passed over there.
            Some(State::Idle | State::Ready { .. }) => {
                self.entries.remove(key);
            }
            None => {}
        }
    }

    /// Says that the work on `key` has ended; it is due again after `again`, if that is given, or at once if it was
    /// asked for meanwhile.
    pub fn done(&mut self, key: &K, now: Instant, again: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let (group, stale) = (entry.group.clone(), entry.state == State::RunningStale);
        entry.state = State::Idle;
        self.running_in_all = self.running_in_all.saturating_sub(1);
        if let Some(running) = self.running.get_mut(&group) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(&group);
            }
        }
        match again {
            _ if stale => self.now(key, &group, now),
            Some(delay) => self.at(key, &group, now + delay),
            None => {
                self.entries.remove(key);
            }
        }
    }

    /// The next key to work on, with the time for which it was ready; none if nothing is due or no place is free.
    pub fn next(&mut self, now: Instant) -> Option<(K, Duration)> {
        self.wake(now);
        for _ in 0..self.turns.len() {
            let group = self.turns.pop_front()?;
            if self.running.get(&group).copied().unwrap_or(0)
                >= self.places.saturating_sub(self.running_in_all)
            {
                self.turns.push_back(group);
                continue;
            }
            let Some((key, since)) = self.take(&group) else {
                continue;
            };
            self.turns.push_back(group.clone());
            *self.running.entry(group).or_insert(0) += 1;
            self.running_in_all += 1;
            self.set(&key, State::Running);
            return Some((key, now.saturating_duration_since(since)));
        }
        None
    }

    /// When the next key becomes due, if none is ready before.
    pub fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, timer))) = self.timers.peek().copied() {
            if self.timed.contains_key(&timer) {
                return Some(due);
            }
            self.timers.pop();
        }
        None
    }

    /// How many keys are ready and wait for a place.
    pub fn depth(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.state, State::Ready { .. })).count()
    }

    /// How many keys are worked on.
    pub fn in_flight(&self) -> usize {
        self.running_in_all
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
            if let Some(group) = self.entries.get(&key).map(|entry| entry.group.clone()) {
                self.make_ready(&key, &group, due);
            }
        }
    }

    /// Takes the first key of a group's line; removes the line when it is empty.
    fn take(&mut self, group: &G) -> Option<(K, Instant)> {
        let line = self.ready.get_mut(group)?;
        while let Some(key) = line.pop_front() {
            if let Some(State::Ready { since }) = self.entries.get(&key).map(|entry| entry.state) {
                return Some((key, since));
            }
        }
        self.ready.remove(group);
        None
    }

    fn make_ready(&mut self, key: &K, group: &G, since: Instant) {
        self.entries.insert(key.clone(), Entry { group: group.clone(), state: State::Ready { since } });
        let line = self.ready.entry(group.clone()).or_default();
        line.push_back(key.clone());
        if line.len() == 1 && !self.turns.contains(group) {
            self.turns.push_back(group.clone());
        }
    }

    fn set(&mut self, key: &K, state: State) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.state = state;
        }
    }
}

/// Waits until that time; for ever, if there is none.
pub async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn pop(queue: &mut Queue<&'static str, char>, now: Instant) -> Option<&'static str> {
        queue.next(now).map(|(key, _)| key)
    }

    #[tokio::test]
    async fn a_key_is_handed_out_when_its_time_has_come() {
        let start = Instant::now();
        let mut queue = Queue::new(8);
        queue.at(&"a", &'g', at(start, 5));
        assert_eq!(pop(&mut queue, at(start, 4)), None);
        assert_eq!(queue.next_due(), Some(at(start, 5)));
        assert_eq!(pop(&mut queue, at(start, 5)), Some("a"));
    }

    #[tokio::test]
    async fn the_earlier_of_two_times_holds() {
        let start = Instant::now();
        let mut queue = Queue::new(8);
        queue.at(&"a", &'g', at(start, 5));
        queue.at(&"a", &'g', at(start, 9));
        queue.at(&"b", &'g', at(start, 9));
        queue.at(&"b", &'g', at(start, 5));
        assert_eq!(pop(&mut queue, at(start, 5)), Some("a"));
        assert_eq!(pop(&mut queue, at(start, 5)), Some("b"));
        assert_eq!(pop(&mut queue, at(start, 60)), None);
    }

    #[tokio::test]
    async fn a_key_is_never_worked_on_twice_at_once_and_a_change_meanwhile_is_not_lost() {
        let start = Instant::now();
        let mut queue = Queue::new(8);
        queue.now(&"a", &'g', start);
        assert_eq!(pop(&mut queue, start), Some("a"));
        queue.now(&"a", &'g', start);
        assert_eq!(pop(&mut queue, start), None);
        queue.done(&"a", start, Some(Duration::from_mins(10)));
        assert_eq!(pop(&mut queue, start), Some("a"));
        queue.done(&"a", start, Some(Duration::from_mins(10)));
        assert_eq!(pop(&mut queue, start), None);
        assert_eq!(pop(&mut queue, at(start, 600)), Some("a"));
    }

    #[tokio::test]
    async fn a_forgotten_key_is_not_handed_out() {
        let start = Instant::now();
        let mut queue = Queue::new(8);
        queue.now(&"a", &'g', start);
        queue.at(&"b", &'g', start);
        queue.forget(&"a");
        queue.forget(&"b");
        assert_eq!(pop(&mut queue, start), None);
        assert_eq!((queue.depth(), queue.in_flight()), (0, 0));
    }

    #[tokio::test]
    async fn a_greedy_group_leaves_places_for_the_next() {
        let start = Instant::now();
        let mut queue = Queue::new(8);
        for key in 0..100 {
            queue.now(&key, &'g', start);
        }
        let greedy = std::iter::from_fn(|| queue.next(start)).count();
        assert_eq!(greedy, 4);
        queue.now(&1000, &'h', start);
        assert_eq!(queue.next(start).map(|(key, _)| key), Some(1000));
    }

    #[tokio::test]
    async fn groups_take_turns() {
        let start = Instant::now();
        let mut queue = Queue::new(64);
        for key in 0..10 {
            queue.now(&key, &'g', start);
        }
        queue.now(&100, &'h', start);
        let first: Vec<i32> = std::iter::from_fn(|| queue.next(start)).take(2).map(|(key, _)| key).collect();
        assert_eq!(first, [0, 100]);
    }

    proptest! {
        /// Whatever is asked for in whatever order: places are never exceeded, and everything that was asked for is
        /// handed out in the end.
        #[test]
        fn places_hold_and_nothing_is_lost(asked in proptest::collection::vec((0u8..20, 0u8..3, 0u8..4), 1..200)) {
            let start = Instant::now();
            let mut queue = Queue::new(4);
            let mut owed = std::collections::HashSet::new();
            let mut running: Vec<u8> = Vec::new();
            for (key, what, group) in asked {
                let group = key % (group + 1);
                match what {
                    0 => { queue.now(&key, &group, start); owed.insert(key); }
                    1 => if let Some((key, _)) = queue.next(start) {
                        prop_assert!(!running.contains(&key));
                        owed.remove(&key);
                        running.push(key);
                    },
                    _ => if let Some(key) = running.pop() { queue.done(&key, start, None); },
                }
                prop_assert!(queue.in_flight() <= 4);
                prop_assert_eq!(queue.in_flight(), running.len());
            }
            loop {
                while let Some((key, _)) = queue.next(start) { owed.remove(&key); running.push(key); }
                let Some(key) = running.pop() else { break };
                queue.done(&key, start, None);
            }
            prop_assert!(owed.is_empty());
            prop_assert_eq!(queue.depth(), 0);
        }
    }
}
