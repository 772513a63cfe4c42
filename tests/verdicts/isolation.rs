//! Isolation of concurrent validations by one prober: no answer, token or connection is shared.

use std::collections::HashSet;

use crate::hosts::Stage;
use crate::listener::Arrival;
use crate::row::{BOTH, Row, row};
use crate::runner::{prober, validate_once};
use crate::scripts::{strict, with_service};
use crate::secrets::{Secret, USER};
use crate::spec::{Spec, identity, right, spec, wrong};

/// The validations, and their expected verdicts.
fn parties() -> Vec<(Spec, &'static str)> {
    let tenant = |spec: Spec| spec.of_tenant().allowed("127.0.0.0/8");
    vec![
        (right(), "True/Validated"),
        (wrong(), "False/Rejected"),
        (spec(), "False/Required"),
        (identity(), "True/Validated"),
        (tenant(wrong()), "False/Rejected"),
        (tenant(right()), "True/Validated"),
        (spec().login("bob", "an0ther/pass+word"), "False/Rejected"),
    ]
}

fn asks(spec: Spec) -> Row {
    // Its verdict is compared here; the table's notation is of no use.
    row("isolation", Vec::new(), spec, BOTH, "+Resolved . . . . = -Any stalled")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_prober_separates_credentials() {
    let stage = Stage::set(&with_service(strict), 39_000).await;
    let prober = prober(&stage);
    for round in 0..4 {
        let at_once = parties().into_iter().map(|(spec, expected)| {
            let (row, stage, prober) = (asks(spec), &stage, &prober);
            async move { (validate_once(&row, stage, prober).await, expected) }
        });
        for (got, expected) in futures::future::join_all(at_once).await {
            assert_eq!(got, expected, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_carry_one_set_of_credentials() {
    let stage = Stage::set(&with_service(strict), 39_001).await;
    let (prober, ledger) = (prober(&stage), crate::runner::ledger());
    for (spec, _) in parties() {
        validate_once(&asks(spec), &stage, &prober).await;
    }
    let arrivals = stage.log.arrivals();
    for arrival in &arrivals {
        let users = authorizations(arrival);
        assert!(users.len() <= 1, "{}: {} authorizations over one connection", arrival.place, users.len());
    }
    let seen = ledger.trace(&arrivals);
    assert!(seen.contains(&(Secret::Credential, "auth".into())), "{seen:?}");
    let shared = arrivals.iter().filter(|arrival| arrival.place == "registry").count();
    assert_eq!(shared, parties().len(), "each validation has its own connection to the registry");
}

/// The different ways in which requests over a connection were authorized; anonymous ones aside.
fn authorizations(arrival: &Arrival) -> HashSet<String> {
    arrival.asked.iter().filter_map(|asked| asked.authorization().map(ToOwned::to_owned)).collect()
}

/// The recorders are what every row relies on: here something does arrive at one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_leaked_credentials_over_http_and_tls() {
    use crate::pki::{GivenCa, PKI};
    use crate::secrets::PASSWORD;
    use registry_testbed::http_client::Call;

    let stage = Stage::set(&with_service(strict), 39_002).await;
    let ledger = crate::runner::ledger();
    let ca = PKI.ca_pem(GivenCa::Company);
    for url in [
        "http://{registry.address}:{auth.port}/v2/",
        "https://{registry.address}:{auth.port}/v2/",
        "http://{registry.address}:{registry.port}/v2/",
        "https://{elsewhere.address}:{elsewhere.port}/v2/",
    ] {
        let url = stage.fill(url);
        let before = stage.log.arrivals().len();
        let call = Call::get(url.as_str()).trust(&ca).basic(USER, PASSWORD);
        // Whether it is answered makes no difference.
        drop(call.send().await);
        let arrivals = stage.log.arrivals();
        let trace = ledger.trace(&arrivals[before..]);
        assert_eq!(trace.len(), 1, "{url}: {trace:?}");
        assert_eq!(trace[0].0, Secret::Credential);
    }
}
