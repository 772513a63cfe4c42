//! Namespaces that can't belong to a tenant, whatever their labels. The chart's policies have the same rule
//! (isSystemNamespace in _helpers.tpl). This code applies it to labels that are older than the policies.

/// Prefixes that Kubernetes and OpenShift reserve.
const RESERVED: [&str; 2] = ["kube-", "openshift-"];

/// Returns whether it is a system namespace. `own` is the operator's, which contains the Secrets of SystemRegistries.
pub(super) fn is_system_namespace(name: &str, own: &str) -> bool {
    name == own || name == "openshift" || RESERVED.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_namespaces_have_no_tenant() {
        for name in [
            "registry-system",
            "kube-system",
            "kube-public",
            "kube-node-lease",
            "openshift",
            "openshift-monitoring",
        ] {
            assert!(is_system_namespace(name, "registry-system"), "{name}");
        }
        for name in ["default", "team-a", "kubernetes", "my-kube-system", "registry-system-a", "openshifted"]
        {
            assert!(!is_system_namespace(name, "registry-system"), "{name}");
        }
    }
}
