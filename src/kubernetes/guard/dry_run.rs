//! Requests without effect that RBAC grants to the operator and a policy must refuse.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::Status,
};
use registry_api::{GROUP, OPERATOR, SystemRegistry, spec::VERSION};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Finding;
use crate::settings::TenantAccess;

const FIELD_MANAGER: &str = "registry-operator-guard";
/// The SystemRegistry that is tried and never made; the chart's ClusterRole grants its creation by this name.
const CANARY: &str = "registry-operator-guard";
const ANSWER: Duration = Duration::from_secs(10);

/// What is tried.
pub(super) struct Probes<'a> {
    /// The operator's own, which is never a tenant's.
    pub namespace: &'a str,
    pub how: TenantAccess,
}

/// What became of a request that a policy must refuse.
#[derive(Debug, Eq, PartialEq)]
enum Tried {
    Refused,
    LetThrough,
    Unknown(String),
}

impl Probes<'_> {
    /// Tries all of it. `user` is the operator.
    pub(super) async fn gaps(&self, client: &Client, user: &str) -> Finding {
        let mut tried = vec![("system-registries", self.system_registry(client).await)];
        if self.how == TenantAccess::Bound {
            tried.push(("operator-role-bindings", self.role_binding(client).await));
        }
        let mut gaps = Vec::new();
        for (policy, tried) in tried {
            match tried {
                Tried::Refused => {}
                Tried::LetThrough => gaps.push(self.let_through(policy, user)),
                Tried::Unknown(why) => return Finding::Unknown(why),
            }
        }
        if gaps.is_empty() { Finding::InForce } else { Finding::Gaps(gaps) }
    }

    fn let_through(&self, policy: &str, user: &str) -> String {
        let expected = format!("system:serviceaccount:{}:{OPERATOR}", self.namespace);
        let what = format!(
            "what ValidatingAdmissionPolicy {policy}.{GROUP} must refuse was let through (a dry run)"
        );
        if user == expected {
            format!("{what}: look whether the API server's admission plugin ValidatingAdmissionPolicy is on")
        } else {
            format!("{what}: the policies name {expected}, and the operator runs as {user}")
        }
    }

    async fn system_registry(&self, client: &Client) -> Tried {
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "SystemRegistry",
            "metadata": {"name": CANARY}, "spec": {"endpoint": "https://guard.invalid", "suspend": true},
        });
        let api: Api<SystemRegistry> = Api::all(client.clone());
        try_to_apply(&api, (CANARY, object), "system-registries").await
    }

    /// Binds nobody: the namespace is no tenant's, so the policy refuses it whatever it says.
    async fn role_binding(&self, client: &Client) -> Tried {
        let object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": OPERATOR, "namespace": self.namespace},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "registry-operator-tenant",
            },
            "subjects": [],
        });
        let api: Api<RoleBinding> = Api::namespaced(client.clone(), self.namespace);
        try_to_apply(&api, (OPERATOR, object), "operator-role-bindings").await
    }
}

/// Applies it server-side, without effect.
async fn try_to_apply<K>(api: &Api<K>, (name, object): (&str, Value), policy: &str) -> Tried
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let params = PatchParams { dry_run: true, ..PatchParams::apply(FIELD_MANAGER).force() };
    match tokio::time::timeout(ANSWER, api.patch(name, &params, &Patch::Apply(object))).await {
        Ok(Ok(_)) => Tried::LetThrough,
        Ok(Err(kube::Error::Api(status))) if is_refused_by(&status, policy) => Tried::Refused,
        Ok(Err(error)) => Tried::Unknown(error.to_string()),
        Err(_) => Tried::Unknown(format!("the API server did not answer in {ANSWER:?}")),
    }
}

/// Whether that policy refused it. RBAC and webhooks answer Forbidden too; only policies add a cause, which begins with their
/// name.
fn is_refused_by(status: &Status, policy: &str) -> bool {
    let begins = format!("ValidatingAdmissionPolicy '{policy}.{GROUP}' ");
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.message.starts_with(&begins))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, causes: Value) -> Status {
        let details = json!({"name": "registry-operator-guard", "causes": causes});
        serde_json::from_value(json!({"code": code, "reason": "Forbidden", "details": details})).unwrap()
    }

    #[test]
    fn only_the_policys_own_refusal_counts() {
        let by = |policy: &str| json!([{"message": format!("ValidatingAdmissionPolicy '{policy}' with binding 'b' denied request: no")}]);
        let ours = by("system-registries.registry.spectrocloud.com");
        assert!(is_refused_by(&status(403, ours.clone()), "system-registries"));
        assert!(!is_refused_by(&status(403, by("theirs.example.com")), "system-registries"));
        assert!(!is_refused_by(&status(403, json!([])), "system-registries"), "RBAC");
        assert!(!is_refused_by(&status(422, ours), "system-registries"));
    }

    #[test]
    fn an_account_that_the_policies_do_not_name_is_said() {
        let probes = Probes { namespace: "registry-system", how: TenantAccess::Bound };
        let says = probes.let_through("system-registries", "system:serviceaccount:registry-system:other");
        assert!(says.ends_with("the operator runs as system:serviceaccount:registry-system:other"), "{says}");
        let says = probes
            .let_through("system-registries", "system:serviceaccount:registry-system:registry-operator");
        assert!(says.ends_with("plugin ValidatingAdmissionPolicy is on"), "{says}");
    }
}
