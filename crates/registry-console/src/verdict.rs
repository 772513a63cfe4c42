//! What a validation found, as lines of a page. Pure. What it says is `registry-check`'s, to the word.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use registry_api::{ConditionType, Reason, RegistryStatus, condition::LAYERS};
use registry_check::{
    advice::CheckOutcome,
    report::{CheckAnswer, CheckReport, Manifest},
};
use registry_probe::PresentedCertificate;

use crate::listing::Badge;

/// Why credentials in a Secret that exists can't be tried.
pub const UNSEEN: &str =
    "Not checked: the console does not read Secrets; the operator checks the credentials after Confirm";

/// A layer's line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LayerRow {
    /// The layer's name.
    pub name: String,
    /// Its reason, with icon and colour.
    pub badge: Badge,
    /// The sentence.
    pub message: String,
}

/// A verdict on a page.
#[derive(Clone, Debug)]
pub struct VerdictView {
    /// Why the manifest would be refused; empty if it wouldn't.
    pub refused: Vec<String>,
    /// The layers, in order.
    pub layers: Vec<LayerRow>,
    /// Who presented the certificate, and what stands in it.
    pub certificate: Option<(String, Vec<(&'static str, String)>)>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
    /// The last line.
    pub conclusion: Badge,
}

impl VerdictView {
    /// Of a report.
    pub fn new(report: &CheckReport) -> Self {
        let checked = match &report.answer {
            CheckAnswer::Checked(checked) => Some(checked),
            _ => None,
        };
        let presented = checked.and_then(|checked| checked.presented.as_ref());
        let refused = match &report.manifest {
            Manifest::Refused(reasons) => reasons.clone(),
            Manifest::Accepted | Manifest::NotAsked(_) => Vec::new(),
        };
        Self {
            refused,
            layers: checked.map(|checked| layers(&checked.status)).unwrap_or_default(),
            certificate: presented.map(|(server, presented)| (server.clone(), certificate(presented))),
            notes: report.notes.clone(),
            conclusion: conclusion(report),
        }
    }
}

impl VerdictView {
    /// Of a check that couldn't be made.
    pub fn failed(why: String) -> Self {
        let conclusion = Badge { tone: "bad", mark: "✗", word: why };
        Self { refused: Vec::new(), layers: Vec::new(), certificate: None, notes: Vec::new(), conclusion }
    }
}

/// What an administrator compares.
fn certificate(presented: &PresentedCertificate) -> Vec<(&'static str, String)> {
    vec![
        ("Subject", presented.subject.clone()),
        ("Issuer", presented.issuer.clone()),
        ("Valid", format!("from {} until {}", presented.not_before, presented.not_after)),
        ("Names", presented.names.join(", ")),
        ("SHA-256", presented.sha256_fingerprint.clone()),
    ]
}

/// One line for each layer that the status has.
pub fn layers(status: &RegistryStatus) -> Vec<LayerRow> {
    let conditions = LAYERS.iter().filter_map(|layer| status.condition(layer.condition));
    conditions.map(row).collect()
}

/// The layers that are known while the rest is under way, up to the first that isn't.
pub fn known_layers(status: &RegistryStatus) -> Vec<LayerRow> {
    let is_known = |row: &LayerRow| row.badge.word != Reason::NotAttempted.as_str();
    layers(status).into_iter().take_while(is_known).collect()
}

fn row(condition: &Condition) -> LayerRow {
    LayerRow {
        name: condition.type_.clone(),
        badge: Badge::new(&condition.status, &condition.reason),
        message: condition.message.clone(),
    }
}

/// Proven is green, and nothing else is.
fn conclusion(report: &CheckReport) -> Badge {
    let (tone, mark) = match report.outcome() {
        CheckOutcome::Usable if !report.is_unproven() => ("good", "✓"),
        CheckOutcome::Usable | CheckOutcome::Unclear => ("doubt", "?"),
        CheckOutcome::Unusable => ("bad", "✗"),
    };
    Badge { tone, mark, word: report.conclusion() }
}

/// Whether the last line is the green check.
pub fn is_proven(report: &CheckReport) -> bool {
    report.outcome() == CheckOutcome::Usable && !report.is_unproven()
}

/// Takes back what was found without the credentials that can't be read here: only endpoint and certificate are known.
pub fn without_credentials(report: &mut CheckReport, why: &str) {
    let CheckAnswer::Checked(checked) = &mut report.answer else { return };
    let status = &mut checked.status;
    let is_reached = status.condition(ConditionType::CredentialsValidated).is_some_and(is_attempted);
    let unseen = [ConditionType::CredentialsValidated, ConditionType::ContentPathAccessible];
    for condition in &mut status.conditions {
        if is_reached && unseen.iter().any(|one| one.as_str() == condition.type_) {
            set_unknown(condition, Reason::NotAttempted, why);
        }
        if is_reached && condition.type_ == ConditionType::Ready.as_str() {
            set_unknown(condition, Reason::Progressing, why);
        }
    }
    status.conditions.retain(|condition| !is_reached || condition.type_ != ConditionType::Stalled.as_str());
}

fn is_attempted(condition: &Condition) -> bool {
    condition.reason != Reason::NotAttempted.as_str()
}

fn set_unknown(condition: &mut Condition, reason: Reason, why: &str) {
    "Unknown".clone_into(&mut condition.status);
    reason.as_str().clone_into(&mut condition.reason);
    why.clone_into(&mut condition.message);
}

#[cfg(test)]
mod tests {
    use registry_verdict::object::RegistryScope;

    use super::*;

    #[test]
    fn reasons_of_a_refused_manifest_are_shown() {
        let report = CheckReport {
            scope: RegistryScope::System,
            name: "p".to_owned(),
            namespace: None,
            endpoint: String::new(),
            manifest: Manifest::Refused(vec!["spec.endpoint is invalid".to_owned()]),
            answer: CheckAnswer::Refused,
            notes: Vec::new(),
        };
        assert_eq!(VerdictView::new(&report).refused, ["spec.endpoint is invalid"]);
        assert!(!is_proven(&report));
    }
}
