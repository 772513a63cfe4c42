//! AWS ECR with the real SDK: against a strict fake that verifies signatures and answers AWS's real error bodies, and
//! against moto's ECR and STS.

mod causes;
mod fake_aws;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/fixtures.rs"]
mod fixtures;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/moment.rs"]
mod moment;
mod moto;
mod proxy_and_ca;
mod pull_secrets;
mod support;
mod token_destinations;
mod token_sharing;
