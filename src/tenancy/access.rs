//! The operator's access to tenant namespaces: it holds no cluster-wide right on Secrets, and binds itself, and nobody
//! else, to one fixed role in each namespace that carries the tenant label; or leaves that to an administrator.

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
use registry_verdict::{backoff::Backoff, resolve::Obstacle};
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

/// The field manager of what the operator owns besides registries.
const FIELD_MANAGER: &str = "registry-operator-access";
/// A binding that was written so long ago has taken effect; if it has none, it is there no longer.
const EFFECTIVE: Duration = Duration::from_secs(1);
/// How often a call is tried again while the operator's access to its namespace may only be on its way.
const RETRIES: u32 = 5;
/// Role bindings that are written at the same time.
const GRANTS: usize = 8;

/// Which namespaces are whose tenant, and the operator's access to them.
pub struct Access {
    client: Client,
    identity: RoleSubject,
    how: TenantAccess,
    system_namespace: String,
    /// A new tenant may have many namespaces; the API server gets them in turn.
    grants: Semaphore,
    namespaces: Mutex<Namespaces>,
    granted: Mutex<HashMap<Arc<str>, Arc<Granted>>>,
    /// Namespaces in which somebody else's role binding has the name of the operator's, and to what it binds.
    obstacles: Mutex<HashMap<Arc<str>, Obstacle>>,
}

/// When the binding of a namespace was last written, held while it is being written.
type Granted = tokio::sync::Mutex<Option<Instant>>;

#[derive(Default)]
struct Namespaces {
    /// Whose each labelled namespace is.
    tenants: HashMap<Arc<str>, Arc<str>>,
    /// The same, without those that are being deleted.
    open: TenantIndex,
}

impl Access {
    /// Asks the API server who the operator is. No label makes its own namespace a tenant's.
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

    /// The operator, as an option of `kubectl create rolebinding`.
    pub fn kubectl_option(&self) -> String {
        let RoleSubject { name, namespace, .. } = &self.identity;
        match namespace {
            Some(namespace) => format!("--serviceaccount={namespace}:{name}"),
            None => format!("--user={name}"),
        }
    }

    /// The tenant whose namespace this is.
    pub fn tenant(&self, namespace: &str) -> Option<Arc<str>> {
        self.lock().tenants.get(namespace).cloned()
    }

    /// The same, of a namespace that is not being deleted.
    pub fn open_tenant(&self, namespace: &str) -> Option<Arc<str>> {
        self.lock().open.tenant(namespace).cloned()
    }

    /// Looks at which namespaces that are not being deleted are whose.
    pub fn with_tenant_index<T>(&self, look: impl FnOnce(&TenantIndex) -> T) -> T {
        look(&self.lock().open)
    }

    /// Whether that namespace is one of the system's, which no label makes a tenant's.
    pub fn is_system_namespace(&self, namespace: &str) -> bool {
        is_system_namespace(namespace, &self.system_namespace)
    }

    /// A namespace carries the tenant label. Returns whether that is news.
    pub fn labelled(&self, namespace: Arc<str>, tenant: Arc<str>) -> bool {
        let mut namespaces = self.lock();
        namespaces.open.insert(namespace.clone(), tenant.clone());
        namespaces.tenants.insert(namespace, tenant.clone()) != Some(tenant)
    }

    /// A namespace that carries the tenant label is being deleted, and may not have been seen before. Returns whether that is
    /// news: whose it is stays so until it is gone.
    pub fn labelled_and_closing(&self, namespace: Arc<str>, tenant: Arc<str>) -> bool {
        self.lock().tenants.insert(namespace, tenant.clone()) != Some(tenant)
    }

    /// A namespace carries the tenant label no longer, or is gone.
    pub fn unlabelled(&self, namespace: &str) -> bool {
        let mut namespaces = self.lock();
        namespaces.open.remove(namespace);
        self.forget_grant(namespace);
        self.set_obstacle(namespace, None);
        namespaces.tenants.remove(namespace).is_some()
    }

    /// A namespace is being deleted. Returns whether that is news.
    pub fn closing(&self, namespace: &str) -> bool {
        let mut namespaces = self.lock();
        let known = namespaces.open.tenant(namespace).is_some();
        namespaces.open.remove(namespace);
        known
    }

