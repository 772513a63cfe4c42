//! Formats numbers for people.

use std::time::Duration;

/// The cells of a row.
pub type Row = Vec<String>;

/// Prints a title.
pub fn title(text: &str) {
    println!("\n── {text}");
}

/// Prints a table: the first column is left-aligned, the numbers right-aligned.
pub fn print(header: &[&str], rows: &[Row]) {
    let header: Row = header.iter().map(|&cell| cell.to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |column: usize| {
        all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    for row in all() {
        let cells = row.iter().enumerate().map(|(column, cell)| match (column, width(column)) {
            (0, width) => format!("{cell:<width$}"),
            (_, width) => format!("{cell:>width$}"),
        });
        println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// `12.3 ms`
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// `1.23 s`
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// `9.8 MiB`
#[expect(clippy::cast_precision_loss, reason = "no process has so much memory")]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// `1.25 ×`
pub fn times(time: Duration, floor: Duration) -> String {
    format!("{:.2} ×", ratio(time, floor))
}

/// Returns how many times as long `time` is.
pub fn ratio(time: Duration, floor: Duration) -> f64 {
    time.as_secs_f64() / floor.as_secs_f64().max(1e-9)
}

/// `2.00`: how many there are for each of the other.
#[expect(clippy::cast_precision_loss, reason = "counts of thousands")]
pub fn per(count: usize, of: usize) -> f64 {
    count as f64 / of.max(1) as f64
}

/// `10,000`
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
