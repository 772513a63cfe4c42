//! How a tool is built, read from its pins, and the key that says when to build it again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};

use super::{Tool, ToolsError};

/// How a tool is built.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The pinned version.
    pub version: String,
    pub(super) pins: String,
    pub(super) go: Result<String, String>,
    pub(super) args: Vec<String>,
    pub(super) dir: PathBuf,
}

impl Recipe {
    /// Reads the pins of a tool, and which Go would build it.
    pub(super) fn read(tool: Tool, dir: &Path) -> Result<Self, ToolsError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).map_err(|source| ToolsError::File { path, source })
        };
        let (go_mod, go_sum) = (read("go.mod")?, read("go.sum")?);
        let sources: Vec<String> =
            sources(tool, dir)?.iter().map(|name| read(name)).collect::<Result<_, _>>()?;
        let version = pinned_version(&go_mod, tool.package())
            .ok_or_else(|| ToolsError::NotPinned { path: dir.join("go.mod"), package: tool.package() })?;
        let args = build_args(tool, &version);
        // No text has a NUL, so no two recipes run together into the same bytes.
        let pins =
            sha256_hex([go_mod, go_sum, sources.join("\0\0"), args.join("\0")].join("\0\0").as_bytes());
        Ok(Self { version, pins, go: go_version(dir), args, dir: dir.to_path_buf() })
    }

    /// What the cached binary is recorded under: it changes with the pins, the flags and the Go version.
    pub fn key(&self) -> String {
        format!("{}\n{}\n", self.pins, self.go.as_deref().unwrap_or("no Go"))
    }
}

/// The names of the Go files that a tool is made from, in order.
fn sources(tool: Tool, dir: &Path) -> Result<Vec<String>, ToolsError> {
    let failed = |source| ToolsError::File { path: dir.to_path_buf(), source };
    let mut names = vec![tool.source().to_owned()];
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension().is_some_and(|extension| extension == "go") && name != tool.source() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn build_args(tool: Tool, version: &str) -> Vec<String> {
    let mut numbers = version.trim_start_matches('v').split('.');
    let flags = tool
        .version_flags()
        .replace("{version}", version)
        .replace("{major}", numbers.next().unwrap_or_default())
        .replace("{minor}", numbers.next().unwrap_or_default());
    let ldflags = format!("-ldflags=-s -w {flags}").trim_end().to_owned();
    // What a debugger would need is not made at all: an eighth of the compiler's time.
    let gcflags = String::from("-gcflags=all=-dwarf=false");
    let tags = format!("-tags={}", tool.build_tags());
    let (trimpath, no_vcs) = (String::from("-trimpath"), String::from("-buildvcs=false"));
    vec![String::from("build"), trimpath, no_vcs, gcflags, tags, ldflags]
}

/// The version of the module that holds `package`, from the `require` lines of a go.mod.
fn pinned_version(go_mod: &str, package: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        let (module, version) = (words.next()?, words.next()?);
        let holds =
            package == module || package.strip_prefix(module).is_some_and(|rest| rest.starts_with('/'));
        (holds && version.starts_with('v')).then(|| version.to_owned())
    })
}

/// The version of the Go that builds in `dir`: a go.mod may ask for another toolchain.
fn go_version(dir: &Path) -> Result<String, String> {
    let output = Command::new("go").arg("version").env("GOWORK", "off").current_dir(dir).output();
    match output {
        Ok(Output { status, stdout, .. }) if status.success() => {
            Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
        }
        Ok(Output { stderr, .. }) => Err(String::from_utf8_lossy(&stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The SHA-256 digest in lower-case hexadecimal.
pub(crate) fn sha256_hex(content: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(content).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
