//! Checks whether the operator runs as the service account that the chart's policies and roles name. Tools such as
//! kustomize (`namePrefix`, `namespace`) rename the account, but not the expressions that contain its name. The
//! policies would then refuse everything that the operator writes, and limit it in nothing.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use registry_api::{GROUP, OPERATOR};
use thiserror::Error;

use crate::kubernetes::self_subject;

const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// The operator runs as an account that the policies don't name.
#[derive(Debug, Eq, Error, PartialEq)]
#[error(
    "running as service account {namespace}/{name}, but the admission policies and --system-namespace name \
     {system_namespace}/{OPERATOR}: install without changing names or namespaces (no kustomize namePrefix, \
     nameSuffix or namespace; for another namespace, render the chart with helm template --namespace)"
)]
pub struct WrongAccount {
    namespace: String,
    name: String,
    system_namespace: String,
}

impl WrongAccount {
    /// Compares the user with the account that the policies name. `None` if the user isn't a service account, such as a
    /// developer.
    pub fn of(user: &str, system_namespace: &str) -> Option<Self> {
        let (namespace, name) = self_subject::service_account(user)?;
        let differs = (namespace, name) != (system_namespace, OPERATOR);
        differs.then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            system_namespace: system_namespace.to_owned(),
        })
    }
}

/// Returns when it is certain that the operator can't work with its account. Otherwise, never returns.
///
/// An account of another namespace is always wrong. An account with another name works if it has `administer`, because
/// the policies let it pass. Only the leader checks that; a standby only sends reads.
pub async fn wrong(client: &Client, system_namespace: &str, leads: impl Fn() -> bool) -> WrongAccount {
    loop {
        match check(client, system_namespace, &leads).await {
            Ok(Account::Wrong(wrong)) => return wrong,
            Ok(Account::Right) => return std::future::pending().await,
            Ok(Account::Undecided) => {}
            Err(error) => tracing::debug!(%error, "SelfSubjectReview failed, retrying"),
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

enum Account {
    Right,
    Wrong(WrongAccount),
    Undecided,
}

async fn check(
    client: &Client,
    system_namespace: &str,
    leads: impl Fn() -> bool,
) -> Result<Account, kube::Error> {
    let user = self_subject::self_subject(client).await?.username.unwrap_or_default();
    let Some(wrong) = WrongAccount::of(&user, system_namespace) else { return Ok(Account::Right) };
    if wrong.namespace != system_namespace {
        return Ok(Account::Wrong(wrong));
    }
    if !leads() {
        return Ok(Account::Undecided);
    }
    Ok(if administers(client).await? { Account::Right } else { Account::Wrong(wrong) })
}

async fn administers(client: &Client) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some("systemregistries".to_owned()),
        verb: Some("administer".to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_chart_account_and_users() {
        assert_eq!(
            WrongAccount::of("system:serviceaccount:registry-system:registry-operator", "registry-system"),
            None
        );
        assert_eq!(WrongAccount::of("kubernetes-admin", "registry-system"), None);
    }

    #[test]
    fn rejects_renamed_and_foreign_account() {
        for user in [
            "system:serviceaccount:registry-system:x-registry-operator",
            "system:serviceaccount:registry-system:registry-operator-x",
            "system:serviceaccount:other:registry-operator",
        ] {
            let wrong = WrongAccount::of(user, "registry-system").unwrap().to_string();
            assert!(wrong.contains("name registry-system/registry-operator:"), "{wrong}");
        }
    }
}
