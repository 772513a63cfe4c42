//! AWS ECR with the real SDK: against a strict fake that verifies signatures and answers AWS's real error bodies, and
//! against moto's ECR and STS.

mod causes;
mod elsewhere;
mod fake;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/harness.rs"]
mod harness;
mod moto;
mod outbound;
mod pull_secrets;
mod sharing;
#[allow(dead_code, reason = "the other system tests use the rest")]
#[path = "../system/stage.rs"]
mod stage;
mod support;
