//! AWS ECR: from access keys or a role to a token that ECR's registries accept.
//!
//! Pure or without I/O, except [`api`] and [`http`] (feature `ecr`). Whether the token opens the registry is found out by the probe.
//!
//! - [`api`]: calls AWS with its SDK.
//! - `cache`: answers of AWS, kept while they are valid, and asked for once however many registries want them.
//! - [`causes`]: AWS's error codes, and what each means.
//! - [`hosts`]: hosts of ECR registries, and the AWS endpoint that issues tokens for each.
//! - [`http`]: HTTP clients for the SDK, directly or through the proxy.
//! - [`identity`]: who signs in to AWS: access keys, or a role that they or the operator's own identity assume.
//! - `own`: the operator's own AWS identity (environment, IRSA, EKS Pod Identity, node).
//! - [`probe`]: signs in at AWS, then probes the registry with the token.
//! - [`regions`]: the region that a request to AWS is sent to and signed for.
//! - [`tokens`]: tokens, shared by the registries of one tenant that use the same identity.

#[cfg(feature = "ecr")]
pub mod api;
mod cache;
pub mod causes;
pub mod hosts;
#[cfg(feature = "ecr")]
pub mod http;
pub mod identity;
#[cfg(feature = "ecr")]
mod own;
pub mod probe;
pub mod regions;
pub mod tokens;

pub use cache::{CachedAnswer, Fresh, Taken, Urgency};
pub use causes::{
    Api, AwsRefusal, Cause, Class, Denial, KeyRefusal, Outage, OwnIdentityFault, PolicyKind, ProxyTrouble,
};
pub use hosts::{EcrEndpoint, EcrEndpointError};
pub use identity::{Identity, KeyFault, Keys, Login, OperatorIdentity, RoleSource};
pub use probe::EcrObservation;
pub use tokens::{EcrToken, EcrTokens, Issuer};

/// Whether this program supports AWS ECR.
pub const SUPPORTED: bool = cfg!(feature = "ecr");
