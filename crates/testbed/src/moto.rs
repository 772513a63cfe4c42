//! AWS as moto emulates it: ECR, STS and IAM over HTTP, for tests and for `make run`.
//!
//! A Python program, pinned by `tests/tools/moto/requirements.txt`, installed into a virtual environment below
//! `target/tools` on first use and again only when a pin changes. Needs `python3` and a package index.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::component::{Component, ComponentError, Readiness};
use crate::ports::{Port, PortError};
use crate::process::{Scratch, Spec};
use crate::tools::{repository, sha256_hex};

const READY: Duration = Duration::from_mins(1);
const GRACE: Duration = Duration::from_secs(5);

/// Why there is no emulator.
#[derive(Debug, thiserror::Error)]
pub enum MotoError {
    /// There is no Python to run it.
    #[error("moto is a Python program, and python3 is not on PATH")]
    NoPython,
    /// It could not be installed.
    #[error("moto could not be installed: {command} failed:\n{output}")]
    Install {
        /// What failed.
        command: String,
        /// The end of what it said.
        output: String,
    },
    /// A file of the cache or of the pins cannot be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
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
    port: Port,
    _scratch: Scratch,
}

impl Moto {
    /// Installs it if it isn't yet, starts it and waits until it answers.
    pub async fn start() -> Result<Self, MotoError> {
        let installed = tokio::task::spawn_blocking(install).await;
        let program = installed.map_err(|error| MotoError::Scratch(std::io::Error::other(error)))??;
        let (scratch, port) = (Scratch::new("testbed-moto")?, Port::reserve()?);
        let spec = Spec::new("moto", program, scratch.path().join("moto.log")).args([
            "-H".into(),
            "127.0.0.1".into(),
            "-p".into(),
            port.number().to_string(),
        ]);
        let readiness =
            Readiness::http(format!("http://127.0.0.1:{}/moto-api/data.json", port.number()), READY);
        let component = Component::new(spec, readiness, GRACE);
        component.start().await?;
        Ok(Self { component, port, _scratch: scratch })
    }

    /// Whether there is a Python to run it.
    pub fn is_possible() -> bool {
        Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success())
    }

    /// Its endpoint, for all of AWS's APIs.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// The server: stop, start, pause, log.
    pub fn component(&self) -> &Component {
        &self.component
    }
}

/// The server's program, in an environment with these pins.
fn install() -> Result<PathBuf, MotoError> {
    let file = |path: &Path| {
        let path = path.to_path_buf();
        move |source| MotoError::File { path, source }
    };
    let pins = repository().join("tests/tools/moto/requirements.txt");
    let key = sha256_hex(&std::fs::read(&pins).map_err(file(&pins))?);
    let cache = repository().join("target/tools");
    std::fs::create_dir_all(&cache).map_err(file(&cache))?;
    let lock = cache.join("moto.lock");
    let _held = locked(&lock).map_err(file(&lock))?;
    let (home, done) = (cache.join("moto"), cache.join("moto/installed"));
    let program = home.join("bin/moto_server");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == key) {
        return Ok(program);
    }
    if !Moto::is_possible() {
        return Err(MotoError::NoPython);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", "-r"];
    run(Command::new(home.join("bin/python")).args(pip).arg(&pins))?;
    std::fs::write(&done, key).map_err(file(&done))?;
    Ok(program)
}

/// Held until it is dropped: two programs do not install at once.
fn locked(path: &Path) -> Result<File, std::io::Error> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.lock()?;
    Ok(file)
}

fn run(command: &mut Command) -> Result<(), MotoError> {
    let output = match command.output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    Err(MotoError::Install { command: command_line(command), output })
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
