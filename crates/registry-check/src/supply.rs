//! Supplies the Secrets and ConfigMaps that a registry references: from the password on standard input, the files, the
//! cluster, and finally the user at the terminal.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, ResourceExt};
use registry_api::{RegistrySpec, TOKEN_SECRET_TYPE, spec::EcrAuth};
use registry_probe::Endpoint;
use registry_verdict::{
    ecr::hosts::is_ecr,
    object::RegistryObject,
    resolve::{
        Reference, ReferenceContent, ReferenceKind, TenantPolicy, credentials_secret, policy_reference,
        references,
    },
};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::{
    cluster::{Cluster, is_forbidden, words},
    manifest::Manifests,
    prompt::{Prompt, PromptError},
};

/// The contents of a registry's references.
pub type Contents = HashMap<Reference, Arc<ReferenceContent>>;

/// What the cluster has answered about references: the content, that the object doesn't exist, or why it can't be read.
pub type FetchedReferences = HashMap<Reference, Result<Option<Arc<ReferenceContent>>, String>>;

/// Why a reference can't be supplied.
#[derive(Debug, Error)]
pub enum SupplyError {
    /// It is neither in the files nor readable in the cluster.
    #[error("{reference} not found in the files, and {why}{advice}")]
    Missing {
        /// The missing object.
        reference: Reference,
        /// Why the cluster didn't have it.
        why: String,
        /// What the user can do.
        advice: &'static str,
    },
    /// Someone else is served, and hasn't sent it.
    #[error("{0} is not in the request, and not read from the cluster for others; add it to the request")]
    NotSent(Reference),
    /// The password on standard input doesn't match the spec.
    #[error(
        "--password-stdin needs a registry that uses a password or token (spec.auth.basic or \
        spec.auth.token)"
    )]
    NothingToSignIn,
    /// A password without a user name would be wrong, and could lock the account.
    #[error("--password-stdin needs --username for this registry")]
    NoUsername,
    /// Whether a tenant's AWS token may be sent to the host isn't known.
    #[error(
        "whether tenantPolicy.allowedEndpoints lists this host, as AWS's tokens need outside ECR, is not known: {0}; the operator \
         checks the credentials after the registry is applied"
    )]
    PolicyUnknown(String),
    /// The user gave no answer.
    #[error(transparent)]
    Prompt(#[from] PromptError),
}

const ADVICE: &str = "; add it to a file, use --password-stdin, or run this in a terminal to be prompted";

/// The sources of references.
pub struct Supply<'a> {
    /// The files.
    pub manifests: &'a Manifests,
    /// The cluster, or why there is none.
    pub cluster: Result<&'a Cluster, String>,
    /// The namespace of objects without one.
    pub namespace: &'a str,
    /// The password from standard input, which replaces the Secret with the credentials.
    pub password: Option<SecretString>,
    /// The user name for that password.
    pub username: Option<String>,
    /// Returns a prompt, if there is a user at a terminal.
    pub prompt: fn() -> Option<Box<dyn Prompt>>,
    /// Values that the user has already typed, so that each Secret is asked for only once.
    pub typed: Contents,
    /// What the cluster has answered, so that each object is read only once.
    pub fetched: FetchedReferences,
    /// Notes about where values came from.
    pub notes: Vec<String>,
    /// Whether someone else is served, who chooses the endpoint: then the API server must accept the manifest before anything is
    /// sent there, Secrets come from the manifests alone, and a tenant policy that can't be read allows nothing.
    pub on_behalf: bool,
}

