//! A real Kubernetes control plane on loopback: etcd, one or two API servers, optionally the controller manager.
//!
//! Its PKI is its own and its data are thrown away. No kubelet, no scheduler: objects are stored, defaulted, validated,
//! admitted and watched as in any cluster, and nothing runs, unless [`crate::node`] adds what is missing.

mod plan;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};

use self::plan::{ControlPlanePlan, Ports, audit_file};
use crate::audit::{AuditError, AuditLog};
use crate::component::{Component, ComponentError};
use crate::eventually::{NotYet, eventually};
use crate::kubeconfig::{self, ClientError, Proof};
use crate::pki::{LeafOptions, PkiError, TestCa};
use crate::ports::PortError;
use crate::process::Scratch;
use crate::tools::{self, Tool, ToolPaths, ToolsError};

/// Longer than any test or demonstration.
const TOKEN_SECONDS: i64 = 7 * 24 * 3600;
/// How often a start is tried when another program takes a port first.
const ATTEMPTS: u32 = 3;

/// The oldest and the newest supported Kubernetes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kubernetes {
    /// 1.36.
    #[default]
    Newest,
    /// 1.30. Only the API server: the controller manager is always the newest one.
    Oldest,
}

impl Kubernetes {
    fn api_server(self) -> Tool {
        match self {
            Self::Newest => Tool::KubeApiserver,
            Self::Oldest => Tool::OldestKubeApiserver,
        }
    }
}

/// What kind of control plane to start.
#[derive(Debug, Clone, Default)]
pub struct ControlPlaneOptions {
    /// Which Kubernetes.
    pub kubernetes: Kubernetes,
    /// Run the controller manager too: garbage collection, namespace deletion, service accounts, aggregated roles.
    pub controller_manager: bool,
    /// Keep an audit log.
    pub audit: bool,
    /// Run two API servers on the one etcd.
    pub two_api_servers: bool,
    /// More flags for the API servers.
    pub api_server_flags: Vec<String>,
    /// Serve a node, and the Pods on it, at this address too; needs the controller manager.
    pub node_address: Option<Ipv4Addr>,
}

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A program is missing.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The directory of its data cannot be used.
    #[error("cannot use the control plane's directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// A server does not come up.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The audit log cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The API server refuses a request.
    #[error("cannot {what}: {source}")]
    Api {
        /// What was asked.
        what: String,
        /// The answer.
        source: kube::Error,
    },
    /// A controller does not do its work.
    #[error(transparent)]
    NotYet(#[from] NotYet),
}

/// A running control plane. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct ControlPlane {
    // Before the directory, so that nothing writes there any more when it is removed.
    controller_manager: Option<Component>,
    api_servers: Vec<Component>,
    etcd: Component,
    ca: TestCa,
    ports: Ports,
    audit: bool,
    files: AtomicUsize,
    scratch: Scratch,
}

