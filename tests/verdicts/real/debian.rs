//! Debian's docker-registry: downloaded by apt, unpacked into `target/`, kept there. Nothing is installed.

use std::{path::PathBuf, process::Command};

use registry_testbed::debian;

/// The program, or why there is none.
pub fn docker_registry() -> Result<PathBuf, String> {
    let root = debian::unpacked("docker-registry", &["docker-registry"])?;
    let program = root.join("usr/bin/docker-registry");
    let version = debian::run(Command::new(&program).arg("--version"))?;
    if version.contains(" 2.8") {
        Ok(program)
    } else {
        Err(format!("apt has another version: {}", version.trim()))
    }
}
