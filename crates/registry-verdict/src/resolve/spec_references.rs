//! The Secrets and ConfigMaps that a spec references, and for which purpose: one list, to watch and to read them. Pure.

use registry_api::spec::{Auth, Ca, EcrAuth, KeyRef, RegistrySpec, Tls};

use super::{Reference, ReferenceKind, SecretPurpose};

/// What a spec references a Secret or ConfigMap for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReferencePurpose<'a> {
    /// A Secret whose content is sent, or signs requests.
    Secret(SecretPurpose),
    /// CA certificates, with the kind of the object and the key.
    Ca(ReferenceKind, &'a str),
}

impl ReferencePurpose<'_> {
    fn kind(self) -> ReferenceKind {
        match self {
            Self::Secret(_) => ReferenceKind::Secret,
            Self::Ca(kind, _) => kind,
        }
    }

    /// Returns the path of the field.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Secret(purpose) => purpose.reference(),
            Self::Ca(ReferenceKind::ConfigMap, _) => "spec.tls.ca.configMapRef",
            Self::Ca(ReferenceKind::Secret, _) => "spec.tls.ca.secretRef",
        }
    }

    /// Returns whether it contains the credentials.
    fn is_login(self) -> bool {
        match self {
            Self::Secret(SecretPurpose::Basic | SecretPurpose::Token | SecretPurpose::AwsKeys) => true,
            Self::Secret(SecretPurpose::ClientCertificate) | Self::Ca(..) => false,
        }
    }
}

/// An object that a spec references. Only [`spec_references`] creates it, so nothing is read that isn't watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SpecReference<'a> {
    purpose: ReferencePurpose<'a>,
    name: &'a str,
}

impl<'a> SpecReference<'a> {
    pub(super) fn purpose(self) -> ReferencePurpose<'a> {
        self.purpose
    }

    pub(super) fn name(self) -> &'a str {
        self.name
    }

    /// Returns the reference, in that namespace.
    pub(super) fn reference(self, namespace: &str) -> Reference {
        Reference::new(self.purpose.kind(), namespace, self.name)
    }
}

/// Returns every object that a spec references, in the order in which they are read. A new field of the spec doesn't
/// compile until it has its place here.
pub(super) fn spec_references(spec: &RegistrySpec) -> Vec<SpecReference<'_>> {
    let RegistrySpec {
        auth,
        tls,
        content_type: _,
        endpoint: _,
        base_content_path: _,
        validation: _,
        suspend: _,
        deletion_protection: _,
        availability: _,
    } = spec;
    let mut references = Vec::new();
    if let Some(auth) = auth {
        references.extend(of_auth(auth));
    }
    if let Some(tls) = tls {
        references.extend(of_tls(tls));
    }
    references
}

fn of_auth(auth: &Auth) -> impl Iterator<Item = SpecReference<'_>> {
    let Auth { basic, token, ecr } = auth;
    let login = |purpose, name| SpecReference { purpose: ReferencePurpose::Secret(purpose), name };
    let basic = basic.as_ref().map(|basic| login(SecretPurpose::Basic, &basic.secret_ref.name));
    let token = token.as_ref().map(|token| login(SecretPurpose::Token, &token.secret_ref.name));
    let keys = ecr.as_ref().and_then(aws_keys).map(|name| login(SecretPurpose::AwsKeys, name));
    [basic, token, keys].into_iter().flatten()
}

fn aws_keys(ecr: &EcrAuth) -> Option<&str> {
    let EcrAuth { credentials, sts, region: _ } = ecr;
    let keys = credentials.as_ref().map(|keys| &keys.secret_ref);
    let secret = keys.or_else(|| sts.as_ref()?.secret_ref.as_ref())?;
    Some(&secret.name)
}

fn of_tls(tls: &Tls) -> impl Iterator<Item = SpecReference<'_>> {
    let Tls { ca, client_certificate, insecure_skip_verify: _ } = tls;
    let (config_map, secret) = match ca {
        Some(Ca { config_map_ref, secret_ref, inline: _ }) => (config_map_ref.as_ref(), secret_ref.as_ref()),
        None => (None, None),
    };
    let purpose = ReferencePurpose::Secret(SecretPurpose::ClientCertificate);
    let client = client_certificate.as_ref();
    let client = client.map(|client| SpecReference { purpose, name: &client.secret_ref.name });
    let config_map = config_map.map(|of| ca_reference(ReferenceKind::ConfigMap, of));
    [config_map, secret.map(|of| ca_reference(ReferenceKind::Secret, of)), client].into_iter().flatten()
}

fn ca_reference(kind: ReferenceKind, KeyRef { name, key }: &KeyRef) -> SpecReference<'_> {
    SpecReference { purpose: ReferencePurpose::Ca(kind, key), name }
}

/// Returns every object that the spec references, in `namespace`.
pub fn references(spec: &RegistrySpec, namespace: &str) -> Vec<Reference> {
    spec_references(spec).into_iter().map(|named| named.reference(namespace)).collect()
}

