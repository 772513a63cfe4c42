//! axe-core, which looks for violations of WCAG on a page: a script from npm, pinned by `tests/tools/axe-core/SHA256SUMS` and kept in
//! `target/tools`.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;

use crate::debian;
use crate::tools::{repository, sha256_hex};

/// The script's path in the package.
const SCRIPT: &str = "package/axe.min.js";

/// Why there is no axe-core.
#[derive(Debug, thiserror::Error)]
pub enum AxeError {
    /// There is nothing to download it with.
    #[error("axe-core is an npm package, and npm is not on PATH")]
    NoNpm,
    /// It could not be downloaded.
    #[error("axe-core could not be downloaded: {0}")]
    Download(String),
    /// The package isn't the pinned one.
    #[error("{package} is not the pinned one: its SHA-256 digest is {found}, not {pinned}")]
    Digest {
        /// The package.
        package: String,
        /// The digest of what was downloaded.
        found: String,
        /// The digest in `SHA256SUMS`.
        pinned: String,
    },
    /// The pins, the package or the directory can't be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// The text of the script. Downloads the package the first time.
pub fn script() -> Result<String, AxeError> {
    let (pinned, file) = pin()?;
    let package = repository().join("target/tools").join(&file);
    download_once(&file, &package)?;
    let content = std::fs::read(&package).map_err(failed(&package))?;
    let found = sha256_hex(&content);
    if found != pinned {
        return Err(AxeError::Digest { package: file, found, pinned });
    }
    unpacked(&content).map_err(failed(&package))
}

/// The package's digest and file name, as in the only line of `SHA256SUMS`.
fn pin() -> Result<(String, String), AxeError> {
    let path = repository().join("tests/tools/axe-core/SHA256SUMS");
    let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
    let (digest, file) = text.trim().split_once("  ").unwrap_or_default();
    Ok((digest.to_owned(), file.to_owned()))
}

/// Downloads the package if it isn't there. Tests run in parallel: the others wait for the first.
fn download_once(file: &str, package: &Path) -> Result<(), AxeError> {
    let path = package.with_file_name("axe-core.lock");
    std::fs::create_dir_all(repository().join("target/tools")).map_err(failed(&path))?;
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
    lock.lock().map_err(failed(&path))?;
    if package.is_file() { Ok(()) } else { download(file, package) }
}

/// Downloads by npm's own client, from where it is configured to.
fn download(file: &str, package: &Path) -> Result<(), AxeError> {
    debian::on_path("npm").ok_or(AxeError::NoNpm)?;
    let scratch = package.with_file_name(format!(".axe-core-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(failed(&scratch))?;
    let name = file.trim_end_matches(".tgz").replace("axe-core-", "axe-core@");
    let packed = debian::run(
        Command::new("npm").args(["pack", "--silent", "--pack-destination"]).arg(&scratch).arg(name),
    );
    let done = packed
        .map_err(AxeError::Download)
        .and_then(|_| std::fs::rename(scratch.join(file), package).map_err(failed(package)));
    let _ = std::fs::remove_dir_all(&scratch);
    done
}

fn unpacked(package: &[u8]) -> Result<String, std::io::Error> {
    let mut archive = tar::Archive::new(GzDecoder::new(package));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.as_ref() == Path::new(SCRIPT) {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Ok(text);
        }
    }
    Err(std::io::Error::other(format!("it has no {SCRIPT}")))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> AxeError {
    let path = path.to_path_buf();
    move |source| AxeError::File { path, source }
}
