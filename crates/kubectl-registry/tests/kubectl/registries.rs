//! The registries that these tests check, and their manifests.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use registry_testbed::{Leaf, LeafOptions, RegistryAuth, RegistryOptions, RegistryTls, TestCa, TestRegistry};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// The user of every protected registry.
pub const USER: &str = "demo";
/// The password of that user, which must never be printed.
pub const PASSWORD: &str = "never-to-be-seen-4f9a61c0";

/// A registry with TLS.
pub struct Protected {
    /// The registry.
    pub registry: TestRegistry,
    /// The CA of its certificate.
    pub ca: TestCa,
    /// Its certificate.
    pub leaf: Leaf,
}

impl Protected {
    /// Starts one with a password.
    pub async fn start() -> Result<Self> {
        Self::with(RegistryAuth::htpasswd(USER, PASSWORD)).await
    }

    /// Starts one without a password, because tenants need permission to use plain HTTP.
    pub async fn open() -> Result<Self> {
        Self::with(RegistryAuth::Anonymous).await
    }

    /// Starts one with the password of ECR's users.
    pub async fn of_aws() -> Result<Self> {
        Self::with(RegistryAuth::htpasswd("AWS", PASSWORD)).await
    }

    async fn with(auth: RegistryAuth) -> Result<Self> {
        let ca = TestCa::new("private authority")?;
        let leaf = ca.issue(&LeafOptions::server("registry"))?;
        let tls = RegistryTls::Server {
            leaf: leaf.clone(),
            ca_pem: ca.certificate_pem().to_owned(),
            client_ca_pem: None,
        };
        let registry = TestRegistry::start(RegistryOptions { auth, tls }).await?;
        Ok(Self { registry, ca, leaf })
    }

    /// Returns a spec with its CA and without credentials.
    pub fn open_spec(&self) -> Value {
        json!({"endpoint": self.registry.url(), "tls": {"ca": {"inline": self.ca.certificate_pem()}}})
    }

    /// Returns a spec with its CA, and with credentials from the Secret `login`.
    pub fn spec(&self) -> Value {
        json!({
            "endpoint": self.registry.url(),
            "auth": {"basic": {"secretRef": {"name": "login"}}},
            "tls": {"ca": {"inline": self.ca.certificate_pem()}},
        })
    }
}

/// Starts a registry without passwords and TLS.
pub async fn anonymous() -> Result<TestRegistry> {
    Ok(TestRegistry::start(RegistryOptions::default()).await?)
}

/// Returns the manifest of a SystemRegistry.
pub fn system(name: &str, spec: &Value) -> String {
    let manifest = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry",
        "metadata": {"name": name}, "spec": spec,
    });
    format!("{manifest}\n---\n")
}

/// Returns the manifest of a TenantRegistry.
pub fn tenant(namespace: &str, name: &str, spec: &Value) -> String {
    let manifest = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    });
    format!("{manifest}\n---\n")
}

/// Returns the manifest of a Secret with a user name and password.
pub fn login(name: &str, namespace: Option<&str>, password: &str) -> String {
    let manifest = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"username": USER, "password": password},
    });
    format!("{manifest}\n---\n")
}

/// A fake of ECR's API, which issues a token for the user AWS to every client.
pub struct Aws {
    /// Its URL.
    pub url: String,
    /// The requests, unparsed.
    pub asked: Arc<Mutex<String>>,
    serving: AbortHandle,
}

impl Aws {
    /// Starts it, with the password for its tokens.
    pub async fn start(password: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let asked = Arc::new(Mutex::new(String::new()));
        let token = BASE64_STANDARD.encode(format!("AWS:{password}"));
        let data =
            json!([{"authorizationToken": token, "expiresAt": 4_000_000_000_u64, "proxyEndpoint": url}]);
        let body = json!({"authorizationData": data}).to_string();
        let notes = asked.clone();
        let serving = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let _ = answer(connection, &body, &notes).await;
            }
        });
        Ok(Self { url, asked, serving: serving.abort_handle() })
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut connection: TcpStream, body: &str, notes: &Mutex<String>) -> Result<()> {
    let mut request = Vec::new();
    // The body is `{}`, and ends the request.
    while !request.ends_with(b"{}") && connection.read_buf(&mut request).await? > 0 {}
    notes.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&request));
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(format!("{head}{body}").as_bytes()).await?;
    Ok(connection.shutdown().await?)
}
