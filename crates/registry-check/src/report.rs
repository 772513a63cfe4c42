//! How a check is told to a program: as an object. Pure.

use registry_api::{ConditionType, Reason};
use registry_verdict::object::RegistryScope;
use serde_json::{Value, json};

use crate::{
    admission::resource,
    advice::{CheckOutcome, conclusion},
    check::{self, CheckedRegistry},
    manifest::api_version,
};

/// What is to be told of one registry.
#[derive(Debug)]
pub struct CheckReport {
    /// Its scope.
    pub scope: RegistryScope,
    /// Its name, if it has one.
    pub name: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its endpoint, as it is written; nothing where it may hold a password.
    pub endpoint: String,
    /// Whether the manifest would be taken.
    pub manifest: Manifest,
    /// What came of the check.
    pub answer: CheckAnswer,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

/// Whether a manifest would be taken by the cluster.
#[derive(Debug)]
pub enum Manifest {
    /// The API server says so.
    Accepted,
    /// It would not, for these reasons.
    Refused(Vec<String>),
    /// The API server was not asked, for this reason; what can be seen without it is in order.
    NotAsked(String),
}

/// What came of a check.
#[derive(Debug)]
pub enum CheckAnswer {
    /// The manifest would not be taken: there is nothing to check.
    Refused,
    /// It could not be checked, for this reason.
    Unable(String),
    /// There is a verdict.
    Checked(Box<CheckedRegistry>),
}

impl CheckReport {
    /// What it comes to.
    pub fn outcome(&self) -> CheckOutcome {
        match &self.answer {
            CheckAnswer::Refused => CheckOutcome::Unusable,
            CheckAnswer::Unable(_) => CheckOutcome::Unclear,
            CheckAnswer::Checked(checked) => CheckOutcome::of(&checked.status),
        }
    }

    /// For a program: the registry with the status that the operator would give it.
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

    /// Whether the registry can be used and its credentials were not proven.
    pub fn is_unproven(&self) -> bool {
        let CheckAnswer::Checked(checked) = &self.answer else { return false };
        let credentials = checked.status.condition(ConditionType::CredentialsValidated);
        credentials.is_some_and(|one| one.reason == Reason::Unprovable.as_str())
    }

    /// The last line: what is so, or what to do.
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
