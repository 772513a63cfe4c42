//! Reads the chart's policies and bindings by name, and checks that each exists and denies.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, ValidatingAdmissionPolicy as Policy, ValidatingAdmissionPolicyBinding as Binding,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Api, Client};
use registry_api::GROUP;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::Finding;
use crate::settings::TenantAccess;

const ANSWER: Duration = Duration::from_secs(10);

/// Each binding, with its policy.
const BINDINGS: [(&str, &str); 12] = [
    ("definitions", "definitions"),
    ("installation", "installation"),
    ("operator-events", "operator-events"),
    ("operator-leases", "operator-leases"),
    (OF_BOUND_ACCESS, OF_BOUND_ACCESS),
    ("operator-secrets", "operator-secrets"),
    ("operator-services", "operator-services"),
    ("system-registries", "system-registries"),
    ("tenant-labels", "tenant-labels"),
    ("tenant-policy", TENANT_POLICY),
    ("tenant-policy-on-update", TENANT_POLICY),
    ("tenant-registries", "tenant-registries"),
];
/// The policy that only exists with `tenantAccess: bound`.
const OF_BOUND_ACCESS: &str = "operator-role-bindings";
/// The policy with two bindings, for different operations.
const TENANT_POLICY: &str = "tenant-policy";
/// The policy that only applies to one namespace.
const OF_A_NAMESPACE: &str = "operator-leases";

/// Reads and checks all of them.
pub(super) async fn gaps(client: &Client, how: TenantAccess) -> Finding {
    match read_all(client, how).await {
        Ok(gaps) if gaps.is_empty() => Finding::InForce,
        Ok(gaps) => Finding::Gaps(gaps),
        Err(why) => Finding::Unknown(why),
    }
}

async fn read_all(client: &Client, how: TenantAccess) -> Result<Vec<String>, String> {
    let mut gaps = Vec::new();
    for (binding, policy) in BINDINGS.iter().filter(|(_, policy)| is_rendered(policy, how)) {
        if binding == policy || *binding == TENANT_POLICY {
            gaps.extend(gap_of_policy(policy, read::<Policy>(client, policy).await?.as_ref()));
        }
        gaps.extend(gap_of_binding((binding, policy), read::<Binding>(client, binding).await?.as_ref()));
    }
    Ok(gaps)
}

fn is_rendered(policy: &str, how: TenantAccess) -> bool {
    policy != OF_BOUND_ACCESS || how == TenantAccess::Bound
}

async fn read<K>(client: &Client, name: &str) -> Result<Option<K>, String>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let name = format!("{name}.{GROUP}");
    let api: Api<K> = Api::all(client.clone());
    match timeout(ANSWER, api.get_opt(&name)).await {
        Ok(answer) => answer.map_err(|error| format!("failed to get {} {name}: {error}", K::kind(&()))),
        Err(_) => Err(format!("failed to get {} {name}: no answer in {ANSWER:?}", K::kind(&()))),
    }
}

/// Returns what is wrong with a policy, if anything.
fn gap_of_policy(name: &str, policy: Option<&Policy>) -> Option<String> {
    let named = format!("ValidatingAdmissionPolicy {name}.{GROUP}");
    let Some(spec) = policy.map(|policy| policy.spec.clone().unwrap_or_default()) else {
        return Some(format!("{named} is missing"));
    };
    if spec.failure_policy.as_deref() == Some("Ignore") {
        return Some(format!("{named} allows what it can't evaluate (failurePolicy: Ignore)"));
    }
    let narrowed =
        spec.match_constraints.as_ref().is_none_or(|matches| is_narrowed(matches, name == OF_A_NAMESPACE));
    if narrowed || spec.validations.is_none_or(|validations| validations.is_empty()) {
        return Some(format!("{named} was changed and does not match all that it should"));
    }
    None
}

/// Returns what is wrong with a binding, if anything.
fn gap_of_binding((name, policy): (&str, &str), binding: Option<&Binding>) -> Option<String> {
    let named = format!("ValidatingAdmissionPolicyBinding {name}.{GROUP}");
    let Some(spec) = binding.map(|binding| binding.spec.clone().unwrap_or_default()) else {
        return Some(format!("{named} is missing"));
    };
    let actions = spec.validation_actions.unwrap_or_default();
    if !actions.iter().any(|action| action == "Deny") {
        return Some(format!("{named} does not deny (validationActions: {})", actions.join(", ")));
    }
    let narrowed = spec.match_resources.as_ref().is_some_and(|matches| {
        is_narrowed(matches, false) || (policy != TENANT_POLICY && has_some(matches.resource_rules.as_ref()))
    });
    if narrowed || spec.policy_name != Some(format!("{policy}.{GROUP}")) {
        return Some(format!("{named} was changed and does not bind all that it should"));
    }
    None
}

