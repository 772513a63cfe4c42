//! What the policy forbids tenants, said before they fill in a form. The API server is asked by dry runs, as the user: nobody needs to be
//! able to read the policy.

use registry_check::cluster::Cluster;
use serde_json::{Value, json};

use crate::{
    complaints::FieldComplaint,
    scope::ConsoleScope,
    trial::{CreateFailure, create},
};

/// Registries that only ask. No host ends so (RFC 2606).
const NAME: &str = "registry-console-asks";
const HOST: &str = "registry-console.invalid";

/// What the policy forbids in a namespace; empty where it forbids nothing, or isn't known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TenantLimits {
    /// Why verification can't be skipped.
    pub skip: String,
    /// Why `http://` can't be used.
    pub plain_http: String,
    /// Which endpoints are allowed.
    pub endpoints: String,
}

/// Asks what is forbidden in that scope. In the system scope, nothing is.
pub async fn ask(cluster: &Cluster, scope: &ConsoleScope) -> TenantLimits {
    if *scope == ConsoleScope::System {
        return TenantLimits::default();
    }
    let refusal = |endpoint: String, skip: bool, field: &'static str| async move {
        let spec = json!({"endpoint": endpoint, "tls": {"insecureSkipVerify": skip}});
        match create(cluster, scope, &document(scope, &spec), true).await {
            Err(CreateFailure::Refused(complaints)) => sentence(&complaints, field),
            Err(CreateFailure::Unknown(_)) | Ok(()) => String::new(),
        }
    };
    let (skip, plain_http, endpoints) = tokio::join!(
        refusal(format!("https://{HOST}"), true, "insecure_skip_verify"),
        refusal(format!("http://{HOST}"), false, "endpoint"),
        refusal(format!("https://{HOST}"), false, "endpoint"),
    );
    let is_about_http = plain_http.contains("http://");
    TenantLimits {
        skip,
        plain_http: if is_about_http { plain_http } else { String::new() },
        endpoints: allowed(&endpoints).unwrap_or_default(),
    }
}

fn document(scope: &ConsoleScope, spec: &Value) -> Value {
    let metadata = json!({"name": NAME, "namespace": scope.namespace()});
    let api_version = registry_check::manifest::api_version();
    json!({"apiVersion": api_version, "kind": scope.kind(), "metadata": metadata, "spec": spec})
}

fn sentence(complaints: &[FieldComplaint], field: &str) -> String {
    complaints.iter().find(|one| one.field == field).map(|one| one.message.clone()).unwrap_or_default()
}

/// What is allowed, of the sentence about a host that isn't.
fn allowed(sentence: &str) -> Option<String> {
    let (_, list) = sentence.split_once("; allowed: ")?;
    let list = list.rsplit_once(';').map_or(list, |(list, _)| list);
    Some(format!("Allowed for tenants: {list}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_endpoints_are_taken_from_the_sentence() {
        let sentence = "spec.endpoint (r.invalid:443) is not allowed for tenants; allowed: *.example, r.example; an \
                        administrator can add it (tenantPolicy.allowedEndpoints)";
        assert_eq!(allowed(sentence).as_deref(), Some("Allowed for tenants: *.example, r.example"));
        assert_eq!(allowed("spec.endpoint with http:// is not allowed for tenants"), None);
    }
}
