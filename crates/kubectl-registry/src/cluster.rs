//! Connects to the cluster: finds the kubeconfig as kubectl does, and describes errors.
//!
//! [`registry_check::cluster`] has the requests.

use std::{io, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use registry_check::cluster::Cluster;
use registry_verdict::api_server::{ConfigError, from_kubeconfig};
use thiserror::Error;

use crate::cli::ClusterArgs;

/// The namespace if none is set.
const DEFAULT_NAMESPACE: &str = "default";
/// Deadline for a connection with its TLS handshake, which takes an overloaded API server seconds.
const CONNECT: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(30);

/// Why there is no connection to a cluster.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// There is no kubeconfig, and none was set.
    #[error("no cluster configured; set KUBECONFIG or --kubeconfig: {0}")]
    NotConfigured(KubeconfigError),
    /// The kubeconfig can't be used.
    #[error("failed to load the kubeconfig: {0}")]
    Kubeconfig(KubeconfigError),
    /// The kubeconfig is malformed. The parser's message contains its values: tokens and keys.
    #[error("invalid kubeconfig{}", at(*.0))]
    Malformed(Option<u64>),
    /// The kubeconfig requires a proxy, which is not supported.
    #[error("{0}")]
    Proxy(ConfigError),
    /// The client can't be created.
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

/// Returns the cluster of the command line. Sends no request yet.
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

/// Returns the namespace if there is no cluster.
pub fn offline_namespace(args: &ClusterArgs) -> String {
    args.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// Finds the configuration as kubectl does. In a Pod without a kubeconfig, uses the Pod's service account.
#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
pub async fn config(args: &ClusterArgs) -> Result<Config, ClusterError> {
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
