//! Which namespace is whose: the index of tenants, the operator's role bindings in their namespaces, and the cluster's own
//! addresses, which tenants' registries may not reach.
//!
//! May touch namespaces, role bindings and what names the cluster's addresses; no registry, and no Secret.

pub mod access;
pub mod audience;
pub mod audiences;
pub mod cluster_addresses;
