//! Compares each verdict with the result of crane, helm and oci-client pulling the same repository with
//! the same credentials and the same authority.
//!
//! `registries` has the registries, `pull` the clients, and `promise` what a verdict promises to clients. Another
//! registry is one more value in [`registries::all`].

mod promise;
mod pull;
mod registries;

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _};
use registry_probe::Prober;
use serde_json::json;

use self::promise::{EXCEPTIONS, Promise};
use self::pull::{Client, Clients, Outcome, Pull};
use self::registries::{Account, RealRegistry, Repository};
use crate::hosts::Stage;
use crate::row::{BOTH, Row, row};
use crate::spec::spec;
use crate::{runner, say};

/// How many cells are played at the same time.
const AT_ONCE: usize = 4;
/// A number that no row of the table has.
const STAGE: usize = 46_000;

/// One registry, account and repository.
#[derive(Clone, Copy)]
pub struct Cell<'a> {
    pub registry: &'a RealRegistry,
    pub account: &'a Account,
    pub repository: &'a Repository,
}

impl Cell<'_> {
    fn name(&self) -> String {
        format!("{}, {}, {}", self.registry.name, self.account.name, self.repository.name)
    }

    /// The cell as a declared registry.
    fn row(&self) -> Row {
        let declared = spec().endpoint(&self.registry.endpoint).repository(&self.repository.path);
        let declared = match &self.registry.ca {
            Some(ca) => declared.ca(json!({"inline": ca})),
            None => declared.public_roots(),
        };
        let declared = match &self.account.login {
            Some((user, password)) => declared.login(user, password),
            None => declared,
        };
        row(self.name(), Vec::new(), declared, BOTH, "+Resolved . . . . = -Any stalled")
    }

    fn pull(&self) -> Pull<'_> {
        Pull {
            endpoint: &self.registry.endpoint,
            ca: self.registry.ca.as_deref(),
            login: self.account.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str())),
            repository: &self.repository.path,
            tag: self.repository.tag,
            is_chart: self.repository.is_chart,
        }
    }

    /// The request budget, plus the HEAD that checks pulling without listing.
    fn budget(&self) -> u32 {
        const REPOSITORY: u32 = 2;
        const HEAD: u32 = 1;
        self.registry.challenge.requests() + REPOSITORY + HEAD
    }
}

/// What one cell came to.
struct CellResult {
    name: String,
    promise: Promise,
    outcomes: Vec<(Client, Outcome)>,
    requests: u32,
    /// Where the cell breaks a promise.
    wrong: Vec<String>,
    /// Which exceptions were taken, by their place in the list.
    excepted: Vec<usize>,
}

async fn play(cell: Cell<'_>, stage: &Stage, prober: &Prober, clients: &Clients) -> CellResult {
    let declared = cell.row();
    let (status, requests) = runner::verdict_and_cost(&declared, stage, prober).await;
    let promise = Promise::of(&status);
    let outcomes = clients.pull(&cell.pull()).await;
    let (mut wrong, mut excepted) = (Vec::new(), Vec::new());
    for (client, outcome) in outcomes.iter().filter(|(_, outcome)| !promise.allows(outcome)) {
        let exception =
            EXCEPTIONS.iter().position(|exception| exception.covers(&cell, *client, outcome, &promise));
        match exception {
            Some(index) => excepted.push(index),
            None => wrong.push(format!("{client:?} gets {outcome:?}, where the verdict is {promise}")),
        }
    }
    if requests > cell.budget() {
        wrong.push(format!("{requests} requests, of {}", cell.budget()));
    }
    CellResult { name: cell.name(), promise, outcomes, requests, wrong, excepted }
}

/// Every cell of every registry, in order.
async fn play_all(registries: &[RealRegistry], clients: &Clients) -> Vec<CellResult> {
    let stage = Stage::set(&[], STAGE).await;
    let prober = runner::prober(&stage);
    let cells = registries.iter().flat_map(|registry| {
        registry.accounts.iter().flat_map(move |account| {
            registry.repositories.iter().map(move |repository| Cell { registry, account, repository })
        })
    });
    stream::iter(cells.map(|cell| play(cell, &stage, &prober, clients))).buffered(AT_ONCE).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn independent_clients_agree() {
    let _turn = crate::TURN.lock().await;
    let clients = Clients::find().await;
    let (registries, skipped) = registries::all(&clients).await;
    let played = play_all(&registries, &clients).await;
    for skipped in skipped {
        say(&format!("SKIPPED: pulls from {skipped}\n"));
    }
    say(&report(registries.len(), &played));
    let wrong: Vec<String> = played
        .iter()
        .flat_map(|cell| cell.wrong.iter().map(|wrong| format!("{}: {wrong}", cell.name)))
        .collect();
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
    every_verdict_was_given(&played);
    every_exception_was_needed(&played);
}

/// The verdicts that make a promise, each given somewhere: agreement about none of them would be empty.
fn every_verdict_was_given(played: &[CellResult]) {
    let given: BTreeSet<&str> = played.iter().flat_map(|cell| cell.promise.verdicts()).collect();
    for verdict in [
        "Accessible",
        "Denied",
        "NotFound",
        "Rejected",
        "Validated",
        "Required",
        "AnonymousAccess",
        "Unprovable",
        "UnknownIssuer",
        "ConnectionRefused",
    ] {
        assert!(given.contains(verdict), "no registry has the verdict {verdict}; given are {given:?}");
    }
}

fn every_exception_was_needed(played: &[CellResult]) {
    let taken: BTreeSet<usize> = played.iter().flat_map(|cell| cell.excepted.iter().copied()).collect();
    for (index, exception) in EXCEPTIONS.iter().enumerate() {
        let is_there = played.iter().any(|cell| cell.name.contains(exception.registry));
        assert!(taken.contains(&index) || !is_there, "an exception that nothing needs: {}", exception.reason);
    }
}

fn report(registries: usize, played: &[CellResult]) -> String {
    let mut text = String::new();
    let mut reasons: BTreeMap<usize, usize> = BTreeMap::new();
    for cell in played {
        let outcomes: Vec<String> =
            cell.outcomes.iter().map(|(client, outcome)| format!("{client:?} {outcome:?}")).collect();
        text += &format!(
            "{}: {} ({} requests); {}\n",
            cell.name,
            cell.promise,
            cell.requests,
            outcomes.join(", ")
        );
        for index in &cell.excepted {
            *reasons.entry(*index).or_default() += 1;
        }
    }
    for (index, count) in &reasons {
        text += &format!("excepted {count} times: {}\n", EXCEPTIONS[*index].reason);
    }
    let (pulls, excepted): (usize, usize) =
        (played.iter().map(|cell| cell.outcomes.len()).sum(), reasons.values().sum());
    let wrong: usize = played.iter().map(|cell| cell.wrong.len()).sum();
    let cells = played.len();
    text + &format!(
        "independent clients: {registries} registries, {cells} cells, {pulls} pulls, {wrong} disagreements, {excepted} excepted\n"
    )
}
