//! The steady state: waits for the last write, and then counts writes for a while. There should be none.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::bed::Bed;
use crate::contender::Contender;
use crate::tally::{Tally, mark};
use crate::usage::{Memory, cpu};

/// If there is no write for this long, the last one is over.
const QUIET: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_mins(3);

/// Waits until there are no writes, and returns when the last write was seen.
pub async fn quiet(bed: &Bed) -> anyhow::Result<Instant> {
    let start = Instant::now();
    let mut last = start;
    let mut since = mark(bed).await?;
    while last.elapsed() < QUIET {
        tokio::time::sleep(QUIET / 10).await;
        let now = mark(bed).await?;
        if Tally::since(bed, &since)?.writes() > 0 {
            last = Instant::now();
        }
        since = now;
        if start.elapsed() > PATIENCE {
            bail!("still writing {PATIENCE:?} after all registries are Ready");
        }
    }
    Ok(last)
}

/// What an operator does in the steady state.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// The duration of the measurement.
    pub time: Duration,
    /// The requests in this time.
    pub tally: Tally,
    /// The CPU time in this time.
    pub cpu: Duration,
    /// The memory at the end.
    pub memory: Memory,
}

/// Measures an operator in the steady state.
pub async fn measure(bed: &Bed, operator: &Contender) -> anyhow::Result<Steady> {
    let (since, id) = (mark(bed).await?, operator.id().await);
    let before = cpu(id);
    tokio::time::sleep(bed.steady).await;
    let tally = Tally::since(bed, &since)?;
    Ok(Steady { time: bed.steady, tally, cpu: cpu(id).saturating_sub(before), memory: Memory::of(id) })
}
