//! Programs that come as Python packages: pinned by `tests/tools/<name>/requirements.txt`, installed into a virtual environment
//! below `target/tools` on first use and again only when a pin changes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{repository, sha256_hex};

/// Why a program is not installed.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// There is no Python to run it.
    #[error("{0} is a Python package, and python3 is not on PATH")]
    NoPython(String),
    /// It could not be installed.
    #[error("{name} could not be installed: {command} failed:\n{output}")]
    Install {
        /// The program.
        name: String,
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
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// Whether there is a Python.
pub fn is_there() -> bool {
    Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The virtual environment with the pins of this name.
pub fn environment(name: &str) -> Result<PathBuf, PythonError> {
    let file = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PythonError::File { path, source }
    };
    let pins = repository().join("tests/tools").join(name).join("requirements.txt");
    let key = sha256_hex(&std::fs::read(&pins).map_err(file(&pins))?);
    let cache = repository().join("target/tools");
    std::fs::create_dir_all(&cache).map_err(file(&cache))?;
    let lock = cache.join(format!("{name}.lock"));
    let _held = locked(&lock).map_err(file(&lock))?;
    let home = cache.join(name);
    let done = home.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == key) {
        return Ok(home);
    }
    if !is_there() {
        return Err(PythonError::NoPython(name.to_owned()));
    }
    run(name, Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", "-r"];
    run(name, Command::new(home.join("bin/python")).args(pip).arg(&pins))?;
    std::fs::write(&done, key).map_err(file(&done))?;
    Ok(home)
}

/// Held until it is dropped: two programs do not install at once.
fn locked(path: &Path) -> Result<File, std::io::Error> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.lock()?;
    Ok(file)
}

fn run(name: &str, command: &mut Command) -> Result<(), PythonError> {
    let output = match command.output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    Err(PythonError::Install { name: name.to_owned(), command: command_line(command), output })
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
