//! Kubeconfig files, one cluster and one user each.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::pki::Leaf;

/// How a kubeconfig's user proves who it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proof<'a> {
    Certificate(&'a Leaf),
    Token(&'a str),
}

/// A kubeconfig's text.
pub(crate) fn render(server: &str, ca_pem: &str, user: &str, proof: Proof<'_>) -> String {
    let ca = BASE64_STANDARD.encode(ca_pem);
    let credentials = match proof {
        Proof::Certificate(leaf) => format!(
            "client-certificate-data: {}\n    client-key-data: {}",
            BASE64_STANDARD.encode(leaf.certificate_pem()),
            BASE64_STANDARD.encode(leaf.key_pem()),
        ),
        Proof::Token(token) => format!("token: {token}"),
    };
    format!(
        r#"apiVersion: v1
kind: Config
current-context: testbed
clusters:
- name: testbed
  cluster:
    server: {server}
    certificate-authority-data: {ca}
contexts:
- name: testbed
  context:
    cluster: testbed
    user: "{user}"
users:
- name: "{user}"
  user:
    {credentials}
"#
    )
}

/// A client that uses this kubeconfig.
pub(crate) async fn client(kubeconfig: &str) -> Result<kube::Client, ClientError> {
    let config = Kubeconfig::from_yaml(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

/// No client can be made of a kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig is refused.
    #[error("cannot use the kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The client cannot be set up.
    #[error("cannot set up a Kubernetes client: {0}")]
    Client(#[from] kube::Error),
}
