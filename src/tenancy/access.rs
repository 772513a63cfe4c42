//! The operator's access to tenants' namespaces. It has no cluster-wide permission on Secrets. It binds itself, and
//! nobody else, to one fixed role in each namespace with the tenant label, or leaves that to an administrator.

mod binding;
mod system_namespace;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::Namespace,
        rbac::v1::{ClusterRole, RoleBinding, Subject as RoleSubject},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
    core::PartialObjectMeta,
    runtime::watcher::Event,
};
use registry_api::TENANT_LABEL;
use registry_probe::Backoff;
use registry_verdict::resolve::Obstacle;
use thiserror::Error;
use tokio::{sync::Semaphore, time::Instant};

pub use self::binding::{BINDING, TENANT_ROLE};
use self::system_namespace::is_system_namespace;
use crate::{
    kubernetes::{
        call::{CallError, CallFailure, call},
        self_subject,
    },
    settings::TenantAccess,
    tenancy::audience::TenantIndex,
};

/// The field manager for RoleBindings.
const FIELD_MANAGER: &str = "registry-operator-access";
/// A binding that was written longer ago than this has taken effect. If a request is refused anyway, the binding no
/// longer exists.
const EFFECTIVE: Duration = Duration::from_secs(1);
/// How often a request is retried that is refused although the binding was just written.
const RETRIES: u32 = 5;
/// How many RoleBindings are written at the same time.
const GRANTS: usize = 8;

/// Which namespace belongs to which tenant, and the operator's access to these namespaces.
pub struct Access {
    client: Client,
    identity: RoleSubject,
    how: TenantAccess,
    system_namespace: String,
    /// Limits concurrent writes, because a new tenant may have many namespaces.
    grants: Semaphore,
    namespaces: Mutex<Namespaces>,
    granted: Mutex<HashMap<Arc<str>, Arc<Granted>>>,
    /// Namespaces where someone else's RoleBinding has the name of the operator's, and the role that it binds.
    obstacles: Mutex<HashMap<Arc<str>, Obstacle>>,
}

/// When the binding of a namespace was last written. Locked while it is being written.
type Granted = tokio::sync::Mutex<Option<Instant>>;

#[derive(Default)]
struct Namespaces {
    /// The tenant of each labeled namespace.
    tenants: HashMap<Arc<str>, Arc<str>>,
    /// The same, without namespaces that are being deleted.
    open: TenantIndex,
}

impl Access {
    /// Asks the API server which user the operator is. `system_namespace` never belongs to a tenant.
    pub async fn new(client: Client, how: TenantAccess, system_namespace: &str) -> Result<Self, AccessError> {
        let user = call(self_subject::self_subject(&client)).await?;
        let identity = binding::role_subject(&user.username.unwrap_or_default());
        tracing::info!(
            kind = identity.kind,
            name = identity.name,
            namespace = identity.namespace,
            "running as"
        );
        Ok(Self {
            client,
            identity,
            how,
            system_namespace: system_namespace.to_owned(),
            grants: Semaphore::new(GRANTS),
            namespaces: Mutex::default(),
            granted: Mutex::default(),
            obstacles: Mutex::default(),
        })
    }

    /// The operator's account, as an option of `kubectl create rolebinding`.
    pub fn kubectl_option(&self) -> String {
        let RoleSubject { name, namespace, .. } = &self.identity;
        match namespace {
            Some(namespace) => format!("--serviceaccount={namespace}:{name}"),
            None => format!("--user={name}"),
        }
    }

    /// Returns the tenant of a namespace.
    pub fn tenant(&self, namespace: &str) -> Option<Arc<str>> {
        self.lock().tenants.get(namespace).cloned()
    }

    /// Returns the tenant of a namespace that is not being deleted.
    pub fn open_tenant(&self, namespace: &str) -> Option<Arc<str>> {
        self.lock().open.tenant(namespace).cloned()
    }

