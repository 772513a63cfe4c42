//! A registry as it was read for a form, and the change of it: a JSON merge patch of exactly this object.
//!
//! The operator writes the status, and with it the version of the object, all the time. So another user's change is a new generation, which
//! only the spec has; the version makes the patch fail if the object changed after it was read, and then it is read again.

use kube::{
    api::{DynamicObject, Patch, PatchParams},
    core::ObjectMeta,
};
use registry_check::{admission::api, cluster::Cluster, manifest::api_version};
use serde_json::{Value, json};

use crate::{
    complaints::FieldComplaint,
    form::RegistryForm,
    marks::managed_by,
    scope::ConsoleScope,
    stored::{change, patched},
    trial::{CreateFailure, FIELD_MANAGER, failure},
};

/// How often a change is tried, if the operator's writes come between.
const ATTEMPTS: usize = 5;

/// A registry that exists.
#[derive(Clone, Debug)]
pub struct ShownRegistry {
    /// The object's metadata.
    pub metadata: ObjectMeta,
    /// Its `metadata` and `spec`.
    pub object: Value,
}

/// Why a registry isn't known to be changed.
#[derive(Debug)]
pub enum ChangeFailure {
    /// The API server refused it: nothing was changed.
    Refused(Vec<FieldComplaint>),
    /// Another user has changed it: nothing was changed. Holds what is left behind.
    Conflict(Vec<FieldComplaint>),
    /// No answer, or one that doesn't say: it may have been changed.
    Unknown(String),
}

impl ShownRegistry {
    /// Reads it.
    pub async fn read(cluster: &Cluster, scope: &ConsoleScope, name: &str) -> Result<Self, kube::Error> {
        let found = api(cluster, scope.registry_scope(), scope.namespace()).get(name).await?;
        let object = json!({"metadata": found.metadata, "spec": found.data.get("spec")});
        Ok(Self { metadata: found.metadata, object })
    }

    /// The tool that it is kept by; `None` for none.
    pub fn managed_by(&self, scope: &ConsoleScope) -> Option<String> {
        managed_by(scope.kind(), &self.metadata)
    }

    /// The tenants that it is available to, in words.
    pub fn available_to(&self) -> String {
        let names = self.object.pointer("/spec/availability/tenants").and_then(Value::as_array);
        let names = names.map(|names| names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
        names.map_or_else(|| "to all tenants".to_owned(), |names| format!("to tenants {names}"))
    }

    /// Whether it is what the form was filled from.
    pub fn is_what_was_shown(&self, form: &RegistryForm) -> bool {
        let generation = self.metadata.generation.map(|generation| generation.to_string());
        self.metadata.uid.as_deref() == Some(&form.uid) && generation.as_deref() == Some(&form.generation)
    }

    /// What the form changes of it.
    pub fn patch(&self, form: &RegistryForm) -> Value {
        change(form, &self.object)
    }

    /// The registry as it is after that change of its spec, as a file would hold it.
    pub fn document(&self, scope: &ConsoleScope, patch: &Value) -> Value {
        let mut metadata = json!({"name": self.metadata.name});
        if let Some(namespace) = scope.namespace() {
            metadata["namespace"] = json!(namespace);
        }
        let spec = patched(&self.object["spec"], patch);
        json!({"apiVersion": api_version(), "kind": scope.kind(), "metadata": metadata, "spec": spec})
    }

    /// Changes it, or only asks whether it could be changed (`dry_run`).
    pub async fn write(
        &self,
        cluster: &Cluster,
        scope: &ConsoleScope,
        patch: &Value,
        dry_run: bool,
    ) -> Result<(), ChangeFailure> {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let mut seen = self.clone();
        for _ in 0..ATTEMPTS {
            match seen.try_write(cluster, scope, patch, dry_run).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(failed(scope, name, &error)),
                Ok(()) => return Ok(()),
            }
            seen = Self::read(cluster, scope, name).await.map_err(|error| failed(scope, name, &error))?;
            if !seen.is_same_as(self) || seen.managed_by(scope).is_some() {
                return Err(ChangeFailure::Conflict(Vec::new()));
            }
        }
        Err(ChangeFailure::Conflict(Vec::new()))
    }

    fn is_same_as(&self, other: &Self) -> bool {
        (&self.metadata.uid, self.metadata.generation) == (&other.metadata.uid, other.metadata.generation)
    }

    async fn try_write(
        &self,
        cluster: &Cluster,
        scope: &ConsoleScope,
        patch: &Value,
        dry_run: bool,
    ) -> Result<(), kube::Error> {
        let ObjectMeta { uid, resource_version, name, .. } = &self.metadata;
        let patch = json!({"metadata": {"uid": uid, "resourceVersion": resource_version}, "spec": patch});
        let params =
            PatchParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let registries = api(cluster, scope.registry_scope(), scope.namespace());
        let changed: DynamicObject =
            registries.patch(name.as_deref().unwrap_or_default(), &params, &Patch::Merge(patch)).await?;
        drop(changed);
        Ok(())
    }
}

impl From<CreateFailure> for ChangeFailure {
    fn from(failure: CreateFailure) -> Self {
        match failure {
            CreateFailure::Refused(complaints) => Self::Refused(complaints),
            CreateFailure::Unknown(why) => Self::Unknown(why),
        }
    }
}

/// What it means that a change failed.
fn failed(scope: &ConsoleScope, name: &str, error: &kube::Error) -> ChangeFailure {
    match failure(scope, name, error) {
        CreateFailure::Refused(_) if matches!(error, kube::Error::Api(status) if status.code == 404) => {
            let message = format!("{} {name} was deleted meanwhile", scope.kind());
            ChangeFailure::Refused(vec![FieldComplaint { field: "", message }])
        }
        failure => failure.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated;

    fn shown() -> ShownRegistry {
        let metadata: ObjectMeta =
            serde_json::from_value(json!({"name": "p", "uid": "u", "generation": 2, "resourceVersion": "7"}))
                .unwrap();
        ShownRegistry { object: json!({"metadata": metadata, "spec": {"endpoint": "https://r"}}), metadata }
    }

    async fn written(answer: fn(&str) -> u16) -> (Result<(), ChangeFailure>, simulated::ApiLog) {
        let (api, log) = simulated::api(answer);
        let patch = json!({"baseContentPath": "a"});
        (shown().write(&simulated::cluster(api), &ConsoleScope::System, &patch, true).await, log)
    }

    #[tokio::test]
    async fn change_is_of_the_object_that_was_read() {
        let (written, log) = written(|_| 200).await;
        assert!(written.is_ok());
        let expected =
            json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "spec": {"baseContentPath": "a"}});
        assert_eq!(log.body_of("PATCH").unwrap(), expected);
        assert!(log.lines()[0].contains("dryRun=All"), "{:?}", log.lines());
    }

    #[tokio::test]
    async fn another_object_of_the_name_is_a_conflict() {
        let (written, log) = written(|line| if line.starts_with("PATCH") { 409 } else { 200 }).await;
        assert!(matches!(written, Err(ChangeFailure::Conflict(_))), "{written:?}");
        assert_eq!(log.lines().len(), 2, "it is read once more: {:?}", log.lines());
    }

    #[tokio::test]
    async fn unknown_result_is_no_refusal() {
        let (unknown, _) = written(|_| 504).await;
        assert!(matches!(unknown, Err(ChangeFailure::Unknown(_))), "{unknown:?}");
        let (gone, _) = written(|_| 404).await;
        let Err(ChangeFailure::Refused(complaints)) = gone else { panic!("{gone:?}") };
        assert!(complaints[0].message.contains("was deleted meanwhile"));
    }
}
