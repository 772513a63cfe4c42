//! One running operator: stands by, leads, and begins anew when its term ends. Owns what outlives a term.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use registry_probe::{Backoff, Prober};
use registry_verdict::{cluster_addresses::ClusterAddresses, ecr::EcrTokens, validate::AdminPolicy};
use tokio_util::sync::CancellationToken;

use crate::{
    controller::{
        self, events::Events, quota::Quota, reconcile::Context, references::References,
        rejection_store::RejectionStore,
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

/// One running program: what outlives a term of leadership.
pub struct Replica {
    /// The API server; writes are held to the term of leadership.
    pub client: Client,
    /// The same, of which the metrics say nothing.
    pub uncounted: Client,
    /// Its watches.
    pub watches: Arc<WatchPool>,
    /// Asks the registries.
    pub prober: Prober,
    /// What AWS gave, which stays good through a change of leaders.
    pub tokens: Option<Arc<EcrTokens>>,
    /// Which replica this is, in the Lease.
    pub identity: String,
    /// The cluster's own addresses.
    pub cluster_addresses: ClusterAddresses,
    /// The command line.
    pub settings: Settings,
    /// What Prometheus sees.
    pub metrics: Metrics,
    /// What the kubelet sees.
    pub health: Arc<Health>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// A random number from 0 to 1.
    pub jitter: fn() -> f64,
}

/// A lease that can't be given back in this time ends by itself.
const RELEASE: Duration = Duration::from_secs(2);

impl Replica {
    fn guard(&self) -> Guard {
        let Settings { system_namespace, tenant_access, .. } = &self.settings;
        let whose = (system_namespace.clone(), *tenant_access);
        Guard::new(self.uncounted.clone(), whose, self.metrics.clone(), self.health.clone())
    }

    /// Stands by until this replica is the leader, works while it is, and begins anew when it is no longer.
    pub async fn stand_and_lead(&self, mut candidate: Candidate, stop: CancellationToken) {
        loop {
            self.metrics.leading(false);
            self.guard().forget();
            self.health.stand_by();
            let acquired = candidate.acquire(|| self.health.answered());
            if stop.run_until_cancelled(acquired).await.is_none() {
                return;
            }
            tracing::info!(identity = self.identity, "leading");
            tokio::select! {
                () = candidate.hold(|| self.health.answered()) => {}
                () = self.work() => {}
                () = stop.cancelled() => {
                    let _ = tokio::time::timeout(RELEASE, candidate.release()).await;
                    return;
                }
            }
        }
    }

    /// Works without an election.
    pub async fn work_on(&self) {
        loop {
            self.metrics.leading(false);
            self.work().await;
        }
    }

    /// Works until dropped, or until the API server's store was set back; nothing that it started, and nothing that it
    /// knew, outlives it.
    async fn work(&self) {
        self.metrics.leading(true);
        self.health.begin_syncing();
        let access = Arc::new(self.access().await);
        let (system_namespace, metrics) = (&self.settings.system_namespace, &self.metrics);
        Box::pin(cluster_addresses::learn(&self.cluster_addresses, &self.client, system_namespace, metrics))
            .await;
        let (availability, delivery) = PullSecrets::start(
            self.client.clone(),
            self.watches.clone(),
            access.clone(),
            self.metrics.clone(),
        );
        let store = RejectionStore::new(self.client.clone(), &self.settings.system_namespace);
        let rejections = match store.load(self.clock).await {
            Ok(rejections) => rejections,
            Err(error) => {
                return tracing::error!(%error, "failed to create the key for rejected credentials: no random \
                    numbers");
            }
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
            availability,
            prober: self.prober.clone(),
            tokens: self.tokens.clone(),
            rejections: rejections.clone(),
            quota: Mutex::new(Quota::new(most)),
            events,
            metrics: self.metrics.clone(),
            clock: self.clock,
            jitter: self.jitter,
        });
        let guard = self.guard();
        tokio::select! {
            () = guard.keep_checking() => {}
            () = controller::run(context, self.settings.concurrency.into(), self.health.clone(), delivery) => {}
            () = writing => {}
            () = store.keep(&rejections) => {}
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

    /// Who the operator is; asked until the API server answers.
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