impl Supply<'_> {
    /// Returns the contents of all references of `object`. Omits objects that certainly don't exist, so the status
    /// reports them.
    pub async fn of(&mut self, object: &RegistryObject, namespace: &str) -> Result<Contents, SupplyError> {
        let secret = credentials_secret(&object.spec);
        let login = secret.map(|name| Reference::new(ReferenceKind::Secret, namespace, name));
        let mut contents = Contents::new();
        if self.password.is_some() && (login.is_none() || method(&object.spec) == Some(Method::Aws)) {
            return Err(SupplyError::NothingToSignIn);
        }
        for reference in references(&object.spec, namespace) {
            let is_login = login.as_ref() == Some(&reference);
            if let Some(content) = self.one(&object.spec, &reference, is_login).await? {
                contents.insert(reference, content);
            }
        }
        Ok(contents)
    }

    /// Returns the tenant policy. If it can't be read, only the operator enforces it, unless someone else is served.
    pub async fn policy(
        &mut self,
        object: &RegistryObject,
        system_namespace: &str,
    ) -> Result<TenantPolicy, SupplyError> {
        let Some(reference) = policy_reference(&object.key, &object.spec, system_namespace) else {
            return Ok(TenantPolicy::unknown());
        };
        if let Some(content) = self.in_files(&reference) {
            return Ok(TenantPolicy::of(Some(&content)));
        }
        match self.in_cluster(&reference).await {
            Ok(content) => Ok(TenantPolicy::of(content.as_deref())),
            Err(why) => self.without_policy(&object.spec, why),
        }
    }

    fn without_policy(&mut self, spec: &RegistrySpec, why: String) -> Result<TenantPolicy, SupplyError> {
        let is_aws = method(spec) == Some(Method::Aws);
        if is_aws && self.on_behalf && !is_at_ecr(spec) {
            return Err(SupplyError::PolicyUnknown(why));
        }
        if is_aws {
            self.notes.push(format!(
                "Whether tenantPolicy.allowedEndpoints lists this host, as AWS's token needs outside ECR, is not \
                 known ({why})"
            ));
        }
        Ok(TenantPolicy::unknown())
    }

    async fn one(
        &mut self,
        spec: &RegistrySpec,
        reference: &Reference,
        is_login: bool,
    ) -> Result<Option<Arc<ReferenceContent>>, SupplyError> {
        if is_login && let Some(content) = self.on_stdin(spec)? {
            self.notes.push(format!("Password of {reference} read from standard input"));
            return Ok(Some(Arc::new(content)));
        }
        if let Some(content) = self.in_files(reference) {
            return Ok(Some(Arc::new(content)));
        }
        if self.on_behalf {
            return Err(SupplyError::NotSent(reference.clone()));
        }
        let there = self.in_cluster(reference).await;
        if let Ok(Some(content)) = there {
            self.notes.push(format!("{reference} read from the cluster"));
            return Ok(Some(content));
        }
        if is_login && let Some(content) = self.typed_at_terminal(spec, reference)? {
            return Ok(Some(content));
        }
        let advice = if is_login { ADVICE } else { "; add it to a file" };
        there.map(|_| None).map_err(|why| SupplyError::Missing { reference: reference.clone(), why, advice })
    }

    fn on_stdin(&self, spec: &RegistrySpec) -> Result<Option<ReferenceContent>, SupplyError> {
        let (Some(password), Some(method)) = (&self.password, method(spec)) else { return Ok(None) };
        Ok(match method {
            Method::Basic => {
                let username = self.username.as_deref().ok_or(SupplyError::NoUsername)?;
                Some(for_host_of(spec, login(username, password)))
            }
            Method::Token => Some(for_host_of(spec, token(password))),
            Method::Aws => None,
        })
    }

    fn in_files(&mut self, reference: &Reference) -> Option<ReferenceContent> {
        let (namespace, name) = (&*reference.scope.namespace, &*reference.name);
        let fits = |found: &str, inside: Option<String>| {
            found == name && inside.as_deref().is_none_or(|inside| inside == namespace)
        };
        let (content, names_namespace) = match reference.scope.kind {
            ReferenceKind::Secret => {
                let mut secrets = self.manifests.secrets.iter();
                let secret: &Secret = secrets.rfind(|one| fits(&one.name_any(), one.namespace()))?;
                (ReferenceContent::from(secret.clone()), secret.namespace().is_some())
            }
            ReferenceKind::ConfigMap => {
                let mut maps = self.manifests.config_maps.iter();
                let map: &ConfigMap = maps.rfind(|one| fits(&one.name_any(), one.namespace()))?;
                (ReferenceContent::from(map.clone()), map.namespace().is_some())
            }
        };
        if !names_namespace && self.namespace != namespace {
            self.notes.push(format!(
                "{} {name} in the file has no namespace; apply it with kubectl apply -n {namespace}",
                reference.scope.kind
            ));
        }
        Some(content)
    }

    /// Reads an object in the cluster, the first time that it is asked for.
    async fn in_cluster(&mut self, reference: &Reference) -> Result<Option<Arc<ReferenceContent>>, String> {
        if let Some(fetched) = self.fetched.get(reference) {
            return fetched.clone();
        }
        let fetched = self.fetch(reference).await.map(|found| found.map(Arc::new));
        self.fetched.insert(reference.clone(), fetched.clone());
        fetched
    }

    async fn fetch(&self, reference: &Reference) -> Result<Option<ReferenceContent>, String> {
        let cluster = self.cluster.clone()?;
        let (client, namespace, name) =
            (cluster.client.clone(), &*reference.scope.namespace, &*reference.name);
        let read = match reference.scope.kind {
            ReferenceKind::Secret => Api::<Secret>::namespaced(client, namespace)
                .get_opt(name)
                .await
                .map(|found| found.map(ReferenceContent::from)),
            ReferenceKind::ConfigMap => Api::<ConfigMap>::namespaced(client, namespace)
                .get_opt(name)
                .await
                .map(|found| found.map(ReferenceContent::from)),
        };
        read.map_err(|error| {
            if is_forbidden(&error) { "you may not read it in the cluster".to_owned() } else { words(&error) }
        })
    }

    fn typed_at_terminal(
        &mut self,
        spec: &RegistrySpec,
        reference: &Reference,
    ) -> Result<Option<Arc<ReferenceContent>>, SupplyError> {
        if let Some(content) = self.typed.get(reference) {
            return Ok(Some(content.clone()));
        }
        let (Some(method), Some(mut person)) = (method(spec), (self.prompt)()) else {
            return Ok(None);
        };
        let typed = asked(&mut *person, method, reference, self.username.as_deref())?;
        let content = Arc::new(for_host_of(spec, typed));
        self.notes.push(format!("{reference} read from the prompt"));
        self.typed.insert(reference.clone(), content.clone());
        Ok(Some(content))
    }
}

