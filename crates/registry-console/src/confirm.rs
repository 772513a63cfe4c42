//! Confirm: the writes, as the signed-in user. First the Secret, then the registry; if the second fails, the first is taken back.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use registry_check::cluster::{Cluster, words};

use crate::{
    complaints::FieldComplaint,
    form::RegistryForm,
    scope::ConsoleScope,
    shown::{ChangeFailure, ShownRegistry},
    trial::{self, CreateFailure, FIELD_MANAGER, is_refusal},
};

/// What to do if the name of a new registry's Secret is taken.
const OTHER_NAME: &str = "use it by its name, or choose another name for the registry";
/// The same for a registry that exists: each try has a Secret of its own.
const OTHER_SECRET: &str = "confirm again, and the new one gets another name";

/// Adds what the form says, or nothing. What is left behind after a failure is said.
pub async fn add(
    cluster: &Cluster,
    scope: &ConsoleScope,
    form: &RegistryForm,
) -> Result<(), Vec<FieldComplaint>> {
    let document = form.document(scope);
    trial::gate(cluster, scope, &document).await?;
    let secret = match form.secret(scope, &cluster.system_namespace) {
        Some(secret) => Some(create_secret(cluster, secret, OTHER_NAME).await?),
        None => None,
    };
    match trial::create(cluster, scope, &document, false).await {
        Ok(()) => Ok(()),
        Err(CreateFailure::Refused(mut complaints)) => {
            complaints.extend(take_back(cluster, secret).await);
            Err(complaints)
        }
        Err(CreateFailure::Unknown(why)) => {
            Err(vec![not_known(scope.kind(), &form.name, secret.as_ref(), &why)])
        }
    }
}

/// Changes a registry as the form says, or not at all. What is left behind after a failure is said.
pub async fn change(
    cluster: &Cluster,
    scope: &ConsoleScope,
    form: &RegistryForm,
    shown: &ShownRegistry,
) -> Result<(), ChangeFailure> {
    let patch = shown.patch(form);
    shown.write(cluster, scope, &patch, true).await?;
    let secret = match form.secret(scope, &cluster.system_namespace) {
        Some(secret) => {
            let created = create_secret(cluster, secret, OTHER_SECRET).await;
            Some(created.map_err(ChangeFailure::Refused)?)
        }
        None => None,
    };
    match shown.write(cluster, scope, &patch, false).await {
        Ok(()) => Ok(()),
        Err(ChangeFailure::Refused(mut complaints)) => {
            complaints.extend(take_back(cluster, secret).await);
            Err(ChangeFailure::Refused(complaints))
        }
        Err(ChangeFailure::Conflict(mut complaints)) => {
            complaints.extend(take_back(cluster, secret).await);
            Err(ChangeFailure::Conflict(complaints))
        }
        Err(ChangeFailure::Unknown(why)) => {
            let left = secret.as_ref().map(|secret| format!(". Secret {} is left", namespaced_name(secret)));
            let message = format!(
                "Whether {} {} was changed is not known: {why}; look at its page{}",
                scope.kind(),
                form.name,
                left.unwrap_or_default()
            );
            Err(ChangeFailure::Refused(vec![FieldComplaint { field: "", message }]))
        }
    }
}

/// The registry may exist, and then it needs the Secret: nothing is taken back.
fn not_known(kind: &str, name: &str, secret: Option<&Secret>, why: &str) -> FieldComplaint {
    let left = secret.map(|secret| format!(". Secret {} is left", namespaced_name(secret)));
    let message = format!(
        "Whether {kind} {name} was created is not known: {why}; look at the list{}",
        left.unwrap_or_default()
    );
    FieldComplaint { field: "", message }
}

/// Returns a Secret's name as namespace/name.
fn namespaced_name(secret: &Secret) -> String {
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", secret.metadata.name.as_deref().unwrap_or_default())
}

fn secrets(cluster: &Cluster, secret: &Secret) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), secret.metadata.namespace.as_deref().unwrap_or_default())
}

