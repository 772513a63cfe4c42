//! The part of the chart's `tenantPolicy` that concerns Secrets, from its ConfigMap. Pure.
//!
//! The API server checks specs with the same ConfigMap. Only the operator can check what depends on a Secret or on
//! AWS's answer.

use registry_api::{RegistrySpec, TENANT_POLICY};
use registry_probe::{HostPattern, HostPort};

use super::{Reference, ReferenceContent, ReferenceKind, spec_references::uses_secret};
use crate::object::RegistryKey;

/// The part of `tenantPolicy` that concerns Secrets.
#[derive(Clone, Debug, Default)]
pub struct TenantPolicy {
    /// `secretHosts: Required`: tenants' Secrets must list their hosts in the annotation.
    secret_hosts_required: bool,
    /// The patterns of `allowedEndpoints`.
    allowed_endpoints: Vec<HostPattern>,
    /// The policy could not be read, and this program doesn't have to enforce it.
    unknown: bool,
}

impl TenantPolicy {
    /// Parses the ConfigMap. If it is missing, no host is listed, and Secrets need no annotation; the API server then
    /// accepts no new TenantRegistry.
    pub fn of(content: Option<&ReferenceContent>) -> Self {
        let text =
            |key| content.and_then(|content| content.get(key)).and_then(|value| str::from_utf8(value).ok());
        // Any value except the default means the stricter rule.
        let secret_hosts_required =
            text("secretHosts").is_some_and(|word| !matches!(word.trim(), "" | "Optional"));
        let lines = text("allowedEndpoints").unwrap_or_default().lines().map(str::trim);
        let allowed_endpoints = lines.filter_map(|line| line.parse().ok()).collect();
        Self { secret_hosts_required, allowed_endpoints, unknown: false }
    }

    /// For a check by the owner of the Secrets, who can't read the policy. The operator enforces it later.
    pub fn unknown() -> Self {
        Self { unknown: true, ..Self::default() }
    }

    /// Returns whether Secrets must list their hosts.
    pub fn requires_secret_hosts(&self) -> bool {
        self.secret_hosts_required
    }

    /// Returns whether an administrator listed this server. `*` doesn't count, because the chart also writes it for an
    /// empty list.
    pub fn lists(&self, server: &HostPort) -> bool {
        self.unknown
            || self.allowed_endpoints.iter().any(|pattern| !pattern.is_any() && pattern.covers(server))
    }
}

/// Returns the reference to the policy for this registry; `None` in system scope, or if the registry uses no Secret.
pub fn policy_reference(key: &RegistryKey, spec: &RegistrySpec, system_namespace: &str) -> Option<Reference> {
    let policy = || Reference::new(ReferenceKind::ConfigMap, system_namespace, TENANT_POLICY);
    (matches!(key, RegistryKey::Tenant { .. }) && uses_secret(spec)).then(policy)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;
    use registry_probe::Endpoint;

    use super::*;

    fn policy(entries: &[(&str, &str)]) -> TenantPolicy {
        let data = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let map = ConfigMap { data: Some(data.collect::<BTreeMap<_, _>>()), ..ConfigMap::default() };
        TenantPolicy::of(Some(&ReferenceContent::from(map)))
    }

    fn lists(patterns: &str, endpoint: &str) -> bool {
        policy(&[("allowedEndpoints", patterns)]).lists(Endpoint::parse(endpoint).unwrap().server())
    }

    #[test]
    fn lists_only_literal_hosts() {
        assert!(lists("*\n registry.example.com \n", "https://registry.example.com:5000"));
        assert!(lists("*.example.com:5000", "https://a.example.com:5000"));
        assert!(!lists("*.example.com:5000", "https://a.example.com"));
        assert!(!lists("*", "https://registry.example.com"));
        assert!(!lists("", "https://registry.example.com"));
        assert!(!lists("https://registry.example.com", "https://registry.example.com"), "not a pattern");
        let server = Endpoint::parse("https://registry.example.com").unwrap();
        assert!(!TenantPolicy::of(None).lists(server.server()));
        assert!(TenantPolicy::unknown().lists(server.server()));
    }

    #[test]
    fn unknown_policy_value_requires_hosts() {
        for (word, required) in [
            ("Required", true),
            ("Optional", false),
            ("", false),
            ("required", true),
            ("true", true),
            ("optional", true),
        ] {
            assert_eq!(policy(&[("secretHosts", word)]).requires_secret_hosts(), required, "{word:?}");
        }
        assert!(!policy(&[]).requires_secret_hosts(), "an older chart's ConfigMap has no such key");
        assert!(!TenantPolicy::of(None).requires_secret_hosts());
    }
}
