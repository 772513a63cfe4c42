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
    resolve::{ReadError, TenantPolicy, references},
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
    supply::{Contents, Supply, SupplyError},
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
    /// Checks one registry: the manifest, then its references, then the registry. Without an API server, runs the schema's rules.
    pub async fn report(&mut self, declared: &Declared) -> Result<CheckReport, SessionError> {
        let manifest = match self.manifest(declared).await? {
            Manifest::NotAsked(why) => by_rules(declared, why)?,
            manifest @ (Manifest::Accepted | Manifest::Refused(_)) => manifest,
        };
        self.report_of(declared, manifest).await
    }

    /// Checks one registry for a user whose rights count, which only the API server knows. Doesn't run the schema's rules, so a
    /// program that doesn't call [`CheckSession::report`] doesn't contain the CEL interpreter.
    pub async fn report_on_behalf(&mut self, declared: &Declared) -> Result<CheckReport, SessionError> {
        let manifest = self.manifest(declared).await?;
        self.report_of(declared, manifest).await
    }

    /// Checks one registry whose manifest the API server has accepted. Doesn't run the schema's rules either.
    pub async fn report_accepted(&mut self, declared: &Declared) -> Result<CheckReport, SessionError> {
        let complaints = complaints(declared)?;
        let manifest = if complaints.is_empty() { Manifest::Accepted } else { Manifest::Refused(complaints) };
        self.report_of(declared, manifest).await
    }

    async fn report_of(
        &mut self,
        declared: &Declared,
        manifest: Manifest,
    ) -> Result<CheckReport, SessionError> {
        let key = self.key(declared);
        let endpoint = declared.document.pointer("/spec/endpoint").and_then(Value::as_str);
        let mut report = CheckReport {
            scope: declared.scope,
            name: key.name().to_owned(),
            namespace: key.namespace().map(ToOwned::to_owned),
            endpoint: endpoint.filter(|endpoint| !endpoint.contains('@')).unwrap_or_default().to_owned(),
            manifest,
            answer: CheckAnswer::Refused,
            notes: Vec::new(),
        };
        match &report.manifest {
            Manifest::Refused(_) => return Ok(report),
            Manifest::NotAsked(why) if self.supply.on_behalf => {
                report.answer = CheckAnswer::Unable(why.clone());
                return Ok(report);
            }
            Manifest::NotAsked(_) | Manifest::Accepted => {}
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

    /// Checks the manifest's structure, and whether the cluster accepts it, as far as this is known.
    async fn manifest(&mut self, declared: &Declared) -> Result<Manifest, SessionError> {
        let complaints = complaints(declared)?;
        if !complaints.is_empty() {
            return Ok(Manifest::Refused(complaints));
        }
        Ok(self.admission(declared, &self.key(declared)).await)
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
        let (policy, contents) = match self.supplied(object, &namespace).await {
            Ok(supplied) => supplied,
            Err(SupplyError::Prompt(error)) => return Err(error.into()),
            Err(error) => return Ok(CheckAnswer::Unable(error.to_string())),
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

    async fn supplied(
        &mut self,
        object: &RegistryObject,
        namespace: &str,
    ) -> Result<(TenantPolicy, Contents), SupplyError> {
        let policy = self.supply.policy(object, self.system_namespace).await?;
        Ok((policy, self.supply.of(object, namespace).await?))
    }

    /// Returns a registry with its namespace, for a program that doesn't know the user's.
    pub fn manifest_in_namespace(&self, declared: &Declared) -> Value {
        in_namespace(declared.document.clone(), self.key(declared).namespace())
    }

    /// Returns the contents of all that a registry refers to, for a program that has no access to it; none if something doesn't exist or
    /// can't be read. What is wrong with the registry itself is left to that program.
    pub async fn references(&mut self, declared: &Declared) -> Result<Option<Contents>, SessionError> {
        if !complaints(declared)?.is_empty() {
            return Ok(Some(Contents::new()));
        }
        let Ok(object) = self.object(declared, self.key(declared)) else { return Ok(Some(Contents::new())) };
        let namespace = object.key.references_namespace(self.system_namespace).to_owned();
        match self.supply.of(&object, &namespace).await {
            Ok(contents) => {
                let wanted = references(&object.spec, &namespace);
                Ok(wanted.iter().all(|one| contents.contains_key(one)).then_some(contents))
            }
            Err(SupplyError::Prompt(error)) => Err(error.into()),
            Err(_) => Ok(None),
        }
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

/// Writes the namespace into a manifest. Other metadata than an object is left for its reader to refuse.
fn in_namespace(mut document: Value, namespace: Option<&str>) -> Value {
    if let (Some(namespace), Some(metadata)) =
        (namespace, document.get_mut("metadata").and_then(Value::as_object_mut))
    {
        metadata.insert("namespace".to_owned(), Value::from(namespace));
    }
    document
}

/// Runs the schema's rules, because the API server was not asked for this reason.
fn by_rules(declared: &Declared, why: String) -> Result<Manifest, SessionError> {
    let broken = schema::broken_rules(declared.scope, &declared.document)?;
    Ok(if broken.is_empty() { Manifest::NotAsked(why) } else { Manifest::Refused(broken) })
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn namespace_is_written_into_metadata_only() {
        let named = json!({"metadata": {"name": "packs"}});
        assert_eq!(in_namespace(named.clone(), None), named);
        let both = json!({"metadata": {"name": "packs", "namespace": "team-a"}});
        assert_eq!(in_namespace(named, Some("team-a")), both);
        for other in [json!({"metadata": "text"}), json!({"metadata": [1]}), json!({}), json!("text")] {
            assert_eq!(in_namespace(other.clone(), Some("team-a")), other);
        }
    }
}
