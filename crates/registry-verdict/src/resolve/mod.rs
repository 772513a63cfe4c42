//! References → [`Material`]: reads the Secrets and ConfigMaps that a registry refers to, and decides who signs in to AWS.
//!
//! A reference that can't be used is a [`Problem`], which becomes a condition. Only what a retry can cure is an error.
//!
//! - `policy`: what `tenantPolicy` lets tenants' Secrets be used for. Pure.
//! - `purpose`: what a Secret can be used for, by its type and its annotation `hosts`. Pure.
//! - `references`: references and contents, and where they are read from.
//! - `spec_references`: which objects a spec references, and for which purpose. Pure.

mod policy;
mod purpose;
mod references;
mod spec_references;

use std::sync::Arc;

use purpose::{DOCKER_CONFIG, annotate, check_hosts, check_type};
use registry_api::{
    HOSTS_ANNOTATION,
    spec::{EcrAuth, RegistrySpec},
};
use registry_probe::{
    CaBundle, CaError, ClientCertificateError, ClientIdentity, Credentials, CredentialsError,
    DockerConfigError, Endpoint, HostPatternsError, HostPort, Material, RepositoryName,
};
use secrecy::SecretString;
use spec_references::{ReferencePurpose, SpecReference, spec_references};
use thiserror::Error;

use crate::{
    ecr::{EcrEndpoint, Identity, KeyFault, Keys, Login, OperatorIdentity, RoleSource, hosts::is_ecr},
    object::{RegistryKey, RegistryScope},
};
pub use policy::{TenantPolicy, policy_reference};
pub use purpose::{SecretPurpose, WrongType};
pub use references::{
    ContentsDigest, Objects, ObservedReference, Obstacle, ReadError, Reference, ReferenceContent,
    ReferenceKind, WatchScope,
};
pub use spec_references::{credentials_secret, references};

/// Why a reference can't be used. Names the object, and never its contents.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Problem {
    /// The object doesn't exist.
    #[error("{reference} not found; create it or correct {field}")]
    NotFound {
        /// The object.
        reference: Reference,
        /// The field that references it.
        field: &'static str,
    },
    /// The operator has no permission to read it.
    #[error("failed to read {reference}")]
    AccessDenied {
        /// The object.
        reference: Reference,
        /// The operator, as an option of `kubectl create rolebinding`.
        operator: String,
        /// Someone else's RoleBinding that prevents the operator from binding itself, if there is one.
        obstacle: Option<Obstacle>,
    },
    /// The operator can't read the tenant policy. Without it, no Secret of a tenant is used.
    #[error(
        "failed to read {0}: forbidden; an administrator can reinstall the chart's Role \
         registry-operator-system"
    )]
    PolicyDenied(Reference),
    /// A key is missing.
    #[error("{reference} has no key {key}; add it")]
    NoKey {
        /// The object.
        reference: Reference,
        /// The key.
        key: String,
    },
    /// The Secret has another type than the field requires.
    #[error("{0}")]
    WrongType(WrongType),
    /// The annotation with the Secret's hosts is malformed.
    #[error("annotation {HOSTS_ANNOTATION} of {reference} is invalid: {cause}")]
    Hosts {
        /// The Secret.
        reference: Reference,
        /// What is wrong with it.
        cause: HostPatternsError,
    },
    /// The annotation doesn't list the endpoint's host.
    #[error(
        "{reference} not used for {server}: annotation {HOSTS_ANNOTATION} does not list it; add it or correct \
            spec.endpoint"
    )]
    OtherHosts {
        /// The Secret.
        reference: Reference,
        /// The endpoint's server.
        server: HostPort,
    },
    /// The Secret has no annotation with its hosts, which the tenant policy requires.
    #[error(
        "{reference} not used: tenantPolicy.secretHosts requires annotation {HOSTS_ANNOTATION}; to allow {server}, run {}",
        annotate(.reference, .server)
    )]
    NoHosts {
        /// The Secret.
        reference: Reference,
        /// The endpoint's server.
        server: HostPort,
    },
    /// The AWS token would be sent to a host that is neither an ECR host nor listed.
    #[error(
        "AWS token not sent: spec.endpoint ({server}) is not an ECR host; an administrator can add it to \
         tenantPolicy.allowedEndpoints"
    )]
    AwsTokenElsewhere {
        /// The endpoint's server.
        server: HostPort,
    },
    /// A value isn't UTF-8 text.
    #[error("key {key} of {reference} is not UTF-8 text; correct the value")]
    NotText {
        /// The Secret.
        reference: Reference,
        /// The key.
        key: &'static str,
    },
    /// The values aren't valid credentials.
    #[error("{reference} is invalid: {cause}")]
    Credentials {
        /// The Secret.
        reference: Reference,
        /// What is wrong with them.
        cause: CredentialsError,
    },
    /// The Docker configuration can't be used for this registry.
    #[error("{reference} {cause}")]
    DockerConfig {
        /// The Secret.
        reference: Reference,
        /// What is wrong with it.
        cause: DockerConfigError,
    },
    /// The client certificate or its key is invalid.
    #[error("{reference} {cause}")]
    ClientCertificate {
        /// The Secret.
        reference: Reference,
        /// What is wrong with it.
        cause: ClientCertificateError,
    },
    /// The CA certificates are invalid.
    #[error("{source_name} {cause}")]
    Ca {
        /// Where they came from.
        source_name: String,
        /// What is wrong with them.
        cause: CaError,
    },
    /// A value isn't a valid part of AWS access keys.
    #[error("key {key} of {reference} {cause}")]
    AwsKey {
        /// The Secret.
        reference: Reference,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        cause: KeyFault,
    },
    /// The spec uses the operator's own AWS identity where that isn't allowed.
    #[error(
        "the operator's AWS identity is only for SystemRegistries; set spec.auth.ecr.sts.secretRef to a Secret with access \
         keys"
    )]
    OperatorIdentity,
    /// The key with the CA is missing.
    #[error("{reference} has no key {key} with CA certificates; add it or set the key in spec.tls.ca")]
    NoCaKey {
        /// The object.
        reference: Reference,
        /// The key.
        key: String,
    },
}

