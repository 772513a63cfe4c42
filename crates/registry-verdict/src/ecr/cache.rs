//! Caches AWS's answers while they are valid. Callers that need the same answer share one request.
//!
//! Owns when AWS is asked: one request at a time for a key; before the answer expires, with jitter, while the old one
//! is still used; after a refusal only when its delay is over. Keys are opaque. The size is limited: the least recently
//! used entry is removed first.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use k8s_openapi::jiff::Timestamp;

use super::causes::{AwsRefusal, Cause, Outage};

/// A new answer from AWS.
#[derive(Debug)]
pub struct Fresh<T> {
    /// The answer.
    pub value: T,
    /// When it expires.
    pub ends_at: Timestamp,
}

/// A cached answer.
#[derive(Debug)]
pub struct CachedAnswer<T> {
    /// The answer.
    pub value: T,
    /// When to get a new answer. This one is still valid then.
    pub renew_at: Timestamp,
    /// When this answer can no longer be used.
    pub useless_at: Timestamp,
}

/// An answer, and whether it was in the cache before.
#[derive(Debug)]
pub struct Taken<T> {
    /// The answer.
    pub kept: Arc<CachedAnswer<T>>,
    /// Whether it was in the cache before.
    pub reused: bool,
}

/// Why an answer is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Urgency {
    /// A scheduled validation: a recent refusal by AWS still counts.
    Due,
    /// Someone changed something: an earlier refusal doesn't count.
    Changed,
}

/// Answers by key.
pub struct Cache<K, T> {
    scope: Arc<Mutex<CacheShard<K, T>>>,
    clock: fn() -> Timestamp,
    chance: fn() -> f64,
}

struct CacheShard<K, T> {
    entries: HashMap<K, CacheEntry<T>>,
    swept: Timestamp,
}

struct CacheEntry<T> {
    kept: Option<Arc<CachedAnswer<T>>>,
    flight: Option<SharedRequest<T>>,
    pause: Option<Pause>,
    /// When an answer was last discarded before it expired.
    discarded: Option<Timestamp>,
    used: Timestamp,
}

type SharedRequest<T> = Shared<BoxFuture<'static, Result<Arc<CachedAnswer<T>>, AwsRefusal>>>;

/// The state after a refusal.
#[derive(Clone)]
struct Pause {
    refusal: AwsRefusal,
    began: Timestamp,
    until: Timestamp,
    refusals: u32,
}

/// The maximum number of answers, which need some tens of megabytes.
const MOST_ENTRIES: usize = 16_384;
/// Expired entries are removed at least this often while new ones are added.
const SWEEP: Duration = Duration::from_mins(10);
/// An expired entry that was not used for this time is removed.
const UNUSED: Duration = Duration::from_hours(1);
/// How long an answer is used that was already expired when it arrived, as from an emulator.
const IMPLAUSIBLE_LIFE: Duration = Duration::from_hours(1);
/// A bad answer is discarded at most this often, because a new one is probably not better.
const DISCARD: Duration = Duration::from_hours(1);
/// A refusal that is younger than this counts even after a change, because many registries change at the same time.
const YOUNG: Duration = Duration::from_secs(1);

impl<K, T> Cache<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Send + Sync + 'static,
{
    /// Creates an empty cache.
    pub fn new(clock: fn() -> Timestamp, chance: fn() -> f64) -> Self {
        let scope = CacheShard { entries: HashMap::new(), swept: Timestamp::MIN };
        Self { scope: Arc::new(Mutex::new(scope)), clock, chance }
    }

    /// Returns the answer for `key`, from the cache or by calling `ask`.
    pub async fn get<F>(
        &self,
        key: &K,
        urgency: Urgency,
        ask: impl FnOnce() -> F,
    ) -> Result<Taken<T>, AwsRefusal>
    where
        F: Future<Output = Result<Fresh<T>, AwsRefusal>> + Send + 'static,
    {
        let flight = match self.look(key, urgency, ask) {
            Look::Good(kept) => return Ok(Taken { kept, reused: true }),
            Look::Refused(refusal) => return Err(refusal),
            Look::Wait(flight) => flight,
        };
        Ok(Taken { kept: flight.await?, reused: false })
    }

