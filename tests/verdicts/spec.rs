//! The input of a row: the spec, its Secrets and ConfigMaps, and the administrator's settings.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use registry_verdict::object::RegistryScope;
use serde_json::{Value, json};

use crate::{
    pki::{Client, GivenCa, PKI},
    secrets::{IDENTITY, PASSWORD, USER, WRONG_IDENTITY, WRONG_PASSWORD},
};

/// Where a SystemRegistry's references are read.
pub const SYSTEM_NAMESPACE: &str = "registry-system";
/// The namespace of every TenantRegistry.
pub const TENANT_NAMESPACE: &str = "team-a-apps";

/// `spec.validation.timeout` where the time runs out: enough, on any machine, for all that comes before what takes forever.
pub const HURRIED: &str = "5s";

/// A registry as declared, and all that it is declared in.
#[derive(Debug, Clone)]
pub struct Spec {
    /// `spec`, with hosts in braces.
    pub spec: Value,
    /// The Secrets and ConfigMaps that there are.
    pub objects: Vec<Object>,
    /// Which kind it is.
    pub scope: RegistryScope,
    /// Whether the namespace of a TenantRegistry is a tenant's.
    pub labelled: bool,
    /// `--egress-allow`, with hosts in braces.
    pub allow: Vec<String>,
    /// `--egress-deny`.
    pub deny: Vec<String>,
    /// Addresses of the cluster itself.
    pub cluster: Vec<String>,
    /// `--trusted-token-service`.
    pub trusted: Vec<String>,
    /// Whether the API server lets the operator read references.
    pub forbidden: bool,
    /// The registry was Ready, and had this many transient failures in a row since.
    pub was_ready: Option<u32>,
}

/// A Secret or ConfigMap.
#[derive(Debug, Clone)]
pub struct Object {
    /// `secrets` or `configmaps`.
    pub plural: &'static str,
    pub namespace: &'static str,
    pub name: &'static str,
    /// Of a Secret.
    pub kind: &'static str,
    /// With hosts in braces.
    pub entries: Vec<(&'static str, Vec<u8>)>,
    /// Of a Secret, by its annotation; with hosts in braces.
    pub hosts: Option<&'static str>,
}

/// A SystemRegistry at `{registry}` that trusts the company's authority, without credentials.
pub fn spec() -> Spec {
    let spec = json!({"endpoint": "{registry}", "validation": {"timeout": "20s"}});
    let spec = Spec {
        spec,
        objects: Vec::new(),
        scope: RegistryScope::System,
        labelled: true,
        allow: Vec::new(),
        deny: Vec::new(),
        cluster: Vec::new(),
        trusted: Vec::new(),
        forbidden: false,
        was_ready: None,
    };
    spec.trusts(GivenCa::Company)
}

/// The same with the right user name and password.
pub fn right() -> Spec {
    spec().login(USER, PASSWORD)
}

/// The same with a wrong password.
pub fn wrong() -> Spec {
    spec().login(USER, WRONG_PASSWORD)
}

/// The same with the right identity token.
pub fn identity() -> Spec {
    spec().token_secret(&[("identityToken", IDENTITY)])
}

/// The same with a withdrawn identity token.
pub fn wrong_identity() -> Spec {
    spec().token_secret(&[("identityToken", WRONG_IDENTITY)])
}

impl Spec {
    fn set(mut self, pointer: &[&str], value: Value) -> Self {
        let mut at = &mut self.spec;
        for key in pointer {
            at = &mut at[*key];
        }
        *at = value;
        self
    }

    fn namespace(&self) -> &'static str {
        match self.scope {
            RegistryScope::System => SYSTEM_NAMESPACE,
            RegistryScope::Tenant => TENANT_NAMESPACE,
        }
    }

    /// Another endpoint.
    pub fn endpoint(self, endpoint: &str) -> Self {
        self.set(&["endpoint"], endpoint.into())
    }

    /// `spec.validation.repository`.
    pub fn repository(self, repository: &str) -> Self {
        self.set(&["validation", "repository"], repository.into())
    }

    /// `spec.baseContentPath`.
    pub fn below(self, path: &str) -> Self {
        self.set(&["baseContentPath"], path.into())
    }

    /// Where the time runs out.
    pub fn hurried(self) -> Self {
        self.timeout(HURRIED)
    }

    /// `spec.validation.timeout`.
    pub fn timeout(self, timeout: &str) -> Self {
        self.set(&["validation", "timeout"], timeout.into())
    }

    /// `spec.auth`.
    pub fn auth(self, auth: Value) -> Self {
        self.set(&["auth"], auth)
    }

    /// `spec.tls.ca`.
    pub fn ca(self, ca: Value) -> Self {
        self.set(&["tls", "ca"], ca)
    }

    /// That authority, inline.
    pub fn trusts(self, trusts: GivenCa) -> Self {
        self.ca(json!({"inline": PKI.ca_pem(trusts)}))
    }

