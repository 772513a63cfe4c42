//! Leader election on a `coordination.k8s.io` Lease, by the rules of client-go: a holder renews well before its lease
//! ends and stops working when it could not; another takes over only after it has itself seen no renewal for a whole
//! lease, by its own clock, so that no two clocks are compared.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{
        authentication::v1::UserInfo,
        coordination::v1::{Lease, LeaseSpec},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;

use crate::whoami;

/// The name of the Lease.
pub const LEASE: &str = "registry-operator";

const LEASE_DURATION: Duration = Duration::from_secs(15);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// How long this process may write: as a leader, until its lease would have to be renewed. A process that was paused
/// finds that its term has passed before it can write anything more.
#[derive(Debug)]
pub struct Term {
    until: Mutex<Option<Instant>>,
}

impl Term {
    /// A term that has not begun.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { until: Mutex::new(None) })
    }

    /// A term without an end, for a process that needs no election.
    pub fn for_ever() -> Arc<Self> {
        let far = Instant::now() + Duration::from_hours(24 * 365 * 10);
        Arc::new(Self { until: Mutex::new(Some(far)) })
    }

    /// Whether it has begun and not passed.
    pub fn holds(&self) -> bool {
        self.lock().is_some_and(|until| Instant::now() < until)
    }

    fn begin_or_extend(&self, claimed: Instant) {
        *self.lock() = Some(claimed + RENEW_DEADLINE);
    }

    fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One candidate for leadership.
