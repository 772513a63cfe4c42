//! The web console as a process of its own, started as its users start it on their machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{StatusCode, header};

use crate::component::{Component, ComponentError, Readiness};
use crate::eventually::{NotYet, eventually};
use crate::http_client::{Call, HttpError};
use crate::ports::{Port, PortError};
use crate::process::{ProcessSpec, Scratch};

const READY: Duration = Duration::from_mins(1);
/// More than the console waits for what is being added.
const GRACE: Duration = Duration::from_secs(10);

/// Why the console is not available.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleProcessError {
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its directory cannot be used.
    #[error("cannot use the console's directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// The program is not there.
    #[error("there is no console at {path}: `make build` makes it", path = .0.display())]
    NoBinary(PathBuf),
    /// It does not come up, or ends.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// It prints no URL.
    #[error("the console prints no URL: {0}")]
    NoUrl(#[from] NotYet),
    /// It does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It answers otherwise than it should.
    #[error("the console answers {status} to {path}")]
    Refused {
        /// The path.
        path: &'static str,
        /// The status.
        status: StatusCode,
    },
}

/// A running console. Dropping it kills it.
#[derive(Debug)]
pub struct ConsoleProcess {
    component: Component,
    url: String,
    _port: Port,
    _scratch: Scratch,
}

impl ConsoleProcess {
    /// Starts the console for the user of that kubeconfig, and waits until it serves.
    pub async fn start(
        binary: &Path,
        kubeconfig: &Path,
        env: Vec<(OsString, OsString)>,
    ) -> Result<Self, ConsoleProcessError> {
        if !binary.is_file() {
            return Err(ConsoleProcessError::NoBinary(binary.to_path_buf()));
        }
        let (scratch, port) = (Scratch::new("testbed-console")?, Port::reserve()?);
        let mut spec = ProcessSpec::new("registry-console", binary, scratch.path().join("console.log"))
            .args(["--no-browser".into(), format!("--port={}", port.number()), "--kubeconfig".into()])
            .arg(kubeconfig);
        spec.env = env;
        let component = Component::new(spec, Readiness::tcp(port.number(), READY), GRACE);
        component.start().await?;
        let printed = || async { printed_url(&component.log()).ok_or_else(|| component.log()) };
        let url = eventually("the console prints its URL", printed).await?;
        Ok(Self { component, url, _port: port, _scratch: scratch })
    }

    /// The URL that signs in, once.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Signs in by the code in the URL, as a browser does, and returns the page with the table of the system scope.
    pub async fn table(&self) -> Result<String, ConsoleProcessError> {
        const TABLE: &str = "/system/registries";
        let refused = |path, status| Err(ConsoleProcessError::Refused { path, status });
        let entered = Call::get(&self.url).send().await?;
        let cookie = entered.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
        let Some((cookie, _)) = cookie.and_then(|cookie| cookie.split_once(';')) else {
            return refused("the URL that signs in", entered.status());
        };
        let origin = self.url.split("/?").next().unwrap_or_default();
        let page = Call::get(format!("{origin}{TABLE}")).header(header::COOKIE, cookie).send().await?;
        if page.status() != StatusCode::OK {
            return refused(TABLE, page.status());
        }
        Ok(String::from_utf8_lossy(page.body()).into_owned())
    }

    /// Its exit status, if it has ended by itself.
    pub async fn exited(&self) -> Result<Option<String>, ConsoleProcessError> {
        Ok(self.component.exit_status().await?)
    }

    /// What it has written to standard output and standard error so far.
    pub fn log(&self) -> String {
        self.component.log()
    }

    /// Stops it, and returns how long that took.
    pub async fn stop(&self) -> Result<Duration, ConsoleProcessError> {
        Ok(self.component.stop().await?)
    }
}

/// The URL on the first whole line.
fn printed_url(log: &str) -> Option<String> {
    let (line, _) = log.split_once('\n')?;
    line.starts_with("http://").then(|| line.to_owned())
}
