//! Who can use a registry: the counts in its status, and pull Secrets in tenants' namespaces, from the first to the last,
//! on a real control plane with real registries.

mod deletion;
mod delivery;
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
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/solo.rs"]
mod solo;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/stage.rs"]
mod stage;
