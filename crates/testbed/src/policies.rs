//! Waits for ValidatingAdmissionPolicies: the API server enforces them some moments after it has stored them.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::{Client, Error};

use crate::eventually::{NotYet, eventually};
use crate::manifests::{self, ApplyError};

/// A policy that refuses one name, and nothing else.
const CANARY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: canary}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [configmaps], operations: [CREATE]}]
  validations: [{expression: "object.metadata.name != 'canary'", message: in force}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: canary}
spec: {policyName: canary, validationActions: [Deny]}
"#;

/// Why it is not known that the policies are in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The canary is not taken.
    #[error(transparent)]
    Manifest(#[from] ApplyError),
    /// The canary can't be removed.
    #[error("cannot remove the canary: {0}")]
    Api(#[from] Error),
    /// It takes too long.
    #[error(transparent)]
    NotYet(#[from] NotYet),
}

/// Waits until every policy that is there now is enforced. The API server takes them up in their order, so one that is made
/// after them tells.
pub async fn policies_are_in_force(client: &Client) -> Result<(), PolicyError> {
    let canary = manifests::parse("the canary", CANARY)?;
    manifests::apply(client, canary.clone()).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let metadata = ObjectMeta { name: Some("canary".to_owned()), ..ObjectMeta::default() };
    let map = ConfigMap { metadata, ..ConfigMap::default() };
    let look = || async {
        match maps.create(&params, &map).await {
            Err(Error::Api(status)) if status.message.contains("in force") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    eventually("the policies are in force", look).await?;
    for object in canary.iter().rev() {
        manifests::api_of(client, object).await?.delete("canary", &DeleteParams::default()).await?;
    }
    Ok(())
}
