//! Requests to a cluster before an apply: the tenant of a namespace, and errors as text.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use registry_api::TENANT_LABEL;

/// A cluster, with the namespaces to use.
#[derive(Clone)]
pub struct Cluster {
    /// The client for the API server.
    pub client: Client,
    /// The requested namespace, or the context's.
    pub namespace: String,
    /// The operator's namespace.
    pub system_namespace: String,
}

impl Cluster {
    /// Returns the tenant of a namespace.
    pub async fn tenancy(&self, namespace: &str) -> Tenancy {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match namespaces.get_metadata_opt(namespace).await {
            Ok(Some(found)) => match found.labels().get(TENANT_LABEL) {
                Some(tenant) if !tenant.is_empty() => Tenancy::Of(tenant.clone()),
                _ => Tenancy::Nobody,
            },
            Ok(None) => Tenancy::Absent,
            Err(error) => Tenancy::Unknown(words(&error)),
        }
    }
}

/// The tenant of a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tenancy {
    /// This tenant.
    Of(String),
    /// No tenant.
    Nobody,
    /// The namespace doesn't exist.
    Absent,
    /// The namespace could not be read, for this reason.
    Unknown(String),
}

/// Returns the API server's message, or why there is none.
#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => format!("failed to reach the API server: {other}"),
    }
}

/// Returns whether the user has no permission, as opposed to an invalid request.
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
