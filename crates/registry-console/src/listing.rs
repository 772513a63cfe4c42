//! A registry as a row of the table. Pure.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use registry_api::{
    ConditionType, Reason, RegistrySpec, RegistryStatus,
    spec::{Auth, EcrAuth, Registry, Scope},
};

use crate::marks::managed_by;

/// Something that is so, isn't, or isn't known: by icon, word and colour.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Badge {
    /// The class of the colour: `good`, `bad` or `doubt`.
    pub tone: &'static str,
    /// The icon.
    pub mark: &'static str,
    /// The word.
    pub word: String,
}

impl Badge {
    /// A condition's.
    pub fn new(status: &str, reason: &str) -> Self {
        let is_wanted = [Reason::VerificationSkipped.as_str(), Reason::PlainHTTP.as_str()].contains(&reason);
        let (tone, mark) = match status {
            "True" => ("good", "✓"),
            "False" if is_wanted => ("doubt", "✗"),
            "False" => ("bad", "✗"),
            _ => ("doubt", "?"),
        };
        Self { tone, mark, word: reason.to_owned() }
    }

    /// What the icon says, for people who don't see it.
    pub fn spoken(&self) -> &'static str {
        match self.mark {
            "✓" => "Yes:",
            "✗" => "No:",
            _ => "Unknown:",
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct RegistryRow {
    /// The registry's name.
    pub name: String,
    /// Its namespace; empty for a SystemRegistry.
    pub namespace: String,
    /// `System` or `Tenant`.
    pub scope: &'static str,
    /// Its content: `Pack`, `Helm` or `Zarf`.
    pub content_type: String,
    /// How it is signed in to.
    pub authentication: &'static str,
    /// The endpoint.
    pub endpoint: String,
    /// The base content path; empty if there is none.
    pub content_path: String,
    /// Whether it can be used, and why not.
    pub available: Badge,
    /// The sentence that explains it.
    pub message: String,
    /// When it was validated, for programs; empty if it never was.
    pub validated_at: String,
    /// The same for people.
    pub validated: String,
    /// The page of the registry.
    pub url: String,
    /// What the user can't do to it.
    pub controls: RowControls,
    /// What no other state of it has.
    pub version: String,
}

/// Why each control of a registry can't be used; empty where it can.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RowControls {
    /// Why it can't be changed by this user, for Validate now.
    pub validate: String,
    /// Why it can't be edited.
    pub edit: String,
    /// Why it can't be deleted.
    pub delete: String,
}

impl RowControls {
    /// Of a user without the rights that are named.
    pub fn new(patch: Option<String>, delete: Option<String>) -> Self {
        let edit = patch.unwrap_or_default();
        Self { validate: edit.clone(), edit, delete: delete.unwrap_or_default() }
    }

    /// Of a registry that another tool keeps: nobody edits or deletes it here.
    #[must_use]
    pub fn of_kept(self, kept_by: Option<String>) -> Self {
        match kept_by {
            Some(tool) => Self { edit: tool.clone(), delete: tool, ..self },
            None => self,
        }
    }

    /// The reasons, each once.
    pub fn reasons(&self) -> Vec<&str> {
        let mut reasons = vec![self.edit.as_str(), self.delete.as_str()];
        reasons.retain(|reason| !reason.is_empty());
        reasons.dedup();
        reasons
    }
}

impl RegistryRow {
    /// A registry's row.
    pub fn new<S: Scope>(
        registry: &Registry<S>,
        now: Timestamp,
        url: String,
        controls: &RowControls,
    ) -> Self {
        let metadata = &registry.metadata;
        let status = registry.status.clone().unwrap_or_default();
        let validated_at = status.last_validation_time.as_ref().map(|time| time.0);
        let (available, message) = availability(&registry.spec, &status);
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            scope: if S::NAMESPACED { "Tenant" } else { "System" },
            content_type: format!("{:?}", registry.spec.content_type),
            authentication: authentication(registry.spec.auth.as_ref()),
            endpoint: registry.spec.endpoint.clone(),
            content_path: registry.spec.base_content_path.clone().unwrap_or_default(),
            available,
            message,
            validated_at: validated_at.map(|at| at.to_string()).unwrap_or_default(),
            validated: validated_at.map_or_else(|| "Never".to_owned(), |at| ago(now.duration_since(at))),
            url,
            controls: controls.clone().of_kept(managed_by(S::KIND, metadata)),
            version: format!("{:?}/{:?}", metadata.uid, metadata.resource_version),
        }
    }

    /// Whether any of the texts that are shown contain `words`.
    pub fn matches(&self, words: &str) -> bool {
        let words = words.to_lowercase();
        let texts = [&self.name, &self.namespace, &self.endpoint, &self.content_path, &self.available.word];
        texts.iter().any(|text| text.to_lowercase().contains(&words))
    }
}

