//! A validation, the status before it and the state of the pull Secrets → status. Pure: every condition, reason and message
//! is decided here.
//!
//! - `aws`: what AWS refused, as a condition.
//! - `aws_catalogue`, `catalogue` and `references_catalogue`: a sample of every message, for docs/messages.md.
//! - `layers`: findings to one condition for each layer.
//! - `sentences`: the message of each condition.

mod aws;
mod aws_catalogue;
mod catalogue;
mod layers;
mod references_catalogue;
mod sentences;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use catalogue::{SampleError, SampleMessage, messages};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use registry_api::{
    ConditionType, Reason, RegistryStatus,
    condition::{LAYERS, Layer},
    status::{AvailabilityStatus, CredentialsStatus, TlsStatus},
};
use registry_probe::{CredentialsFinding, Findings, TlsVersion};

use crate::{
    ecr::{self, AwsRefusal},
    known_status::ConditionStatus,
    object::RegistryObject,
    resolve::Problem,
    validate::SpecError,
};

/// What one validation observed.
#[derive(Debug)]
pub enum Observation {
    /// The spec can't be validated.
    Unfit(SpecError),
    /// The namespace doesn't belong to a tenant.
    NotATenant,
    /// The tenant has more registries than this limit.
    BeyondQuota(usize),
    /// A reference can't be used.
    Unresolved(Problem),
    /// The cluster's own addresses, which a tenant must not reach, are unknown, for this reason.
    AddressesUnknown(Arc<str>),
    /// The registry was probed.
    Probed(Box<Findings>),
    /// The registry was probed after signing in to AWS, or trying to.
    Ecr(Box<ecr::EcrObservation>),
}

impl Observation {
    /// Returns the findings of the probe, if there was one.
    pub fn findings(&self) -> Option<&Findings> {
        match self {
            Self::Probed(findings) => Some(findings),
            Self::Ecr(seen) => Some(&seen.findings),
            Self::Unfit(_)
            | Self::NotATenant
            | Self::BeyondQuota(_)
            | Self::Unresolved(_)
            | Self::AddressesUnknown(_) => None,
        }
    }

    /// Omits what no status follows from, to save memory.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        let findings = match &mut self {
            Self::Probed(findings) => Some(&mut **findings),
            Self::Ecr(seen) => Some(&mut seen.findings),
            Self::Unfit(_)
            | Self::NotATenant
            | Self::BeyondQuota(_)
            | Self::Unresolved(_)
            | Self::AddressesUnknown(_) => None,
        };
        if let Some(certificate) = findings.and_then(|findings| findings.certificate.as_mut()) {
            certificate.names = Vec::new();
        }
        self
    }

    fn refusal(&self) -> Option<&AwsRefusal> {
        match self {
            Self::Ecr(seen) => seen.refusal.as_ref(),
            Self::Unfit(_)
            | Self::NotATenant
            | Self::BeyondQuota(_)
            | Self::Unresolved(_)
            | Self::AddressesUnknown(_)
            | Self::Probed(_) => None,
        }
    }
}

/// The part of a result that the time of the next validation depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValidationOutcome {
    /// The registry can be used.
    Usable,
    /// A transient failure.
    Transient {
        /// The delay in the server's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The credentials were rejected. Another attempt with them may lock the account.
    Rejected {
        /// The remaining delay for these credentials at that host, for all registries that use them.
        pause: Option<Duration>,
    },
    /// The credentials were not sent, to protect the account.
    Postponed {
        /// When they can be sent.
        wait: Duration,
    },
    /// A failure that someone has to fix.
    Definite,
}

/// Who can use a registry, and the state of its pull Secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AvailabilityReport {
    /// The counts in the status; none if they aren't known.
    pub counts: Option<AvailabilityStatus>,
    /// A problem with the pull Secrets, added to the message of Ready.
    pub note: Option<String>,
}

