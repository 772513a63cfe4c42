//! One server of the testbed: started until it is ready, stopped, killed, frozen and started again on the same ports
//! and data.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;

use crate::http_client::Call;
use crate::process::{Process, ProcessError, ProcessSpec};

const POLL: Duration = Duration::from_millis(20);

/// Why a server failed.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The process could not be started, signalled or waited for.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The server ended by itself before it was ready.
    #[error("{name} ended before it was ready ({status}). The end of {log}:\n{tail}", log = log.display())]
    Ended {
        /// The server's name.
        name: String,
        /// Its exit status.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// The server is not ready in time.
    #[error("{name} is not ready after {waited:?}: {last}. The end of {log}:\n{tail}", log = log.display())]
    NotReady {
        /// The server's name.
        name: String,
        /// How long was waited.
        waited: Duration,
        /// The last error of its readiness check.
        last: String,
        /// Its log.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
}

impl ComponentError {
    /// Whether another program had taken the port first.
    pub(crate) fn is_port_collision(&self) -> bool {
        matches!(self, Self::Ended { tail, .. } if tail.contains("address already in use"))
    }
}

/// How a server shows that it is ready, and how long that may take.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    sign: ReadinessCheck,
    timeout: Duration,
}

#[derive(Debug, Clone)]
enum ReadinessCheck {
    /// A GET of the URL is answered 2xx.
    Http { url: String, ca_pem: Option<String> },
    /// The loopback port takes connections.
    Tcp(u16),
    /// The Unix socket takes connections.
    Socket(PathBuf),
}

impl Readiness {
    pub(crate) fn http(url: String, timeout: Duration) -> Self {
        Self { sign: ReadinessCheck::Http { url, ca_pem: None }, timeout }
    }

    pub(crate) fn https(url: String, ca_pem: &str, timeout: Duration) -> Self {
        Self { sign: ReadinessCheck::Http { url, ca_pem: Some(ca_pem.to_owned()) }, timeout }
    }

    pub(crate) fn tcp(port: u16, timeout: Duration) -> Self {
        Self { sign: ReadinessCheck::Tcp(port), timeout }
    }

    pub(crate) fn socket(path: impl Into<PathBuf>, timeout: Duration) -> Self {
        Self { sign: ReadinessCheck::Socket(path.into()), timeout }
    }

    async fn look(&self) -> Result<(), String> {
        match &self.sign {
            ReadinessCheck::Http { url, ca_pem } => look_at_url(url, ca_pem.as_deref()).await,
            ReadinessCheck::Tcp(port) => match TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("port {port}: {error}")),
            },
            ReadinessCheck::Socket(path) => match UnixStream::connect(path).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
        }
    }
}

async fn look_at_url(url: &str, ca_pem: Option<&str>) -> Result<(), String> {
    let mut call = Call::get(url);
    if let Some(ca_pem) = ca_pem {
        call = call.trust(ca_pem);
    }
    match call.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("{url} answers {}", answer.status())),
        Err(error) => Err(error.to_string()),
    }
}

/// A server that can be ended and started again.
#[derive(Debug)]
pub struct Component {
    spec: ProcessSpec,
    readiness: Readiness,
    grace: Duration,
    process: Mutex<Option<Process>>,
}

impl Component {
    pub(crate) fn new(spec: ProcessSpec, readiness: Readiness, grace: Duration) -> Self {
        Self { spec, readiness, grace, process: Mutex::new(None) }
    }

    /// Starts it and waits until it is ready; returns how long that took. Does nothing if it is running.
    pub async fn start(&self) -> Result<Duration, ComponentError> {
        let start = Instant::now();
        self.launch().await?;
        self.wait_ready().await?;
        Ok(start.elapsed())
    }

    /// Starts it without waiting.
    pub async fn launch(&self) -> Result<(), ComponentError> {
        let mut process = self.process.lock().await;
        let running = matches!(process.as_mut().map(Process::exit_status), Some(Ok(None)));
        if !running {
            *process = Some(Process::spawn(&self.spec)?);
        }
        Ok(())
    }

    /// Waits until it is ready, or has ended.
    pub async fn wait_ready(&self) -> Result<(), ComponentError> {
        let start = Instant::now();
        loop {
            let Err(last) = self.readiness.look().await else {
                return Ok(());
            };
            if let Some(status) = self.exit_status().await? {
                return Err(self.ended(&status));
            }
            if start.elapsed() > self.readiness.timeout {
                return Err(self.not_ready(start.elapsed(), last));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops it (SIGTERM), kills it after its grace period; returns how long that took.
    pub async fn stop(&self) -> Result<Duration, ComponentError> {
        let start = Instant::now();
        let Some(mut process) = self.process.lock().await.take() else {
            return Ok(Duration::ZERO);
        };
        match process.stop(self.grace).await {
            Ok(_) | Err(ProcessError::Stubborn { .. } | ProcessError::NotRunning { .. }) => {
                Ok(start.elapsed())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Kills it (SIGKILL).
    pub async fn kill(&self) {
        drop(self.process.lock().await.take());
    }

    /// Freezes it (SIGSTOP): connections stay open, nothing answers.
    pub async fn pause(&self) -> Result<(), ComponentError> {
        Ok(self.with_process(Process::pause).await?)
    }

    /// Resumes it (SIGCONT).
    pub async fn resume(&self) -> Result<(), ComponentError> {
        Ok(self.with_process(Process::resume).await?)
    }

    /// Its process id, while it runs.
    pub async fn id(&self) -> Option<u32> {
        self.process.lock().await.as_ref().map(Process::id)
    }

    /// Its log so far, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.spec.log).unwrap_or_default()).into_owned()
    }

    /// The file that it logs to.
    pub fn log_path(&self) -> &Path {
        &self.spec.log
    }

    async fn with_process(
        &self,
        act: impl FnOnce(&mut Process) -> Result<(), ProcessError>,
    ) -> Result<(), ProcessError> {
        match self.process.lock().await.as_mut() {
            Some(process) => act(process),
            None => Err(ProcessError::NotRunning { name: self.spec.name.clone() }),
        }
    }

    /// Its exit status, if it has ended.
    pub async fn exit_status(&self) -> Result<Option<String>, ComponentError> {
        match self.process.lock().await.as_mut() {
            Some(process) => Ok(process.exit_status()?.map(|status| status.to_string())),
            None => Ok(Some(String::from("not started"))),
        }
    }

    fn ended(&self, status: &str) -> ComponentError {
        let (name, log) = (self.spec.name.clone(), self.spec.log.clone());
        ComponentError::Ended { name, status: status.to_owned(), log, tail: self.tail() }
    }

    fn not_ready(&self, waited: Duration, last: String) -> ComponentError {
        let (name, log) = (self.spec.name.clone(), self.spec.log.clone());
        ComponentError::NotReady { name, waited, last, log, tail: self.tail() }
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}
