//! Waits for a condition that becomes true eventually.

use std::fmt::Display;
use std::time::Duration;

/// The pause between two checks.
const POLL: Duration = Duration::from_millis(20);
/// The end of every wait, so that a test that hangs fails. It is no promise: whatever is promised to happen within some time is
/// checked by a recorded time, as that of the API server's audit log.
const PATIENCE: Duration = Duration::from_mins(5);

/// The condition did not become true.
#[derive(Debug, thiserror::Error)]
#[error("{what}: not within {PATIENCE:?}; last seen: {last}")]
pub struct NotYet {
    /// What was waited for.
    pub what: String,
    /// The last check's error.
    pub last: String,
}

/// Calls `look` until it returns `Ok`, and returns that. An error from `look` is what it found instead; the
/// last one is in the returned error.
///
/// It waits for five minutes at most, and a check that hangs no longer. That is no promise about time.
pub async fn eventually<T, E, F>(what: impl Into<String>, mut look: impl FnMut() -> F) -> Result<T, NotYet>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut last = String::from("nothing yet");
    let looks = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(seen) => last = seen.to_string(),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looks).await;
    found.map_err(|_| NotYet { what: what.into(), last })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_until_it_finds() {
        let (started, mut looks) = (Instant::now(), 0);
        let look = || {
            looks += 1;
            ready(if looks == 100 { Ok(looks) } else { Err("not yet") })
        };
        assert_eq!(eventually("the hundredth check", look).await.ok(), Some(100));
        assert_eq!(started.elapsed(), POLL * 99);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_slow_checks() {
        let mut looks = 0;
        let look = || {
            looks += 1;
            let found = if looks == 4 { Ok(()) } else { Err("not yet") };
            async move {
                sleep(Duration::from_mins(1)).await;
                found
            }
        };
        assert!(eventually("the fourth check", look).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn ends_with_what_it_saw_last() {
        let (started, mut looks) = (Instant::now(), 0);
        let look = || {
            looks += 1;
            ready(Err::<(), _>(format!("check {looks}")))
        };
        let error = eventually("a miracle", look).await.unwrap_err();
        assert_eq!(started.elapsed(), PATIENCE);
        assert_eq!(error.to_string(), format!("a miracle: not within 300s; last seen: check {looks}"));
    }

    #[tokio::test(start_paused = true)]
    async fn ends_a_check_that_hangs() {
        let started = Instant::now();
        let error = eventually("an answer", pending::<Result<(), String>>).await.unwrap_err();
        assert_eq!(started.elapsed(), PATIENCE);
        assert_eq!(error.to_string(), "an answer: not within 300s; last seen: nothing yet");
    }
}