/// Returns whether it excludes objects by labels or names.
fn is_narrowed(matches: &MatchResources, to_a_namespace: bool) -> bool {
    let selects =
        |selector: Option<&LabelSelector>| selector.is_some_and(|by| *by != LabelSelector::default());
    has_some(matches.exclude_resource_rules.as_ref())
        || selects(matches.object_selector.as_ref())
        || (selects(matches.namespace_selector.as_ref()) && !to_a_namespace)
}

fn has_some<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(change: impl Fn(&mut Value)) -> Policy {
        let mut object = json!({"metadata": {"name": "p"}, "spec": {
            "failurePolicy": "Fail", "validations": [{"expression": "true"}],
            "matchConstraints": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}},
        }});
        change(&mut object["spec"]);
        serde_json::from_value(object).unwrap()
    }

    fn binding(change: impl Fn(&mut Value)) -> Binding {
        let policy = "tenant-labels.registry.spectrocloud.com";
        let mut object =
            json!({"metadata": {"name": "b"}, "spec": {"policyName": policy, "validationActions": ["Deny"]}});
        change(&mut object["spec"]);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn weaker_policy_is_a_gap() {
        assert_eq!(gap_of_policy("tenant-labels", Some(&policy(|_| ()))), None);
        let selector = json!({"matchLabels": {"a": "b"}});
        for (change, says) in [
            (json!({"failurePolicy": "Ignore"}), "failurePolicy: Ignore"),
            (json!({"matchConstraints": {"objectSelector": selector}}), "was changed"),
            (json!({"matchConstraints": {"namespaceSelector": selector}}), "was changed"),
            (json!({"matchConstraints": {"excludeResourceRules": [{"resources": ["*"]}]}}), "was changed"),
            (json!({"validations": []}), "was changed"),
        ] {
            let changed = policy(|spec| {
                for (key, value) in change.as_object().unwrap() {
                    spec[key] = value.clone();
                }
            });
            assert!(gap_of_policy("tenant-labels", Some(&changed)).unwrap().contains(says), "{change}");
        }
        assert!(gap_of_policy("tenant-labels", None).unwrap().ends_with("is missing"));
    }

    #[test]
    fn warn_only_binding_is_a_gap() {
        let gap = |binding: Option<&Binding>| gap_of_binding(("tenant-labels", "tenant-labels"), binding);
        assert_eq!(gap(Some(&binding(|_| ()))), None);
        assert_eq!(gap(Some(&binding(|spec| spec["validationActions"] = json!(["Deny", "Audit"])))), None);
        let warns = binding(|spec| spec["validationActions"] = json!(["Warn", "Audit"]));
        assert!(gap(Some(&warns)).unwrap().ends_with("does not deny (validationActions: Warn, Audit)"));
        let other = binding(|spec| spec["policyName"] = json!("other"));
        assert!(gap(Some(&other)).unwrap().contains("was changed"));
        let rules = json!({"resourceRules": [{"resources": ["*"]}]});
        assert!(
            gap(Some(&binding(|spec| spec["matchResources"] = rules.clone())))
                .unwrap()
                .contains("was changed")
        );
        assert!(gap(None).unwrap().ends_with("is missing"));
    }

    /// A policy that is added to the chart must be checked too.
    #[test]
    fn expected_bindings_match_the_chart() {
        let rendered = include_str!("../../../config/install.yaml");
        let mut found: Vec<&str> = rendered
            .split("\n---\n")
            .filter(|document| document.contains("\nkind: ValidatingAdmissionPolicyBinding\n"))
            .filter_map(|document| document.lines().find_map(|line| line.strip_prefix("  name: ")))
            .collect();
        found.sort_unstable();
        let mut known = BINDINGS.map(|(binding, _)| format!("{binding}.{GROUP}"));
        known.sort_unstable();
        assert_eq!(found, known);
        let role =
            rendered.split("\n---\n").find(|document| document.contains("name: registry-operator-guard"));
        for name in known {
            assert!(
                rendered.contains(&format!("      - {name}\n")),
                "the ClusterRole lets {name} be read: {role:?}"
            );
        }
    }
}
