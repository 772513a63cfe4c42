//! The content of a pull Secret, as the operator writes it and as it finds it.
//!
//! Owns which Secret is the operator's own (both labels, and its field manager), and whether one is up to date. Reads
//! and writes nothing.

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use registry_api::{
    MANAGED_BY_LABEL, OPERATOR, REGISTRY_ANNOTATION, REGISTRY_UID_LABEL,
    spec::{Scope as _, System, Tenant},
};
use registry_probe::{Credentials, Endpoint};
use registry_verdict::object::RegistryKey;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::managed_fields::{OwnedFields, SecretField, SecretFields};

/// The type of Secrets that the kubelet uses for pulling.
const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";
/// The key in such a Secret.
const ENTRY: &str = ".dockerconfigjson";

/// Identifies the content of a Secret. The content can't be derived from it.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct SecretFingerprint([u8; 32]);

impl fmt::Debug for SecretFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

impl SecretFingerprint {
    fn of_keys(fields: &SecretFields<'_>) -> Self {
        Self::of(&fields.keys().map(|field| (*field, &[][..])).collect())
    }

    /// Hashes each part with its length, so that different lists of parts never have the same input.
    fn of(fields: &SecretFields<'_>) -> Self {
        let mut context = Context::new(&SHA256);
        for (field, value) in fields {
            for part in [field.section().as_bytes(), field.key().as_bytes(), value] {
                context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                context.update(part);
            }
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        Self(fingerprint)
    }
}

/// The content of a registry's pull Secrets: the validated credentials, and the endpoint.
pub struct PullSecretContent {
    registry: String,
    uid: Arc<str>,
    json: SecretString,
    fingerprint: SecretFingerprint,
}

impl fmt::Debug for PullSecretContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content of {}", self.registry)
    }
}

impl PullSecretContent {
    /// The content for that registry.
    pub fn new(key: &RegistryKey, uid: &str, credentials: &Credentials, endpoint: &Endpoint) -> Self {
        let (registry, json) = (annotation(key), credentials.to_dockerconfigjson(endpoint));
        let nothing = SecretFingerprint::of(&SecretFields::new());
        let mut content = Self { registry, uid: uid.into(), json, fingerprint: nothing };
        content.fingerprint = SecretFingerprint::of(&content.fields());
        content
    }

    fn labels(&self) -> BTreeMap<&str, &str> {
        [(MANAGED_BY_LABEL, OPERATOR), (REGISTRY_UID_LABEL, &*self.uid)].into()
    }

    fn annotations(&self) -> BTreeMap<&str, &str> {
        [(REGISTRY_ANNOTATION, self.registry.as_str())].into()
    }

    /// Returns all fields that the operator writes.
    fn fields(&self) -> SecretFields<'_> {
        let labels = self.labels().into_iter().map(|(key, text)| (SecretField::Label(key), text.as_bytes()));
        let annotations = self.annotations().into_iter();
        let annotations = annotations.map(|(key, text)| (SecretField::Annotation(key), text.as_bytes()));
        let data = (SecretField::Data(ENTRY), self.json.expose_secret().as_bytes());
        labels.chain(annotations).chain([data]).collect()
    }

    /// Returns the fingerprint.
    pub fn fingerprint(&self) -> SecretFingerprint {
        self.fingerprint
    }

    /// Returns the complete object with that name. `at` is the version of the Secret that it replaces, if any.
    pub fn manifest(&self, name: &str, at: Option<&SecretVersion>) -> Value {
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": DOCKER_CONFIG,
            "metadata": {
                "name": name,
                "labels": self.labels(),
                "annotations": self.annotations(),
            },
            "data": {ENTRY: base64(self.json.expose_secret())},
        });
        if let Some(at) = at {
            secret["metadata"]["uid"] = json!(at.uid);
            secret["metadata"]["resourceVersion"] = json!(at.resource_version);
        }
        secret
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Returns the value of the annotation that names the registry.
pub fn annotation(key: &RegistryKey) -> String {
    match key {
        RegistryKey::System { name } => format!("{}/{name}", System::KIND),
        RegistryKey::Tenant { namespace, name } => format!("{}/{namespace}/{name}", Tenant::KIND),
    }
}

/// One state of one Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretVersion {
    /// The uid.
    pub uid: String,
    /// The resource version.
    pub resource_version: String,
}

impl SecretVersion {
    /// Returns the state of that Secret.
    pub fn of(secret: &Secret) -> Self {
        Self {
            uid: secret.uid().unwrap_or_default(),
            resource_version: secret.resource_version().unwrap_or_default(),
        }
    }
}

