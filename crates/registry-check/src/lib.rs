//! Validation before an apply: a dry run at the API server, the operator's steps from this machine, and the output for
//! people. For the kubectl plugin, and for other programs that check before they write.
//!
//! May read the cluster with the user's permissions, and writes nothing. Doesn't depend on the operator.

// So that a new finding, reply, reason or cause doesn't compile until each match handles it.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod admission;
pub mod advice;
pub mod check;
pub mod cluster;
pub mod flags;
pub mod manifest;
pub mod prompt;
pub mod report;
pub mod schema;
pub mod session;
pub mod supply;
