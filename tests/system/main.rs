//! The system as its users meet it: a real API server, the chart's rights, the operator as a process.

mod exposition;
mod gitops;
mod harness;
mod held;
mod isolation;
mod leadership;
mod lifecycle;
mod objects;
mod outbound;
mod references;
mod samples;
mod schema;
mod secrecy;
mod server;
mod solo;
mod stage;
mod steady;