/// Returns the name of the Secret with the credentials.
pub fn credentials_secret(spec: &RegistrySpec) -> Option<&str> {
    spec_references(spec).into_iter().find(|named| named.purpose.is_login()).map(SpecReference::name)
}

/// Returns whether the content of a Secret is sent to the registry, or signs requests.
pub(super) fn uses_secret(spec: &RegistrySpec) -> bool {
    spec_references(spec).iter().any(|named| matches!(named.purpose, ReferencePurpose::Secret(_)))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Arc, Mutex},
    };

    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use registry_probe::Endpoint;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        ecr::EcrEndpoint,
        object::RegistryKey,
        resolve::{
            Objects, PolicySource, ReadError, ReferenceContent, ResolveRequest, TenantPolicy, resolve,
        },
    };

    fn spec(auth: &Value, ca: &Value) -> RegistrySpec {
        let tls = json!({"ca": ca, "clientCertificate": {"secretRef": {"name": "client"}}});
        serde_json::from_value(json!({"endpoint": "https://r.io", "auth": auth, "tls": tls})).unwrap()
    }

    fn specs() -> Vec<RegistrySpec> {
        let secret = json!({"secretRef": {"name": "login"}});
        let role = json!({"roleARN": "arn:aws:iam::123456789012:role/r", "secretRef": {"name": "login"}});
        let auths = [
            json!({"basic": secret}),
            json!({"token": secret}),
            json!({"ecr": {"credentials": secret}}),
            json!({"ecr": {"sts": role}}),
        ];
        let cas = [json!({"configMapRef": {"name": "ca"}}), json!({"secretRef": {"name": "ca"}})];
        auths.iter().flat_map(|auth| cas.iter().map(|ca| spec(auth, ca))).collect()
    }

    /// Has every object, with every key, and records which are read.
    struct Everything(Mutex<Vec<Reference>>, rcgen::CertifiedKey<rcgen::KeyPair>);

    impl Everything {
        fn content(&self, reference: &Reference) -> ReferenceContent {
            let certificate = self.1.cert.pem();
            if reference.scope.kind == ReferenceKind::ConfigMap {
                return serde_json::from_value::<ConfigMap>(json!({"data": {"ca.crt": certificate}}))
                    .unwrap()
                    .into();
            }
            let (kind, data) = match &*reference.name {
                "client" => (
                    "kubernetes.io/tls",
                    json!({"tls.crt": certificate, "tls.key": self.1.signing_key.serialize_pem()}),
                ),
                "ca" => ("Opaque", json!({"ca.crt": certificate})),
                _ => (
                    "",
                    json!({
                        "username": "u", "password": "p", "token": "t", "AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s",
                    }),
                ),
            };
            let data: HashMap<String, String> = serde_json::from_value(data).unwrap();
            let data = data.into_iter().map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes())));
            Secret { type_: Some(kind.to_owned()), data: Some(data.collect()), ..Secret::default() }.into()
        }
    }

    #[derive(Clone, Copy)]
    struct OfType<'a>(&'a Everything, &'static str);

    impl Objects for OfType<'_> {
        type Error = std::convert::Infallible;

        async fn read(
            &self,
            reference: &Reference,
        ) -> Result<Option<Arc<ReferenceContent>>, ReadError<Self::Error>> {
            self.0.0.lock().unwrap().push(reference.clone());
            let mut content = self.0.content(reference);
            if content.kind.as_deref() == Some("") {
                content.kind = Some(self.1.to_owned());
            }
            Ok(Some(Arc::new(content)))
        }
    }

    #[tokio::test]
    async fn reads_what_is_watched() {
        let key = rcgen::generate_simple_self_signed(vec!["r.io".to_owned()]).unwrap();
        let everything = Everything(Mutex::default(), key);
        for spec in specs() {
            let auth = spec.auth.clone().unwrap();
            let kind = if auth.basic.is_some() {
                "kubernetes.io/basic-auth"
            } else if auth.token.is_some() {
                registry_api::TOKEN_SECRET_TYPE
            } else {
                "Opaque"
            };
            let place = auth.ecr.map(|_| EcrEndpoint {
                account: None,
                region: "eu-central-1".into(),
                region_of_host: None,
                fips: false,
                dual_stack: false,
            });
            let request = ResolveRequest {
                key: &RegistryKey::System { name: "packs".into() },
                spec: &spec,
                endpoint: &Endpoint::parse(&spec.endpoint).unwrap(),
                place: place.as_ref(),
                tenant: None,
                namespace: "system",
                policy: PolicySource::Known(&TenantPolicy::default()),
            };
            let resolved = resolve(request, &OfType(&everything, kind)).await.unwrap();
            resolved.means.unwrap();
            let read = std::mem::take(&mut *everything.0.lock().unwrap());
            assert_eq!(read, references(&spec, "system"), "{spec:?}");
            assert_eq!(read.len(), 3);
        }
    }
}
