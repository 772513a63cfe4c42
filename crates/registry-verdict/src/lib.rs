//! From a registry object and its references to its conditions: validate, resolve, probe (with AWS ECR), assess. The
//! operator, the kubectl plugin and the tests use it.
//!
//! May send requests to registries, token services and AWS. Secrets and ConfigMaps come through [`resolve::Objects`].
//! Nothing here calls the Kubernetes API, watches, queues or serves.

// So that a new finding, reply, reason or cause doesn't compile until each match handles it.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod api_server;
pub mod assess;
pub mod ca_file;
pub mod cluster_addresses;
pub mod ecr;
pub mod known_status;
pub mod object;
pub mod outbound;
pub mod rejections;
pub mod resolve;
pub mod steps;
pub mod text;
pub mod validate;