    /// Discards an answer that turned out to be bad. Returns false if that happened recently and would not help.
    pub fn discard(&self, key: &K, bad: &Arc<CachedAnswer<T>>) -> bool {
        let now = (self.clock)();
        let mut scope = self.lock();
        let Some(entry) = scope.entries.get_mut(key) else { return true };
        match &entry.kept {
            Some(kept) if Arc::ptr_eq(kept, bad) => {}
            // Another caller was faster: there is another answer to try, or to get.
            _ => return true,
        }
        if entry.discarded.is_some_and(|last| now < after(last, DISCARD)) {
            return false;
        }
        entry.kept = None;
        entry.discarded = Some(now);
        true
    }

    fn look<F>(&self, key: &K, urgency: Urgency, ask: impl FnOnce() -> F) -> Look<T>
    where
        F: Future<Output = Result<Fresh<T>, AwsRefusal>> + Send + 'static,
    {
        let now = (self.clock)();
        let mut scope = self.lock();
        let entry = scope.entry(key, now);
        let good = entry.kept.clone().filter(|kept| now < kept.useless_at);
        if let Some(kept) = &good
            && now < kept.renew_at
        {
            return Look::Good(kept.clone());
        }
        if let Some(flight) = &entry.flight {
            return good.map_or_else(|| Look::Wait(flight.clone()), Look::Good);
        }
        if let Some(refusal) = entry.standing_refusal(urgency, now) {
            return good.map_or(Look::Refused(refusal), Look::Good);
        }
        let flight = self.depart(key.clone(), ask());
        entry.flight = Some(flight.clone());
        // The caller that starts a renewal doesn't wait for it: the old answer is still valid.
        good.map_or(Look::Wait(flight), Look::Good)
    }

    /// Asks in a separate task, so that the answer is cached even if the caller no longer waits.
    fn depart(
        &self,
        key: K,
        asking: impl Future<Output = Result<Fresh<T>, AwsRefusal>> + Send + 'static,
    ) -> SharedRequest<T> {
        let (scope, clock, chance) = (self.scope.clone(), self.clock, self.chance);
        let landing = async move {
            let answer = asking.await;
            scope.lock().unwrap_or_else(PoisonError::into_inner).land(&key, answer, clock(), chance())
        };
        let task = tokio::spawn(landing);
        let landed = async move { task.await.unwrap_or_else(|_| Err(interrupted())) };
        landed.boxed().shared()
    }

    fn lock(&self) -> MutexGuard<'_, CacheShard<K, T>> {
        self.scope.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Look<T> {
    Good(Arc<CachedAnswer<T>>),
    Refused(AwsRefusal),
    Wait(SharedRequest<T>),
}

/// The task was cancelled, which only happens when the program ends.
fn interrupted() -> AwsRefusal {
    AwsRefusal {
        cause: Cause::Unavailable(Outage::Unreadable),
        api: super::causes::Api::Ecr,
        region: String::new(),
        retry_after: None,
    }
}

impl<K: Clone + Eq + Hash, T> CacheShard<K, T> {
    fn entry(&mut self, key: &K, now: Timestamp) -> &mut CacheEntry<T> {
        if !self.entries.contains_key(key) {
            self.make_room(now);
        }
        let entry = self.entries.entry(key.clone()).or_insert_with(|| CacheEntry {
            kept: None,
            flight: None,
            pause: None,
            discarded: None,
            used: now,
        });
        entry.used = now;
        entry
    }