/// One validation. Its verdict can be stated again as long as this is kept; it holds no credentials.
#[derive(Debug)]
pub struct ValidationRecord {
    /// What the validation observed.
    pub observation: Observation,
    /// When it ended.
    pub time: Timestamp,
    /// Transient failures in a row before it.
    pub transient_failures: u32,
    /// Whether the object and all its references were the same in the validation before, as far as is known.
    pub same_inputs: bool,
}

impl ValidationRecord {
    /// The first validation of a registry.
    pub fn first(observation: Observation, time: Timestamp) -> Self {
        Self { observation, time, transient_failures: 0, same_inputs: true }
    }

    /// Returns what the result means for the next validation.
    pub fn outcome(&self) -> ValidationOutcome {
        outcome(&self.observation, &layers::lines(&self.observation))
    }

    /// Returns the times at which the result stops being true: the end of the certificate, of the credentials, or of a token.
    ///
    /// `jitter` is a random number from 0 to 1.
    pub fn ends(&self, jitter: f64) -> Vec<Timestamp> {
        let renewal = match &self.observation {
            Observation::Ecr(seen) => seen.renewal.map(|renewal| renewal.after(self.time, jitter)),
            Observation::Unfit(_)
            | Observation::NotATenant
            | Observation::BeyondQuota(_)
            | Observation::Unresolved(_)
            | Observation::AddressesUnknown(_)
            | Observation::Probed(_) => None,
        };
        let findings = self.observation.findings();
        let certificate = findings.and_then(|findings| findings.certificate.as_ref());
        let credentials = findings.and_then(|findings| findings.credentials_expire_at);
        certificate
            .map(|certificate| certificate.not_after)
            .into_iter()
            .chain(credentials)
            .chain(renewal)
            .collect()
    }
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq)]
struct ConditionLine {
    condition: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
}

/// Returns the status of a condition with this reason, from [`LAYERS`].
fn status_of(condition: ConditionType, reason: Reason) -> ConditionStatus {
    let layer = LAYERS.iter().find(|layer| layer.condition == condition);
    let has = |reasons: fn(&Layer) -> &[Reason]| layer.is_some_and(|layer| reasons(layer).contains(&reason));
    if has(|layer| layer.good) {
        ConditionStatus::True
    } else if has(|layer| layer.bad) {
        ConditionStatus::False
    } else {
        ConditionStatus::Unknown
    }
}

/// Returns the status that follows from a validation of `object`, from the status before it, and from its pull Secrets. It stays
/// the same when it is asked for again after it was written.
pub fn assess(
    object: &RegistryObject,
    validation: &ValidationRecord,
    availability: &AvailabilityReport,
) -> RegistryStatus {
    let seen = &validation.observation;
    let mut lines = layers::lines(seen);
    let outcome = outcome(seen, &lines);
    let ready = ready(object, &lines, outcome, validation);
    lines.push(with_note(&ready, availability));
    lines.extend(marker(&ready, outcome));
    RegistryStatus {
        observed_generation: Some(object.generation),
        last_validation_time: Some(in_seconds(validation.time)),
        last_handled_reconcile_at: handled(object, outcome),
        tls: certificate(seen),
        credentials: credentials(seen),
        availability: availability.counts.clone(),
        conditions: conditions(object, lines, validation.time),
    }
}

/// Adds a problem with the pull Secrets to the message of Ready.
fn with_note(ready: &ConditionLine, availability: &AvailabilityReport) -> ConditionLine {
    match &availability.note {
        Some(note) => ConditionLine { message: format!("{}; {note}", ready.message), ..ready.clone() },
        None => ready.clone(),
    }
}

