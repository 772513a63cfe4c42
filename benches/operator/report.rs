//! Prints the measurements of one size as tables.

use std::time::Duration;

use crate::scale::{Outcome, Scale};
use crate::table::{self, Row, mebibytes, per, seconds, thousands, times};
use crate::usage::Spent;

const PROCESSES: [&str; 4] = ["apiserver", "etcd", "registry", "bench"];

/// Prints all measurements of one size.
pub fn print(scale: &Scale) {
    time(scale);
    memory(scale);
    requests(scale);
}

fn time(scale: &Scale) {
    table::title(&format!("{} registries until all are Ready; CPU seconds of whom", thousands(scale.size)));
    let header = ["", "time", "/ floor 2", "itself", "apiserver", "etcd", "registry", "bench", "cores"];
    let (existing, created) = (&scale.existing, &scale.created);
    let against = |pair_floor: &Outcome| Some(pair_floor.spent.elapsed);
    table::print(
        &header,
        &[
            line("floor 1: bare exchanges", &scale.exchanges, against(&existing.floor)),
            line("there before: floor 2, least operator", &existing.floor.spent, against(&existing.floor)),
            line("there before: operator", &existing.operator.spent, against(&existing.floor)),
            line("creation alone", &scale.creation, against(&created.floor)),
            line("created meanwhile: floor 2", &created.floor.spent, against(&created.floor)),
            line("created meanwhile: operator", &created.operator.spent, against(&created.floor)),
        ],
    );
}

fn line(name: &str, spent: &Spent, floor: Option<Duration>) -> Row {
    let of = |name: &str| spent.cpu.iter().find(|(process, _)| *process == name).map(|(_, time)| *time);
    let itself = of("operator").or(of("floor"));
    let all: Duration = spent.cpu.iter().map(|(_, time)| *time).sum();
    let mut row = vec![
        name.to_owned(),
        seconds(spent.elapsed),
        floor.map_or_else(String::new, |floor| times(spent.elapsed, floor)),
        itself.map_or_else(String::new, seconds),
    ];
    row.extend(PROCESSES.map(|process| of(process).map_or_else(String::new, seconds)));
    row.push(format!("{:.1}", table::ratio(all, spent.elapsed)));
    row
}

fn memory(scale: &Scale) {
    let row = |name: &str, resident: u64, anonymous: u64, peak: u64| {
        vec![name.to_owned(), mebibytes(resident), mebibytes(anonymous), mebibytes(peak)]
    };
    let (settled, meanwhile) = (scale.settled.memory, scale.settled_meanwhile);
    let floor = scale.existing.floor.memory;
    let mut rows = Vec::new();
    if let Some(idle) = scale.created.operator.idle {
        rows.push(row("operator, idle without a registry", idle.resident, idle.anonymous, idle.peak));
    }
    rows.push(row("there before, settled", settled.resident, settled.anonymous, settled.peak));
    if let Some(steady) = &scale.settled.steady {
        let (time, memory) = (steady.time.as_secs(), steady.memory);
        rows.push(row(&format!("{time} s later"), memory.resident, memory.anonymous, memory.peak));
    }
    rows.push(row("created meanwhile, settled", meanwhile.resident, meanwhile.anonymous, meanwhile.peak));
    rows.push(row("floor 2, all Ready", floor.resident, floor.anonymous, floor.peak));
    table::title(&format!("{} registries: the operator's memory", thousands(scale.size)));
    table::print(&["", "RSS", "of it anonymous", "peak RSS"], &rows);
}

fn requests(scale: &Scale) {
    let (settled, size) = (&scale.settled, scale.size);
    let (tally, registry) = (&settled.tally, settled.registry);
    let each = |count: usize| format!("{:.3}", per(count, size));
    table::title(&format!("{} registries: what was asked, per registry", thousands(size)));
    let mut rows: Vec<Row> = [
        ("API server: all requests", tally.requests()),
        ("  writes", tally.writes()),
        ("    status", tally.status),
        ("    finalizer", tally.finalizer),
        ("    Events", tally.events),
        ("    anything else", tally.other),
        ("  reads", tally.reads),
        ("  refused", tally.refused),
        ("registry: requests", registry.requests),
        ("  granted", registry.granted),
    ]
    .map(|(name, count)| vec![name.to_owned(), each(count), thousands(count)])
    .into();
    rows.push(vec!["last write after all were Ready".to_owned(), seconds(settled.drain)]);
    if let Some(steady) = &settled.steady {
        rows.push(vec![
            format!("then, in {} s: writes", steady.time.as_secs()),
            each(steady.tally.writes()),
            format!("{} (and {} of the lease)", steady.tally.writes(), steady.tally.leases),
        ]);
        rows.push(vec!["  and CPU".to_owned(), seconds(steady.cpu)]);
    }
    table::print(&["", "each", "in all"], &rows);
    println!("  API server: from its audit log, by user. Registry: from its access log, by user agent.");
}
