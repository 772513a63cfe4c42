//! Who signs in to AWS: access keys from a Secret, a role that they assume, or a role that the operator's own identity
//! assumes. Pure, except for the secrets.

use std::{fmt, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use super::{causes::Api, hosts::EcrEndpoint};
use crate::object::RegistryKey;

/// Access keys from a Secret.
#[derive(Clone)]
pub struct Keys {
    /// The access key ID.
    pub id: SecretString,
    /// The secret access key.
    pub secret: SecretString,
    /// The session token, for temporary keys.
    pub session: Option<SecretString>,
}

/// Why a value isn't a valid part of access keys.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum KeyFault {
    /// It is empty.
    #[error("is empty; set it")]
    Empty,
    /// It contains characters that can't occur in a signed request.
    #[error("contains characters that access keys never have, such as a space or newline; correct it")]
    Characters,
}

impl Keys {
    /// Reads one value of a Secret. Removes a newline at the end, which can't be part of a key.
    pub fn part(text: &str) -> Result<SecretString, KeyFault> {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(KeyFault::Empty);
        }
        // The ID is part of the header with the signature, which has these separators.
        let fits = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if fits { Ok(text.into()) } else { Err(KeyFault::Characters) }
    }

    /// Returns whether the keys are temporary.
    pub fn are_temporary(&self) -> bool {
        self.session.is_some()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys([REDACTED])")
    }
}

/// Permission to use the operator's own AWS identity (IRSA, EKS Pod Identity, the node's role). Only the key of a
/// SystemRegistry creates it, so a tenant can't make the operator use its identity.
#[derive(Clone, Debug)]
pub struct OperatorIdentity(());

impl OperatorIdentity {
    /// Returns the operator's identity for a SystemRegistry.
    pub fn of(key: &RegistryKey) -> Option<Self> {
        match key {
            RegistryKey::System { .. } => Some(Self(())),
            RegistryKey::Tenant { .. } => None,
        }
    }
}

/// Who assumes a role.
#[derive(Clone, Debug)]
pub enum RoleSource {
    /// The owner of these keys.
    Keys(Keys),
    /// The operator.
    Operator(OperatorIdentity),
}

/// Who requests a token.
#[derive(Clone)]
pub enum Identity {
    /// The owner of these keys.
    Keys(Keys),
    /// A role.
    Role {
        /// The ARN of the role.
        arn: String,
        /// The external ID that its trust policy may require.
        external_id: Option<String>,
        /// Who assumes it.
        source: RoleSource,
    },
}

/// Doesn't show the role's account and the external ID.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => f.debug_tuple("Keys").field(keys).finish(),
            Self::Role { source, .. } => {
                f.debug_struct("Role").field("source", source).finish_non_exhaustive()
            }
        }
    }
}

/// Everything that a token request needs.
#[derive(Clone, Debug)]
pub struct Login {
    /// The tenant; `None` in system scope. Two tenants share no token, even with the same keys.
    pub tenant: Option<Arc<str>>,
    /// The ECR endpoint.
    pub endpoint: EcrEndpoint,
    /// Who requests the token.
    pub identity: Identity,
}

impl Login {
    /// Returns everything that distinguishes this login from others, to be hashed. It contains secrets.
    pub(super) fn parts(&self) -> Vec<&[u8]> {
        let EcrEndpoint { account, region, fips, dual_stack, region_of_host: _ } = &self.endpoint;
        let mut parts = vec![
            optional(self.tenant.as_deref()),
            present(self.tenant.is_some()),
            optional(account.as_deref()),
            region.as_bytes(),
            present(*fips),
            present(*dual_stack),
        ];
        match &self.identity {
            Identity::Keys(keys) => parts.extend(keys.parts()),
            Identity::Role { arn, external_id, source } => {
                parts.extend([
                    arn.as_bytes(),
                    present(external_id.is_some()),
                    optional(external_id.as_deref()),
                ]);
                match source {
                    RoleSource::Keys(keys) => parts.extend(keys.parts()),
                    RoleSource::Operator(_) => parts.push(b"operator"),
                }
            }
        }
        parts
    }

    /// Returns the access keys; `None` with the operator's own identity.
    pub fn keys(&self) -> Option<&Keys> {
        match &self.identity {
            Identity::Keys(keys) | Identity::Role { source: RoleSource::Keys(keys), .. } => Some(keys),
            Identity::Role { source: RoleSource::Operator(_), .. } => None,
        }
    }

    /// Returns the AWS API that receives the access keys, and its region.
    pub fn place_asked_first(&self) -> String {
        let api = match self.identity {
            Identity::Keys(_) => Api::Ecr,
            Identity::Role { .. } => Api::Sts,
        };
        format!("AWS {} {}", api.as_str(), self.endpoint.region)
    }

    /// Returns whether it uses the operator's own identity.
    pub fn is_by_operator(&self) -> bool {
        matches!(self.identity, Identity::Role { source: RoleSource::Operator(_), .. })
    }
}

impl Keys {
    /// Returns what distinguishes these keys from others, to be hashed. It contains secrets.
    pub fn parts(&self) -> [&[u8]; 4] {
        let session = self.session.as_ref().map(ExposeSecret::expose_secret);
        [
            self.id.expose_secret().as_bytes(),
            self.secret.expose_secret().as_bytes(),
            present(session.is_some()),
            optional(session),
        ]
    }
}

fn optional(text: Option<&str>) -> &[u8] {
    text.unwrap_or_default().as_bytes()
}

fn present(is: bool) -> &'static [u8] {
    if is { b"1" } else { b"0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_identity_needs_system_scope_key() {
        assert!(OperatorIdentity::of(&RegistryKey::System { name: "x".into() }).is_some());
        assert!(
            OperatorIdentity::of(&RegistryKey::Tenant { namespace: "n".into(), name: "x".into() }).is_none()
        );
    }

    #[test]
    fn trims_final_and_rejects_inner_line_break() {
        assert_eq!(Keys::part("AKIA\r\n").unwrap().expose_secret(), "AKIA");
        assert_eq!(Keys::part("AK\nIA").unwrap_err(), KeyFault::Characters);
        assert_eq!(Keys::part("\n").unwrap_err(), KeyFault::Empty);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let part = || Keys::part("hunter2").unwrap();
        let keys = Keys { id: part(), secret: part(), session: Some(part()) };
        let place = EcrEndpoint {
            account: Some("123456789012".into()),
            region: "eu-central-1".into(),
            region_of_host: None,
            fips: false,
            dual_stack: false,
        };
        let identity = Identity::Role {
            arn: "arn:aws:iam::123456789012:role/hunter2".into(),
            external_id: Some("hunter2".into()),
            source: RoleSource::Keys(keys.clone()),
        };
        let login = Login { tenant: None, endpoint: place, identity };
        for text in [format!("{keys:?}"), format!("{login:?}")] {
            assert!(!text.contains("hunter2") && !text.contains("123456789012"), "{text}");
        }
        assert!(format!("{login:?}").contains("eu-central-1"));
    }
}
