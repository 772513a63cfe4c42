//! A dry run that RBAC allows the operator, and that a policy must refuse.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::Status,
};
use registry_api::{GROUP, OPERATOR, SystemRegistry, spec::VERSION};
use serde_json::json;

use super::Finding;

/// The policy that must refuse it.
const POLICY: &str = "system-registries";
const FIELD_MANAGER: &str = "registry-operator-guard";
/// The name of the SystemRegistry in the dry run, which never exists. The chart's ClusterRole allows creating it.
pub const CANARY: &str = "registry-operator-guard";
const ANSWER: Duration = Duration::from_secs(10);

/// The result of a request that a policy must refuse.
#[derive(Debug, Eq, PartialEq)]
enum DryRunResult {
    Refused,
    LetThrough,
    Unknown(String),
}

/// Tries to create a SystemRegistry. `user` is the operator's, and `namespace` its own.
pub(super) async fn gaps(client: &Client, user: &str, namespace: &str) -> Finding {
    match try_to_make_one(client).await {
        DryRunResult::Refused => Finding::InForce,
        DryRunResult::LetThrough => Finding::Gaps(vec![let_through(user, namespace)]),
        DryRunResult::Unknown(why) => Finding::Unknown(why),
    }
}

fn let_through(user: &str, namespace: &str) -> String {
    let expected = format!("system:serviceaccount:{namespace}:{OPERATOR}");
    let what = format!("ValidatingAdmissionPolicy {POLICY}.{GROUP} did not refuse a dry run");
    if user == expected {
        format!("{what}: check that the API server enables the admission plugin ValidatingAdmissionPolicy")
    } else {
        format!("{what}: the policies name {expected}, but the operator runs as {user}")
    }
}

async fn try_to_make_one(client: &Client) -> DryRunResult {
    let object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "SystemRegistry",
        "metadata": {"name": CANARY}, "spec": {"endpoint": "https://guard.invalid", "suspend": true},
    });
    let api: Api<SystemRegistry> = Api::all(client.clone());
    let params = PatchParams { dry_run: true, ..PatchParams::apply(FIELD_MANAGER).force() };
    match tokio::time::timeout(ANSWER, api.patch(CANARY, &params, &Patch::Apply(object))).await {
        Ok(Ok(_)) => DryRunResult::LetThrough,
        Ok(Err(kube::Error::Api(status))) if is_refused(&status) => DryRunResult::Refused,
        Ok(Err(error)) => DryRunResult::Unknown(error.to_string()),
        Err(_) => DryRunResult::Unknown(format!("no answer in {ANSWER:?}")),
    }
}

/// Returns whether the policy refused it. RBAC and webhooks answer Forbidden too, but only policies add a cause that
/// begins with their name.
fn is_refused(status: &Status) -> bool {
    let begins = format!("ValidatingAdmissionPolicy '{POLICY}.{GROUP}' ");
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.message.starts_with(&begins))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn status(code: u16, causes: &Value) -> Status {
        let details = json!({"name": "registry-operator-guard", "causes": causes});
        serde_json::from_value(json!({"code": code, "reason": "Forbidden", "details": details})).unwrap()
    }

    #[test]
    fn only_refusal_by_the_policy_counts() {
        let by = |policy: &str| json!([{"message": format!("ValidatingAdmissionPolicy '{policy}' with binding 'b' denied request: no")}]);
        let ours = by("system-registries.registry.spectrocloud.com");
        assert!(is_refused(&status(403, &ours)));
        assert!(!is_refused(&status(403, &by("theirs.example.com"))));
        assert!(!is_refused(&status(403, &json!([]))), "RBAC");
        assert!(!is_refused(&status(422, &ours)));
    }

    #[test]
    fn reports_account_that_policies_do_not_name() {
        let says = let_through("system:serviceaccount:registry-system:other", "registry-system");
        assert!(says.ends_with("the operator runs as system:serviceaccount:registry-system:other"), "{says}");
        let says = let_through("system:serviceaccount:registry-system:registry-operator", "registry-system");
        assert!(says.ends_with("plugin ValidatingAdmissionPolicy"), "{says}");
    }
}
