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
    runtime::watcher::Event,
};
use registry_api::TENANT_LABEL;
use thiserror::Error;
use tokio::{sync::Semaphore, time::Instant};

use self::{
    binding::{BINDING, TENANT_ROLE},
    system_namespace::is_system_namespace,
};
use crate::{availability::audience::Census, settings::TenantAccess, whoami};

/// The field manager of what the operator owns besides registries.
const FIELD_MANAGER: &str = "registry-operator-access";
const ANSWER: Duration = Duration::from_secs(10);
/// A binding that was written so long ago has taken effect; if it has none, it is there no longer.
const EFFECTIVE: Duration = Duration::from_secs(1);
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
}

/// When the binding of a namespace was last written, held while it is being written.
type Granted = tokio::sync::Mutex<Option<Instant>>;

#[derive(Default)]
struct Namespaces {
    /// Whose each labelled namespace is.
    tenants: HashMap<Arc<str>, Arc<str>>,
    /// The same, without those that are being deleted.
    open: Census,
}

impl Access {
    /// Asks the API server who the operator is. No label makes its own namespace a tenant's.
    pub async fn new(client: Client, how: TenantAccess, system_namespace: &str) -> Result<Self, AccessError> {
        let user = answered(whoami::ask(&client)).await?;
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
    pub fn with_census<T>(&self, look: impl FnOnce(&Census) -> T) -> T {
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

    /// A namespace carries the tenant label no longer, or is gone.
    pub fn unlabelled(&self, namespace: &str) -> bool {
        let mut namespaces = self.lock();
        namespaces.open.remove(namespace);
        self.forget_grant(namespace);
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

    /// Whether the operator's access to that namespace comes from a binding of its own making.
    pub fn is_ours_to_grant(&self, namespace: &str) -> bool {
        self.how == TenantAccess::Bound && self.tenant(namespace).is_some()
    }

    /// Whether that namespace carries the tenant label by the API server's own word: a watch may be behind.
    pub async fn is_labelled(&self, namespace: &str) -> Result<bool, AccessError> {
        if self.is_system_namespace(namespace) {
            return Ok(false);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = answered(api.get_metadata_opt(namespace)).await?;
        let tenant = found.as_ref().and_then(|namespace| namespace.labels().get(TENANT_LABEL));
        Ok(tenant.is_some_and(|tenant| !tenant.is_empty()))
    }

    /// Makes or mends the operator's role binding in that namespace. A failure is logged: what it prevents shows in
    /// the registries that need it. Where it was just written, it only has yet to take effect.
    pub async fn grant(&self, namespace: &str) {
        if self.how == TenantAccess::Manual {
            return;
        }
        let granted = self.granted_at(namespace);
        let mut granted = granted.lock().await;
        if granted.is_some_and(|at| at.elapsed() < EFFECTIVE) {
            return;
        }
        match self.role().await {
            Ok(role) => self.write_binding(namespace, &role, &mut granted).await,
            Err(error) => complain(namespace, &error),
        }
    }

    /// The same, where the binding was just seen not to be as it should.
    async fn mend(&self, namespace: &str, role: &OwnerReference) {
        let granted = self.granted_at(namespace);
        self.write_binding(namespace, role, &mut *granted.lock().await).await;
    }

    fn granted_at(&self, namespace: &str) -> Arc<Granted> {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.entry(namespace.into()).or_default().clone()
    }

    async fn write_binding(&self, namespace: &str, role: &OwnerReference, granted: &mut Option<Instant>) {
        let api: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        let (params, binding) =
            (PatchParams::apply(FIELD_MANAGER).force(), binding::binding(namespace, &self.identity, role));
        let _turn = self.grants.acquire().await;
        match answered(api.patch(BINDING, &params, &Patch::Apply(binding))).await {
            Ok(_) => *granted = Some(Instant::now()),
            Err(error) => complain(namespace, &error),
        }
    }

    /// The role as it is now. Never from memory: a binding that belongs to a role that was deleted, and perhaps made anew, is
    /// deleted in its turn.
    async fn role(&self) -> Result<OwnerReference, AccessError> {
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let role = answered(api.get_metadata_opt(TENANT_ROLE)).await?.ok_or(AccessError::NoRole)?;
        Ok(binding::owner(&role))
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
        let Some(binding) = answered(api.get_opt(BINDING)).await?.filter(binding::is_ours) else {
            return Ok(());
        };
        let preconditions = Some(Preconditions { uid: binding.metadata.uid, resource_version: None });
        answered(api.delete(BINDING, &DeleteParams { preconditions, ..DeleteParams::default() })).await?;
        Ok(())
    }

    fn forget_grant(&self, namespace: &str) {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
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

    /// Binds the operator wherever it should be and is not, or not as it should be; returns the namespaces in which it still
    /// is and should not be.
    pub async fn settle(&self) -> Result<Vec<Arc<str>>, AccessError> {
        let Some((api, named)) = self.bindings() else { return Ok(Vec::new()) };
        let role = self.role().await?;
        let bindings = answered(api.list(&ListParams::default().fields(&named))).await?.items;
        let bound: HashMap<&str, &RoleBinding> = bindings
            .iter()
            .filter_map(|binding| Some((binding.metadata.namespace.as_deref()?, binding)))
            .collect();
        let is_whole = |binding: &&RoleBinding| binding::is_whole(binding, &self.identity, Some(&role));
        for namespace in self.namespaces() {
            if self.open_tenant(&namespace).is_some() && !bound.get(&*namespace).is_some_and(is_whole) {
                self.mend(&namespace, &role).await;
            }
        }
        let ours =
            bound.iter().filter(|(_, binding)| binding::is_ours(binding)).map(|(namespace, _)| *namespace);
        Ok(ours.filter(|namespace| self.tenant(namespace).is_none()).map(Into::into).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Namespaces> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn complain(namespace: &str, error: &AccessError) {
    tracing::warn!(namespace, %error, "could not bind the operator to its role in a tenant namespace");
}

/// Why the API server's answer could not be had.
#[derive(Debug, Error)]
pub enum AccessError {
    /// It refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The chart's role is gone.
    #[error("there is no ClusterRole {TENANT_ROLE}: install the chart again")]
    NoRole,
    /// It did not answer in time.
    #[error("the API server did not answer in {ANSWER:?}")]
    NoAnswer,
}

/// Waits for an answer, but not for ever: a connection may have died in silence.
async fn answered<T>(answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, AccessError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(AccessError::NoAnswer),
    }
}