async fn create_secret(
    cluster: &Cluster,
    secret: Secret,
    if_taken: &str,
) -> Result<Secret, Vec<FieldComplaint>> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let created = secrets(cluster, &secret).create(&params, &secret).await;
    created.map_err(|error| vec![not_created(&secret, &error, if_taken)])
}

/// In words that hold nothing of the Secret but its name.
fn not_created(secret: &Secret, error: &kube::Error, if_taken: &str) -> FieldComplaint {
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    if !is_refusal(error) {
        let message = format!(
            "Whether Secret {namespace}/{name} was created is not known: {}; look with kubectl get secret -n {namespace} {name}",
            words(error)
        );
        return FieldComplaint { field: "", message };
    }
    let message = match error {
        kube::Error::Api(status) if status.code == 409 => {
            format!("Secret {namespace}/{name} already exists; {if_taken}")
        }
        kube::Error::Api(status) if status.code == 403 => format!(
            "You may not create Secrets in {namespace}; use an existing Secret, or ask an administrator of {namespace}"
        ),
        error => format!("failed to create Secret {namespace}/{name}: {}", words(error)),
    };
    FieldComplaint { field: "existing_secret", message }
}

/// Removes the Secret that was just created, and no other; says what is left if that fails.
async fn take_back(cluster: &Cluster, secret: Option<Secret>) -> Option<FieldComplaint> {
    let secret = secret?;
    let name = secret.metadata.name.clone().unwrap_or_default();
    let preconditions = Preconditions { uid: secret.metadata.uid.clone(), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let error = secrets(cluster, &secret).delete(&name, &params).await.err()?;
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let message = format!(
        "Secret {namespace}/{name} is left: {}; remove it with kubectl delete secret -n {namespace} {name}",
        words(&error)
    );
    Some(FieldComplaint { field: "", message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated;

    fn login() -> RegistryForm {
        let mut form = RegistryForm::default();
        for (name, value) in [("name", "p"), ("endpoint", "https://r"), ("username", "u"), ("password", "p")]
        {
            form.take(name, value.as_bytes());
        }
        form
    }

    /// What is said and asked if that write is answered so.
    async fn add_with(resource: &'static str, code: u16) -> (String, Vec<String>) {
        let answer = move |line: &str| match line {
            line if line.starts_with("DELETE") => 200,
            line if line.contains(resource) && !line.contains("dryRun") => code,
            _ => 201,
        };
        let (api, log) = simulated::api(answer);
        let complaints = add(&simulated::cluster(api), &ConsoleScope::System, &login()).await.unwrap_err();
        let said: Vec<String> = complaints.into_iter().map(|complaint| complaint.message).collect();
        (said.join(" "), log.lines())
    }

    #[tokio::test]
    async fn unknown_result_leaves_the_secret() {
        for code in [408, 429, 500, 502, 504] {
            let (said, asked) = add_with("/systemregistries", code).await;
            assert!(said.contains("Whether SystemRegistry p was created is not known"), "{code}: {said}");
            assert!(said.contains("Secret registry-system/p-login is left"), "{code}: {said}");
            assert!(!asked.iter().any(|line| line.starts_with("DELETE")), "{code}: {asked:?}");
        }
    }

    #[tokio::test]
    async fn refusal_takes_the_secret_back() {
        for code in [400, 403, 409, 422] {
            let (said, asked) = add_with("/systemregistries", code).await;
            assert!(!said.contains("is left") && !said.contains("not known"), "{code}: {said}");
            assert!(asked.iter().any(|line| line.starts_with("DELETE")), "{code}: {asked:?}");
        }
    }

    #[tokio::test]
    async fn unknown_result_for_the_secret_is_said() {
        let (said, asked) = add_with("/secrets", 504).await;
        assert!(said.contains("Whether Secret registry-system/p-login was created is not known"), "{said}");
        assert_eq!(asked.len(), 2, "dry run and Secret: {asked:?}");
        let (said, _) = add_with("/secrets", 409).await;
        assert!(said.contains("already exists"), "{said}");
    }
}
