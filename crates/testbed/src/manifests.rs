//! Manifests: parses them, replaces placeholders, and applies them as `kubectl apply --server-side` does.

use std::path::{Path, PathBuf};

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope, pinned_kind};
use kube::{Client, ResourceExt as _};
use serde_json::Value;

use crate::eventually::{NotYet, eventually};

/// The field manager.
pub const FIELD_MANAGER: &str = "registry-testbed";

/// Why manifests are not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file or directory cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The text is not YAML.
    #[error("{origin} is not YAML: {reason}")]
    Yaml {
        /// Where the text comes from.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A document is not a Kubernetes object.
    #[error("document {number} of {origin} is no Kubernetes object: {reason}")]
    Object {
        /// Where the text comes from.
        origin: String,
        /// Which of its documents, counted from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// A placeholder without a value is left in the text.
    #[error("{origin} has the token {token}, and there is nothing to put in its place")]
    Token {
        /// Where the text comes from.
        origin: String,
        /// The token.
        token: String,
    },
    /// The API server does not know the kind.
    #[error("{kind} {name}: {source}")]
    UnknownKind {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// How long was waited, and what the API server said.
        source: NotYet,
    },
    /// The API server refuses the object.
    #[error("cannot apply {kind} {name}: {source}")]
    Apply {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// The answer.
        source: Box<kube::Error>,
    },
}

/// The values for placeholders `${NAME}` in manifests, which are known only when they are applied.
#[derive(Debug, Clone, Default)]
pub struct Placeholders(Vec<(String, String)>);

impl Placeholders {
    /// Replaces `${name}` with `value`. Further lines of a value are indented like its first.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((format!("${{{name}}}"), value.into()));
        self
    }

    /// The text with every token replaced.
    pub fn fill(&self, origin: &str, text: &str) -> Result<String, ApplyError> {
        let filled: Vec<String> = text.lines().map(|line| self.fill_line(line)).collect();
        let filled = filled.join("\n");
        match unknown_token(&filled) {
            Some(token) => Err(ApplyError::Token { origin: origin.to_owned(), token }),
            None => Ok(filled),
        }
    }

    fn fill_line(&self, line: &str) -> String {
        let mut filled = line.to_owned();
        for (token, value) in &self.0 {
            if let Some(column) = filled.find(token.as_str()) {
                let next_line = format!("\n{}", " ".repeat(column));
                filled = filled.replace(token.as_str(), &value.trim_end().replace('\n', &next_line));
            }
        }
        filled
    }
}

fn unknown_token(text: &str) -> Option<String> {
    let start = text.find("${")?;
    let length = text[start..].find('}')?;
    Some(text[start..=start + length].to_owned())
}

/// Reads a file of manifests.
pub fn read_file(path: &Path, tokens: &Placeholders) -> Result<Vec<DynamicObject>, ApplyError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ApplyError::Read { path: path.to_path_buf(), source })?;
    let origin = path.display().to_string();
    parse(&origin, &tokens.fill(&origin, &text)?)
}

/// Reads every `*.yaml` of a directory, in the order of their names.
pub fn read_directory(path: &Path, tokens: &Placeholders) -> Result<Vec<DynamicObject>, ApplyError> {
    let list = || {
        let entries = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
        entries.collect::<Result<Vec<PathBuf>, std::io::Error>>()
    };
    let mut files = list().map_err(|source| ApplyError::Read { path: path.to_path_buf(), source })?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        objects.extend(read_file(&file, tokens)?);
    }
    Ok(objects)
}

/// Reads the documents of a YAML text; empty ones are passed over.
pub fn parse(origin: &str, text: &str) -> Result<Vec<DynamicObject>, ApplyError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| ApplyError::Yaml { origin: origin.to_owned(), reason: error.to_string() })?;
    let documents = documents.into_iter().enumerate().filter(|(_, document)| !document.is_null());
    documents
        .map(|(index, document)| {
            serde_json::from_value(document).map_err(|error| ApplyError::Object {
                origin: origin.to_owned(),
                number: index + 1,
                reason: error.to_string(),
            })
        })
        .collect()
}

/// Applies objects: namespaces and definitions first, then what others refer to, then the rest in their order.
pub async fn apply(client: &Client, mut objects: Vec<DynamicObject>) -> Result<(), ApplyError> {
    objects.sort_by_key(|object| match kind(object) {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" | "Secret" | "ConfigMap" => 2,
        _ => 3,
    });
    for object in objects {
        apply_one(client, &object).await?;
    }
    Ok(())
}

async fn apply_one(client: &Client, object: &DynamicObject) -> Result<(), ApplyError> {
    let api = api_of(client, object).await?;
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api.patch(&object.name_any(), &params, &Patch::Apply(object)).await;
    applied.map(drop).map_err(|source| ApplyError::Apply {
        kind: kind(object).to_owned(),
        name: object.name_any(),
        source: Box::new(source),
    })
}

/// Where this object lives. Waits for a definition that was just applied.
pub async fn api_of(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>, ApplyError> {
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types.api_version.rsplit_once('/').unwrap_or(("", &types.api_version));
    let gvk = GroupVersionKind::gvk(group, version, &types.kind);
    let served = eventually(format!("{} is served", types.kind), || pinned_kind(client, &gvk)).await;
    let (resource, capabilities) = served.map_err(|source| ApplyError::UnknownKind {
        kind: types.kind,
        name: object.name_any(),
        source,
    })?;
    Ok(api(client, &resource, &capabilities.scope, object.namespace().as_deref()))
}

fn api(
    client: &Client,
    resource: &ApiResource,
    scope: &Scope,
    namespace: Option<&str>,
) -> Api<DynamicObject> {
    match (scope, namespace) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), resource),
    }
}

/// The object's kind.
pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indents_multiline_values_like_their_token() {
        let tokens = Placeholders::default().with("CA", "BEGIN\nEND\n").with("REGISTRY", "127.0.0.1:5000");
        let filled = tokens.fill("test", "host: https://${REGISTRY}/x\nca: |\n  ${CA}\nlast: 1");
        assert_eq!(filled.unwrap(), "host: https://127.0.0.1:5000/x\nca: |\n  BEGIN\n  END\nlast: 1");
    }

    #[test]
    fn reports_token_without_value() {
        let error = Placeholders::default().fill("good.yaml", "host: ${REGISTRY}").unwrap_err();
        assert!(error.to_string().contains("good.yaml has the token ${REGISTRY}"), "{error}");
    }

    #[test]
    fn skips_empty_documents() {
        let objects =
            parse("test", "# nothing\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\n");
        let kinds: Vec<String> = objects.unwrap().iter().map(|object| kind(object).to_owned()).collect();
        assert_eq!(kinds, ["Secret"]);
    }
}
