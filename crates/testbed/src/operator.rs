//! The operator as a process of its own, started as its users start it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::component::{Component, ComponentError, Readiness};
use crate::http_client::{Call, HttpError};
use crate::ports::{Port, PortError};
use crate::process::{ProcessSpec, Scratch};

/// Generous, for a machine that is busy with other tests.
const READY: Duration = Duration::from_mins(2);
/// More than the operator's promise of 5 s, so that a test can measure a longer stop.
const GRACE: Duration = Duration::from_secs(15);

/// How to start the operator.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// The program.
    pub binary: PathBuf,
    /// The kubeconfig: the cluster and the user.
    pub kubeconfig: PathBuf,
    /// Its arguments, besides `--metrics-address`.
    pub args: Vec<OsString>,
    /// Its environment, besides `KUBECONFIG`. Nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// How many files it may have open, by the soft and the hard limit; as many as the tests may, if none is given.
    pub open_files: Option<u32>,
}

impl OperatorOptions {
    /// The operator with registries on loopback allowed.
    pub fn new(binary: impl Into<PathBuf>, kubeconfig: impl Into<PathBuf>) -> Self {
        let args = vec![OsString::from("--egress-allow=127.0.0.0/8")];
        let (binary, kubeconfig) = (binary.into(), kubeconfig.into());
        Self { binary, kubeconfig, args, env: Vec::new(), open_files: None }
    }

    /// Limits the files that it may have open.
    #[must_use]
    pub fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Why the operator, or its metrics, are not available.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its directory cannot be used.
    #[error("cannot use the operator's directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// The program is not there.
    #[error("there is no operator at {path}: `make build` makes it", path = .0.display())]
    NoBinary(PathBuf),
    /// It does not come up, or ends.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// Its metrics cannot be read.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The kernel has no figures of it.
    #[error("cannot read what the operator takes: it is not running")]
    NotRunning,
}

/// A running operator. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    component: Component,
    port: Port,
    _scratch: Scratch,
}

impl Operator {
    /// Starts the operator and waits until it is ready.
    pub async fn start(options: OperatorOptions) -> Result<Self, OperatorError> {
        let operator = Self::prepare(options)?;
        operator.component.start().await?;
        Ok(operator)
    }

    /// Starts the operator without waiting, for tests in which it doesn't become ready.
    pub async fn launch(options: OperatorOptions) -> Result<Self, OperatorError> {
        let operator = Self::prepare(options)?;
        operator.component.launch().await?;
        Ok(operator)
    }

    fn prepare(options: OperatorOptions) -> Result<Self, OperatorError> {
        if !options.binary.is_file() {
            return Err(OperatorError::NoBinary(options.binary));
        }
        let scratch = Scratch::new("testbed-operator")?;
        let port = Port::reserve()?;
        let log = scratch.path().join("operator.log");
        let spec = match options.open_files {
            Some(limit) => ProcessSpec::new("registry-operator", "/bin/sh", log)
                .args([OsString::from("-c"), format!("ulimit -n {limit} && exec \"$0\" \"$@\"").into()])
                .arg(options.binary),
            None => ProcessSpec::new("registry-operator", options.binary, log),
        };
        let mut spec = spec
            .args(options.args)
            .arg(format!("--metrics-address=127.0.0.1:{}", port.number()))
            .env("KUBECONFIG", options.kubeconfig)
            .env("HOME", scratch.path().as_os_str());
        spec.env.extend(options.env);
        let readiness = Readiness::http(format!("http://127.0.0.1:{}/readyz", port.number()), READY);
        Ok(Self { component: Component::new(spec, readiness, GRACE), port, _scratch: scratch })
    }

    /// Starts it again after it was stopped or killed, with the same options.
    pub async fn restart(&self) -> Result<Duration, OperatorError> {
        Ok(self.component.start().await?)
    }

    /// Stops it (SIGTERM) and returns how long that took. After 15 s it is killed.
    pub async fn stop(&self) -> Result<Duration, OperatorError> {
        Ok(self.component.stop().await?)
    }

    /// Kills it (SIGKILL).
    pub async fn kill(&self) {
        self.component.kill().await;
    }

    /// Freezes it (SIGSTOP).
    pub async fn pause(&self) -> Result<(), OperatorError> {
        Ok(self.component.pause().await?)
    }

    /// Resumes it (SIGCONT).
    pub async fn resume(&self) -> Result<(), OperatorError> {
        Ok(self.component.resume().await?)
    }

    /// Waits until it is ready.
    pub async fn wait_ready(&self) -> Result<(), OperatorError> {
        Ok(self.component.wait_ready().await?)
    }

    /// Its exit status, if it has ended by itself.
    pub async fn exited(&self) -> Result<Option<String>, OperatorError> {
        Ok(self.component.exit_status().await?)
    }

    /// What it has written to standard output and standard error so far.
    pub fn log(&self) -> String {
        self.component.log()
    }

    /// The file that it writes them to; it goes with the operator.
    pub fn log_path(&self) -> &Path {
        self.component.log_path()
    }

    /// Its process id, while it runs.
    pub async fn id(&self) -> Option<u32> {
        self.component.id().await
    }

    /// `http://127.0.0.1:<port>`: metrics and health.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Its metrics, in Prometheus' text format.
    pub async fn metrics(&self) -> Result<String, OperatorError> {
        let answer = Call::get(format!("{}/metrics", self.url())).send().await?;
        Ok(String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// How many TCP connections it has to that port of this machine.
    pub async fn connections_to(&self, port: u16) -> Result<usize, OperatorError> {
        let id = self.id().await.ok_or(OperatorError::NotRunning)?;
        let mut own = HashSet::new();
        for file in std::fs::read_dir(format!("/proc/{id}/fd"))? {
            // What was closed meanwhile is none.
            if let Ok(target) = std::fs::read_link(file?.path()) {
                let target = target.to_string_lossy().into_owned();
                own.extend(
                    target
                        .strip_prefix("socket:[")
                        .and_then(|inode| Some(inode.strip_suffix(']')?.to_owned())),
                );
            }
        }
        let table = std::fs::read_to_string(format!("/proc/{id}/net/tcp"))?;
        let remote = format!(":{port:04X}");
        let is_one = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            matches!(fields[..], [_, _, to, "01", _, _, _, _, _, inode, ..] if to.ends_with(&remote) && own.contains(inode))
        };
        Ok(table.lines().filter(is_one).count())
    }

    /// Its resident memory.
    pub async fn rss_bytes(&self) -> Result<u64, OperatorError> {
        let id = self.id().await.ok_or(OperatorError::NotRunning)?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or(OperatorError::NotRunning)?;
        let kibibytes =
            line.trim().trim_end_matches(" kB").parse::<u64>().map_err(|_| OperatorError::NotRunning)?;
        Ok(kibibytes * 1024)
    }
}
