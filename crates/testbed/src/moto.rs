//! AWS as moto emulates it: ECR, STS and IAM over HTTP, for tests and for `make run`.
//!
//! A Python program, pinned by `tests/tools/moto/requirements.txt`, installed on first use. Needs `python3` and a package
//! index.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::component::{Component, ComponentError, Readiness};
use crate::ports::{Port, PortError};
use crate::process::{Scratch, Spec};
use crate::python::{self, PythonError};

const READY: Duration = Duration::from_mins(1);
const GRACE: Duration = Duration::from_secs(5);

/// Why there is no emulator.
#[derive(Debug, thiserror::Error)]
pub enum MotoError {
    /// It is not installed, and can't be.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its directory cannot be used.
    #[error("cannot use moto's directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// It does not come up.
    #[error(transparent)]
    Component(#[from] ComponentError),
}

/// A running emulator.
#[derive(Debug)]
pub struct Moto {
    component: Component,
    address: Ipv4Addr,
    port: Port,
    _scratch: Scratch,
}

impl Moto {
    /// Installs it if it isn't yet.
    pub fn install() -> Result<PathBuf, MotoError> {
        Ok(python::environment("moto")?)
    }

    /// Installs it if it isn't yet, starts it and waits until it answers.
    pub async fn start() -> Result<Self, MotoError> {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    /// The same, for others who reach it at this address of the machine.
    pub async fn start_at(address: Ipv4Addr) -> Result<Self, MotoError> {
        let installed = tokio::task::spawn_blocking(Self::install).await;
        let environment = installed.map_err(|error| MotoError::Scratch(std::io::Error::other(error)))??;
        let (scratch, port) = (Scratch::new("testbed-moto")?, Port::reserve()?);
        let spec = Spec::new("moto", environment.join("bin/moto_server"), scratch.path().join("moto.log"))
            .args(["-H".into(), address.to_string(), "-p".into(), port.number().to_string()]);
        let readiness =
            Readiness::http(format!("http://{address}:{}/moto-api/data.json", port.number()), READY);
        let component = Component::new(spec, readiness, GRACE);
        component.start().await?;
        Ok(Self { component, address, port, _scratch: scratch })
    }

    /// Whether there is a Python to run it.
    pub fn is_possible() -> bool {
        python::is_there()
    }

    /// Its endpoint, for all of AWS's APIs.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.address, self.port.number())
    }

    /// The server: stop, start, pause, log.
    pub fn component(&self) -> &Component {
        &self.component
    }
}
