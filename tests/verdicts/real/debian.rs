//! Debian's docker-registry: downloaded by apt, unpacked into `target/`, kept there. Nothing is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use registry_testbed::tools::repository;

/// The program, or why there is none.
pub fn docker_registry() -> Result<PathBuf, String> {
    let home = repository().join("target/tools/debian");
    let program = home.join("docker-registry/usr/bin/docker-registry");
    if !program.is_file() {
        fetch(&home)?;
    }
    let version = run(Command::new(&program).arg("--version"))?;
    if version.contains(" 2.8") {
        Ok(program)
    } else {
        Err(format!("apt has another version: {}", version.trim()))
    }
}

fn fetch(home: &Path) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", home.display());
    let scratch = home.join(format!("download-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(said)?;
    let fetched = fetch_into(&scratch).and_then(|()| {
        // Another test run may have been quicker.
        std::fs::rename(scratch.join("unpacked"), home.join("docker-registry"))
            .or_else(|error| if home.join("docker-registry").is_dir() { Ok(()) } else { Err(said(error)) })
    });
    let _ = std::fs::remove_dir_all(&scratch);
    fetched
}

fn fetch_into(scratch: &Path) -> Result<(), String> {
    let patience =
        ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "APT::Sandbox::User=root"];
    run(Command::new("apt-get").args(patience).args(["download", "docker-registry"]).current_dir(scratch))?;
    let package = std::fs::read_dir(scratch)
        .map_err(|error| error.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt-get download left no package")?;
    run(Command::new("dpkg").arg("-x").arg(package).arg(scratch.join("unpacked"))).map(drop)
}

fn run(command: &mut Command) -> Result<String, String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what} failed: {}", said.lines().last().unwrap_or("without a word")))
}
