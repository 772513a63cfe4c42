//! Which user the operator is for the API server.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use kube::{Api, Client, api::PostParams};

/// Asks the API server which user the client is.
pub async fn self_subject(client: &Client) -> Result<UserInfo, kube::Error> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    Ok(review.status.and_then(|status| status.user_info).unwrap_or_default())
}

/// Returns the namespace and name of a service account from its user name; `None` for other users.
pub fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_account_has_a_namespace() {
        let account = service_account("system:serviceaccount:registry-system:registry-operator");
        assert_eq!(account, Some(("registry-system", "registry-operator")));
        assert_eq!(service_account("system:serviceaccount:registry-system"), None);
        assert_eq!(service_account("jane"), None);
    }
}