    fn make_room(&mut self, now: Timestamp) {
        if now >= after(self.swept, SWEEP) || self.entries.len() >= MOST_ENTRIES {
            self.swept = now;
            self.entries.retain(|_, entry| !entry.is_over(now));
        }
        if self.entries.len() >= MOST_ENTRIES {
            let oldest = self.entries.iter().filter(|(_, entry)| entry.flight.is_none());
            let oldest = oldest.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
    }

    fn land(
        &mut self,
        key: &K,
        answer: Result<Fresh<T>, AwsRefusal>,
        now: Timestamp,
        chance: f64,
    ) -> Result<Arc<CachedAnswer<T>>, AwsRefusal> {
        let entry = self.entry(key, now);
        entry.flight = None;
        match answer {
            Ok(fresh) => {
                let kept = Arc::new(keep(fresh, now, chance));
                entry.kept = Some(kept.clone());
                entry.pause = None;
                Ok(kept)
            }
            Err(refusal) => {
                let refusals = entry.pause.as_ref().map_or(1, |pause| pause.refusals.saturating_add(1));
                let wait = pause(&refusal, refusals, chance);
                entry.pause =
                    Some(Pause { refusal: refusal.clone(), began: now, until: after(now, wait), refusals });
                Err(AwsRefusal { retry_after: refusal.is_transient().then_some(wait), ..refusal })
            }
        }
    }
}

impl<T> CacheEntry<T> {
    /// Returns a refusal after which AWS isn't asked again yet, with the rest of the delay.
    fn standing_refusal(&self, urgency: Urgency, now: Timestamp) -> Option<AwsRefusal> {
        let pause = self.pause.as_ref()?;
        let transient = pause.refusal.is_transient();
        // A change doesn't end throttling.
        let until =
            if transient || urgency == Urgency::Due { pause.until } else { after(pause.began, YOUNG) };
        let left = Duration::try_from(until.duration_since(now)).ok().filter(|left| !left.is_zero())?;
        Some(AwsRefusal { retry_after: transient.then_some(left), ..pause.refusal.clone() })
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let useless = self.kept.as_ref().is_none_or(|kept| kept.useless_at <= now);
        let paused = self.pause.as_ref().is_some_and(|pause| pause.until > now);
        useless && !paused && self.flight.is_none() && after(self.used, UNUSED) <= now
    }
}

fn keep<T>(fresh: Fresh<T>, now: Timestamp, chance: f64) -> CachedAnswer<T> {
    let life = Duration::try_from(fresh.ends_at.duration_since(now)).unwrap_or_default();
    let life = if life.is_zero() { IMPLAUSIBLE_LIFE } else { life };
    // The answer should not expire during a validation that starts with it.
    let margin = (life / 20).min(Duration::from_mins(1));
    CachedAnswer {
        value: fresh.value,
        renew_at: after(now, life.mul_f64(0.75 + 0.1 * chance.clamp(0.0, 1.0))),
        useless_at: after(now, life.saturating_sub(margin)),
    }
}

/// Returns the delay after a refusal, which doubles with each refusal in a row, plus up to half of it at random.
fn pause(refusal: &AwsRefusal, refusals: u32, chance: f64) -> Duration {
    let grown = refusal.cause.class().backoff().after(refusals);
    let asked = refusal.retry_after.unwrap_or_default().min(Duration::from_hours(1));
    if refusal.is_transient() { grown.mul_f64(1.0 + 0.5 * chance.clamp(0.0, 1.0)).max(asked) } else { grown }
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::atomic::AtomicUsize};

    use std::sync::atomic::Ordering::Relaxed;

    use super::{
        super::causes::{Api, KeyRefusal},
        *,
    };

    thread_local! {
        static SECOND: Cell<i64> = const { Cell::new(0) };
    }

    fn now() -> Timestamp {
        Timestamp::from_second(SECOND.get()).unwrap()
    }

    fn pass(seconds: i64) {
        SECOND.set(SECOND.get() + seconds);
    }

    fn cache() -> Cache<u32, u32> {
        SECOND.set(1_000_000);
        Cache::new(now, || 0.0)
    }

    fn refusal(cause: Cause) -> AwsRefusal {
        AwsRefusal { cause, api: Api::Ecr, region: "eu-central-1".into(), retry_after: None }
    }

    /// Answers at that time, and counts the requests.
    struct CountingSource(Arc<AtomicUsize>);

    impl CountingSource {
        fn new() -> Self {
            Self(Arc::default())
        }

        fn asked(&self) -> usize {
            self.0.load(Relaxed)
        }

        async fn answer(
            &self,
            cache: &Cache<u32, u32>,
            urgency: Urgency,
            answer: Result<Duration, Cause>,
        ) -> Result<bool, AwsRefusal> {
            let (count, end) = (self.0.clone(), answer.map(|life| now() + life));
            let ask = || async move {
                count.fetch_add(1, Relaxed);
                end.map(|ends_at| Fresh { value: 1, ends_at }).map_err(refusal)
            };
            cache.get(&7, urgency, ask).await.map(|taken| taken.reused)
        }
    }

    const LIFE: Result<Duration, Cause> = Ok(Duration::from_hours(12));

