//! The operator: Kubernetes in, Kubernetes out. What a manifest may say is `registry-api`; what is said of a registry is
//! `registry-verdict`. Each room's `mod.rs` says what it owns and what it may touch.

pub mod controller;
pub mod kubernetes;
pub mod observability;
pub mod pull_secrets;
pub mod queue;
pub mod replica;
pub mod settings;
pub mod tenancy;
pub mod work_loop;
