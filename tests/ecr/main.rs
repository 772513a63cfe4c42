//! AWS ECR with the real SDK: against a strict fake that verifies signatures and answers AWS's real error bodies, and
//! against moto's ECR and STS.

mod fake;
#[path = "../system/harness.rs"]
#[expect(dead_code, reason = "the other system tests use the rest")]
mod harness;
mod causes;
mod moto;
mod sharing;
mod support;
