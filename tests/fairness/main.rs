//! Fairness. Separate from the other system tests because it measures times: nothing else runs at the same time.

mod delays;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/exclusive_cluster.rs"]
mod exclusive_cluster;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/fixtures.rs"]
mod fixtures;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/objects.rs"]
mod objects;
