//! The same inputs, read by us and by Go's readers: `tests/tools/go-readers` has the kubelet's, Docker's and those of Go's TLS clients.
//!
//! Where the two disagree, the case is listed with a reason, or the test fails. Run by
//! `cargo test --test probe -- --ignored differential::`.

#![allow(clippy::print_stdout, reason = "the counts are the result")]

mod bundles;
mod certificates;
mod docker;
mod docker_cases;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use serde::de::DeserializeOwned;

/// What the generators start from. Another one finds other cases.
const SEED: u64 = 13;

/// A disagreement that is meant: a predicate as narrow as the reason.
struct Listed<C> {
    reason: &'static str,
    holds: fn(&C) -> bool,
}

/// Sorts disagreements by the first reason that holds; fails with those that have none, and on reasons that never held.
fn expect_only_listed<C: std::fmt::Debug>(disagreements: &[C], of: usize, listed: &[Listed<C>]) {
    let mut counts: BTreeMap<&str, usize> = listed.iter().map(|entry| (entry.reason, 0)).collect();
    let mut unlisted = Vec::new();
    for case in disagreements {
        match listed.iter().find(|entry| (entry.holds)(case)) {
            Some(entry) => *counts.entry(entry.reason).or_default() += 1,
            None => unlisted.push(case),
        }
    }
    for (reason, count) in &counts {
        println!("{count:6} of {of}: {reason}");
    }
    let first: Vec<_> = unlisted.iter().take(10).map(|case| format!("{case:#?}")).collect();
    assert!(unlisted.is_empty(), "seed {SEED}: {} disagreements: {}", unlisted.len(), first.join("\n"));
    let stale: Vec<_> = counts.iter().filter(|(_, count)| **count == 0).map(|(reason, _)| *reason).collect();
    assert!(stale.is_empty(), "seed {SEED}: listed, but nothing disagrees so any more: {stale:#?}");
}

/// What `go-readers` says, an answer a line.
fn go_readers<A: DeserializeOwned>(arguments: &[&str], input: Vec<u8>) -> Vec<A> {
    let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/go-readers");
    let mut child = Command::new(&binary)
        .args(arguments)
        .env_remove("DOCKER_AUTH_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run `make tools`", binary.display()));
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}
