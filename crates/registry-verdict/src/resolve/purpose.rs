//! What a Secret may be used for, by its type, and for which hosts, by its annotation. Pure.
//!
//! People who can create a registry choose the host, and may not be allowed to read Secrets. So only what the Secret's
//! owner states counts: docs/decisions/0011-secret-types.md.

use std::fmt;

use registry_api::{HOSTS_ANNOTATION, TOKEN_SECRET_TYPE};
use registry_probe::{HostPattern, HostPort};

use super::{Problem, Reference, ReferenceContent};

/// The type of Secrets with a user name and a password.
pub(super) const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
/// The type of Secrets with a Docker configuration.
pub(super) const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";

/// What a registry uses a Secret for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretPurpose {
    /// `spec.auth.basic`.
    Basic,
    /// `spec.auth.token`.
    Token,
    /// Access keys, in `spec.auth.ecr`.
    AwsKeys,
    /// `spec.tls.clientCertificate`.
    ClientCertificate,
}

impl SecretPurpose {
    fn types(self) -> &'static [&'static str] {
        match self {
            Self::Basic => &[BASIC_AUTH, DOCKER_CONFIG],
            Self::Token => &[TOKEN_SECRET_TYPE],
            // Access keys are not sent; they sign requests to AWS. Another type still means another purpose.
            Self::AwsKeys => &["Opaque"],
            Self::ClientCertificate => &["kubernetes.io/tls"],
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Basic => "spec.auth.basic",
            Self::Token => "spec.auth.token",
            Self::AwsKeys => "spec.auth.ecr",
            Self::ClientCertificate => "spec.tls.clientCertificate",
        }
    }

    /// Returns the field that references the Secret.
    pub fn reference(self) -> &'static str {
        match self {
            Self::Basic => "spec.auth.basic.secretRef",
            Self::Token => "spec.auth.token.secretRef",
            Self::AwsKeys => "the secretRef in spec.auth.ecr",
            Self::ClientCertificate => "spec.tls.clientCertificate.secretRef",
        }
    }

    /// Returns the options of the command that creates such a Secret, after its name and namespace.
    fn options(self) -> String {
        match self {
            Self::Basic => format!("--type={BASIC_AUTH} --from-literal=username=… --from-literal=password=…"),
            Self::Token => format!("--type={TOKEN_SECRET_TYPE} --from-literal=token=…"),
            Self::AwsKeys => {
                "--from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=…".to_owned()
            }
            Self::ClientCertificate => "--cert=… --key=…".to_owned(),
        }
    }

    fn kind(self) -> &'static str {
        if self == Self::ClientCertificate { "tls" } else { "generic" }
    }
}

/// A Secret with another type than the field requires. Its message has the command to create the right one.
#[derive(Clone, Debug, PartialEq)]
pub struct WrongType {
    pub(super) reference: Reference,
    pub(super) found: String,
    pub(super) purpose: SecretPurpose,
}

impl WrongType {
    /// A Secret of type `found` that is referenced for `purpose`.
    pub fn new(reference: Reference, found: &str, purpose: SecretPurpose) -> Self {
        Self { reference, found: found.to_owned(), purpose }
    }
}

impl fmt::Display for WrongType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference, found, purpose } = self;
        write!(
            f,
            "{reference} has type {found}, but {} needs {}; delete it and run kubectl create secret {} {} -n {} {}",
            purpose.field(),
            purpose.types().join(" or "),
            purpose.kind(),
            reference.name,
            reference.scope.namespace,
            purpose.options(),
        )
    }
}

/// Refuses a Secret whose type doesn't match the purpose.
pub(super) fn check_type(
    purpose: SecretPurpose,
    reference: &Reference,
    content: &ReferenceContent,
) -> Result<(), Problem> {
    let found = content.kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("Opaque");
    if purpose.types().contains(&found) {
        return Ok(());
    }
    Err(Problem::WrongType(WrongType::new(reference.clone(), found, purpose)))
}

/// Refuses a Secret whose annotation doesn't list `server`, or, if `required`, that has no annotation.
pub(super) fn check_hosts(
    reference: &Reference,
    content: &ReferenceContent,
    server: &HostPort,
    required: bool,
) -> Result<(), Problem> {
    let reference = || reference.clone();
    let Some(hosts) = &content.hosts else {
        let problem = || Problem::NoHosts { reference: reference(), server: server.clone() };
        return if required { Err(problem()) } else { Ok(()) };
    };
    let patterns =
        HostPattern::list(hosts).map_err(|cause| Problem::Hosts { reference: reference(), cause })?;
    if patterns.iter().any(|pattern| pattern.covers(server)) {
        return Ok(());
    }
    Err(Problem::OtherHosts { reference: reference(), server: server.clone() })
}

/// Returns the command that adds a host to the annotation.
pub(super) fn annotate(reference: &Reference, server: &HostPort) -> String {
    format!(
        "kubectl annotate secret {} -n {} {HOSTS_ANNOTATION}={server}",
        reference.name, reference.scope.namespace
    )
}
