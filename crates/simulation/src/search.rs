//! Many histories by seed: the first that fails is shortened and printed.

use std::fmt::Write as _;

use crate::{
    history::{SimulatedHistory, generate::history, shorten::shorten},
    invariants::{Violation, outcome::end_state_is_that_without_faults, violations},
    world::run,
};

/// A history that fails, and why.
#[derive(Clone, Debug)]
pub struct FailedHistory {
    /// The history.
    pub history: SimulatedHistory,
    /// What it violates.
    pub violations: Vec<Violation>,
}

/// Returns what a history violates, alone and in comparison with the same history without faults.
pub fn judge(history: &SimulatedHistory) -> Vec<Violation> {
    judge_both(history, true)
}

fn judge_both(history: &SimulatedHistory, is_compared: bool) -> Vec<Violation> {
    let broken = |error: &dyn std::fmt::Display| {
        vec![Violation { invariant: "the simulation runs", what: error.to_string() }]
    };
    let trace = match run(history) {
        Ok(trace) => trace,
        Err(error) => return broken(&error),
    };
    let mut found = violations(&trace);
    if is_compared && found.is_empty() && history.has_faults() {
        match run(&history.without_faults()) {
            Ok(without) => found.extend(
                end_state_is_that_without_faults(&trace, &without)
                    .into_iter()
                    .map(|what| Violation { invariant: "end state is that without faults", what }),
            ),
            Err(error) => return broken(&error),
        }
    }
    found
}

/// Lets the history of a seed happen, and that of every eighth without faults too, which takes as long again. Returns the failure, if it
/// violates anything.
pub fn check(seed: u64) -> Option<FailedHistory> {
    let history = history(seed);
    let violations = judge_both(&history, seed.is_multiple_of(8));
    (!violations.is_empty()).then_some(FailedHistory { history, violations })
}

impl FailedHistory {
    /// Returns the shortest part of the history that violates one of the same invariants.
    #[must_use]
    pub fn shortened(self) -> Self {
        let names: Vec<&str> = self.violations.iter().map(|violation| violation.invariant).collect();
        let mut violations = self.violations;
        let history = shorten(self.history, |candidate| {
            let found = judge(candidate);
            let fails = found.iter().any(|violation| names.contains(&violation.invariant));
            if fails {
                violations = found;
            }
            fails
        });
        Self { history, violations }
    }

    /// Returns a report for people: what is violated, the history, and how to repeat it.
    pub fn report(&self) -> String {
        let mut report = String::new();
        for violation in &self.violations {
            let _ = writeln!(report, "violated: {violation}");
        }
        let seed = self.history.seed;
        let _ = writeln!(report, "{}", self.history);
        let _ = writeln!(report, "again: SEED={seed} cargo test --test histories -- --nocapture");
        report
    }
}
