//! What can be chosen: after `--` on `cargo bench`'s command line, or by environment variables for `make bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Latency, throughput, memory and writes of the operator, next to their floors.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// How many registries, comma-separated.
    #[arg(long, env = "BENCH_SIZES", value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
    pub sizes: Vec<usize>,
    /// Rounds of each size; by default 5 of 100, 3 of 1,000 and 1 of 10,000. Medians are shown.
    #[arg(long, env = "BENCH_ROUNDS")]
    rounds: Option<usize>,
    /// How many registries are created one after another for the latency of one.
    #[arg(long, env = "BENCH_LATENCY", default_value_t = 200)]
    pub latency: usize,
    /// For how long writes are looked for once all is settled, in seconds.
    #[arg(long, env = "BENCH_STEADY", default_value_t = 20)]
    pub steady: u64,
    /// The operator's program.
    #[arg(long, env = "BENCH_OPERATOR", default_value = env!("CARGO_BIN_EXE_registry-operator"))]
    pub operator: PathBuf,
    /// A further argument of the operator (repeatable).
    #[arg(long, env = "BENCH_OPERATOR_ARGS", value_delimiter = ' ', allow_hyphen_values = true)]
    pub operator_arg: Vec<String>,
    /// Further environment of the operator, as NAME=VALUE (repeatable).
    #[arg(long, env = "BENCH_OPERATOR_ENV", value_delimiter = ' ')]
    pub operator_env: Vec<String>,
    /// The longest that the whole bench may take.
    #[arg(long, env = "BENCH_MINUTES", default_value_t = 30)]
    minutes: u64,
    /// Be a floor, by the plan in this file. Started so by the bench itself.
    #[arg(long, hide = true)]
    pub floor: Option<PathBuf>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Arguments {
    /// The longest that the whole bench may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_mins(self.minutes)
    }

    /// How often a size is measured: small ones are short, and so the noisiest.
    pub fn rounds_of(&self, size: usize) -> usize {
        self.rounds.unwrap_or(match size {
            0..=500 => 5,
            501..=3_000 => 3,
            _ => 1,
        })
    }
}
