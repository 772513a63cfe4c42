//! The latency of one registry: from sending its creation until a watch shows it as Ready.

use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::contender::Kind;
use crate::objects::{self, Endpoint};
use crate::observer::Observer;
use crate::table::{self, Row};

/// The number of blocks in which the operator and its baseline take turns.
const BLOCKS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(10);

/// The latencies, sorted.
pub struct Latency {
    /// Latencies of the smallest operator.
    pub floor: Vec<Duration>,
    /// Latencies of the operator.
    pub operator: Vec<Duration>,
}

/// Creates `count` registries one after another with the operator, and as many with its baseline.
pub async fn measure(bed: &Bed, count: usize) -> anyhow::Result<Latency> {
    let endpoint = Endpoint::Shared(bed.registry.host_port());
    let mut latency = Latency { floor: Vec::new(), operator: Vec::new() };
    for _ in 0..BLOCKS {
        latency.floor.extend(block(bed, Kind::LeastOperator, &endpoint, count.div_ceil(BLOCKS)).await?);
        latency.operator.extend(block(bed, Kind::Operator, &endpoint, count.div_ceil(BLOCKS)).await?);
    }
    latency.floor.sort();
    latency.operator.sort();
    Ok(latency)
}

/// Creates `count` registries one after another, and returns the latency of each.
pub async fn block(
    bed: &Bed,
    kind: Kind,
    endpoint: &Endpoint,
    count: usize,
) -> anyhow::Result<Vec<Duration>> {
    let contender = bed.start_contender(kind).await?;
    contender.ready().await?;
    let mut observer = Observer::start(&bed.client).await?;
    let mut latencies = Vec::new();
    // The first one shows that the contender is at work, and isn't counted.
    for number in 0..=count {
        let manifest = objects::manifest(&format!("bench-{number:05}"), &endpoint.host_port(number));
        let start = Instant::now();
        objects::create(&bed.client, manifest).await?;
        let ready = contender.while_running(observer.all_ready(number + 1, PATIENCE)).await?;
        if number > 0 {
            latencies.push(ready - start);
        }
    }
    contender.stop().await?;
    objects::delete_all(&bed.client).await?;
    Ok(latencies)
}

/// Returns a percentile of sorted latencies.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

impl Latency {
    /// Prints a table.
    pub fn print(&self) {
        table::title(&format!(
            "One registry, from the sending of its creation until a watch shows it Ready ({} times)",
            self.operator.len()
        ));
        table::print(
            &["", "p50", "p99", "longest"],
            &[row("floor 2: least operator", &self.floor), row("operator", &self.operator)],
        );
    }
}

fn row(name: &str, latencies: &[Duration]) -> Row {
    let figures = [50, 99, 100].map(|percent| table::milliseconds(percentile(latencies, percent)));
    std::iter::once(name.to_owned()).chain(figures).collect()
}
