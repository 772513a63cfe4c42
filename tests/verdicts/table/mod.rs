//! The table, by topic.

mod anonymous;
mod basic;
mod bearer;
mod challenges;
mod content;
mod egress_policy;
mod endpoint;
mod faults;
mod history;
mod imitations;
mod purposes;
mod realms;
mod references;
mod reported;
mod throttling;
mod tls;
mod tokens;

use crate::row::Row;

/// All rows of scripted servers, each named by its topic too.
pub fn rows() -> Vec<Row> {
    type Topic = fn() -> Vec<Row>;
    let topics: [(&str, Topic); 17] = [
        ("references", references::rows),
        ("purposes", purposes::rows),
        ("endpoint", endpoint::rows),
        ("tls", tls::rows),
        ("egress_policy", egress_policy::rows),
        ("anonymous", anonymous::rows),
        ("basic", basic::rows),
        ("bearer", bearer::rows),
        ("challenges", challenges::rows),
        ("realms", realms::rows),
        ("tokens", tokens::rows),
        ("content", content::rows),
        ("imitations", imitations::rows),
        ("throttling", throttling::rows),
        ("faults", faults::rows),
        ("history", history::rows),
        ("reported", reported::rows),
    ];
    topics.into_iter().flat_map(|(topic, rows)| rows().into_iter().map(move |row| row.under(topic))).collect()
}
