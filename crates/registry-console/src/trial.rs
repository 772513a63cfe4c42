//! Validate: first the gate, then the check of what stands on the page.
//!
//! The gate is a dry run of the very object as the signed-in user: its rights, the schema and the policies decide before a byte leaves
//! for the endpoint.

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::api::{DynamicObject, PostParams};
use registry_api::TENANT_LABEL;
use registry_check::{
    admission::{self, ManifestAdmission},
    check::Checker,
    cluster::{Cluster, words},
    manifest::{Declared, Manifests},
    report::{CheckReport, Manifest},
    session::{CheckSession, Progress, SessionError},
    supply::{Contents, Supply},
};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::{
    form::{FieldComplaint, RegistryForm, field_of},
    scope::ConsoleScope,
    verdict,
};

/// The field manager of everything that the console writes.
pub const FIELD_MANAGER: &str = "registry-console";

/// Shows nothing: the browser does.
struct SilentProgress;

impl Progress for SilentProgress {
    fn shown<T>(&self, _: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
        work
    }
}

/// Whether `cluster`'s user could create that registry now.
pub async fn gate(
    cluster: &Cluster,
    scope: &ConsoleScope,
    document: &Value,
) -> Result<(), Vec<FieldComplaint>> {
    create(cluster, scope, document, true).await
}

/// Creates a registry, or only asks whether it could be (`dry_run`).
pub async fn create(
    cluster: &Cluster,
    scope: &ConsoleScope,
    document: &Value,
    dry_run: bool,
) -> Result<(), Vec<FieldComplaint>> {
    let object: DynamicObject = serde_json::from_value(document.clone())
        .map_err(|error| whole(format!("Invalid registry: {error}")))?;
    let api = admission::api(cluster, scope.registry_scope(), scope.namespace());
    let params = PostParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let name = object.metadata.name.clone().unwrap_or_default();
    match api.create(&params, &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Err(taken(scope, &name)),
        Err(kube::Error::Api(status)) => Err(refused(admission::judge(&scope.key(&name), &status))),
        Err(error) => Err(whole(words(&error))),
    }
}

fn taken(scope: &ConsoleScope, name: &str) -> Vec<FieldComplaint> {
    let message = format!("{} {name} already exists; choose another name", scope.kind());
    vec![FieldComplaint { field: "name", message }]
}

fn whole(message: String) -> Vec<FieldComplaint> {
    vec![FieldComplaint { field: "", message }]
}

fn refused(admission: ManifestAdmission) -> Vec<FieldComplaint> {
    match admission {
        ManifestAdmission::Accepted => Vec::new(),
        ManifestAdmission::Refused(reasons) => reasons.iter().map(|reason| at_its_field(reason)).collect(),
        ManifestAdmission::NotAsked(why) => whole(format!("The registry can't be added: {why}")),
        ManifestAdmission::Unreachable(why) => whole(why),
    }
}

/// A policy's own sentence comes behind what the API server says of the policy.
fn at_its_field(reason: &str) -> FieldComplaint {
    let sentence = reason.split_once("denied request: ").map_or(reason, |(_, sentence)| sentence);
    FieldComplaint { field: field_of(sentence), message: sentence.to_owned() }
}

/// Checks a registry that has passed the gate, with the secret that was typed.
pub async fn check(
    checker: Checker,
    scope: &ConsoleScope,
    form: &RegistryForm,
    system_namespace: &str,
) -> Result<CheckReport, SessionError> {
    let manifests = manifests(scope, form, system_namespace);
    let mut session = CheckSession {
        checker,
        system_namespace,
        supply: Supply {
            manifests: &manifests,
            // The console reads no Secret, and has asked the API server already.
            cluster: Err("the console does not read the cluster for a check".to_owned()),
            namespace: scope.secrets_namespace(system_namespace),
            password: None,
            username: None,
            prompt: || None,
            typed: Contents::new(),
            notes: Vec::new(),
        },
        progress: SilentProgress,
    };
    let mut report = session.report(&manifests.registries[0]).await?;
    if matches!(report.manifest, Manifest::NotAsked(_)) {
        report.manifest = Manifest::Accepted;
    }
    if form.uses_existing_secret() {
        verdict::without_credentials(&mut report);
    }
    Ok(report)
}

/// The registry as a file would hold it, with all that it refers to. A Secret that exists isn't read: the registry is then looked at
/// without it.
fn manifests(scope: &ConsoleScope, form: &RegistryForm, system_namespace: &str) -> Manifests {
    let mut document = form.document(scope);
    if form.uses_existing_secret()
        && let Some(spec) = document["spec"].as_object_mut()
    {
        spec.remove("auth");
    }
    Manifests {
        registries: vec![Declared { scope: scope.registry_scope(), document }],
        secrets: form.secret(scope, system_namespace).into_iter().collect(),
        config_maps: Vec::new(),
        namespaces: namespace(scope).into_iter().collect(),
    }
}

/// The gate has seen that it is a tenant's.
fn namespace(scope: &ConsoleScope) -> Option<Namespace> {
    let ConsoleScope::Tenant { tenant, namespace } = scope else { return None };
    let labels = BTreeMap::from([(TENANT_LABEL.to_owned(), tenant.clone())]);
    let metadata =
        ObjectMeta { name: Some(namespace.clone()), labels: Some(labels), ..ObjectMeta::default() };
    Some(Namespace { metadata, ..Namespace::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_a_policy_stands_at_its_field() {
        let refusal = "x is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: \
                       spec.tls.insecureSkipVerify is not allowed for tenants";
        let complaint = at_its_field(refusal);
        assert_eq!(
            (complaint.field, complaint.message.as_str()),
            ("insecure_skip_verify", "spec.tls.insecureSkipVerify is not allowed for tenants")
        );
    }

    #[test]
    fn secret_that_exists_is_not_asked_for() {
        let mut form = RegistryForm::default();
        for (name, value) in [("name", "p"), ("endpoint", "https://r"), ("existing_secret", "s")] {
            form.take(name, value.as_bytes());
        }
        let found = manifests(&ConsoleScope::System, &form, "registry-system");
        assert!(found.registries[0].document["spec"].get("auth").is_none() && found.secrets.is_empty());
        assert!(form.document(&ConsoleScope::System).pointer("/spec/auth/basic").is_some());
    }
}
