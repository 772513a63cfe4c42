//! `make bench`: measures the operator's speed, resource usage and writes, and compares them with two baselines
//! ("floors").
//!
//! The baselines are written for this bench (see [`floor`]): a minimal HTTP client that has the same exchanges with the
//! registry at the same concurrency, and the smallest possible operator, which is that client with a list, a watch and
//! one status patch per object, over as many connections to the API server as the operator has. All run as separate
//! processes, one after another, with the same API server, etcd and registry. Only ratios within one run are
//! meaningful, because the machine is shared with the servers and other work.
//!
//! `cargo bench` passes `--bench`. Without it (`cargo test --all-targets`), the program does nothing.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what a bench is for")]

mod aims;
mod arguments;
mod bed;
mod by_name;
mod contender;
mod failing;
mod floor;
mod latency;
mod names;
mod objects;
mod observer;
mod report;
mod scale;
mod steady;
mod storm;
mod table;
mod tally;
mod tenants;
mod usage;
mod wire;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use aims::Measured;
use arguments::Arguments;
use bed::Bed;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.floor {
        Some(plan) => floor::run(plan),
        None if arguments.bench => bench(&arguments),
        None => return ExitCode::SUCCESS,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let whole = tokio::time::timeout(arguments.deadline(), measure_all(arguments));
        tokio::select! {
            result = whole => result.context("the bench did not end in its time (--minutes)")?,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })
}

async fn measure_all(arguments: &Arguments) -> anyhow::Result<()> {
    let bed = Bed::start(arguments).await?;
    bed.describe();
    let mut measured = Measured::default();
    if arguments.latency > 0 {
        let latency = latency::measure(&bed, arguments.latency).await?;
        latency.print();
        measured.latency = Some(latency);
    }
    for size in arguments.sizes.iter().filter(|size| **size > 0) {
        let scale = scale::measure(&bed, *size, arguments.rounds_of(*size)).await?;
        report::print(&scale);
        measured.scales.push(scale);
    }
    measure_neighbors(arguments, &bed, &mut measured).await?;
    aims::print(&measured);
    Ok(())
}

/// Measures the operator with other objects and servers than one registry by its address.
async fn measure_neighbors(arguments: &Arguments, bed: &Bed, measured: &mut Measured) -> anyhow::Result<()> {
    if arguments.named > 0 && bed.names().is_some() {
        let rounds = arguments.rounds_of(arguments.named);
        let by_name = by_name::measure(bed, arguments.named, rounds).await?;
        by_name.print();
        measured.by_name = Some(by_name);
    }
    if arguments.storm > 0 {
        let storm = storm::measure(bed, arguments.storm).await?;
        storm.print();
        measured.storm = Some(storm);
    }
    if arguments.tenants > 0 {
        let tenants = tenants::measure(bed, arguments.tenants).await?;
        tenants.print();
        measured.tenants = Some(tenants);
    }
    Ok(())
}
