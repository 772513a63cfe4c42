//! Checks registries before an apply. Owns the order: the manifest, then its references, then the registry.
//! [`check`](crate::check) makes the result of each layer.

use std::{convert::Infallible, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use registry_api::{
    TENANT_LABEL,
    crd::CrdError,
    spec::{Registry, Scope as ApiScope},
};
use registry_verdict::{
    object::{RegistryKey, RegistryObject, RegistryScope},
    resolve::ReadError,
};
use serde::Deserialize as _;
use serde_json::Value;
use thiserror::Error;

use crate::{
    admission::{self, ManifestAdmission},
    check::{CheckContext, Checker, Learned},
    cluster::Tenancy,
    manifest::{Declared, api_version},
    prompt::PromptError,
    report::{CheckAnswer, CheckReport, Manifest},
    schema,
    supply::{Supply, SupplyError},
};

/// Why a check ends without a report.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The schema of this build is invalid.
    #[error(transparent)]
    Schema(#[from] CrdError),
    /// The user gave no answer.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A reference could not be read.
    #[error(transparent)]
    Read(#[from] ReadError<Infallible>),
}

/// Shows that something takes long.
pub trait Progress {
    /// Waits for `work`, and shows `what` in the meantime.
    fn shown<T>(&self, what: &str, work: impl Future<Output = T>) -> impl Future<Output = T>;
}

/// A run over several registries.
pub struct CheckSession<'a, P> {
    /// Makes the results.
    pub checker: Checker,
    /// The operator's namespace.
    pub system_namespace: &'a str,
    /// The source of Secrets and ConfigMaps.
    pub supply: Supply<'a>,
    /// Shows what takes long.
    pub progress: P,
    /// Who is told while a check is under way.
    pub learned: Option<&'a Learned>,
}

impl<P: Progress> CheckSession<'_, P> {
    /// Checks one registry: the manifest, then its references, then the registry.
    pub async fn report(&mut self, declared: &Declared) -> Result<CheckReport, SessionError> {
        let key = self.key(declared);
        let endpoint = declared.document.pointer("/spec/endpoint").and_then(Value::as_str);
        let mut report = CheckReport {
            scope: declared.scope,
            name: key.name().to_owned(),
            namespace: key.namespace().map(ToOwned::to_owned),
            endpoint: endpoint.filter(|endpoint| !endpoint.contains('@')).unwrap_or_default().to_owned(),
            manifest: Manifest::NotAsked(String::new()),
            answer: CheckAnswer::Refused,
            notes: Vec::new(),
        };
        report.manifest = self.manifest(declared, &key).await?;
        if matches!(report.manifest, Manifest::Refused(_)) {
            return Ok(report);
        }
        match self.object(declared, key) {
            Ok(object) => {
                if object.spec.suspend {
                    report.notes.push(SUSPENDED.to_owned());
                }
                report.answer = self.answer(&object, &mut report.notes).await?;
            }
            Err(why) => report.manifest = Manifest::Refused(vec![why]),
        }
        Ok(report)
    }

    fn key(&self, declared: &Declared) -> RegistryKey {
        let name: Arc<str> = declared.name().unwrap_or_default().into();
        match declared.scope {
            RegistryScope::System => RegistryKey::System { name },
            RegistryScope::Tenant => {
                let namespace = declared.namespace().unwrap_or(self.supply.namespace).into();
                RegistryKey::Tenant { namespace, name }
            }
        }
    }

    /// Checks whether the cluster accepts the manifest, as far as this is known.
    async fn manifest(&mut self, declared: &Declared, key: &RegistryKey) -> Result<Manifest, SessionError> {
        let complaints = complaints(declared)?;
        if !complaints.is_empty() {
            return Ok(Manifest::Refused(complaints));
        }
        let manifest = self.admission(declared, key).await;
        if matches!(manifest, Manifest::NotAsked(_)) {
            let broken = schema::broken_rules(declared.scope, &declared.document)?;
            if !broken.is_empty() {
                return Ok(Manifest::Refused(broken));
            }
        }
        Ok(manifest)
    }

    /// Parses the registry, or returns why the operator can't check it.
    fn object(&self, declared: &Declared, key: RegistryKey) -> Result<RegistryObject, String> {
        let object = match declared.scope {
            RegistryScope::System => typed::<registry_api::spec::System>(declared),
            RegistryScope::Tenant => typed::<registry_api::spec::Tenant>(declared),
        };
        let object = object.map(|object| RegistryObject { key, ..object }).ok_or(DURATIONS)?;
        self.checker.examine(&object).map_err(|error| error.to_string())?;
        Ok(object)
    }

    async fn admission(&mut self, declared: &Declared, key: &RegistryKey) -> Manifest {
        let cluster = match &self.supply.cluster {
            Ok(cluster) => cluster,
            Err(why) => return Manifest::NotAsked(why.clone()),
        };
        let asking = admission::ask(cluster, key, &declared.document);
        match self.progress.shown(&format!("Asking the API server about {key}"), asking).await {
            ManifestAdmission::Accepted => Manifest::Accepted,
            ManifestAdmission::Refused(reasons) => Manifest::Refused(reasons),
            ManifestAdmission::NotAsked(why) => Manifest::NotAsked(why),
            ManifestAdmission::Unreachable(why) => {
                self.supply.cluster = Err(why.clone());
                Manifest::NotAsked(why)
            }
        }
    }

    async fn answer(
        &mut self,
        object: &RegistryObject,
        notes: &mut Vec<String>,
    ) -> Result<CheckAnswer, SessionError> {
        let namespace = object.key.references_namespace(self.system_namespace).to_owned();
        let has_no_tenant = self.has_no_tenant(object, notes).await;
        let policy = self.supply.policy(object, self.system_namespace).await;
        let contents = match self.supply.of(object, &namespace).await {
            Ok(contents) => contents,
            Err(
                error
                @ (SupplyError::Missing { .. } | SupplyError::NothingToSignIn | SupplyError::NoUsername),
            ) => {
                return Ok(CheckAnswer::Unable(error.to_string()));
            }
            Err(SupplyError::Prompt(error)) => return Err(error.into()),
        };
        notes.append(&mut self.supply.notes);
        let surroundings = CheckContext {
            namespace: &namespace,
            has_no_tenant,
            contents: &contents,
            policy: &policy,
            learned: self.learned,
        };
        let what = format!("Checking {} at {}", object.key, object.spec.endpoint);
        let checked = self.progress.shown(&what, self.checker.check(object, surroundings)).await?;
        Ok(CheckAnswer::Checked(Box::new(checked)))
    }

    /// Returns whether the namespace of a TenantRegistry certainly belongs to no tenant.
    async fn has_no_tenant(&self, object: &RegistryObject, notes: &mut Vec<String>) -> bool {
        let Some(namespace) = object.key.namespace() else { return false };
        let mut declared = self.supply.manifests.namespaces.iter();
        if let Some(found) = declared.rfind(|found| found.name_any() == namespace) {
            return found.labels().get(TENANT_LABEL).is_none_or(String::is_empty);
        }
        let tenancy = match &self.supply.cluster {
            Ok(cluster) => cluster.tenancy(namespace).await,
            Err(why) => Tenancy::Unknown(why.clone()),
        };
        match tenancy {
            Tenancy::Of(_) => false,
            Tenancy::Nobody => true,
            Tenancy::Absent => {
                notes
                    .push(format!("Namespace {namespace} does not exist yet; assumed to belong to a tenant"));
                false
            }
            Tenancy::Unknown(why) => {
                notes.push(format!(
                    "Tenant of namespace {namespace} unknown ({why}); assumed to belong to a tenant"
                ));
                false
            }
        }
    }
}

