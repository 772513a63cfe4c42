//! Registries in memory: the network that leads to them, and what each of them does and records.
//!
//! - [`behaviour`]: what a registry answers. Pure.
//! - [`http`]: the little of HTTP/1.1 that the servers speak.
//! - [`network`]: the prober's network, in which names, connections and servers are.

pub mod behaviour;
pub mod http;
pub mod network;

pub use behaviour::{RegistryBehaviour, ServerCondition, SignInMethod};
pub use network::{Registries, ServerChange, ServerRecord};
