//! Many registries: how long until all are Ready, which resources that takes, and what remains afterwards.
//!
//! There are two scenarios, each for the operator and for the smallest operator. *Existing*: the registries exist and
//! were never validated before the program starts; the time starts with the program. *Created meanwhile*: the program
//! runs first, idle; the time starts with the first creation, and the time for the creation alone is another baseline.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use registry_testbed::AuditMark;

use crate::bed::Bed;
use crate::contender::{Contender, Kind};
use crate::objects::{self, Endpoint};
use crate::observer::Observer;
use crate::steady::{self, Steady};
use crate::table::thousands;
use crate::tally::{RegistryTally, Tally, mark};
use crate::usage::{Memory, Spent, Watch};

/// The deadline for any number of registries, to which a time per registry is added.
const PATIENCE: Duration = Duration::from_mins(1);
const PATIENCE_EACH: Duration = Duration::from_millis(30);
/// A pause after each measurement, so that leftover work ends, and to measure an idle operator.
const PAUSE: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(3);

/// The measurements for one size.
pub struct Scale {
    /// The number of registries.
    pub size: usize,
    /// Exchanges only, from the start of the process to the last response.
    pub exchanges: Spent,
    /// The creation of the registries only.
    pub creation: Spent,
    /// The registries existed before.
    pub existing: Pair,
    /// The registries were created while the program ran.
    pub created: Pair,
    /// The operator after all existing registries were Ready.
    pub settled: Settled,
    /// Its memory after all created registries were Ready.
    pub settled_meanwhile: Memory,
}

/// A scenario with both programs.
pub struct Pair {
    /// The smallest operator.
    pub floor: Outcome,
    /// The operator.
    pub operator: Outcome,
}

/// The measurements until all registries are Ready.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The time, and the CPU time of each process.
    pub spent: Spent,
    /// The program's memory before there was a registry, if it ran then.
    pub idle: Option<Memory>,
    /// Its memory when all were Ready.
    pub memory: Memory,
}

/// The measurements after all registries were Ready.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// From the last registry's becoming Ready to the last write.
    pub drain: Duration,
    /// All requests to the API server since the operator started.
    pub tally: Tally,
    /// All requests to the registry in this time.
    pub registry: RegistryTally,
    /// Its memory.
    pub memory: Memory,
    /// The steady state afterwards.
    pub steady: Option<Steady>,
}

/// Measures one size in several rounds, and returns the median of each value.
pub async fn measure(bed: &Bed, size: usize, rounds: usize) -> anyhow::Result<Scale> {
    let endpoint = Endpoint::Shared(bed.registry.host_port());
    let mut all = Rounds::default();
    for round in 1..=rounds {
        eprintln!("{} registries, round {round} of {rounds} …", thousands(size));
        all.exchanges.push(exchanges(bed, size).await?);
        all.existing_floor.push(
            existing(bed, &endpoint, size, Kind::LeastOperator, &mut all.creation).await?.end(bed).await?,
        );
        let start = Start::now(bed).await?;
        let operator = existing(bed, &endpoint, size, Kind::Operator, &mut all.creation).await?;
        all.settled.push(settle(bed, &start, &operator, round == rounds).await?);
        all.existing_operator.push(operator.end(bed).await?);
        all.created_floor.push(created(bed, &endpoint, size, Kind::LeastOperator).await?.end(bed).await?);
        let operator = created(bed, &endpoint, size, Kind::Operator).await?;
        steady::quiet(bed).await?;
        all.settled_meanwhile.push(Memory::of(operator.contender.id().await));
        all.created_operator.push(operator.end(bed).await?);
    }
    all.medians(size).context("there was no round")
}

/// The measurements of all rounds.
#[derive(Default)]
struct Rounds {
    exchanges: Vec<Spent>,
    creation: Vec<Spent>,
    existing_floor: Vec<Outcome>,
    existing_operator: Vec<Outcome>,
    created_floor: Vec<Outcome>,
    created_operator: Vec<Outcome>,
    settled: Vec<Settled>,
    settled_meanwhile: Vec<Memory>,
}

