//! Validate: first the gate, then the check of what stands on the page.
//!
//! The gate is a dry run of the very object as the signed-in user: its rights, the schema and the policies decide before a byte leaves
//! for the endpoint.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{DynamicObject, PostParams},
};
use registry_api::{TENANT_LABEL, TENANT_POLICY};
use registry_check::{
    admission::{self, ManifestAdmission},
    check::{Checker, Learned},
    cluster::{Cluster, words},
    manifest::{Declared, Manifests},
    report::{CheckAnswer, CheckReport, Manifest},
    session::{CheckSession, Progress, SessionError},
    supply::{Contents, FetchedReferences, Supply},
};
use registry_probe::Endpoint;
use registry_verdict::ecr::hosts::is_ecr;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::{
    complaints::{FieldComplaint, field_of},
    form::{FormTab, RegistryForm},
    scope::ConsoleScope,
    verdict,
};

/// The field manager of everything that the console writes.
pub const FIELD_MANAGER: &str = "registry-console";

/// Shows nothing: the browser does.
pub struct SilentProgress;

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
    create(cluster, scope, document, true).await.map_err(|failure| match failure {
        CreateFailure::Refused(complaints) => complaints,
        CreateFailure::Unknown(why) => whole(why),
    })
}

/// Whether the API server would accept that registry from `cluster`'s user if it were new.
///
/// An update that leaves the spec as it is passes the policies, and proves nothing. Of a creation they decide before the API server looks
/// for the name.
pub async fn gate_of_existing(
    cluster: &Cluster,
    scope: &ConsoleScope,
    document: &Value,
) -> Result<(), CreateFailure> {
    try_create(cluster, scope, document, true).await.map(drop)
}

/// Why a registry isn't known to exist.
#[derive(Debug)]
pub enum CreateFailure {
    /// The API server refused it: nothing was created.
    Refused(Vec<FieldComplaint>),
    /// No answer, or one that doesn't say: it may have been created.
    Unknown(String),
}

/// Returns whether a request was certainly refused. After a timeout, a reset or a server error it may have been carried out.
pub fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400..=499) && !matches!(status.code, 408 | 429))
}

/// Creates a registry, or only asks whether it could be (`dry_run`).
pub async fn create(
    cluster: &Cluster,
    scope: &ConsoleScope,
    document: &Value,
    dry_run: bool,
) -> Result<(), CreateFailure> {
    if try_create(cluster, scope, document, dry_run).await? {
        return Ok(());
    }
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    Err(CreateFailure::Refused(taken(scope, name)))
}

/// Returns false if there is a registry of that name, and nothing else speaks against this one.
async fn try_create(
    cluster: &Cluster,
    scope: &ConsoleScope,
    document: &Value,
    dry_run: bool,
) -> Result<bool, CreateFailure> {
    let object: DynamicObject = serde_json::from_value(document.clone())
        .map_err(|error| CreateFailure::Refused(whole(format!("Invalid registry: {error}"))))?;
    let api = admission::api(cluster, scope.registry_scope(), scope.namespace());
    let params = PostParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let name = object.metadata.name.clone().unwrap_or_default();
    match api.create(&params, &object).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(false),
        Err(error) => Err(failure(scope, &name, &error)),
    }
}

/// What it means that a registry could not be written.
pub fn failure(scope: &ConsoleScope, name: &str, error: &kube::Error) -> CreateFailure {
    match error {
        kube::Error::Api(status) if is_refusal(error) => {
            CreateFailure::Refused(refused(admission::judge(&scope.key(name), status)))
        }
        error => CreateFailure::Unknown(words(error)),
    }
}

fn taken(scope: &ConsoleScope, name: &str) -> Vec<FieldComplaint> {
    let message = format!("{} {name} already exists; choose another name", scope.kind());
    vec![FieldComplaint { field: "name", message }]
}

/// A complaint about the form as a whole.
pub fn whole(message: String) -> Vec<FieldComplaint> {
    vec![FieldComplaint { field: "", message }]
}

fn refused(admission: ManifestAdmission) -> Vec<FieldComplaint> {
    match admission {
        ManifestAdmission::Accepted => Vec::new(),
        ManifestAdmission::Refused(reasons) => reasons.iter().map(|reason| at_its_field(reason)).collect(),
        ManifestAdmission::NotAsked(why) => whole(format!("The registry can't be saved: {why}")),
        ManifestAdmission::Unreachable(why) => whole(why),
    }
}

