//! Waiting for a condition that holds sooner or later.

use std::fmt::Display;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

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
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => last = seen.to_string(),
            Err(_) => {}
        }
        if start.elapsed() + POLL >= timeout {
            return Err(NotYet { what: what.into(), timeout, last });
        }
        tokio::time::sleep(POLL).await;
    }
}
