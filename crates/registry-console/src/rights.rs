//! What the signed-in user may do, asked by SelfSubjectAccessReview, and what to tell those who may not.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};
use registry_api::{
    GROUP,
    spec::{Scope as _, System, Tenant},
};

use crate::{listing::RowControls, scope::ConsoleScope, user::UserClient};

/// Why registries can't be added, changed or removed by this user in this scope; `None` if they can be.
pub async fn missing(
    user: &UserClient,
    scope: &ConsoleScope,
    verb: &'static str,
) -> Result<Option<String>, kube::Error> {
    missing_for(user, scope, verb, None).await
}

/// The same for one registry: a Role may name it.
pub async fn missing_for(
    user: &UserClient,
    scope: &ConsoleScope,
    verb: &'static str,
    name: Option<&str>,
) -> Result<Option<String>, kube::Error> {
    let verbs: &[&str] = match scope {
        ConsoleScope::System => &[verb, "administer"],
        ConsoleScope::Tenant { .. } => &[verb],
    };
    for verb in verbs {
        if !may(user, scope, verb, name).await? {
            return Ok(Some(whom_to_ask(scope, verb)));
        }
    }
    Ok(None)
}

/// What the user can do to registries of this scope, or to one.
pub async fn controls(
    user: &UserClient,
    scope: &ConsoleScope,
    name: Option<&str>,
) -> Result<RowControls, kube::Error> {
    let (patch, delete) =
        tokio::try_join!(missing_for(user, scope, "patch", name), missing_for(user, scope, "delete", name),)?;
    Ok(RowControls::new(patch, delete))
}

async fn may(
    user: &UserClient,
    scope: &ConsoleScope,
    verb: &str,
    name: Option<&str>,
) -> Result<bool, kube::Error> {
    let resource = match scope {
        ConsoleScope::System => System::PLURAL,
        ConsoleScope::Tenant { .. } => Tenant::PLURAL,
    };
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some(resource.to_owned()),
        namespace: scope.namespace().map(ToOwned::to_owned),
        verb: Some(verb.to_owned()),
        name: name.map(ToOwned::to_owned),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(user.client());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// The right that is missing, and who gives it.
fn whom_to_ask(scope: &ConsoleScope, verb: &str) -> String {
    match scope {
        ConsoleScope::System => format!(
            "You may not {verb} SystemRegistries; ask a cluster administrator for the ClusterRole registry-system-admin"
        ),
        ConsoleScope::Tenant { namespace, .. } => format!(
            "You may not {verb} TenantRegistries in {namespace}; ask its administrator for the ClusterRole \
             registry-tenant-admin"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_right_names_whom_to_ask() {
        assert!(whom_to_ask(&ConsoleScope::System, "administer").contains("registry-system-admin"));
        let scope = ConsoleScope::Tenant { tenant: "t".to_owned(), namespace: "n".to_owned() };
        assert!(whom_to_ask(&scope, "create").contains("in n; ask its administrator"));
    }
}
