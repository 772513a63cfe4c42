//! A registry object as the controller keeps it, in either scope, without what it doesn't need. Everything that depends
//! on the scope is decided here.

use std::{fmt, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use registry_api::{
    FINALIZER, REQUESTED_AT, RegistrySpec,
    spec::{Registry, Scope as ApiScope},
};

use crate::known_status::KnownStatus;

/// Which tenants a registry is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RegistryScope {
    /// All tenants.
    System,
    /// One tenant.
    Tenant,
}

impl RegistryScope {
    /// Returns the value of the metrics' label, from a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Tenant => "tenant",
        }
    }
}

/// Identifies a registry. Unique in the cluster at one time.
#[derive(Clone, Eq, Hash, PartialEq)]
pub enum RegistryKey {
    /// A SystemRegistry.
    System {
        /// The name.
        name: Arc<str>,
    },
    /// A TenantRegistry.
    Tenant {
        /// The namespace.
        namespace: Arc<str>,
        /// The name.
        name: Arc<str>,
    },
}

impl RegistryKey {
    /// Returns the key of an object from the API server.
    pub fn of<S: ApiScope>(namespace: Option<&str>, name: &str) -> Self {
        match namespace {
            Some(namespace) if S::NAMESPACED => {
                Self::Tenant { namespace: namespace.into(), name: name.into() }
            }
            _ => Self::System { name: name.into() },
        }
    }

    /// Returns the registry's scope.
    pub fn scope(&self) -> RegistryScope {
        match self {
            Self::System { .. } => RegistryScope::System,
            Self::Tenant { .. } => RegistryScope::Tenant,
        }
    }

    /// Returns the registry's name.
    pub fn name(&self) -> &str {
        match self {
            Self::System { name } | Self::Tenant { name, .. } => name,
        }
    }

    /// Returns the registry's namespace, if it has one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::System { .. } => None,
            Self::Tenant { namespace, .. } => Some(namespace),
        }
    }

    /// Returns the group of a registry whose namespace has this tenant.
    pub fn group(&self, tenant: Option<Arc<str>>) -> Group {
        match (self, tenant) {
            (Self::System { .. }, _) => Group::System,
            (Self::Tenant { .. }, Some(tenant)) => Group::Tenant(tenant),
            (Self::Tenant { namespace, .. }, None) => Group::Namespace(namespace.clone()),
        }
    }

    /// Returns the namespace of this registry's Secrets and ConfigMaps.
    pub fn references_namespace<'a>(&'a self, system_namespace: &'a str) -> &'a str {
        self.namespace().unwrap_or(system_namespace)
    }
}

impl fmt::Display for RegistryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { name } => write!(f, "SystemRegistry {name}"),
            Self::Tenant { namespace, name } => write!(f, "TenantRegistry {namespace}/{name}"),
        }
    }
}

impl fmt::Debug for RegistryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Registries that share a place in the queue, limits, and rejected credentials: the system scope, a tenant, or a
/// namespace that belongs to no tenant.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Group {
    /// All SystemRegistries.
    System,
    /// All namespaces of a tenant.
    Tenant(Arc<str>),
    /// A namespace without a tenant.
    Namespace(Arc<str>),
}

/// A registry as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryObject {
    /// The registry.
    pub key: RegistryKey,
    /// The uid. A registry that is deleted and created again has another one.
    pub uid: String,
    /// The resource version.
    pub resource_version: String,
    /// The generation of the spec.
    pub generation: i64,
    /// When the object was created.
    pub created: Option<Timestamp>,
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// Whether it has the operator's finalizer.
    pub finalizer: bool,
    /// The value of the annotation `requestedAt`.
    pub requested_at: Option<String>,
    /// The spec.
    pub spec: RegistrySpec,
    /// The status that the operator last wrote.
    pub status: KnownStatus,
    /// Whether a long part of the spec was omitted, and must be read again before the spec is used.
    pub trimmed: bool,
}

/// The maximum length of an inline CA that is kept in memory, in bytes. A tenant may have many, so a longer one is read
/// when needed.
const LONGEST_KEPT_CA: usize = 8 * 1024;
/// The maximum length of the annotation `requestedAt`, in characters (docs/architecture.md#promises).
const LONGEST_REQUEST: usize = 253;

impl RegistryObject {
    /// Takes what is needed from an object of the API server.
    pub fn of<S: ApiScope>(registry: Registry<S>) -> Self {
        let status = KnownStatus::of(&registry.status.unwrap_or_default());
        Self { spec: registry.spec, status, ..Self::of_metadata::<S>(registry.metadata) }
    }

    /// Takes what is known about an object whose spec or status can't be parsed.
    pub fn of_metadata<S: ApiScope>(metadata: ObjectMeta) -> Self {
        let annotations = metadata.annotations.unwrap_or_default();
        let finalizers = metadata.finalizers.unwrap_or_default();
        Self {
            key: RegistryKey::of::<S>(metadata.namespace.as_deref(), &metadata.name.unwrap_or_default()),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizer: finalizers.iter().any(|finalizer| finalizer == FINALIZER),
            requested_at: annotations.get(REQUESTED_AT).filter(|value| is_a_request(value)).cloned(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            spec: RegistrySpec::default(),
            status: KnownStatus::default(),
            trimmed: false,
        }
    }

    /// Omits the long parts, to save memory.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        let ca = self.spec.tls.as_mut().and_then(|tls| tls.ca.as_mut());
        if let Some(ca) = ca
            && ca.inline.as_ref().is_some_and(|inline| inline.len() > LONGEST_KEPT_CA)
        {
            ca.inline = None;
            self.trimmed = true;
        }
        self
    }

