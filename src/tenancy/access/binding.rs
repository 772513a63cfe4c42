//! The operator's RoleBinding in a tenant's namespace: its content, whether the operator created it, and its owner.
//! Pure.

use k8s_openapi::{
    api::rbac::v1::{ClusterRole, RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Resource, ResourceExt, api::ObjectMeta, core::PartialObjectMeta};
use registry_api::{MANAGED_BY_LABEL, OPERATOR};
use registry_verdict::resolve::Obstacle;

use crate::kubernetes::self_subject;

/// The ClusterRole that the operator binds itself to. The chart creates it.
pub const TENANT_ROLE: &str = "registry-operator-tenant";
/// The name of the RoleBinding in each tenant's namespace.
pub const BINDING: &str = "registry-operator";

/// The ClusterRole as the owner of its bindings. When the chart is uninstalled, the garbage collector deletes them with
/// it.
pub(super) fn owner(role: &PartialObjectMeta<ClusterRole>) -> OwnerReference {
    OwnerReference {
        api_version: ClusterRole::api_version(&()).into_owned(),
        kind: ClusterRole::kind(&()).into_owned(),
        name: TENANT_ROLE.to_owned(),
        uid: role.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// Returns the RoleBinding of the operator to that role.
pub(super) fn binding(namespace: &str, operator: &Subject, role: &OwnerReference) -> RoleBinding {
    let labels = [(MANAGED_BY_LABEL, OPERATOR), ("app.kubernetes.io/name", OPERATOR)];
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(BINDING.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![role.clone()]),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: ClusterRole::group(&()).into_owned(),
            kind: role.kind.clone(),
            name: role.name.clone(),
        },
        subjects: Some(vec![operator.clone()]),
    }
}

/// Returns whether the operator created the RoleBinding.
pub(super) fn is_ours(binding: &RoleBinding) -> bool {
    binding.role_ref.name == TENANT_ROLE
        && binding.labels().get(MANAGED_BY_LABEL).is_some_and(|by| by == OPERATOR)
}

/// Returns whether the RoleBinding is as it should be: the operator created it, it binds only the operator, and its
/// owner is the role (`role`, or any role with the right name).
pub(super) fn is_whole(binding: &RoleBinding, operator: &Subject, role: Option<&OwnerReference>) -> bool {
    let goes_with_it = |owner: &OwnerReference| match role {
        Some(role) => owner == role,
        None => owner.kind == binding.role_ref.kind && owner.name == TENANT_ROLE,
    };
    is_ours(binding)
        && binding.subjects.as_deref() == Some(std::slice::from_ref(operator))
        && binding.owner_references().iter().any(goes_with_it)
}

/// Returns the RoleBinding as an obstacle, if the operator can't replace it.
pub(super) fn obstacle(binding: &RoleBinding) -> Option<Obstacle> {
    let RoleRef { kind, name, .. } = &binding.role_ref;
    let foreign = name != TENANT_ROLE || *kind != ClusterRole::kind(&());
    foreign.then(|| Obstacle { kind: kind.clone(), name: name.clone() })
}

/// Returns the subject for a user in RBAC: a service account has a namespace and a name.
pub(super) fn role_subject(user: &str) -> Subject {
    match self_subject::service_account(user) {
        Some((namespace, name)) => Subject {
            kind: "ServiceAccount".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
            api_group: None,
        },
        None => Subject {
            kind: "User".to_owned(),
            namespace: None,
            name: user.to_owned(),
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(uid: &str) -> OwnerReference {
        let metadata = ObjectMeta { uid: Some(uid.to_owned()), ..ObjectMeta::default() };
        owner(&PartialObjectMeta { metadata, ..PartialObjectMeta::default() })
    }

    #[test]
    fn binds_service_account_or_user() {
        let account = role_subject("system:serviceaccount:registry-system:registry-operator");
        assert_eq!((account.kind.as_str(), account.name.as_str()), ("ServiceAccount", "registry-operator"));
        assert_eq!(account.namespace.as_deref(), Some("registry-system"));
        assert_eq!(role_subject("jane").kind, "User");
    }

    #[test]
    fn binding_to_another_role_is_a_conflict() {
        let made = binding("team-a", &role_subject("jane"), &role("1"));
        assert_eq!(obstacle(&made), None);
        for (kind, name) in [("ClusterRole", "view"), ("Role", TENANT_ROLE)] {
            let mut other = made.clone();
            (other.role_ref.kind, other.role_ref.name) = (kind.to_owned(), name.to_owned());
            assert_eq!(obstacle(&other), Some(Obstacle { kind: kind.to_owned(), name: name.to_owned() }));
        }
    }

    #[test]
    fn binding_is_current_while_owned_by_its_role() {
        let operator = role_subject("system:serviceaccount:registry-system:registry-operator");
        let made = binding("team-a", &operator, &role("first"));
        assert!(is_whole(&made, &operator, Some(&role("first"))));
        assert!(!is_whole(&made, &operator, Some(&role("made anew"))));
        assert!(is_whole(&made, &operator, None), "which of that name is the API server's to say");
        assert!(!is_whole(&made, &role_subject("jane"), None));
        let mut older = made;
        older.metadata.owner_references = None;
        assert!(!is_whole(&older, &operator, None), "an older operator gave it no owner");
        assert!(is_ours(&older));
    }
}
