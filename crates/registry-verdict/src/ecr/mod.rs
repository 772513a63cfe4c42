//! AWS ECR: from access keys or a role to a token that its registries take.
//!
//! Split by what can go wrong: [`hosts`] says where tokens are had, [`regions`] where AWS is asked, [`identity`] who asks,
//! [`causes`] what AWS's refusals mean, [`tokens`] and its `cache` when AWS is asked at all, and [`api`] (feature `ecr`) asks, by the
//! clients of [`http`]. All but the last two are pure or without I/O. That a token opens the registry is the probe's to find out; what a
//! refusal means for conditions is
//! `assess`'s.

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

/// Whether this program can sign in to AWS.
pub const SUPPORTED: bool = cfg!(feature = "ecr");
