//! Samples of everything that can be wrong with references and addresses, for [`catalogue`](super::catalogue).

use registry_probe::{
    CaError, ClientCertificateError, CredentialsError, DockerConfigError, EndpointError, Field,
    HostPatternsError, HostPort,
};

use super::catalogue::samples;
use crate::{
    ecr::KeyFault,
    resolve::{Obstacle, Problem, Reference, ReferenceKind, SecretPurpose, WrongType},
};

fn secret() -> Reference {
    Reference::new(ReferenceKind::Secret, "team-a", "packs-login")
}

fn config_map() -> Reference {
    Reference::new(ReferenceKind::ConfigMap, "team-a", "packs-ca")
}

pub(super) fn endpoint_errors() -> [EndpointError; 7] {
    use EndpointError as E;
    let errors = [E::NotAUrl, E::Scheme, E::UserInfo, E::Query, E::Fragment, E::Path, E::TooLong];
    // A new error doesn't compile until it has a sample.
    for error in &errors {
        match error {
            E::NotAUrl | E::Scheme | E::UserInfo | E::Query | E::Fragment | E::Path | E::TooLong => {}
        }
    }
    errors
}

pub(super) fn problems(server: &HostPort) -> Vec<Problem> {
    let server = || server.clone();
    let obstacle = Obstacle { kind: "ClusterRole".to_owned(), name: "view".to_owned() };
    let denied = |obstacle| Problem::AccessDenied {
        reference: secret(),
        operator: "--serviceaccount=registry-system:registry-operator".to_owned(),
        obstacle,
    };
    samples!(Problem {
        Problem::NotFound { .. } => [
            Problem::NotFound { reference: secret(), field: SecretPurpose::Basic.reference() },
            Problem::NotFound { reference: secret(), field: SecretPurpose::Token.reference() },
            Problem::NotFound { reference: secret(), field: SecretPurpose::AwsKeys.reference() },
            Problem::NotFound { reference: secret(), field: SecretPurpose::ClientCertificate.reference() },
            Problem::NotFound { reference: config_map(), field: "spec.tls.ca.configMapRef" },
        ],
        Problem::AccessDenied { .. } => [denied(None), denied(Some(obstacle.clone()))],
        Problem::PolicyDenied(_) => [Problem::PolicyDenied(Reference::new(
            ReferenceKind::ConfigMap,
            "registry-system",
            "registry-operator-tenant-policy",
        ))],
        Problem::NoKey { .. } => [Problem::NoKey { reference: secret(), key: "password".to_owned() }],
        Problem::WrongType(_) => wrong_types(),
        Problem::Hosts { .. } => host_errors(),
        Problem::OtherHosts { .. } => [Problem::OtherHosts { reference: secret(), server: server() }],
        Problem::NoHosts { .. } => [Problem::NoHosts { reference: secret(), server: server() }],
        Problem::AwsTokenElsewhere { .. } => [Problem::AwsTokenElsewhere { server: server() }],
        Problem::NotText { .. } => [Problem::NotText { reference: secret(), key: "password" }],
        Problem::Credentials { .. } => credentials_errors(),
        Problem::DockerConfig { .. } => docker_config_errors(&server()),
        Problem::ClientCertificate { .. } => client_certificate_errors(),
        Problem::Ca { .. } => ca_errors(),
        Problem::AwsKey { .. } => key_faults(),
        Problem::OperatorIdentity => [Problem::OperatorIdentity],
        Problem::NoCaKey { .. } => [Problem::NoCaKey { reference: config_map(), key: "ca.crt".to_owned() }],
    })
}

fn wrong_types() -> Vec<Problem> {
    let purposes = samples!(SecretPurpose {
        SecretPurpose::Basic => [SecretPurpose::Basic],
        SecretPurpose::Token => [SecretPurpose::Token],
        SecretPurpose::AwsKeys => [SecretPurpose::AwsKeys],
        SecretPurpose::ClientCertificate => [SecretPurpose::ClientCertificate],
    });
    let wrong = |purpose| Problem::WrongType(WrongType::new(secret(), "example.com/other", purpose));
    purposes.into_iter().map(wrong).collect()
}

fn host_errors() -> Vec<Problem> {
    use HostPatternsError as E;
    let errors = samples!(E {
        E::Empty => [E::Empty],
        E::Entry(_) => [E::Entry(2)],
        E::TooLong => [E::TooLong],
    });
    errors.into_iter().map(|cause| Problem::Hosts { reference: secret(), cause }).collect()
}

fn credentials_errors() -> Vec<Problem> {
    use CredentialsError as E;
    let errors = samples!(E {
        E::Empty => [E::Empty],
        E::EmptyToken => [E::EmptyToken],
        E::Colon => [E::Colon],
        E::LineBreak(_) => [E::LineBreak(Field::Password)],
        E::Control(_) => [E::Control(Field::Password)],
        E::NotAToken => [E::NotAToken],
    });
    errors.into_iter().map(|cause| Problem::Credentials { reference: secret(), cause }).collect()
}

fn docker_config_errors(server: &HostPort) -> Vec<Problem> {
    use DockerConfigError as E;
    let host = || server.to_string();
    let errors = samples!(E {
        E::NotADockerConfig => [E::NotADockerConfig],
        E::TooLarge => [E::TooLarge],
        E::NoEntry { .. } => [E::NoEntry { host: host() }],
        E::CredentialHelper { .. } => [E::CredentialHelper { host: host() }],
        E::AuthNotBasic { .. } => [E::AuthNotBasic { host: host() }],
        E::OtherAuthNotBasic => [E::OtherAuthNotBasic],
        E::Unusable { .. } => [E::Unusable { host: host(), cause: CredentialsError::Empty }],
    });
    errors.into_iter().map(|cause| Problem::DockerConfig { reference: secret(), cause }).collect()
}

fn client_certificate_errors() -> Vec<Problem> {
    use ClientCertificateError as E;
    let errors = samples!(E {
        E::TooLarge => [E::TooLarge],
        E::NoCertificate => [E::NoCertificate],
        E::EncryptedKey => [E::EncryptedKey],
        E::NoKey => [E::NoKey],
        E::WeakKey(_) => [E::WeakKey(1024)],
        E::Mismatch => [E::Mismatch],
    });
    errors.into_iter().map(|cause| Problem::ClientCertificate { reference: secret(), cause }).collect()
}

fn ca_errors() -> Vec<Problem> {
    use CaError as E;
    let errors = samples!(E {
        E::Empty => [E::Empty],
        E::TooLarge => [E::TooLarge],
        E::NoCertificate => [E::NoCertificate],
        E::PrivateKey => [E::PrivateKey],
        E::BrokenPem { .. } => [E::BrokenPem { line: 1 }],
        E::BrokenCertificate(_) => [E::BrokenCertificate(2)],
    });
    let source_name = format!("key ca.crt of {}", config_map());
    errors.into_iter().map(|cause| Problem::Ca { source_name: source_name.clone(), cause }).collect()
}

fn key_faults() -> Vec<Problem> {
    let faults = samples!(KeyFault {
        KeyFault::Empty => [KeyFault::Empty],
        KeyFault::Characters => [KeyFault::Characters],
    });
    let of = |cause| Problem::AwsKey { reference: secret(), key: "AWS_SECRET_ACCESS_KEY", cause };
    faults.into_iter().map(of).collect()
}
