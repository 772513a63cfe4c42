//! Reads the registries in a file, and the Secrets, ConfigMaps and Namespaces next to them. Pure. No error contains a
//! value from the file, because any value may be a password.

use std::fmt;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Namespace, Secret},
};
use registry_api::{GROUP, spec::VERSION};
use registry_verdict::object::RegistryScope;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{Options, budget, options};
use thiserror::Error;

/// How many bytes the values of a text from anyone have at most, with its aliases replaced.
const MOST_UNTRUSTED_BYTES: usize = 512 * 1024;
/// How many values such a text has at most, likewise.
const MOST_UNTRUSTED_NODES: usize = 20_000;
/// How many aliases such a text has at most.
const MOST_UNTRUSTED_ALIASES: usize = 100;

/// Why a file can't be used.
#[derive(Debug, Error, Eq, PartialEq)]
pub enum ManifestError {
    /// It isn't valid YAML.
    #[error("{file} is not valid YAML{}", at(*.line))]
    Yaml {
        /// The file.
        file: String,
        /// The line with the error.
        line: Option<u64>,
    },
    /// A document isn't a Kubernetes object.
    #[error("document {number} of {file} must have apiVersion and kind")]
    NoObject {
        /// The file.
        file: String,
        /// The number of the document, from 1.
        number: usize,
    },
    /// An object other than a registry can't be parsed.
    #[error("{kind} {name} in {file} is invalid: {hint}")]
    Unreadable {
        /// The file.
        file: String,
        /// The object's kind.
        kind: &'static str,
        /// The object's name.
        name: String,
        /// The most common cause.
        hint: &'static str,
    },
}

fn at(line: Option<u64>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

/// A registry in a file.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its scope.
    pub scope: RegistryScope,
    /// The complete document.
    pub document: Value,
}

impl Declared {
    /// Returns its name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.document.pointer("/metadata/name")?.as_str().filter(|name| !name.is_empty())
    }

    /// Returns its namespace, if it has one.
    pub fn namespace(&self) -> Option<&str> {
        self.document.pointer("/metadata/namespace")?.as_str().filter(|name| !name.is_empty())
    }

    /// Returns its API version.
    pub fn api_version(&self) -> &str {
        self.document["apiVersion"].as_str().unwrap_or_default()
    }
}

/// The objects in the files.
#[derive(Default)]
pub struct Manifests {
    /// The registries, in order.
    pub registries: Vec<Declared>,
    /// The Secrets, with `stringData` merged into `data`.
    pub secrets: Vec<Secret>,
    /// The ConfigMaps.
    pub config_maps: Vec<ConfigMap>,
    /// The Namespaces.
    pub namespaces: Vec<Namespace>,
}

/// Shows only the number of objects, because their contents may be secret.
impl fmt::Debug for Manifests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts =
            [self.registries.len(), self.secrets.len(), self.config_maps.len(), self.namespaces.len()];
        write!(f, "Manifests{counts:?}")
    }
}

/// Returns the API version that registries in a file must have.
pub fn api_version() -> String {
    format!("{GROUP}/{VERSION}")
}

impl Manifests {
    /// Adds the objects in `text`, the content of `file`.
    pub fn read(&mut self, file: &str, text: &str) -> Result<(), ManifestError> {
        self.read_with(Options::default(), file, text)
    }

    /// Adds the objects in `text`, which may come from anyone: it must stay small when its aliases are replaced.
    pub fn read_untrusted(&mut self, file: &str, text: &str) -> Result<(), ManifestError> {
        let budget = budget! {
            max_total_scalar_bytes: MOST_UNTRUSTED_BYTES,
            max_recorded_anchor_bytes: MOST_UNTRUSTED_BYTES,
            max_nodes: MOST_UNTRUSTED_NODES,
            max_aliases: MOST_UNTRUSTED_ALIASES,
        };
        self.read_with(options! { budget: budget }, file, text)
    }

