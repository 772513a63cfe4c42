//! The latency of one registry beside a storm: many registries whose servers fail are created at once, in the same scope,
//! and in the first seconds usable ones are created at a steady pace.
//!
//! All times are the API server's own, from its audit log. A watch of the bench's would be ended in the storm, as the operator's are.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use registry_testbed::AuditEvent;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

use crate::bed::Bed;
use crate::contender::Kind;
use crate::failing::FailingServers;
use crate::latency::percentile;
use crate::objects;
use crate::table::{self, Row, milliseconds, seconds, thousands};
use crate::tally::mark;

const ROUNDS: usize = 3;
/// How long usable registries are created, from the storm's beginning.
const FIRST_SECONDS: Duration = Duration::from_secs(8);
/// The time between two of them.
const PACE: Duration = Duration::from_millis(100);
/// The number of failing registries that are created at the same time: with more, two processors have no time for anything else.
const CREATORS: usize = 4;

/// The measurements of all rounds.
pub struct Storm {
    /// The number of failing registries.
    pub size: usize,
    /// From the API server's answer to the creation of a usable registry to its answer to the status with Ready, sorted.
    pub latencies: Vec<Duration>,
    /// How long the API server took to create each of them, sorted.
    creations: Vec<Duration>,
    rounds: Vec<Round>,
}

/// What a storm did.
struct Round {
    /// The time in which all failing registries were created.
    created_in: Duration,
    /// How many of them had a status when the last usable registry was created.
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
        let since = mark(bed).await?;
        // The first one shows that the operator is at work, and isn't counted.
        create_usable(bed, 0).await?;
        let is_meant = |event: &AuditEvent| is_creation(event) || is_status(event);
        let audit = bed.audit()?;
        let count = |expected: usize| {
            move |events: &[AuditEvent]| {
                let ready = Answers::of(events).map_err(|error| error.to_string())?.ready.len();
                if ready >= expected { Ok(()) } else { Err(format!("{ready} of {expected} are")) }
            }
        };
        operator
            .while_running(async {
                Ok(audit.until("the operator is at work", &since, is_meant, count(1)).await?)
            })
            .await?;
        let since = mark(bed).await?;
        let start = Instant::now();
        let (created_in, usable) = operator
            .while_running(futures::future::try_join(
                create_failing(bed, servers, self.size, start),
                create_all_usable(bed, start),
            ))
            .await?;
        let failed = Answers::of(&audit.since(&since)?)?.failed;
        let events = operator
            .while_running(async {
                Ok(audit.until("the usable registries are Ready", &since, is_meant, count(usable)).await?)
            })
            .await?;
        let answers = Answers::of(&events)?;
        for (name, ready) in &answers.ready {
            let (received, created) =
                answers.created.get(name).context("a creation isn't in the audit log")?;
            self.creations.push(between(*received, *created));
            self.latencies.push(between(*created, *ready));
        }
        self.rounds.push(Round { created_in, failed });
        operator.stop().await?;
        objects::delete_all(&bed.client).await
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
                row("its creation by the API server", &self.creations),
                row("from then until Ready", &self.latencies),
            ],
        );
        let each = self.rounds.iter().map(|Round { created_in, failed }| {
            format!("created in {}, {} failed meanwhile", seconds(*created_in), thousands(*failed))
        });
        println!("  The storms: {}.", each.collect::<Vec<_>>().join("; "));
    }
}

/// The API server's answers to the requests about registries.
#[derive(Default)]
struct Answers {
    /// Of each usable registry, the times of the request that created it and of its answer.
    created: HashMap<String, (Timestamp, Timestamp)>,
    /// Of each usable registry, the time of the first answer to a status in which it is Ready.
    ready: HashMap<String, Timestamp>,
    /// The number of statuses of failing registries.
    failed: usize,
}

impl Answers {
    fn of(events: &[AuditEvent]) -> anyhow::Result<Self> {
        let mut answers = Self::default();
        for event in events {
            let is_usable = event.name.starts_with("bench-");
            let completed = event.completed.parse::<Timestamp>()?;
            if is_creation(event) && is_usable {
                answers.created.insert(event.name.clone(), (event.received.parse()?, completed));
            } else if is_status(event) && is_usable && is_ready(&event.content) {
                answers.ready.entry(event.name.clone()).or_insert(completed);
            } else if is_status(event) && !is_usable {
                answers.failed += 1;
            }
        }
        Ok(answers)
    }
}

fn is_creation(event: &AuditEvent) -> bool {
    event.verb == "create" && is_answered(event) && event.subresource.is_empty()
}

fn is_status(event: &AuditEvent) -> bool {
    event.verb == "patch" && is_answered(event) && event.subresource == "status"
}

fn is_answered(event: &AuditEvent) -> bool {
    event.resource == "systemregistries" && event.stage == "ResponseComplete" && event.succeeded()
}

fn is_ready(content: &Value) -> bool {
    let conditions = content["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
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

/// Creates usable registries in the first seconds, and returns how many.
async fn create_all_usable(bed: &Bed, start: Instant) -> anyhow::Result<usize> {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while start.elapsed() < FIRST_SECONDS {
        pace.tick().await;
        number += 1;
        create_usable(bed, number).await?;
    }
    Ok(number)
}

async fn create_usable(bed: &Bed, number: usize) -> anyhow::Result<()> {
    let manifest = objects::manifest(&format!("bench-{number:05}"), &bed.registry.host_port());
    objects::create(&bed.client, manifest).await
}
