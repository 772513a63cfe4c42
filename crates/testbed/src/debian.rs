//! Programs from Debian packages: downloaded by apt and unpacked into `target/tools/debian`. Nothing is
//! installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::repository;

/// The directory `name` with these unpacked packages, or the error. Downloads them the first time.
pub fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let home = repository().join("target/tools/debian");
    let root = home.join(name);
    if !root.is_dir() {
        fetch(&home, &root, packages)?;
    }
    Ok(root)
}

fn fetch(home: &Path, root: &Path, packages: &[&str]) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", home.display());
    let scratch = home.join(format!("download-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(said)?;
    let fetched = fetch_into(&scratch, packages).and_then(|()| {
        // Another test run may have been quicker.
        std::fs::rename(scratch.join("unpacked"), root)
            .or_else(|error| if root.is_dir() { Ok(()) } else { Err(said(error)) })
    });
    let _ = std::fs::remove_dir_all(&scratch);
    fetched
}

fn fetch_into(scratch: &Path, packages: &[&str]) -> Result<(), String> {
    let patience =
        ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "APT::Sandbox::User=root"];
    run(Command::new("apt-get").args(patience).arg("download").args(packages).current_dir(scratch))?;
    let files = std::fs::read_dir(scratch).map_err(|error| error.to_string())?;
    let mut archives = files
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .peekable();
    archives.peek().ok_or("apt-get download left no package")?;
    for archive in archives {
        run(Command::new("dpkg").arg("-x").arg(archive).arg(scratch.join("unpacked")))?;
    }
    Ok(())
}

/// Installs packages, as root. Reads the package lists first if apt doesn't know the packages.
pub(crate) fn install(packages: &[&str]) -> Result<(), String> {
    let install = || {
        let options = ["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=1"];
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--yes", "--no-install-recommends"]).args(options).args(packages);
        run(apt.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    install().or_else(|_| run(Command::new("apt-get").arg("update")).and_then(|_| install())).map(drop)
}

/// The path of a program that is installed here.
#[expect(clippy::disallowed_methods, reason = "where programs are looked for is this machine's matter")]
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// What a command prints, or how it failed.
pub fn run(command: &mut Command) -> Result<String, String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what} failed: {}", said.lines().last().unwrap_or("without a word")))
}
