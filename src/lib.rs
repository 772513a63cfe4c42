//! The operator: reads registries from Kubernetes and writes their status. `registry-api` has the custom resources, and
//! `registry-verdict` makes the result for a registry. The `mod.rs` of each directory says what it owns and what it may
//! use.

// So that a new finding, reply, reason or cause doesn't compile until each match handles it.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod controller;
pub mod kubernetes;
pub mod observability;
pub mod pull_secrets;
pub mod queue;
pub mod replica;
pub mod settings;
pub mod tenancy;
pub mod work_loop;
