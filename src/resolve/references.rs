//! The Secrets and ConfigMaps that registries name: read on demand, kept while a watch vouches for them.
//!
//! Owns: the contents of *referenced* objects only, in memory only, dropped as soon as a watch says that they changed.
//! The watches themselves see metadata alone, so that no Secret is held that no registry names.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::BuildHasher,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt};
use registry_api::HOSTS_ANNOTATION;
use secrecy::{ExposeSecret, SecretSlice};
use thiserror::Error;

use crate::{
    access::{Access, Obstacle, UNTIL_EFFECTIVE},
    kubernetes::call::{CallError, CallFailure, call},
};

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
pub struct Shelf {
    /// The kind.
    pub kind: ReferenceKind,
    /// The namespace.
    pub namespace: Arc<str>,
}

/// One object that a registry names.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Reference {
    /// Its kind and namespace.
    pub shelf: Shelf,
    /// Its name.
    pub name: Arc<str>,
}

impl Reference {
    /// The reference to that object.
    pub fn new(kind: ReferenceKind, namespace: &str, name: &str) -> Self {
        Self { shelf: Shelf { kind, namespace: namespace.into() }, name: name.into() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.shelf.kind, self.shelf.namespace, self.name)
    }
}

/// One object as it was when it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
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
pub struct Content {
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

impl Content {
    /// How many bytes it holds.
    fn size(&self) -> usize {
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

/// Why a reference could not be read; a retry may help, unlike when it is missing.
#[derive(Debug, Error)]
pub enum ReadError {
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
        source: CallError,
    },
}

/// Bytes of contents that are kept of the Secrets, or of the ConfigMaps, of one namespace. What is beyond is read whenever it is
/// needed.
const MOST_KEPT: usize = 1024 * 1024;

/// Where referenced objects are read from: the operator's is the cluster, and others have them in a file.
pub trait Objects: Sync {
    /// Reads an object; none if it is not there.
    fn read(
        &self,
        reference: &Reference,
    ) -> impl Future<Output = Result<Option<Arc<Content>>, ReadError>> + Send;
}

impl<H: BuildHasher + Sync> Objects for HashMap<Reference, Arc<Content>, H> {
    async fn read(&self, reference: &Reference) -> Result<Option<Arc<Content>>, ReadError> {
        Ok(self.get(reference).cloned())
    }
}

/// What is known of the objects of one shelf.
#[derive(Debug, Default)]
struct Shelved {
    /// Whether a watch is up: `versions` is what there is.
    watched: bool,
    versions: HashMap<Arc<str>, String>,
    contents: HashMap<Arc<str>, Arc<Content>>,
}

/// The referenced Secrets and ConfigMaps.
pub struct References {
    client: Client,
    access: Arc<Access>,
    shelves: Mutex<HashMap<Shelf, Shelved>>,
}

impl References {
    /// Nothing is known yet.
    pub fn new(client: Client, access: Arc<Access>) -> Self {
        Self { client, access, shelves: Mutex::default() }
    }

    /// What a watch saw: that version of an object, or that it is gone.
    pub fn saw(&self, seen: &Reading) {
        self.with(&seen.reference.shelf, |shelf| {
            let name = &seen.reference.name;
            match &seen.version {
                Some(version) => shelf.versions.insert(name.clone(), version.clone()),
                None => shelf.versions.remove(name),
            };
            shelf.drop_outdated();
        });
    }

    /// What a watch listed: all that there is on that shelf.
    pub fn listed(&self, shelf: &Shelf, versions: HashMap<Arc<str>, String>) {
        self.with(shelf, |shelf| {
            shelf.watched = true;
            shelf.versions = versions;
            shelf.drop_outdated();
        });
    }

    /// The watch over that shelf ended: nothing on it is vouched for any longer.
    pub fn unwatched(&self, shelf: &Shelf) {
        self.lock().remove(shelf);
    }

    /// The version of an object according to its watch; none if there is no such object, or no watch yet.
    pub fn version(&self, reference: &Reference) -> Option<String> {
        self.with(&reference.shelf, |shelf| shelf.versions.get(&reference.name).cloned())
    }

    fn kept(&self, reference: &Reference) -> Option<Arc<Content>> {
        self.with(&reference.shelf, |shelf| {
            let current = shelf.versions.get(&reference.name).filter(|_| shelf.watched)?;
            shelf.contents.get(&reference.name).filter(|content| content.version == *current).cloned()
        })
    }

    fn keep(&self, reference: &Reference, content: &Arc<Content>) {
        self.with(&reference.shelf, |shelf| {
            if shelf.watched && shelf.has_room_for(content) {
                shelf.contents.insert(reference.name.clone(), content.clone());
            }
        });
    }

    async fn get_when_allowed(&self, reference: &Reference) -> Result<Option<Content>, ReadError> {
        for pause in UNTIL_EFFECTIVE {
            match self.get(reference).await {
                Err(ReadError::Forbidden { .. })
                    if self.access.is_ours_to_grant(&reference.shelf.namespace) =>
                {
                    self.access.grant(&reference.shelf.namespace).await;
                    tokio::time::sleep(pause).await;
                }
                answer => return answer,
            }
        }
        self.get(reference).await
    }

    async fn get(&self, reference: &Reference) -> Result<Option<Content>, ReadError> {
        let reference = reference.clone();
        call(self.get_object(&reference)).await.map_err(|source| match source.failure() {
            CallFailure::Forbidden => ReadError::Forbidden {
                operator: self.access.kubectl_option(),
                obstacle: self.access.obstacle(&reference.shelf.namespace),
                reference,
            },
            _ => ReadError::Api { reference, source },
        })
    }

    async fn get_object(&self, reference: &Reference) -> Result<Option<Content>, kube::Error> {
        let (client, namespace, name) = (self.client.clone(), &reference.shelf.namespace, &reference.name);
        Ok(match reference.shelf.kind {
            ReferenceKind::Secret => {
                Api::<Secret>::namespaced(client, namespace).get_opt(name).await?.map(Content::from)
            }
            ReferenceKind::ConfigMap => {
                Api::<ConfigMap>::namespaced(client, namespace).get_opt(name).await?.map(Content::from)
            }
        })
    }

    fn with<T>(&self, shelf: &Shelf, f: impl FnOnce(&mut Shelved) -> T) -> T {
        f(self.lock().entry(shelf.clone()).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Shelf, Shelved>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objects for References {
    async fn read(&self, reference: &Reference) -> Result<Option<Arc<Content>>, ReadError> {
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

impl Shelved {
    /// Whether it can be kept: whatever a tenant writes, its namespaces cost no more than this.
    fn has_room_for(&self, content: &Content) -> bool {
        let kept: usize = self.contents.values().map(|content| content.size()).sum();
        kept + content.size() <= MOST_KEPT
    }

    fn drop_outdated(&mut self) {
        let versions = &self.versions;
        self.contents.retain(|name, content| versions.get(name) == Some(&content.version));
    }
}

impl From<Secret> for Content {
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

impl From<ConfigMap> for Content {
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