/// The time as the API server stores it.
fn in_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Returns the status of a registry whose changed spec is being validated for longer than [`SLOW`].
pub fn progressing(object: &RegistryObject, now: Timestamp) -> RegistryStatus {
    let message = sentences::in_progress();
    let line = |condition, status| ConditionLine {
        condition,
        status,
        reason: Reason::Progressing,
        message: message.to_owned(),
    };
    let mut lines = layers::not_attempted();
    lines.push(line(ConditionType::Ready, ConditionStatus::Unknown));
    lines.push(line(ConditionType::Reconciling, ConditionStatus::True));
    RegistryStatus {
        observed_generation: Some(object.generation),
        last_validation_time: object.status.last_validation_time.map(Time),
        last_handled_reconcile_at: already_handled(object),
        tls: None,
        credentials: None,
        availability: object.status.availability.as_deref().cloned(),
        conditions: conditions(object, lines, now),
    }
}

/// Returns the request that this validation fulfils. A request that has to wait is not fulfilled yet.
fn handled(object: &RegistryObject, outcome: ValidationOutcome) -> Option<String> {
    match outcome {
        ValidationOutcome::Postponed { .. } => already_handled(object),
        ValidationOutcome::Usable
        | ValidationOutcome::Transient { .. }
        | ValidationOutcome::Rejected { .. }
        | ValidationOutcome::Definite => object.requested_at.clone(),
    }
}

fn already_handled(object: &RegistryObject) -> Option<String> {
    object.status.last_handled_reconcile_at.as_deref().map(str::to_owned)
}

fn outcome(seen: &Observation, lines: &[ConditionLine]) -> ValidationOutcome {
    let failing = first_failing(lines);
    if let Some(wait) = withheld(seen) {
        return ValidationOutcome::Postponed { wait };
    }
    if let Some(transient) = transient(seen, failing) {
        return transient;
    }
    match failing {
        None if no_verdict(lines) => ValidationOutcome::Transient { retry_after: None },
        None => ValidationOutcome::Usable,
        Some(line) if are_rejected(seen, line) => ValidationOutcome::Rejected { pause: pause(seen) },
        Some(_) => ValidationOutcome::Definite,
    }
}

/// Returns whether the registry is unusable because its credentials were rejected, so that they pause.
fn are_rejected(seen: &Observation, failing: &ConditionLine) -> bool {
    let by_aws = seen.refusal().map(|refusal| refusal.cause.class());
    failing.condition == ConditionType::CredentialsValidated
        && by_aws
            .map_or(failing.reason == Reason::Rejected, |class| matches!(class, ecr::Class::KeysRefused(_)))
}

/// Returns how long the credentials have to wait, if they were not sent.
fn withheld(seen: &Observation) -> Option<Duration> {
    let by_aws = seen.refusal().filter(|refusal| matches!(refusal.cause, ecr::Cause::Withheld(_)));
    let findings = seen.findings();
    let by_registry =
        findings.filter(|found| matches!(found.credentials, CredentialsFinding::Withheld { .. }));
    let waits =
        by_aws.map(|refusal| refusal.retry_after).or(by_registry.map(|findings| findings.retry_after))?;
    Some(waits.unwrap_or(UNDER_WAY))
}

/// Returns the remaining delay for rejected credentials.
fn pause(seen: &Observation) -> Option<Duration> {
    match seen.refusal() {
        Some(refusal) => refusal.retry_after,
        None => seen.findings()?.retry_after,
    }
}

/// Returns the outcome of a transient failure.
fn transient(seen: &Observation, failing: Option<&ConditionLine>) -> Option<ValidationOutcome> {
    let findings = seen.findings()?;
    if let (Some(refusal), Some(ConditionType::CredentialsValidated)) =
        (seen.refusal(), failing.map(|line| line.condition))
    {
        return refusal
            .is_transient()
            .then_some(ValidationOutcome::Transient { retry_after: refusal.retry_after });
    }
    let passing = findings.is_transient() && failing.is_none_or(|line| is_passing(line, findings));
    passing.then_some(ValidationOutcome::Transient { retry_after: findings.retry_after })
}

/// Returns whether nothing is known about the credentials, and so about the registry.
fn no_verdict(lines: &[ConditionLine]) -> bool {
    lines.iter().any(|line| {
        line.condition == ConditionType::CredentialsValidated && line.reason == Reason::NotAttempted
    })
}

