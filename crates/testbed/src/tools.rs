//! The programs of the control plane, built from their Go modules and kept.
//!
//! `tests/tools/<tool or project>/go.mod` pins each; the binaries lie in `target/tools/bin`, each with a key made of the pins, the
//! build flags and the Go version, and are built again only when the key changes. If you already have the binaries, set
//! `KUBEBUILDER_ASSETS` to their directory.

mod recipe;
mod tool;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

pub use self::recipe::Recipe;
pub(crate) use self::recipe::sha256_hex;
pub use self::tool::Tool;

const HEARTBEAT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// Why a tool is not there.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// A file of the cache or of the pins cannot be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// There is no Go.
    #[error(
        "{tool} has to be built from its Go module, and `go version` failed in {dir}: {reason}. Install Go 1.26 or newer and \
         put it on PATH{alternative}",
        dir = dir.display()
    )]
    NoGo {
        /// The tool that was to be built.
        tool: &'static str,
        /// The directory with its go.mod.
        dir: PathBuf,
        /// What went wrong.
        reason: String,
        /// What else would do.
        alternative: &'static str,
    },
    /// The go.mod does not pin the tool.
    #[error("{path} requires no version of {package}", path = path.display())]
    NotPinned {
        /// The go.mod.
        path: PathBuf,
        /// The package to be built.
        package: &'static str,
    },
    /// The build failed.
    #[error(transparent)]
    Build(Box<BuildFailure>),
    /// The task that builds was cancelled.
    #[error("the build was interrupted")]
    Interrupted,
}

/// A build that failed: what was tried, and where to look.
#[derive(Debug, thiserror::Error)]
#[error(
    "building {tool} {version} failed ({status}) after {seconds} s. Tried `{command}` in {dir}; its modules come from where \
     `go env GOPROXY` says, so check that it can be reached. The last lines of {log}:\n{tail}",
    dir = dir.display(), log = log.display()
)]
pub struct BuildFailure {
    /// The tool.
    pub tool: &'static str,
    /// Its version.
    pub version: String,
    /// How the build ended.
    pub status: String,
    /// After how long.
    pub seconds: u64,
    /// What was run.
    pub command: String,
    /// Where it was run.
    pub dir: PathBuf,
    /// The build's whole output.
    pub log: PathBuf,
    /// The end of it.
    pub tail: String,
}

/// Where each tool that was asked for is.
#[derive(Debug, Clone, Default)]
pub struct ToolPaths {
    paths: Vec<(Tool, PathBuf)>,
}

impl ToolPaths {
    /// The program's path. A tool that was not asked for is looked for on `PATH` when it is run.
    pub fn get(&self, tool: Tool) -> &Path {
        self.paths.iter().find(|(known, _)| *known == tool).map_or(Path::new(tool.name()), |(_, path)| path)
    }
}

/// Makes sure that these tools are there, building what is missing or out of date. Progress goes to standard error.
pub async fn ensure(tools: &[Tool]) -> Result<ToolPaths, ToolsError> {
    let tools = tools.to_vec();
    tokio::task::spawn_blocking(move || ToolBuilder::of_this_repository().ensure(&tools))
        .await
        .map_err(|_| ToolsError::Interrupted)?
}

/// The root of the repository that this crate was built in.
pub fn repository() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    crates.ancestors().nth(2).unwrap_or(crates).to_path_buf()
}

/// A file of the repository that this crate was built in.
pub fn in_repository(path: &str) -> PathBuf {
    repository().join(path)
}

/// The directories of the pins, the cache, and existing binaries.
#[derive(Debug, Clone)]
pub struct ToolBuilder {
    pins: PathBuf,
    cache: PathBuf,
    assets: Option<PathBuf>,
}

