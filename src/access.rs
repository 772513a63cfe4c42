//! The operator's access to tenant namespaces: it holds no cluster-wide right on Secrets, and binds itself, and nobody
//! else, to one fixed role in each namespace that carries the tenant label; or leaves that to an administrator.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    core::v1::Namespace,
    rbac::v1::{RoleBinding, RoleRef, Subject as RoleSubject},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use registry_api::{MANAGED_BY_LABEL, OPERATOR, TENANT_LABEL};
use thiserror::Error;
use tokio::{sync::Semaphore, time::Instant};

use crate::{availability::audience::Census, settings::TenantAccess};

/// The role that the operator binds itself to; the chart renders it.
const TENANT_ROLE: &str = "registry-operator-tenant";
/// The role binding's name in each tenant namespace.
const BINDING: &str = "registry-operator";
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
    /// Asks the API server who the operator is.
    pub async fn new(client: Client, how: TenantAccess) -> Result<Self, AccessError> {
        let review: Api<SelfSubjectReview> = Api::all(client.clone());
        let answer = answered(review.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
        let user = answer.status.and_then(|status| status.user_info).and_then(|user| user.username);
        let identity = role_subject(&user.unwrap_or_default());
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
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
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
        if granted.is_none_or(|at| at.elapsed() >= EFFECTIVE) && self.write_binding(namespace).await {
            *granted = Some(Instant::now());
        }
    }

    fn granted_at(&self, namespace: &str) -> Arc<Granted> {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.entry(namespace.into()).or_default().clone()
    }

    async fn write_binding(&self, namespace: &str) -> bool {
        let api: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let _turn = self.grants.acquire().await;
        if let Err(error) =
            answered(api.patch(BINDING, &params, &Patch::Apply(self.binding(namespace)))).await
        {
            tracing::warn!(namespace, %error, "could not bind the operator to its role in a tenant namespace");
            return false;
        }
        true
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
        let api: Api<RoleBinding> = Api::namespaced(self.client.clone(), namespace);
        let Some(binding) = answered(api.get_opt(BINDING)).await?.filter(is_ours) else { return Ok(()) };
        let preconditions = Some(Preconditions { uid: binding.metadata.uid, resource_version: None });
        answered(api.delete(BINDING, &DeleteParams { preconditions, ..DeleteParams::default() })).await?;
        Ok(())
    }

    /// Binds the operator wherever it should be, by what changed while nobody watched; returns the namespaces in which it
    /// still is and should not be.
    pub async fn settle(&self) -> Vec<Arc<str>> {
        if self.how == TenantAccess::Manual {
            return Vec::new();
        }
        let api: Api<RoleBinding> = Api::all(self.client.clone());
        let ours = ListParams::default().fields(&format!("metadata.name={BINDING}"));
        let bindings = match answered(api.list(&ours)).await {
            Ok(bindings) => bindings.items,
            Err(error) => {
                tracing::warn!(%error, "could not look for the operator's role bindings");
                return Vec::new();
            }
        };
        let bound: HashMap<&str, &RoleBinding> = bindings
            .iter()
            .filter_map(|binding| Some((binding.metadata.namespace.as_deref()?, binding)))
            .collect();
        for namespace in self.namespaces() {
            if !bound.get(&*namespace).is_some_and(|binding| self.is_complete(binding)) {
                self.grant(&namespace).await;
            }
        }
        let ours = bound.iter().filter(|(_, binding)| is_ours(binding)).map(|(namespace, _)| *namespace);
        ours.filter(|namespace| self.tenant(namespace).is_none()).map(Into::into).collect()
    }

    fn is_complete(&self, binding: &RoleBinding) -> bool {
        is_ours(binding) && binding.subjects.as_deref() == Some(std::slice::from_ref(&self.identity))
    }

    fn binding(&self, namespace: &str) -> RoleBinding {
        let labels = [(MANAGED_BY_LABEL, OPERATOR), ("app.kubernetes.io/name", OPERATOR)];
        RoleBinding {
            metadata: ObjectMeta {
                name: Some(BINDING.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "ClusterRole".to_owned(),
                name: TENANT_ROLE.to_owned(),
            },
            subjects: Some(vec![self.identity.clone()]),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Namespaces> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the API server's answer could not be had.
#[derive(Debug, Error)]
pub enum AccessError {
    /// It refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] kube::Error),
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

fn is_ours(binding: &RoleBinding) -> bool {
    let labels = binding.metadata.labels.as_ref();
    binding.role_ref.name == TENANT_ROLE
        && labels.and_then(|labels| labels.get(MANAGED_BY_LABEL)).is_some_and(|by| by == OPERATOR)
}

/// How RBAC names a user: a service account by its namespace and name.
fn role_subject(user: &str) -> RoleSubject {
    let account = user.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
    match account {
        Some((namespace, name)) => RoleSubject {
            kind: "ServiceAccount".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
            api_group: None,
        },
        None => RoleSubject {
            kind: "User".to_owned(),
            namespace: None,
            name: user.to_owned(),
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_bound_as_one_and_anyone_else_as_a_user() {
        let account = role_subject("system:serviceaccount:registry-system:registry-operator");
        assert_eq!((account.kind.as_str(), account.name.as_str()), ("ServiceAccount", "registry-operator"));
        assert_eq!(account.namespace.as_deref(), Some("registry-system"));
        assert_eq!(role_subject("jane").kind, "User");
    }
}
