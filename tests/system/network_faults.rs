//! A TCP proxy between an operator and its API server whose connections can fall silent: they stay open, and nothing comes through
//! any more, as when a firewall or NAT gateway has forgotten them. TLS and HTTP/2 pass unchanged. Has no assertions of its own.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use registry_testbed::OperatorOptions;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    exclusive_cluster::ExclusiveCluster,
    harness::{SERVICE_ACCOUNT, SYSTEM_NAMESPACE},
};

/// A way to the API server. It ends with this value.
pub struct SilencingProxy {
    address: SocketAddr,
    /// How often connections have fallen silent.
    silences: watch::Sender<usize>,
    _server: JoinSet<()>,
}

impl SilencingProxy {
    /// A way to the API server of that cluster.
    pub async fn start(solo: &ExclusiveCluster) -> Result<Self> {
        let server = solo.installation.control_plane().url().replace("https://", "");
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let silences = watch::Sender::new(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, silences.clone()));
        Ok(Self { address, silences, _server: tasks })
    }

    /// How an operator is started that takes this way.
    pub async fn operator_options(&self, solo: &ExclusiveCluster) -> Result<OperatorOptions> {
        let control_plane = solo.installation.control_plane();
        let token = control_plane.service_account_token(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?;
        let (url, ca) = (format!("https://{}", self.address), control_plane.ca().certificate_pem());
        let mut options = solo.installation.operator_options().await?;
        options.kubeconfig = control_plane.kubeconfig_with_token(&url, ca, &token)?;
        Ok(options)
    }

    /// Makes all open connections silent, without closing them. New connections work.
    pub fn silence(&self) {
        self.silences.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, server: String, silences: watch::Sender<usize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut silences = silences.subscribe();
        silences.mark_unchanged();
        let server = server.clone();
        // The operator sees a connection that fails, which is all that there is to report.
        connections.spawn(async move { drop(relay(stream, server, silences).await) });
    }
}

/// Passes bytes on in both directions until one side closes. From the next silence on, it keeps both sides open and reads nothing.
async fn relay(mut client: TcpStream, server: String, mut silences: watch::Receiver<usize>) -> Result<()> {
    let mut server = TcpStream::connect(&server).await.with_context(|| server.clone())?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => Ok(()),
        Ok(()) = silences.changed() => std::future::pending().await,
    }
}
