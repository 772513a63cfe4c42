//! System tests: a real API server, the chart's permissions, the operator as a process.

mod between;
mod exposition;
mod faults;
mod gitops;
mod harness;
mod held;
mod isolation;
mod leadership;
mod lifecycle;
mod memory;
mod objects;
mod outbound;
mod purposes;
mod references;
mod rejections;
mod samples;
mod schema;
mod secrecy;
mod server;
mod solo;
mod stage;
mod steady;
mod watches;