    /// No authority but the public ones.
    pub fn public_roots(self) -> Self {
        self.ca(Value::Null)
    }

    /// `spec.tls.insecureSkipVerify`.
    pub fn skip(self) -> Self {
        self.set(&["tls", "insecureSkipVerify"], true.into())
    }

    /// A TenantRegistry.
    pub fn of_tenant(mut self) -> Self {
        self.scope = RegistryScope::Tenant;
        for object in &mut self.objects {
            object.namespace = TENANT_NAMESPACE;
        }
        self
    }

    /// In a namespace without a tenant.
    pub fn without_tenant(self) -> Self {
        Self { labelled: false, ..self.of_tenant() }
    }

    /// `--egress-allow`.
    pub fn allowed(mut self, range: &str) -> Self {
        self.allow.push(range.to_owned());
        self
    }

    /// `--egress-deny`.
    pub fn denied(mut self, range: &str) -> Self {
        self.deny.push(range.to_owned());
        self
    }

    /// The cluster's own address.
    pub fn in_cluster_at(mut self, range: &str) -> Self {
        self.cluster.push(range.to_owned());
        self
    }

    /// `--trusted-token-service`.
    pub fn trusting(mut self, service: &str) -> Self {
        self.trusted.push(service.to_owned());
        self
    }

    /// The operator may not read references.
    pub fn unreadable(self) -> Self {
        Self { forbidden: true, ..self }
    }

    /// The registry was Ready until now, or until `failures` transient failures ago.
    pub fn was_ready(self, failures: u32) -> Self {
        Self { was_ready: Some(failures), ..self }
    }

    /// A Secret.
    pub fn secret(
        mut self,
        name: &'static str,
        kind: &'static str,
        entries: &[(&'static str, &[u8])],
    ) -> Self {
        let entries = entries.iter().map(|(key, value)| (*key, value.to_vec())).collect();
        let namespace = self.namespace();
        self.objects.push(Object { plural: "secrets", namespace, name, kind, entries, hosts: None });
        self
    }

    /// A ConfigMap.
    pub fn config_map(mut self, name: &'static str, entries: &[(&'static str, &str)]) -> Self {
        let entries = entries.iter().map(|(key, value)| (*key, value.as_bytes().to_vec())).collect();
        self.objects.push(Object {
            plural: "configmaps",
            namespace: self.namespace(),
            name,
            kind: "",
            entries,
            hosts: None,
        });
        self
    }

    /// The newest Secret is for those hosts alone.
    pub fn for_hosts(mut self, hosts: &'static str) -> Self {
        self.objects.last_mut().unwrap().hosts = Some(hosts);
        self
    }

    /// What an administrator lets tenants do.
    pub fn policy(self, entries: &[(&'static str, &str)]) -> Self {
        let mut spec = self.config_map("registry-operator-tenant-policy", entries);
        spec.objects.last_mut().unwrap().namespace = SYSTEM_NAMESPACE;
        spec
    }

    /// `spec.auth.basic`, with a Secret of type kubernetes.io/basic-auth.
    pub fn login(self, username: &str, password: &str) -> Self {
        self.basic().secret(
            "login",
            "kubernetes.io/basic-auth",
            &[("username", username.as_bytes()), ("password", password.as_bytes())],
        )
    }

    /// `spec.auth.basic`, without the Secret.
    pub fn basic(self) -> Self {
        self.auth(json!({"basic": {"secretRef": {"name": "login"}}}))
    }

    /// `spec.auth.basic`, with a Secret of type kubernetes.io/dockerconfigjson.
    pub fn docker_config(self, config: &Value) -> Self {
        let text = config.to_string();
        self.basic().secret(
            "login",
            "kubernetes.io/dockerconfigjson",
            &[(".dockerconfigjson", text.as_bytes())],
        )
    }

    /// `spec.auth.token`.
    pub fn token_secret(self, entries: &[(&'static str, &str)]) -> Self {
        let entries: Vec<_> = entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
        self.auth(json!({"token": {"secretRef": {"name": "token"}}})).secret(
            "token",
            "registry.spectrocloud.com/token",
            &entries,
        )
    }

    /// `spec.tls.clientCertificate`.
    pub fn client(self, client: Client) -> Self {
        let leaf = PKI.client(client);
        self.client_reference().secret(
            "client",
            "kubernetes.io/tls",
            &[("tls.crt", leaf.pem.as_bytes()), ("tls.key", leaf.key_pem.as_bytes())],
        )
    }

    /// `spec.tls.clientCertificate`, without the Secret.
    pub fn client_reference(self) -> Self {
        self.set(&["tls", "clientCertificate"], json!({"secretRef": {"name": "client"}}))
    }
}

/// `user:password`, as Docker writes it.
pub fn docker_auth(user: &str, password: &str) -> String {
    BASE64_STANDARD.encode(format!("{user}:{password}"))
}