/// A policy's own sentence comes behind what the API server says of the policy.
fn at_its_field(reason: &str) -> FieldComplaint {
    let sentence = reason.split_once("denied request: ").map_or(reason, |(_, sentence)| sentence);
    FieldComplaint { field: field_of(sentence), message: sentence.to_owned() }
}

/// Checks a registry that has passed the gate, with the secret that was typed: `document` is what the form becomes.
pub async fn check(
    checker: Checker,
    cluster: &Cluster,
    scope: &ConsoleScope,
    form: &RegistryForm,
    document: Value,
    learned: Option<&Learned>,
) -> Result<CheckReport, SessionError> {
    let system_namespace = cluster.system_namespace.as_str();
    let (policy, unknown) = match tenant_policy(cluster, scope, form).await {
        Ok(policy) => (policy, None),
        Err(why) => (None, Some(why)),
    };
    let unused = if form.uses_existing_secret() { Some(verdict::UNSEEN.to_owned()) } else { unknown };
    let ca = match unread_parts(cluster, scope, &document).await {
        Ok(ca) => ca,
        Err(why) => return Ok(unable(scope, form, why)),
    };
    let config_maps = policy.into_iter().chain(ca).collect();
    let manifests = manifests(scope, form, document, system_namespace, config_maps, unused.is_none());
    let mut session = CheckSession {
        checker,
        system_namespace,
        supply: Supply {
            manifests: &manifests,
            // The console reads no Secret, has asked the API server already, and has read the policy if it is needed.
            cluster: Err("the console does not read the cluster for a check".to_owned()),
            namespace: scope.secrets_namespace(system_namespace),
            password: None,
            username: None,
            prompt: || None,
            typed: Contents::new(),
            fetched: FetchedReferences::new(),
            notes: Vec::new(),
            // The gate has decided.
            on_behalf: false,
        },
        progress: SilentProgress,
        learned,
    };
    let mut report = session.report_accepted(&manifests.registries[0]).await?;
    if let Some(why) = unused {
        verdict::without_credentials(&mut report, &why);
    }
    Ok(report)
}

/// Returns the tenant policy if the operator needs it: for AWS's tokens outside ECR. An error is the reason why the credentials
/// aren't sent to the endpoint.
async fn tenant_policy(
    cluster: &Cluster,
    scope: &ConsoleScope,
    form: &RegistryForm,
) -> Result<Option<ConfigMap>, String> {
    let endpoint = Endpoint::parse(&form.endpoint);
    let is_elsewhere = endpoint.is_ok_and(|endpoint| !is_ecr(endpoint.server()));
    let is_tenants = matches!(scope, ConsoleScope::Tenant { .. });
    if !(is_tenants && is_elsewhere && form.tab == FormTab::Ecr && form.has_login()) {
        return Ok(None);
    }
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.system_namespace);
    let found = api.get_opt(TENANT_POLICY).await.map_err(|error| {
        format!(
            "Not checked: whether tenantPolicy.allowedEndpoints lists this host, as AWS's tokens need outside ECR, is not \
             known ({}); the operator checks the credentials after Confirm",
            words(&error)
        )
    })?;
    // Without the ConfigMap no host is listed, as in an empty one.
    let metadata = ObjectMeta {
        name: Some(TENANT_POLICY.to_owned()),
        namespace: Some(cluster.system_namespace.clone()),
        ..ObjectMeta::default()
    };
    Ok(Some(found.unwrap_or(ConfigMap { metadata, ..ConfigMap::default() })))
}

/// A registry that can't be checked from here, and why.
fn unable(scope: &ConsoleScope, form: &RegistryForm, why: String) -> CheckReport {
    CheckReport {
        scope: scope.registry_scope(),
        name: form.name.clone(),
        namespace: scope.namespace().map(ToOwned::to_owned),
        endpoint: form.endpoint.clone(),
        manifest: Manifest::Accepted,
        answer: CheckAnswer::Unable(why),
        notes: Vec::new(),
    }
}