    #[tokio::test]
    async fn refreshes_after_three_quarters_of_lifetime() {
        let (cache, source) = (cache(), CountingSource::new());
        assert!(!source.answer(&cache, Urgency::Due, LIFE).await.unwrap());
        pass(9 * 3600 - 1);
        assert!(source.answer(&cache, Urgency::Changed, LIFE).await.unwrap());
        assert_eq!(source.asked(), 1);
        pass(1);
        assert!(source.answer(&cache, Urgency::Due, LIFE).await.unwrap(), "nobody waits for a renewal");
        tokio::task::yield_now().await;
        assert!(source.answer(&cache, Urgency::Due, LIFE).await.unwrap());
        assert_eq!(source.asked(), 2);
    }

    #[tokio::test]
    async fn discards_answer_shortly_before_expiry() {
        let (cache, source) = (cache(), CountingSource::new());
        source.answer(&cache, Urgency::Due, LIFE).await.unwrap();
        pass(12 * 3600 - 60);
        assert!(!source.answer(&cache, Urgency::Due, LIFE).await.unwrap());
    }

    #[tokio::test]
    async fn keeps_expired_new_answer_for_an_hour() {
        let (cache, source) = (cache(), CountingSource::new());
        let ended = || Ok(Duration::ZERO);
        source.answer(&cache, Urgency::Due, ended()).await.unwrap();
        pass(2000);
        assert!(source.answer(&cache, Urgency::Due, ended()).await.unwrap());
        pass(2000);
        assert!(!source.answer(&cache, Urgency::Due, ended()).await.unwrap());
    }

    #[tokio::test]
    async fn rejected_keys_back_off_until_changed() {
        let (cache, source) = (cache(), CountingSource::new());
        let rejected = || Err(Cause::KeysRefused(KeyRefusal::WrongSecret));
        for (minutes, asked) in [(0, 1), (1, 2), (1, 2), (1, 3), (3, 3), (1, 4)] {
            pass(minutes * 60);
            assert!(source.answer(&cache, Urgency::Due, rejected()).await.is_err());
            assert_eq!(source.asked(), asked);
        }
        assert!(
            source.answer(&cache, Urgency::Changed, LIFE).await.is_err(),
            "a young refusal is good for all"
        );
        pass(1);
        assert!(source.answer(&cache, Urgency::Changed, LIFE).await.is_ok());
    }

    #[tokio::test]
    async fn throttling_delay_ignores_changes() {
        let (cache, source) = (cache(), CountingSource::new());
        let throttled = || Err(Cause::Throttled);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let seen = source.answer(&cache, Urgency::Due, throttled()).await.unwrap_err();
            assert_eq!(seen.retry_after, Some(Duration::from_secs(wait)));
            let asked = source.asked();
            let seen = source.answer(&cache, Urgency::Changed, LIFE).await.unwrap_err();
            assert_eq!((seen.retry_after, source.asked()), (Some(Duration::from_secs(wait)), asked));
            pass(i64::try_from(wait).unwrap());
        }
        assert!(source.answer(&cache, Urgency::Due, LIFE).await.is_ok());
    }

    #[tokio::test]
    async fn drops_refused_answer_once_an_hour() {
        let (cache, source) = (cache(), CountingSource::new());
        let take = async || {
            let count = source.0.clone();
            let ends_at = now() + Duration::from_hours(12);
            let ask = || async move {
                count.fetch_add(1, Relaxed);
                Ok(Fresh { value: 1, ends_at })
            };
            cache.get(&7, Urgency::Due, ask).await.unwrap().kept
        };
        let first = take().await;
        assert!(cache.discard(&7, &first));
        let second = take().await;
        assert!(cache.discard(&7, &first), "there is another already");
        assert!(!cache.discard(&7, &second));
        pass(3600);
        assert!(cache.discard(&7, &second));
        take().await;
        assert_eq!(source.asked(), 3);
    }

    #[tokio::test]
    async fn bounds_the_cache() {
        let cache = cache();
        let most = u32::try_from(MOST_ENTRIES).unwrap();
        for key in 0..most + 10 {
            let ends_at = now() + Duration::from_hours(12);
            cache.get(&key, Urgency::Due, || async move { Ok(Fresh { value: 1, ends_at }) }).await.unwrap();
            pass(i64::from(key % 1000 == 0));
        }
        assert_eq!(cache.lock().entries.len(), MOST_ENTRIES);
        assert!(cache.lock().entries.contains_key(&(most + 9)));
    }
}