/// A Secret that the operator manages, as it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundSecret {
    /// Its state.
    pub version: SecretVersion,
    /// The uid of the registry, from the label.
    pub registry: Arc<str>,
    /// The registry's kind and name, from the annotation; empty if there is none.
    pub named: Arc<str>,
    /// The fingerprint of its content.
    pub fingerprint: SecretFingerprint,
    /// Whether an apply wrote all that the operator wrote. Otherwise an apply alone removes nothing of it.
    pub applied: bool,
    /// The fingerprint of the keys of all fields that the operator owns.
    keys: SecretFingerprint,
    /// Whether it can be changed: its type is right, and it is not immutable.
    pub mendable: bool,
    /// Whether its type is right.
    pub fits: bool,
}

/// Selects Secrets with the operator's labels: its own, and copies of them.
pub fn selector() -> String {
    format!("{MANAGED_BY_LABEL}={OPERATOR},{REGISTRY_UID_LABEL}")
}

impl FoundSecret {
    /// Reads a Secret; `None` if the operator doesn't manage it.
    ///
    /// Labels alone aren't enough: copies of a Secret (by `kubectl get -o yaml`, a replicator, or the syncer of a
    /// virtual cluster) have them too, but with another field manager. So this needs `managedFields`; code that strips
    /// them has to do so afterwards.
    pub fn of(secret: &Secret) -> Option<Self> {
        let labels = secret.labels();
        let registry = labels.get(REGISTRY_UID_LABEL)?;
        labels.get(MANAGED_BY_LABEL).filter(|by| *by == OPERATOR)?;
        let owned = OwnedFields::of(secret);
        // Both, as long as nobody changed either.
        if !owned.has(SecretField::Data(ENTRY)) && !owned.has(SecretField::Label(MANAGED_BY_LABEL)) {
            return None;
        }
        let named = secret.annotations().get(REGISTRY_ANNOTATION).map_or("", String::as_str);
        let fits = secret.type_.as_deref() == Some(DOCKER_CONFIG);
        Some(Self {
            version: SecretVersion::of(secret),
            registry: registry.as_str().into(),
            named: named.into(),
            fingerprint: SecretFingerprint::of(&owned.values(secret)),
            applied: owned.are_applied(),
            keys: SecretFingerprint::of_keys(&owned.values(secret)),
            mendable: fits && secret.immutable != Some(true),
            fits,
        })
    }

    /// Returns whether it was written for a registry with that key, maybe with another uid: the annotation names no
    /// other registry.
    pub fn is_named(&self, key: &RegistryKey) -> bool {
        self.named.is_empty() || *self.named == *annotation(key)
    }

    /// Returns whether it has that content.
    pub fn says(&self, content: &PullSecretContent) -> bool {
        self.fits && self.fingerprint == content.fingerprint()
    }

    /// Returns whether an apply of `content` alone removes all other fields that the operator wrote.
    pub fn is_applicable(&self, content: &PullSecretContent) -> bool {
        self.applied || self.keys == SecretFingerprint::of_keys(&content.fields())
    }

    /// Returns whether `other` is an older state of the same Secret. Resource versions are comparable numbers
    /// (KEP-5504).
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let number = |found: &Self| found.version.resource_version.parse::<u64>().ok();
        self.version.uid == other.version.uid
            && matches!((number(self), number(other)), (Some(this), Some(other)) if this > other)
    }
}

#[cfg(test)]
impl FoundSecret {
    /// A Secret of that registry, in that state, without content.
    pub(super) fn example(registry: &str, version: SecretVersion) -> Self {
        let fingerprint = SecretFingerprint::of(&SecretFields::new());
        let (registry, named) = (registry.into(), "".into());
        let keys = fingerprint;
        Self { version, registry, named, fingerprint, applied: true, keys, mendable: true, fits: true }
    }
}

/// The Secret as the API server stores it after the operator wrote the manifest.
#[cfg(test)]
pub(super) fn written(mut manifest: Value) -> Secret {
    manifest["metadata"]["managedFields"] = json!([managed_by(registry_api::PULL_SECRET_MANAGER, "Update")]);
    serde_json::from_value(manifest).unwrap()
}

