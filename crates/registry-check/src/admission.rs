//! Asks the API server by a dry run whether it would accept a manifest. The dry run evaluates the schema, its rules and
//! the admission policies, and stores nothing.

use kube::{
    Api, ResourceExt,
    api::{DynamicObject, PostParams},
    core::{ApiResource, Status, response::StatusCause},
};
use registry_api::{
    GROUP,
    spec::{Scope as ApiScope, System, Tenant, VERSION},
};
use registry_verdict::{
    api_server::is_by_rbac,
    object::{RegistryKey, RegistryScope},
};
use serde_json::Value;

use crate::cluster::{self, Cluster};

/// The field manager of dry runs. It never owns a field.
const FIELD_MANAGER: &str = "kubectl-registry";

/// The result of a dry run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ManifestAdmission {
    /// The manifest would be accepted.
    Accepted,
    /// The manifest would be refused, for these reasons.
    Refused(Vec<String>),
    /// There was no dry run, for this reason.
    NotAsked(String),
    /// The API server doesn't answer, for this reason, so no further requests make sense.
    Unreachable(String),
}

/// The API for a scope's kind, in that namespace.
pub fn api(cluster: &Cluster, scope: RegistryScope, namespace: Option<&str>) -> Api<DynamicObject> {
    let client = cluster.client.clone();
    let resource = resource(scope);
    match namespace {
        Some(namespace) if scope == RegistryScope::Tenant => {
            Api::namespaced_with(client, namespace, &resource)
        }
        _ => Api::all_with(client, &resource),
    }
}

/// The resource of a scope's kind.
pub fn resource(scope: RegistryScope) -> ApiResource {
    let (kind, plural) = match scope {
        RegistryScope::System => (System::KIND, System::PLURAL),
        RegistryScope::Tenant => (Tenant::KIND, Tenant::PLURAL),
    };
    ApiResource {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        api_version: format!("{GROUP}/{VERSION}"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Asks whether the registry `key` could be created from `document`, or updated if it exists.
pub async fn ask(cluster: &Cluster, key: &RegistryKey, document: &Value) -> ManifestAdmission {
    let api = api(cluster, key.scope(), key.namespace());
    match try_ask(&api, key, document).await {
        Ok(()) => ManifestAdmission::Accepted,
        Err(kube::Error::Api(status)) => judge(key, &status),
        Err(error) => ManifestAdmission::Unreachable(cluster::words(&error)),
    }
}

async fn try_ask(api: &Api<DynamicObject>, key: &RegistryKey, document: &Value) -> Result<(), kube::Error> {
    let mut object: DynamicObject =
        serde_json::from_value(document.clone()).map_err(kube::Error::SerdeError)?;
    object.metadata.namespace = key.namespace().map(ToOwned::to_owned);
    let params = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
    match api.create(&params, &object).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        answer => return answer.map(drop),
    }
    for _ in 1..ATTEMPTS {
        match replace(api, &params, &mut object).await {
            Err(kube::Error::Api(status)) if status.reason == "Conflict" => {}
            answer => return answer,
        }
    }
    replace(api, &params, &mut object).await
}

/// The operator may write a status in the meantime, so the version that was read may be outdated.
const ATTEMPTS: usize = 5;

async fn replace(
    api: &Api<DynamicObject>,
    params: &PostParams,
    object: &mut DynamicObject,
) -> Result<(), kube::Error> {
    let name = object.name_any();
    object.metadata.resource_version = api.get_metadata(&name).await?.metadata.resource_version;
    api.replace(&name, params, object).await.map(drop)
}

/// What the API server's refusal of the registry `key` means.
pub fn judge(key: &RegistryKey, status: &Status) -> ManifestAdmission {
    match status.code {
        _ if is_by_rbac(status) => {
            ManifestAdmission::NotAsked("you may not create or change it in this cluster".to_owned())
        }
        400 | 403 | 422 => ManifestAdmission::Refused(reasons(status)),
        404 if status.details.as_ref().is_some_and(|details| details.kind == "namespaces") => {
            ManifestAdmission::NotAsked(format!(
                "namespace {} does not exist yet",
                key.namespace().unwrap_or_default()
            ))
        }
        404 => ManifestAdmission::NotAsked("the CRDs of registry-operator are not installed".to_owned()),
        _ => ManifestAdmission::NotAsked(status.message.clone()),
    }
}

/// Returns one reason for each cause, if the API server lists them.
fn reasons(status: &Status) -> Vec<String> {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let reasons: Vec<String> = causes.iter().filter_map(reason).collect();
    if reasons.is_empty() { vec![status.message.clone()] } else { reasons }
}

fn reason(cause: &StatusCause) -> Option<String> {
    // The API server didn't evaluate some rules because others failed.
    if cause.message.is_empty() || cause.message.contains("some validation rules were not checked") {
        return None;
    }
    // The rule's message names its field already.
    let rule = cause.message.split_once(": ").map_or(cause.message.as_str(), |(_, rule)| rule);
    let own = rule
        .find("spec.")
        .map(|start| &rule[start..])
        .filter(|own| own.contains(" must ") || own.contains(" is "));
    match own {
        Some(own) => Some(own.to_owned()),
        None if cause.field.is_empty() || cause.field == "<nil>" => Some(cause.message.clone()),
        None => Some(format!("{}: {}", cause.field, cause.message)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(code: u16, kind: &str, message: &str, causes: &[(&str, &str)]) -> ManifestAdmission {
        let cause = |(field, message): &(&str, &str)| json!({"field": field, "message": message});
        let causes: Vec<Value> = causes.iter().map(cause).collect();
        let status = json!({"code": code, "message": message, "details": {"kind": kind, "causes": causes}});
        judge(
            &RegistryKey::Tenant { namespace: "a".into(), name: "x".into() },
            &serde_json::from_value(status).unwrap(),
        )
    }

    #[test]
    fn reports_each_violated_rule() {
        let causes = [
            ("spec.endpoint", "Invalid value: \"oci://a\": spec.endpoint must start with https:// (or so)"),
            (
                "<nil>",
                "Invalid value: null: some validation rules were not checked because the object was invalid",
            ),
            ("spec.suspend", "Required value"),
        ];
        assert_eq!(
            refusal(422, "", "all of it", &causes),
            ManifestAdmission::Refused(vec![
                "spec.endpoint must start with https:// (or so)".to_owned(),
                "spec.suspend: Required value".to_owned(),
            ])
        );
    }

    #[test]
    fn missing_permission_is_not_a_rejection() {
        let kind = "systemregistries.registry.spectrocloud.com";
        let rbac = "systemregistries.registry.spectrocloud.com is forbidden: User \"x\" cannot create resource \"y\"";
        assert!(matches!(refusal(403, kind, rbac, &[]), ManifestAdmission::NotAsked(_)));
        let policy =
            "x is forbidden: ValidatingAdmissionPolicy 'p' denied request: insecureSkipVerify is not allowed";
        assert_eq!(refusal(403, "x", policy, &[]), ManifestAdmission::Refused(vec![policy.to_owned()]));
    }

    #[test]
    fn reports_missing_namespace_or_crd() {
        let ManifestAdmission::NotAsked(why) = refusal(404, "namespaces", "namespaces \"a\" not found", &[])
        else {
            panic!()
        };
        assert_eq!(why, "namespace a does not exist yet");
        let absent = "the server could not find the requested resource";
        let ManifestAdmission::NotAsked(why) = refusal(404, "", absent, &[]) else { panic!() };
        assert_eq!(why, "the CRDs of registry-operator are not installed");
    }
}
