//! The Secrets and ConfigMaps that registries name: read on demand, kept while a watch vouches for them.
//!
//! Owns: the contents of *referenced* objects only, in memory only, dropped as soon as a watch says that they changed.
//! The watches themselves see metadata alone, so that no Secret is held that no registry names.

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

/// Bytes of contents that are kept of the Secrets, or of the ConfigMaps, of one namespace. What is beyond is read whenever it is
/// needed.
const MOST_KEPT: usize = 1024 * 1024;

/// What is known of the objects of one scope.
#[derive(Debug, Default)]
struct ScopeContents {
    /// Whether a watch is up: `versions` is what there is.
    watched: bool,
    versions: HashMap<Arc<str>, String>,
    contents: HashMap<Arc<str>, Arc<ReferenceContent>>,
}

/// The referenced Secrets and ConfigMaps.
pub struct References {
    client: Client,
    access: Arc<Access>,
    scopes: Mutex<HashMap<WatchScope, ScopeContents>>,
}

impl References {
    /// Nothing is known yet.
    pub fn new(client: Client, access: Arc<Access>) -> Self {
        Self { client, access, scopes: Mutex::default() }
    }

    /// What a watch saw: that version of an object, or that it is gone.
    pub fn observe(&self, seen: &ObservedReference) {
        self.with(&seen.reference.scope, |scope| {
            let name = &seen.reference.name;
            match &seen.version {
                Some(version) => scope.versions.insert(name.clone(), version.clone()),
                None => scope.versions.remove(name),
            };
            scope.drop_outdated();
        });
    }

    /// What a watch listed: all that there is on that scope.
    pub fn listed(&self, scope: &WatchScope, versions: HashMap<Arc<str>, String>) {
        self.with(scope, |scope| {
            scope.watched = true;
            scope.versions = versions;
            scope.drop_outdated();
        });
    }

    /// The watch over that scope ended: nothing on it is vouched for any longer.
    pub fn unwatched(&self, scope: &WatchScope) {
        self.lock().remove(scope);
    }

    /// The version of an object according to its watch; none if there is no such object, or no watch yet.
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
    /// Whether it can be kept: whatever a tenant writes, its namespaces cost no more than this.
    fn has_room_for(&self, content: &ReferenceContent) -> bool {
        let kept: usize = self.contents.values().map(|content| content.size()).sum();
        kept + content.size() <= MOST_KEPT
    }

    fn drop_outdated(&mut self) {
        let versions = &self.versions;
        self.contents.retain(|name, content| versions.get(name) == Some(&content.version));
    }
}
