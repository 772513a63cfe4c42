//! Many registries: how long until all are Ready, what that takes of whom, and what is left when they are.
//!
//! Two ways, each for the operator and for the least operator. *Existing*: the registries were there, never validated,
//! before the program is started; the time runs from its start. *Created meanwhile*: the program is there first, and
//! idle; the time runs from the first creation, and the same creation alone is the floor below the floor.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use registry_testbed::AuditMark;

use crate::bed::Bed;
use crate::contender::{Contender, Kind};
use crate::objects;
use crate::observer::Observer;
use crate::steady::{self, Steady};
use crate::table::thousands;
use crate::tally::{RegistryTally, Tally, mark};
use crate::usage::{Memory, Spent, Watch};

/// What any crowd may take, and what it may take more for each registry.
const PATIENCE: Duration = Duration::from_mins(1);
const PATIENCE_EACH: Duration = Duration::from_millis(30);
/// Pauses in which what was left over by one measurement ends, and an operator shows what it needs when idle.
const PAUSE: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(3);

/// What was measured of one size.
pub struct Scale {
    /// How many registries.
    pub size: usize,
    /// Bare exchanges, from the start of the process to the last answer.
    pub exchanges: Spent,
    /// The creation alone.
    pub creation: Spent,
    /// The registries were there before.
    pub existing: Pair,
    /// The registries were created meanwhile.
    pub created: Pair,
    /// The operator when all that existed is settled.
    pub settled: Settled,
    /// Its memory when all that was created meanwhile is settled.
    pub settled_meanwhile: Memory,
}

/// The same with both contenders.
pub struct Pair {
    /// The least operator.
    pub floor: Outcome,
    /// The operator.
    pub operator: Outcome,
}

/// Until all are Ready.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The time, and whose.
    pub spent: Spent,
    /// The contender's memory before there was any registry, if it ran then.
    pub idle: Option<Memory>,
    /// Its memory when all were Ready.
    pub memory: Memory,
}

/// After all were Ready.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// From the last registry's being Ready until the last write.
    pub drain: Duration,
    /// Everything asked of the API server from the operator's start.
    pub tally: Tally,
    /// Everything asked of the registry in that time.
    pub registry: RegistryTally,
    /// Its memory.
    pub memory: Memory,
    /// A while later.
    pub steady: Option<Steady>,
}

/// Measures one size in some rounds; keeps the median one of each figure.
pub async fn measure(bed: &Bed, size: usize, rounds: usize) -> anyhow::Result<Scale> {
    let mut all = Rounds::default();
    for round in 1..=rounds {
        eprintln!("{} registries, round {round} of {rounds} …", thousands(size));
        all.exchanges.push(exchanges(bed, size).await?);
        all.existing_floor
            .push(existing(bed, size, Kind::LeastOperator, &mut all.creation).await?.end(bed).await?);
        let start = Start::now(bed).await?;
        let operator = existing(bed, size, Kind::Operator, &mut all.creation).await?;
        all.settled.push(settle(bed, &start, &operator, round == rounds).await?);
        all.existing_operator.push(operator.end(bed).await?);
        all.created_floor.push(created(bed, size, Kind::LeastOperator).await?.end(bed).await?);
        let operator = created(bed, size, Kind::Operator).await?;
        steady::quiet(bed).await?;
        all.settled_meanwhile.push(Memory::of(operator.contender.id().await));
        all.created_operator.push(operator.end(bed).await?);
    }
    all.medians(size).context("there was no round")
}

/// What was measured, round by round.
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
            // The last round's is the one that was looked at for a while longer.
            settled: self.settled.pop()?,
            settled_meanwhile: median(self.settled_meanwhile, |memory| memory.resident)?,
        })
    }
}

fn median<T, K: Ord>(mut all: Vec<T>, key: impl Fn(&T) -> K) -> Option<T> {
    all.sort_by_key(key);
    let middle = all.len() / 2;
    (middle < all.len()).then(|| all.swap_remove(middle))
}

/// A contender that still runs, and what it did.
struct Running {
    contender: Contender,
    outcome: Outcome,
    all_ready: Instant,
}

impl Running {
    /// Ends it, and removes the registries.
    async fn end(self, bed: &Bed) -> anyhow::Result<Outcome> {
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

/// Creates the registries, then starts the contender.
async fn existing(bed: &Bed, size: usize, kind: Kind, creation: &mut Vec<Spent>) -> anyhow::Result<Running> {
    let watch = Watch::start(bed.processes().await);
    objects::create_all(&bed.client, &bed.registry.host_port(), size).await?;
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

/// Starts the contender, then creates the registries.
async fn created(bed: &Bed, size: usize, kind: Kind) -> anyhow::Result<Running> {
    let contender = bed.start_contender(kind).await?;
    contender.ready().await?;
    tokio::time::sleep(IDLE).await;
    let idle = Some(Memory::of(contender.id().await));

    let mut observer = Observer::start(&bed.client).await?;
    let mut watch = Watch::start(bed.processes().await);
    watch.add(&contender).await;
    let host_port = bed.registry.host_port();
    let create = objects::create_all(&bed.client, &host_port, size);
    let see = contender.while_running(observer.all_ready(size, patience(size)));
    let ((), all_ready) = futures::future::try_join(create, see).await?;
    let outcome = Outcome { spent: watch.spent(all_ready), idle, memory: Memory::of(contender.id().await) };
    Ok(Running { contender, outcome, all_ready })
}

fn patience(size: usize) -> Duration {
    PATIENCE + PATIENCE_EACH * u32::try_from(size).unwrap_or(u32::MAX)
}

/// Where the logs were before an operator was started.
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
