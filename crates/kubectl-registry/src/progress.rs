//! A line on standard error while something takes long; only where somebody looks, and gone when it is done.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use registry_check::session::Progress;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::page::clean;

/// What takes no longer than this needs no line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows it on standard error.
#[derive(Clone, Copy, Debug)]
pub struct OnStandardError;

impl Progress for OnStandardError {
    async fn shown<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        shown(what, work).await
    }
}

/// Waits for `work`, and says so from time to time.
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

/// Puts `line` where the last one was. Nothing is lost if it can't be seen.
fn print_over(line: &str) {
    let mut terminal = io::stderr().lock();
    let _ = write!(terminal, "\r\u{1b}[2K{line}");
    let _ = terminal.flush();
}