    /// Returns whether this registry leaves objects in other namespaces that must be deleted with it.
    pub fn needs_cleanup(&self) -> bool {
        self.spec.availability.as_ref().is_some_and(|availability| availability.pull_secret.is_some())
    }

    /// Whether a user asked for a validation since the last result: by the annotation, or by a new spec. A new object doesn't count,
    /// because others may have the same credentials.
    pub fn is_validation_requested(&self) -> bool {
        let handled = &self.status.last_handled_reconcile_at;
        let by_annotation = self.requested_at.is_some() && self.requested_at.as_deref() != handled.as_deref();
        // The schema gives a new object -1.
        let observed = self.status.observed_generation.filter(|observed| *observed > 0);
        by_annotation || observed.is_some_and(|observed| observed != self.generation)
    }

    /// Returns whether `other`, an earlier or later state of the object, has the same spec and request.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        let asked = |object: &Self| {
            (object.uid.clone(), object.generation, object.requested_at.clone(), object.deleting)
        };
        asked(self) == asked(other)
    }
}

/// A longer value doesn't count as a request. A policy refuses it, but the object may be older than the policy.
fn is_a_request(value: &str) -> bool {
    value.chars().count() <= LONGEST_REQUEST
}

#[cfg(test)]
mod tests {
    use registry_api::{
        TenantRegistry,
        spec::{Ca, Tls},
    };

    use super::*;

    fn registry(request: String, ca: String) -> TenantRegistry {
        let ca = Some(Ca { inline: Some(ca), ..Ca::default() });
        let tls = Some(Tls { ca, ..Tls::default() });
        let mut registry = TenantRegistry::new("packs", RegistrySpec { tls, ..RegistrySpec::default() });
        registry.metadata.annotations = Some([(REQUESTED_AT.to_owned(), request)].into());
        registry
    }

    #[test]
    fn bounds_requested_at_to_253_characters() {
        let request = |length| RegistryObject::of(registry("ä".repeat(length), String::new())).requested_at;
        assert_eq!(request(253), Some("ä".repeat(253)));
        assert_eq!(request(254), None);
    }

    /// See docs/operations.md, "Limits per tenant".
    #[test]
    fn largest_registry_fits_in_32_kib() {
        use registry_api::spec::{Auth, Availability, BasicAuth, ClientCertificate, PullSecret, SecretRef};
        let long = |length| "x".repeat(length);
        let secret_ref = || SecretRef { name: long(253) };
        let mut registry = registry(long(253), long(131_072));
        registry.spec.endpoint = long(512);
        registry.spec.base_content_path = Some(long(255));
        registry.spec.validation.repository = Some(long(255));
        registry.spec.auth =
            Some(Auth { basic: Some(BasicAuth { secret_ref: secret_ref() }), ..Auth::default() });
        registry.spec.availability = Some(Availability {
            pull_secret: Some(PullSecret { name: long(253) }),
            ..Availability::default()
        });
        let tls = registry.spec.tls.as_mut().unwrap();
        tls.client_certificate = Some(ClientCertificate { secret_ref: secret_ref() });
        let condition = |condition: &registry_api::condition::Layer| {
            serde_json::json!({
                "type": condition.condition.as_str(), "status": "Unknown", "reason": "NotAttempted", "message": long(1024),
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
            })
        };
        let layers = &registry_api::condition::LAYERS;
        let conditions: Vec<_> = layers.iter().chain(&layers[..3]).map(condition).collect();
        registry.status = serde_json::from_value(serde_json::json!({"conditions": conditions})).ok();
        for (key, value) in [("example.com/note", long(250 << 10)), ("b", long(4 << 10))] {
            registry.metadata.annotations.get_or_insert_default().insert(key.into(), value.clone());
            registry.metadata.labels.get_or_insert_default().insert(key.into(), value);
        }
        let kept = RegistryObject::of(registry).trimmed();
        let size = serde_json::to_vec(&(&kept.spec, &kept.requested_at)).unwrap().len();
        assert!(size < 32 << 10, "{size} bytes");
        assert!(kept.status.condition(layers[0].condition).is_some());
    }

    #[test]
    fn caches_only_short_ca_bundles() {
        let kept = |length| RegistryObject::of(registry(String::new(), "x".repeat(length))).trimmed();
        let inline = |object: &RegistryObject| object.spec.tls.clone().unwrap().ca.unwrap().inline;
        let (short, long) = (kept(LONGEST_KEPT_CA), kept(LONGEST_KEPT_CA + 1));
        assert!(!short.trimmed && inline(&short).is_some());
        assert!(long.trimmed && inline(&long).is_none());
    }
}