    /// Calls `look` with the index of the namespaces that are not being deleted.
    pub fn with_tenant_index<T>(&self, look: impl FnOnce(&TenantIndex) -> T) -> T {
        look(&self.lock().open)
    }

    /// Returns whether it is a system namespace, which can't belong to a tenant.
    pub fn is_system_namespace(&self, namespace: &str) -> bool {
        is_system_namespace(namespace, &self.system_namespace)
    }

    /// Records that a namespace has the tenant label. Returns whether that changes anything.
    pub fn labelled(&self, namespace: Arc<str>, tenant: Arc<str>) -> bool {
        let mut namespaces = self.lock();
        namespaces.open.insert(namespace.clone(), tenant.clone());
        namespaces.tenants.insert(namespace, tenant.clone()) != Some(tenant)
    }

    /// Records that a namespace with the tenant label is being deleted. It keeps its tenant until it is gone. Returns
    /// whether that changes anything.
    pub fn labelled_and_closing(&self, namespace: Arc<str>, tenant: Arc<str>) -> bool {
        self.lock().tenants.insert(namespace, tenant.clone()) != Some(tenant)
    }

    /// Records that a namespace no longer has the tenant label, or is gone. Returns whether that changes anything.
    pub fn unlabelled(&self, namespace: &str) -> bool {
        let mut namespaces = self.lock();
        namespaces.open.remove(namespace);
        self.forget_grant(namespace);
        self.set_obstacle(namespace, None);
        namespaces.tenants.remove(namespace).is_some()
    }

    /// Records that a namespace is being deleted. Returns whether that changes anything.
    pub fn closing(&self, namespace: &str) -> bool {
        let mut namespaces = self.lock();
        let known = namespaces.open.tenant(namespace).is_some();
        namespaces.open.remove(namespace);
        known
    }

    /// Returns the namespaces with the tenant label.
    pub fn namespaces(&self) -> Vec<Arc<str>> {
        self.lock().tenants.keys().cloned().collect()
    }

    /// Returns whether the operator creates its own binding in that namespace.
    pub fn is_ours_to_grant(&self, namespace: &str) -> bool {
        self.how == TenantAccess::Bound && self.open_tenant(namespace).is_some()
    }

