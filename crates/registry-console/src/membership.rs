//! Whether the namespace in a URL is one of the tenant in the same URL.

use registry_api::TENANT_LABEL;
use registry_check::cluster::Tenancy;

use crate::{error::ConsoleError, scope::ConsoleScope, user::UserClient};

/// Returns an error if the namespace certainly isn't one of the tenant, and a note if the user can't find out.
pub async fn verify(user: &UserClient, scope: &ConsoleScope) -> Result<String, ConsoleError> {
    let ConsoleScope::Tenant { tenant, namespace } = scope else { return Ok(String::new()) };
    if namespace.is_empty() {
        return Ok(String::new());
    }
    judge(tenant, namespace, user.cluster().tenancy(namespace).await)
}

fn judge(tenant: &str, namespace: &str, tenancy: Tenancy) -> Result<String, ConsoleError> {
    let other = |why: &str| Err(ConsoleError::NotFound(format!("namespace {namespace} {why}")));
    match tenancy {
        Tenancy::Of(found) if found == tenant => Ok(String::new()),
        Tenancy::Of(_) | Tenancy::Nobody => {
            other(&format!("does not belong to tenant {tenant} (label {TENANT_LABEL})"))
        }
        Tenancy::Absent => other("does not exist"),
        Tenancy::Unknown(why) => {
            Ok(format!("Whether namespace {namespace} belongs to tenant {tenant} is not known: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_other_tenants_are_not_found() {
        let judge = |tenancy| judge("a", "n", tenancy);
        assert_eq!(judge(Tenancy::Of("a".to_owned())).unwrap(), "");
        assert!(judge(Tenancy::Unknown("why".to_owned())).unwrap().contains("is not known: why"));
        for tenancy in [Tenancy::Of("b".to_owned()), Tenancy::Nobody, Tenancy::Absent] {
            assert!(matches!(judge(tenancy), Err(ConsoleError::NotFound(_))));
        }
    }
}
