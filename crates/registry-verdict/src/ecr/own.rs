//! The operator's own AWS identity, wherever the program runs: environment, profile, IRSA, EKS Pod Identity, node.
//!
//! Owns when it is looked up: once for all registries that need it, before it expires while it is still used, and a few
//! seconds after a failure. The caller provides the look-up.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_credential_types::Credentials as AwsCredentials;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use k8s_openapi::jiff::Timestamp;

use super::{
    causes::{Cause, Outage},
    identity::OperatorIdentity,
};

/// How long before it expires the identity is renewed. Without an expiry, it is looked up again after [`LIFE`].
const MARGIN: Duration = Duration::from_mins(5);
const LIFE: Duration = Duration::from_mins(15);
/// The minimum time between look-ups, whatever its expiry.
const SOONEST: Duration = Duration::from_secs(10);
/// How long a failure is cached.
const FAILED: Duration = Duration::from_secs(10);
/// Rejected credentials are discarded at most this often, because new ones are probably not better.
const DISCARD: Duration = Duration::from_mins(1);

type IdentityAnswer = Result<AwsCredentials, Cause>;
type LookUp = Arc<dyn Fn(String) -> BoxFuture<'static, IdentityAnswer> + Send + Sync>;

/// The cache of the operator's own identity.
pub struct OwnCredentials {
    state: Arc<Mutex<IdentityState>>,
    look_up: LookUp,
    clock: fn() -> Timestamp,
}

#[derive(Default)]
struct IdentityState {
    kept: Option<CachedIdentity>,
    failed: Option<(Cause, Timestamp)>,
    flight: Option<Shared<BoxFuture<'static, IdentityAnswer>>>,
    discarded: Option<Timestamp>,
}

struct CachedIdentity {
    credentials: AwsCredentials,
    renew_at: Timestamp,
    useless_at: Timestamp,
}

impl fmt::Debug for OwnCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnCredentials([REDACTED])")
    }
}

impl OwnCredentials {
    /// Creates an empty cache. `look_up` gets the region to use if the environment names none.
    pub fn new(
        look_up: impl Fn(String) -> BoxFuture<'static, IdentityAnswer> + Send + Sync + 'static,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self { state: Arc::default(), look_up: Arc::new(look_up), clock }
    }

    /// Returns the operator's own credentials.
    pub async fn get(&self, _: &OperatorIdentity, region: &str) -> IdentityAnswer {
        let flight = {
            let (mut state, now) = (self.lock(), (self.clock)());
            let good = state.kept.as_ref().filter(|kept| now < kept.useless_at);
            let serves = good.map(|kept| kept.credentials.clone());
            let is_due = good.is_none_or(|kept| kept.renew_at <= now);
            let failed = state.failed.clone().filter(|(_, until)| now < *until);
            match (serves, failed) {
                (Some(credentials), _) if !is_due => return Ok(credentials),
                (Some(credentials), Some(_)) => return Ok(credentials),
                (None, Some((cause, _))) => return Err(cause),
                (Some(credentials), None) => {
                    drop(self.flight(&mut state, region)); // a renewal in the background
                    return Ok(credentials);
                }
                (None, None) => self.flight(&mut state, region),
            }
        };
        flight.await
    }

    /// Discards credentials that AWS rejected, so that they are looked up again.
    pub fn discard(&self, bad: &AwsCredentials) {
        let (mut state, now) = (self.lock(), (self.clock)());
        let is_kept = state.kept.as_ref().is_some_and(|kept| kept.credentials == *bad);
        if is_kept && state.discarded.is_none_or(|last| now >= after(last, DISCARD)) {
            state.kept = None;
            state.discarded = Some(now);
        }
    }

