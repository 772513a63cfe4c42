//! A pull Secret: what the operator writes, and what it finds.
//!
//! Owns which Secret is the operator's own (both labels, and written by its field manager), and when one says what it should.
//! Reads and writes nothing.

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

/// The type that kubelets take credentials from.
const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";
/// The key that such a Secret has.
const ENTRY: &str = ".dockerconfigjson";

/// What makes two Secrets say the same; of no use to who would like to know what that is.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct SecretFingerprint([u8; 32]);

impl fmt::Debug for SecretFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

impl SecretFingerprint {
    /// Each part goes in with its length, so that no two lists of parts run together.
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

/// What a registry's pull Secrets hold: the credentials that were proven, for the endpoint that they were proven at.
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
    /// The pull Secret of that registry.
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

    /// All that the operator writes.
    fn fields(&self) -> SecretFields<'_> {
        let labels = self.labels().into_iter().map(|(key, text)| (SecretField::Label(key), text.as_bytes()));
        let annotations = self.annotations().into_iter();
        let annotations = annotations.map(|(key, text)| (SecretField::Annotation(key), text.as_bytes()));
        let data = (SecretField::Data(ENTRY), self.json.expose_secret().as_bytes());
        labels.chain(annotations).chain([data]).collect()
    }

    /// What it comes to.
    pub fn fingerprint(&self) -> SecretFingerprint {
        self.fingerprint
    }

    /// The whole object, under that name. `at` is the version of the Secret that it takes the place of, if any.
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

/// The value of the annotation that tells people whose Secret it is.
pub fn annotation(key: &RegistryKey) -> String {
    match key {
        RegistryKey::System { name } => format!("{}/{name}", System::KIND),
        RegistryKey::Tenant { namespace, name } => format!("{}/{namespace}/{name}", Tenant::KIND),
    }
}

/// One state of one Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretVersion {
    /// Which incarnation.
    pub uid: String,
    /// The version of the object in the API server; opaque.
    pub resource_version: String,
}

impl SecretVersion {
    /// The state of that Secret.
    pub fn of(secret: &Secret) -> Self {
        Self {
            uid: secret.uid().unwrap_or_default(),
            resource_version: secret.resource_version().unwrap_or_default(),
        }
    }
}

/// A Secret of the operator's own, as it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundSecret {
    /// Its state.
    pub version: SecretVersion,
    /// The uid of the registry that it belongs to.
    pub registry: Arc<str>,
    /// The registry's scope and name, by the annotation; empty if there is none.
    pub named: Arc<str>,
    /// What it says.
    pub fingerprint: SecretFingerprint,
    /// Whether all that the operator wrote was written by an apply. If not, an apply alone removes nothing of it.
    pub applied: bool,
    /// Whether it can be made to say something else: its type is the right one, and it is not immutable.
    pub mendable: bool,
    /// Whether it is of the right type.
    pub fits: bool,
}

/// Selects Secrets that have the operator's labels: its own, and copies of them.
pub fn selector() -> String {
    format!("{MANAGED_BY_LABEL}={OPERATOR},{REGISTRY_UID_LABEL}")
}

impl FoundSecret {
    /// The operator's own Secret; none if it is somebody else's.
    ///
    /// Labels alone don't make it the operator's: whoever copies a Secret (`kubectl get -o yaml`, a replicator, the syncer of
    /// a virtual cluster) copies its labels too. The copy has another field manager. So this needs `managedFields`: whoever
    /// strips them from what a watch brings has to do so after this.
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
            mendable: fits && secret.immutable != Some(true),
            fits,
        })
    }

    /// Whether it was written for a registry with that key, whose uid may have been another: the annotation names no other.
    pub fn is_named(&self, key: &RegistryKey) -> bool {
        self.named.is_empty() || *self.named == *annotation(key)
    }

    /// Whether it says what `content` does.
    pub fn says(&self, content: &PullSecretContent) -> bool {
        self.fits && self.fingerprint == content.fingerprint()
    }

    /// Whether `other` is an older state of the same Secret. Resource versions are comparable numbers (KEP-5504).
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let number = |found: &Self| found.version.resource_version.parse::<u64>().ok();
        self.version.uid == other.version.uid
            && matches!((number(self), number(other)), (Some(this), Some(other)) if this > other)
    }
}

#[cfg(test)]
impl FoundSecret {
    /// A Secret of that registry's, in that state, which says nothing.
    pub(super) fn example(registry: &str, version: SecretVersion) -> Self {
        let fingerprint = SecretFingerprint::of(&SecretFields::new());
        let (registry, named) = (registry.into(), "".into());
        Self { version, registry, named, fingerprint, applied: true, mendable: true, fits: true }
    }
}

/// The Secret of that manifest as the API server has it after the operator wrote it.
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
    fn what_was_written_is_found_to_say_what_it_should() {
        let found = FoundSecret::of(&written(&content("right"))).unwrap();
        assert!(found.says(&content("right")) && found.mendable);
        assert!(!found.says(&content("other")));
        assert_eq!(&*found.registry, "uid-1");
    }

    #[test]
    fn a_secret_that_lacks_a_label_is_somebody_elses() {
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
    fn a_copy_with_both_labels_is_somebody_elses() {
        let copy = |entries: Value| {
            let mut secret = written(&content("right"));
            managed(&mut secret, entries);
            FoundSecret::of(&secret)
        };
        assert_eq!(copy(json!([])), None);
        assert_eq!(copy(json!([managed_by("kubectl-client-side-apply", "Update")])), None);
        assert_eq!(copy(json!([managed_by("vcluster", "Apply")])), None);
        // What is left of an entry whose every field somebody else has written.
        let rest = json!({"f:metadata": {"f:labels": {".": {}}}});
        let bare = json!({"manager": PULL_SECRET_MANAGER, "operation": "Update", "fieldsV1": rest});
        assert_eq!(copy(json!([bare])), None);
    }

    #[test]
    fn a_secret_stays_the_operators_when_others_change_it() {
        let mut secret = written(&content("right"));
        let mut ours = managed_by(PULL_SECRET_MANAGER, "Apply");
        ours["fieldsV1"].as_object_mut().unwrap().remove("f:data");
        managed(&mut secret, json!([managed_by("kubectl-edit", "Update"), ours]));
        assert!(FoundSecret::of(&secret).is_some());
    }

    #[test]
    fn the_annotation_tells_an_earlier_uid_of_the_same_registry() {
        let found = FoundSecret::of(&written(&content("right"))).unwrap();
        let key = |name: &str| RegistryKey::Tenant { namespace: "team".into(), name: name.into() };
        assert!(found.is_named(&key("packs")) && !found.is_named(&key("charts")));
        assert!(!found.is_named(&RegistryKey::System { name: "packs".into() }));
        let mut secret = written(&content("right"));
        secret.annotations_mut().clear();
        assert!(FoundSecret::of(&secret).unwrap().is_named(&key("charts")));
    }

    #[test]
    fn a_change_to_anything_that_the_operator_writes_is_seen_and_to_anything_else_is_not() {
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
    fn a_label_that_the_operator_wrote_and_writes_no_more_is_seen() {
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
    fn nothing_of_the_credentials_is_shown() {
        let content = content("hunter22");
        let found = FoundSecret::of(&written(&content)).unwrap();
        assert!(!format!("{content:?} {found:?}").contains("hunter22"));
    }
}
