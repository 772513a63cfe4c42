//! Work on a registry that has started and not finished.

use std::sync::OnceLock;

use registry_verdict::object::Group;
use tokio_util::sync::CancellationToken;

use super::history::ValidationInputs;

/// Work in flight on one registry, shared by its worker and the controller.
#[derive(Debug)]
pub struct InFlight {
    /// The group in which the registry waited for its turn.
    pub group: Group,
    /// Whether a user asked for a validation.
    pub is_requested: bool,
    superseded: CancellationToken,
    inputs: OnceLock<ValidationInputs>,
}

impl InFlight {
    /// Returns work that has just started.
    pub fn new(group: Group, is_requested: bool) -> Self {
        Self { group, is_requested, superseded: CancellationToken::new(), inputs: OnceLock::new() }
    }

    /// Cancels the work as soon as it waits for the registry, because its result is outdated already.
    pub fn supersede(&self) {
        self.superseded.cancel();
    }

    /// Waits until the work is superseded.
    pub async fn superseded(&self) {
        self.superseded.cancelled().await;
    }

    /// Records the inputs of the validation, once its references were read.
    pub fn set_inputs(&self, inputs: ValidationInputs) {
        let _ = self.inputs.set(inputs);
    }

    /// Returns the inputs of the validation; none before its references were read.
    pub fn inputs(&self) -> Option<&ValidationInputs> {
        self.inputs.get()
    }
}
