//! The input of a validation: what to check, and with which credentials and certificates.

use std::sync::Arc;
use std::time::Duration;

use crate::credentials::Credentials;
use crate::egress_policy::EgressPolicy;
use crate::endpoint::Endpoint;
use crate::host::TrustedService;
use crate::repository::RepositoryName;
use crate::tls::{CaBundle, ClientIdentity};

/// The registry to check, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// The registry's address.
    pub endpoint: Endpoint,
    /// The namespace that content is read from.
    pub base_path: Option<RepositoryName>,
    /// A repository below `base_path` that must be readable.
    pub repository: Option<RepositoryName>,
    /// Whether to accept a certificate that fails verification. It is verified and described in any case.
    pub skip_verify: bool,
    /// Which addresses may be connected to.
    pub egress_policy: EgressPolicy,
    /// Token services at other sites that the administrator trusts with credentials.
    pub trusted_token_services: Arc<[TrustedService]>,
    /// Whether only the endpoint's own server may get the credentials, and no token service on another host or port.
    pub only_to_endpoint: bool,
    /// The time limit of the whole validation, from the first lookup to the last response.
    pub deadline: Duration,
}

/// The content of the target's references.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// The credentials; `None` for anonymous access.
    pub credentials: Option<Credentials>,
    /// Certification authorities besides the public ones.
    pub ca: Option<CaBundle>,
    /// The client certificate, sent on request to the registry and to token services that may get the credentials.
    pub client_certificate: Option<ClientIdentity>,
}
