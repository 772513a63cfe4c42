//! Which namespace belongs to which tenant: the index of tenants, the operator's role bindings in their namespaces, and
//! the cluster's own addresses, which tenants' registries must not reach.
//!
//! May use namespaces, role bindings, and the objects with the cluster's addresses, but neither registries nor Secrets.

pub mod access;
pub mod audience;
pub mod audiences;
pub mod cluster_addresses;