impl ToolBuilder {
    /// The repository's own: `tests/tools`, `target/tools` and `KUBEBUILDER_ASSETS`.
    #[expect(
        clippy::disallowed_methods,
        reason = "an established variable, read where the tools are looked for"
    )]
    pub fn of_this_repository() -> Self {
        let root = repository();
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        Self::new(root.join("tests/tools"), root.join("target/tools"), assets)
    }

    /// Pins, cache and assets in these directories.
    pub fn new(pins: impl Into<PathBuf>, cache: impl Into<PathBuf>, assets: Option<PathBuf>) -> Self {
        Self { pins: pins.into(), cache: cache.into(), assets }
    }

    /// What [`ensure`] does, on this thread.
    pub fn ensure(&self, tools: &[Tool]) -> Result<ToolPaths, ToolsError> {
        let paths = tools.iter().map(|tool| Ok((*tool, self.locate_or_build(*tool)?)));
        Ok(ToolPaths { paths: paths.collect::<Result<_, ToolsError>>()? })
    }

    /// The tools that would have to be built now.
    pub fn missing(&self, tools: &[Tool]) -> Result<Vec<Tool>, ToolsError> {
        let mut missing = Vec::new();
        for tool in tools {
            if self.asset(*tool).is_none() && !self.is_current(*tool, &self.recipe(*tool)?) {
                missing.push(*tool);
            }
        }
        Ok(missing)
    }

    fn locate_or_build(&self, tool: Tool) -> Result<PathBuf, ToolsError> {
        if let Some(path) = self.asset(tool) {
            return Ok(path);
        }
        let bin = self.cache.join("bin");
        std::fs::create_dir_all(&bin).map_err(|source| ToolsError::File { path: bin.clone(), source })?;
        let recipe = self.recipe(tool)?;
        if !self.is_current(tool, &recipe) {
            // Held until the tool is built: other callers wait and then find it.
            let _lock = self.lock(tool)?;
            if !self.is_current(tool, &recipe) {
                self.build(tool, &recipe)?;
            }
        }
        Ok(bin.join(tool.name()))
    }

    fn asset(&self, tool: Tool) -> Option<PathBuf> {
        let path = self.assets.as_ref()?.join(tool.name());
        (tool.is_kubebuilder_asset() && path.is_file()).then_some(path)
    }

    fn lock(&self, tool: Tool) -> Result<File, ToolsError> {
        let path = self.cache.join(format!("{}.lock", tool.name()));
        let open = || {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            if file.try_lock().is_err() {
                print_line(&format!("waiting for another process that builds {}", tool.name()));
                file.lock()?;
            }
            Ok(file)
        };
        open().map_err(|source| ToolsError::File { path: path.clone(), source })
    }

    fn key_file(&self, tool: Tool) -> PathBuf {
        self.cache.join(format!("{}.key", tool.name()))
    }

    /// Without Go, a binary of these pins is good enough: there is nothing to build a better one with.
    fn is_current(&self, tool: Tool, recipe: &Recipe) -> bool {
        let recorded = std::fs::read_to_string(self.key_file(tool)).unwrap_or_default();
        let current = match &recipe.go {
            Ok(_) => recorded == recipe.key(),
            Err(_) => recorded.lines().next() == Some(recipe.pins.as_str()),
        };
        current && self.cache.join("bin").join(tool.name()).is_file()
    }

    /// How a tool would be built now.
    pub fn recipe(&self, tool: Tool) -> Result<Recipe, ToolsError> {
        Recipe::read(tool, &self.pins.join(tool.module()))
    }

    fn build(&self, tool: Tool, recipe: &Recipe) -> Result<(), ToolsError> {
        let name = tool.name();
        if let Err(reason) = &recipe.go {
            let (dir, reason) = (recipe.dir.clone(), reason.clone());
            return Err(ToolsError::NoGo { tool: name, dir, reason, alternative: tool.alternative() });
        }
        print_line(&format!(
            "building {name} {version} from its Go module ({time} on 4 cores, once; then cached in {cache})",
            version = recipe.version,
            time = tool.expected_build_time(),
            cache = self.cache.strip_prefix(repository()).unwrap_or(&self.cache).display(),
        ));
        let start = Instant::now();
        let fresh = self.cache.join("bin").join(format!(".{name}.new"));
        self.run_build(tool, recipe, &fresh)?;
        let path = self.cache.join("bin").join(name);
        std::fs::rename(&fresh, &path).map_err(|source| ToolsError::File { path, source })?;
        let path = self.key_file(tool);
        std::fs::write(&path, recipe.key()).map_err(|source| ToolsError::File { path, source })?;
        print_line(&format!("built {name} {} in {} s", recipe.version, start.elapsed().as_secs()));
        Ok(())
    }

    fn run_build(&self, tool: Tool, recipe: &Recipe, output: &Path) -> Result<(), ToolsError> {
        let log = self.cache.join(format!("{}.log", tool.name()));
        let start = Instant::now();
        let built = File::create(&log).and_then(|file| {
            let child = crate::process::on_lifeline(Path::new("go"))
                .args(&recipe.args)
                .arg("-o")
                .arg(output)
                .arg(tool.target())
                .current_dir(&recipe.dir)
                .env("CGO_ENABLED", if tool.needs_c() { "1" } else { "0" })
                // What the user's own go.work or flags say is no part of the key.
                .env("GOWORK", "off")
                .env("GOFLAGS", "-mod=readonly")
                // The compiler collects its garbage less often: a fifth of the time for some hundred MB more.
                .env("GOGC", "400")
                .stdout(file.try_clone()?)
                .stderr(file)
                .spawn()?;
            wait_with_heartbeat(child, tool.name())
        });
        let status = match built {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Err(ToolsError::Build(Box::new(BuildFailure {
            tool: tool.name(),
            version: recipe.version.clone(),
            status,
            seconds: start.elapsed().as_secs(),
            command: format!("CGO_ENABLED=0 go {} {}", recipe.args.join(" "), tool.target()),
            dir: recipe.dir.clone(),
            tail: tail(&log),
            log,
        })))
    }
}

fn wait_with_heartbeat(mut child: Child, name: &str) -> Result<std::process::ExitStatus, std::io::Error> {
    let start = Instant::now();
    let mut told = Duration::ZERO;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(POLL);
        if start.elapsed() >= told + HEARTBEAT {
            told = start.elapsed();
            print_line(&format!("building {name}: {} s so far", told.as_secs()));
        }
    }
}

/// Straight to the stream: progress must be seen while a test harness captures what the print macros write.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
