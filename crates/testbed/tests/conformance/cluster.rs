//! The two API servers.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use http::Request;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use registry_api::{GROUP, crd, spec::VERSION};
use registry_simulation::api_server::{ApiServer, PolicyRefusal, SUPERUSER};
use registry_testbed::{ControlPlane, ControlPlaneOptions, eventually, manifests};
use tokio::sync::OnceCell;

/// An API server with the definitions of the registries.
#[derive(Clone)]
pub enum Cluster {
    Real(Arc<ControlPlane>),
    Simulated(ApiServer),
}

impl Cluster {
    /// The real one that most scenarios share.
    pub async fn real() -> Result<Self> {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        Ok(SHARED.get_or_try_init(|| Self::start(Vec::new())).await?.clone())
    }

    /// A real one that compacts etcd after a few seconds, and where a scenario may remove the definitions.
    pub async fn forgetful() -> Result<Self> {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        let flags = || vec!["--etcd-compaction-interval=2s".to_owned()];
        Ok(SHARED.get_or_try_init(|| Self::start(flags())).await?.clone())
    }

    async fn start(api_server_flags: Vec<String>) -> Result<Self> {
        let options =
            ControlPlaneOptions { controller_manager: true, api_server_flags, ..Default::default() };
        let control_plane = ControlPlane::start(options).await?;
        install(&control_plane.client().await?).await?;
        Ok(Self::Real(Arc::new(control_plane)))
    }

    pub fn simulated() -> Result<Self> {
        let server = ApiServer::new(|| Timestamp::UNIX_EPOCH);
        server.install_definitions()?;
        Ok(Self::Simulated(server))
    }

    /// A client of that user; `admin` may do everything.
    pub async fn client(&self, user: &str) -> Result<Client> {
        match self {
            Self::Real(control_plane) if user == "admin" => Ok(control_plane.client().await?),
            Self::Real(control_plane) => match user.strip_prefix("system:serviceaccount:") {
                Some(account) => {
                    let (namespace, name) =
                        account.split_once(':').context("an account has a namespace and a name")?;
                    Ok(control_plane.client_for_service_account(namespace, name).await?)
                }
                None => Ok(control_plane.client_for_user(user, &[]).await?),
            },
            Self::Simulated(server) => {
                let user = if user == "admin" { SUPERUSER } else { user };
                Ok(Client::new(server.connect(user), "default"))
            }
        }
    }

    /// Compacts etcd, so that earlier states can't be read any more. The real one does so by itself.
    pub fn compact(&self) {
        if let Self::Simulated(server) = self {
            server.compact();
        }
    }

    /// Lets time pass for the controllers of namespaces and garbage.
    pub fn run_controllers(&self) {
        if let Self::Simulated(server) = self {
            server.run_controllers();
        }
    }

    /// Refuses everything with the label `refused`, in the simulation; the scenario installs the same policy in the real one.
    pub fn refuse_label(&self, policy: &'static str, message: &'static str) {
        if let Self::Simulated(server) = self {
            server.admit_by(Arc::new(move |request| {
                let refused = request.after?["metadata"]["labels"].get("refused").is_some();
                refused.then(|| PolicyRefusal {
                    policy: policy.to_owned(),
                    binding: policy.to_owned(),
                    message: message.to_owned(),
                })
            }));
        }
    }
}

/// Installs the definitions, and waits until they are served.
async fn install(client: &Client) -> Result<()> {
    let files = crd::files()?;
    for (name, yaml) in &files {
        manifests::apply(client, manifests::parse(name, yaml)?).await?;
    }
    for plural in ["systemregistries", "tenantregistries"] {
        let look = || async {
            let request = Request::get(format!("/apis/{GROUP}/{VERSION}/{plural}")).body(Vec::new())?;
            client.request_text(request).await.map_err(anyhow::Error::from)
        };
        eventually(format!("{plural} are served"), look).await?;
    }
    Ok(())
}
