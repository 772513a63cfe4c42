//! Availability: the counts in a registry's status and the pull Secrets in tenants' namespaces, through their whole lifecycle,
//! on a real control plane with real registries.

mod deletion;
mod delivery;
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
mod ownership;
mod pull;
mod scale;
mod secrets;
