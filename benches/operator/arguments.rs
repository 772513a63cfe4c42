//! The arguments of the bench: after `--` on the command line of `cargo bench`, or as environment variables for `make
//! bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Measures latency, throughput, memory and writes of the operator, and compares them with two baselines.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Numbers of registries, comma-separated. Like any other number of objects, 0 skips the measurement.
    #[arg(long, env = "BENCH_SIZES", value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    pub sizes: Vec<usize>,
    /// Rounds per size; by default 5 for 100, 3 for 1,000 and 1 for 10,000. The result is the median.
    #[arg(long, env = "BENCH_ROUNDS")]
    rounds: Option<usize>,
    /// How many registries are created one after another to measure the latency.
    #[arg(long, env = "BENCH_LATENCY", default_value_t = 200)]
    pub latency: usize,
    /// How many registries to validate by host name.
    #[arg(long, env = "BENCH_NAMED", default_value_t = 1_000)]
    pub named: usize,
    /// How many failing registries are created at once to measure the latency of another one.
    #[arg(long, env = "BENCH_STORM", default_value_t = 1_000)]
    pub storm: usize,
    /// How many idle namespaces of tenants to count connections with.
    #[arg(long, env = "BENCH_TENANTS", default_value_t = 1_000)]
    pub tenants: usize,
    /// How long to count writes in the steady state, in seconds.
    #[arg(long, env = "BENCH_STEADY", default_value_t = 20)]
    pub steady: u64,
    /// The operator's program.
    #[arg(long, env = "BENCH_OPERATOR", default_value = env!("CARGO_BIN_EXE_registry-operator"))]
    pub operator: PathBuf,
    /// An additional argument for the operator (repeatable).
    #[arg(long, env = "BENCH_OPERATOR_ARGS", value_delimiter = ' ', allow_hyphen_values = true)]
    pub operator_arg: Vec<String>,
    /// An additional environment variable for the operator, as NAME=VALUE (repeatable).
    #[arg(long, env = "BENCH_OPERATOR_ENV", value_delimiter = ' ')]
    pub operator_env: Vec<String>,
    /// The maximum duration of the whole bench, in minutes.
    #[arg(long, env = "BENCH_MINUTES", default_value_t = 45)]
    minutes: u64,
    /// Run a baseline, with the plan in this file. The bench starts itself with it.
    #[arg(long, hide = true)]
    pub floor: Option<PathBuf>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Arguments {
    /// The maximum duration of the whole bench.
    pub fn deadline(&self) -> Duration {
        Duration::from_mins(self.minutes)
    }

    /// Returns the number of rounds for a size. Small sizes are short, so they vary most.
    pub fn rounds_of(&self, size: usize) -> usize {
        self.rounds.unwrap_or(match size {
            0..=500 => 5,
            501..=3_000 => 3,
            _ => 1,
        })
    }
}
