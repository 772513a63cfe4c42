//! A ValidatingAdmissionPolicy's refusal.

use anyhow::Result;
use serde_json::{Value, json};

use super::{namespace, path, registry, secret};
use crate::{call::Call, side::Side};

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const POLICY: &str = "no-refused.example.com";
const MESSAGE: &str = "the label refused is refused";

fn policy() -> Value {
    let rule = |group: &str, resource: &str| json!({"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [resource]});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [rule("", "secrets"), rule("registry.spectrocloud.com", "*")],
            },
            "validations": [{
                "expression": "!has(object.metadata.labels) || !('refused' in object.metadata.labels)",
                "message": MESSAGE, "reason": "Forbidden",
            }],
        },
    })
}

pub async fn refusals(side: &mut Side) -> Result<()> {
    namespace(side, "policies").await?;
    let secrets = path("policies", "secrets");
    side.ask(&Call::create(format!("{ADMISSION}/validatingadmissionpolicies"), &policy())).await?;
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY}, "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
    });
    side.ask(&Call::create(format!("{ADMISSION}/validatingadmissionpolicybindings"), &binding)).await?;
    side.cluster.refuse_label(POLICY, MESSAGE);
    let refused = json!({"metadata": {"labels": {"refused": ""}}});
    let dry = Call::create(format!("{secrets}?dryRun=All"), &secret("dry", refused.clone()));
    side.send_until(403, dry).await?;
    side.send(Call::create(&secrets, &secret("one", json!({})))).await?;
    side.send(Call::create(&secrets, &secret("two", refused.clone()))).await?;
    side.send(Call::merge(format!("{secrets}/one"), &refused)).await?;
    side.send(Call::create(&secrets, &secret("one", refused.clone()))).await?;
    let mut system = registry("guard", refused);
    super::merge(&mut system, json!({"kind": "SystemRegistry"}));
    let path = "/apis/registry.spectrocloud.com/v1alpha1/systemregistries/guard?fieldManager=guard&force=true&dryRun=All";
    side.send(Call::apply(path, &system)).await?;
    side.send(Call::get(format!("{ADMISSION}/validatingadmissionpolicybindings/{POLICY}"))).await?;
    Ok(())
}