/// How a Secret is used to sign in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Method {
    Basic,
    Token,
    Aws,
}

fn is_at_ecr(spec: &RegistrySpec) -> bool {
    Endpoint::parse(&spec.endpoint).is_ok_and(|endpoint| is_ecr(endpoint.server()))
}

fn method(spec: &RegistrySpec) -> Option<Method> {
    let auth = spec.auth.as_ref()?;
    let aws = |ecr: &EcrAuth| ecr.credentials.is_some() || ecr.sts.is_some();
    match auth {
        auth if auth.basic.is_some() => Some(Method::Basic),
        auth if auth.token.is_some() => Some(Method::Token),
        auth if auth.ecr.as_ref().is_some_and(aws) => Some(Method::Aws),
        _ => None,
    }
}

fn asked(
    person: &mut dyn Prompt,
    method: Method,
    reference: &Reference,
    username: Option<&str>,
) -> Result<ReferenceContent, PromptError> {
    match method {
        Method::Basic => {
            let username = match username {
                Some(username) => username.to_owned(),
                None => person.ask(&format!("User name for {reference}"))?,
            };
            let password = person.ask_secret(&format!("Password for {reference} (not shown)"))?;
            Ok(login(&username, &password))
        }
        Method::Token => {
            let token = person.ask_secret(&format!("Token for {reference} (not shown)"))?;
            Ok(self::token(&token))
        }
        Method::Aws => {
            let id = SecretString::from(person.ask(&format!("AWS_ACCESS_KEY_ID for {reference}"))?);
            let secret = person.ask_secret("AWS_SECRET_ACCESS_KEY (not shown)")?;
            let session = person.ask_secret("AWS_SESSION_TOKEN (not shown; empty if there is none)")?;
            let entries = [
                ("AWS_ACCESS_KEY_ID", &id),
                ("AWS_SECRET_ACCESS_KEY", &secret),
                ("AWS_SESSION_TOKEN", &session),
            ];
            Ok(self::secret("Opaque", entries))
        }
    }
}

fn login(username: &str, password: &SecretString) -> ReferenceContent {
    let username = SecretString::from(username);
    secret("kubernetes.io/basic-auth", [("username", &username), ("password", password)])
}

fn token(token: &SecretString) -> ReferenceContent {
    secret(TOKEN_SECRET_TYPE, [("token", token)])
}

/// The user means a typed password for the host of this registry.
fn for_host_of(spec: &RegistrySpec, mut content: ReferenceContent) -> ReferenceContent {
    content.hosts = Endpoint::parse(&spec.endpoint).ok().map(|endpoint| endpoint.server().to_string());
    content
}

fn secret<'a>(
    kind: &str,
    entries: impl IntoIterator<Item = (&'static str, &'a SecretString)>,
) -> ReferenceContent {
    let bytes = |value: &SecretString| ByteString(value.expose_secret().as_bytes().to_vec());
    let data: BTreeMap<String, ByteString> =
        entries.into_iter().map(|(key, value)| (key.to_owned(), bytes(value))).collect();
    ReferenceContent::from(Secret { type_: Some(kind.to_owned()), data: Some(data), ..Secret::default() })
}
