//! The cluster of the demonstration: a control plane of its own, or one that is there already.

use std::path::{Path, PathBuf};
use std::time::Instant;

use kube::config::{KubeConfigOptions, Kubeconfig};
use registry_testbed::control_plane::{ControlPlaneError, request_token};
use registry_testbed::process::Scratch;
use registry_testbed::tools::{Tool, ToolBuilder};
use registry_testbed::{ControlPlane, ControlPlaneOptions};

use crate::print_line;

/// Why the existing cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunClusterError {
    /// No cluster is named.
    #[error("EXISTING needs KUBECONFIG: the path of the cluster's kubeconfig")]
    NoKubeconfig,
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {path}: {source}", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// The kubeconfig's current context names no cluster of it.
    #[error("the kubeconfig {path} has no current context with a cluster", path = .0.display())]
    NoContext(PathBuf),
    /// No client can be made.
    #[error("cannot make a Kubernetes client: {0}")]
    Client(#[from] kube::Error),
    /// The operator's kubeconfig cannot be written.
    #[error("cannot write the operator's kubeconfig: {0}")]
    Write(#[from] std::io::Error),
    /// The control plane, or a token.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
}

/// The cluster that the operator runs against.
pub(crate) enum RunCluster {
    /// Started here, and gone when this ends.
    Own(Box<ControlPlane>),
    /// An existing cluster.
    Existing {
        /// The administrator's kubeconfig.
        kubeconfig: PathBuf,
        /// For the operator's.
        scratch: Scratch,
    },
}

impl RunCluster {
    /// Starts a control plane, or takes the existing cluster.
    pub(crate) async fn start(existing: bool, kubeconfig: Option<PathBuf>) -> Result<Self, RunClusterError> {
        if existing {
            let kubeconfig = kubeconfig.ok_or(RunClusterError::NoKubeconfig)?;
            return Ok(Self::Existing { kubeconfig, scratch: Scratch::new("testbed-existing")? });
        }
        // Not worth a build of its own here, but with it deleted namespaces go.
        let missing = ToolBuilder::of_this_repository().missing(&[Tool::KubeControllerManager]);
        let controller_manager = missing.is_ok_and(|tools| tools.is_empty());
        let start = Instant::now();
        let options = ControlPlaneOptions { controller_manager, ..ControlPlaneOptions::default() };
        let control_plane = ControlPlane::start(options).await?;
        print_line(&format!(
            "Kubernetes API server: {} (ready after {:.1} s{})",
            control_plane.url(),
            start.elapsed().as_secs_f32(),
            if controller_manager {
                ""
            } else {
                "; no controller manager: deleted namespaces stay Terminating"
            },
        ));
        Ok(Self::Own(Box::new(control_plane)))
    }

    /// Whether it was there before.
    pub(crate) fn is_existing(&self) -> bool {
        matches!(self, Self::Existing { .. })
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Own(control_plane) => control_plane.admin_kubeconfig(),
            Self::Existing { kubeconfig, .. } => kubeconfig.clone(),
        }
    }

    /// The administrator's client.
    pub(crate) async fn client(&self) -> Result<kube::Client, RunClusterError> {
        match self {
            Self::Own(control_plane) => Ok(control_plane.client().await?),
            Self::Existing { kubeconfig, .. } => existing_client(kubeconfig).await,
        }
    }

    /// A kubeconfig with a token of a service account.
    pub(crate) async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf, RunClusterError> {
        match self {
            Self::Own(control_plane) => {
                Ok(control_plane.kubeconfig_for_service_account(namespace, name).await?)
            }
            Self::Existing { kubeconfig, scratch } => {
                let token = request_token(self.client().await?, namespace, name).await?;
                Ok(scratch.write("operator.kubeconfig", with_token(kubeconfig, &token)?)?)
            }
        }
    }
}

fn read(path: &Path) -> Result<Kubeconfig, RunClusterError> {
    Kubeconfig::read_from(path)
        .map_err(|source| RunClusterError::Kubeconfig { path: path.to_path_buf(), source })
}

async fn existing_client(path: &Path) -> Result<kube::Client, RunClusterError> {
    let config = kube::Config::from_custom_kubeconfig(read(path)?, &KubeConfigOptions::default())
        .await
        .map_err(|source| RunClusterError::Kubeconfig { path: path.to_path_buf(), source })?;
    Ok(kube::Client::try_from(config)?)
}

/// The current context's cluster, with a token as the only way in. JSON is YAML.
fn with_token(path: &Path, token: &str) -> Result<String, RunClusterError> {
    let config = read(path)?;
    let current = config.current_context.unwrap_or_default();
    let context = config.contexts.into_iter().find(|context| context.name == current);
    let name = context.and_then(|context| context.context).map(|context| context.cluster).unwrap_or_default();
    let cluster = config.clusters.into_iter().find(|cluster| cluster.name == name);
    let cluster = cluster.ok_or_else(|| RunClusterError::NoContext(path.to_path_buf()))?;
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "operator",
        "clusters": [cluster],
        "contexts": [{"name": "operator", "context": {"cluster": name, "user": "operator"}}],
        "users": [{"name": "operator", "user": {"token": token}}],
    });
    Ok(config.to_string())
}
