//! What all programs share about the API server: how to connect to it, and how to recognize an RBAC error.
//!
//! The connection comes from the kubeconfig or the Pod's service account. Proxies from the environment aren't used: the
//! client library would use `HTTPS_PROXY`, even if `NO_PROXY` contains the API server.

use kube::{
    Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::Status,
};
use thiserror::Error;

/// Placeholder for "no proxy" while the kubeconfig is read. If the kubeconfig has none, the client library reads the
/// environment.
const NONE: &str = "http://none.invalid";

/// Why there is no connection to a cluster.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The kubeconfig is invalid.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The kubeconfig requires a proxy, which is not supported.
    #[error("kubeconfig has a proxy-url, but proxies to the API server are not supported; remove it")]
    Proxy,
    /// There is neither a kubeconfig nor a Pod's service account.
    #[error("no cluster configured by KUBECONFIG ({kubeconfig}) or a Pod's service account ({in_cluster})")]
    Nowhere {
        /// The error of the kubeconfig.
        kubeconfig: KubeconfigError,
        /// The error of the Pod's service account.
        in_cluster: InClusterError,
    },
}

/// Returns the configuration for the cluster of `KUBECONFIG`, or for the one that this Pod runs in.
pub async fn infer() -> Result<Config, ConfigError> {
    let options = KubeConfigOptions::default();
    let loaded = match Kubeconfig::read() {
        Ok(kubeconfig) => from_kubeconfig(kubeconfig, &options).await,
        Err(error) => Err(error.into()),
    };
    match loaded {
        Err(ConfigError::Kubeconfig(kubeconfig)) => {
            Config::incluster().map_err(|in_cluster| ConfigError::Nowhere { kubeconfig, in_cluster })
        }
        loaded => loaded,
    }
}

/// Returns the configuration for the cluster of this kubeconfig.
pub async fn from_kubeconfig(
    mut kubeconfig: Kubeconfig,
    options: &KubeConfigOptions,
) -> Result<Config, ConfigError> {
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        let named = cluster.proxy_url.take().filter(|url| !url.is_empty());
        cluster.proxy_url = named.or_else(|| Some(NONE.to_owned()));
    }
    let mut config = Config::from_custom_kubeconfig(kubeconfig, options).await?;
    let proxy = config.proxy_url.take();
    if proxy.is_some_and(|url| url.host() != Some("none.invalid")) {
        return Err(ConfigError::Proxy);
    }
    Ok(config)
}

/// Returns whether a 403 is RBAC's. Policies and other admission plugins set the same fields.
pub fn is_by_rbac(status: &Status) -> bool {
    status.code == 403 && explanation(status).is_some_and(|explanation| explanation.starts_with("User \""))
}

/// Returns the part of a 403's message after the part that is made from the fields.
pub fn explanation(status: &Status) -> Option<&str> {
    let details = status.details.as_ref()?;
    let resource = status.message.strip_prefix(&details.kind)?;
    let resource = match details.group.as_str() {
        "" => resource,
        group => resource.strip_prefix('.')?.strip_prefix(group)?,
    };
    let named = match details.name.as_str() {
        "" => resource,
        name => resource.strip_prefix(&format!(" {name:?}"))?,
    };
    named.strip_prefix(" is forbidden: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn config(cluster: &str) -> Result<Config, ConfigError> {
        let text = format!(
            "{{current-context: c, contexts: [{{name: c, context: {{cluster: k, user: u}}}}], users: [{{name: u, user: {{}}}}], \
             clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:6443'{cluster}}}}}]}}"
        );
        from_kubeconfig(Kubeconfig::from_yaml(&text).unwrap(), &KubeConfigOptions::default()).await
    }

    #[tokio::test]
    async fn rejects_kubeconfig_with_proxy() {
        for none in ["", ", proxy-url: ''"] {
            assert_eq!(config(none).await.unwrap().proxy_url, None, "{none}");
        }
        for proxy in ["http://proxy.example:3128", "socks5://localhost:1080"] {
            let refused = config(&format!(", proxy-url: '{proxy}'")).await;
            assert!(matches!(refused, Err(ConfigError::Proxy)), "{proxy}");
        }
    }
}
