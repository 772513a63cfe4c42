//! Shares concurrent lookups of one name and caches the result.
//!
//! Answers are kept for their time to live, at most [`LONGEST`]; failures for [`FAILURE`], so that many registries at
//! one name cost one look-up, and a record that was just added is seen at the next try. All tenants share them, for they
//! all ask the same name servers; an address is judged by the egress policy at each connection, not when it is kept.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use crate::findings::DnsFailure;

/// The longest that addresses are kept, whatever their time to live.
const LONGEST: Duration = Duration::from_mins(5);
/// How long a failure is kept: less than a retry waits.
const FAILURE: Duration = Duration::from_secs(2);
/// The most names in the cache.
const MOST_NAMES: usize = 4096;

/// The addresses of a name, or why there are none.
pub(super) type LookupAnswer = Result<Arc<[IpAddr]>, DnsFailure>;
/// A look-up that is under way; all who want its answer wait for the same.
pub(super) type LookupInFlight = Shared<BoxFuture<'static, LookupAnswer>>;

/// Addresses, and how long they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LookupResult {
    pub(super) addresses: Arc<[IpAddr]>,
    pub(super) time_to_live: Duration,
}

/// A name, and whether no search domain may be appended to it.
pub(super) type LookupQuestion = (String, bool);

/// The answers that are kept, and the look-ups that are under way.
#[derive(Default)]
pub(super) struct LookupCache(Mutex<HashMap<LookupQuestion, LookupEntry>>);

enum LookupEntry {
    Flight(LookupInFlight),
    Kept { answer: LookupAnswer, until: Instant },
}

impl LookupCache {
    /// The answer that is kept, or the look-up under way, or a new one.
    pub(super) fn join(
        &self,
        question: &LookupQuestion,
        begin: impl FnOnce() -> BoxFuture<'static, LookupAnswer>,
    ) -> LookupInFlight {
        let mut entries = self.entries();
        match entries.get(question) {
            Some(LookupEntry::Flight(flight)) => return flight.clone(),
            Some(LookupEntry::Kept { answer, until }) if Instant::now() < *until => {
                return futures::future::ready(answer.clone()).boxed().shared();
            }
            _ => {}
        }
        make_room(&mut entries);
        let flight = begin().shared();
        entries.insert(question.clone(), LookupEntry::Flight(flight.clone()));
        flight
    }

    /// Ends the look-up of a name with its outcome.
    pub(super) fn keep(&self, question: &LookupQuestion, outcome: &Result<LookupResult, DnsFailure>) {
        let (answer, time) = match outcome {
            Ok(found) => (Ok(found.addresses.clone()), found.time_to_live.min(LONGEST)),
            Err(failure) => (Err(*failure), FAILURE),
        };
        let mut entries = self.entries();
        if time.is_zero() {
            entries.remove(question);
        } else {
            entries.insert(question.clone(), LookupEntry::Kept { answer, until: Instant::now() + time });
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<LookupQuestion, LookupEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for another name. Authors of registries choose the names, so there may be any number.
fn make_room(entries: &mut HashMap<LookupQuestion, LookupEntry>) {
    if entries.len() < MOST_NAMES {
        return;
    }
    let now = Instant::now();
    entries.retain(|_, entry| !matches!(entry, LookupEntry::Kept { until, .. } if *until <= now));
    if entries.len() >= MOST_NAMES {
        entries.retain(|_, entry| matches!(entry, LookupEntry::Flight(_)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn found(seconds: u64) -> LookupResult {
        let addresses = Arc::from([IpAddr::from([192, 0, 2, 1])]);
        LookupResult { addresses, time_to_live: Duration::from_secs(seconds) }
    }

    /// How many look-ups are begun by `waits`, of which each but the first comes so long after the one before.
    async fn begun(outcome: &Result<LookupResult, DnsFailure>, waits: &[u64]) -> usize {
        let (answers, begun) = (Arc::new(LookupCache::default()), Arc::new(AtomicUsize::new(0)));
        let question = ("registry".to_owned(), false);
        for wait in waits {
            tokio::time::advance(Duration::from_millis(*wait)).await;
            let (count, kept, outcome, asked) =
                (begun.clone(), answers.clone(), outcome.clone(), question.clone());
            let flight = answers.join(&question, || {
                async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    kept.keep(&asked, &outcome);
                    outcome.map(|found| found.addresses)
                }
                .boxed()
            });
            let _ = flight.await;
        }
        begun.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn caches_answers_for_ttl_up_to_five_minutes() {
        assert_eq!(begun(&Ok(found(30)), &[0, 1000, 28_999, 1]).await, 2);
        assert_eq!(begun(&Ok(found(86_400)), &[0, 299_999, 1]).await, 2);
        assert_eq!(begun(&Ok(found(0)), &[0, 0, 0]).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn caches_failures_for_two_seconds() {
        for failure in [DnsFailure::NoSuchName, DnsFailure::NoAnswer, DnsFailure::ServerFailure] {
            assert_eq!(begun(&Err(failure), &[0, 0, 1999, 1]).await, 2, "{failure:?}");
        }
    }

    #[test]
    fn caches_a_bounded_number_of_names() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let answers = LookupCache::default();
        for number in 0..3 * MOST_NAMES {
            let question = (format!("n{number}"), false);
            let begin = || futures::future::ready(Err(DnsFailure::NoSuchName)).boxed();
            drop(answers.join(&question, begin));
            answers.keep(&question, &Ok(found(300)));
        }
        assert!(answers.entries().len() <= MOST_NAMES);
    }
}
