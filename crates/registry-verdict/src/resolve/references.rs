//! The Secrets and ConfigMaps that registries reference. [`Objects`] reads them.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt,
    hash::BuildHasher,
    sync::Arc,
};

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use registry_api::HOSTS_ANNOTATION;
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::{Value, json};
use thiserror::Error;

/// The kind of a referenced object.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ReferenceKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl fmt::Display for ReferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        })
    }
}

/// The objects of one kind in one namespace, which one watch covers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct WatchScope {
    /// The kind.
    pub kind: ReferenceKind,
    /// The namespace.
    pub namespace: Arc<str>,
}

/// An object that a registry references.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Reference {
    /// The kind and namespace.
    pub scope: WatchScope,
    /// The name.
    pub name: Arc<str>,
}

impl Reference {
    /// Creates a reference to that object.
    pub fn new(kind: ReferenceKind, namespace: &str, name: &str) -> Self {
        Self { scope: WatchScope { kind, namespace: namespace.into() }, name: name.into() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.scope.kind, self.scope.namespace, self.name)
    }
}

/// An object with the version that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObservedReference {
    /// The object.
    pub reference: Reference,
    /// The resource version; `None` if the object doesn't exist.
    pub version: Option<String>,
}

/// A digest (SHA-256) of contents, which distinguishes a change of the contents from a change of metadata. Kept only in
/// memory.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct ContentsDigest(pub(super) [u8; 32]);

impl ContentsDigest {
    /// Adds a part. The order counts.
    pub fn add(&mut self, part: &[u8]) {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        context.update(part);
        self.0.copy_from_slice(context.finish().as_ref());
    }
}

impl fmt::Debug for ContentsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentsDigest(…)")
    }
}

/// The content of a Secret or ConfigMap.
#[derive(Debug)]
pub struct ReferenceContent {
    /// The resource version.
    pub version: String,
    /// A digest of its type, its entries and its allowed hosts, without other metadata.
    pub digest: ContentsDigest,
    /// The Secret's type.
    pub kind: Option<String>,
    /// The annotation with the Secret's hosts, if it has one.
    pub hosts: Option<String>,
    entries: BTreeMap<String, SecretSlice<u8>>,
}

impl ReferenceContent {
    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.entries.iter().map(|(key, value)| key.len() + value.expose_secret().len()).sum()
    }

    fn digested(mut self) -> Self {
        let mut digest = ContentsDigest::default();
        digest.add(self.kind.as_deref().unwrap_or_default().as_bytes());
        // An empty annotation differs from a missing one.
        digest.add(if self.hosts.is_some() { &b"hosts"[..] } else { b"" });
        digest.add(self.hosts.as_deref().unwrap_or_default().as_bytes());
        for (key, value) in &self.entries {
            digest.add(key.as_bytes());
            digest.add(value.expose_secret());
        }
        self.digest = digest;
        self
    }

    /// Returns the object as a manifest, to send it to a program that has no access to it. It holds the secret.
    pub fn manifest(&self, reference: &Reference) -> Value {
        let values = self.entries.iter();
        let data: BTreeMap<&str, String> = values
            .map(|(key, value)| (key.as_str(), BASE64_STANDARD.encode(value.expose_secret())))
            .collect();
        let metadata = json!({"name": &*reference.name, "namespace": &*reference.scope.namespace});
        let kind = reference.scope.kind.to_string();
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
        match reference.scope.kind {
            ReferenceKind::Secret => object["data"] = json!(data),
            ReferenceKind::ConfigMap => object["binaryData"] = json!(data),
        }
        if let Some(kind) = &self.kind {
            object["type"] = json!(kind);
        }
        if let Some(hosts) = &self.hosts {
            object["metadata"]["annotations"] = json!({HOSTS_ANNOTATION: hosts});
        }
        object
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(ExposeSecret::expose_secret)
    }
}

/// Someone else's RoleBinding with the name of the operator's. The role of a RoleBinding can't be changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Obstacle {
    /// The kind of its role: `Role` or `ClusterRole`.
    pub kind: String,
    /// The name of its role.
    pub name: String,
}

/// Why a reference could not be read. Unlike for a missing object, a retry may help. `E` is the reader's own error.
#[derive(Debug, Error)]
pub enum ReadError<E> {
    /// The reader has no permission.
    #[error("failed to read {reference}: forbidden for {operator}")]
    Forbidden {
        /// The object.
        reference: Reference,
        /// The reader, as an option of `kubectl create rolebinding`.
        operator: String,
        /// Someone else's RoleBinding that prevents the operator from binding itself, if there is one.
        obstacle: Option<Obstacle>,
    },
    /// The API server refused it, or didn't answer.
    #[error("failed to read {reference}: {source}")]
    Api {
        /// The object.
        reference: Reference,
        /// The error.
        source: E,
    },
}

/// Reads referenced objects: the operator from the cluster, other programs from files.
pub trait Objects: Sync {
    /// The error of a failed call.
    type Error: Send;

    /// Reads an object; `None` if it doesn't exist.
    fn read(
        &self,
        reference: &Reference,
    ) -> impl Future<Output = Result<Option<Arc<ReferenceContent>>, ReadError<Self::Error>>> + Send;
}

impl<H: BuildHasher + Sync> Objects for HashMap<Reference, Arc<ReferenceContent>, H> {
    type Error = Infallible;

    async fn read(
        &self,
        reference: &Reference,
    ) -> Result<Option<Arc<ReferenceContent>>, ReadError<Infallible>> {
        Ok(self.get(reference).cloned())
    }
}

impl From<Secret> for ReferenceContent {
    fn from(secret: Secret) -> Self {
        Self {
            version: secret.resource_version().unwrap_or_default(),
            digest: ContentsDigest::default(),
            hosts: secret.metadata.annotations.as_ref().and_then(|all| all.get(HOSTS_ANNOTATION)).cloned(),
            kind: secret.type_,
            entries: secret
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, value.0.into()))
                .collect(),
        }
        .digested()
    }
}

impl From<ConfigMap> for ReferenceContent {
    fn from(map: ConfigMap) -> Self {
        let version = map.resource_version().unwrap_or_default();
        let text =
            map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes().into()));
        let binary =
            map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0.into()));
        let (digest, entries) = (ContentsDigest::default(), text.chain(binary).collect());
        Self { version, digest, kind: None, hosts: None, entries }.digested()
    }
}
