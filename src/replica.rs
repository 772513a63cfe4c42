//! The life cycle of one replica: standby, leader, and standby again when it loses the Lease. Owns what outlives a
//! leadership term.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use registry_probe::{Backoff, Prober};
use registry_verdict::{
    cluster_addresses::ClusterAddresses, ecr::EcrTokens, rejections::FinishingValidations,
    validate::AdminPolicy,
};
use tokio_util::sync::CancellationToken;

use crate::{
    controller::{
        self,
        context::Context,
        events::Events,
        quota::Quota,
        references::References,
        rejection_store::{KeptRejections, RejectionStore},
    },
    kubernetes::{guard::Guard, lease::Candidate, store, watches::WatchPool},
    observability::{metrics::Metrics, server::Health},
    pull_secrets::PullSecrets,
    settings::Settings,
    tenancy::{
        access::{Access, AccessError},
        cluster_addresses,
    },
};

/// One replica, with everything that outlives a leadership term.
pub struct Replica {
    /// The client for the API server. It refuses writes unless this replica is the leader.
    pub client: Client,
    /// The same, but its requests don't count in the metrics.
    pub uncounted: Client,
    /// The pool of watches.
    pub watches: Arc<WatchPool>,
    /// Sends the requests to registries.
    pub prober: Prober,
    /// The cache of AWS tokens. It stays valid when the leader changes.
    pub tokens: Option<Arc<EcrTokens>>,
    /// The name of this replica in the Lease.
    pub identity: String,
    /// The cluster's own addresses.
    pub cluster_addresses: ClusterAddresses,
    /// The settings from the command line.
    pub settings: Settings,
    /// The metrics for Prometheus.
    pub metrics: Metrics,
    /// The health for the kubelet.
    pub health: Arc<Health>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// Returns a random number from 0 to 1.
    pub jitter: fn() -> f64,
}

/// The maximum time to release the Lease. If it isn't released by then, it expires by itself.
const RELEASE: Duration = Duration::from_secs(2);

impl Replica {
    fn guard(&self) -> Guard {
        let Settings { system_namespace, tenant_access, .. } = &self.settings;
        let whose = (system_namespace.clone(), *tenant_access);
        Guard::new(self.uncounted.clone(), whose, self.metrics.clone(), self.health.clone())
    }

    /// Waits as a standby until this replica is the leader, works until it loses the Lease, and starts over. Returns
    /// when `stop` is cancelled.
    pub async fn stand_and_lead(&self, mut candidate: Candidate, stop: CancellationToken) {
        let mut rejections = None;
        loop {
            self.metrics.leading(false);
            self.guard().forget();
            self.health.stand_by();
            let acquired = candidate.acquire(|| self.health.answered());
            let Some(goes_on) = stop.run_until_cancelled(acquired).await else { return };
            // Another leader may know better.
            rejections = rejections.filter(|_| goes_on);
            tracing::info!(identity = self.identity, "leading");
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    let _ = tokio::time::timeout(RELEASE, candidate.release()).await;
                    return;
                }
                () = candidate.hold(|| self.health.answered()) => {}
                () = self.work(&mut rejections) => {}
            }
        }
    }

    /// Works without leader election.
    pub async fn work_on(&self) {
        let mut rejections = None;
        loop {
            self.metrics.leading(false);
            self.work(&mut rejections).await;
        }
    }

    /// Works until dropped, or until the API server's store was set back. Everything that it starts and learns ends
    /// with it, but for the rejections: the last ones may not be stored yet.
    async fn work(&self, kept: &mut Option<KeptRejections>) {
        self.metrics.leading(true);
        self.health.begin_syncing();
        let access = Arc::new(self.access().await);
        let (system_namespace, metrics) = (&self.settings.system_namespace, &self.metrics);
        Box::pin(cluster_addresses::learn(&self.cluster_addresses, &self.client, system_namespace, metrics))
            .await;
        let (pull_secrets, delivery) = PullSecrets::start(
            self.client.clone(),
            self.watches.clone(),
            access.clone(),
            self.metrics.clone(),
        );
        let store = RejectionStore::new(self.client.clone(), &self.settings.system_namespace);
        let rejections = match kept {
            Some(known) => &*known,
            None => match store.load(self.clock).await {
                Ok(loaded) => &*kept.insert(loaded),
                Err(error) => {
                    return tracing::error!(%error, "failed to create the key for rejected credentials: no random \
                        numbers");
                }
            },
        };
        let (events, writing) = Events::start(self.client.clone(), self.identity.clone());
        let most = usize::try_from(self.settings.tenant_max_registries).unwrap_or(usize::MAX);
        let context = Arc::new(Context {
            client: self.client.clone(),
            watches: self.watches.clone(),
            system_namespace: self.settings.system_namespace.clone(),
            admin_policy: self.admin_policy(),
            references: Arc::new(References::new(self.client.clone(), access.clone())),
            access,
            pull_secrets,
            prober: self.prober.clone(),
            tokens: self.tokens.clone(),
            rejections: rejections.rejections.clone(),
            finishing: FinishingValidations::default(),
            quota: Mutex::new(Quota::new(most)),
            events,
            metrics: self.metrics.clone(),
            clock: self.clock,
            jitter: self.jitter,
        });
        let guard = self.guard();
        tokio::select! {
            biased;
            () = guard.keep_checking() => {}
            () = controller::run(context, self.settings.concurrency.into(), self.health.clone(), delivery) => {}
            () = writing => {}
            () = store.keep(rejections) => {}
            () = Box::pin(cluster_addresses::keep_learning(&self.cluster_addresses, &self.client, system_namespace, metrics)) => {}
            () = store::set_back(&self.client, &self.watches) => {}
            () = Box::pin(self.health.keep_asking(&self.client)), if !self.settings.leader_election => {}
        }
    }

    fn admin_policy(&self) -> AdminPolicy {
        AdminPolicy {
            egress_allow: self.settings.egress_allow.clone().into(),
            egress_deny: self.settings.egress_deny.clone().into(),
            cluster_addresses: self.cluster_addresses.clone(),
            trusted_token_services: self.settings.trusted_token_service.clone().into(),
        }
    }

    async fn ask_for_access(&self) -> Result<Access, AccessError> {
        let Settings { tenant_access, system_namespace, .. } = &self.settings;
        Access::new(self.client.clone(), *tenant_access, system_namespace).await
    }

    /// Returns the operator's access to tenants' namespaces. Retries until the API server says which user the operator
    /// is.
    async fn access(&self) -> Access {
        let mut failures = 0;
        loop {
            match self.ask_for_access().await {
                Ok(access) => return access,
                Err(error) => tracing::warn!(%error, "SelfSubjectReview failed, retrying"),
            }
            failures += 1;
            tokio::time::sleep(Backoff::API_CALL.after(failures)).await;
        }
    }
}
