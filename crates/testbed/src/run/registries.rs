//! The registries of the samples: one with passwords and a private authority, one for anybody, and one that is down.

use registry_testbed::manifests::Tokens;
use registry_testbed::pki::PkiError;
use registry_testbed::ports::{Port, PortError};
use registry_testbed::registry::{Registry, RegistryAuth, RegistryError, RegistryOptions, RegistryTls};
use registry_testbed::{Ca, LeafOptions};

use crate::say;

/// What the samples' Secrets hold too.
const USER: &str = "demo";
const PASSWORD: &str = "demo-password";

/// Why there is nothing for the samples to point to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A registry does not come up.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Running registries, and the address of none.
pub(crate) struct Registries {
    ca: Ca,
    protected: Registry,
    anonymous: Registry,
    down: Port,
}

impl Registries {
    /// Starts them, with the repositories that the samples name.
    pub(crate) async fn start() -> Result<Self, SetupError> {
        let ca = Ca::new("Example Company Private CA")?;
        let tls = RegistryTls::Server {
            leaf: ca.issue(&LeafOptions::server("registry"))?,
            ca_pem: ca.certificate_pem().to_owned(),
            client_ca_pem: None,
        };
        let auth = RegistryAuth::htpasswd(USER, PASSWORD);
        let protected = Registry::start(RegistryOptions { auth, tls }).await?;
        let anonymous = Registry::start(RegistryOptions::default()).await?;
        protected.push_artifact("team/packs/hello", "1.0.0").await?;
        protected.push_artifact("team-a/charts/hello", "1.0.0").await?;
        anonymous.push_artifact("public/hello", "1.0.0").await?;
        let down = Port::reserve()?;
        let registries = Self { ca, protected, anonymous, down };
        registries.introduce();
        Ok(registries)
    }

    /// What the samples' tokens stand for.
    pub(crate) fn tokens(&self) -> Tokens {
        Tokens::default()
            .with("REGISTRY", self.protected.host_port())
            .with("ANONYMOUS_REGISTRY", self.anonymous.host_port())
            .with("DOWN_REGISTRY", self.down_host_port())
            .with("CA", self.ca.certificate_pem())
    }

    fn down_host_port(&self) -> String {
        format!("127.0.0.1:{}", self.down.number())
    }

    fn introduce(&self) {
        say(&format!("Registry with a password ({USER}) and a private CA: {}", self.protected.url()));
        say(&format!("Registry for anybody, without TLS:              {}", self.anonymous.url()));
        say(&format!("Registry that is down:                          https://{}", self.down_host_port()));
    }
}
