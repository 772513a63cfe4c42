//! What the operator should say of a registry, and where it should deliver pull Secrets. Pure: a model of the promises in a few lines,
//! independent of the operator's code.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::{
    cast::CastRegistry,
    registries::behaviour::{RegistryBehaviour, ServerCondition, SignInMethod},
};

/// What a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The registry.
    pub object: &'a Value,
    /// Its Secret, if it exists.
    pub secret: Option<&'a Value>,
    /// Whether its namespace belongs to a tenant, or needs not.
    pub is_permitted: bool,
    /// The server of its endpoint, if there is one.
    pub server: Option<&'a RegistryBehaviour>,
}

/// Returns the status and the reason that Ready should have; none if nothing is promised.
pub fn desired_ready(circumstances: Circumstances<'_>) -> Option<(&'static str, &'static str)> {
    let Circumstances { object, secret, is_permitted, server } = circumstances;
    if object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    if !is_permitted {
        return Some(("False", "NotATenant"));
    }
    let uses_secret = object.pointer("/spec/auth/basic").is_some();
    let password = match (uses_secret, secret) {
        (false, _) => None,
        (true, None) => return Some(("False", "SecretNotFound")),
        (true, Some(secret)) if secret["type"] != "kubernetes.io/basic-auth" => {
            return Some(("False", "SecretInvalid"));
        }
        (true, Some(secret)) => Some(secret["data"]["password"].as_str().unwrap_or_default()),
    };
    Some(answered(server.filter(|server| server.condition == ServerCondition::Up)?, password))
}

/// What a server leads to, whose clients show a password (in base64), or none.
fn answered(server: &RegistryBehaviour, password: Option<&str>) -> (&'static str, &'static str) {
    let is_right = password.map(|password| password == crate::registries::http::base64(&server.password));
    match (server.sign_in, is_right) {
        (SignInMethod::Anonymous, None) => ("True", "Available"),
        (SignInMethod::Anonymous, Some(true)) => ("True", "CredentialsUnprovable"),
        (_, None) => ("False", "Required"),
        (SignInMethod::TokenElsewhere, Some(_)) => ("False", "UntrustedTokenService"),
        (_, Some(true)) => ("True", "Available"),
        (_, Some(false)) => ("False", "Rejected"),
    }
}

/// What a pull Secret should contain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PullSecretLogin {
    host: String,
    auth: String,
}

impl PullSecretLogin {
    /// Whether a Secret contains it, and nothing else.
    pub fn is_in(&self, secret: &Value) -> bool {
        let decoded =
            secret["data"][".dockerconfigjson"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
        let Some(config) = decoded.and_then(|json| serde_json::from_slice::<Value>(&json).ok()) else {
            return false;
        };
        let logins: Vec<_> = config["auths"].as_object().into_iter().flatten().collect();
        matches!(&logins[..], [(host, login)] if host.contains(&self.host) && login["auth"] == self.auth)
    }
}

/// Returns what the pull Secrets of a registry should contain.
pub fn content(circumstances: Circumstances<'_>) -> Option<PullSecretLogin> {
    let secret = circumstances.secret?;
    let part = |field: &str| BASE64_STANDARD.decode(secret["data"][field].as_str()?).ok();
    let login = [part("username")?, b":".to_vec(), part("password")?].concat();
    let endpoint = circumstances.object["spec"]["endpoint"].as_str()?;
    Some(PullSecretLogin {
        host: endpoint.trim_start_matches("http://").to_owned(),
        auth: BASE64_STANDARD.encode(login),
    })
}

/// Returns the namespaces that should have the pull Secret of a registry; none if nothing is promised. `tenants` are the namespaces that
/// aren't being deleted, each with its tenant.
pub fn audience(
    registry: &CastRegistry,
    object: Option<&Value>,
    ready: Option<(&str, &str)>,
    tenants: &[(String, String)],
) -> Option<Vec<String>> {
    let wants = object.is_some_and(|object| object.pointer("/spec/availability/pullSecret").is_some());
    if !wants {
        return Some(Vec::new());
    }
    if ready? != ("True", "Available") {
        return None;
    }
    object?.pointer("/spec/auth/basic")?;
    let own = registry.namespace.map(|namespace| tenants.iter().find(|(name, _)| name == namespace));
    let is_served = |tenant: &str| match own {
        None => true,
        Some(own) => own.is_some_and(|(_, its)| its == tenant),
    };
    Some(tenants.iter().filter(|(_, tenant)| is_served(tenant)).map(|(name, _)| name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::REGISTRIES;

    fn server(sign_in: SignInMethod) -> RegistryBehaviour {
        RegistryBehaviour {
            host: "r0.zero.example".to_owned(),
            sign_in,
            condition: ServerCondition::Up,
            password: "password-1".to_owned(),
        }
    }

    fn verdict(sign_in: SignInMethod, password: Option<u8>) -> Option<(&'static str, &'static str)> {
        let object = REGISTRIES[0].manifest(0, false);
        let secret = password.map(|number| REGISTRIES[0].secret_manifest(number));
        let server = server(sign_in);
        desired_ready(Circumstances {
            object: &object,
            secret: secret.as_ref(),
            is_permitted: true,
            server: Some(&server),
        })
    }

    #[test]
    fn follows_secret_and_server() {
        assert_eq!(verdict(SignInMethod::Basic, Some(1)), Some(("True", "Available")));
        assert_eq!(verdict(SignInMethod::Basic, Some(2)), Some(("False", "Rejected")));
        assert_eq!(verdict(SignInMethod::Basic, None), Some(("False", "SecretNotFound")));
        assert_eq!(verdict(SignInMethod::Anonymous, Some(1)), Some(("True", "CredentialsUnprovable")));
        assert_eq!(verdict(SignInMethod::TokenElsewhere, Some(1)), Some(("False", "UntrustedTokenService")));
    }

    #[test]
    fn pull_secret_has_the_password_and_the_host() {
        let (object, login) = (REGISTRIES[0].manifest(0, true), REGISTRIES[0].secret_manifest(1));
        let case = Circumstances { object: &object, secret: Some(&login), is_permitted: true, server: None };
        let wanted = content(case).unwrap();
        let with = |host: &str, password: &str| {
            let auth = crate::registries::http::base64(&format!("system-a:{password}"));
            let config = serde_json::json!({"auths": {host: {"auth": auth}}}).to_string();
            let data = crate::registries::http::base64(&config);
            wanted.is_in(&serde_json::json!({"data": {".dockerconfigjson": data}}))
        };
        assert!(with("http://r0.zero.example", "password-1"));
        assert!(!with("http://r0.zero.example", "password-2"));
        assert!(!with("http://r1.one.example", "password-1"));
        assert!(!wanted.is_in(&serde_json::json!({})));
    }

    #[test]
    fn delivers_to_own_tenant_only() {
        let tenants = [("a", "alpha"), ("alpha-1", "alpha"), ("beta-1", "beta")]
            .map(|(name, tenant)| (name.to_owned(), tenant.to_owned()));
        let ready = Some(("True", "Available"));
        let to = |registry: &CastRegistry, wanted| {
            audience(registry, Some(&registry.manifest(0, wanted)), ready, &tenants)
        };
        assert_eq!(to(&REGISTRIES[0], true), Some(vec!["a".into(), "alpha-1".into(), "beta-1".into()]));
        assert_eq!(to(&REGISTRIES[2], true), Some(vec!["a".into(), "alpha-1".into()]));
        assert_eq!(to(&REGISTRIES[2], false), Some(Vec::new()));
        assert_eq!(audience(&REGISTRIES[2], None, None, &tenants), Some(Vec::new()));
    }
}
