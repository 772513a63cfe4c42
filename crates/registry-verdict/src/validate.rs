//! spec → [`Target`]: what is to be checked. Pure. What the API server's schema should have refused is refused here
//! again, for an older schema may have let it in.

use std::sync::Arc;

use registry_api::{RegistrySpec, spec::EcrAuth};
use registry_probe::{
    EgressPolicy, EgressScope, Endpoint, EndpointError, IpNet, RepositoryName, Target, TrustedService,
};
use thiserror::Error;

use crate::{
    cluster_addresses::ClusterAddresses,
    ecr::{self, EcrEndpoint, EcrEndpointError},
    object::{RegistryObject, RegistryScope},
};

/// What the administrator allows, for all registries.
#[derive(Clone, Debug)]
pub struct AdminPolicy {
    /// Exceptions to the egress policy.
    pub egress_allow: Arc<[IpNet]>,
    /// Further denials, for both scopes.
    pub egress_deny: Arc<[IpNet]>,
    /// Further denials for tenants: the cluster's own addresses.
    pub cluster_addresses: ClusterAddresses,
    /// Token services on other hosts that credentials may be sent to.
    pub trusted_token_services: Arc<[TrustedService]>,
}

/// Why a spec can't be checked.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum SpecError {
    /// The endpoint is not one.
    #[error("spec.endpoint {0}")]
    Endpoint(#[from] EndpointError),
    /// A path is not one.
    #[error("{field} must be a repository path: lower-case letters and digits, joined by . _ __ - or /")]
    Path {
        /// The field.
        field: &'static str,
    },
    /// More than one way to sign in.
    #[error("spec.auth must have at most one of basic, token and ecr; remove the others")]
    SeveralMethods,
    /// Not in this build.
    #[error("spec.auth.ecr is not supported: this build of the operator can't sign in to AWS ECR")]
    EcrUnsupported,
    /// It can't be told which of AWS's endpoints has the registry's tokens.
    #[error(transparent)]
    Place(#[from] EcrEndpointError),
}

/// What is to be checked of this registry.
pub fn probe_target(object: &RegistryObject, admin_policy: &AdminPolicy) -> Result<Target, SpecError> {
    let spec = &object.spec;
    check_methods(spec)?;
    Ok(Target {
        endpoint: Endpoint::parse(&spec.endpoint)?,
        base_path: path(spec.base_content_path.as_deref(), "spec.baseContentPath")?,
        repository: path(spec.validation.repository.as_deref(), "spec.validation.repository")?,
        skip_verify: spec.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify),
        egress_policy: egress_policy(object.key.scope(), admin_policy),
        trusted_token_services: admin_policy.trusted_token_services.clone(),
        // No registry of ECR has a token service, and what AWS gives a tenant goes to no host but that which was judged.
        only_to_endpoint: object.key.scope() == RegistryScope::Tenant && signing_in_at_aws(spec).is_some(),
        deadline: spec.validation.timeout.get(),
    })
}

fn check_methods(spec: &RegistrySpec) -> Result<(), SpecError> {
    let Some(auth) = &spec.auth else { return Ok(()) };
    let methods = [auth.basic.is_some(), auth.token.is_some(), auth.ecr.is_some()];
    if methods.into_iter().filter(|set| *set).count() > 1 {
        return Err(SpecError::SeveralMethods);
    }
    Ok(())
}

fn signing_in_at_aws(spec: &RegistrySpec) -> Option<&EcrAuth> {
    let ecr = spec.auth.as_ref().and_then(|auth| auth.ecr.as_ref());
    ecr.filter(|ecr| ecr.credentials.is_some() || ecr.sts.is_some())
}

/// Where AWS has tokens for this registry; none if it is not signed in to by AWS.
pub fn ecr_endpoint(spec: &RegistrySpec, endpoint: &Endpoint) -> Result<Option<EcrEndpoint>, SpecError> {
    let Some(ecr) = signing_in_at_aws(spec) else { return Ok(None) };
    if !ecr::SUPPORTED {
        return Err(SpecError::EcrUnsupported);
    }
    Ok(Some(EcrEndpoint::of(endpoint, ecr)?))
}

fn path(text: Option<&str>, field: &'static str) -> Result<Option<RepositoryName>, SpecError> {
    text.map(RepositoryName::parse).transpose().map_err(|_| SpecError::Path { field })
}

/// A tenant's endpoint may not lead to the cluster itself either.
fn egress_policy(scope: RegistryScope, admin_policy: &AdminPolicy) -> EgressPolicy {
    let (allow, deny) = (admin_policy.egress_allow.clone(), admin_policy.egress_deny.clone());
    match scope {
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
