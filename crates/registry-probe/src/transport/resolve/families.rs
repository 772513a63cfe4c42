//! The two families of addresses: asked for at the same time, and neither waits for the other longer than it must
//! (RFC 8305, section 3).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::FusedFuture;
use tokio::time::sleep;

use super::answers::LookupResult;
use super::more_severe;
use crate::findings::DnsFailure;

/// How long the second family is waited for once the first has addresses.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// The most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 8;

/// The answer for one address family.
pub(super) type Records = Result<LookupResult, DnsFailure>;

/// What is known of both; `None`: nothing yet.
#[derive(Debug, Default)]
pub(super) struct Families {
    v4: Option<Records>,
    v6: Option<Records>,
}

impl Families {
    /// Waits until there are addresses, with those of the other family if they come shortly, or
    /// until both lookups have failed.
    pub(super) async fn await_first<V4, V6>(&mut self, v4: &mut V4, v6: &mut V6)
    where
        V4: Future<Output = Records> + FusedFuture + Unpin,
        V6: Future<Output = Records> + FusedFuture + Unpin,
    {
        while !self.is_usable() && !self.is_complete() {
            self.note_next(v4, v6).await;
        }
        let delay = sleep(RESOLUTION_DELAY);
        tokio::select! {
            () = self.await_all(v4, v6) => {}
            () = delay => {}
        }
    }

    /// Waits for what is still missing.
    pub(super) async fn await_all<V4, V6>(&mut self, v4: &mut V4, v6: &mut V6)
    where
        V4: Future<Output = Records> + FusedFuture + Unpin,
        V6: Future<Output = Records> + FusedFuture + Unpin,
    {
        while !self.is_complete() {
            self.note_next(v4, v6).await;
        }
    }

    async fn note_next<V4, V6>(&mut self, v4: &mut V4, v6: &mut V6)
    where
        V4: Future<Output = Records> + FusedFuture + Unpin,
        V6: Future<Output = Records> + FusedFuture + Unpin,
    {
        tokio::select! {
            records = &mut *v4, if self.v4.is_none() => self.v4 = Some(records),
            records = &mut *v6, if self.v6.is_none() => self.v6 = Some(records),
        }
    }

    fn is_complete(&self) -> bool {
        self.v4.is_some() && self.v6.is_some()
    }

    /// Whether there are addresses, or the name doesn't exist: NXDOMAIN is about the name and not about a record type. It is
    /// trusted only for IPv4, because some load balancers send it for IPv6 when there is no IPv6 address.
    fn is_usable(&self) -> bool {
        let has_addresses = [&self.v4, &self.v6].iter().any(|records| matches!(records, Some(Ok(_))));
        has_addresses || self.v4 == Some(Err(DnsFailure::NoSuchName))
    }

    /// Both together: IPv4 first, and the shorter time to live; or why there are no addresses.
    pub(super) fn outcome(&self) -> Result<LookupResult, DnsFailure> {
        match (&self.v4, &self.v6) {
            (Some(Ok(v4)), Some(Ok(v6))) => Ok(merged(v4, v6)),
            (Some(Ok(found)), _) | (_, Some(Ok(found))) => Ok(found.clone()),
            (Some(Err(DnsFailure::NoSuchName)), _) => Err(DnsFailure::NoSuchName),
            (Some(Err(one)), Some(Err(other))) => Err(more_severe(*one, *other)),
            _ => Err(DnsFailure::NoAnswer),
        }
    }
}

/// Of each family a share, so that many addresses of one don't crowd out the other.
fn merged(v4: &LookupResult, v6: &LookupResult) -> LookupResult {
    let room = MOST_ADDRESSES - v6.addresses.len().min(MOST_ADDRESSES / 2);
    let addresses: Arc<[_]> =
        v4.addresses.iter().take(room).chain(v6.addresses.iter()).take(MOST_ADDRESSES).copied().collect();
    LookupResult { addresses, time_to_live: v4.time_to_live.min(v6.time_to_live) }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::Instant;

    use super::*;

    const NEVER: u64 = 6000;

    async fn after(milliseconds: u64, outcome: Result<&str, DnsFailure>) -> Records {
        sleep(Duration::from_millis(milliseconds)).await;
        outcome.map(|address| LookupResult {
            addresses: Arc::from([address.parse().unwrap()]),
            time_to_live: Duration::from_secs(milliseconds),
        })
    }

    /// What there is to begin with, and when, in milliseconds.
    async fn first(
        v4: (u64, Result<&str, DnsFailure>),
        v6: (u64, Result<&str, DnsFailure>),
    ) -> (String, u128) {
        let started = Instant::now();
        let mut v4 = Box::pin(after(v4.0, v4.1).fuse());
        let mut v6 = Box::pin(after(v6.0, v6.1).fuse());
        let mut families = Families::default();
        families.await_first(&mut v4, &mut v6).await;
        let outcome = match families.outcome() {
            Ok(found) => found.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(failure) => format!("{failure:?}"),
        };
        (outcome, started.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn families_do_not_wait_for_each_other() {
        let (a, aaaa) = (Ok("192.0.2.1"), Ok("2001:db8::1"));
        let (none, silent) = (Err(DnsFailure::NoAddress), Err(DnsFailure::NoAnswer));
        let unknown = Err(DnsFailure::NoSuchName);
        for (v4, v6, expected) in [
            ((10, a), (30, aaaa), ("192.0.2.1 2001:db8::1", 30)),
            ((30, a), (10, aaaa), ("192.0.2.1 2001:db8::1", 30)),
            ((10, a), (NEVER, silent), ("192.0.2.1", 60)),
            ((NEVER, silent), (10, aaaa), ("2001:db8::1", 60)),
            ((300, a), (10, none), ("192.0.2.1", 300)),
            ((10, none), (300, aaaa), ("2001:db8::1", 300)),
            ((300, a), (10, unknown), ("192.0.2.1", 300)),
            ((10, unknown), (NEVER, silent), ("NoSuchName", 60)),
            ((10, none), (20, none), ("NoAddress", 20)),
            ((10, none), (20, Err(DnsFailure::ServerFailure)), ("ServerFailure", 20)),
            ((NEVER, silent), (10, none), ("NoAnswer", NEVER)),
        ] {
            let (outcome, time) = first(v4, v6).await;
            assert_eq!((outcome.as_str(), time), (expected.0, u128::from(expected.1)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn late_answer_is_part_of_the_result() {
        let mut v4 = Box::pin(after(10, Ok("192.0.2.1")).fuse());
        let mut v6 = Box::pin(after(500, Ok("2001:db8::1")).fuse());
        let mut families = Families::default();
        families.await_first(&mut v4, &mut v6).await;
        assert_eq!(families.outcome().unwrap().addresses.len(), 1);
        families.await_all(&mut v4, &mut v6).await;
        let merged = families.outcome().unwrap();
        assert_eq!((merged.addresses.len(), merged.time_to_live), (2, Duration::from_secs(10)));
    }

    #[test]
    fn keeps_addresses_of_both_families() {
        let many = |first: &str| LookupResult {
            addresses: vec![first.parse().unwrap(); 20].into(),
            time_to_live: Duration::ZERO,
        };
        let both = merged(&many("192.0.2.1"), &many("2001:db8::1"));
        assert_eq!(both.addresses.iter().filter(|address| address.is_ipv4()).count(), MOST_ADDRESSES / 2);
        assert_eq!(both.addresses.len(), MOST_ADDRESSES);
    }
}
