//! What others see of the operator: metrics, health, and the server for both.
//!
//! May only ask the API server whether it answers.

pub mod exposition;
pub mod health;
pub mod metrics;
pub mod ready;
pub mod server;
