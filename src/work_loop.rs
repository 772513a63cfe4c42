//! The loop of a controller, written once: events come in, keys wait in a queue for their turn, a task works on each, and its result
//! goes back to the controller. The loop owns the tasks; the controller owns everything that it knows.

use std::{hash::Hash, pin::pin, time::Duration};

use futures::{Stream, StreamExt, future::BoxFuture};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior},
};

use crate::queue::{Queue, until};

/// What a controller does in the [`run`] loop. All of it happens in one task, so that a controller needs no locks.
pub trait Controller {
    /// What is worked on; one task at a time works on a key.
    type Key: Clone + Eq + Hash + Send + 'static;
    /// Who takes turns.
    type Group: Clone + Eq + Hash;
    /// The hosts that work may have to wait for.
    type Host: Clone + Eq + Hash;
    /// What the controller hears of the world.
    type Event;
    /// The result of work on a key.
    type Report: Send + 'static;

    /// Returns the queue of keys.
    fn queue(&mut self) -> &mut Queue<Self::Key, Self::Group, Self::Host>;

    /// Whether enough is known to start work.
    fn is_synced(&self) -> bool;

    /// Handles an event.
    fn handle(&mut self, event: Self::Event);

    /// Decides what to do about a key whose turn it is, after it was ready for the time `waited`.
    fn start(&mut self, key: &Self::Key, waited: Duration) -> Turn<Self::Report>;

    /// Takes the result of the work on a key. Returns how long until there is something to do again, if there is.
    fn complete(&mut self, key: &Self::Key, report: Self::Report) -> Option<Duration>;

    /// Does what is done from time to time.
    fn tick(&mut self);
}

/// What a controller does with a turn.
pub enum Turn<R> {
    /// The key is worked on.
    Work(BoxFuture<'static, R>),
    /// There is nothing to do now, but there is after this time, if one is given.
    Pass(Option<Duration>),
}

/// Runs a controller until dropped, and calls its `tick` after each `period`. Work in flight ends with the loop.
pub async fn run<C: Controller>(mut controller: C, events: impl Stream<Item = C::Event>, period: Duration) {
    let (mut events, mut workers) = (pin!(events), JoinSet::new());
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        start_workers(&mut controller, &mut workers);
        let due = controller.queue().next_due();
        // A fixed order is repeatable in simulations. Neither ticks nor workers, which are few, can hold up the events.
        tokio::select! {
            biased;
            _ = ticks.tick() => controller.tick(),
            Some(finished) = workers.join_next() => complete(&mut controller, finished),
            Some(event) = events.next() => controller.handle(event),
            () = until(due) => {}
        }
    }
}

/// Starts a worker for each key whose turn it is, as long as there are free places.
fn start_workers<C: Controller>(controller: &mut C, workers: &mut JoinSet<(C::Key, C::Report)>) {
    if !controller.is_synced() {
        return;
    }
    while let Some((key, waited)) = controller.queue().next(Instant::now()) {
        match controller.start(&key, waited) {
            Turn::Work(work) => drop(workers.spawn(async move { (key, work.await) })),
            Turn::Pass(again) => controller.queue().done(&key, Instant::now(), again),
        }
    }
}

fn complete<C: Controller>(controller: &mut C, finished: Result<(C::Key, C::Report), JoinError>) {
    match finished {
        Ok((key, report)) => {
            let again = controller.complete(&key, report);
            controller.queue().done(&key, Instant::now(), again);
        }
        // Only in tests: a release aborts on a panic.
        Err(error) => tracing::error!(%error, "a worker failed"),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::FutureExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::queue::{Lane, QueueLimits};

    const WORK: Duration = Duration::from_secs(3);
    const PERIOD: Duration = Duration::from_hours(1);

    /// Works on what it is sent for three seconds, and reports what it does and when.
    struct Recorder {
        queue: Queue<&'static str, (), Infallible>,
        synced: bool,
        again: Option<Duration>,
        began: Instant,
        log: mpsc::UnboundedSender<(u64, String)>,
    }

    impl Recorder {
        fn log(&self, text: &str) {
            self.log.send((self.began.elapsed().as_secs(), text.to_owned())).unwrap();
        }
    }

    impl Controller for Recorder {
        type Key = &'static str;
        type Group = ();
        type Host = Infallible;
        type Event = &'static str;
        type Report = ();

        fn queue(&mut self) -> &mut Queue<&'static str, (), Infallible> {
            &mut self.queue
        }

        fn is_synced(&self) -> bool {
            self.synced
        }

        fn handle(&mut self, event: &'static str) {
            if event == "synced" {
                self.synced = true;
            } else {
                self.queue.now(&event, &Lane { group: (), host: None }, Instant::now());
            }
        }

        fn start(&mut self, key: &&'static str, _: Duration) -> Turn<()> {
            self.log(&format!("start {key}"));
            if *key == "idle" { Turn::Pass(None) } else { Turn::Work(tokio::time::sleep(WORK).boxed()) }
        }

        fn complete(&mut self, key: &&'static str, (): ()) -> Option<Duration> {
            self.log(&format!("complete {key}"));
            self.again.take()
        }

        fn tick(&mut self) {
            self.log("tick");
        }
    }

    /// What happens in an hour in which these events come, each so many seconds after the one before.
    async fn log_of(again: Option<Duration>, events: &[(u64, &'static str)]) -> Vec<(u64, String)> {
        let (log, mut logged) = mpsc::unbounded_channel();
        let queue = Queue::new(QueueLimits { places: 2, at_a_host: 1 });
        let recorder = Recorder { queue, synced: false, again, began: Instant::now(), log };
        let events = futures::stream::iter(events.to_vec()).then(async |(pause, event)| {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            event
        });
        let _ = tokio::time::timeout(PERIOD / 2, run(recorder, events, PERIOD)).await;
        std::iter::from_fn(|| logged.try_recv().ok()).collect()
    }

    fn logged(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
        lines.iter().map(|(second, text)| (*second, (*text).to_owned())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn starts_no_work_before_it_is_synced() {
        let log = log_of(None, &[(1, "a"), (1, "synced")]).await;
        assert_eq!(log, logged(&[(0, "tick"), (2, "start a"), (5, "complete a")]));
    }

    #[tokio::test(start_paused = true)]
    async fn works_on_a_key_once_at_a_time() {
        let log = log_of(None, &[(0, "synced"), (1, "a"), (1, "a"), (0, "a")]).await;
        let twice = [(0, "tick"), (1, "start a"), (4, "complete a"), (4, "start a"), (7, "complete a")];
        assert_eq!(log, logged(&twice));
    }

    #[tokio::test(start_paused = true)]
    async fn works_on_no_more_keys_than_places() {
        let log = log_of(None, &[(0, "synced"), (1, "a"), (1, "b"), (1, "c")]).await;
        let starts: Vec<u64> =
            log.iter().filter(|(_, text)| text.starts_with("start")).map(|(second, _)| *second).collect();
        assert_eq!(starts, [1, 2, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn works_again_after_the_time_that_the_result_asks_for() {
        let log = log_of(Some(Duration::from_mins(1)), &[(0, "synced"), (1, "a")]).await;
        let twice = [(0, "tick"), (1, "start a"), (4, "complete a"), (64, "start a"), (67, "complete a")];
        assert_eq!(log, logged(&twice));
    }

    #[tokio::test(start_paused = true)]
    async fn passes_a_turn_without_work() {
        let log = log_of(None, &[(0, "synced"), (1, "idle"), (1, "idle")]).await;
        assert_eq!(log, logged(&[(0, "tick"), (1, "start idle"), (2, "start idle")]));
    }
}
