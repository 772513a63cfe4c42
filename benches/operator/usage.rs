//! What processes use, as the kernel counts it.

use std::time::{Duration, Instant};

use crate::contender::Contender;

/// Hundredths of a second on every Linux that Rust runs on (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// The CPU time of one process so far; zero of one that is gone.
pub fn cpu(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name stands in parentheses and may have spaces; user and system time are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u32 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident.
    pub resident: u64,
    /// Of that, what is no file's: heap and stacks, without the program's own text.
    pub anonymous: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

impl Memory {
    /// Of that process; zero if it is gone.
    pub fn of(id: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let kibibytes = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
            kibibytes.unwrap_or_default() * 1024
        };
        Self { resident: figure("VmRSS:"), anonymous: figure("RssAnon:"), peak: figure("VmHWM:") }
    }
}

/// Where the time of an interval went.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// How long it was.
    pub elapsed: Duration,
    /// Who used how much CPU time in it.
    pub cpu: Vec<(&'static str, Duration)>,
}

/// An interval that has begun.
pub struct Watch {
    start: Instant,
    processes: Vec<(&'static str, u32, Duration)>,
}

impl Watch {
    /// Starts to look at these processes.
    pub fn start(processes: impl IntoIterator<Item = (&'static str, u32)>) -> Self {
        let processes = processes.into_iter().map(|(name, id)| (name, id, cpu(id))).collect();
        Self { start: Instant::now(), processes }
    }

    /// Looks at one more: one that has just been started, or has been idle.
    pub async fn add(&mut self, contender: &Contender) {
        let id = contender.id().await;
        self.processes.insert(0, (contender.name(), id, cpu(id)));
    }

    /// What was used until now, of an interval that ended then.
    pub fn spent(&self, end: Instant) -> Spent {
        let used =
            |(name, id, before): &(&'static str, u32, Duration)| (*name, cpu(*id).saturating_sub(*before));
        Spent {
            elapsed: end.saturating_duration_since(self.start),
            cpu: self.processes.iter().map(used).collect(),
        }
    }
}
