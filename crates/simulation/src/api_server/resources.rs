//! The resources that the server knows: those that the operator, its chart and its tests use.

use super::refusal::ApiFailure;

/// The API group of the registries' kinds.
pub(super) const REGISTRIES: &str = registry_api::GROUP;

/// Which part of the schema and of the rules apply to a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ResourceNature {
    /// Has no generation.
    Plain,
    /// Has a generation.
    Versioned,
    /// Defined by a CustomResourceDefinition.
    Custom,
    /// Stored nowhere: the answer is in its status.
    Review,
}

/// A resource that the server serves.
#[derive(Debug)]
pub struct ServedResource {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The plural, as in URLs.
    pub plural: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether it has the subresource `status`.
    pub(super) status: bool,
    pub(super) nature: ResourceNature,
    /// Whether an update without a resource version is accepted.
    pub(super) unconditional_update: bool,
}

/// The position of a resource in [`RESOURCES`].
pub(super) type ResourceIndex = usize;

const fn cluster(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    nature: ResourceNature,
) -> ServedResource {
    ServedResource {
        group,
        version,
        plural,
        kind,
        namespaced: false,
        status: false,
        nature,
        unconditional_update: true,
    }
}

impl ServedResource {
    const fn namespaced(mut self) -> Self {
        self.namespaced = true;
        self
    }

    const fn with_status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn conditional(mut self) -> Self {
        self.unconditional_update = false;
        self
    }

    /// Returns `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Returns the plural with the group, as in messages.
    pub(super) fn qualified(&self) -> String {
        with_group(self.plural, self.group)
    }

    /// Returns the kind with the group, as in messages.
    pub(super) fn qualified_kind(&self) -> String {
        with_group(self.kind, self.group)
    }

    /// Returns the path of the collection.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        match namespace {
            Some(namespace) => format!("{root}/{}/namespaces/{namespace}/{}", self.version, self.plural),
            None => format!("{root}/{}/{}", self.version, self.plural),
        }
    }
}

fn with_group(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

use ResourceNature::{Custom, Plain, Review, Versioned};

/// All of them. An index into this list identifies one.
pub(super) static RESOURCES: [ServedResource; 26] = [
    cluster("", "v1", "namespaces", "Namespace", Plain).with_status(),
    cluster("", "v1", "secrets", "Secret", Plain).namespaced(),
    cluster("", "v1", "configmaps", "ConfigMap", Plain).namespaced(),
    cluster("", "v1", "serviceaccounts", "ServiceAccount", Plain).namespaced(),
    cluster("", "v1", "services", "Service", Plain).namespaced(),
    cluster("coordination.k8s.io", "v1", "leases", "Lease", Plain).namespaced().conditional(),
    cluster("events.k8s.io", "v1", "events", "Event", Plain).namespaced(),
    cluster(RBAC, "v1", "roles", "Role", Plain).namespaced(),
    cluster(RBAC, "v1", "rolebindings", "RoleBinding", Plain).namespaced(),
    cluster(RBAC, "v1", "clusterroles", "ClusterRole", Plain),
    cluster(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", Plain),
    cluster(ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", Versioned)
        .conditional(),
    cluster(
        ADMISSION,
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        Versioned,
    )
    .conditional(),
    cluster(ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", Versioned)
        .conditional(),
    cluster(ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", Versioned)
        .conditional(),
    cluster(ADMISSION, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", Versioned).conditional(),
    cluster("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", Versioned)
        .with_status()
        .conditional(),
    cluster("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", Versioned).namespaced(),
    cluster("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", Plain).with_status(),
    cluster("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", Versioned).namespaced(),
    cluster("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", Versioned).namespaced(),
    cluster(REGISTRIES, "v1alpha1", "systemregistries", "SystemRegistry", Custom).with_status().conditional(),
    cluster(REGISTRIES, "v1alpha1", "tenantregistries", "TenantRegistry", Custom)
        .namespaced()
        .with_status()
        .conditional(),
    cluster("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", Review),
    cluster("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", Review),
    cluster("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", Review),
];

/// Returns the resource with that URL.
pub(super) fn by_path(group: &str, version: &str, plural: &str) -> Option<ResourceIndex> {
    RESOURCES.iter().position(|its| its.group == group && its.version == version && its.plural == plural)
}

/// Returns the resource of that kind.
pub(super) fn by_kind(api_version: &str, kind: &str) -> Result<ResourceIndex, ApiFailure> {
    let found = RESOURCES.iter().position(|its| its.kind == kind && its.api_version() == api_version);
    found.ok_or_else(|| ApiFailure::unknown(&format!("kind {kind} of {api_version}")))
}

/// Returns the resource with that plural.
pub(super) fn by_plural(plural: &str) -> Result<ResourceIndex, ApiFailure> {
    let found = RESOURCES.iter().position(|its| its.plural == plural);
    found.ok_or_else(|| ApiFailure::unknown(&format!("resource {plural}")))
}

/// Returns the index of a resource that is known to be in the list.
pub(super) fn index_of(plural: &str) -> ResourceIndex {
    RESOURCES.iter().position(|its| its.plural == plural).unwrap_or(RESOURCES.len())
}
