//! The goals, and what was measured.

use std::time::Duration;

use crate::by_name::ByName;
use crate::latency::{Latency, percentile};
use crate::scale::Scale;
use crate::storm::Storm;
use crate::table::{self, Row, mebibytes, per, ratio, thousands};
use crate::tenants::Tenants;

const LATENCY: Duration = Duration::from_millis(250);
const TIMES_FLOOR: f64 = 1.5;
const TIMES_BY_ADDRESS: f64 = 1.05;
const WRITES: f64 = 2.0;
const CONNECTIONS: usize = 16;
/// Goals for resident memory, by number of registries.
const MEMORY: [(usize, u64); 2] = [(1_000, 16 << 20), (10_000, 48 << 20)];

/// All measurements. What was left out is missing.
#[derive(Default)]
pub struct Measured {
    /// The latency of one registry.
    pub latency: Option<Latency>,
    /// Many registries, by size.
    pub scales: Vec<Scale>,
    /// Registries by host name.
    pub by_name: Option<ByName>,
    /// One registry beside many that fail.
    pub storm: Option<Storm>,
    /// Idle namespaces.
    pub tenants: Option<Tenants>,
}

/// Prints each goal with the measured value.
pub fn print(measured: &Measured) {
    table::title("Aims");
    let mut rows = Vec::new();
    rows.extend(measured.latency.as_ref().map(|latency| p99("one registry", &latency.operator)));
    rows.extend(measured.scales.iter().flat_map(of_scale));
    rows.extend(measured.by_name.iter().flat_map(of_names));
    rows.extend(measured.storm.as_ref().map(|storm| {
        p99(&format!("one registry beside {} that fail", thousands(storm.size)), &storm.latencies)
    }));
    rows.extend(measured.tenants.as_ref().map(of_tenants));
    table::print(&["", "", "measured", "aim"], &rows);
}

fn row(name: String, met: bool, measured: String, aim: String) -> Row {
    vec![name, if met { "✓" } else { "✗" }.to_owned(), measured, aim]
}

fn p99(name: &str, sorted: &[Duration]) -> Row {
    let p99 = percentile(sorted, 99);
    let (measured, aim) = (table::milliseconds(p99), format!("≤ {}", table::milliseconds(LATENCY)));
    row(format!("{name}, p99"), p99 <= LATENCY, measured, aim)
}

fn of_scale(scale: &Scale) -> Vec<Row> {
    let size = thousands(scale.size);
    let name = |what: &str| format!("{size} registries: {what}");
    let mut rows = Vec::new();
    for (what, pair) in [("there before", &scale.existing), ("created meanwhile", &scale.created)] {
        let times = ratio(pair.operator.spent.elapsed, pair.floor.spent.elapsed);
        let (measured, aim) = (format!("{times:.2} ×"), format!("≤ {TIMES_FLOOR} × floor 2"));
        rows.push(row(name(&format!("all Ready, {what}")), times <= TIMES_FLOOR, measured, aim));
    }
    let writes = per(scale.settled.tally.writes(), scale.size);
    rows.push(row(
        name("API writes each"),
        writes <= WRITES + 0.005,
        format!("{writes:.2}"),
        format!("≤ {WRITES}"),
    ));
    if let Some((_, most)) = MEMORY.iter().find(|(upto, _)| scale.size <= *upto) {
        let resident = scale.settled.memory.resident.max(scale.settled_meanwhile.resident);
        let (measured, aim) = (mebibytes(resident), format!("≤ {}", mebibytes(*most)));
        rows.push(row(name("RSS, settled"), resident <= *most, measured, aim));
    }
    if let Some(steady) = &scale.settled.steady {
        let writes = steady.tally.writes();
        rows.push(row(name("writes in the steady state"), writes == 0, writes.to_string(), "0".to_owned()));
    }
    rows
}

fn of_names(by_name: &ByName) -> Vec<Row> {
    let size = thousands(by_name.size);
    let of_case = |figures: &crate::by_name::Figures| {
        let times = ratio(figures.all_ready, by_name.by_address.all_ready);
        let (measured, aim) = (format!("{times:.2} ×"), format!("≤ {TIMES_BY_ADDRESS} × by address"));
        let name = format!("{size} registries: all Ready, {}", figures.case.name);
        [
            row(name, times <= TIMES_BY_ADDRESS, measured, aim),
            p99(&format!("one registry, {}", figures.case.name), &figures.latencies),
        ]
    };
    by_name.named.iter().flat_map(of_case).collect()
}

fn of_tenants(tenants: &Tenants) -> Row {
    let name = format!("{} idle namespaces: connections", thousands(tenants.namespaces));
    let connections = tenants.connections;
    row(name, connections <= CONNECTIONS, connections.to_string(), format!("≤ {CONNECTIONS}"))
}
