//! The work on one namespace, in a task of its own.

use std::{collections::HashMap, sync::Arc};

use super::{
    plan::SecretAction,
    secret::FoundSecret,
    secrets::{After, DeliveryError, Secrets},
};
use crate::observability::metrics::{Metrics, SecretWrite, SecretWriteOutcome};

/// What a worker does.
pub enum DeliveryStep {
    /// List the operator's Secrets.
    Look,
    /// Write Secrets, and read the Secrets of other owners with these names again.
    Work(Vec<SecretAction>, Vec<Arc<str>>),
    /// Delete the operator's Secrets and its RoleBinding.
    Leave,
}

/// The result of a worker.
pub struct DeliveryReport {
    /// What it found.
    pub findings: WorkerFindings,
    /// The first failure, if there was any; or one without an answer, because that write may still come.
    pub error: Option<DeliveryError>,
}

/// What a worker found in a namespace.
pub enum WorkerFindings {
    /// All of the operator's Secrets.
    Listed(HashMap<Arc<str>, FoundSecret>),
    /// What has each of these names.
    Names(Vec<(Arc<str>, After)>),
    /// The operator has left the namespace.
    Gone,
    /// Nothing new.
    None,
}

/// Does the work in the namespace of `secrets`.
pub async fn work(secrets: &Secrets, step: DeliveryStep, metrics: &Metrics) -> DeliveryReport {
    let (findings, error) = match step {
        DeliveryStep::Look => match secrets.own().await {
            Ok(own) => (WorkerFindings::Listed(own.into_iter().collect()), None),
            Err(error) => (WorkerFindings::None, Some(error)),
        },
        DeliveryStep::Leave => match secrets.leave().await {
            Ok(()) | Err(DeliveryError::Closing) => (WorkerFindings::Gone, None),
            Err(error) => (WorkerFindings::None, Some(error)),
        },
        DeliveryStep::Work(actions, checks) => {
            let (names, error) = carry_out(secrets, actions, checks, metrics).await;
            (WorkerFindings::Names(names), error)
        }
    };
    DeliveryReport { findings, error }
}

/// Carries out actions and checks. Returns what is known after each that succeeded, and the first failure.
async fn carry_out(
    secrets: &Secrets,
    actions: Vec<SecretAction>,
    checks: Vec<Arc<str>>,
    metrics: &Metrics,
) -> (Vec<(Arc<str>, After)>, Option<DeliveryError>) {
    let (mut names, mut first) = (Vec::new(), None);
    for action in actions {
        let result = secrets.carry_out(&action).await;
        metrics.pull_secret_write(kind_of(&action), outcome_of(&result));
        match result {
            Ok(after) => names.push((action.name().clone(), after)),
            Err(error) => {
                // In a namespace that no registry wants a Secret in, no watch would show what has changed.
                if matches!(error, DeliveryError::Conflict)
                    && let Ok(after) = secrets.inspect(action.name()).await
                {
                    names.push((action.name().clone(), after));
                }
                keep(&mut first, error);
            }
        }
    }
    for name in checks {
        match secrets.inspect(&name).await {
            Ok(after) => names.push((name, after)),
            Err(error) => keep(&mut first, error),
        }
    }
    (names, first)
}

fn keep(first: &mut Option<DeliveryError>, error: DeliveryError) {
    if first.is_none() || error.is_unanswered() {
        *first = Some(error);
    }
}

fn kind_of(action: &SecretAction) -> SecretWrite {
    match action {
        SecretAction::Create { .. } => SecretWrite::Create,
        SecretAction::Change { .. } => SecretWrite::Change,
        SecretAction::Delete { .. } => SecretWrite::Delete,
    }
}

fn outcome_of(result: &Result<After, DeliveryError>) -> SecretWriteOutcome {
    match result {
        Ok(After::Foreign) => SecretWriteOutcome::Foreign,
        Ok(After::Own(_) | After::Nothing) => SecretWriteOutcome::Done,
        Err(DeliveryError::Refused(_)) => SecretWriteOutcome::Refused,
        Err(DeliveryError::Conflict) => SecretWriteOutcome::Conflict,
        Err(DeliveryError::Closing) => SecretWriteOutcome::Closing,
        Err(DeliveryError::Quota(_)) => SecretWriteOutcome::Quota,
        Err(DeliveryError::Altered | DeliveryError::Revoke(_) | DeliveryError::Api(_)) => {
            SecretWriteOutcome::Failed
        }
    }
}