pub struct Candidate {
    client: Client,
    api: Api<Lease>,
    namespace: String,
    term: Arc<Term>,
    identity: String,
    clock: fn() -> Timestamp,
    /// The lease as last seen, and when a change of it was last seen.
    observed: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    /// A candidate of that identity, which must be unique among all candidates of all times. Its client is not held to
    /// the term: it is what makes it.
    pub fn new(
        client: Client,
        namespace: &str,
        identity: String,
        term: Arc<Term>,
        clock: fn() -> Timestamp,
    ) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self { client, api, namespace: namespace.to_owned(), term, identity, clock, observed: None }
    }

    /// Waits until this candidate is the leader; calls `standing_by` whenever it was answered that another is.
    pub async fn acquire(&mut self, standing_by: impl Fn()) {
        loop {
            match tokio::time::timeout(RENEW_DEADLINE, self.claim()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => standing_by(),
                Ok(Err(error)) => tracing::warn!(%error, "could not claim the leader's lease"),
                Err(_) => {
                    tracing::warn!("no answer to the claim of the leader's lease in {RENEW_DEADLINE:?}");
                }
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Keeps the lease; returns when it is lost: somebody else has it, or it could not be renewed in time.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.claim()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    tracing::warn!("the leader's lease was taken by another replica");
                    break;
                }
                Ok(Err(error)) => tracing::warn!(%error, "could not renew the leader's lease"),
                Err(_) => {
                    tracing::warn!("the leader's lease could not be renewed in {RENEW_DEADLINE:?}");
                    break;
                }
            }
        }
        self.term.end();
    }

    /// Gives the lease back, so that another replica need not wait for its end.
    pub async fn release(&mut self) {
        self.term.end();
        let Ok(Some(mut lease)) = self.api.get_opt(LEASE).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = self.api.replace(LEASE, &PostParams::default(), &lease).await {
            tracing::warn!(%error, "could not release the leader's lease");
        }
    }

    /// Takes or renews the lease if it is free or ours, and with it the term.
    async fn claim(&mut self) -> Result<bool, kube::Error> {
        let claimed = Instant::now();
        let ours = self.write_claim().await?;
        if ours {
            self.term.begin_or_extend(claimed);
        }
        Ok(ours)
    }

    /// A lost race is an error (409), after which the next look tells.
    async fn write_claim(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(LEASE).await? else {
            let owner = self.owner().await?;
            return self.api.create(&PostParams::default(), &self.first_lease(owner)).await.map(|_| true);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.may_claim(&spec, Instant::now()) {
            return Ok(false);
        }
        let renewed = Lease { spec: Some(self.next_spec(&spec)), ..lease };
        self.api.replace(LEASE, &PostParams::default(), &renewed).await.map(|_| true)
    }

    /// Whether the lease is ours, or free, or was not renewed for its whole duration while we watched.
    fn may_claim(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        match &self.observed {
            Some((seen, since)) if seen == spec => now.duration_since(*since) >= duration_of(spec),
            _ => {
                self.observed = Some((spec.clone(), now));
                false
            }
        }
    }

    /// The operator's account, as the API server knows it at this moment: where the chart is removed, the garbage collector
    /// removes the Lease with it. An existing Lease is left as it is: to change its owner takes the right to delete it where
    /// OwnerReferencesPermissionEnforcement is on.
    async fn owner(&self) -> Result<Option<OwnerReference>, kube::Error> {
        Ok(account_in(&self.namespace, whoami::ask(&self.client).await?))
    }

    fn first_lease(&self, owner: Option<OwnerReference>) -> Lease {
        let metadata = ObjectMeta {
            name: Some(LEASE.to_owned()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        Lease { metadata, spec: Some(self.next_spec(&LeaseSpec::default())) }
    }

    fn next_spec(&self, spec: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime((self.clock)());
        let ours = spec.holder_identity.as_deref() == Some(&self.identity);
        let changes = spec.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: if ours { spec.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if ours { changes } else { changes.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }
}

/// The user as an owner, if it is a service account of that namespace.
fn account_in(namespace: &str, user: UserInfo) -> Option<OwnerReference> {
    let user_name = user.username?;
    let (_, account) = whoami::service_account(&user_name).filter(|(its, _)| *its == namespace)?;
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
        uid: user.uid?,
        ..OwnerReference::default()
    })
}

fn duration_of(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(LEASE_DURATION, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::io::Error>(http::Response::new(kube::client::Body::empty()))
        });
        Candidate::new(Client::new(service, "default"), "default", "me".to_owned(), Term::new(), || {
            Timestamp::UNIX_EPOCH
        })
    }

    fn held_by(holder: &str, renewals: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(renewals).unwrap())),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn the_lease_goes_with_an_account_beside_it_and_with_nobody_else() {
        let user = |name: &str, uid: Option<&str>| UserInfo {
            username: Some(name.to_owned()),
            uid: uid.map(str::to_owned),
            ..UserInfo::default()
        };
        let owner =
            account_in("registries", user("system:serviceaccount:registries:operator", Some("1"))).unwrap();
        assert_eq!(
            (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()),
            ("ServiceAccount", "operator", "1")
        );
        for (name, uid) in [
            ("system:serviceaccount:registries-too:operator", Some("1")),
            ("system:serviceaccount:registries:operator", None),
            ("jane", Some("1")),
        ] {
            assert_eq!(account_in("registries", user(name, uid)), None, "{name} {uid:?}");
        }
    }

    #[tokio::test]
    async fn a_free_lease_and_our_own_may_be_claimed() {
        let now = Instant::now();
        assert!(candidate().may_claim(&held_by("", 0), now));
        assert!(candidate().may_claim(&held_by("me", 0), now));
    }

    #[tokio::test]
    async fn anothers_lease_may_be_claimed_only_after_no_renewal_was_seen_for_its_whole_duration() {
        let (mut candidate, start) = (candidate(), Instant::now());
        assert!(!candidate.may_claim(&held_by("other", 0), start));
        assert!(!candidate.may_claim(&held_by("other", 0), start + Duration::from_secs(14)));
        assert!(
            !candidate.may_claim(&held_by("other", 1), start + Duration::from_secs(20)),
            "it was renewed"
        );
        assert!(!candidate.may_claim(&held_by("other", 1), start + Duration::from_secs(30)));
        assert!(candidate.may_claim(&held_by("other", 1), start + Duration::from_secs(35)));
    }
}
