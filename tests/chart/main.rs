//! The chart, the GitOps examples and the documentation, by the programs that users have: helm, kubectl, and the libraries of
//! Flux, Argo CD and Prometheus, on a real API server. No Pod runs here.

mod console;
mod docs;
mod forms;
mod gitops;
mod health;
mod image;
mod lifecycle;
mod monitoring;
mod objects;
mod oci;
mod programs;
mod rights;
mod values;
