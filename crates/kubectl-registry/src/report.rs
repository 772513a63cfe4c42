//! The result of a check, line by line, for people. Pure. [`registry_check::report`] has the content.

use registry_api::{ConditionType, Reason, RegistryStatus, condition::LAYERS};
use registry_check::{
    admission::resource,
    advice::CheckOutcome,
    report::{CheckAnswer, CheckReport, Manifest},
};
use registry_probe::PresentedCertificate;

use crate::page::{Page, Span, Tone, plain, span};

/// The symbol for a condition, with its tone.
pub fn mark(status: &str, reason: &str) -> Span {
    let asked_for = reason.parse().is_ok_and(Reason::is_requested);
    match status {
        "True" => span(Tone::Good, "✓"),
        "False" if asked_for => span(Tone::Doubt, "✗"),
        "False" => span(Tone::Bad, "✗"),
        _ => span(Tone::Doubt, "?"),
    }
}

/// Returns one row for each layer of the status.
pub fn layers(status: &RegistryStatus) -> Vec<Vec<Span>> {
    let conditions = LAYERS.iter().filter_map(|layer| status.condition(layer.condition));
    conditions
        .map(|one| {
            vec![mark(&one.status, &one.reason), plain(&one.type_), plain(&one.reason), plain(&one.message)]
        })
        .collect()
}

/// Returns the report as text.
pub fn page(report: &CheckReport) -> Page {
    let mut page = Page::default();
    page.line([span(Tone::Strong, title(report)), plain(format!("  {}", report.endpoint))]);
    let mut rows = manifest_rows(report);
    if let CheckAnswer::Checked(checked) = &report.answer {
        rows.extend(layers(&checked.status));
    }
    page.table(2, rows);
    certificate(report, &mut page);
    for note in &report.notes {
        page.line([span(Tone::Faint, format!("  {note}"))]);
    }
    page.line([final_mark(report), plain(" "), span(Tone::Strong, report.conclusion())]);
    page
}

fn title(report: &CheckReport) -> String {
    let kind = resource(report.scope).kind;
    let name = if report.name.is_empty() { "(no name)" } else { &report.name };
    match &report.namespace {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn manifest_rows(report: &CheckReport) -> Vec<Vec<Span>> {
    let row =
        |mark, reason: &str, message: &str| vec![mark, plain("Manifest"), plain(reason), plain(message)];
    match &report.manifest {
        Manifest::Accepted => {
            let message = "The API server accepts it (dry run; nothing was written)";
            vec![row(span(Tone::Good, "✓"), "Accepted", message)]
        }
        Manifest::Refused(reasons) => {
            reasons.iter().map(|reason| row(span(Tone::Bad, "✗"), "Refused", reason)).collect()
        }
        Manifest::NotAsked(why) => {
            let message = format!(
                "The API server was not asked: {why}. The schema was checked here, the cluster's policies were not"
            );
            vec![row(span(Tone::Doubt, "?"), "NotAsked", &message)]
        }
    }
}

/// Adds the certificate, if the reader should compare it.
fn certificate(report: &CheckReport, page: &mut Page) {
    let CheckAnswer::Checked(checked) = &report.answer else { return };
    let in_doubt = checked
        .status
        .condition(ConditionType::TLSVerified)
        .is_some_and(|tls| tls.status == "False" && tls.reason != Reason::PlainHTTP.as_str());
    if let Some((server, presented)) = checked.presented.as_ref().filter(|_| in_doubt) {
        page.text(format!("  Certificate presented by {server}:"));
        page.table(4, rows_of(presented));
    }
}

fn final_mark(report: &CheckReport) -> Span {
    match report.outcome() {
        CheckOutcome::Usable if report.is_unproven() => span(Tone::Doubt, "?"),
        CheckOutcome::Usable => span(Tone::Good, "✓"),
        CheckOutcome::Unclear => span(Tone::Doubt, "?"),
        CheckOutcome::Unusable => span(Tone::Bad, "✗"),
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
