//! How a check is told to a program: as an object. Pure.

use registry_api::{ConditionType, Reason};
use registry_verdict::object::Scope;
use serde_json::{Value, json};

use crate::{
    admission::resource,
    advice::{Outcome, conclusion},
    check::{self, Checked},
    manifest::api_version,
};

/// What is to be told of one registry.
#[derive(Debug)]
pub struct Report {
    /// Its scope.
    pub scope: Scope,
    /// Its name, if it has one.
    pub name: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its endpoint, as it is written; nothing where it may hold a password.
    pub endpoint: String,
    /// Whether the manifest would be taken.
    pub manifest: Manifest,
    /// What came of the check.
    pub answer: Answer,
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
pub enum Answer {
    /// The manifest would not be taken: there is nothing to check.
    Refused,
    /// It could not be checked, for this reason.
    Unable(String),
    /// There is a verdict.
    Checked(Box<Checked>),
}

impl Report {
    /// What it comes to.
    pub fn outcome(&self) -> Outcome {
        match &self.answer {
            Answer::Refused => Outcome::Unusable,
            Answer::Unable(_) => Outcome::Unclear,
            Answer::Checked(checked) => Outcome::of(&checked.status),
        }
    }

    /// For a program: the registry with the status that the operator would give it.
    pub fn object(&self) -> Value {
        let mut object = json!({
            "apiVersion": api_version(),
            "kind": resource(self.scope).kind,
            "metadata": {"name": self.name},
            "manifest": self.manifest_object(),
            "usable": self.outcome() == Outcome::Usable,
            "conclusion": self.conclusion(),
        });
        if let Some(namespace) = &self.namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if let Answer::Checked(checked) = &self.answer {
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
        let Answer::Checked(checked) = &self.answer else { return false };
        let credentials = checked.status.condition(ConditionType::CredentialsValidated);
        credentials.is_some_and(|one| one.reason == Reason::Unprovable.as_str())
    }

    /// The last line: what is so, or what to do.
    pub fn conclusion(&self) -> String {
        match &self.answer {
            Answer::Refused => {
                "Not usable: the manifest would be refused. Correct what is named above".to_owned()
            }
            Answer::Unable(why) => format!("Not checked: {why}"),
            Answer::Checked(checked) => conclusion(&checked.status),
        }
    }
}
