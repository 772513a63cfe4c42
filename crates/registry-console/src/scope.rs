//! Where a registry is added: for all tenants, or in a namespace of one. Its URLs, and the names that they may hold. Pure.

use registry_api::{
    GROUP,
    spec::{Scope as _, System, Tenant},
};
use registry_verdict::object::{RegistryKey, RegistryScope};

/// For all tenants, or in a namespace of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConsoleScope {
    /// SystemRegistries.
    System,
    /// TenantRegistries of a namespace.
    Tenant {
        /// The tenant.
        tenant: String,
        /// The namespace.
        namespace: String,
    },
}

impl ConsoleScope {
    /// The scope in the API.
    pub fn registry_scope(&self) -> RegistryScope {
        match self {
            Self::System => RegistryScope::System,
            Self::Tenant { .. } => RegistryScope::Tenant,
        }
    }

    /// The kind of its registries.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::System => System::KIND,
            Self::Tenant { .. } => Tenant::KIND,
        }
    }

    /// The resource of its registries, as kubectl takes it.
    pub fn resource(&self) -> String {
        let plural = match self {
            Self::System => System::PLURAL,
            Self::Tenant { .. } => Tenant::PLURAL,
        };
        format!("{plural}.{GROUP}")
    }

    /// The namespace of its registries, if they are in one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::System => None,
            Self::Tenant { namespace, .. } => Some(namespace),
        }
    }

    /// The namespace of its Secrets.
    pub fn secrets_namespace<'a>(&'a self, system_namespace: &'a str) -> &'a str {
        self.namespace().unwrap_or(system_namespace)
    }

    /// A registry of that name.
    pub fn key(&self, name: &str) -> RegistryKey {
        match self {
            Self::System => RegistryKey::System { name: name.into() },
            Self::Tenant { namespace, .. } => {
                RegistryKey::Tenant { namespace: namespace.as_str().into(), name: name.into() }
            }
        }
    }

    /// The page with the table.
    pub fn list_url(&self) -> String {
        match self {
            Self::System => "/system/registries".to_owned(),
            Self::Tenant { tenant, namespace } => {
                format!("/tenants/{tenant}/registries?namespace={namespace}")
            }
        }
    }

    /// The form of that tab: `basic` or `ecr`.
    pub fn add_url(&self, tab: &str) -> String {
        match self {
            Self::System => format!("/system/add/{tab}"),
            Self::Tenant { tenant, namespace } => {
                format!("/tenants/{tenant}/add/{tab}?namespace={namespace}")
            }
        }
    }

    /// The page of one registry.
    pub fn registry_url(&self, name: &str) -> String {
        match self {
            Self::System => format!("/system/registries/{name}"),
            Self::Tenant { tenant, namespace } => format!("/tenants/{tenant}/registries/{namespace}/{name}"),
        }
    }
}

/// Whether that may be the name of an object or a namespace, or the value of a tenant's label: what else stands in a URL is no page.
pub fn is_name(text: &str) -> bool {
    let is_edge = |byte: u8| byte.is_ascii_alphanumeric();
    let is_inside = |byte: u8| is_edge(byte) || b"-._".contains(&byte);
    let bytes = text.as_bytes();
    (1..=253).contains(&bytes.len())
        && bytes.iter().all(|byte| is_inside(*byte))
        && bytes.first().is_some_and(|byte| is_edge(*byte))
        && bytes.last().is_some_and(|byte| is_edge(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        assert!(is_name("packs") && is_name("team-a.example") && is_name("A_b"));
        for no in ["", ".", "..", "a/b", "a b", "-a", "a-", "%2e", "a?b", "ä", "<a>"] {
            assert!(!is_name(no), "{no}");
        }
    }
}
