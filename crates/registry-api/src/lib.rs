//! The public interface of registry-operator as types: [`SystemRegistry`] and [`TenantRegistry`], their schema with the
//! rules that the API server enforces, and the types and reasons of their conditions.
//!
//! Owns the fields of manifests, and the names in a status. Doesn't do I/O, and doesn't decide which condition applies
//! (`assess` in registry-verdict does).

// So that a new finding, reply, reason or cause doesn't compile until each match handles it.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

pub mod advice;
pub mod condition;
pub mod crd;
mod duration;
pub mod ecr_hosts;
mod rules;
pub mod spec;
pub mod status;

pub use condition::{ConditionType, Reason};
pub use duration::GoDuration;
pub use spec::{RegistrySpec, SystemRegistry, TenantRegistry};
pub use status::RegistryStatus;

/// The API group of both kinds, and the prefix of every label and annotation.
pub const GROUP: &str = "registry.spectrocloud.com";

/// The label that assigns a namespace to a tenant.
pub const TENANT_LABEL: &str = "registry.spectrocloud.com/tenant";

/// The annotation that requests a validation with each new value.
pub const REQUESTED_AT: &str = "registry.spectrocloud.com/requestedAt";

/// The type of a Secret with a registry's token (keys `token` or `identityToken`), for `spec.auth.token`.
pub const TOKEN_SECRET_TYPE: &str = "registry.spectrocloud.com/token";

/// The annotation that limits a Secret to certain hosts: patterns as in the chart's `tenantPolicy.allowedEndpoints`,
/// separated by commas or spaces.
pub const HOSTS_ANNOTATION: &str = "registry.spectrocloud.com/hosts";

/// The ConfigMap in the operator's namespace with the rules for tenants. The chart renders it from `tenantPolicy`.
pub const TENANT_POLICY: &str = "registry-operator-tenant-policy";

/// The finalizer of a registry with pull Secrets, which are deleted with it.
pub const FINALIZER: &str = "registry.spectrocloud.com/cleanup";

/// The label that names the manager of an object: [`OPERATOR`] on everything that the operator creates.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`] on objects that the operator creates.
pub const OPERATOR: &str = "registry-operator";

/// The label on a pull Secret with the uid of its registry. A Secret without this label or [`MANAGED_BY_LABEL`] is not
/// the operator's.
pub const REGISTRY_UID_LABEL: &str = "registry.spectrocloud.com/registry-uid";

/// The annotation on a pull Secret that names its registry for people: `SystemRegistry/packs` or
/// `TenantRegistry/<namespace>/<name>`.
pub const REGISTRY_ANNOTATION: &str = "registry.spectrocloud.com/registry";

/// The field manager of pull Secrets.
pub const PULL_SECRET_MANAGER: &str = "registry-operator-availability";
