//! The registries of the samples: one with passwords and a private authority, one for anybody, one that is down, and one
//! that takes the tokens of an emulated AWS.

use std::path::{Path, PathBuf};

use registry_testbed::pki::PkiError;
use registry_testbed::ports::{Port, PortError};
use registry_testbed::process::Scratch;
use registry_testbed::registry::{RegistryAuth, RegistryError, RegistryOptions, RegistryTls, TestRegistry};
use registry_testbed::samples::{Overlay, PASSWORD, USER};
use registry_testbed::{LeafOptions, Moto, TestCa};

use crate::print_line;

/// The content of moto's tokens, which is the same for all users.
const AWS_USER: &str = "AWS";
const AWS_PASSWORD: &str = "123456789012-auth-token";

/// Why the registries of the samples can't be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The file with the CA can't be written.
    #[error("cannot write the CA's certificate: {0}")]
    Write(#[from] std::io::Error),
    /// A registry does not come up.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Running registries, and the address of none.
pub(crate) struct RunRegistries {
    ca: TestCa,
    protected: TestRegistry,
    anonymous: TestRegistry,
    down: Port,
    ecr: Option<Ecr>,
    ca_file: PathBuf,
    _scratch: Scratch,
}

/// An emulated AWS, and a registry that takes its tokens.
struct Ecr {
    aws: Moto,
    registry: TestRegistry,
}

impl Ecr {
    /// Starts both; nothing if AWS can't be emulated here, which is printed.
    async fn start(tls: RegistryTls) -> Result<Option<Self>, SetupError> {
        if !Moto::is_possible() {
            print_line("Left out: the sample of AWS ECR, whose emulator (moto) needs python3.");
            return Ok(None);
        }
        print_line("Emulating AWS with moto; its first installation takes about a minute.");
        let aws = match Moto::start().await {
            Ok(aws) => aws,
            Err(error) => {
                print_line(&format!(
                    "Left out: the sample of AWS ECR, whose emulator does not come up. {error}"
                ));
                return Ok(None);
            }
        };
        let auth = RegistryAuth::htpasswd(AWS_USER, AWS_PASSWORD);
        let registry = TestRegistry::start(RegistryOptions { auth, tls }).await?;
        registry.push_artifact("team/packs/hello", "1.0.0").await?;
        Ok(Some(Self { aws, registry }))
    }

    fn host_port(&self) -> String {
        self.registry.host_port()
    }
}

impl RunRegistries {
    /// Starts them, with the repositories that the samples name.
    pub(crate) async fn start() -> Result<Self, SetupError> {
        let ca = TestCa::new("Example Company Private CA")?;
        let tls = RegistryTls::Server {
            leaf: ca.issue(&LeafOptions::server("registry"))?,
            ca_pem: ca.certificate_pem().to_owned(),
            client_ca_pem: None,
        };
        let ecr = Ecr::start(tls.clone()).await?;
        let auth = RegistryAuth::htpasswd(USER, PASSWORD);
        let protected = TestRegistry::start(RegistryOptions { auth, tls }).await?;
        let anonymous = TestRegistry::start(RegistryOptions::default()).await?;
        protected.push_artifact("team/packs/hello", "1.0.0").await?;
        protected.push_artifact("team-a/charts/hello", "1.0.0").await?;
        anonymous.push_artifact("public/hello", "1.0.0").await?;
        let down = Port::reserve()?;
        let scratch = Scratch::new("testbed-ca")?;
        let ca_file = scratch.write("ca.crt", ca.certificate_pem())?;
        let registries = Self { ca, protected, anonymous, down, ecr, ca_file, _scratch: scratch };
        registries.introduce();
        Ok(registries)
    }

    /// What stands in for the samples' hosts.
    pub(crate) fn overlay(&self) -> Overlay {
        Overlay {
            protected: self.protected.host_port(),
            anonymous: self.anonymous.host_port(),
            down: self.down_host_port(),
            ecr: self.ecr.as_ref().map(Ecr::host_port),
            ca_pem: self.ca.certificate_pem().to_owned(),
        }
    }

    /// The registry with a password.
    pub(crate) fn protected_host_port(&self) -> String {
        self.protected.host_port()
    }

    /// The file with the CA of the registries that speak TLS.
    pub(crate) fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The endpoint of the emulated AWS, if there is one.
    pub(crate) fn aws(&self) -> Option<String> {
        self.ecr.as_ref().map(|ecr| ecr.aws.url())
    }

    fn down_host_port(&self) -> String {
        format!("127.0.0.1:{}", self.down.number())
    }

    fn introduce(&self) {
        print_line(&format!("Registry with a password ({USER}) and a private CA: {}", self.protected.url()));
        print_line(&format!("Registry for anybody, without TLS:              {}", self.anonymous.url()));
        print_line(&format!(
            "Registry that is down:                          https://{}",
            self.down_host_port()
        ));
        if let Some(ecr) = &self.ecr {
            print_line(&format!("Registry that takes tokens of AWS:              {}", ecr.registry.url()));
            print_line(&format!("AWS (ECR and STS, emulated by moto):            {}", ecr.aws.url()));
        }
    }
}
