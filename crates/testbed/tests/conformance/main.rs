//! Holds the API server in memory to the real one: each scenario sends the same requests to both, and what they answer must be
//! the same: codes, reasons, bodies, and the events of watches.

mod call;
mod cluster;
mod normal;
mod scenarios;
mod side;

use anyhow::{Result, ensure};

use self::{cluster::Cluster, normal::differences, side::Side};

/// Runs a scenario against both servers and compares all that was said.
macro_rules! on_both {
    ($($name:ident: $scenario:path, $real:path, $calls:literal;)*) => {$(
        #[tokio::test]
        async fn $name() -> Result<()> {
            let (mut real, mut simulated) = (Side::new($real().await?), Side::new(Cluster::simulated()?));
            let (real_end, simulated_end) =
                ($scenario(&mut real).await, $scenario(&mut simulated).await);
            if let Err(error) = &real_end { println!("real: {error:?}"); }
            if let Err(error) = &simulated_end { println!("simulated: {error:?}"); }
            let differences = differences(&real.into_transcript(), &simulated.transcript());
            ensure!(differences.is_empty(), "the servers differ (real ≠ simulated):\n{}", differences.join("\n"));
            real_end?;
            simulated_end?;
            let calls = simulated.into_transcript().len();
            ensure!(calls >= $calls, "the scenario has only {calls} calls");
            Ok(())
        }
    )*};
}

on_both! {
    secrets: scenarios::secrets::writes, Cluster::real, 30;
    pull_secrets: scenarios::pull_secrets::apply, Cluster::real, 18;
    registries: scenarios::registries::life, Cluster::real, 30;
    registry_status: scenarios::registries::status, Cluster::real, 15;
    lists: scenarios::lists::pages, Cluster::real, 20;
    expired_lists: scenarios::lists::expiry, Cluster::forgetful, 3;
    watches: scenarios::watches::events, Cluster::real, 20;
    namespaces: scenarios::namespaces::life, Cluster::real, 15;
    access: scenarios::access::rbac, Cluster::real, 25;
    bindings: scenarios::access::bindings, Cluster::real, 10;
    leases_and_events: scenarios::leases::leases_and_events, Cluster::real, 12;
    policies: scenarios::policies::refusals, Cluster::real, 5;
    definitions: scenarios::definitions::removal, Cluster::forgetful, 8;
}
