//! Waits for a condition that becomes true eventually.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// The shortest and the longest pause between two checks.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];
/// Between the two, a pause is the time waited so far, divided by this: checks cost processors that others wait for.
const PART: u32 = 10;
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
    let (began, mut last) = (Instant::now(), String::from("nothing yet"));
    let looks = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(seen) => last = seen.to_string(),
            }
            let [shortest, longest] = PAUSES;
            tokio::time::sleep((began.elapsed() / PART).clamp(shortest, longest)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, looks).await;
    found.map_err(|_| NotYet { what: what.into(), last })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looks_until_it_finds_and_less_often_the_longer_it_takes() {
        let (started, mut looks) = (Instant::now(), Vec::new());
        let look = || {
            looks.push(started.elapsed());
            ready(if looks.len() == 100 { Ok(looks.clone()) } else { Err("not yet") })
        };
        let looks = eventually("the hundredth check", look).await.unwrap();
        let pauses: Vec<_> =
            looks.windows(2).map(|each| (each[0], each[1].saturating_sub(each[0]))).collect();
        let [shortest, longest] = PAUSES;
        assert_eq!((pauses[0].1, pauses[98].1), (shortest, longest));
        assert!(pauses.iter().all(|(waited, pause)| *pause <= shortest.max(*waited / 9)), "{pauses:?}");
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
