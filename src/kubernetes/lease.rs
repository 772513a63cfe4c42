//! Leader election with a `coordination.k8s.io` Lease, by the rules of client-go. A leader renews its Lease well before
//! it expires, and stops working if it can't. Another replica takes over only after it has seen no renewal for a whole
//! lease duration by its own clock, so clocks of different machines are never compared.

use std::{sync::Arc, time::Duration};

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

use crate::kubernetes::{
    call::{CallError, CallFailure, call_within},
    self_subject,
    store::Revision,
    term::{LeadershipTerm, RENEW_DEADLINE},
};

/// The name of the Lease.
pub const LEASE: &str = "registry-operator";

const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How often the leader renews the Lease, with one request.
const RENEWAL: Duration = Duration::from_secs(5);
/// The time between attempts, after a failed one and while another replica is the leader.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Deadline for an attempt, which takes up to three requests. After one that hangs, there is time for another one over
/// a new connection before the Lease would have to be renewed.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Creates a client with its own connections, which can write at any time.
pub type Connect = Box<dyn Fn() -> Result<Client, kube::Error> + Send + Sync>;

/// A candidate for leadership.
pub struct Candidate {
    connect: Connect,
    client: Client,
    namespace: String,
    term: Arc<LeadershipTerm>,
    identity: String,
    clock: fn() -> Timestamp,
    /// The Lease as this candidate last wrote it in its current term.
    written: Option<Lease>,
    /// The revision of the Lease, which nobody else writes during the term.
    revision: Revision,
    /// Whether an older state of the Lease was found since the term began.
    is_set_back: bool,
    /// When this candidate took the Lease for its last term, as the Lease says.
    acquired: Option<MicroTime>,
    /// The Lease as last seen, and when its last change was seen.
    observed: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    /// Creates a candidate. Its identity must be unique among all candidates, including earlier ones.
    pub fn new(
        connect: Connect,
        namespace: &str,
        identity: String,
        term: Arc<LeadershipTerm>,
        clock: fn() -> Timestamp,
    ) -> Result<Self, kube::Error> {
        let (client, namespace) = (connect()?, namespace.to_owned());
        Ok(Self {
            connect,
            client,
            namespace,
            term,
            identity,
            clock,
            written: None,
            revision: Revision::default(),
            is_set_back: false,
            acquired: None,
            observed: None,
        })
    }

