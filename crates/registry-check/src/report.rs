//! The result of a check, as an object for programs. Pure.

use registry_api::{ConditionType, Reason};
use registry_probe::PresentedCertificate;
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

/// Returns the reports as an object for programs: the one, or a List of several, as `kubectl get -f` does.
pub fn objects(reports: &[CheckReport]) -> Value {
    let mut objects: Vec<Value> = reports.iter().map(CheckReport::object).collect();
    if objects.len() == 1 {
        return objects.remove(0);
    }
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
}

/// Reads the reports that [`objects`] wrote; none if they are something else.
pub fn of_objects(objects: &Value) -> Option<Vec<CheckReport>> {
    match objects["items"].as_array() {
        Some(items) => items.iter().map(CheckReport::of_object).collect(),
        None => Some(vec![CheckReport::of_object(objects)?]),
    }
}

impl CheckReport {
    /// Reads a report that [`CheckReport::object`] wrote. It has no endpoint and no notes.
    fn of_object(object: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let scopes = [RegistryScope::System, RegistryScope::Tenant];
        let manifest = manifest_of(&object["manifest"])?;
        let answer = match (&manifest, object.get("status")) {
            (_, Some(status)) => CheckAnswer::Checked(Box::new(CheckedRegistry {
                status: serde_json::from_value(status.clone()).ok()?,
                presented: presented_of(&object["presented"]),
            })),
            (Manifest::Refused(_), None) => CheckAnswer::Refused,
            _ => CheckAnswer::Unable(object["conclusion"].as_str()?.strip_prefix(NOT_CHECKED)?.to_owned()),
        };
        Some(Self {
            scope: scopes.into_iter().find(|scope| object["kind"] == resource(*scope).kind)?,
            name: text(&object["metadata"]["name"])?,
            namespace: text(&object["metadata"]["namespace"]),
            endpoint: String::new(),
            manifest,
            answer,
            notes: Vec::new(),
        })
    }

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
            CheckAnswer::Unable(why) => format!("{NOT_CHECKED}{why}"),
            CheckAnswer::Checked(checked) => conclusion(&checked.status),
        }
    }
}

/// How the last line begins if there was no check.
const NOT_CHECKED: &str = "Not checked: ";

fn manifest_of(object: &Value) -> Option<Manifest> {
    let reasons: Vec<String> = serde_json::from_value(object["reasons"].clone()).unwrap_or_default();
    match object["result"].as_str()? {
        "Accepted" => Some(Manifest::Accepted),
        "Refused" => Some(Manifest::Refused(reasons)),
        "NotAsked" => Some(Manifest::NotAsked(reasons.into_iter().next()?)),
        _ => None,
    }
}

fn presented_of(object: &Value) -> Option<(String, PresentedCertificate)> {
    let field = |name: &str| object[name].as_str();
    let names = field("names")?.split(", ").filter(|name| !name.is_empty());
    let certificate = PresentedCertificate {
        version: None,
        subject: field("subject")?.to_owned(),
        issuer: field("issuer")?.to_owned(),
        not_before: field("notBefore")?.parse().ok()?,
        not_after: field("notAfter")?.parse().ok()?,
        sha256_fingerprint: field("sha256Fingerprint")?.to_owned(),
        names: names.map(ToOwned::to_owned).collect(),
    };
    Some((field("by")?.to_owned(), certificate))
}

#[cfg(test)]
mod tests {
    use registry_api::RegistryStatus;

    use super::*;

    fn report(manifest: Manifest, answer: CheckAnswer) -> CheckReport {
        let (name, namespace) = ("packs".to_owned(), Some("team".to_owned()));
        let (scope, endpoint) = (RegistryScope::Tenant, String::new());
        CheckReport { scope, name, namespace, endpoint, manifest, answer, notes: Vec::new() }
    }

    fn checked() -> CheckAnswer {
        let condition = json!({"type": "Ready", "status": "False", "reason": "Rejected", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status: RegistryStatus = serde_json::from_value(json!({"conditions": [condition]})).unwrap();
        let certificate = PresentedCertificate {
            version: None,
            subject: "CN=a".to_owned(),
            issuer: "CN=b".to_owned(),
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2027-01-01T00:00:00Z".parse().unwrap(),
            sha256_fingerprint: "ab".to_owned(),
            names: vec!["a".to_owned(), "b".to_owned()],
        };
        CheckAnswer::Checked(Box::new(CheckedRegistry {
            status,
            presented: Some(("a:443".to_owned(), certificate)),
        }))
    }

    #[test]
    fn reads_what_it_writes() {
        let refused = Manifest::Refused(vec!["one".to_owned(), "two".to_owned()]);
        let unable = CheckAnswer::Unable("why".to_owned());
        let all = [
            report(Manifest::Accepted, checked()),
            report(refused, CheckAnswer::Refused),
            report(Manifest::NotAsked("why".to_owned()), unable),
        ];
        let written = objects(&all);
        let read = of_objects(&written).unwrap();
        assert_eq!(objects(&read), written);
        assert_eq!(
            read.iter().map(CheckReport::outcome).collect::<Vec<_>>(),
            [CheckOutcome::Unusable, CheckOutcome::Unusable, CheckOutcome::Unclear]
        );
        let one = objects(&all[..1]);
        assert_eq!(objects(&of_objects(&one).unwrap()), one);
        for other in [json!({}), json!({"kind": "Status", "message": "no"}), json!([])] {
            assert!(of_objects(&other).is_none(), "{other}");
        }
    }
}
