//! A server's process, with its port and its directory.

use std::time::Duration;

use super::ServerError;
use crate::component::{Component, Readiness};
use crate::ports::Port;
use crate::process::{ProcessSpec, Scratch};

const READY: Duration = Duration::from_mins(2);
const GRACE: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 3;

/// A process that listens on a port of 127.0.0.1.
#[derive(Debug)]
pub(super) struct RunningServer {
    port: Port,
    // Ends before its directory goes.
    _component: Component,
    _scratch: Scratch,
}

impl RunningServer {
    /// Starts what `make` says for a directory and a port, and waits until the port takes connections.
    pub(super) async fn start(
        make: impl Fn(&Scratch, u16) -> Result<ProcessSpec, ServerError>,
    ) -> Result<Self, ServerError> {
        let mut attempt = 1;
        loop {
            let (scratch, port) = (Scratch::new("testbed-server")?, Port::reserve()?);
            let spec = make(&scratch, port.number())?;
            let component = Component::new(spec, Readiness::tcp(port.number(), READY), GRACE);
            match component.start().await {
                Err(error) if error.is_port_collision() && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(Self { port, _component: component, _scratch: scratch }),
            }
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }
}

/// A log beside the other files of a server.
pub(super) fn log(scratch: &Scratch) -> std::path::PathBuf {
    scratch.path().join("server.log")
}
