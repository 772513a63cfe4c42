//! How a check is told: to a person line by line, to a program as objects. Pure.

use registry_api::{ConditionType, Reason, RegistryStatus, condition::LAYERS};
use registry_operator::subject::Scope;
use registry_probe::PresentedCertificate;
use serde_json::{Value, json};

use crate::{
    admission::resource,
    advice::{Outcome, conclusion},
    check::{self, Checked},
    manifest::api_version,
    page::{Page, Span, Tone, plain, span},
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

/// The mark, and the tone, of a condition.
pub fn mark(status: &str, reason: &str) -> Span {
    let asked_for = [Reason::VerificationSkipped.as_str(), Reason::PlainHTTP.as_str()].contains(&reason);
    match status {
        "True" => span(Tone::Good, "✓"),
        "False" if asked_for => span(Tone::Doubt, "✗"),
        "False" => span(Tone::Bad, "✗"),
        _ => span(Tone::Doubt, "?"),
    }
}

/// One row for each layer that the status has.
pub fn layers(status: &RegistryStatus) -> Vec<Vec<Span>> {
    let conditions = LAYERS.iter().filter_map(|layer| status.condition(layer.condition));
    conditions
        .map(|one| {
            vec![mark(&one.status, &one.reason), plain(&one.type_), plain(&one.reason), plain(&one.message)]
        })
        .collect()
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

    /// For a person.
    pub fn page(&self) -> Page {
        let mut page = Page::default();
        page.line([span(Tone::Strong, self.title()), plain(format!("  {}", self.endpoint))]);
        let mut rows = self.manifest_rows();
        if let Answer::Checked(checked) = &self.answer {
            rows.extend(layers(&checked.status));
        }
        page.table(2, rows);
        self.certificate(&mut page);
        for note in &self.notes {
            page.line([span(Tone::Faint, format!("  {note}"))]);
        }
        page.line([self.final_mark(), plain(" "), span(Tone::Strong, self.conclusion())]);
        page
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

    fn title(&self) -> String {
        let kind = resource(self.scope).kind;
        let name = if self.name.is_empty() { "(no name)" } else { &self.name };
        match &self.namespace {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        }
    }

    fn manifest_rows(&self) -> Vec<Vec<Span>> {
        let row =
            |mark, reason: &str, message: &str| vec![mark, plain("Manifest"), plain(reason), plain(message)];
        match &self.manifest {
            Manifest::Accepted => {
                let message = "The API server accepts it (dry run; nothing was written)";
                vec![row(span(Tone::Good, "✓"), "Accepted", message)]
            }
            Manifest::Refused(reasons) => {
                reasons.iter().map(|reason| row(span(Tone::Bad, "✗"), "Refused", reason)).collect()
            }
            Manifest::NotAsked(why) => {
                let message = format!(
                    "The API server was not asked: {why}. Fields and types were checked here, the schema's rules and the \
                     cluster's policies were not"
                );
                vec![row(span(Tone::Doubt, "?"), "NotAsked", &message)]
            }
        }
    }

    fn manifest_object(&self) -> Value {
        match &self.manifest {
            Manifest::Accepted => json!({"result": "Accepted"}),
            Manifest::Refused(reasons) => json!({"result": "Refused", "reasons": reasons}),
            Manifest::NotAsked(why) => json!({"result": "NotAsked", "reasons": [why]}),
        }
    }

    /// The certificate, where somebody should look at it.
    fn certificate(&self, page: &mut Page) {
        let Answer::Checked(checked) = &self.answer else { return };
        let in_doubt = checked
            .status
            .condition(ConditionType::TLSVerified)
            .is_some_and(|tls| tls.status == "False" && tls.reason != Reason::PlainHTTP.as_str());
        if let Some((server, presented)) = checked.presented.as_ref().filter(|_| in_doubt) {
            page.text(format!("  Certificate presented by {server}:"));
            page.table(4, rows_of(presented));
        }
    }

    fn final_mark(&self) -> Span {
        match self.outcome() {
            Outcome::Usable if self.is_unproven() => span(Tone::Doubt, "?"),
            Outcome::Usable => span(Tone::Good, "✓"),
            Outcome::Unclear => span(Tone::Doubt, "?"),
            Outcome::Unusable => span(Tone::Bad, "✗"),
        }
    }

    fn is_unproven(&self) -> bool {
        let Answer::Checked(checked) = &self.answer else { return false };
        let credentials = checked.status.condition(ConditionType::CredentialsValidated);
        credentials.is_some_and(|one| one.reason == Reason::Unprovable.as_str())
    }

    fn conclusion(&self) -> String {
        match &self.answer {
            Answer::Refused => "Not usable: the manifest is invalid. Correct the errors above".to_owned(),
            Answer::Unable(why) => format!("Not checked: {why}"),
            Answer::Checked(checked) => conclusion(&checked.status),
        }
    }
}

fn rows_of(certificate: &PresentedCertificate) -> Vec<Vec<Span>> {
    let validity = format!("from {} until {}", certificate.not_before, certificate.not_after);
    [
        ("subject", certificate.subject.clone()),
        ("issuer", certificate.issuer.clone()),
        ("valid", validity),
        ("names", certificate.names.join(", ")),
        ("sha256", certificate.sha256_fingerprint.clone()),
    ]
    .into_iter()
    .map(|(name, value)| vec![span(Tone::Faint, name), plain(value)])
    .collect()
}
