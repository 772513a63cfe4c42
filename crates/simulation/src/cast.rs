//! The cast of all histories: namespaces, tenants, hosts, and registries with their Secrets.

use serde_json::{Value, json};

use crate::registries::http::base64;

/// The operator's namespace.
pub const SYSTEM_NAMESPACE: &str = "registry-system";
/// The operator's account.
pub const ACCOUNT: &str = "system:serviceaccount:registry-system:registry-operator";
/// The namespaces of tenants, each with its tenant.
pub const NAMESPACES: [(&str, &str); 4] =
    [("alpha-1", "alpha"), ("alpha-2", "alpha"), ("beta-1", "beta"), ("beta-2", "beta")];
/// The hosts of registries.
pub const HOSTS: [&str; 4] = ["r0.zero.example", "r1.one.example", "r2.two.example", "r3.three.example"];

/// A registry that may exist in a history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CastRegistry {
    /// Its name.
    pub name: &'static str,
    /// Its namespace; `None` for a SystemRegistry.
    pub namespace: Option<&'static str>,
    /// The number of its host at first.
    pub host: usize,
    /// `spec.validation.interval`, in minutes.
    pub interval: u64,
}

/// The registries.
pub const REGISTRIES: [CastRegistry; 5] = [
    CastRegistry { name: "system-a", namespace: None, host: 0, interval: 1 },
    CastRegistry { name: "system-b", namespace: None, host: 1, interval: 60 },
    CastRegistry { name: "alpha-a", namespace: Some("alpha-1"), host: 1, interval: 1 },
    CastRegistry { name: "alpha-b", namespace: Some("alpha-2"), host: 2, interval: 60 },
    CastRegistry { name: "beta-a", namespace: Some("beta-1"), host: 3, interval: 1 },
];

impl CastRegistry {
    /// Returns its kind.
    pub fn kind(&self) -> &'static str {
        if self.namespace.is_none() { "SystemRegistry" } else { "TenantRegistry" }
    }

    /// Returns its kind's plural.
    pub fn resource(&self) -> &'static str {
        if self.namespace.is_none() { "systemregistries" } else { "tenantregistries" }
    }

    /// Returns the namespace of its Secrets.
    pub fn home(&self) -> &'static str {
        self.namespace.unwrap_or(SYSTEM_NAMESPACE)
    }

    /// Returns the name of its Secret.
    pub fn secret(&self) -> String {
        format!("{}-login", self.name)
    }

    /// Returns the name of its pull Secrets.
    pub fn pull_secret(&self) -> String {
        format!("{}-pull", self.name)
    }

    /// Returns it as a user writes it, with its Secret, for the host of that number, and maybe with a pull Secret.
    pub fn manifest(&self, host: usize, pull_secret: bool) -> Value {
        let mut registry = json!({
            "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": self.kind(),
            "metadata": {"name": self.name},
            "spec": {
                "endpoint": endpoint(host),
                "auth": {"basic": {"secretRef": {"name": self.secret()}}},
                "validation": {"interval": format!("{}m", self.interval), "timeout": "10s"},
            },
        });
        if let Some(namespace) = self.namespace {
            registry["metadata"]["namespace"] = json!(namespace);
        }
        if pull_secret {
            registry["spec"]["availability"] = json!({"pullSecret": {"name": self.pull_secret()}});
        }
        registry
    }

    /// Returns its Secret with the password of that number.
    pub fn secret_manifest(&self, password: u8) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
            "metadata": {"name": self.secret(), "namespace": self.home()},
            "data": {"username": base64(self.name), "password": base64(&password_text(password))},
        })
    }
}

/// Returns the endpoint of a host.
pub fn endpoint(host: usize) -> String {
    format!("http://{}", HOSTS[host % HOSTS.len()])
}

/// Returns the password of that number.
pub fn password_text(number: u8) -> String {
    format!("password-{number}")
}