    fn read_with(&mut self, options: Options, file: &str, text: &str) -> Result<(), ManifestError> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple_with_options(text, options).map_err(|error| ManifestError::Yaml {
                file: file.to_owned(),
                line: error.location().map(|location| location.line()),
            })?;
        for (index, document) in documents.into_iter().enumerate() {
            if !document.is_null() {
                self.add(file, index + 1, document)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, file: &str, number: usize, document: Value) -> Result<(), ManifestError> {
        let (Some(version), Some(kind)) = (document["apiVersion"].as_str(), document["kind"].as_str()) else {
            return Err(ManifestError::NoObject { file: file.to_owned(), number });
        };
        let ours = version.split('/').next() == Some(GROUP);
        match (version, kind) {
            (_, "SystemRegistry") if ours => {
                self.registries.push(Declared { scope: RegistryScope::System, document });
            }
            (_, "TenantRegistry") if ours => {
                self.registries.push(Declared { scope: RegistryScope::Tenant, document });
            }
            ("v1", "Secret") => self.secrets.push(with_text(read(file, "Secret", SECRET, document)?)),
            ("v1", "ConfigMap") => self.config_maps.push(read(file, "ConfigMap", CONFIG_MAP, document)?),
            ("v1", "Namespace") => {
                self.namespaces.push(read(file, "Namespace", "its labels must be strings", document)?);
            }
            (_, list) if list.ends_with("List") => self.add_all(file, number, document)?,
            _ => {}
        }
        Ok(())
    }

    fn add_all(&mut self, file: &str, number: usize, mut list: Value) -> Result<(), ManifestError> {
        let Value::Array(items) = list["items"].take() else { return Ok(()) };
        items.into_iter().try_for_each(|item| self.add(file, number, item))
    }
}

const SECRET: &str = "its data must be base64, and its stringData strings (quote numbers)";
const CONFIG_MAP: &str = "its data must be strings (quote numbers)";

fn read<K: DeserializeOwned>(
    file: &str,
    kind: &'static str,
    hint: &'static str,
    document: Value,
) -> Result<K, ManifestError> {
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    // serde's message contains the value.
    serde_json::from_value(document).map_err(|_| ManifestError::Unreadable {
        file: file.to_owned(),
        kind,
        name,
        hint,
    })
}

/// Merges `stringData` into `data`, as the API server does.
fn with_text(mut secret: Secret) -> Secret {
    for (key, text) in secret.string_data.take().unwrap_or_default() {
        secret.data.get_or_insert_default().insert(key, ByteString(text.into_bytes()));
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifests(text: &str) -> Result<Manifests, ManifestError> {
        let mut manifests = Manifests::default();
        manifests.read("FILE", text).map(|()| manifests)
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = "{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {password: HUSH}}";
        let found = manifests(text).unwrap();
        assert_eq!(format!("{found:?}"), "Manifests[0, 1, 0, 0]");
    }

    #[test]
    fn finds_registries_and_references_in_file() {
        let text = "
# a comment
---
apiVersion: registry.spectrocloud.com/v1alpha1
kind: SystemRegistry
metadata: {name: packs}
spec: {endpoint: 'https://a'}
---
apiVersion: v1
kind: List
items:
- {apiVersion: registry.spectrocloud.com/v1alpha1, kind: TenantRegistry, metadata: {name: charts, namespace: a}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: ca}, data: {ca.crt: x}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other}
---
";
        let found = manifests(text).unwrap();
        let names: Vec<_> =
            found.registries.iter().map(|one| (one.scope, one.name(), one.namespace())).collect();
        assert_eq!(
            names,
            [
                (RegistryScope::System, Some("packs"), None),
                (RegistryScope::Tenant, Some("charts"), Some("a"))
            ]
        );
        assert_eq!(found.config_maps.len(), 1);
    }

    #[test]
    fn untrusted_text_stays_small() {
        let text = |more: &str| format!("apiVersion: v1\nkind: Other\n{more}");
        let read = |more: &str| Manifests::default().read_untrusted("FILE", &text(more)).is_ok();
        let long = "a".repeat(100 * 1024);
        // Fewer anchors for that many aliases are refused anywhere.
        let anchors: Vec<String> = (0..20).map(|number| format!("&a{number} x,")).collect();
        let anchors = anchors.concat();
        let (few, many) = ("*a,".repeat(4), "*a,".repeat(6));
        assert!(read(&format!("a: &a {long}\nb: [{few}]")));
        for more in [
            format!("a: &a {long}\nb: [{many}]"),
            format!("a: [&a x, {anchors}]\nb: [{}]", "*a,".repeat(101)),
            format!("a: [{}]", "x,".repeat(20_000)),
            // Each list has ten of the list before.
            format!(
                "a: &a [{0}]\nb: &b [{1}]\nc: &c [{2}]\nd: [{3}]",
                "x,".repeat(30),
                "*a,".repeat(10),
                "*b,".repeat(10),
                "*c,".repeat(10)
            ),
        ] {
            assert!(!read(&more), "{}", more.len());
            assert!(
                manifests(&text(&more)).is_ok(),
                "a file of the user's own has other limits: {}",
                more.len()
            );
        }
    }

    #[test]
    fn string_data_wins_over_data() {
        let text = "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: eA==, b: eQ==}, stringData: {a: z}}";
        let secret = manifests(text).unwrap().secrets.remove(0);
        let data = secret.data.unwrap();
        assert_eq!((data["a"].0.as_slice(), data["b"].0.as_slice()), (&b"z"[..], &b"y"[..]));
    }

    #[test]
    fn error_names_position_but_no_value() {
        for text in [
            "apiVersion: v1\nkind: Secret\nstringData: {password: hunter2",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {password: hunter2}",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: hunter2",
            "password: hunter2",
            "hunter2",
            "a: b\n\thunter2: : x",
        ] {
            let error = manifests(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("FILE"), "{error}");
        }
        let error = manifests("apiVersion: v1\nkind: [a").unwrap_err().to_string();
        assert!(error.starts_with("FILE is not valid YAML (line "), "{error}");
    }
}
