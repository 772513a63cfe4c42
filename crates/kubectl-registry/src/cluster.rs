//! The way to the cluster: the kubeconfig as kubectl finds it, and what goes wrong on the way in words.
//!
//! What is asked there is [`registry_check::cluster`]'s.

use std::{io, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use registry_check::cluster::Cluster;
use registry_verdict::api_server::{ConfigError, from_kubeconfig};
use thiserror::Error;

use crate::cli::ClusterArgs;

/// The namespace where nobody names one.
const DEFAULT_NAMESPACE: &str = "default";
/// With the handshake of TLS, which takes an API server seconds that has more to do than it can.
const CONNECT: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(30);

/// Why there is no way to a cluster.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// There is no kubeconfig, and none was named.
    #[error("no cluster configured; set KUBECONFIG or --kubeconfig: {0}")]
    NotConfigured(KubeconfigError),
    /// The kubeconfig can't be used.
    #[error("failed to load the kubeconfig: {0}")]
    Kubeconfig(KubeconfigError),
    /// It is no kubeconfig. What the parser says holds what stands there: tokens and keys.
    #[error("invalid kubeconfig{}", at(*.0))]
    Malformed(Option<u64>),
    /// The cluster is behind a proxy.
    #[error("{0}")]
    Proxy(ConfigError),
    /// No client can be made of it.
    #[error("failed to create a client from the kubeconfig: {0}")]
    Client(kube::Error),
}

impl From<KubeconfigError> for ClusterError {
    #[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
    fn from(error: KubeconfigError) -> Self {
        match error {
            KubeconfigError::Parse(error) => {
                Self::Malformed(error.location().map(|location| location.line()))
            }
            KubeconfigError::FindPath => Self::NotConfigured(error),
            KubeconfigError::ReadConfig(ref cause, _) if cause.kind() == io::ErrorKind::NotFound => {
                Self::NotConfigured(error)
            }
            error => Self::Kubeconfig(error),
        }
    }
}

fn at(line: Option<u64>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

/// The cluster of the command line; connects to nothing yet.
pub async fn configured(args: &ClusterArgs) -> Result<Cluster, ClusterError> {
    let mut config = config(args).await?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(ANSWER);
    config.default_retry = false;
    if let Some(user) = &args.impersonate {
        config.auth_info.impersonate = Some(user.clone());
        config.auth_info.impersonate_groups = Some(args.impersonate_groups.clone());
    }
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(ClusterError::Client)?;
    Ok(Cluster { client, namespace, system_namespace: args.system_namespace.clone() })
}

/// The namespace where no cluster is asked.
pub fn offline_namespace(args: &ClusterArgs) -> String {
    args.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// As kubectl finds it; in a Pod, the Pod's own account where there is no kubeconfig.
#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
async fn config(args: &ClusterArgs) -> Result<Config, ClusterError> {
    let found = args.kubeconfig.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let kubeconfig = match found.map_err(ClusterError::from) {
        Ok(kubeconfig) => kubeconfig,
        Err(ClusterError::NotConfigured(error)) if args.kubeconfig.is_none() => {
            return Config::incluster().map_err(|_| ClusterError::NotConfigured(error));
        }
        Err(error) => return Err(error),
    };
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    from_kubeconfig(kubeconfig, &options).await.map_err(|error| match error {
        ConfigError::Kubeconfig(error) => error.into(),
        error => ClusterError::Proxy(error),
    })
}
