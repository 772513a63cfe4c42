//! Waiting for a condition that holds sooner or later.

use std::fmt::Display;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);
/// What a look and the pause after it take at the most on a machine that is idle: there, the time is no longer than was said.
const ROUND: Duration = Duration::from_millis(40);
/// What one look may take, however little time there is: who is busy does not hang.
const PATIENCE: Duration = Duration::from_secs(10);
/// A slow machine gets so many times the time.
const STRETCH: u32 = 5;

/// The condition did not come to hold in time.
#[derive(Debug, thiserror::Error)]
#[error("{what}: not within {timeout:?}; last seen: {last}")]
pub struct NotYet {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub timeout: Duration,
    /// What the last look found instead.
    pub last: String,
}

/// Calls `look` until it returns `Ok`, and returns that. What `look` returns as an error is what it has seen instead; the
/// last of them is in the error. One look that hangs counts as not having seen anything.
///
/// The time is counted in looks too: a machine that stands still for a moment, or is slow at everything, gets at least half as many
/// looks as one that doesn't and isn't. What is looked at is on the same machine, and as slow.
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
        let hangs = match tokio::time::timeout(left.max(PATIENCE), look()).await {
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

/// Whether there was time enough, and looks.
fn is_over(timeout: Duration, elapsed: Duration, looks: u32) -> bool {
    elapsed >= timeout && (ROUND * looks >= timeout || elapsed >= timeout * STRETCH)
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
