//! Child processes that cannot outlive the program that started them, however it ends.
//!
//! A child is started through a few lines of `/bin/sh` that leave a lifeline behind: a subshell in the child's own
//! process group that reads a pipe whose other end only this program holds. When this program ends (returns,
//! panics, is `SIGKILL`ed), the kernel closes the pipe, the subshell reads end-of-file and kills the group. The shell
//! itself is replaced by the child, so the child's PID, exit status and signals are the real ones. The parent-death
//! signal of Linux would not do: it fires when the starting *thread* ends, and tests run on threads that do.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

/// The subshell survives what the program is sent (it is in a process group of its own, so no terminal reaches it),
/// and while it lives no other process group can be given the number that it kills.
const LIFELINE: &str = r#"
exec 3<&0
(
    trap '' INT TERM HUP
    while read -r _ <&3; do :; done
    kill -s KILL -- "-$$"
) </dev/null &
exec "$@" </dev/null 3<&-
"#;

/// How often an exit is looked for.
const POLL: Duration = Duration::from_millis(10);

/// What went wrong with a child process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The child could not be started.
    #[error("cannot start {name}: {source}")]
    Spawn {
        /// The child's name.
        name: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The child's log cannot be opened.
    #[error("cannot open the log {path} of {name}: {source}", path = path.display())]
    Log {
        /// The child's name.
        name: String,
        /// The log file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The child could not be signalled.
    #[error("cannot send {signal} to {name}: {source}")]
    Signal {
        /// The child's name.
        name: String,
        /// The signal.
        signal: &'static str,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The child's state could not be read.
    #[error("cannot wait for {name}: {source}")]
    Wait {
        /// The child's name.
        name: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The child has ended already.
    #[error("{name} is not running")]
    NotRunning {
        /// The child's name.
        name: String,
    },
    /// The child was asked to end and did not in time; it has been killed.
    #[error("{name} did not end within {grace:?} of SIGTERM, and was killed")]
    Stubborn {
        /// The child's name.
        name: String,
        /// The time it had.
        grace: Duration,
    },
}

/// What to start. The environment is what is listed here and a plain `PATH`; nothing is inherited.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// The name used in errors.
    pub name: String,
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment.
    pub env: Vec<(OsString, OsString)>,
    /// The file that its standard output and standard error are appended to.
    pub log: PathBuf,
}

impl ProcessSpec {
    /// A program without arguments, logging to `log`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            log: log.into(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    fn open_log(&self) -> Result<(File, File), ProcessError> {
        let open = || {
            let file = OpenOptions::new().create(true).append(true).open(&self.log)?;
            Ok((file.try_clone()?, file))
        };
        open().map_err(|source| ProcessError::Log { name: self.name.clone(), path: self.log.clone(), source })
    }
}

/// A running child. Dropping it kills it and everything that it started in its process group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    exited: Option<ExitStatus>,
    /// Held, never written to: when it closes, the child's group dies.
    _lifeline: Option<ChildStdin>,
}

impl Process {
    /// Starts a child on its lifeline.
    pub fn spawn(spec: &ProcessSpec) -> Result<Self, ProcessError> {
        let (out, err) = spec.open_log()?;
        let mut child = on_lifeline(&spec.program)
            .args(&spec.args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|source| ProcessError::Spawn { name: spec.name.clone(), source })?;
        let lifeline = child.stdin.take();
        Ok(Self { name: spec.name.clone(), child, exited: None, _lifeline: lifeline })
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the child ended, if it has.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        if self.exited.is_none() {
            self.exited = self
                .child
                .try_wait()
                .map_err(|source| ProcessError::Wait { name: self.name.clone(), source })?;
        }
        Ok(self.exited)
    }

    /// Freezes the child: its sockets stay open and nothing answers on them.
    pub fn pause(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::STOP, "SIGSTOP")?;
        // Each of its threads stops by itself, and may answer until then. What is waited for stays there for `exit_status`.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), stopped)
            .map(drop)
            .map_err(|source| ProcessError::Wait { name: self.name.clone(), source: source.into() })
    }

    /// Resumes a frozen child.
    pub fn resume(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::CONT, "SIGCONT")
    }

    /// Stops the child (SIGTERM), and returns how long it took. After `grace` it is killed, which is an error.
    pub async fn stop(&mut self, grace: Duration) -> Result<Duration, ProcessError> {
        let asked = Instant::now();
        self.signal(Signal::TERM, "SIGTERM")?;
        while self.exit_status()?.is_none() {
            if asked.elapsed() >= grace {
                self.kill();
                return Err(ProcessError::Stubborn { name: self.name.clone(), grace });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(asked.elapsed())
    }

    /// Kills the child at once and reaps it.
    pub fn kill(&mut self) {
        if !matches!(self.exit_status(), Ok(None)) {
            return;
        }
        // Neither can fail for a child that has not been reaped, and the error could not be reported.
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        self.exited = self.child.wait().ok();
    }

    fn signal(&mut self, signal: Signal, name: &'static str) -> Result<(), ProcessError> {
        if self.exit_status()?.is_some() {
            return Err(ProcessError::NotRunning { name: self.name.clone() });
        }
        rustix::process::kill_process(Pid::from_child(&self.child), signal).map_err(|source| {
            ProcessError::Signal { name: self.name.clone(), signal: name, source: source.into() }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that runs `program`, with the arguments that are added to it, and dies when its child's `stdin` is dropped.
pub(crate) fn on_lifeline(program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(LIFELINE).arg(program).arg(program).stdin(Stdio::piped()).process_group(0);
    command
}

/// A directory that is removed when it is dropped, and also when this program is killed.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
    janitor: Child,
}

/// The pause lets the children die first: they write to what is removed. Where that takes them longer, it is removed again.
const JANITOR: &str = r#"
while read -r _; do :; done
sleep 1
tries=0
until rm -rf -- "$1" 2>/dev/null || [ "$tries" -ge 300 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
"#;

impl Scratch {
    /// Makes an empty directory whose name starts with `prefix`.
    pub fn new(prefix: &str) -> Result<Self, std::io::Error> {
        let dir = tempfile::Builder::new().prefix(&format!("{prefix}-")).tempdir()?;
        let janitor = Command::new("/bin/sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { dir, janitor })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file that only this user can read, and says where.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf, std::io::Error> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path().join(name);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(content.as_ref())?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The directory goes with `dir`; the janitor has nothing left to do.
        let _ = self.janitor.kill();
        let _ = self.janitor.wait();
    }
}
