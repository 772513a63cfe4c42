//! The wall clocks of a history: a fixed date plus tokio's paused time. The operator's clock can jump, as that of a suspended node
//! does; the API server's and the registries' don't.

use std::{cell::Cell, time::Duration};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static JUMPED: Cell<SignedDuration> = const { Cell::new(SignedDuration::ZERO) };
}

/// The date at which every history begins, in seconds since 1970: 2030-01-01.
const BEGINNING: i64 = 1_893_456_000;

/// Begins a history in this thread, at tokio's time now.
pub fn begin() {
    BEGAN.set(Some(Instant::now()));
    JUMPED.set(SignedDuration::ZERO);
}

/// Returns the time since the history began.
pub fn elapsed() -> Duration {
    BEGAN.get().map(|began| began.elapsed()).unwrap_or_default()
}

/// The clock of the API server.
pub fn cluster_clock() -> Timestamp {
    at(elapsed())
}

/// The clock of the operator.
pub fn operator_clock() -> Timestamp {
    let time = cluster_clock();
    time.checked_add(JUMPED.get()).unwrap_or(time)
}

/// Lets the operator's clock jump, backwards if `by` is negative.
pub fn jump(by: SignedDuration) {
    JUMPED.set(JUMPED.get().saturating_add(by));
}

/// Returns the API server's time, so long after the beginning.
pub fn at(elapsed: Duration) -> Timestamp {
    let beginning = Timestamp::from_second(BEGINNING).unwrap_or_default();
    beginning.checked_add(elapsed).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_operator_sees_a_jump() {
        begin();
        tokio::time::advance(Duration::from_secs(5)).await;
        jump(SignedDuration::from_secs(-60));
        assert_eq!(cluster_clock(), at(Duration::from_secs(5)));
        assert_eq!(operator_clock(), at(Duration::ZERO) - SignedDuration::from_secs(55));
    }
}
