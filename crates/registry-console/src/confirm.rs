//! Confirm: the writes, as the signed-in user. First the Secret, then the registry; if the second fails, the first is taken back.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use registry_check::cluster::{Cluster, words};

use crate::{
    form::{FieldComplaint, RegistryForm},
    scope::ConsoleScope,
    trial::{self, FIELD_MANAGER},
};

/// Adds what the form says, or nothing. What is left behind after a failure is said.
pub async fn add(
    cluster: &Cluster,
    scope: &ConsoleScope,
    form: &RegistryForm,
) -> Result<(), Vec<FieldComplaint>> {
    let document = form.document(scope);
    trial::gate(cluster, scope, &document).await?;
    let secret = match form.secret(scope, &cluster.system_namespace) {
        Some(secret) => Some(create_secret(cluster, secret).await?),
        None => None,
    };
    let Err(mut complaints) = trial::create(cluster, scope, &document, false).await else { return Ok(()) };
    if let Some(left) = take_back(cluster, secret).await {
        complaints.push(left);
    }
    Err(complaints)
}

fn secrets(cluster: &Cluster, secret: &Secret) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), secret.metadata.namespace.as_deref().unwrap_or_default())
}

async fn create_secret(cluster: &Cluster, secret: Secret) -> Result<Secret, Vec<FieldComplaint>> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let created = secrets(cluster, &secret).create(&params, &secret).await;
    created.map_err(|error| vec![not_created(&secret, &error)])
}

/// In words that hold nothing of the Secret but its name.
fn not_created(secret: &Secret, error: &kube::Error) -> FieldComplaint {
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let message = match error {
        kube::Error::Api(status) if status.code == 409 => {
            format!(
                "Secret {namespace}/{name} already exists; use it by its name, or choose another name for the registry"
            )
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
