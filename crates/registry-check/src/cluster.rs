//! A cluster that is asked before anything is applied: what a namespace's tenant is, and refusals in words.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use registry_api::TENANT_LABEL;

/// A cluster, and where in it.
#[derive(Clone)]
pub struct Cluster {
    /// The API server.
    pub client: Client,
    /// The namespace that was asked for, or the context's.
    pub namespace: String,
    /// Where the operator runs.
    pub system_namespace: String,
}

impl Cluster {
    /// Whose tenant a namespace is.
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

/// Whose tenant a namespace is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tenancy {
    /// This tenant's.
    Of(String),
    /// Nobody's.
    Nobody,
    /// There is no such namespace.
    Absent,
    /// It could not be read, for this reason.
    Unknown(String),
}

/// The API server's own words, or what kept them from coming.
#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => format!("failed to reach the API server: {other}"),
    }
}

/// Whether the API server forbids it to this user, as opposed to refusing what was sent.
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
