//! Who assumes a role in AWS, for the trust policy to paste.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use registry_api::OPERATOR;
use registry_check::cluster::Cluster;

/// The annotation of IAM roles for service accounts (IRSA).
const ROLE: &str = "eks.amazonaws.com/role-arn";

/// The role that the operator has by its ServiceAccount; `None` if it has none there, or if the user can't read it.
pub async fn of_operator(cluster: &Cluster) -> Option<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), &cluster.system_namespace);
    let account = accounts.get_metadata_opt(OPERATOR).await.ok()??;
    account.metadata.annotations?.remove(ROLE)
}
