//! The latency of one registry beside a storm: many registries whose servers fail are created at once, in the same scope,
//! and in the first seconds usable ones are created one after another.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::bed::Bed;
use crate::contender::{Contender, Kind};
use crate::failing::FailingServers;
use crate::latency::percentile;
use crate::objects;
use crate::observer::Observer;
use crate::table::{self, Row, milliseconds, seconds, thousands};

const ROUNDS: usize = 3;
/// How long usable registries are created, from the storm's beginning.
const FIRST_SECONDS: Duration = Duration::from_secs(8);
/// The number of failing registries that are created at the same time.
const CREATORS: usize = 32;
const PATIENCE: Duration = Duration::from_secs(30);

/// The measurements of all rounds.
pub struct Storm {
    /// The number of failing registries.
    pub size: usize,
    /// The latencies of usable registries, sorted.
    pub latencies: Vec<Duration>,
    /// How long the API server took to create each of them, sorted.
    creations: Vec<Duration>,
    rounds: Vec<Round>,
}

/// What a storm did in the time in which latencies were measured.
struct Round {
    /// The time in which all failing registries were created.
    created_in: Duration,
    /// How many of them had a result.
    failed: usize,
}

/// Measures the latency beside `size` failing registries.
pub async fn measure(bed: &Bed, size: usize) -> anyhow::Result<Storm> {
    let servers = FailingServers::start(bed.authority())?;
    let mut storm = Storm { size, latencies: Vec::new(), creations: Vec::new(), rounds: Vec::new() };
    for round in 1..=ROUNDS {
        eprintln!("a storm of {} failing registries, round {round} of {ROUNDS} …", thousands(size));
        storm.round(bed, &servers).await?;
    }
    storm.latencies.sort();
    storm.creations.sort();
    Ok(storm)
}

impl Storm {
    async fn round(&mut self, bed: &Bed, servers: &FailingServers) -> anyhow::Result<()> {
        let operator = bed.start_contender(Kind::Operator).await?;
        operator.ready().await?;
        let mut observer = Observer::start(&bed.client).await?;
        // The first one shows that the operator is at work, and isn't counted.
        self.one(bed, &operator, &mut observer, 0).await?;
        self.latencies.pop();
        self.creations.pop();
        let start = Instant::now();
        let storm = create_failing(bed, servers, self.size, start);
        let (created_in, ()) =
            futures::future::try_join(storm, self.one_after_another(bed, &operator, &mut observer, start))
                .await?;
        self.rounds.push(Round { created_in, failed: observer.failed() });
        operator.stop().await?;
        objects::delete_all(&bed.client).await
    }

    async fn one_after_another(
        &mut self,
        bed: &Bed,
        operator: &Contender,
        observer: &mut Observer,
        start: Instant,
    ) -> anyhow::Result<()> {
        let mut number = 1;
        while start.elapsed() < FIRST_SECONDS {
            self.one(bed, operator, observer, number).await?;
            number += 1;
        }
        Ok(())
    }

    async fn one(
        &mut self,
        bed: &Bed,
        operator: &Contender,
        observer: &mut Observer,
        number: usize,
    ) -> anyhow::Result<()> {
        let manifest = objects::manifest(&format!("bench-{number:05}"), &bed.registry.host_port());
        let start = Instant::now();
        objects::create(&bed.client, manifest).await?;
        self.creations.push(start.elapsed());
        let ready = operator.while_running(observer.all_ready(number + 1, PATIENCE)).await?;
        self.latencies.push(ready - start);
        Ok(())
    }

    /// Prints a table.
    pub fn print(&self) {
        table::title(&format!(
            "One registry ({} times) in the first {} s of a storm of {} failing ones",
            self.latencies.len(),
            FIRST_SECONDS.as_secs(),
            thousands(self.size)
        ));
        let row = |name: &str, sorted: &[Duration]| -> Row {
            let figures = [50, 99, 100].map(|percent| milliseconds(percentile(sorted, percent)));
            std::iter::once(name.to_owned()).chain(figures).collect()
        };
        table::print(
            &["", "p50", "p99", "longest"],
            &[
                row("from its creation until Ready", &self.latencies),
                row("of it the API server's creation", &self.creations),
            ],
        );
        let each = self.rounds.iter().map(|Round { created_in, failed }| {
            format!("created in {}, {} failed meanwhile", seconds(*created_in), thousands(*failed))
        });
        println!("  The storms: {}.", each.collect::<Vec<_>>().join("; "));
    }
}

/// Creates all failing registries, and returns how long that took.
async fn create_failing(
    bed: &Bed,
    servers: &FailingServers,
    size: usize,
    start: Instant,
) -> anyhow::Result<Duration> {
    stream::iter(0..size)
        .map(|number| {
            let manifest = objects::manifest(&format!("storm-{number:05}"), &servers.host_port(number));
            objects::create(&bed.client, manifest)
        })
        .buffer_unordered(CREATORS)
        .try_collect::<()>()
        .await?;
    Ok(start.elapsed())
}