/// The result of reading a registry's references.
#[derive(Debug)]
pub struct Resolved {
    /// The references that were read, in the order of the spec.
    pub references: Vec<ObservedReference>,
    /// The tenant policy, if it was read.
    pub policy: Option<ObservedReference>,
    /// A digest of the contents of all references.
    pub contents: ContentsDigest,
    /// What to probe with, or why that isn't possible.
    pub means: Result<Means, Problem>,
}

/// What to probe a registry with.
#[derive(Debug)]
pub struct Means {
    /// Credentials and certificates from the references.
    pub material: Material,
    /// The AWS login that provides the credentials, with `auth.ecr`.
    pub login: Option<Login>,
}

/// What to resolve.
#[derive(Clone, Copy, Debug)]
pub struct ResolveRequest<'a> {
    /// The registry.
    pub key: &'a RegistryKey,
    /// Its spec.
    pub spec: &'a RegistrySpec,
    /// Its endpoint.
    pub endpoint: &'a Endpoint,
    /// Its ECR endpoint, with `auth.ecr`.
    pub place: Option<&'a EcrEndpoint>,
    /// Its tenant.
    pub tenant: Option<&'a Arc<str>>,
    /// The namespace of its references.
    pub namespace: &'a str,
    /// Where the tenant policy comes from.
    pub policy: PolicySource<'a>,
}

