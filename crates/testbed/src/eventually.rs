//! Waits for a condition that becomes true eventually.

use std::fmt::Display;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);
/// The longest time of a check and the pause after it on an idle machine. There, the timeout is exact.
const LONGEST_ROUND: Duration = Duration::from_millis(40);
/// The shortest timeout of one check: a busy machine isn't a hanging one.
const LONGEST_CHECK: Duration = Duration::from_secs(10);
/// The factor by which the timeout grows on a slow machine.
const SLOW_MACHINE_FACTOR: u32 = 5;

/// The condition did not become true in time.
#[derive(Debug, thiserror::Error)]
#[error("{what}: not within {timeout:?}; last seen: {last}")]
pub struct NotYet {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub timeout: Duration,
    /// The last check's error.
    pub last: String,
}

/// Calls `look` until it returns `Ok`, and returns that. An error from `look` is what it found instead; the
/// last one is in the returned error. A check that hangs counts as failed.
///
/// The time is counted in checks too: a machine that stalls for a moment, or is slow, gets at least half as many
/// checks as an idle one, because the program under test is on the same machine and equally slow.
pub async fn eventually<T, E, F>(
    timeout: Duration,
    what: impl Into<String>,
    mut look: impl FnMut() -> F,
) -> Result<T, NotYet>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let start = Instant::now();
    let mut last = String::from("nothing yet");
    let mut looks = 0;
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let hangs = match tokio::time::timeout(left.max(LONGEST_CHECK), look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => {
                last = seen.to_string();
                false
            }
            Err(_) => true,
        };
        looks += 1;
        if hangs || is_over(timeout, start.elapsed() + POLL, looks) {
            return Err(NotYet { what: what.into(), timeout, last });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether the time is over, with enough checks.
fn is_over(timeout: Duration, elapsed: Duration, looks: u32) -> bool {
    elapsed >= timeout && (LONGEST_ROUND * looks >= timeout || elapsed >= timeout * SLOW_MACHINE_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_checks_get_extra_time_up_to_a_limit() {
        let (promised, enough) = (Duration::from_secs(2), 50);
        assert!(is_over(promised, Duration::from_millis(2100), enough));
        assert!(!is_over(promised, Duration::from_millis(1900), enough), "there is time left");
        assert!(!is_over(promised, Duration::from_secs(9), enough - 1), "it has not looked often enough");
        assert!(is_over(promised, Duration::from_secs(10), 1));
    }
}
