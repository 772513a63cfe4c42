//! The queue, without a clock: every test says what time it is.

use proptest::prelude::*;

use super::*;

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

type Tested<K> = Queue<K, char, &'static str>;

fn queue<K: Clone + Eq + Hash>(places: usize) -> Tested<K> {
    Queue::new(QueueLimits { places, at_a_host: 32 })
}

fn lane(group: char, host: &'static str) -> Lane<char, &'static str> {
    Lane { group, host: Some(host) }
}

fn nowhere(group: char) -> Lane<char, &'static str> {
    Lane { group, host: None }
}

fn pop<K: Clone + Eq + Hash>(queue: &mut Tested<K>, now: Instant) -> Option<K> {
    queue.next(now).map(|(key, _)| key)
}

/// Starts all that may be started.
fn drain<K: Clone + Eq + Hash>(queue: &mut Tested<K>, now: Instant) -> Vec<K> {
    std::iter::from_fn(|| pop(queue, now)).collect()
}

#[tokio::test]
async fn hands_out_key_when_due() {
    let start = Instant::now();
    let mut queue = queue(8);
    queue.at(&"a", &lane('g', "a"), at(start, 5));
    assert_eq!(pop(&mut queue, at(start, 4)), None);
    assert_eq!(queue.next_due(), Some(at(start, 5)));
    assert_eq!(pop(&mut queue, at(start, 5)), Some("a"));
}

#[tokio::test]
async fn earlier_of_two_times_wins() {
    let start = Instant::now();
    let mut queue = queue(8);
    queue.at(&"a", &lane('g', "a"), at(start, 5));
    queue.at(&"a", &lane('g', "a"), at(start, 9));
    queue.at(&"b", &lane('g', "a"), at(start, 9));
    queue.at(&"b", &lane('g', "a"), at(start, 5));
    assert_eq!(pop(&mut queue, at(start, 5)), Some("a"));
    assert_eq!(pop(&mut queue, at(start, 5)), Some("b"));
    assert_eq!(pop(&mut queue, at(start, 60)), None);
}

#[tokio::test]
async fn never_runs_a_key_twice_at_once() {
    let start = Instant::now();
    let mut queue = queue(8);
    queue.now(&"a", &lane('g', "a"), start);
    assert_eq!(pop(&mut queue, start), Some("a"));
    queue.now(&"a", &lane('g', "a"), start);
    assert_eq!(pop(&mut queue, start), None);
    queue.done(&"a", start, Some(Duration::from_mins(10)));
    assert_eq!(pop(&mut queue, start), Some("a"));
    queue.done(&"a", start, Some(Duration::from_mins(10)));
    assert_eq!(pop(&mut queue, start), None);
    assert_eq!(pop(&mut queue, at(start, 600)), Some("a"));
}

#[tokio::test]
async fn forgotten_key_is_not_handed_out() {
    let start = Instant::now();
    let mut queue = queue(8);
    queue.now(&"a", &lane('g', "a"), start);
    queue.at(&"b", &lane('g', "a"), start);
    queue.forget(&"a");
    queue.forget(&"b");
    assert_eq!(pop(&mut queue, start), None);
    assert_eq!((queue.depth(), queue.in_flight()), (0, 0));
}

#[tokio::test]
async fn busy_group_leaves_workers_for_others() {
    let start = Instant::now();
    let mut queue = queue(8);
    for key in 0..100 {
        queue.now(&key, &lane('g', ["a", "b", "c", "d", "e"][key % 5]), start);
    }
    assert_eq!(drain(&mut queue, start).len(), 4);
    queue.now(&1000, &lane('h', "a"), start);
    assert_eq!(pop(&mut queue, start), Some(1000));
}

#[tokio::test]
async fn groups_take_turns() {
    let start = Instant::now();
    let mut queue = queue(64);
    for key in 0..10 {
        queue.now(&key, &lane('g', "a"), start);
    }
    queue.now(&100, &lane('h', "a"), start);
    assert_eq!(drain(&mut queue, start)[..2], [0, 100]);
}

