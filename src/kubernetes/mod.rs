//! How the operator talks to the API server.
//!
//! - [`account`]: whether it runs as the account that the policies know.
//! - [`guard`]: whether the admission policies are in force.

pub mod account;
pub mod guard;
