//! The Secrets and ConfigMaps that registries refer to, as they are read. Where they are read from is behind [`Objects`].

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt,
    hash::BuildHasher,
    sync::Arc,
};

use aws_lc_rs::digest;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use registry_api::HOSTS_ANNOTATION;
use secrecy::{ExposeSecret, SecretSlice};
use thiserror::Error;

/// What kind of object a reference names.
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

/// The objects of one kind in one namespace: what one watch covers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct WatchScope {
    /// The kind.
    pub kind: ReferenceKind,
    /// The namespace.
    pub namespace: Arc<str>,
}

/// One object that a registry names.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Reference {
    /// Its kind and namespace.
    pub scope: WatchScope,
    /// Its name.
    pub name: Arc<str>,
}

impl Reference {
    /// The reference to that object.
    pub fn new(kind: ReferenceKind, namespace: &str, name: &str) -> Self {
        Self { scope: WatchScope { kind, namespace: namespace.into() }, name: name.into() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.scope.kind, self.scope.namespace, self.name)
    }
}

/// One object as it was when it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObservedReference {
    /// Which object.
    pub reference: Reference,
    /// Its resource version; none if it was not there.
    pub version: Option<String>,
}

/// A digest (SHA-256) of contents, to tell a change of them from a touch of metadata. Kept in memory only, as the contents
/// are.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct ContentsDigest(pub(super) [u8; 32]);

impl ContentsDigest {
    /// Adds a part; the order counts.
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

/// The contents of a Secret or ConfigMap.
#[derive(Debug)]
pub struct ReferenceContent {
    /// The resource version.
    pub version: String,
    /// All that matters of it: its type, its entries and the hosts that it is for, and nothing else of its metadata.
    pub digest: ContentsDigest,
    /// The Secret's type.
    pub kind: Option<String>,
    /// The hosts that the Secret is for, as its annotation names them; none if it has no such annotation.
    pub hosts: Option<String>,
    entries: BTreeMap<String, SecretSlice<u8>>,
}

impl ReferenceContent {
    /// How many bytes it holds.
    pub fn size(&self) -> usize {
        self.entries.iter().map(|(key, value)| key.len() + value.expose_secret().len()).sum()
    }

    fn digested(mut self) -> Self {
        let mut digest = ContentsDigest::default();
        digest.add(self.kind.as_deref().unwrap_or_default().as_bytes());
        // An annotation that is empty is not one that is missing.
        digest.add(if self.hosts.is_some() { &b"hosts"[..] } else { b"" });
        digest.add(self.hosts.as_deref().unwrap_or_default().as_bytes());
        for (key, value) in &self.entries {
            digest.add(key.as_bytes());
            digest.add(value.expose_secret());
        }
        self.digest = digest;
        self
    }

    /// The bytes under that key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(ExposeSecret::expose_secret)
    }
}

/// Somebody else's role binding under the name of the operator's. What a binding refers to is immutable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Obstacle {
    /// The kind of what it refers to: `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Why a reference could not be read; a retry may help, unlike when it is missing. `E` is the reader's own error.
#[derive(Debug, Error)]
pub enum ReadError<E> {
    /// The API server forbids it.
    #[error("failed to read {reference}: forbidden for {operator}")]
    Forbidden {
        /// What was to be read.
        reference: Reference,
        /// Who reads, as an option of `kubectl create rolebinding`.
        operator: String,
        /// Whose role binding is in the way, if one is.
        obstacle: Option<Obstacle>,
    },
    /// The API server refused, or could not be asked.
    #[error("failed to read {reference}: {source}")]
    Api {
        /// What was to be read.
        reference: Reference,
        /// What went wrong.
        source: E,
    },
}

/// Where referenced objects are read from: the operator's is the cluster, and others have them in a file.
pub trait Objects: Sync {
    /// What a failed call comes to.
    type Error: Send;

    /// Reads an object; none if it is not there.
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