/// Returns whether the failure of this layer is transient.
fn is_passing(line: &ConditionLine, findings: &Findings) -> bool {
    match line.condition {
        ConditionType::EndpointReachable => findings.endpoint.is_transient(),
        ConditionType::TLSVerified => findings.tls.is_transient(),
        ConditionType::CredentialsValidated => findings.credentials.is_transient(),
        ConditionType::ContentPathAccessible => findings.content_path.is_transient(),
        ConditionType::ResolvedRefs
        | ConditionType::Ready
        | ConditionType::Reconciling
        | ConditionType::Stalled => false,
    }
}

/// Returns the first layer that makes the registry unusable. What the spec requests, and what merely can't be proven,
/// doesn't.
fn first_failing(lines: &[ConditionLine]) -> Option<&ConditionLine> {
    lines.iter().find(|line| match line.status {
        ConditionStatus::True => false,
        ConditionStatus::False => !line.reason.is_requested(),
        ConditionStatus::Unknown => matches!(line.reason, Reason::Throttled | Reason::TemporarilyUnavailable),
    })
}

fn ready(
    object: &RegistryObject,
    lines: &[ConditionLine],
    outcome: ValidationOutcome,
    validation: &ValidationRecord,
) -> ConditionLine {
    let line = |status, reason, message: &str| ConditionLine {
        condition: ConditionType::Ready,
        status,
        reason,
        message: message.to_owned(),
    };
    if let Some(failing) = first_failing(lines) {
        let known_bad = failing.status == ConditionStatus::False
            && matches!(outcome, ValidationOutcome::Postponed { .. });
        if let Some(reason) = still_ready(object, outcome, validation).filter(|_| !known_bad) {
            let message = match outcome {
                ValidationOutcome::Postponed { .. } => sentences::still_ready(&failing.message),
                ValidationOutcome::Usable
                | ValidationOutcome::Transient { .. }
                | ValidationOutcome::Definite
                | ValidationOutcome::Rejected { .. } => sentences::below_threshold(&failing.message),
            };
            return line(ConditionStatus::True, reason, &message);
        }
        return line(ConditionStatus::False, failing.reason, &failing.message);
    }
    if let Some(held_back) = held_back(lines) {
        return still_ready(object, outcome, validation).map_or_else(
            || line(ConditionStatus::Unknown, Reason::Progressing, &held_back.message),
            |reason| line(ConditionStatus::True, reason, &sentences::still_ready(&held_back.message)),
        );
    }
    let credentials = lines.iter().find(|line| line.condition == ConditionType::CredentialsValidated);
    let message = credentials.map_or("", |credentials| &credentials.message);
    let message = &with_unchecked_path(object, lines, message);
    match credentials.map(|credentials| (credentials.status, credentials.reason)) {
        Some((ConditionStatus::True, _)) => line(ConditionStatus::True, Reason::Available, message),
        Some((_, Reason::Unprovable)) => line(ConditionStatus::True, Reason::CredentialsUnprovable, message),
        // No layer failed, but nothing was shown to work either, so the registry doesn't count as usable.
        _ => line(ConditionStatus::Unknown, Reason::Progressing, sentences::no_verdict()),
    }
}

/// Returns the layer that was not attempted for a reason of its own.
fn held_back(lines: &[ConditionLine]) -> Option<&ConditionLine> {
    lines.iter().find(|line| {
        (line.condition, line.reason) == (ConditionType::EndpointReachable, Reason::NotAttempted)
            && line.message != sentences::not_attempted()
    })
}

/// Adds that the content path was not checked, because otherwise a wrong path would look right.
fn with_unchecked_path(object: &RegistryObject, lines: &[ConditionLine], message: &str) -> String {
    let unnamed = object.spec.base_content_path.is_some() && object.spec.validation.repository.is_none();
    let is_unchecked = |line: &ConditionLine| {
        (line.condition, line.reason) == (ConditionType::ContentPathAccessible, Reason::Inconclusive)
    };
    if unnamed && lines.iter().any(is_unchecked) {
        return sentences::path_unchecked(message);
    }
    message.to_owned()
}

