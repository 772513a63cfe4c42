//! The table of verdicts: server behaviour × spec → every condition, its status and reason; and where credentials arrived.
//!
//! `table` holds the rows of scripted servers, by topic, and `real` those of real registries; `row` is what a row says,
//! `runner` plays and compares it. `hostile` is about servers that mean harm, `budget` about the
//! number of requests, `isolation` about validations beside each other, `clients` about what crane, helm and oci-client pull.
//!
//! `ROWS=harbor cargo test --test verdicts table` plays the rows whose names hold that word.

#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::pedantic, reason = "rows are to be read as a table")]

mod budget;
mod clients;
mod cluster;
mod hostile;
mod hosts;
mod isolation;
mod listener;
mod pki;
mod real;
mod row;
mod runner;
mod scripts;
mod secrets;
mod spec;
#[path = "../../crates/registry-probe/tests/probe/support/mod.rs"]
mod support;
mod table;
mod unusual_certificates;

use std::io::Write as _;

use futures::stream::{self, StreamExt as _};

use hosts::Stage;
use row::Row;
use runner::RowResult;

/// Tests that keep the machine busy, or measure how busy it is, run one after another.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How many rows are played at the same time.
const AT_ONCE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn probe_matches_the_table() {
    let _turn = TURN.lock().await;
    let real = real::rows().await;
    let rows = table::rows().into_iter().chain(real.rows.clone()).filter(|row| is_wanted(&row.name));
    let played = play(rows.collect()).await;
    for skipped in &real.skipped {
        say(&format!("SKIPPED: {skipped}\n"));
    }
    let total = played.len();
    let cells: usize = played.iter().map(|(_, outturn)| outturn.cells).sum();
    let wrong: usize = played.iter().map(|(_, outturn)| outturn.wrong.len()).sum();
    let real = real.rows.len();
    say(&format!(
        "table of verdicts: {total} rows, {real} of them of real registries, {cells} cells, {wrong} wrong\n"
    ));
    assert_eq!(wrong, 0, "wrong cells:\n{}", reports(&played));
    assert!(total >= 200 || wanted().is_some(), "only {total} rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "builds servers for minutes: `make test-servers`"]
async fn probe_matches_the_table_of_slow_servers() {
    let _turn = TURN.lock().await;
    let servers = real::servers::of_minutes().await;
    let played = play(servers.rows.clone()).await;
    let (cells, wrong) = played
        .iter()
        .fold((0, 0), |(cells, wrong), (_, outturn)| (cells + outturn.cells, wrong + outturn.wrong.len()));
    say(&format!("servers that take minutes: {} rows, {cells} cells, {wrong} wrong\n", played.len()));
    assert_eq!(wrong, 0, "wrong cells:\n{}", reports(&played));
}

/// Plays rows beside each other, and gives what they came to in their order.
async fn play(rows: Vec<Row>) -> Vec<(String, RowResult)> {
    let ledger = runner::ledger();
    let mut played: Vec<(usize, String, RowResult)> = stream::iter(rows.into_iter().enumerate())
        .map(|(index, row)| {
            let ledger = ledger.clone();
            async move {
                let play = tokio::spawn(async move {
                    let stage = Stage::set(&row.hosts, index).await;
                    (row.name.clone(), runner::play(&row, &stage, &ledger).await)
                });
                let (name, outturn) = play.await.unwrap();
                (index, name, outturn)
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    played.sort_by_key(|(index, ..)| *index);
    played.into_iter().map(|(_, name, outturn)| (name, outturn)).collect()
}

/// Every row with a wrong cell, its name first: the log of a CI run is often cut to its end.
fn reports(played: &[(String, RowResult)]) -> String {
    let wrong = played.iter().filter(|(_, outturn)| !outturn.wrong.is_empty());
    wrong.map(|(name, outturn)| report(name, outturn)).collect()
}

fn report(name: &str, outturn: &RowResult) -> String {
    let lines = outturn.wrong.iter().map(|wrong| {
        format!("    {}\n        expected  {}\n        got       {}\n", wrong.cell, wrong.expected, wrong.got)
    });
    format!("\u{2717} {name}\n{}", lines.collect::<String>())
}

/// Past the capture of the test harness: what was counted is seen in every run.
fn say(text: &str) {
    std::io::stderr().lock().write_all(text.as_bytes()).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test is its own edge")]
fn wanted() -> Option<String> {
    std::env::var("ROWS").ok().filter(|wanted| !wanted.is_empty())
}

fn is_wanted(name: &str) -> bool {
    wanted().is_none_or(|wanted| name.to_lowercase().contains(&wanted.to_lowercase()))
}

#[test]
fn row_names_are_unique() {
    let mut names: Vec<String> = table::rows().into_iter().map(|row| row.name).collect();
    names.sort();
    let doubles: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
    assert!(doubles.is_empty(), "{doubles:?}");
}
