//! One program under measure: the operator, or a floor. Each is a process of its own, and ends with this one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use registry_testbed::process::{Process, ProcessSpec};
use registry_testbed::{Operator, OperatorOptions};
use tokio::sync::Mutex;

/// How often the end of a process, or of its work, is looked for.
const POLL: Duration = Duration::from_millis(2);

/// Which program.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The operator.
    Operator,
    /// The second floor.
    LeastOperator,
    /// The first floor, with so many exchanges to do.
    Exchanges(usize),
}

/// A running program.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Contender {
    /// The operator.
    Operator(Operator),
    /// A floor.
    Floor {
        /// Its process.
        process: Mutex<Process>,
        /// What it says.
        log: PathBuf,
    },
}

impl Contender {
    /// Starts the operator, and does not wait.
    pub async fn operator(options: OperatorOptions) -> anyhow::Result<Self> {
        Ok(Self::Operator(Operator::launch(options).await?))
    }

    /// Starts a floor, and does not wait.
    pub fn floor(plan: &Path, directory: &Path) -> anyhow::Result<Self> {
        let log = directory.join("floor.log");
        std::fs::write(&log, "")?;
        let spec = ProcessSpec::new("floor", std::env::current_exe()?, &log).arg("--floor").arg(plan);
        Ok(Self::Floor { process: Mutex::new(Process::spawn(&spec)?), log })
    }

    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Operator(_) => "operator",
            Self::Floor { .. } => "floor",
        }
    }

    /// Its process.
    pub async fn id(&self) -> u32 {
        match self {
            Self::Operator(operator) => operator.id().await.unwrap_or_default(),
            Self::Floor { process, .. } => process.lock().await.id(),
        }
    }

    /// Waits until the operator is ready; a floor has nothing to say about that.
    pub async fn ready(&self) -> anyhow::Result<()> {
        match self {
            Self::Operator(operator) => Ok(operator.wait_ready().await?),
            Self::Floor { .. } => Ok(()),
        }
    }

    /// Waits for something that comes about only while this program runs.
    pub async fn while_running<T>(&self, wait: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            result = wait => result.with_context(|| format!("the {}'s last words: {}", self.name(), self.last_words())),
            ended = self.ended() => Err(ended),
        }
    }

    /// Waits until a floor says that it has done its work.
    pub async fn done(&self) -> anyhow::Result<()> {
        let done = async {
            while !self.log().contains("done") {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        self.while_running(done).await
    }

    /// Ends it.
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