/// A Ready registry stays Ready, with the same reason, until the threshold of transient failures in a row is reached,
/// if nothing has changed.
fn still_ready(
    object: &RegistryObject,
    outcome: ValidationOutcome,
    validation: &ValidationRecord,
) -> Option<Reason> {
    let was = object
        .status
        .condition(ConditionType::Ready)
        .filter(|ready| ready.status == ConditionStatus::True)?;
    let threshold = u32::try_from(object.spec.validation.failure_threshold).unwrap_or(1);
    let unchanged = validation.same_inputs && object.status.observed_generation == Some(object.generation);
    let few = validation.transient_failures.saturating_add(1) < threshold;
    let keeps = match outcome {
        ValidationOutcome::Transient { .. } => few,
        ValidationOutcome::Postponed { .. } => true,
        ValidationOutcome::Usable | ValidationOutcome::Rejected { .. } | ValidationOutcome::Definite => false,
    };
    (keeps && unchanged).then_some(was.reason).flatten()
}

/// The condition for kstatus: Reconciling if a retry may help, Stalled if someone has to act.
fn marker(ready: &ConditionLine, outcome: ValidationOutcome) -> Option<ConditionLine> {
    if ready.status == ConditionStatus::True {
        return None;
    }
    let (condition, reason) = match outcome {
        ValidationOutcome::Transient { .. } => (ConditionType::Reconciling, Reason::Progressing),
        ValidationOutcome::Postponed { .. } if ready.reason == Reason::Throttled => {
            (ConditionType::Reconciling, Reason::Progressing)
        }
        ValidationOutcome::Postponed { .. }
        | ValidationOutcome::Usable
        | ValidationOutcome::Rejected { .. }
        | ValidationOutcome::Definite => (ConditionType::Stalled, ready.reason),
    };
    Some(ConditionLine { condition, status: ConditionStatus::True, reason, message: ready.message.clone() })
}

fn conditions(object: &RegistryObject, lines: Vec<ConditionLine>, now: Timestamp) -> Vec<Condition> {
    lines.into_iter().map(|line| condition(object, line, now)).collect()
}

fn condition(object: &RegistryObject, line: ConditionLine, now: Timestamp) -> Condition {
    let before = object.status.condition(line.condition).filter(|before| before.status == line.status);
    Condition {
        type_: line.condition.as_str().to_owned(),
        status: line.status.as_str().to_owned(),
        reason: line.reason.as_str().to_owned(),
        message: sentences::capped(line.message),
        observed_generation: Some(object.generation),
        last_transition_time: before
            .map_or_else(|| in_seconds(now), |before| Time(before.last_transition_time)),
    }
}

fn certificate(seen: &Observation) -> Option<TlsStatus> {
    let certificate = seen.findings()?.certificate.as_ref()?;
    Some(TlsStatus {
        version: certificate.version.map(|version| version_name(version).to_owned()),
        subject: Some(sentences::clean(&certificate.subject)),
        issuer: Some(sentences::clean(&certificate.issuer)),
        not_after: Some(in_seconds(certificate.not_after)),
        sha256_fingerprint: Some(certificate.sha256_fingerprint.clone()),
    })
}

/// The version's name, as in OpenSSL and Kubernetes.
fn version_name(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Tls12 => "TLSv1.2",
        TlsVersion::Tls13 => "TLSv1.3",
    }
}

fn credentials(seen: &Observation) -> Option<CredentialsStatus> {
    seen.findings()?.credentials_expire_at.map(|end| CredentialsStatus { expires_at: Some(in_seconds(end)) })
}

/// How long the validation of a changed spec may take before the status says that it is in progress.
pub const SLOW: Duration = Duration::from_secs(1);

/// The delay while another registry is trying the same credentials.
const UNDER_WAY: Duration = Duration::from_secs(5);
