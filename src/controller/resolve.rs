//! The first steps of a validation: whose the registry is, validate its spec, and resolve its references.

use std::sync::Arc;

use registry_verdict::{
    assess::Observation,
    object::RegistryObject,
    resolve::PolicySource,
    steps::{Examination, NamespaceTenant, NextStep, ValidationContext, examine},
};

use super::{context::Context, error::ReconcileError, history::ValidationInputs};

/// Returns what to probe, or why that isn't possible, after the inputs that this is based on.
pub async fn resolve(
    context: &Context,
    object: &RegistryObject,
    beyond_quota: bool,
) -> Result<(ValidationInputs, NextStep), ReconcileError> {
    let tenant = tenant(context, object).await?;
    let examination = if beyond_quota && tenant.is_some() {
        Examination::stopped(Observation::BeyondQuota(context.quota().most()))
    } else {
        let system_namespace = &context.system_namespace;
        let surroundings = ValidationContext {
            tenant: tenant.as_ref().map_or(NamespaceTenant::None, NamespaceTenant::Of),
            namespace: object.key.references_namespace(system_namespace),
            policy: PolicySource::Namespace(system_namespace),
            admin_policy: &context.admin_policy,
        };
        examine(object, surroundings, &*context.references).await?
    };
    Ok((ValidationInputs::of(object, tenant).with(&examination), examination.plan))
}

/// Returns the tenant of the registry's namespace, unless the watch of namespaces is behind.
async fn tenant(context: &Context, object: &RegistryObject) -> Result<Option<Arc<str>>, ReconcileError> {
    let tenant = context.tenant(object);
    if let (Some(namespace), None) = (object.key.namespace(), &tenant)
        && context.access.is_labelled(namespace).await?
    {
        return Err(ReconcileError::TenantUnseen);
    }
    Ok(tenant)
}
