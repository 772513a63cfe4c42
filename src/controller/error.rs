//! Why the work on a registry did not finish, and how long to wait before the next try.

use std::time::Duration;

use registry_probe::Backoff;
use registry_verdict::resolve::ReadError;
use thiserror::Error;

use super::publish::PublishError;
use crate::{kubernetes::call::CallError, tenancy::access::AccessError};

/// Why a reconciliation did not finish; it is tried again.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A reference could not be read.
    #[error(transparent)]
    Read(#[from] ReadError<CallError>),
    /// The object could not be read or written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The namespace could not be read.
    #[error("failed to get the namespace's tenant: {0}")]
    Tenant(#[from] AccessError),
    /// The namespace has the tenant label, but the watch of namespaces does not show it yet.
    #[error("the watch of namespaces is behind")]
    TenantUnseen,
    /// The operator has too many files open: the validation says nothing about the registry.
    #[error("registry not validated: too many open files; raise the operator's limit on open files")]
    OwnLimit,
    /// The object or a reference changed during the validation, which starts again at once.
    #[error("the object changed during its validation")]
    Superseded,
}

impl ReconcileError {
    /// Returns how long to wait before the next try after that many failures in a row.
    pub fn pause(&self, failures: u32) -> Duration {
        match self {
            Self::Read(ReadError::Api { source, .. })
            | Self::Publish(PublishError::Api { source, .. })
            | Self::Tenant(AccessError::Api(source)) => source.pause(failures),
            Self::TenantUnseen => Backoff::TENANT_UNSEEN.after(failures),
            Self::Read(ReadError::Forbidden { .. })
            | Self::Publish(PublishError::Gone(_) | PublishError::Conflict(_))
            | Self::Tenant(AccessError::NoRole)
            | Self::OwnLimit
            | Self::Superseded => Backoff::API_CALL.after(failures),
        }
    }
}