/// Whether a registry can be used, and the operator's sentence.
fn availability(spec: &RegistrySpec, status: &RegistryStatus) -> (Badge, String) {
    if spec.suspend {
        let badge = Badge { tone: "doubt", mark: "?", word: "Suspended".to_owned() };
        return (badge, "spec.suspend is true: the operator does not validate it".to_owned());
    }
    match status.condition(ConditionType::Ready) {
        Some(ready) => (Badge::new(&ready.status, &ready.reason), ready.message.clone()),
        None => (Badge::new("Unknown", Reason::Progressing.as_str()), "Not validated yet".to_owned()),
    }
}

/// How a registry is signed in to.
pub fn authentication(auth: Option<&Auth>) -> &'static str {
    match auth {
        Some(Auth { basic: Some(_), .. }) => "Basic",
        Some(Auth { token: Some(_), .. }) => "Token",
        Some(Auth { ecr: Some(EcrAuth { credentials: Some(_), .. }), .. }) => "ECR, credentials",
        Some(Auth { ecr: Some(EcrAuth { sts: Some(_), .. }), .. }) => "ECR, STS",
        Some(Auth { ecr: Some(_), .. }) => "ECR, public",
        _ => "None",
    }
}

/// A duration up to now, for people.
pub fn ago(past: SignedDuration) -> String {
    let seconds = past.as_secs();
    let (number, unit) = match seconds {
        ..60 => return "Just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    if number == 1 { format!("1 {unit} ago") } else { format!("{number} {unit}s ago") }
}

#[cfg(test)]
mod tests {
    use registry_api::SystemRegistry;
    use serde_json::{Value, json};

    use super::*;

    fn row(spec: &Value, status: &Value) -> RegistryRow {
        let object = json!({"metadata": {"name": "packs"}, "spec": spec, "status": status});
        let registry: SystemRegistry = serde_json::from_value(object).unwrap();
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(2);
        RegistryRow::new(&registry, now, "/x".to_owned(), &RowControls::default())
    }

    fn ready(status: &str, reason: &str) -> Value {
        let condition = json!({
            "type": "Ready", "status": status, "reason": reason, "message": "why", "lastTransitionTime": "1970-01-01T00:00:00Z",
        });
        json!({"conditions": [condition], "lastValidationTime": "1970-01-01T00:30:00Z"})
    }

    #[test]
    fn availability_is_icon_word_and_colour() {
        let spec = json!({"endpoint": "https://r"});
        for (status, reason, tone, mark, spoken) in [
            ("True", "Available", "good", "✓", "Yes:"),
            ("False", "Rejected", "bad", "✗", "No:"),
            ("Unknown", "Progressing", "doubt", "?", "Unknown:"),
        ] {
            let row = row(&spec, &ready(status, reason));
            let badge = Badge { tone, mark, word: reason.to_owned() };
            assert_eq!((row.available.spoken(), row.available), (spoken, badge));
            assert_eq!((row.message.as_str(), row.validated.as_str()), ("why", "1 hour ago"));
        }
    }

    #[test]
    fn new_and_suspended_registries_are_not_known() {
        let new = row(&json!({"endpoint": "https://r"}), &json!({}));
        assert_eq!((new.available.word.as_str(), new.validated.as_str()), ("Progressing", "Never"));
        let suspended = row(&json!({"endpoint": "https://r", "suspend": true}), &ready("True", "Available"));
        assert_eq!((suspended.available.mark, suspended.available.word.as_str()), ("?", "Suspended"));
    }

    #[test]
    fn each_way_to_sign_in_has_its_word() {
        let secret = json!({"secretRef": {"name": "s"}});
        for (auth, word) in [
            (json!({}), "None"),
            (json!({"basic": secret}), "Basic"),
            (json!({"token": secret}), "Token"),
            (json!({"ecr": {"credentials": secret}}), "ECR, credentials"),
            (json!({"ecr": {"sts": {"roleARN": "a"}}}), "ECR, STS"),
            (json!({"ecr": {}}), "ECR, public"),
        ] {
            let row = row(&json!({"endpoint": "https://r", "auth": auth}), &json!({}));
            assert_eq!(row.authentication, word);
        }
    }

    #[test]
    fn each_reason_is_given_once() {
        let no = |why: &str| Some(why.to_owned());
        assert_eq!(RowControls::new(no("a"), no("b")).reasons(), ["a", "b"]);
        let kept = RowControls::new(None, no("b")).of_kept(no("Git"));
        assert_eq!((kept.reasons(), kept.validate.as_str()), (vec!["Git"], ""));
        assert!(RowControls::new(None, None).of_kept(None).reasons().is_empty());
    }

    #[test]
    fn filter_finds_what_is_shown() {
        let row = row(&json!({"endpoint": "https://r.example", "baseContentPath": "team"}), &json!({}));
        assert!(
            row.matches("PACK") && row.matches("r.ex") && row.matches("progress") && !row.matches("other")
        );
    }

    #[test]
    fn time_is_rounded_down() {
        let ago = |seconds| ago(SignedDuration::from_secs(seconds));
        assert_eq!(
            [ago(-5), ago(59), ago(60), ago(7199), ago(172_800)],
            ["Just now", "Just now", "1 minute ago", "1 hour ago", "2 days ago"]
        );
    }
}
