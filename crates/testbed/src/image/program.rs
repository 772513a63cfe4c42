//! The programs of the images, static: musl for both architectures, linked by zig, which brings C compiler and libc for each
//! of them; no cross toolchain has to be installed. Paths of this machine stay out of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Architecture;
use crate::python::{self, PythonError};
use crate::tools::repository;

const MEBIBYTE: u64 = 1024 * 1024;

/// A program that has an image of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ImageProgram {
    /// The operator.
    #[value(name = "registry-operator")]
    Operator,
    /// The web console.
    #[value(name = "registry-console")]
    Console,
}

impl ImageProgram {
    /// The name of its package, of its file and of its image.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "registry-operator",
            Self::Console => "registry-console",
        }
    }

    /// The size of the released program, at most, in bytes.
    pub fn largest(self) -> u64 {
        match self {
            Self::Operator => 15 * MEBIBYTE,
            Self::Console => 12 * MEBIBYTE,
        }
    }

    /// What it does, in one sentence.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Operator => {
                "Validates OCI registries and their credentials, and reports in the status whether they can be used."
            }
            Self::Console => {
                "The web console of registry-operator: adds, validates, lists, edits and deletes OCI registries."
            }
        }
    }

    /// The ports that it listens on.
    pub(super) fn ports(self) -> &'static [u16] {
        match self {
            Self::Operator => &[8080],
            Self::Console => &[8080, 8443],
        }
    }

    /// Where the program for this architecture and profile is, or would be.
    pub fn path(self, architecture: Architecture, profile: Profile) -> PathBuf {
        let target = repository().join("target").join(triple(architecture));
        target.join(profile.names().1).join(self.name())
    }
}

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// zig is not installed, and can't be.
    #[error("zig links the static program. {0}")]
    Zig(#[from] PythonError),
    /// The target's standard library could not be added, or the build failed.
    #[error("`{command}` failed: {reason}")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        reason: String,
    },
    /// It contains paths of the build machine.
    #[error("{program} names {path}, where it was built: a build elsewhere would give another program, and so another digest", program = program.display())]
    NamesThisMachine {
        /// The program.
        program: PathBuf,
        /// The directory of this machine.
        path: String,
    },
    /// It cannot be read.
    #[error("cannot read {program}: {source}", program = program.display())]
    Unreadable {
        /// The program.
        program: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

/// How a program is optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Quick to build, for tests on this machine.
    Dev,
    /// As it is released.
    Release,
}

impl Profile {
    /// What one call of cargo builds for this program. A development build makes all of them: together, they need each dependency with
    /// one set of features, so that it is built once. A released program has no features that only another one needs.
    fn together(self, program: ImageProgram) -> Vec<ImageProgram> {
        match self {
            Self::Dev => ImageProgram::value_variants().to_vec(),
            Self::Release => vec![program],
        }
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Dev => ("dev", "debug"),
            Self::Release => ("release", "release"),
        }
    }

    /// What makes a released program smaller: a panic ends it, so that nothing unwinds its stack.
    fn smaller(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["-Cforce-unwind-tables=no"],
        }
    }
}

/// Builds a program, and says where it is. cargo's progress goes to standard error.
pub fn build(
    program: ImageProgram,
    architecture: Architecture,
    profile: Profile,
) -> Result<PathBuf, ProgramError> {
    let zig = python::environment("zig")?;
    let triple = triple(architecture);
    // Without rustup, the standard library of the target is the distribution's matter.
    let added = Command::new("rustup").args(["target", "add", triple]).current_dir(repository()).output();
    if let Ok(output) = added
        && !output.status.success()
    {
        return Err(failed("rustup target add", &String::from_utf8_lossy(&output.stderr)));
    }
    allow_many_open_files();
    run("cargo zigbuild", &mut cargo(&zig, program, architecture, profile))?;
    let file = program.path(architecture, profile);
    names_none(&file, &remapped())?;
    Ok(file)
}

/// The first time, zig compiles musl while it has every library of the program open: more than the 1024 files that many shells
/// allow at first. Where no more can be had, its own error (`ProcessFdQuotaExceeded`) says so.
fn allow_many_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Checks that the program contains none of these directories, which were remapped.
fn names_none(program: &Path, remapped: &[(String, &str)]) -> Result<(), ProgramError> {
    let content = std::fs::read(program)
        .map_err(|source| ProgramError::Unreadable { program: program.to_path_buf(), source })?;
    let holds = |path: &str| {
        let path = format!("{path}/");
        content.windows(path.len()).any(|window| window == path.as_bytes())
    };
    match remapped.iter().find(|(here, called)| here != called && holds(here)) {
        Some((here, _)) => {
            Err(ProgramError::NamesThisMachine { program: program.to_path_buf(), path: here.clone() })
        }
        None => Ok(()),
    }
}