#[tokio::test]
async fn hanging_host_leaves_workers_for_others() {
    let start = Instant::now();
    for places in [4, 8, 64] {
        let mut queue = queue(places);
        for key in 0..1000 {
            queue.now(&key, &lane('g', "hangs"), start);
        }
        assert!(!drain(&mut queue, start).is_empty());
        queue.now(&1000, &lane('g', "answers"), start);
        assert_eq!(pop(&mut queue, start), Some(1000), "{places} places");
    }
}

#[tokio::test]
async fn hosts_of_a_group_take_turns() {
    let start = Instant::now();
    let mut queue = queue(64);
    for key in 0..10 {
        queue.now(&key, &lane('g', "a"), start);
    }
    queue.now(&100, &lane('g', "b"), start);
    assert_eq!(drain(&mut queue, start)[..2], [0, 100]);
}

#[tokio::test]
async fn limits_workers_per_host_and_group() {
    let start = Instant::now();
    let mut queue = queue(1000);
    let mut key = 0;
    let mut most = |group, queue: &mut Tested<i32>| {
        for _ in 0..100 {
            key += 1;
            queue.now(&key, &lane(group, "a"), start);
        }
        drain(queue, start).len()
    };
    assert_eq!(
        ['f', 'g', 'h', 'i', 'j', 'k', 'l'].map(|group| most(group, &mut queue)),
        [16, 8, 4, 2, 1, 1, 0]
    );
    assert_eq!(queue.in_flight(), 32);
    queue.now(&0, &lane('l', "b"), start);
    assert_eq!(drain(&mut queue, start), [0], "another host");
}

#[tokio::test]
async fn work_without_host_waits_for_no_host() {
    let start = Instant::now();
    let mut queue = queue(4);
    for key in 0..100 {
        queue.now(&key, &lane('g', ["a", "b", "c", "d", "e"][key % 5]), start);
    }
    drain(&mut queue, start);
    for key in 100..110 {
        queue.now(&key, &nowhere('g'), start);
    }
    assert_eq!(drain(&mut queue, start), [100, 101, 102, 103], "as many places, of their own");
    queue.done(&100, start, None);
    assert_eq!(drain(&mut queue, start), [104]);
}

#[tokio::test]
async fn waiting_key_moves_with_its_lane() {
    let start = Instant::now();
    let mut queue = queue(4);
    for key in 0..10 {
        queue.now(&key, &lane('g', "hangs"), start);
    }
    drain(&mut queue, start);
    queue.now(&9, &nowhere('g'), at(start, 3));
    assert_eq!(queue.next(at(start, 5)), Some((9, Duration::from_secs(5))), "it has waited all the time");
    queue.now(&8, &lane('h', "hangs"), start);
    assert_eq!(drain(&mut queue, start), [8]);
}

#[tokio::test]
async fn finished_work_frees_its_own_slot() {
    let start = Instant::now();
    let mut queue = queue(8);
    for key in 0..10 {
        queue.now(&key, &lane('g', "a"), start);
    }
    let started = drain(&mut queue, start);
    for key in &started {
        queue.now(key, &lane('h', "b"), start);
        queue.done(key, start, None);
    }
    let again = drain(&mut queue, start);
    assert!(again.contains(&started[0]) && again.len() == 2 * started.len(), "{started:?} {again:?}");
}

