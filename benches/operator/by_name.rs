//! The registry by host name instead of by address: with a name server that answers after 2 ms, and with one that doesn't
//! answer questions for IPv6 addresses either.
//!
//! All cases run in the same rounds, and all operators are started in the same way, so the time by address is the baseline.

use std::time::Duration;

use crate::bed::Bed;
use crate::contender::Kind;
use crate::latency::{self, percentile};
use crate::names::Answers;
use crate::objects::Endpoint;
use crate::scale::{existing, median};
use crate::table::{self, Row, milliseconds, seconds, thousands, times};

/// How many registries are created one after another in each round of each case.
const LATENCIES: usize = 40;

/// What the registries have in `spec.endpoint`, and how the name server answers.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name in tables.
    pub name: &'static str,
    hosts: Hosts,
    answers: Answers,
}

#[derive(Clone, Copy, Debug)]
enum Hosts {
    Address,
    SharedName,
    OwnNames,
}

const CASES: [Case; 5] = [
    Case { name: "by address", hosts: Hosts::Address, answers: Answers::Prompt },
    Case { name: "one name", hosts: Hosts::SharedName, answers: Answers::Prompt },
    Case { name: "one name, AAAA unanswered", hosts: Hosts::SharedName, answers: Answers::WithoutIpv6 },
    Case { name: "a name each", hosts: Hosts::OwnNames, answers: Answers::Prompt },
    Case { name: "a name each, AAAA unanswered", hosts: Hosts::OwnNames, answers: Answers::WithoutIpv6 },
];

impl Case {
    fn endpoint(&self, bed: &Bed) -> Endpoint {
        let by_name = || bed.registry_by_name();
        match self.hosts {
            Hosts::Address => Endpoint::Shared(bed.registry.host_port()),
            Hosts::SharedName => Endpoint::Shared(by_name()),
            Hosts::OwnNames => Endpoint::Subdomains(by_name()),
        }
    }
}

/// The measurements of one case.
pub struct Figures {
    /// The case.
    pub case: Case,
    /// The time until all registries that existed before were Ready: the median of the rounds.
    pub all_ready: Duration,
    /// The latencies of single registries, sorted.
    pub latencies: Vec<Duration>,
}

/// The measurements of all cases.
pub struct ByName {
    /// The number of registries.
    pub size: usize,
    /// The baseline.
    pub by_address: Figures,
    /// The other cases.
    pub named: Vec<Figures>,
}

/// Measures all cases in several rounds.
pub async fn measure(bed: &Bed, size: usize, rounds: usize) -> anyhow::Result<ByName> {
    let mut rows = CASES.map(|case| (case, Vec::new(), Vec::new()));
    for round in 1..=rounds {
        eprintln!("{} registries by name, round {round} of {rounds} …", thousands(size));
        for (case, times, latencies) in &mut rows {
            let (endpoint, kind) = (case.endpoint(bed), Kind::Resolving(case.answers));
            let running = existing(bed, &endpoint, size, kind, &mut Vec::new()).await?;
            times.push(running.end(bed).await?.spent.elapsed);
            latencies.extend(latency::block(bed, kind, &endpoint, LATENCIES).await?);
        }
    }
    let mut figures = rows.into_iter().map(|(case, times, mut latencies)| {
        latencies.sort();
        Figures { case, all_ready: median(times, |time| *time).unwrap_or_default(), latencies }
    });
    let by_address = figures.next().ok_or_else(|| anyhow::anyhow!("there is no case"))?;
    Ok(ByName { size, by_address, named: figures.collect() })
}

impl ByName {
    /// Prints a table.
    pub fn print(&self) {
        table::title(&format!(
            "{} registries that were there before until all are Ready, and one registry, by host name",
            thousands(self.size)
        ));
        let rows: Vec<Row> =
            std::iter::once(&self.by_address).chain(&self.named).map(|figures| self.row(figures)).collect();
        table::print(&["", "time", "/ by address", "one: p50", "p99", "longest"], &rows);
    }

    fn row(&self, figures: &Figures) -> Row {
        let Figures { case, all_ready, latencies } = figures;
        let mut row =
            vec![case.name.to_owned(), seconds(*all_ready), times(*all_ready, self.by_address.all_ready)];
        row.extend([50, 99, 100].map(|percent| milliseconds(percentile(latencies, percent))));
        row
    }
}
