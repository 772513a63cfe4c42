//! `config/samples` as `make run` applies them: with the hosts and the CA of local registries instead of the
//! examples', and with the verdict that each registry should get. The files themselves can be applied as they are.

use std::path::PathBuf;

use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::{Value, json};

use crate::manifests::{self, ApplyError, Placeholders};
use crate::tools;

/// The user that the samples' Secrets hold.
pub const USER: &str = "demo";
/// The password that they hold.
pub const PASSWORD: &str = "demo-password";

/// Example hosts of the samples.
const PROTECTED: &str = "registry.example.com";
const ANONYMOUS: &str = "public.example.com:5000";
const DOWN: &str = "down.example.com";
const ECR: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
/// The region that the host of [`ECR`] tells, and that of a local registry doesn't.
const ECR_REGION: &str = "eu-central-1";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The verdict that each registry should get, `<Ready>/<reason>`. Those that are not here have no registry here.
const EXPECTED: [(&str, &str); 11] = [
    ("packs", "True/Available"),
    ("images", "True/Available"),
    ("skip-verification", "True/Available"),
    ("public-packages", "True/Available"),
    ("ecr-by-keys", "True/Available"),
    ("ecr-by-role", "True/Available"),
    ("charts", "True/Available"),
    ("docker-config", "True/Available"),
    ("wrong-password", "False/Rejected"),
    ("unknown-ca", "False/UnknownIssuer"),
    ("other-host", "False/SecretInvalid"),
];
/// The same for [`DOWN`], whose registry may be unreachable in more ways than one.
const UNREACHABLE: (&str, &str) = ("unreachable", "False/ConnectionRefused");

/// The registries that stand in for the samples' hosts, as `host:port`.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Takes [`USER`] and [`PASSWORD`], over TLS.
    pub protected: String,
    /// Allows anonymous access, in plain HTTP.
    pub anonymous: String,
    /// Nothing listens there.
    pub down: String,
    /// Takes the tokens of an emulated AWS, over TLS; none where there is no such AWS.
    pub ecr: Option<String>,
    /// The CA of the registries that speak TLS.
    pub ca_pem: String,
}

impl Overlay {
    /// The samples in `directory`, and what `make run` shows besides, with the local hosts. A registry that nothing here
    /// stands in for is left out.
    pub fn apply(&self, directory: &std::path::Path) -> Result<Vec<DynamicObject>, ApplyError> {
        let mut objects = manifests::read_directory(directory, &Placeholders::default())?;
        objects.extend(manifests::read_file(&failures(), &Placeholders::default())?);
        let is_wanted = |object: &DynamicObject| !is_registry(object) || self.expected(object).is_some();
        objects.retain(is_wanted);
        for object in &mut objects {
            self.patch(object);
        }
        Ok(objects)
    }

    /// The verdict that a registry of the samples should get.
    pub fn expected(&self, object: &DynamicObject) -> Option<&'static str> {
        let name = object.name_any();
        let expected = EXPECTED.iter().chain([&UNREACHABLE]).find(|(known, _)| *known == name);
        let is_possible = self.ecr.is_some() || !name.starts_with("ecr-");
        expected.filter(|_| is_registry(object) && is_possible).map(|(_, verdict)| *verdict)
    }

    fn patch(&self, object: &mut DynamicObject) {
        let endpoint = object.data.pointer("/spec/endpoint").and_then(Value::as_str).unwrap_or_default();
        if endpoint.contains(ECR) {
            object.data["spec"]["auth"]["ecr"]["region"] = json!(ECR_REGION);
            object.data["spec"]["tls"] = json!({"ca": {"inline": self.ca_pem}});
        }
        self.patch_strings(&mut object.data);
        for value in object.metadata.annotations.iter_mut().flat_map(std::collections::BTreeMap::values_mut) {
            *value = self.local(value);
        }
    }

    fn patch_strings(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.local(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.patch_strings(value)),
            Value::Object(entries) => entries.values_mut().for_each(|value| self.patch_strings(value)),
            _ => {}
        }
    }

    fn local(&self, text: &str) -> String {
        if text.contains(CERTIFICATE) {
            return self.ca_pem.clone();
        }
        let hosts = [
            (PROTECTED, &self.protected),
            (ANONYMOUS, &self.anonymous),
            (DOWN, &self.down),
            (ECR, self.ecr.as_ref().unwrap_or(&self.down)),
        ];
        hosts.iter().fold(text.to_owned(), |text, (example, local)| text.replace(example, local))
    }
}

/// The samples' directory in this repository.
pub fn directory() -> PathBuf {
    tools::repository().join("config/samples")
}

fn failures() -> PathBuf {
    tools::repository().join("crates/testbed/demo/failures.yaml")
}

fn is_registry(object: &DynamicObject) -> bool {
    matches!(manifests::kind(object), "SystemRegistry" | "TenantRegistry")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(ecr: Option<&str>) -> Overlay {
        Overlay {
            protected: "127.0.0.1:1".into(),
            anonymous: "127.0.0.1:2".into(),
            down: "127.0.0.1:3".into(),
            ecr: ecr.map(ToOwned::to_owned),
            ca_pem: "-----BEGIN CERTIFICATE-----\nlocal\n-----END CERTIFICATE-----\n".into(),
        }
    }

    fn files() -> Vec<DynamicObject> {
        manifests::read_directory(&directory(), &Placeholders::default()).unwrap()
    }

    #[test]
    fn all_sample_registries_are_local() {
        let objects = overlay(Some("127.0.0.1:4")).apply(&directory()).unwrap();
        let text = serde_json::to_string(&objects).unwrap();
        for example in [PROTECTED, ANONYMOUS, DOWN, ECR] {
            assert!(!text.contains(example), "{example} is left");
        }
        let local = objects.iter().filter(|object| is_registry(object)).map(|object| {
            let endpoint = object.data["spec"]["endpoint"].as_str().unwrap();
            assert!(endpoint.contains("://127.0.0.1:"), "{endpoint}");
            object.name_any()
        });
        assert_eq!(local.count(), EXPECTED.len() + 1, "each that a verdict is expected of is there");
    }

    #[test]
    fn omits_ecr_registries_without_aws() {
        let objects = overlay(None).apply(&directory()).unwrap();
        assert!(!objects.iter().any(|object| is_registry(object) && object.name_any().starts_with("ecr-")));
    }

    #[test]
    fn samples_do_not_depend_on_make_run() {
        for object in files() {
            let text = serde_json::to_string(&object).unwrap();
            for mark in ["${", "127.0.0.1", "samples.registry.spectrocloud.com"] {
                assert!(!text.contains(mark), "{}: {mark}", object.name_any());
            }
        }
    }

    #[test]
    fn every_sample_says_what_to_change() {
        for entry in std::fs::read_dir(directory()).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# ") && text.contains("\n# Change: "), "{}", path.display());
        }
    }
}
