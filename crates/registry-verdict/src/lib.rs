//! A registry object and what it refers to, to a verdict: validate, resolve, probe (through AWS ECR where that is asked for),
//! assess. Used by the operator, the kubectl plugin and the tests alike.
//!
//! May send requests to registries, token services and AWS. Secrets and ConfigMaps come through [`resolve::Objects`]: nothing
//! here calls the Kubernetes API, watches, queues or serves.

// A new finding, reply, reason or cause must not pass through a match by `_`: it is decided about where it appears.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod api_server;
pub mod assess;
pub mod ca_file;
pub mod cluster_addresses;
pub mod ecr;
pub mod object;
pub mod outbound;
pub mod rejections;
pub mod resolve;
pub mod steps;
pub mod text;
pub mod validate;

pub use registry_probe::backoff;
