//! The spec of a registry. `kubectl explain` prints the descriptions.

use std::marker::PhantomData;

use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope, ResourceScope,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{KubeSchema, Resource, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use std::borrow::Cow;

use crate::{GROUP, GoDuration, RegistryStatus, rules};

/// The API version of both kinds.
pub const VERSION: &str = "v1alpha1";

/// The scope of a registry. The kinds of the two scopes only differ in these constants.
pub trait Scope: Clone + std::fmt::Debug + Default + PartialEq + Send + Sync + Unpin + 'static {
    /// The Kubernetes scope of the kind.
    type ResourceScope: ResourceScope;
    /// The kind's name.
    const KIND: &'static str;
    /// The plural, in URLs and roles.
    const PLURAL: &'static str;
    /// The singular.
    const SINGULAR: &'static str;
    /// The short name for kubectl.
    const SHORT: &'static str;
    /// Whether the kind is namespaced.
    const NAMESPACED: bool;
    /// The description of the kind, for `kubectl explain`.
    const DESCRIPTION: &'static str;
    /// The rules that apply only in this scope.
    fn rules() -> Vec<Rule>;
}

/// System scope: available to every tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct System;

impl Scope for System {
    type ResourceScope = ClusterResourceScope;
    const KIND: &'static str = "SystemRegistry";
    const PLURAL: &'static str = "systemregistries";
    const SINGULAR: &'static str = "systemregistry";
    const SHORT: &'static str = "sysreg";
    const NAMESPACED: bool = false;
    const DESCRIPTION: &'static str = "A SystemRegistry is an OCI registry that is available to every tenant. \
                                       Only system administrators can change or delete it. The operator reads its \
                                       Secrets and ConfigMaps from its own namespace.";
    fn rules() -> Vec<Rule> {
        Vec::new()
    }
}

/// Tenant scope: available to the namespaces of one tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tenant;

impl Scope for Tenant {
    type ResourceScope = NamespaceResourceScope;
    const KIND: &'static str = "TenantRegistry";
    const PLURAL: &'static str = "tenantregistries";
    const SINGULAR: &'static str = "tenantregistry";
    const SHORT: &'static str = "tenreg";
    const NAMESPACED: bool = true;
    const DESCRIPTION: &'static str = "A TenantRegistry is an OCI registry that is available only to the namespaces of \
                                       one tenant. The operator reads its Secrets and ConfigMaps from the registry's \
                                       namespace.";
    fn rules() -> Vec<Rule> {
        vec![rules::tenant_has_its_own_availability(), rules::tenant_has_its_own_identity()]
    }
}

/// A registry of either scope.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(bound = "")]
pub struct Registry<S: Scope> {
    /// The object's metadata.
    pub metadata: ObjectMeta,
    /// The desired state.
    pub spec: RegistrySpec,
    /// The state that the operator reports.
    #[serde(default)]
    pub status: Option<RegistryStatus>,
    #[serde(skip)]
    scope: PhantomData<S>,
}

/// A registry for every tenant.
pub type SystemRegistry = Registry<System>;
/// A registry for one tenant.
pub type TenantRegistry = Registry<Tenant>;

impl<S: Scope> Registry<S> {
    /// Creates a registry with that name, as a user would write it.
    pub fn new(name: &str, spec: RegistrySpec) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Self { metadata, spec, status: None, scope: PhantomData }
    }
}

impl<S: Scope> Serialize for Registry<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", &Self::api_version(&()))?;
        map.serialize_entry("kind", S::KIND)?;
        map.serialize_entry("metadata", &self.metadata)?;
        map.serialize_entry("spec", &self.spec)?;
        if let Some(status) = &self.status {
            map.serialize_entry("status", status)?;
        }
        map.end()
    }
}

impl<S: Scope> Resource for Registry<S> {
    type DynamicType = ();
    type Scope = S::ResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        S::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        S::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What a registry is, how to reach it, and how to sign in.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::client_certificate_needs_tls(), validation = rules::ecr_region_known())]
#[x_kube(validation = rules::ecr_public_without_identity())]
pub struct RegistrySpec {
    /// The content of the registry: Pack, Helm or Zarf. It is information for consumers; the validation is the same for all.
    #[serde(default)]
    pub content_type: ContentType,

    /// The registry's URL: https://HOST or https://HOST:PORT, with a path if the registry's API does not start at the root. The operator
    /// uses plain HTTP only if the URL starts with http://. It requests ENDPOINT/v2/.
    #[schemars(length(max = 512))]
    #[x_kube(
        validation = rules::endpoint_scheme(),
        validation = rules::endpoint_userinfo(),
        validation = rules::endpoint_query(),
        validation = rules::endpoint_grammar(),
        validation = rules::endpoint_port(),
        validation = rules::endpoint_api_version()
    )]
    pub endpoint: String,

    /// The path of the content, such as team/packs. It follows the grammar of OCI repository names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = rules::base_content_path())]
    pub base_content_path: Option<String>,

    /// How to sign in: at most one of basic, token and ecr. Omit it for a registry without authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,

    /// How to verify the registry's certificate. By default, the operator trusts the public roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// When and how to validate the registry.
    #[serde(default)]
    pub validation: Validation,

    /// If true, the operator doesn't validate the registry, and the status doesn't change, until this is false again.
    #[serde(default)]
    pub suspend: bool,

    /// If true, nobody can delete this registry until this is false again.
    #[serde(default)]
    pub deletion_protection: bool,

    /// Who can use the registry, and how they get its credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
}

