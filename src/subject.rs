//! A registry as the controller handles it: of either scope, without what it doesn't need, and with everything that
//! depends on the scope decided here, once.

use std::{fmt, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use registry_api::{
    FINALIZER, REQUESTED_AT, RegistrySpec, RegistryStatus,
    spec::{Registry, Scope as ApiScope},
};

/// Whom a registry is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scope {
    /// Every tenant.
    System,
    /// One tenant.
    Tenant,
}

impl Scope {
    /// The closed set of label values for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Tenant => "tenant",
        }
    }
}

/// Which registry: unique in the cluster at one time.
#[derive(Clone, Eq, Hash, PartialEq)]
pub enum Key {
    /// A SystemRegistry.
    System {
        /// Its name.
        name: Arc<str>,
    },
    /// A TenantRegistry.
    Tenant {
        /// Its namespace.
        namespace: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
}

impl Key {
    /// The key of an object that came from the API server.
    pub fn of<S: ApiScope>(namespace: Option<&str>, name: &str) -> Self {
        match namespace {
            Some(namespace) if S::NAMESPACED => {
                Self::Tenant { namespace: namespace.into(), name: name.into() }
            }
            _ => Self::System { name: name.into() },
        }
    }

    /// The registry's scope.
    pub fn scope(&self) -> Scope {
        match self {
            Self::System { .. } => Scope::System,
            Self::Tenant { .. } => Scope::Tenant,
        }
    }

    /// The registry's name.
    pub fn name(&self) -> &str {
        match self {
            Self::System { name } | Self::Tenant { name, .. } => name,
        }
    }

    /// The registry's namespace, if it has one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::System { .. } => None,
            Self::Tenant { namespace, .. } => Some(namespace),
        }
    }

    /// The one namespace from which this registry's Secrets and ConfigMaps are read.
    pub fn references_namespace<'a>(&'a self, system_namespace: &'a str) -> &'a str {
        self.namespace().unwrap_or(system_namespace)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { name } => write!(f, "SystemRegistry {name}"),
            Self::Tenant { namespace, name } => write!(f, "TenantRegistry {namespace}/{name}"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A registry as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Which registry.
    pub key: Key,
    /// Which incarnation of it: a registry that is deleted and created again has another.
    pub uid: String,
    /// The version of the object in the API server; opaque.
    pub resource_version: String,
    /// The version of the spec.
    pub generation: i64,
    /// When the object was created.
    pub created: Option<Timestamp>,
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// Whether our finalizer is on it.
    pub finalizer: bool,
    /// The value of the annotation by which a validation is asked for.
    pub requested_at: Option<String>,
    /// What the user asks for.
    pub spec: RegistrySpec,
    /// What we said last.
    pub status: RegistryStatus,
}

impl Subject {
    /// Takes what is needed out of an object from the API server.
    pub fn of<S: ApiScope>(registry: Registry<S>) -> Self {
        let status = registry.status.unwrap_or_default();
        Self { spec: registry.spec, status, ..Self::of_metadata::<S>(registry.metadata) }
    }

    /// What is known of an object whose spec or status can't be read.
    pub fn of_metadata<S: ApiScope>(metadata: ObjectMeta) -> Self {
        let annotations = metadata.annotations.unwrap_or_default();
        let finalizers = metadata.finalizers.unwrap_or_default();
        Self {
            key: Key::of::<S>(metadata.namespace.as_deref(), &metadata.name.unwrap_or_default()),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizer: finalizers.iter().any(|finalizer| finalizer == FINALIZER),
            requested_at: annotations.get(REQUESTED_AT).cloned(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            spec: RegistrySpec::default(),
            status: RegistryStatus::default(),
        }
    }

    /// Whether this object leaves something in other namespaces that must be removed with it.
    pub fn needs_cleanup(&self) -> bool {
        self.spec.availability.as_ref().is_some_and(|availability| availability.pull_secret.is_some())
    }

    /// Whether the same is asked for as by `other`, an earlier or later state of the object.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        let asked = |subject: &Self| {
            (subject.uid.clone(), subject.generation, subject.requested_at.clone(), subject.deleting)
        };
        asked(self) == asked(other)
    }
}
