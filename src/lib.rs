//! The operator: Kubernetes in, Kubernetes out. What a manifest may say is `registry-api`; whether a registry can be
//! used is `registry-probe`.

pub mod access;
pub mod api_client;
pub mod assess;
pub mod availability;
pub mod cluster;
pub mod controller;
pub mod ecr;
pub mod events;
pub mod exposition;
pub mod health;
pub mod kubernetes;
pub mod lease;
pub mod metrics;
pub mod publish;
pub mod queue;
pub mod quota;
pub mod ready;
pub mod reconcile;
pub mod rejections;
pub mod resolve;
pub mod schedule;
pub mod server;
pub mod settings;
pub mod subject;
pub mod trust;
pub mod validate;
pub mod watch;
pub mod whoami;
pub mod words;
