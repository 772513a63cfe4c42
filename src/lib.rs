//! The operator: Kubernetes in, Kubernetes out. What a manifest may say is `registry-api`; what is said of a registry is
//! `registry-verdict`. Each room's `mod.rs` says what it owns and what it may touch.

// A new finding, reply, reason or cause must not pass through a match by `_`: it is decided about where it appears.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod controller;
pub mod kubernetes;
pub mod observability;
pub mod pull_secrets;
pub mod queue;
pub mod replica;
pub mod settings;
pub mod tenancy;
