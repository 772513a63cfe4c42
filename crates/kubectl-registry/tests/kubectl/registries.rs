//! The registries that these tests check, and manifests that name them.

use anyhow::Result;
use registry_testbed::{Ca, Leaf, LeafOptions, Registry, RegistryAuth, RegistryOptions, RegistryTls};
use serde_json::{Value, json};

/// The user of every protected registry.
pub const USER: &str = "demo";
/// Its password, which nobody may ever see.
pub const PASSWORD: &str = "never-to-be-seen-4f9a61c0";

/// A registry with a password over TLS.
pub struct Protected {
    /// The registry.
    pub registry: Registry,
    /// Who issued its certificate.
    pub ca: Ca,
    /// Its certificate.
    pub leaf: Leaf,
}

impl Protected {
    /// Starts one.
    pub async fn start() -> Result<Self> {
        let ca = Ca::new("private authority")?;
        let leaf = ca.issue(&LeafOptions::server("registry"))?;
        let tls = RegistryTls::Server {
            leaf: leaf.clone(),
            ca_pem: ca.certificate_pem().to_owned(),
            client_ca_pem: None,
        };
        let auth = RegistryAuth::htpasswd(USER, PASSWORD);
        let registry = Registry::start(RegistryOptions { auth, tls }).await?;
        Ok(Self { registry, ca, leaf })
    }

    /// A spec with its CA, and credentials from the Secret `login`.
    pub fn spec(&self) -> Value {
        json!({
            "endpoint": self.registry.url(),
            "auth": {"basic": {"secretRef": {"name": "login"}}},
            "tls": {"ca": {"inline": self.ca.certificate_pem()}},
        })
    }
}

/// A registry without passwords or TLS.
pub async fn anonymous() -> Result<Registry> {
    Ok(Registry::start(RegistryOptions::default()).await?)
}

/// The manifest of a SystemRegistry.
pub fn system(name: &str, spec: &Value) -> String {
    let manifest = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry",
        "metadata": {"name": name}, "spec": spec,
    });
    format!("{manifest}\n---\n")
}

/// The manifest of a TenantRegistry.
pub fn tenant(namespace: &str, name: &str, spec: &Value) -> String {
    let manifest = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    });
    format!("{manifest}\n---\n")
}

/// The manifest of a Secret with a user name and password.
pub fn login(name: &str, namespace: Option<&str>, password: &str) -> String {
    let manifest = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"username": USER, "password": password},
    });
    format!("{manifest}\n---\n")
}
