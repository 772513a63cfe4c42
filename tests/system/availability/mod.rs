//! Availability: the counts in a registry's status and the pull Secrets in tenants' namespaces, through their whole lifecycle,
//! on a real control plane with real registries.

mod deletion;
mod delivery;
mod ownership;
mod pull;
mod scale;
pub mod secrets;