/// The content of a registry.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ContentType {
    #[default]
    #[expect(missing_docs, reason = "named by what it is; a doc comment would split the schema's enum")]
    Pack,
    #[expect(missing_docs, reason = "as above")]
    Helm,
    #[expect(missing_docs, reason = "as above")]
    Zarf,
}

/// How to sign in: at most one member.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_auth_method())]
pub struct Auth {
    /// User name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// A token issued by the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,
    /// AWS Elastic Container Registry. Without a member, it is a public ECR registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecr: Option<EcrAuth>,
}

/// User name and password.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// A Secret of type kubernetes.io/basic-auth, or kubernetes.io/dockerconfigjson with an entry for this host and port.
    pub secret_ref: SecretRef,
}

/// A token issued by the registry.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// A Secret of type registry.spectrocloud.com/token, with the key token (a registry bearer token) or identityToken (an
    /// OAuth2 refresh token).
    pub secret_ref: SecretRef,
}

/// AWS Elastic Container Registry: public, access keys, or a role.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_ecr_method())]
pub struct EcrAuth {
    /// The AWS region. By default, it comes from the endpoint's host. If set, any host counts as an ECR registry (aliases,
    /// private endpoints, emulators).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rules::ecr_region())]
    pub region: Option<String>,
    /// Sign in with access keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<EcrCredentials>,
    /// Sign in by assuming a role. It can't be combined with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts: Option<EcrSts>,
}

/// AWS access keys.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrCredentials {
    /// A Secret of type Opaque with the keys AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, optionally, AWS_SESSION_TOKEN.
    pub secret_ref: SecretRef,
}

/// An AWS role to assume.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrSts {
    /// The role's ARN, such as arn:aws:iam::123456789012:role/registry.
    #[serde(rename = "roleARN")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::role_arn())]
    pub role_arn: String,
    /// The external ID that the role's trust policy requires.
    #[serde(default, rename = "externalID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1224))]
    #[x_kube(validation = rules::external_id())]
    pub external_id: Option<String>,
    /// A Secret with the access keys that assume the role. If omitted, the operator uses its own AWS identity, which only a
    /// SystemRegistry can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// How to verify the registry's certificate.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// If true, the operator doesn't verify the certificate. The condition TLSVerified still describes problems with it.
    #[serde(default)]
    pub insecure_skip_verify: bool,
    /// CA certificates to trust in addition to the public roots: at most one source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Ca>,
    /// The client certificate for the registry (mutual TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
}

/// CA certificates to trust in addition to the public roots: at most one source.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::one_ca_source())]
pub struct Ca {
    /// PEM text with one or more certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    #[x_kube(validation = rules::ca_certificate(), validation = rules::ca_without_key())]
    pub inline: Option<String>,
    /// A ConfigMap with the PEM text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyRef>,
    /// A Secret with the PEM text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
}

/// The client certificate for the registry.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificate {
    /// A Secret of type kubernetes.io/tls.
    pub secret_ref: SecretRef,
}

/// A Secret in the registry's namespace (SystemRegistry: in the operator's namespace).
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct SecretRef {
    /// The name of the Secret.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::reference_name())]
    pub name: String,
}

/// A key of a Secret or ConfigMap in the registry's namespace (SystemRegistry: in the operator's namespace).
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct KeyRef {
    /// The name of the object.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::reference_name())]
    pub name: String,
    /// The key in the object.
    #[serde(default = "default_ca_key")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::reference_key())]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

/// When and how to validate a registry.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// The time between two validations of an unchanged registry: 1m to 24h.
    #[serde(default = "default_interval")]
    #[x_kube(validation = rules::interval_grammar(), validation = rules::interval_bounds())]
    pub interval: GoDuration,
    /// The maximum duration of one whole validation: 1s to 5m.
    #[serde(default = "default_timeout")]
    #[x_kube(validation = rules::timeout_grammar(), validation = rules::timeout_bounds())]
    pub timeout: GoDuration,
    /// A repository below baseContentPath that must be readable. Without it, the operator can usually not check the content
    /// path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = rules::validation_repository())]
    pub repository: Option<String>,
    /// How many transient failures in a row (timeout, server error, throttling) make a Ready registry unready: 1 to 100.
    #[serde(default = "default_failure_threshold")]
    #[x_kube(validation = rules::failure_threshold())]
    pub failure_threshold: i32,
}

impl Default for Validation {
    fn default() -> Self {
        Self {
            interval: default_interval(),
            timeout: default_timeout(),
            repository: None,
            failure_threshold: default_failure_threshold(),
        }
    }
}

fn default_interval() -> GoDuration {
    GoDuration::literal("10m", 600)
}

fn default_timeout() -> GoDuration {
    GoDuration::literal("30s", 30)
}

fn default_failure_threshold() -> i32 {
    3
}

/// Who can use a registry.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Availability {
    /// SystemRegistry: the tenants that can use the registry, by the value of their namespaces' label
    /// registry.spectrocloud.com/tenant. If omitted, all tenants. A TenantRegistry is always available to its own tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000), inner(length(max = 63)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = rules::some_tenants(), validation = rules::tenant_names())]
    pub tenants: Option<Vec<String>>,
    /// Keep a Secret of type kubernetes.io/dockerconfigjson in the namespaces that can use the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<PullSecret>,
}

/// The pull Secret.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct PullSecret {
    /// The name of the Secret in each namespace. The operator doesn't change an existing Secret that it doesn't manage.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::pull_secret_name())]
    pub name: String,
}
