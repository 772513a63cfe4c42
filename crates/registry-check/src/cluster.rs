//! Requests to a cluster before an apply: the tenant of a namespace, and errors as text.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt, client::AuthError};
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

/// The message if the kubeconfig yields no credentials. The error itself can contain tokens and the output of exec plugins.
pub const NO_CREDENTIALS: &str =
    "failed to get credentials with the kubeconfig; run kubectl get --raw /version to see why";

/// Returns whether the kubeconfig yielded no credentials, for example because its exec plugin failed.
pub fn is_credentials_failure(error: &kube::Error) -> bool {
    if matches!(error, kube::Error::Auth(_)) {
        return true;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<AuthError>()
            || error.downcast_ref().is_some_and(|own| matches!(own, kube::Error::Auth(_)))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns the API server's message, or why there is none.
#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error if is_credentials_failure(error) => NO_CREDENTIALS.to_owned(),
        other => format!("failed to reach the API server: {other}"),
    }
}

/// Returns whether the user has no permission, as opposed to an invalid request.
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_exec_plugins_is_not_shown() {
        let failure = || AuthError::AuthExec("token=HUSH".to_owned());
        let errors = [
            kube::Error::Auth(failure()),
            kube::Error::Service(failure().into()),
            kube::Error::Service(kube::Error::Auth(failure()).into()),
        ];
        for error in errors {
            assert_eq!(words(&error), NO_CREDENTIALS, "{error:?}");
        }
        let refused = kube::Error::Service(std::io::Error::other("connection refused").into());
        assert!(words(&refused).contains("connection refused"));
    }
}