#[cfg(test)]
fn managed_by(manager: &str, operation: &str) -> Value {
    json!({
        "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:data": {".": {}, "f:.dockerconfigjson": {}},
            "f:metadata": {
                "f:annotations": {".": {}, "f:registry.spectrocloud.com/registry": {}},
                "f:labels": {
                    ".": {}, "f:app.kubernetes.io/managed-by": {}, "f:registry.spectrocloud.com/registry-uid": {},
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use registry_api::PULL_SECRET_MANAGER;

    use super::*;

    fn content(password: &str) -> PullSecretContent {
        let credentials = Credentials::basic("demo", password.into()).unwrap();
        let key = RegistryKey::Tenant { namespace: "team".into(), name: "packs".into() };
        PullSecretContent::new(&key, "uid-1", &credentials, &Endpoint::parse("https://r.io").unwrap())
    }

    fn written(content: &PullSecretContent) -> Secret {
        super::written(content.manifest("pull", None))
    }

    fn managed(secret: &mut Secret, entries: Value) {
        secret.metadata.managed_fields = serde_json::from_value(entries).unwrap();
    }

    #[test]
    fn written_secret_matches_the_desired_one() {
        let found = FoundSecret::of(&written(&content("right"))).unwrap();
        assert!(found.says(&content("right")) && found.mendable);
        assert!(!found.says(&content("other")));
        assert_eq!(&*found.registry, "uid-1");
    }

    #[test]
    fn secret_without_label_is_unmanaged() {
        for label in [MANAGED_BY_LABEL, REGISTRY_UID_LABEL] {
            let mut secret = written(&content("right"));
            secret.labels_mut().remove(label);
            assert_eq!(FoundSecret::of(&secret), None, "{label}");
        }
        let mut secret = written(&content("right"));
        secret.labels_mut().insert(MANAGED_BY_LABEL.to_owned(), "Helm".to_owned());
        assert_eq!(FoundSecret::of(&secret), None);
    }

    #[test]
    fn copy_with_both_labels_is_unmanaged() {
        let copy = |entries: Value| {
            let mut secret = written(&content("right"));
            managed(&mut secret, entries);
            FoundSecret::of(&secret)
        };
        assert_eq!(copy(json!([])), None);
        assert_eq!(copy(json!([managed_by("kubectl-client-side-apply", "Update")])), None);
        assert_eq!(copy(json!([managed_by("vcluster", "Apply")])), None);
        // What remains of an entry when another client has written all its fields.
        let rest = json!({"f:metadata": {"f:labels": {".": {}}}});
        let bare = json!({"manager": PULL_SECRET_MANAGER, "operation": "Update", "fieldsV1": rest});
        assert_eq!(copy(json!([bare])), None);
    }

    #[test]
    fn changed_secret_stays_managed() {
        let mut secret = written(&content("right"));
        let mut ours = managed_by(PULL_SECRET_MANAGER, "Apply");
        ours["fieldsV1"].as_object_mut().unwrap().remove("f:data");
        managed(&mut secret, json!([managed_by("kubectl-edit", "Update"), ours]));
        assert!(FoundSecret::of(&secret).is_some());
    }

    #[test]
    fn annotation_identifies_earlier_uid() {
        let found = FoundSecret::of(&written(&content("right"))).unwrap();
        let key = |name: &str| RegistryKey::Tenant { namespace: "team".into(), name: name.into() };
        assert!(found.is_named(&key("packs")) && !found.is_named(&key("charts")));
        assert!(!found.is_named(&RegistryKey::System { name: "packs".into() }));
        let mut secret = written(&content("right"));
        secret.annotations_mut().clear();
        assert!(FoundSecret::of(&secret).unwrap().is_named(&key("charts")));
    }

    #[test]
    fn detects_changes_of_managed_fields_only() {
        let content = content("right");
        let says = |change: &dyn Fn(&mut Secret)| {
            let mut secret = written(&content);
            change(&mut secret);
            FoundSecret::of(&secret).unwrap().says(&content)
        };
        assert!(!says(&|secret| secret.data = None));
        assert!(!says(&|secret| secret.type_ = Some("Opaque".to_owned())));
        assert!(!says(&|secret| secret.annotations_mut().clear()));
        assert!(!says(&|secret| drop(secret.labels_mut().insert(REGISTRY_UID_LABEL.into(), "x".into()))));
        assert!(says(&|secret| drop(secret.labels_mut().insert("team".into(), "x".into()))));
        assert!(says(&|secret| drop(secret.annotations_mut().insert("note".into(), "x".into()))));
    }

    #[test]
    fn sees_label_that_is_no_longer_written() {
        let mut secret = written(&content("right"));
        secret.labels_mut().insert("old".into(), "x".into());
        assert!(FoundSecret::of(&secret).unwrap().says(&content("right")), "somebody else wrote it");
        for operation in ["Update", "Apply"] {
            let mut entry = managed_by(PULL_SECRET_MANAGER, operation);
            entry["fieldsV1"]["f:metadata"]["f:labels"]["f:old"] = json!({});
            managed(&mut secret, json!([entry]));
            let found = FoundSecret::of(&secret).unwrap();
            assert!(!found.says(&content("right")), "{operation}");
            assert_eq!(found.applied, operation == "Apply");
        }
    }

    #[test]
    fn debug_output_holds_no_credentials() {
        let content = content("hunter22");
        let found = FoundSecret::of(&written(&content)).unwrap();
        assert!(!format!("{content:?} {found:?}").contains("hunter22"));
    }
}
