//! The operator's world in one process, with faults. Only for tests.

pub mod api_server;
