//! System tests: a real API server, the chart's permissions, the operator as a process.

mod cost;
mod exclusive_cluster;
mod faults;
mod faulty_connection;
mod fixtures;
mod gitops;
mod harness;
mod held_registry;
mod http_and_flags;
mod isolation;
mod leadership;
mod lifecycle;
mod memory;
mod metrics_format;
mod objects;
mod proxy_and_ca;
mod references;
mod rejections;
mod samples;
mod schema;
mod secrecy;
mod secret_destinations;
mod watches;