    /// The namespaces that carry the tenant label.
    pub fn namespaces(&self) -> Vec<Arc<str>> {
        self.lock().tenants.keys().cloned().collect()
    }

    /// Whether the operator's access to that namespace comes from a binding of its own making, and one can be made there.
    pub fn is_ours_to_grant(&self, namespace: &str) -> bool {
        self.how == TenantAccess::Bound && self.open_tenant(namespace).is_some()
    }

    /// What keeps the operator from binding itself in that namespace, if somebody else's role binding does.
    pub fn obstacle(&self, namespace: &str) -> Option<Obstacle> {
        self.obstacles.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).cloned()
    }

    /// Sets or removes an obstacle. Returns whether that is news.
    fn set_obstacle(&self, namespace: &str, obstacle: Option<Obstacle>) -> bool {
        let mut obstacles = self.obstacles.lock().unwrap_or_else(PoisonError::into_inner);
        match obstacle {
            Some(obstacle) => obstacles.insert(namespace.into(), obstacle.clone()) != Some(obstacle),
            None => obstacles.remove(namespace).is_some(),
        }
    }

    /// Whether that namespace carries the tenant label by the API server's own word: a watch may be behind.
    pub async fn is_labelled(&self, namespace: &str) -> Result<bool, AccessError> {
        if self.is_system_namespace(namespace) {
            return Ok(false);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = call(api.get_metadata_opt(namespace)).await?;
        let tenant = found.as_ref().and_then(|namespace| namespace.labels().get(TENANT_LABEL));
        Ok(tenant.is_some_and(|tenant| !tenant.is_empty()))
    }

    /// Makes or mends the operator's role binding in that namespace. A failure is logged: what it prevents shows in
    /// the registries that need it. Where it was just written, it only has yet to take effect. Returns whether nothing is left
    /// to be tried again.
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

    /// The same, where the binding was just seen not to be as it should.
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
                // The watch of namespaces sees its end.
                CallFailure::Gone | CallFailure::Terminating => true,
                // A policy may refuse it before the API server does.
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

    /// Whether a binding could not be written because somebody else's is in the way: to what one binds can't be changed.
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

    /// The role as it is now. Never from memory: a binding that belongs to a role that was deleted, and perhaps made anew, is
    /// deleted in its turn.
    async fn role(&self) -> Result<OwnerReference, AccessError> {
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let role = call(api.get_metadata_opt(TENANT_ROLE)).await?.ok_or(AccessError::NoRole)?;
        Ok(binding::owner(&role))
    }

    /// Makes a call in a namespace; again while the API server refuses it and the operator's access may only be on its way.
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

    /// Removes the operator's own role binding from a namespace that is no tenant's any more. What the operator has put
    /// there is removed first, by that very binding.
    pub async fn revoke(&self, namespace: &str) -> Result<(), AccessError> {
        if self.how == TenantAccess::Manual {
            return Ok(());
        }
        let granted = self.granted_at(namespace);
        let mut granted = granted.lock().await; // until it is gone: nobody grants meanwhile
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

    /// The role that the operator binds itself to, for a watch of it: when it comes again, so must its bindings.
    pub fn tenant_role(&self) -> (Api<PartialObjectMeta<ClusterRole>>, String) {
        (Api::all(self.client.clone()), format!("metadata.name={TENANT_ROLE}"))
    }

    /// The operator's role bindings are kept by itself; these are they.
    pub fn bindings(&self) -> Option<(Api<RoleBinding>, String)> {
        let all = Api::all(self.client.clone());
        (self.how == TenantAccess::Bound).then(|| (all, format!("metadata.name={BINDING}")))
    }

    /// Whether [`Access::settle`] may have something to do after this.
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

    /// Binds the operator wherever it should be and is not, or not as it should be.
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

/// What came of an attempt to have all role bindings as they should be.
#[derive(Debug, Default)]
pub struct Settled {
    /// Namespaces in which the operator is bound, and should not be any more.
    pub left: Vec<Arc<str>>,
    /// Whether a binding could not be written, and is to be tried again.
    pub unbound: bool,
}

/// Why the API server's answer could not be had.
#[derive(Debug, Error)]
pub enum AccessError {
    /// It refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] CallError),
    /// The chart's role is gone.
    #[error("ClusterRole {TENANT_ROLE} not found; reinstall the chart")]
    NoRole,
}