impl Rounds {
    fn medians(mut self, size: usize) -> Option<Scale> {
        let outcome = |outcomes| median(outcomes, |outcome: &Outcome| outcome.spent.elapsed);
        Some(Scale {
            size,
            exchanges: median(self.exchanges, |spent| spent.elapsed)?,
            creation: median(self.creation, |spent| spent.elapsed)?,
            existing: Pair {
                floor: outcome(self.existing_floor)?,
                operator: outcome(self.existing_operator)?,
            },
            created: Pair { floor: outcome(self.created_floor)?, operator: outcome(self.created_operator)? },
            // The steady state is only measured in the last round.
            settled: self.settled.pop()?,
            settled_meanwhile: median(self.settled_meanwhile, |memory| memory.resident)?,
        })
    }
}

/// Returns the element in the middle.
pub fn median<T, K: Ord>(mut all: Vec<T>, key: impl Fn(&T) -> K) -> Option<T> {
    all.sort_by_key(key);
    let middle = all.len() / 2;
    (middle < all.len()).then(|| all.swap_remove(middle))
}

/// A running program, with its measurements.
pub struct Running {
    contender: Contender,
    outcome: Outcome,
    all_ready: Instant,
}

impl Running {
    /// Stops it, and deletes the registries.
    pub async fn end(self, bed: &Bed) -> anyhow::Result<Outcome> {
        self.contender.stop().await?;
        objects::delete_all(&bed.client).await?;
        tokio::time::sleep(PAUSE).await;
        Ok(self.outcome)
    }
}

async fn exchanges(bed: &Bed, size: usize) -> anyhow::Result<Spent> {
    let mut watch = Watch::start(bed.processes().await);
    let floor = bed.start_contender(Kind::Exchanges(size)).await?;
    watch.add(&floor).await;
    floor.done().await?;
    let spent = watch.spent(Instant::now());
    floor.stop().await?;
    tokio::time::sleep(PAUSE).await;
    Ok(spent)
}

/// Creates the registries, then starts the program.
pub async fn existing(
    bed: &Bed,
    endpoint: &Endpoint,
    size: usize,
    kind: Kind,
    creation: &mut Vec<Spent>,
) -> anyhow::Result<Running> {
    let watch = Watch::start(bed.processes().await);
    objects::create_all(&bed.client, endpoint, size).await?;
    creation.push(watch.spent(Instant::now()));
    tokio::time::sleep(PAUSE).await;

    let mut observer = Observer::start(&bed.client).await?;
    let mut watch = Watch::start(bed.processes().await);
    let contender = bed.start_contender(kind).await?;
    watch.add(&contender).await;
    let all_ready = contender.while_running(observer.all_ready(size, patience(size))).await?;
    let outcome =
        Outcome { spent: watch.spent(all_ready), idle: None, memory: Memory::of(contender.id().await) };
    Ok(Running { contender, outcome, all_ready })
}

/// Starts the program, then creates the registries.
async fn created(bed: &Bed, endpoint: &Endpoint, size: usize, kind: Kind) -> anyhow::Result<Running> {
    let contender = bed.start_contender(kind).await?;
    contender.ready().await?;
    tokio::time::sleep(IDLE).await;
    let idle = Some(Memory::of(contender.id().await));

    let mut observer = Observer::start(&bed.client).await?;
    let mut watch = Watch::start(bed.processes().await);
    watch.add(&contender).await;
    let create = objects::create_all(&bed.client, endpoint, size);
    let see = contender.while_running(observer.all_ready(size, patience(size)));
    let ((), all_ready) = futures::future::try_join(create, see).await?;
    let outcome = Outcome { spent: watch.spent(all_ready), idle, memory: Memory::of(contender.id().await) };
    Ok(Running { contender, outcome, all_ready })
}

fn patience(size: usize) -> Duration {
    PATIENCE + PATIENCE_EACH * u32::try_from(size).unwrap_or(u32::MAX)
}

/// The positions of the logs before an operator was started.
struct Start {
    audit: AuditMark,
    registry: RegistryTally,
}

impl Start {
    async fn now(bed: &Bed) -> anyhow::Result<Self> {
        Ok(Self { audit: mark(bed).await?, registry: RegistryTally::so_far(bed) })
    }
}

async fn settle(bed: &Bed, start: &Start, operator: &Running, look_longer: bool) -> anyhow::Result<Settled> {
    let last_write = steady::quiet(bed).await?;
    Ok(Settled {
        drain: last_write.saturating_duration_since(operator.all_ready),
        tally: Tally::since(bed, &start.audit)?,
        registry: RegistryTally::so_far(bed).minus(start.registry),
        memory: Memory::of(operator.contender.id().await),
        steady: if look_longer { Some(steady::measure(bed, &operator.contender).await?) } else { None },
    })
}