/// Where the tenant policy comes from. It only applies to TenantRegistries.
#[derive(Clone, Copy, Debug)]
pub enum PolicySource<'a> {
    /// The ConfigMap in the operator's namespace, which has this name.
    Namespace(&'a str),
    /// The policy is already known.
    Known(&'a TenantPolicy),
}

/// Reads all references of the spec from `objects`.
pub async fn resolve<O: Objects>(
    wanted: ResolveRequest<'_>,
    objects: &O,
) -> Result<Resolved, ReadError<O::Error>> {
    let mut reader = ReferenceReader {
        objects,
        namespace: wanted.namespace,
        server: wanted.endpoint.server(),
        policy: None,
        policy_read: None,
        readings: Vec::new(),
        contents: ContentsDigest::default(),
    };
    let means = reader.means(wanted).await;
    let ReferenceReader { readings, contents, policy_read: policy, .. } = reader;
    match means {
        Ok(means) => Ok(Resolved { references: readings, policy, contents, means: Ok(means) }),
        Err(ResolveStop::Problem(problem)) => {
            Ok(Resolved { references: readings, policy, contents, means: Err(problem) })
        }
        Err(ResolveStop::Read(ReadError::Forbidden { reference, operator, obstacle })) => {
            let problem = Problem::AccessDenied { reference, operator, obstacle };
            Ok(Resolved { references: readings, policy, contents, means: Err(problem) })
        }
        Err(ResolveStop::Read(error)) => Err(error),
    }
}

/// Why reading stops early.
#[derive(Debug, Error)]
enum ResolveStop<E> {
    #[error(transparent)]
    Problem(#[from] Problem),
    #[error(transparent)]
    Read(#[from] ReadError<E>),
}

struct ReferenceReader<'a, O> {
    objects: &'a O,
    namespace: &'a str,
    /// The server that will receive what is read.
    server: &'a HostPort,
    /// `None` in system scope.
    policy: Option<TenantPolicy>,
    policy_read: Option<ObservedReference>,
    readings: Vec<ObservedReference>,
    contents: ContentsDigest,
}

impl<O: Objects> ReferenceReader<'_, O> {
    async fn means(&mut self, wanted: ResolveRequest<'_>) -> Result<Means, ResolveStop<O::Error>> {
        self.policy = self.policy(wanted).await?;
        let login = self.login(wanted).await?;
        let material = self.material(wanted.spec, wanted.endpoint).await?;
        Ok(Means { material, login })
    }

    async fn policy(
        &mut self,
        wanted: ResolveRequest<'_>,
    ) -> Result<Option<TenantPolicy>, ResolveStop<O::Error>> {
        let namespace = match wanted.policy {
            PolicySource::Known(policy) => {
                return Ok((wanted.key.scope() == RegistryScope::Tenant).then(|| policy.clone()));
            }
            PolicySource::Namespace(namespace) => namespace,
        };
        let Some(reference) = policy_reference(wanted.key, wanted.spec, namespace) else { return Ok(None) };
        let content = match self.objects.read(&reference).await {
            Err(ReadError::Forbidden { reference, .. }) => {
                return Err(Problem::PolicyDenied(reference).into());
            }
            content => content?,
        };
        let version = content.as_ref().map(|content| content.version.clone());
        self.contents.add(content.as_ref().map_or(&[][..], |content| &content.digest.0));
        self.policy_read = Some(ObservedReference { reference, version });
        Ok(Some(TenantPolicy::of(content.as_deref())))
    }

    async fn login(&mut self, wanted: ResolveRequest<'_>) -> Result<Option<Login>, ResolveStop<O::Error>> {
        let ecr = wanted.spec.auth.as_ref().and_then(|auth| auth.ecr.as_ref());
        let (Some(ecr), Some(place)) = (ecr, wanted.place) else { return Ok(None) };
        let server = wanted.endpoint.server();
        if self.policy.as_ref().is_some_and(|policy| !is_ecr(server) && !policy.lists(server)) {
            return Err(Problem::AwsTokenElsewhere { server: server.clone() }.into());
        }
        let secret = self.secret(wanted.spec, SecretPurpose::AwsKeys).await?;
        let secret = secret.as_ref().map(|(reference, content)| (reference, content.as_ref()));
        let identity = aws_identity(wanted.key, ecr, secret)?;
        Ok(Some(Login { tenant: wanted.tenant.cloned(), endpoint: place.clone(), identity }))
    }

    async fn material(
        &mut self,
        spec: &RegistrySpec,
        endpoint: &Endpoint,
    ) -> Result<Material, ResolveStop<O::Error>> {
        Ok(Material {
            credentials: self.credentials(spec, endpoint).await?,
            ca: self.ca(spec).await?,
            client_certificate: self.client_certificate(spec).await?,
        })
    }

    async fn credentials(
        &mut self,
        spec: &RegistrySpec,
        endpoint: &Endpoint,
    ) -> Result<Option<Credentials>, ResolveStop<O::Error>> {
        if let Some((reference, content)) = self.secret(spec, SecretPurpose::Basic).await? {
            let base_path =
                spec.base_content_path.as_deref().and_then(|path| RepositoryName::parse(path).ok());
            return Ok(Some(basic_credentials(&reference, &content, endpoint, base_path.as_ref())?));
        }
        let token = self.secret(spec, SecretPurpose::Token).await?;
        Ok(token.map(|(reference, content)| token_credentials(&reference, &content)).transpose()?)
    }

    async fn ca(&mut self, spec: &RegistrySpec) -> Result<Option<CaBundle>, ResolveStop<O::Error>> {
        let Some(ca) = spec.tls.as_ref().and_then(|tls| tls.ca.as_ref()) else { return Ok(None) };
        if let Some(inline) = &ca.inline {
            let bundle = CaBundle::parse(inline.as_bytes());
            let source_name = "spec.tls.ca.inline".to_owned();
            return Ok(Some(bundle.map_err(|cause| Problem::Ca { source_name, cause })?));
        }
        for named in spec_references(spec) {
            if let ReferencePurpose::Ca(_, key) = named.purpose() {
                return self.ca_of(named, key).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn ca_of(
        &mut self,
        named: SpecReference<'_>,
        key: &str,
    ) -> Result<CaBundle, ResolveStop<O::Error>> {
        let (reference, content) = self.read(named).await?;
        // Nothing from this Secret is sent, but if it lists its hosts, it is used for no others.
        check_hosts(&reference, &content, self.server, false)?;
        let Some(pem) = content.get(key) else {
            return Err(Problem::NoCaKey { reference, key: key.to_owned() }.into());
        };
        let source_name = format!("key {key} of {reference}");
        Ok(CaBundle::parse(pem).map_err(|cause| Problem::Ca { source_name, cause })?)
    }

    async fn client_certificate(
        &mut self,
        spec: &RegistrySpec,
    ) -> Result<Option<ClientIdentity>, ResolveStop<O::Error>> {
        let Some((reference, content)) = self.secret(spec, SecretPurpose::ClientCertificate).await? else {
            return Ok(None);
        };
        let (certificate, key) =
            (entry(&reference, &content, "tls.crt")?, entry(&reference, &content, "tls.key")?);
        let parsed = ClientIdentity::parse(certificate, key);
        Ok(Some(parsed.map_err(|cause| Problem::ClientCertificate { reference, cause })?))
    }

    /// Reads the Secret for that purpose, if the spec names one, and checks that its type and its hosts allow the use.
    async fn secret(
        &mut self,
        spec: &RegistrySpec,
        purpose: SecretPurpose,
    ) -> Result<Option<(Reference, Arc<ReferenceContent>)>, ResolveStop<O::Error>> {
        let is_for = |named: &SpecReference<'_>| named.purpose() == ReferencePurpose::Secret(purpose);
        let Some(named) = spec_references(spec).into_iter().find(is_for) else { return Ok(None) };
        let (reference, content) = self.read(named).await?;
        check_type(purpose, &reference, &content)?;
        let required = self.policy.as_ref().is_some_and(TenantPolicy::requires_secret_hosts);
        check_hosts(&reference, &content, self.server, required)?;
        Ok(Some((reference, content)))
    }

    async fn read(
        &mut self,
        named: SpecReference<'_>,
    ) -> Result<(Reference, Arc<ReferenceContent>), ResolveStop<O::Error>> {
        let reference = named.reference(self.namespace);
        let content = self.objects.read(&reference).await?;
        let version = content.as_ref().map(|content| content.version.clone());
        self.readings.push(ObservedReference { reference: reference.clone(), version });
        self.contents.add(reference.name.as_bytes());
        self.contents.add(content.as_ref().map_or(&[][..], |content| &content.digest.0));
        match content {
            Some(content) => Ok((reference, content)),
            None => Err(Problem::NotFound { reference, field: named.purpose().field() }.into()),
        }
    }
}

fn basic_credentials(
    reference: &Reference,
    content: &ReferenceContent,
    endpoint: &Endpoint,
    base_path: Option<&RepositoryName>,
) -> Result<Credentials, Problem> {
    if content.kind.as_deref() == Some(DOCKER_CONFIG) {
        let json = entry(reference, content, ".dockerconfigjson")?;
        return Credentials::from_dockerconfigjson_below(json, endpoint, base_path)
            .map_err(|cause| Problem::DockerConfig { reference: reference.clone(), cause });
    }
    // Kubernetes allows either key to be missing. To sign in without it would be a wrong password, which may lock the
    // account.
    let username = text(reference, content, "username")?;
    let password = text(reference, content, "password")?;
    Credentials::basic(username, SecretString::from(password))
        .map_err(|cause| Problem::Credentials { reference: reference.clone(), cause })
}

fn token_credentials(reference: &Reference, content: &ReferenceContent) -> Result<Credentials, Problem> {
    let token = optional_text(reference, content, "token")?;
    let identity = optional_text(reference, content, "identityToken")?;
    let credentials = match (token, identity) {
        (Some(token), _) => Credentials::registry_token(&SecretString::from(token)),
        (None, Some(identity)) => Credentials::identity_token(None, &SecretString::from(identity)),
        (None, None) => {
            return Err(Problem::NoKey {
                reference: reference.clone(),
                key: "token or identityToken".to_owned(),
            });
        }
    };
    credentials.map_err(|cause| Problem::Credentials { reference: reference.clone(), cause })
}

/// Returns who signs in to AWS: the owner of the keys in `secret`, or, without a Secret, the operator.
pub fn aws_identity(
    registry: &RegistryKey,
    ecr: &EcrAuth,
    secret: Option<(&Reference, &ReferenceContent)>,
) -> Result<Identity, Problem> {
    let keys = secret.map(|(reference, content)| aws_keys(reference, content)).transpose()?;
    let Some(sts) = &ecr.sts else {
        return keys.map(Identity::Keys).ok_or(Problem::OperatorIdentity);
    };
    let source = match keys {
        Some(keys) => RoleSource::Keys(keys),
        None => RoleSource::Operator(OperatorIdentity::of(registry).ok_or(Problem::OperatorIdentity)?),
    };
    Ok(Identity::Role { arn: sts.role_arn.clone(), external_id: sts.external_id.clone(), source })
}

fn aws_keys(reference: &Reference, content: &ReferenceContent) -> Result<Keys, Problem> {
    let part = |key: &'static str| {
        let text = optional_text(reference, content, key)?;
        let part = text.map(Keys::part).transpose();
        part.map_err(|cause| Problem::AwsKey { reference: reference.clone(), key, cause })
    };
    let needed = |key: &'static str| {
        part(key)?.ok_or_else(|| Problem::NoKey { reference: reference.clone(), key: key.to_owned() })
    };
    // Tools that fill a Secret from a form leave an empty value if there is no session.
    let session = content.get("AWS_SESSION_TOKEN").is_some_and(|token| !token.trim_ascii().is_empty());
    Ok(Keys {
        id: needed("AWS_ACCESS_KEY_ID")?,
        secret: needed("AWS_SECRET_ACCESS_KEY")?,
        session: if session { part("AWS_SESSION_TOKEN")? } else { None },
    })
}

fn entry<'a>(
    reference: &Reference,
    content: &'a ReferenceContent,
    key: &'static str,
) -> Result<&'a [u8], Problem> {
    content.get(key).ok_or_else(|| Problem::NoKey { reference: reference.clone(), key: key.to_owned() })
}

fn text<'a>(
    reference: &Reference,
    content: &'a ReferenceContent,
    key: &'static str,
) -> Result<&'a str, Problem> {
    let missing = || Problem::NoKey { reference: reference.clone(), key: key.to_owned() };
    optional_text(reference, content, key)?.ok_or_else(missing)
}

fn optional_text<'a>(
    reference: &Reference,
    content: &'a ReferenceContent,
    key: &'static str,
) -> Result<Option<&'a str>, Problem> {
    let text = content.get(key).map(str::from_utf8).transpose();
    text.map_err(|_| Problem::NotText { reference: reference.clone(), key })
}
