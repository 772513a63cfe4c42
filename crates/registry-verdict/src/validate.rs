//! From the spec to a [`Target`]: what to probe. Pure. Also refuses what the CRD's schema refuses, because the object
//! may be older than the schema.

use std::sync::Arc;

use registry_api::spec::EcrAuth;
use registry_probe::{
    EgressPolicy, EgressScope, Endpoint, EndpointError, IpNet, RepositoryName, Target, TrustedService,
};
use thiserror::Error;

use crate::{
    cluster_addresses::ClusterAddresses,
    ecr::{self, EcrEndpoint, EcrEndpointError},
    object::{RegistryObject, RegistryScope},
};

/// The administrator's settings for validations of all registries.
#[derive(Clone, Debug)]
pub struct AdminPolicy {
    /// Exceptions from the egress policy.
    pub egress_allow: Arc<[IpNet]>,
    /// Further denied addresses, in both scopes.
    pub egress_deny: Arc<[IpNet]>,
    /// Further denied addresses for tenants: the cluster's own.
    pub cluster_addresses: ClusterAddresses,
    /// Token services on other sites that credentials can be sent to.
    pub trusted_token_services: Arc<[TrustedService]>,
}

/// Why a spec can't be validated.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum SpecError {
    /// The endpoint is invalid.
    #[error("spec.endpoint {0}")]
    Endpoint(#[from] EndpointError),
    /// A path is invalid.
    #[error("{field} must be a repository path: lower-case letters and digits, joined by . _ __ - or /")]
    Path {
        /// The field.
        field: &'static str,
    },
    /// The spec has more than one member of `auth`.
    #[error("spec.auth must have at most one of basic, token and ecr; remove the others")]
    SeveralMethods,
    /// This build doesn't support ECR.
    #[error("spec.auth.ecr is not supported: this build of the operator can't sign in to AWS ECR")]
    EcrUnsupported,
    /// The region or the kind of ECR endpoint can't be determined.
    #[error(transparent)]
    Place(#[from] EcrEndpointError),
}

/// Returns what to probe for this registry.
pub fn probe_target(object: &RegistryObject, admin_policy: &AdminPolicy) -> Result<Target, SpecError> {
    check_methods(object)?;
    Ok(Target {
        endpoint: Endpoint::parse(&object.spec.endpoint)?,
        base_path: path(object.spec.base_content_path.as_deref(), "spec.baseContentPath")?,
        repository: path(object.spec.validation.repository.as_deref(), "spec.validation.repository")?,
        skip_verify: object.spec.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify),
        egress_policy: egress_policy(object, admin_policy),
        trusted_token_services: admin_policy.trusted_token_services.clone(),
        // ECR registries have no token service, so a tenant's AWS token must only be sent to the endpoint, whose host
        // was checked.
        only_to_endpoint: object.key.scope() == RegistryScope::Tenant && signing_in_at_aws(object).is_some(),
        deadline: object.spec.validation.timeout.get(),
    })
}

fn check_methods(object: &RegistryObject) -> Result<(), SpecError> {
    let Some(auth) = &object.spec.auth else { return Ok(()) };
    let methods = [auth.basic.is_some(), auth.token.is_some(), auth.ecr.is_some()];
    if methods.into_iter().filter(|set| *set).count() > 1 {
        return Err(SpecError::SeveralMethods);
    }
    Ok(())
}

fn signing_in_at_aws(object: &RegistryObject) -> Option<&EcrAuth> {
    let ecr = object.spec.auth.as_ref().and_then(|auth| auth.ecr.as_ref());
    ecr.filter(|ecr| ecr.credentials.is_some() || ecr.sts.is_some())
}

/// Returns the ECR endpoint of this registry; `None` without `auth.ecr`.
pub fn ecr_endpoint(object: &RegistryObject, endpoint: &Endpoint) -> Result<Option<EcrEndpoint>, SpecError> {
    let Some(ecr) = signing_in_at_aws(object) else { return Ok(None) };
    if !ecr::SUPPORTED {
        return Err(SpecError::EcrUnsupported);
    }
    Ok(Some(EcrEndpoint::of(endpoint, ecr)?))
}

fn path(text: Option<&str>, field: &'static str) -> Result<Option<RepositoryName>, SpecError> {
    text.map(RepositoryName::parse).transpose().map_err(|_| SpecError::Path { field })
}

/// A tenant's registry must not be at the cluster's own addresses.
fn egress_policy(object: &RegistryObject, admin_policy: &AdminPolicy) -> EgressPolicy {
    let (allow, deny) = (admin_policy.egress_allow.clone(), admin_policy.egress_deny.clone());
    match object.key.scope() {
        RegistryScope::System => EgressPolicy::new(EgressScope::System, allow, deny),
        RegistryScope::Tenant => {
            let cluster = admin_policy.cluster_addresses.all();
            let deny: Arc<[IpNet]> = deny.iter().chain(cluster.iter()).copied().collect();
            EgressPolicy::new(EgressScope::Tenant, allow, deny)
        }
    }
}

#[cfg(test)]
mod tests;
