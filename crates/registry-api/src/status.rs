//! The status of a registry.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::ConditionType;

/// The result of the latest validation. Only the operator writes it.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The generation of the spec that this status describes. It is -1 until the first validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// One condition per layer, in the order in which a connection reaches them: ResolvedRefs, EndpointReachable,
    /// TLSVerified, CredentialsValidated, ContentPathAccessible; then Ready, and Reconciling or Stalled while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// When the registry was last validated. If nothing else changes, it is updated at most once an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_validation_time: Option<Time>,

    /// The value of the annotation registry.spectrocloud.com/requestedAt that the operator last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,

    /// The certificate that the registry presented, verified or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,

    /// Details of the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsStatus>,

    /// Where the registry is available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<AvailabilityStatus>,
}

/// The certificate that a registry presented.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsStatus {
    /// The negotiated TLS version: TLSv1.2 or TLSv1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The certificate's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The certificate's issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When the certificate expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// The SHA-256 of the certificate in DER, in hexadecimal. Compare it with the fingerprint from the
    /// registry's administrator.
    #[serde(default, rename = "sha256Fingerprint", skip_serializing_if = "Option::is_none")]
    pub sha256_fingerprint: Option<String>,
}

/// Details of the credentials.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// When the credentials expire, if the registry or AWS says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// Where a registry is available.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityStatus {
    /// The number of tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<i64>,
    /// The number of their namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<i64>,
    /// The number of pull Secrets in those namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secrets: Option<i64>,
}

impl RegistryStatus {
    /// Returns the condition of that type, if it exists.
    pub fn condition(&self, condition: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.type_ == condition.as_str())
    }

    /// Returns whether the condition of that type exists and is True.
    pub fn is_true(&self, condition: ConditionType) -> bool {
        self.condition(condition).is_some_and(|c| c.status == "True")
    }
}
