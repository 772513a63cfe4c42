//! A forward proxy, as companies have one between their clusters and the internet: proxy.py, for tests.
//!
//! A Python program, pinned by `tests/tools/forward-proxy/requirements.txt`, installed on first use.

use std::time::Duration;

use crate::component::{Component, ComponentError, Readiness};
use crate::ports::{Port, PortError};
use crate::process::{ProcessSpec, Scratch};
use crate::python::{self, PythonError};

const READY: Duration = Duration::from_mins(1);
const GRACE: Duration = Duration::from_secs(5);

/// Why there is no proxy.
#[derive(Debug, thiserror::Error)]
pub enum ForwardProxyError {
    /// It is not installed, and can't be.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its directory cannot be used.
    #[error("cannot use the proxy's directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// It does not come up.
    #[error(transparent)]
    Component(#[from] ComponentError),
}

/// A running proxy on loopback. It allows everything.
#[derive(Debug)]
pub struct ForwardProxy {
    component: Component,
    port: Port,
    _scratch: Scratch,
}

impl ForwardProxy {
    /// Installs it if it isn't yet, starts it and waits until it listens. With a `login`, `user:password`, it asks for
    /// that.
    pub async fn start(login: Option<&str>) -> Result<Self, ForwardProxyError> {
        let installed = tokio::task::spawn_blocking(|| python::environment("forward-proxy")).await;
        let environment = installed.map_err(std::io::Error::other)??;
        let (scratch, port) = (Scratch::new("testbed-proxy")?, Port::reserve()?);
        let number = port.number().to_string();
        // By module: the script of a virtual environment has the path in it at which it was installed.
        let mut args = vec![
            "-m",
            "proxy",
            "--hostname",
            "127.0.0.1",
            "--port",
            &number,
            "--num-workers",
            "1",
            "--num-acceptors",
            "1",
        ];
        let home = scratch.path().join("home").display().to_string();
        args.extend(["--data-dir", &home]);
        args.extend(login.into_iter().flat_map(|login| ["--basic-auth", login]));
        let spec =
            ProcessSpec::new("proxy", environment.join("bin/python"), scratch.path().join("proxy.log"))
                .args(args.into_iter().map(ToOwned::to_owned));
        let component = Component::new(spec, Readiness::tcp(port.number(), READY), GRACE);
        component.start().await?;
        Ok(Self { component, port, _scratch: scratch })
    }

    /// Where it listens, as `host:port`.
    pub fn host_port(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// The server: stop, start, pause, log. The log has a line for each request that it let through, such as
    /// `CONNECT registry:443`.
    pub fn component(&self) -> &Component {
        &self.component
    }
}