    /// Returns the look-up in progress, or starts one in a separate task, so that it finishes even if the caller no
    /// longer waits.
    fn flight(&self, state: &mut IdentityState, region: &str) -> Shared<BoxFuture<'static, IdentityAnswer>> {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let (shared, clock, looking) = (self.state.clone(), self.clock, (self.look_up)(region.to_owned()));
        let task = tokio::spawn(async move {
            let answer = looking.await;
            shared.lock().unwrap_or_else(PoisonError::into_inner).land(answer.clone(), clock());
            answer
        });
        // The task is only cancelled when the program ends.
        let landed = async move { task.await.unwrap_or(Err(Cause::Unavailable(Outage::Unreadable))) };
        let flight = landed.boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }

    fn lock(&self) -> MutexGuard<'_, IdentityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdentityState {
    fn land(&mut self, answer: IdentityAnswer, now: Timestamp) {
        self.flight = None;
        match answer {
            Ok(credentials) => {
                let end = credentials.expiry().and_then(|end| Timestamp::try_from(end).ok());
                let renew_at = end.map_or(after(now, LIFE), |end| end - MARGIN).max(after(now, SOONEST));
                let useless_at = end.unwrap_or(renew_at).max(renew_at);
                self.kept = Some(CachedIdentity { credentials, renew_at, useless_at });
                self.failed = None;
            }
            Err(cause) => self.failed = Some((cause, after(now, FAILED))),
        }
    }
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        time::SystemTime,
    };

    use futures::future::join_all;

    use super::*;
    use crate::object::RegistryKey;

    thread_local! {
        static SECOND: Cell<i64> = const { Cell::new(1_000_000) };
    }

    fn now() -> Timestamp {
        Timestamp::from_second(SECOND.get()).unwrap()
    }

    fn pass(seconds: i64) {
        SECOND.set(SECOND.get() + seconds);
    }

    fn operator() -> OperatorIdentity {
        OperatorIdentity::of(&RegistryKey::System { name: "x".into() }).unwrap()
    }

    /// Fails while `broken` is true, otherwise returns the number of the look-up. Counts the look-ups.
    fn source(life: Option<Duration>, broken: Arc<Mutex<bool>>) -> (OwnCredentials, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let look_up = move |_| {
            let (number, broken) = (counted.fetch_add(1, Relaxed), broken.clone());
            let end = life.map(|life| SystemTime::from(now() + life));
            async move {
                tokio::task::yield_now().await;
                if *broken.lock().unwrap() {
                    return Err(Cause::NoOperatorIdentity);
                }
                Ok(AwsCredentials::new(number.to_string(), "secret", None, end, "test"))
            }
            .boxed()
        };
        (OwnCredentials::new(look_up, now), count)
    }

    async fn hundred(own: &OwnCredentials) -> Vec<IdentityAnswer> {
        let identity = operator();
        let answers = join_all((0..100).map(|_| own.get(&identity, "eu-west-1"))).await;
        for _ in 0..4 {
            tokio::task::yield_now().await; // a renewal in the background
        }
        answers
    }

    #[tokio::test]
    async fn shares_failed_lookup_for_ten_seconds() {
        let broken = Arc::new(Mutex::new(true));
        let (own, looked) = source(None, broken.clone());
        for _ in 0..3 {
            assert!(hundred(&own).await.iter().all(|answer| *answer == Err(Cause::NoOperatorIdentity)));
            assert_eq!(looked.load(Relaxed), 1);
            pass(3);
        }
        pass(1);
        *broken.lock().unwrap() = false;
        assert!(hundred(&own).await.iter().all(Result::is_ok));
        assert_eq!(looked.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn renews_before_expiry_without_interruption() {
        let broken = Arc::new(Mutex::new(false));
        let (own, looked) = source(Some(Duration::from_hours(1)), broken.clone());
        hundred(&own).await;
        pass(55 * 60 - 1);
        hundred(&own).await;
        assert_eq!(looked.load(Relaxed), 1);
        *broken.lock().unwrap() = true;
        for _ in 0..4 {
            pass(60);
            assert!(hundred(&own).await.iter().all(Result::is_ok), "the old ones serve");
        }
        assert_eq!(looked.load(Relaxed), 5);
        pass(61);
        assert!(hundred(&own).await.iter().all(Result::is_err));
    }

    #[tokio::test]
    async fn limits_lookups_near_expiry() {
        let (own, looked) = source(Some(Duration::from_secs(30)), Arc::default());
        for _ in 0..9 {
            hundred(&own).await;
            pass(1);
        }
        assert_eq!(looked.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn looks_up_refused_identity_once_a_minute() {
        let (own, looked) = source(None, Arc::default());
        for round in 1..4 {
            for answer in hundred(&own).await {
                own.discard(&answer.unwrap());
            }
            hundred(&own).await;
            assert_eq!(looked.load(Relaxed), round + 1, "the first that was refused, and no more");
            pass(60);
        }
    }

    #[tokio::test]
    async fn debug_output_holds_no_key() {
        let (own, _) = source(None, Arc::default());
        hundred(&own).await;
        assert_eq!(format!("{own:?}"), "OwnCredentials([REDACTED])");
    }
}
