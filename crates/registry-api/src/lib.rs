//! The public interface of registry-operator as types: [`SystemRegistry`] and [`TenantRegistry`], their schema with
//! the rules that the API server enforces, and the vocabulary of their conditions.
//!
//! Owns: what a manifest may say, and the names of everything that a status says. Does not own: any I/O, nor the
//! decision which condition holds (that is the operator's `assess`).

// A new finding, reply, reason or cause must not pass through a match by `_`: it is decided about where it appears.
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

/// The label by which a cluster administrator says whose tenant a namespace is.
pub const TENANT_LABEL: &str = "registry.spectrocloud.com/tenant";

/// The annotation whose every new value asks for a validation now.
pub const REQUESTED_AT: &str = "registry.spectrocloud.com/requestedAt";

/// The type of a Secret that holds a registry's token (keys `token` or `identityToken`), for `spec.auth.token`.
pub const TOKEN_SECRET_TYPE: &str = "registry.spectrocloud.com/token";

/// The annotation by which a Secret names the only hosts that it may be used for: host patterns as in the chart's
/// `tenantPolicy.allowedEndpoints`, separated by commas or spaces.
pub const HOSTS_ANNOTATION: &str = "registry.spectrocloud.com/hosts";

/// The ConfigMap in the operator's namespace that says what tenants may ask for; the chart renders it from `tenantPolicy`.
pub const TENANT_POLICY: &str = "registry-operator-tenant-policy";

/// The finalizer on a registry that has something to clean up elsewhere (pull Secrets in tenant namespaces).
pub const FINALIZER: &str = "registry.spectrocloud.com/cleanup";

/// The label that says by whom an object is managed; [`OPERATOR`] on everything that the operator makes.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The value of [`MANAGED_BY_LABEL`] on what the operator makes.
pub const OPERATOR: &str = "registry-operator";

/// The label on a pull Secret with the uid of the registry that it belongs to. Together with [`MANAGED_BY_LABEL`] it makes
/// the Secret the operator's own; a Secret that lacks either is not touched.
pub const REGISTRY_UID_LABEL: &str = "registry.spectrocloud.com/registry-uid";

/// The annotation on a pull Secret that names its registry for people: `SystemRegistry/packs` or
/// `TenantRegistry/<namespace>/<name>`.
pub const REGISTRY_ANNOTATION: &str = "registry.spectrocloud.com/registry";

/// The field manager of pull Secrets.
pub const PULL_SECRET_MANAGER: &str = "registry-operator-availability";
