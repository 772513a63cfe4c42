//! The result of a check, as an object for programs. Pure.

use registry_api::{ConditionType, Reason};
use registry_verdict::object::RegistryScope;
use serde_json::{Value, json};

use crate::{
    admission::resource,
    advice::{CheckOutcome, conclusion},
    check::{self, CheckedRegistry},
    manifest::api_version,
};

/// The report about one registry.
#[derive(Debug)]
pub struct CheckReport {
    /// Its scope.
    pub scope: RegistryScope,
    /// Its name, if it has one.
    pub name: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its endpoint as in the manifest; empty if it may contain a password.
    pub endpoint: String,
    /// Whether the manifest would be accepted.
    pub manifest: Manifest,
    /// The result of the check.
    pub answer: CheckAnswer,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// Whether the cluster would accept the manifest.
#[derive(Debug)]
pub enum Manifest {
    /// The API server accepts it.
    Accepted,
    /// The manifest would be refused, for these reasons.
    Refused(Vec<String>),
    /// The API server was not asked, for this reason. The checks without it found no errors.
    NotAsked(String),
}

/// The result of a check.
#[derive(Debug)]
pub enum CheckAnswer {
    /// The manifest would be refused, so nothing was checked.
    Refused,
    /// The registry could not be checked, for this reason.
    Unable(String),
    /// The registry was checked.
    Checked(Box<CheckedRegistry>),
}

impl CheckReport {
    /// Returns whether the registry can be used.
    pub fn outcome(&self) -> CheckOutcome {
        match &self.answer {
            CheckAnswer::Refused => CheckOutcome::Unusable,
            CheckAnswer::Unable(_) => CheckOutcome::Unclear,
            CheckAnswer::Checked(checked) => CheckOutcome::of(&checked.status),
        }
    }

    /// Returns the registry as an object, with the status that the operator would write.
    pub fn object(&self) -> Value {
        let mut object = json!({
            "apiVersion": api_version(),
            "kind": resource(self.scope).kind,
            "metadata": {"name": self.name},
            "manifest": self.manifest_object(),
            "usable": self.outcome() == CheckOutcome::Usable,
            "conclusion": self.conclusion(),
        });
        if let Some(namespace) = &self.namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if let CheckAnswer::Checked(checked) = &self.answer {
            object["status"] = json!(checked.status);
            if let Some((server, certificate)) = &checked.presented {
                object["presented"] = json!(check::fields(certificate));
                object["presented"]["by"] = json!(server);
            }
        }
        object
    }

    fn manifest_object(&self) -> Value {
        match &self.manifest {
            Manifest::Accepted => json!({"result": "Accepted"}),
            Manifest::Refused(reasons) => json!({"result": "Refused", "reasons": reasons}),
            Manifest::NotAsked(why) => json!({"result": "NotAsked", "reasons": [why]}),
        }
    }

    /// Returns whether the registry can be used without evidence for its credentials.
    pub fn is_unproven(&self) -> bool {
        let CheckAnswer::Checked(checked) = &self.answer else { return false };
        let credentials = checked.status.condition(ConditionType::CredentialsValidated);
        credentials.is_some_and(|one| one.reason == Reason::Unprovable.as_str())
    }

    /// Returns the last line: the result, or what to do.
    pub fn conclusion(&self) -> String {
        match &self.answer {
            CheckAnswer::Refused => {
                "Not usable: the manifest is invalid. Correct the errors above".to_owned()
            }
            CheckAnswer::Unable(why) => format!("Not checked: {why}"),
            CheckAnswer::Checked(checked) => conclusion(&checked.status),
        }
    }
}