impl ControlPlane {
    /// Starts a control plane and waits until it is ready.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self, ControlPlaneError> {
        let mut tools = vec![Tool::Etcd, options.kubernetes.api_server()];
        if options.controller_manager {
            tools.push(Tool::KubeControllerManager);
        }
        let tools = tools::ensure(&tools).await?;
        let mut attempt = 1;
        loop {
            let control_plane = Self::prepare(&options, &tools)?;
            match control_plane.launch().await {
                Err(ControlPlaneError::Component(error))
                    if error.is_port_collision() && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                launched => return launched.map(|()| control_plane),
            }
        }
    }

    fn prepare(options: &ControlPlaneOptions, tools: &ToolPaths) -> Result<Self, ControlPlaneError> {
        let scratch = Scratch::new("testbed-control-plane")?;
        let ca = TestCa::new("testbed")?;
        let ports = Ports::reserve(if options.two_api_servers { 2 } else { 1 })?;
        let plan = ControlPlanePlan { options, tools, scratch: &scratch, ca: &ca, ports: &ports };
        plan.write_shared_files()?;
        let api_servers = (0..ports.api_servers.len()).map(|index| plan.api_server(index)).collect();
        let controller_manager = options.controller_manager.then(|| plan.controller_manager()).transpose()?;
        Ok(Self {
            controller_manager,
            api_servers,
            etcd: plan.etcd(),
            audit: options.audit,
            files: AtomicUsize::new(0),
            ca,
            ports,
            scratch,
        })
    }

    /// Starts each server after its dependencies: a server whose dependency is missing waits longer than necessary.
    async fn launch(&self) -> Result<(), ControlPlaneError> {
        self.etcd.launch().await?;
        self.etcd.wait_ready().await?;
        for api_server in &self.api_servers {
            api_server.launch().await?;
        }
        for api_server in &self.api_servers {
            api_server.wait_ready().await?;
        }
        let admin = self.issue_kubeconfig("admin", &["system:masters"])?;
        self.scratch.write("admin.kubeconfig", admin)?;
        if let Some(controller_manager) = &self.controller_manager {
            controller_manager.start().await?;
            self.wait_for_controllers().await?;
        }
        Ok(())
    }

    /// Waits until the controllers work: the default service account exists.
    async fn wait_for_controllers(&self) -> Result<(), ControlPlaneError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
        eventually("the default service account", || accounts.get("default")).await?;
        Ok(())
    }

    /// etcd.
    pub fn etcd(&self) -> &Component {
        &self.etcd
    }

    /// The URL at which etcd answers everyone.
    pub fn etcd_url(&self) -> String {
        self.ports.etcd_url()
    }

    /// The (first) API server.
    pub fn api_server(&self) -> &Component {
        &self.api_servers[0]
    }

    /// All API servers: one or two.
    pub fn api_servers(&self) -> &[Component] {
        &self.api_servers
    }

    /// The controller manager, if it was asked for.
    pub fn controller_manager(&self) -> Option<&Component> {
        self.controller_manager.as_ref()
    }

    /// The URL of the (first) API server.
    pub fn url(&self) -> String {
        self.ports.api_server_url(0)
    }

    /// The URLs of all API servers.
    pub fn urls(&self) -> Vec<String> {
        (0..self.api_servers.len()).map(|index| self.ports.api_server_url(index)).collect()
    }

    /// The authority that signed the API server's certificate, and signs its clients'.
    pub fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// The directory of this control plane's files; it goes with it.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// A kubeconfig file of a cluster administrator (`system:masters`).
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.scratch.path().join("admin.kubeconfig")
    }

    /// A cluster administrator's client. It belongs to the async runtime that it is made in.
    pub async fn client(&self) -> Result<kube::Client, ControlPlaneError> {
        let admin = std::fs::read_to_string(self.admin_kubeconfig())?;
        Ok(kubeconfig::client(&admin).await?)
    }

    /// A client of the user with this name and these groups.
    pub async fn client_for_user(
        &self,
        name: &str,
        groups: &[&str],
    ) -> Result<kube::Client, ControlPlaneError> {
        Ok(kubeconfig::client(&self.issue_kubeconfig(name, groups)?).await?)
    }

    /// A kubeconfig file of the user with this name and these groups.
    pub fn kubeconfig_for_user(&self, name: &str, groups: &[&str]) -> Result<PathBuf, ControlPlaneError> {
        self.write_kubeconfig(&self.issue_kubeconfig(name, groups)?)
    }

    /// A client of a service account, which must exist.
    pub async fn client_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<kube::Client, ControlPlaneError> {
        Ok(kubeconfig::client(&self.service_account_kubeconfig(namespace, name).await?).await?)
    }

    /// A kubeconfig file of a service account, which must exist.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf, ControlPlaneError> {
        self.write_kubeconfig(&self.service_account_kubeconfig(namespace, name).await?)
    }

    /// A kubeconfig file for another way to the API server, such as a proxy in between.
    pub fn kubeconfig_with_token(
        &self,
        server: &str,
        ca_pem: &str,
        token: &str,
    ) -> Result<PathBuf, ControlPlaneError> {
        self.write_kubeconfig(&kubeconfig::render(server, ca_pem, "token", Proof::Token(token)))
    }

    /// A token of a service account, which must exist, for a week.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<String, ControlPlaneError> {
        request_token(self.client().await?, namespace, name).await
    }

    /// The audit log, if it was asked for.
    pub fn audit(&self) -> Result<AuditLog, ControlPlaneError> {
        if !self.audit {
            return Err(AuditError::Off.into());
        }
        let file = |index| audit_file(&self.scratch, index);
        Ok(AuditLog::new((0..self.api_servers.len()).map(file).collect()))
    }

    fn issue_kubeconfig(&self, name: &str, groups: &[&str]) -> Result<String, PkiError> {
        let leaf = self.ca.issue(&LeafOptions::client(name, groups.iter().copied()))?;
        Ok(kubeconfig::render(&self.url(), self.ca.certificate_pem(), name, Proof::Certificate(&leaf)))
    }

    async fn service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<String, ControlPlaneError> {
        let token = self.service_account_token(namespace, name).await?;
        let user = format!("system:serviceaccount:{namespace}:{name}");
        Ok(kubeconfig::render(&self.url(), self.ca.certificate_pem(), &user, Proof::Token(&token)))
    }

    fn write_kubeconfig(&self, text: &str) -> Result<PathBuf, ControlPlaneError> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        Ok(self.scratch.write(&format!("{number}.kubeconfig"), text)?)
    }
}

/// Asks for a token of a service account, valid for a week.
pub async fn request_token(
    client: kube::Client,
    namespace: &str,
    name: &str,
) -> Result<String, ControlPlaneError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
    let answer = answer.map_err(|source| ControlPlaneError::Api {
        what: format!("get a token of the service account {namespace}/{name}"),
        source,
    })?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}
