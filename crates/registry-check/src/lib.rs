//! Validate before apply: a dry run of the object at the API server, the verdict from here, and the words for people. For the
//! kubectl plugin and whatever else checks before it writes.
//!
//! May read the cluster with its user's rights, and writes nothing. Knows nothing of the operator.

// A new finding, reply, reason or cause must not pass through a match by `_`: it is decided about where it appears.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod admission;
pub mod advice;
pub mod check;
pub mod cluster;
pub mod manifest;
pub mod prompt;
pub mod report;
pub mod schema;
pub mod session;
pub mod supply;
