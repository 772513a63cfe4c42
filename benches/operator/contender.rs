//! A program that is measured: the operator or a baseline. Each is its own process, which ends with this one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use registry_testbed::process::{Process, ProcessSpec};
use registry_testbed::{Operator, OperatorOptions};
use tokio::sync::Mutex;

use crate::names::Answers;

/// How often to check whether a process, or its work, has ended.
const POLL: Duration = Duration::from_millis(2);

/// Which program.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The operator.
    Operator,
    /// The operator with a name server of the bench.
    Resolving(Answers),
    /// The second baseline.
    LeastOperator,
    /// The first baseline, with this number of exchanges.
    Exchanges(usize),
}

/// A running program.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Contender {
    /// The operator.
    Operator(Operator),
    /// A baseline.
    Floor {
        /// The process.
        process: Mutex<Process>,
        /// The path of its output.
        log: PathBuf,
    },
}

impl Contender {
    /// Starts the operator without waiting for it.
    pub async fn operator(options: OperatorOptions) -> anyhow::Result<Self> {
        Ok(Self::Operator(Operator::launch(options).await?))
    }

    /// Starts a baseline without waiting for it.
    pub fn floor(plan: &Path, directory: &Path) -> anyhow::Result<Self> {
        let log = directory.join("floor.log");
        std::fs::write(&log, "")?;
        let spec = ProcessSpec::new("floor", std::env::current_exe()?, &log).arg("--floor").arg(plan);
        Ok(Self::Floor { process: Mutex::new(Process::spawn(&spec)?), log })
    }

    /// Returns the number of the operator's connections to this port. A baseline isn't counted.
    pub async fn connections_to(&self, port: u16) -> anyhow::Result<usize> {
        match self {
            Self::Operator(operator) => Ok(operator.connections_to(port).await?),
            Self::Floor { .. } => Ok(0),
        }
    }

    /// Returns its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Operator(_) => "operator",
            Self::Floor { .. } => "floor",
        }
    }

    /// Returns the id of its process.
    pub async fn id(&self) -> u32 {
        match self {
            Self::Operator(operator) => operator.id().await.unwrap_or_default(),
            Self::Floor { process, .. } => process.lock().await.id(),
        }
    }

    /// Waits until the operator is ready. Returns immediately for a baseline.
    pub async fn ready(&self) -> anyhow::Result<()> {
        match self {
            Self::Operator(operator) => Ok(operator.wait_ready().await?),
            Self::Floor { .. } => Ok(()),
        }
    }

    /// Waits for something that can only happen while this program runs.
    pub async fn while_running<T>(&self, wait: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            result = wait => result.with_context(|| format!("the {}'s last words: {}", self.name(), self.last_words())),
            ended = self.ended() => Err(ended),
        }
    }

    /// Waits until a baseline reports that its work is done.
    pub async fn done(&self) -> anyhow::Result<()> {
        let done = async {
            while !self.log().contains("done") {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        self.while_running(done).await
    }

    /// Stops it.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Operator(operator) => drop(operator.stop().await?),
            Self::Floor { process, .. } => process.into_inner().kill(),
        }
        Ok(())
    }

    async fn ended(&self) -> anyhow::Error {
        loop {
            match self.exit_status().await {
                Ok(None) => tokio::time::sleep(POLL * 25).await,
                Ok(Some(status)) => {
                    return anyhow::anyhow!("the {} ended ({status}): {}", self.name(), self.last_words());
                }
                Err(error) => return error,
            }
        }
    }

    async fn exit_status(&self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Operator(operator) => Ok(operator.exited().await?),
            Self::Floor { process, .. } => {
                Ok(process.lock().await.exit_status()?.map(|status| status.to_string()))
            }
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Operator(operator) => operator.log(),
            Self::Floor { log, .. } => std::fs::read_to_string(log).unwrap_or_default(),
        }
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}