fn typed<S: ApiScope>(declared: &Declared) -> Option<RegistryObject>
where
    Registry<S>: serde::de::DeserializeOwned,
{
    // serde's own message contains values from the file.
    serde_json::from_value::<Registry<S>>(declared.document.clone()).ok().map(RegistryObject::of)
}

const SUSPENDED: &str = "spec.suspend is true: the operator does not validate it until it is false";
/// The message if all fields exist and have the right types, and the document can't be parsed.
const DURATIONS: &str = "spec.validation.interval and spec.validation.timeout must be durations such as 10m";

/// Returns what is wrong with a document, except for the rules of the schema.
fn complaints(declared: &Declared) -> Result<Vec<String>, CrdError> {
    let mut complaints = Vec::new();
    if declared.api_version() != api_version() {
        complaints.push(format!("apiVersion must be {}", api_version()));
    }
    if declared.name().is_none() {
        complaints.push("metadata.name is required".to_owned());
    }
    if declared.scope == RegistryScope::System && declared.namespace().is_some() {
        complaints.push("metadata.namespace must be omitted: a SystemRegistry is cluster-scoped".to_owned());
    }
    if declared.name().is_some() && ObjectMeta::deserialize(&declared.document["metadata"]).is_err() {
        complaints.push(
            "metadata must be valid object metadata; labels and annotations must be strings (quote numbers)"
                .to_owned(),
        );
    }
    complaints.extend(schema::complaints(declared.scope, &declared.document)?);
    Ok(complaints)
}
