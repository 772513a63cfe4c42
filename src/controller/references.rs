//! The Secrets and ConfigMaps that registries refer to: read on demand, and cached while a watch shows that they are current.
//!
//! Only the contents of *referenced* objects are cached, in memory only, and dropped as soon as a watch shows a change. The watches
//! receive only metadata, so that the operator holds no Secret that no registry refers to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use registry_verdict::resolve::{
    Objects, ObservedReference, ReadError, Reference, ReferenceContent, ReferenceKind, WatchScope,
};

use crate::{
    kubernetes::call::{CallError, CallFailure, call},
    tenancy::access::Access,
};

/// Bytes of contents that are cached of the Secrets, or of the ConfigMaps, in one namespace. The rest is read whenever it is needed.
const MOST_KEPT: usize = 1024 * 1024;

/// What is known of the objects in one scope.
#[derive(Debug, Default)]
struct ScopeContents {
    /// Whether a watch has listed the scope, so that `versions` is complete.
    watched: bool,
    versions: HashMap<Arc<str>, String>,
    contents: HashMap<Arc<str>, Arc<ReferenceContent>>,
}

/// The Secrets and ConfigMaps that registries refer to.
pub struct References {
    client: Client,
    access: Arc<Access>,
    scopes: Mutex<HashMap<WatchScope, ScopeContents>>,
}

impl References {
    /// Returns an empty cache.
    pub fn new(client: Client, access: Arc<Access>) -> Self {
        Self { client, access, scopes: Mutex::default() }
    }

    /// Notes what a watch observed: a version of an object, or that it is gone.
    pub fn observe(&self, observed: &ObservedReference) {
        self.with(&observed.reference.scope, |scope| {
            let name = &observed.reference.name;
            match &observed.version {
                Some(version) => scope.versions.insert(name.clone(), version.clone()),
                None => scope.versions.remove(name),
            };
            scope.drop_outdated();
        });
    }

    /// Notes what a watch listed: all objects in a scope.
    pub fn listed(&self, scope: &WatchScope, versions: HashMap<Arc<str>, String>) {
        self.with(scope, |scope| {
            scope.watched = true;
            scope.versions = versions;
            scope.drop_outdated();
        });
    }

    /// Forgets a scope, because its watch has ended.
    pub fn unwatched(&self, scope: &WatchScope) {
        self.lock().remove(scope);
    }

    /// Returns the version of an object according to its watch; none if there is no such object, or no watch yet.
    pub fn version(&self, reference: &Reference) -> Option<String> {
        self.with(&reference.scope, |scope| scope.versions.get(&reference.name).cloned())
    }

    fn kept(&self, reference: &Reference) -> Option<Arc<ReferenceContent>> {
        self.with(&reference.scope, |scope| {
            let current = scope.versions.get(&reference.name).filter(|_| scope.watched)?;
            scope.contents.get(&reference.name).filter(|content| content.version == *current).cloned()
        })
    }

    fn keep(&self, reference: &Reference, content: &Arc<ReferenceContent>) {
        self.with(&reference.scope, |scope| {
            if scope.watched && scope.has_room_for(content) {
                scope.contents.insert(reference.name.clone(), content.clone());
            }
        });
    }

    async fn get_when_allowed(
        &self,
        reference: &Reference,
    ) -> Result<Option<ReferenceContent>, ReadError<CallError>> {
        let is_refused = |error: &_| matches!(error, ReadError::Forbidden { .. });
        self.access.when_effective(&reference.scope.namespace, is_refused, || self.get(reference)).await
    }

    async fn get(&self, reference: &Reference) -> Result<Option<ReferenceContent>, ReadError<CallError>> {
        let reference = reference.clone();
        call(self.get_object(&reference)).await.map_err(|source| match source.failure() {
            CallFailure::Forbidden => ReadError::Forbidden {
                operator: self.access.kubectl_option(),
                obstacle: self.access.obstacle(&reference.scope.namespace),
                reference,
            },
            CallFailure::Gone
            | CallFailure::Conflict
            | CallFailure::Terminating
            | CallFailure::Quota
            | CallFailure::Throttled
            | CallFailure::NoAnswer
            | CallFailure::Other => ReadError::Api { reference, source },
        })
    }

    async fn get_object(&self, reference: &Reference) -> Result<Option<ReferenceContent>, kube::Error> {
        let (client, namespace, name) = (self.client.clone(), &reference.scope.namespace, &reference.name);
        Ok(match reference.scope.kind {
            ReferenceKind::Secret => {
                Api::<Secret>::namespaced(client, namespace).get_opt(name).await?.map(ReferenceContent::from)
            }
            ReferenceKind::ConfigMap => Api::<ConfigMap>::namespaced(client, namespace)
                .get_opt(name)
                .await?
                .map(ReferenceContent::from),
        })
    }

    fn with<T>(&self, scope: &WatchScope, f: impl FnOnce(&mut ScopeContents) -> T) -> T {
        f(self.lock().entry(scope.clone()).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WatchScope, ScopeContents>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objects for References {
    type Error = CallError;

    async fn read(
        &self,
        reference: &Reference,
    ) -> Result<Option<Arc<ReferenceContent>>, ReadError<CallError>> {
        if let Some(content) = self.kept(reference) {
            return Ok(Some(content));
        }
        let content = self.get_when_allowed(reference).await?.map(Arc::new);
        if let Some(content) = &content {
            self.keep(reference, content);
        }
        Ok(content)
    }
}

impl ScopeContents {
    /// Whether an object can be cached: whatever a tenant writes, its namespaces cost no more than this.
    fn has_room_for(&self, content: &ReferenceContent) -> bool {
        let kept: usize = self.contents.values().map(|content| content.size()).sum();
        kept + content.size() <= MOST_KEPT
    }

    fn drop_outdated(&mut self) {
        let versions = &self.versions;
        self.contents.retain(|name, content| versions.get(name) == Some(&content.version));
    }
}