/// Returns the ConfigMap with the CA, if the registry names one. An error says what the connection needs and can't be read here: without
/// it the check would find what isn't so.
async fn unread_parts(
    cluster: &Cluster,
    scope: &ConsoleScope,
    document: &Value,
) -> Result<Option<ConfigMap>, String> {
    let name = |path: &str| document.pointer(path).and_then(Value::as_str);
    for (what, path) in [
        ("client certificate", "/spec/tls/clientCertificate/secretRef/name"),
        ("CA certificate", "/spec/tls/ca/secretRef/name"),
    ] {
        if let Some(secret) = name(path) {
            return Err(format!(
                "Not checked: the {what} is in Secret {secret}, which the console does not read; the operator checks the registry after Confirm"
            ));
        }
    }
    let Some(map) = name("/spec/tls/ca/configMapRef/name") else { return Ok(None) };
    let namespace = scope.secrets_namespace(&cluster.system_namespace);
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
    api.get(map).await.map(Some).map_err(|error| {
        format!(
            "Not checked: failed to read ConfigMap {namespace}/{map} with the CA: {}; the operator checks the registry after Confirm",
            words(&error)
        )
    })
}

/// The registry as a file would hold it, with all that it refers to. Without `with_login`, because a Secret that exists isn't read or
/// because it must not be sent there, the registry is looked at without login.
fn manifests(
    scope: &ConsoleScope,
    form: &RegistryForm,
    mut document: Value,
    system_namespace: &str,
    config_maps: Vec<ConfigMap>,
    with_login: bool,
) -> Manifests {
    if !with_login && let Some(spec) = document["spec"].as_object_mut() {
        spec.remove("auth");
    }
    Manifests {
        registries: vec![Declared { scope: scope.registry_scope(), document }],
        secrets: form.secret(scope, system_namespace).filter(|_| with_login).into_iter().collect(),
        config_maps,
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
    use crate::simulated;

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

    fn aws_form(endpoint: &str) -> RegistryForm {
        let mut form = RegistryForm { tab: FormTab::Ecr, ..RegistryForm::default() };
        for (name, value) in [
            ("name", "p"),
            ("endpoint", endpoint),
            ("protected", "on"),
            ("access_key", "A"),
            ("password", "s"),
        ] {
            form.take(name, value.as_bytes());
        }
        form
    }

    #[tokio::test]
    async fn existing_name_passes_the_gate_of_an_edit_alone() {
        let document = aws_form("https://r").document(&ConsoleScope::System);
        for (code, passes) in [(201, true), (409, true), (403, false), (422, false), (504, false)] {
            let (api, log) = simulated::api(move |_| code);
            let cluster = simulated::cluster(api);
            let passed = gate_of_existing(&cluster, &ConsoleScope::System, &document).await;
            assert_eq!(passed.is_ok(), passes, "{code}: {passed:?}");
            assert!(log.lines()[0].contains("dryRun=All"), "{:?}", log.lines());
            let new = gate(&cluster, &ConsoleScope::System, &document).await;
            assert_eq!(new.is_ok(), code == 201, "{code}: {new:?}");
        }
    }

    #[tokio::test]
    async fn aws_token_needs_a_known_policy_elsewhere() {
        let team = ConsoleScope::Tenant { tenant: "team".to_owned(), namespace: "n".to_owned() };
        let (elsewhere, aws) =
            ("https://mirror.example", "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com");
        for (scope, endpoint, code, is_read) in [
            (&team, elsewhere, 403, Err(())),
            (&team, elsewhere, 404, Ok(true)),
            (&team, aws, 403, Ok(false)),
            (&ConsoleScope::System, elsewhere, 403, Ok(false)),
        ] {
            let (api, log) = simulated::api(move |_| code);
            let policy = tenant_policy(&simulated::cluster(api), scope, &aws_form(endpoint)).await;
            assert_eq!(policy.map(|policy| policy.is_some()).map_err(drop), is_read, "{endpoint} {code}");
            assert!(log.lines().iter().all(|line| line.contains("/registry-system/configmaps/")));
        }
        let form = aws_form(elsewhere);
        let unsent = manifests(&team, &form, form.document(&team), "registry-system", Vec::new(), false);
        assert!(unsent.secrets.is_empty() && unsent.registries[0].document["spec"].get("auth").is_none());
    }

    #[test]
    fn secret_that_exists_is_not_asked_for() {
        let mut form = RegistryForm::default();
        for (name, value) in [("name", "p"), ("endpoint", "https://r"), ("existing_secret", "s")] {
            form.take(name, value.as_bytes());
        }
        let document = form.document(&ConsoleScope::System);
        let found = manifests(&ConsoleScope::System, &form, document, "registry-system", Vec::new(), false);
        assert!(found.registries[0].document["spec"].get("auth").is_none() && found.secrets.is_empty());
        assert!(form.document(&ConsoleScope::System).pointer("/spec/auth/basic").is_some());
    }
}
