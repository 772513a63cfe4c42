//! The time after: until the last write is written, and then a while in which there should be none.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::bed::Bed;
use crate::contender::Contender;
use crate::tally::{Tally, mark};
use crate::usage::{Memory, cpu};

/// No write for so long is quiet.
const QUIET: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_mins(3);

/// Waits until nothing was written for a while, and says when the last write was seen.
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

/// What a settled operator does.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// For how long it was looked at.
    pub time: Duration,
    /// What it asked in that time.
    pub tally: Tally,
    /// What it needed for that.
    pub cpu: Duration,
    /// Its memory at the end.
    pub memory: Memory,
}

/// Looks at a settled operator for a while.
pub async fn measure(bed: &Bed, operator: &Contender) -> anyhow::Result<Steady> {
    let (since, id) = (mark(bed).await?, operator.id().await);
    let before = cpu(id);
    tokio::time::sleep(bed.steady).await;
    let tally = Tally::since(bed, &since)?;
    Ok(Steady { time: bed.steady, tally, cpu: cpu(id).saturating_sub(before), memory: Memory::of(id) })
}
