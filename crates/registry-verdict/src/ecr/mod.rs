//! AWS ECR: gets a token for a registry, with access keys or a role.
//!
//! - [`hosts`]: the region and kind of endpoint, from the registry's host.
//! - [`regions`]: the region of requests to AWS.
//! - [`identity`]: who signs in.
//! - [`causes`]: what AWS's errors mean.
//! - [`tokens`] and its `cache`: when AWS is asked.
//! - [`api`] and [`http`] (feature `ecr`): the requests. All other modules are pure or without I/O.
//!
//! The probe finds out whether the registry accepts the token, and `assess` makes the conditions.

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
pub use causes::{Api, AwsRefusal, Cause, Class, Denial, Outage, OwnIdentityFault, PolicyKind, ProxyTrouble};
pub use hosts::{EcrEndpoint, EcrEndpointError};
pub use identity::{Identity, KeyFault, Keys, Login, OperatorIdentity, RoleSource};
pub use probe::EcrObservation;
pub use tokens::{EcrToken, EcrTokens, Issuer};

/// Whether this program supports AWS ECR.
pub const SUPPORTED: bool = cfg!(feature = "ecr");