proptest! {
    /// Whatever is asked for in whatever order and wherever it moves: places are never exceeded, and everything that was
    /// asked for is handed out in the end.
    #[test]
    fn limits_hold_and_no_key_is_lost(
        places in 1usize..5,
        asked in proptest::collection::vec((0u8..20, 0u8..5, 0u8..4, 0u8..4), 1..200),
    ) {
        let start = Instant::now();
        let mut queue: Queue<u8, u8, u8> = Queue::new(QueueLimits { places, at_a_host: 3 });
        let mut owed = std::collections::HashSet::new();
        let mut running: Vec<(u8, Option<u8>)> = Vec::new();
        let mut lanes = HashMap::new();
        for (key, what, group, host) in asked {
            let lane = Lane { group, host: (host > 0).then_some(host) };
            match what {
                0 | 1 => { queue.now(&key, &lane, start); owed.insert(key); lanes.insert(key, lane); }
                2 => if let Some((key, _)) = queue.next(start) {
                    prop_assert!(!running.iter().any(|(other, _)| *other == key));
                    owed.remove(&key);
                    running.push((key, lanes[&key].host));
                },
                3 => { queue.forget(&key); owed.remove(&key); }
                _ => if let Some((key, _)) = running.pop() { queue.done(&key, start, None); },
            }
            prop_assert_eq!(queue.in_flight(), running.len());
            prop_assert!(running.iter().filter(|(_, host)| host.is_some()).count() <= 4);
            for host in 1..4 {
                prop_assert!(running.iter().filter(|(_, at)| *at == Some(host)).count() <= 3);
            }
        }
        loop {
            while let Some((key, _)) = queue.next(start) { owed.remove(&key); running.push((key, None)); }
            let Some((key, _)) = running.pop() else { break };
            queue.done(&key, start, None);
        }
        prop_assert!(owed.is_empty());
        prop_assert_eq!((queue.depth(), queue.in_flight()), (0, 0));
        prop_assert!(queue.ready.is_empty() && queue.turns.is_empty() && queue.running.by_lane.is_empty());
    }
}

#[tokio::test]
async fn key_forgotten_in_progress_is_not_repeated() {
    let start = Instant::now();
    let mut queue = queue(8);
    queue.now(&"a", &lane('g', "a"), start);
    assert_eq!(pop(&mut queue, start), Some("a"));
    queue.now(&"a", &lane('g', "a"), start);
    queue.forget(&"a");
    queue.done(&"a", start, None);
    assert_eq!(pop(&mut queue, at(start, 3600)), None);
}

/// A thousand registries of one group come within five seconds. A quarter each refuses connections, has an internal error, and rejects
/// credentials, which takes as long as a write of the status; a quarter, at three hosts, takes three seconds longer. A usable registry that
/// comes every 300 ms waits for no turn, as long as a write takes no more than 600 ms.
#[tokio::test]
async fn usable_registry_waits_for_no_turn_in_a_storm() {
    #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    enum Tried {
        Failing(u64),
        Usable(u64),
    }
    const HOSTS: [&str; 6] = ["refuses", "error", "rejects", "slow-1", "slow-2", "slow-3"];
    let lane_of = |key: Tried| match key {
        Tried::Usable(_) => lane('g', "usable"),
        Tried::Failing(number) if number % 4 < 3 => lane('g', HOSTS[usize::try_from(number % 4).unwrap()]),
        Tried::Failing(number) => lane('g', HOSTS[usize::try_from(3 + number / 4 % 3).unwrap()]),
    };
    for write in [30, 100, 300, 600].map(Duration::from_millis) {
        let (start, mut queue) = (Instant::now(), queue(64));
        let come = (0..1000).map(|number| (Duration::from_millis(5 * number), Tried::Failing(number)));
        let come =
            come.chain((0..26).map(|number| (Duration::from_millis(300 * number), Tried::Usable(number))));
        let mut events: BinaryHeap<Reverse<(Duration, bool, Tried)>> =
            come.map(|(at, key)| Reverse((at, false, key))).collect();
        let mut usable = 0;
        while let Some(Reverse((after, is_done, key))) = events.pop() {
            let now = start + after;
            if is_done {
                queue.done(&key, now, None);
            } else {
                queue.now(&key, &lane_of(key), now);
            }
            while let Some((key, waited)) = queue.next(now) {
                if matches!(key, Tried::Usable(_)) {
                    assert_eq!(waited, Duration::ZERO, "{key:?}, with writes of {write:?}");
                    usable += 1;
                }
                let is_slow = lane_of(key).host.is_some_and(|host| host.starts_with("slow"));
                let takes = if is_slow { Duration::from_secs(3) + write } else { write };
                events.push(Reverse((after + takes, true, key)));
            }
        }
        assert_eq!(usable, 26);
        assert_eq!((queue.depth(), queue.in_flight()), (0, 0));
    }
}