    /// Returns someone else's RoleBinding that prevents the operator from binding itself in that namespace, if there is
    /// one.
    pub fn obstacle(&self, namespace: &str) -> Option<Obstacle> {
        self.obstacles.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).cloned()
    }

    /// Sets or removes an obstacle. Returns whether that changes anything.
    fn set_obstacle(&self, namespace: &str, obstacle: Option<Obstacle>) -> bool {
        let mut obstacles = self.obstacles.lock().unwrap_or_else(PoisonError::into_inner);
        match obstacle {
            Some(obstacle) => obstacles.insert(namespace.into(), obstacle.clone()) != Some(obstacle),
            None => obstacles.remove(namespace).is_some(),
        }
    }

    /// Returns whether the namespace has the tenant label. Asks the API server, because a watch may be behind.
    pub async fn is_labelled(&self, namespace: &str) -> Result<bool, AccessError> {
        if self.is_system_namespace(namespace) {
            return Ok(false);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = call(api.get_metadata_opt(namespace)).await?;
        let tenant = found.as_ref().and_then(|namespace| namespace.labels().get(TENANT_LABEL));
        Ok(tenant.is_some_and(|tenant| !tenant.is_empty()))
    }

    /// Creates or repairs the operator's RoleBinding in that namespace. Does nothing if it was written within the last
    /// second, because it may not have taken effect yet. Logs a failure; the registries that need the access report it
    /// too. Returns whether it is done and needs no retry.
    pub async fn grant(&self, namespace: &str) -> bool {
        if self.how == TenantAccess::Manual {
            return true;
        }
        let granted = self.granted_at(namespace);
        let mut granted = granted.lock().await;
        if granted.is_some_and(|at| at.elapsed() < EFFECTIVE) {
            return true;
        }
        match self.role().await {
            Ok(role) => self.write_binding(namespace, &role, &mut granted).await,
            Err(error) => {
                log_unbound(namespace, &error);
                false
            }
        }
    }

    /// The same, for a RoleBinding that isn't as it should be.
    async fn mend(&self, namespace: &str, role: &OwnerReference) -> bool {
        let granted = self.granted_at(namespace);
        let mut granted = granted.lock().await;
        self.write_binding(namespace, role, &mut granted).await
    }

    fn granted_at(&self, namespace: &str) -> Arc<Granted> {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.entry(namespace.into()).or_default().clone()
    }

    async fn write_binding(
        &self,
        namespace: &str,
        role: &OwnerReference,
        granted: &mut Option<Instant>,
    ) -> bool {
        let api: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        let (params, binding) =
            (PatchParams::apply(FIELD_MANAGER).force(), binding::binding(namespace, &self.identity, role));
        let _turn = self.grants.acquire().await;
        match call(api.patch(BINDING, &params, &Patch::Apply(binding))).await {
            Ok(_) => {
                *granted = Some(Instant::now());
                self.set_obstacle(namespace, None);
                true
            }
            Err(error) => match error.failure() {
                // The watch of namespaces sees the deletion.
                CallFailure::Gone | CallFailure::Terminating => true,
                // An admission policy may refuse the write before the API server does.
                CallFailure::Other | CallFailure::Forbidden => {
                    self.is_obstructed(&api, namespace, error).await
                }
                CallFailure::Conflict
                | CallFailure::Quota
                | CallFailure::Throttled
                | CallFailure::NoAnswer => {
                    log_unbound(namespace, &error.into());
                    false
                }
            },
        }
    }

    /// Returns whether the write failed because someone else's RoleBinding has the name. The role of a RoleBinding
    /// can't be changed.
    async fn is_obstructed(&self, api: &Api<RoleBinding>, namespace: &str, error: CallError) -> bool {
        let found = call(api.get_opt(BINDING)).await.ok().flatten();
        let obstacle = found.as_ref().and_then(binding::obstacle);
        if self.set_obstacle(namespace, obstacle.clone())
            && let Some(Obstacle { kind, name }) = &obstacle
        {
            tracing::warn!(
                namespace,
                "RoleBinding {BINDING} refers to {kind} {name}, so the operator can't bind itself; its owner \
                 can delete it"
            );
        }
        if obstacle.is_none() {
            log_unbound(namespace, &error.into());
        }
        obstacle.is_some() // the watch of role bindings sees when it goes
    }

    /// Reads the role as it is now, never from a cache: if the role was deleted and created again, the garbage
    /// collector deletes the bindings that belong to the old one.
    async fn role(&self) -> Result<OwnerReference, AccessError> {
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let role = call(api.get_metadata_opt(TENANT_ROLE)).await?.ok_or(AccessError::NoRole)?;
        Ok(binding::owner(&role))
    }

    /// Makes a request in a namespace, and retries it while the API server refuses it although the binding was just written.
    pub async fn when_effective<T, E, F>(
        &self,
        namespace: &str,
        is_refused: impl Fn(&E) -> bool,
        attempt: impl Fn() -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        for tries in 1..=RETRIES {
            match attempt().await {
                Err(error) if is_refused(&error) && self.is_ours_to_grant(namespace) => {
                    self.grant(namespace).await;
                    tokio::time::sleep(Backoff::BINDING_EFFECTIVE.after(tries)).await;
                }
                answer => return answer,
            }
        }
        attempt().await
    }

    /// Removes the operator's RoleBinding from a namespace that no longer belongs to a tenant. Before that, what the
    /// operator created there must be removed, because that needs the binding.
    pub async fn revoke(&self, namespace: &str) -> Result<(), AccessError> {
        if self.how == TenantAccess::Manual {
            return Ok(());
        }
        let granted = self.granted_at(namespace);
        let mut granted = granted.lock().await; // no concurrent grant until it is gone
        *granted = None;
        let revoked = self.delete_binding(namespace).await;
        if self.tenant(namespace).is_none() {
            self.forget_grant(namespace);
        }
        revoked
    }

    async fn delete_binding(&self, namespace: &str) -> Result<(), AccessError> {
        let api: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        let Some(binding) = call(api.get_opt(BINDING)).await?.filter(binding::is_ours) else {
            return Ok(());
        };
        let preconditions = Some(Preconditions { uid: binding.metadata.uid, resource_version: None });
        match call(api.delete(BINDING, &DeleteParams { preconditions, ..DeleteParams::default() })).await {
            Err(error) if error.failure() != CallFailure::Gone => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn forget_grant(&self, namespace: &str) {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
    }

    /// The role that the operator binds itself to, for a watch: when it is created again, so are its bindings.
    pub fn tenant_role(&self) -> (Api<PartialObjectMeta<ClusterRole>>, String) {
        (Api::all(self.client.clone()), format!("metadata.name={TENANT_ROLE}"))
    }

    /// The operator's RoleBindings, for a watch; `None` if an administrator manages them.
    pub fn bindings(&self) -> Option<(Api<RoleBinding>, String)> {
        let all = Api::all(self.client.clone());
        (self.how == TenantAccess::Bound).then(|| (all, format!("metadata.name={BINDING}")))
    }

    /// Returns whether the event may require [`Access::settle`].
    pub fn is_unsettled_by(&self, event: &Event<RoleBinding>) -> bool {
        let there = |binding: &RoleBinding| {
            binding
                .metadata
                .namespace
                .as_deref()
                .is_some_and(|namespace| self.open_tenant(namespace).is_some())
        };
        match event {
            Event::Init | Event::InitApply(_) => false,
            Event::InitDone => true,
            Event::Apply(binding) => there(binding) && !binding::is_whole(binding, &self.identity, None),
            Event::Delete(binding) => there(binding),
        }
    }

    /// Writes the operator's RoleBinding wherever it is missing or not as it should be.
    pub async fn settle(&self) -> Result<Settled, AccessError> {
        let Some((api, named)) = self.bindings() else { return Ok(Settled::default()) };
        let role = self.role().await?;
        let bindings = call(api.list(&ListParams::default().fields(&named))).await?.items;
        let bound: HashMap<&str, &RoleBinding> = bindings
            .iter()
            .filter_map(|binding| Some((binding.metadata.namespace.as_deref()?, binding)))
            .collect();
        let is_whole = |binding: &&RoleBinding| binding::is_whole(binding, &self.identity, Some(&role));
        let mut unbound = false;
        for namespace in self.namespaces() {
            if self.open_tenant(&namespace).is_some() && !bound.get(&*namespace).is_some_and(is_whole) {
                unbound |= !self.mend(&namespace, &role).await;
            }
        }
        let ours =
            bound.iter().filter(|(_, binding)| binding::is_ours(binding)).map(|(namespace, _)| *namespace);
        let left = ours.filter(|namespace| self.tenant(namespace).is_none()).map(Into::into).collect();
        Ok(Settled { left, unbound })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Namespaces> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_unbound(namespace: &str, error: &AccessError) {
    tracing::warn!(namespace, %error, "failed to create the RoleBinding of the operator, retrying");
}

/// The result of [`Access::settle`].
#[derive(Debug, Default)]
pub struct Settled {
    /// Namespaces where the operator is still bound, and should not be any more.
    pub left: Vec<Arc<str>>,
    /// Whether a binding could not be written and needs a retry.
    pub unbound: bool,
}

/// Why a request to the API server failed.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The API server refused it, or didn't answer.
    #[error(transparent)]
    Api(#[from] CallError),
    /// The chart's ClusterRole doesn't exist.
    #[error("ClusterRole {TENANT_ROLE} not found; reinstall the chart")]
    NoRole,
}
