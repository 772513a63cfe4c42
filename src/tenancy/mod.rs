//! The tenants: their namespaces, the registries that are available to them, and the addresses that they must not reach.
//!
//! May read namespaces and the objects that list the cluster's addresses, and write role bindings. Never reads a registry or a
//! Secret.
//!
//! - [`access`]: the index of tenants' namespaces, and the operator's role binding in each of them.
//! - [`audience`]: the tenants that one registry is available to. Pure.
//! - [`audiences`]: the registries that are available to a tenant, as an index. Pure.
//! - [`cluster_addresses`]: keeps the addresses of the cluster's Services and API servers up to date.

pub mod access;
pub mod audience;
pub mod audiences;
pub mod cluster_addresses;
