//! A line on standard error while something takes long. It only appears on a terminal, and disappears when the work is
//! done.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use registry_check::session::Progress;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::page::clean;

/// The time before the line appears.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows progress on standard error.
#[derive(Clone, Copy, Debug)]
pub struct OnStandardError;

impl Progress for OnStandardError {
    async fn shown<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        shown(what, work).await
    }
}

/// Waits for `work`, and shows `what` and the elapsed time.
pub async fn shown<T>(what: &str, work: impl Future<Output = T>) -> T {
    if !io::stderr().is_terminal() {
        return work.await;
    }
    let begun = Instant::now();
    let mut ticks = interval_at(begun + PATIENCE, PATIENCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut told = false;
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                if told {
                    print_over("");
                }
                return done;
            }
            _ = ticks.tick() => {
                told = true;
                print_over(&format!("{} … {} s", clean(what), begun.elapsed().as_secs()));
            }
        }
    }
}

/// Replaces the previous line. Ignores errors.
fn print_over(line: &str) {
    let mut terminal = io::stderr().lock();
    let _ = write!(terminal, "\r\u{1b}[2K{line}");
    let _ = terminal.flush();
}
