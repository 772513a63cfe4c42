//! The operator's work, compiled once and optimized, for the simulation. Only for tests.
//!
//! The code of an async function is compiled into each crate that awaits it, at that crate's level of optimization. In a crate of its
//! own, it is compiled once, instead of for the simulation and for its unit tests; and the operator's own test binaries aren't optimized,
//! which would take them minutes.

use futures::future::BoxFuture;
use registry_operator::{kubernetes::lease::Candidate, replica::Replica};
use tokio_util::sync::CancellationToken;

/// What a replica does until `stop` is cancelled: [`Replica::stand_and_lead`].
pub fn stand_and_lead(
    replica: Replica,
    candidate: Candidate,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(async move { replica.stand_and_lead(candidate, stop).await })
}
