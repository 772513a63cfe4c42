//! What others see of the operator: metrics, health, and the server for both.
//!
//! Reads nothing from the cluster, except whether the API server answers.
//!
//! - [`exposition`]: the text formats in which Prometheus can scrape the metrics.
//! - [`health`]: what `/healthz` and `/readyz` answer.
//! - [`metrics`]: every metric.
//! - [`ready`]: the request that `helm test` sends to a running operator.
//! - [`server`]: the HTTP server for `/metrics`, `/healthz`, `/readyz` and `/guardz`.

mod exposition;
pub mod health;
pub mod metrics;
pub mod ready;
pub mod server;
