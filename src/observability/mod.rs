//! What others see of the operator: metrics, health, and the server of both.
//!
//! May touch nothing of the cluster but to ask whether the API server answers.

mod exposition;
pub mod health;
pub mod metrics;
pub mod ready;
pub mod server;
