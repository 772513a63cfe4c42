//! Resource usage of processes, from the kernel.

use std::time::{Duration, Instant};

use crate::contender::Contender;

/// The kernel's unit of CPU time, a hundredth of a second on every Linux that Rust supports (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Returns the CPU time of a process so far; zero if it has ended.
pub fn cpu(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name is in parentheses and may contain spaces. User and system time are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u32 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident memory.
    pub resident: u64,
    /// The part of it that belongs to no file: heap and stacks, without the program's code.
    pub anonymous: u64,
    /// The maximum of the resident memory so far.
    pub peak: u64,
}

impl Memory {
    /// Returns the memory of a process; zero if it has ended.
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

/// The time of an interval, and where it went.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// The duration.
    pub elapsed: Duration,
    /// The CPU time of each process.
    pub cpu: Vec<(&'static str, Duration)>,
}

/// An interval that has started.
pub struct Watch {
    start: Instant,
    processes: Vec<(&'static str, u32, Duration)>,
}

impl Watch {
    /// Starts measuring these processes.
    pub fn start(processes: impl IntoIterator<Item = (&'static str, u32)>) -> Self {
        let processes = processes.into_iter().map(|(name, id)| (name, id, cpu(id))).collect();
        Self { start: Instant::now(), processes }
    }

    /// Adds a process that was just started, or was idle.
    pub async fn add(&mut self, contender: &Contender) {
        let id = contender.id().await;
        self.processes.insert(0, (contender.name(), id, cpu(id)));
    }

    /// Returns the usage up to now, for an interval that ended at `end`.
    pub fn spent(&self, end: Instant) -> Spent {
        let used =
            |(name, id, before): &(&'static str, u32, Duration)| (*name, cpu(*id).saturating_sub(*before));
        Spent {
            elapsed: end.saturating_duration_since(self.start),
            cpu: self.processes.iter().map(used).collect(),
        }
    }
}
