//! The operator's world in one process, with faults. Only for tests.

pub mod api_server;
pub mod cast;
pub mod chance;
pub mod clock;
pub mod history;
pub mod invariants;
pub mod operator;
pub mod panics;
pub mod registries;
pub mod search;
pub mod trace;
pub mod wire;
pub mod world;