fn run(name: &str, command: &mut Command) -> Result<(), ProgramError> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(name, &status.to_string())),
        Err(error) => Err(failed(name, &error.to_string())),
    }
}

fn failed(command: &str, reason: &str) -> ProgramError {
    ProgramError::Failed { command: command.to_owned(), reason: reason.trim().to_owned() }
}

/// The settings of the operator's allocator, which are in its program: one arena for two threads, and free pages go back to the system at once. What a thread keeps for itself is
/// for small objects only.
pub const JEMALLOC: &str =
    "narenas:1,tcache_max:1024,lg_tcache_nslots_mul:-1,dirty_decay_ms:0,muzzy_decay_ms:0";

/// The binary logarithm of the largest page size of this architecture's kernels, in bytes. jemalloc doesn't start where pages are larger.
fn log_of_page_size(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "12",
        Architecture::Arm64 => "16",
    }
}

fn cargo(zig: &Path, program: ImageProgram, architecture: Architecture, profile: Profile) -> Command {
    let selected = profile.together(program);
    let selected = selected.iter().flat_map(|one| ["--package", one.name(), "--bin", one.name()]);
    let triple = triple(architecture);
    let remap: Vec<(String, &str)> = remapped();
    let remap_rust = remap.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}"));
    let rust: Vec<String> = remap_rust.chain(profile.smaller().iter().map(|&flag| flag.to_owned())).collect();
    let c: Vec<String> = remap.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect();
    let mut command = Command::new("cargo");
    command
        .args(["zigbuild", "--locked", "--target", triple, "--profile", profile.names().0])
        .args(selected)
        .current_dir(repository())
        .env("PATH", path_with(&zig.join("bin")))
        .env(format!("CARGO_TARGET_{}_RUSTFLAGS", triple.to_uppercase().replace('-', "_")), rust.join(" "))
        .env(format!("CFLAGS_{}", triple.replace('-', "_")), c.join(" "))
        .env("JEMALLOC_SYS_WITH_MALLOC_CONF", JEMALLOC)
        .env("JEMALLOC_SYS_WITH_LG_PAGE", log_of_page_size(architecture))
        // No debug information in an image: it would be four fifths of it, and take part of the build time.
        .env("CARGO_PROFILE_DEV_DEBUG", "none")
        .env("CARGO_PROFILE_DEV_STRIP", "symbols")
        // What the caller's own cargo was told is about another program.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// The directories of sources and dependencies, with the names that replace them in the program.
#[expect(clippy::disallowed_methods, reason = "where cargo keeps its sources is this machine's matter")]
fn remapped() -> Vec<(String, &'static str)> {
    let home =
        std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let mut remapped = vec![(repository().display().to_string(), "/src")];
    remapped.extend(home.ok().map(|home| (home, "/cargo")));
    remapped
}

#[expect(clippy::disallowed_methods, reason = "where programs are looked for is this machine's matter")]
fn path_with(first: &Path) -> OsString {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(first.to_path_buf()).chain(std::env::split_paths(&rest));
    std::env::join_paths(dirs).unwrap_or(rest.clone())
}

fn triple(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "x86_64-unknown-linux-musl",
        Architecture::Arm64 => "aarch64-unknown-linux-musl",
    }
}

#[cfg(test)]
mod tests {
    use super::{ProgramError, names_none};

    #[test]
    fn rejects_program_with_build_paths() -> Result<(), std::io::Error> {
        let dir = tempfile::tempdir()?;
        let program = dir.path().join("program");
        std::fs::write(&program, b"\x7fELF\0/home/me/operator/src/main.rs\0")?;
        let remapped = |here: &str| [(here.to_owned(), "/src")];
        let refused = names_none(&program, &remapped("/home/me/operator"));
        assert!(
            matches!(refused, Err(ProgramError::NamesThisMachine { path, .. }) if path == "/home/me/operator")
        );
        assert!(names_none(&program, &remapped("/home/me/op")).is_ok(), "another directory");
        std::fs::write(&program, b"\x7fELF\0/src/src/main.rs\0")?;
        assert!(names_none(&program, &remapped("/src")).is_ok(), "built where it says anyway");
        Ok(())
    }
}
