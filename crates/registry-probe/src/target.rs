//! What is to be checked, and with what: the input of a validation.

use std::sync::Arc;
use std::time::Duration;

use crate::credentials::Credentials;
use crate::egress_policy::EgressPolicy;
use crate::endpoint::Endpoint;
use crate::host::TrustedService;
use crate::repository::RepositoryName;
use crate::tls::{CaBundle, ClientIdentity};

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the registry is.
    pub endpoint: Endpoint,
    /// The namespace that content is read from.
    pub base_path: Option<RepositoryName>,
    /// A repository below `base_path` that must be readable.
    pub repository: Option<RepositoryName>,
    /// Whether a certificate that fails verification is let pass. It is verified and described all the same.
    pub skip_verify: bool,
    /// Which addresses may be connected to.
    pub egress_policy: EgressPolicy,
    /// Token services at other sites that credentials may be sent to, by the administrator's word.
    pub trusted_token_services: Arc<[TrustedService]>,
    /// Whether the credentials are for the endpoint's own server alone: no token service on another host or port gets them.
    pub only_to_endpoint: bool,
    /// Bounds the whole validation, from the first look-up of a name to the last answer.
    pub deadline: Duration,
}

/// What the target's references resolved to.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// Absent for an unprotected registry.
    pub credentials: Option<Credentials>,
    /// Certification authorities besides the public ones.
    pub ca: Option<CaBundle>,
    /// Shown to the registry, and to token services that may see the credentials, if they ask for one.
    pub client_certificate: Option<ClientIdentity>,
}
