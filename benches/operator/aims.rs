//! The goals, and what was measured.

use std::time::Duration;

use crate::latency::{Latency, percentile};
use crate::scale::Scale;
use crate::table::{self, Row, mebibytes, per, ratio, thousands};

const LATENCY: Duration = Duration::from_millis(250);
const TIMES_FLOOR: f64 = 1.5;
const WRITES: f64 = 2.0;
/// Goals for resident memory, by number of registries.
const MEMORY: [(usize, u64); 2] = [(1_000, 20 << 20), (10_000, 64 << 20)];

/// Prints each goal with the measured value.
pub fn print(latency: &Latency, scales: &[Scale]) {
    table::title("Aims");
    let p99 = percentile(&latency.operator, 99);
    let mut rows = vec![row(
        "one registry, p99".to_owned(),
        p99 < LATENCY,
        table::milliseconds(p99),
        format!("< {}", table::milliseconds(LATENCY)),
    )];
    for scale in scales {
        rows.extend(of_scale(scale));
    }
    table::print(&["", "", "measured", "aim"], &rows);
}

fn row(name: String, met: bool, measured: String, aim: String) -> Row {
    vec![name, if met { "✓" } else { "✗" }.to_owned(), measured, aim]
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
        let (measured, aim) = (mebibytes(resident), format!("< {}", mebibytes(*most)));
        rows.push(row(name("RSS, settled"), resident < *most, measured, aim));
    }
    if let Some(steady) = &scale.settled.steady {
        let writes = steady.tally.writes();
        rows.push(row(name("writes in the steady state"), writes == 0, writes.to_string(), "0".to_owned()));
    }
    rows
}