    /// Waits until this candidate is the leader. Calls `standing_by` whenever the API server answers that another one
    /// is. Returns whether no other replica has led since its last term. A Lease that names this candidate doesn't show that: it may be
    /// from a claim whose reply was lost.
    pub async fn acquire(&mut self, standing_by: impl Fn()) -> bool {
        loop {
            match self.attempt(ATTEMPT).await {
                Ok(true) => {
                    self.is_set_back = false; // who begins to lead knows nothing yet
                    let acquired =
                        self.written.as_ref().and_then(|lease| lease.spec.as_ref()?.acquire_time.clone());
                    let goes_on = acquired.is_some() && acquired == self.acquired;
                    self.acquired = acquired;
                    return goes_on;
                }
                Ok(false) => standing_by(),
                Err(error) => tracing::warn!(%error, "failed to acquire the Lease, retrying"),
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews the Lease, and calls `renewed` after each renewal. Returns when the Lease is lost: another replica has
    /// it, or it could not be renewed in time. Also returns if the Lease has an older state than before, because then
    /// everything known is outdated.
    pub async fn hold(&mut self, renewed: impl Fn()) {
        let mut last = Instant::now();
        let mut pause = RENEWAL;
        loop {
            tokio::time::sleep(pause.min(RENEW_DEADLINE.saturating_sub(last.elapsed()))).await;
            let begun = Instant::now();
            let left = RENEW_DEADLINE.saturating_sub(begun - last);
            if left.is_zero() {
                tracing::warn!("lost leadership: failed to renew the Lease within {RENEW_DEADLINE:?}");
                break;
            }
            match self.attempt(left.min(ATTEMPT)).await {
                Ok(true) => {
                    renewed();
                    (last, pause) = (Instant::now(), RENEWAL);
                    if self.is_set_back {
                        tracing::warn!("etcd was restored to an older revision; listing everything again");
                        break;
                    }
                }
                Ok(false) => {
                    tracing::warn!("lost leadership: another replica holds the Lease");
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to renew the Lease, retrying");
                    pause = RETRY_PERIOD.saturating_sub(begun.elapsed());
                }
            }
        }
        self.term.end();
    }

    /// Makes one attempt. If there is no answer, the next attempt uses a new connection, because this one may hang.
    async fn attempt(&mut self, deadline: Duration) -> Result<bool, CallError> {
        let claimed = call_within(deadline, self.claim()).await;
        if claimed.as_ref().is_err_and(|error| error.failure() == CallFailure::NoAnswer) {
            self.client = (self.connect)()?;
        }
        claimed
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Releases the Lease, so that another replica doesn't have to wait until it expires.
    pub async fn release(&mut self) {
        self.term.end();
        let api = self.api();
        let Ok(Some(mut lease)) = api.get_opt(LEASE).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if !self.is_holder(spec) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = api.replace(LEASE, &PostParams::default(), &lease).await {
            tracing::warn!(%error, "failed to release the Lease");
        }
    }

    /// Takes or renews the Lease, and with it the term, if it is free or this candidate's.
    async fn claim(&mut self) -> Result<bool, kube::Error> {
        let claimed = Instant::now();
        let ours = self.write_claim().await?;
        if ours {
            self.term.begin_or_extend(claimed);
        }
        Ok(ours)
    }

    /// Another replica may be faster: that is an error (409), and the next attempt shows the result.
    async fn write_claim(&mut self) -> Result<bool, kube::Error> {
        if self.rewrite().await? {
            return Ok(true);
        }
        let api = self.api();
        let Some(lease) = api.get_opt(LEASE).await? else {
            let owner = self.owner().await?;
            let created = api.create(&PostParams::default(), &self.first_lease(owner)).await?;
            self.wrote(created);
            return Ok(true);
        };
        self.read(&lease);
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.may_claim(&spec, Instant::now()) {
            return Ok(false);
        }
        let renewed = Lease { spec: Some(self.next_spec(&spec)), ..lease };
        let written = api.replace(LEASE, &PostParams::default(), &renewed).await?;
        self.wrote(written);
        Ok(true)
    }

    fn is_holder(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_deref() == Some(&self.identity)
    }

    /// Renews the Lease, based on the last write, usually with one request. Returns false if the Lease has changed
    /// since.
    async fn rewrite(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.written.take() else { return Ok(false) };
        // After its term, another replica may have the Lease, so it must be read first.
        if !self.term.holds() {
            return Ok(false);
        }
        let spec = self.next_spec(&lease.spec.clone().unwrap_or_default());
        let renewed = Lease { spec: Some(spec), ..lease };
        match self.api().replace(LEASE, &PostParams::default(), &renewed).await {
            Ok(written) => {
                self.wrote(written);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn wrote(&mut self, lease: Lease) {
        self.read(&lease);
        self.written = Some(lease);
    }

    fn read(&mut self, lease: &Lease) {
        let version = lease.metadata.resource_version.as_deref().unwrap_or_default();
        self.is_set_back |= self.revision.is_set_back(version);
    }

    /// Returns whether the Lease is this candidate's, free, or wasn't renewed for its whole duration while this
    /// candidate watched.
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

    /// Returns the operator's account as it is now, as the owner: the garbage collector deletes the Lease with it when
    /// the chart is uninstalled. An existing Lease keeps its owners, because OwnerReferencesPermissionEnforcement
    /// requires permission to delete a Lease to change them.
    async fn owner(&self) -> Result<Option<OwnerReference>, kube::Error> {
        Ok(account_in(&self.namespace, self_subject::self_subject(&self.client).await?))
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
        let ours = self.is_holder(spec);
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

/// Returns the user as an owner, if it is a service account of that namespace.
fn account_in(namespace: &str, user: UserInfo) -> Option<OwnerReference> {
    let user_name = user.username?;
    let (_, account) = self_subject::service_account(&user_name).filter(|(its, _)| *its == namespace)?;
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
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use serde_json::{Value, json};

    use super::*;

    fn candidate() -> Candidate {
        candidate_at(&FakeLeaseServer::default(), LeadershipTerm::new())
    }

    /// A fake API server with one Lease.
    #[derive(Clone, Default)]
    struct FakeLeaseServer {
        lease: Arc<Mutex<Option<Value>>>,
        /// The number of connections so far.
        connections: Arc<AtomicUsize>,
        /// Connections up to this number hang.
        hung: Arc<AtomicUsize>,
        /// Whether to refuse every request.
        broken: Arc<AtomicBool>,
        /// The number of requests so far.
        requests: Arc<AtomicUsize>,
        /// The newest revision.
        revision: Arc<AtomicUsize>,
        /// Whether writes are made, but not answered.
        loses_replies: Arc<AtomicBool>,
    }

    impl FakeLeaseServer {
        fn connect(&self) -> Client {
            let (server, number) = (self.clone(), self.connections.fetch_add(1, Ordering::SeqCst) + 1);
            let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
                let server = server.clone();
                async move {
                    if number <= server.hung.load(Ordering::SeqCst) {
                        std::future::pending::<()>().await;
                    }
                    let is_write = request.method() != http::Method::GET;
                    let answer = server.answer(request).await;
                    if is_write && server.loses_replies.load(Ordering::SeqCst) {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, std::io::Error>(answer)
                }
            });
            Client::new(service, "default")
        }

        async fn answer(
            &self,
            request: http::Request<kube::client::Body>,
        ) -> http::Response<kube::client::Body> {
            let (parts, body) = request.into_parts();
            let sent = body.collect_bytes().await.unwrap();
            self.requests.fetch_add(1, Ordering::SeqCst);
            let mut lease = self.lease.lock().unwrap();
            if !sent.is_empty() && parts.uri.path().contains("/leases") {
                let mut written: Value = serde_json::from_slice(&sent).unwrap();
                let there = lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
                let version = &mut written["metadata"]["resourceVersion"];
                if there.is_some_and(|there| !version.is_null() && *version != there) {
                    return answer(409, &json!({"code": 409, "reason": "Conflict"}));
                }
                *version = json!((self.revision.fetch_add(1, Ordering::SeqCst) + 1).to_string());
                *lease = Some(written);
            }
            let found = if parts.uri.path().contains("selfsubjectreviews") {
                Some(json!({"metadata": {}}))
            } else {
                lease.clone()
            };
            let (code, found) = match found {
                _ if self.broken.load(Ordering::SeqCst) => (500, json!({"code": 500})),
                Some(found) => (200, found),
                None => (404, json!({"code": 404, "reason": "NotFound"})),
            };
            answer(code, &found)
        }

        fn hang(&self, connections: usize) {
            self.hung.store(connections, Ordering::SeqCst);
        }
    }

    fn answer(code: u16, body: &Value) -> http::Response<kube::client::Body> {
        let body = kube::client::Body::from(serde_json::to_vec(body).unwrap());
        http::Response::builder().status(code).body(body).unwrap()
    }

    fn candidate_at(server: &FakeLeaseServer, term: Arc<LeadershipTerm>) -> Candidate {
        let server = server.clone();
        let connect = Box::new(move || Ok(server.connect()));
        Candidate::new(connect, "default", "me".to_owned(), term, clock).unwrap()
    }

    /// The test's own time. Each test has a thread of its own.
    fn clock() -> Timestamp {
        thread_local!(static BEGUN: Instant = Instant::now());
        Timestamp::UNIX_EPOCH + BEGUN.with(Instant::elapsed)
    }

    async fn leader(server: &FakeLeaseServer) -> (Candidate, Arc<LeadershipTerm>) {
        let term = LeadershipTerm::new();
        let mut candidate = candidate_at(server, term.clone());
        let goes_on = candidate.acquire(|| panic!("nobody else is there")).await;
        assert!(!goes_on, "it has not led before");
        (candidate, term)
    }

    #[tokio::test(start_paused = true)]
    async fn retries_hanging_renewal_over_new_connection() {
        let server = FakeLeaseServer::default();
        let (mut candidate, term) = leader(&server).await;
        let begun = Instant::now();
        server.hang(1);
        let first = Mutex::new(None);
        let renewed = || {
            first.lock().unwrap().get_or_insert_with(|| begun.elapsed());
        };
        let held = tokio::time::timeout(Duration::from_mins(1), candidate.hold(renewed)).await;
        assert!(held.is_err() && term.holds(), "leadership was lost");
        assert_eq!(*first.lock().unwrap(), Some(RENEWAL + ATTEMPT));
        assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_ten_seconds_after_renewal() {
        for broken in [false, true] {
            let server = FakeLeaseServer::default();
            let (mut candidate, term) = leader(&server).await;
            let begun = Instant::now();
            server.broken.store(broken, Ordering::SeqCst);
            server.hang(if broken { 0 } else { usize::MAX });
            candidate.hold(|| panic!("it was renewed")).await;
            assert_eq!((begun.elapsed(), term.holds()), (RENEW_DEADLINE, false), "broken: {broken}");
            let connections = server.connections.load(Ordering::SeqCst);
            assert_eq!(connections, if broken { 1 } else { 3 }, "two tries, and a connection for a third");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renews_with_one_request() {
        let server = FakeLeaseServer::default();
        let (mut candidate, term) = leader(&server).await;
        let before = server.requests.load(Ordering::SeqCst);
        let minute = tokio::time::timeout(Duration::from_secs(61), candidate.hold(|| {})).await;
        assert!(minute.is_err() && term.holds());
        assert_eq!(server.requests.load(Ordering::SeqCst) - before, 12);
    }

    #[tokio::test(start_paused = true)]
    async fn older_lease_state_ends_the_term() {
        let server = FakeLeaseServer::default();
        let (mut candidate, term) = leader(&server).await;
        let _ = tokio::time::timeout(Duration::from_secs(21), candidate.hold(|| {})).await;
        assert!(term.holds());
        server.revision.store(3, Ordering::SeqCst);
        server.lease.lock().unwrap().as_mut().unwrap()["metadata"]["resourceVersion"] = json!("3");
        tokio::time::timeout(2 * RENEWAL, candidate.hold(|| {})).await.unwrap();
        assert!(!term.holds());
        assert!(candidate.acquire(|| panic!("nobody else is there")).await, "the Lease was its own");
        assert!(term.holds());
        let held = tokio::time::timeout(Duration::from_mins(1), candidate.hold(|| {})).await;
        assert!(held.is_err(), "once is enough");
    }

    #[tokio::test(start_paused = true)]
    async fn claim_without_reply_begins_a_new_term() {
        let server = FakeLeaseServer::default();
        let (mut candidate, term) = leader(&server).await;
        let set_holder = |holder: &str| {
            let mut lease = server.lease.lock().unwrap();
            let lease = lease.as_mut().unwrap();
            let version = server.revision.fetch_add(1, Ordering::SeqCst) + 1;
            lease["metadata"]["resourceVersion"] = json!(version.to_string());
            lease["spec"]["holderIdentity"] = json!(holder);
        };
        set_holder("other");
        candidate.hold(|| panic!("another replica leads")).await;
        set_holder("");
        server.loses_replies.store(true, Ordering::SeqCst);
        assert!(candidate.attempt(ATTEMPT).await.is_err(), "the reply was lost");
        assert!(!term.holds());
        server.loses_replies.store(false, Ordering::SeqCst);
        assert!(!candidate.acquire(|| panic!("the Lease names it")).await, "another replica has led");
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
    fn lease_is_owned_by_account_in_its_namespace() {
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
    async fn may_claim_free_and_own_lease() {
        let now = Instant::now();
        assert!(candidate().may_claim(&held_by("", 0), now));
        assert!(candidate().may_claim(&held_by("me", 0), now));
    }

    #[tokio::test]
    async fn may_claim_foreign_lease_after_its_duration() {
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
