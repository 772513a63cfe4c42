//! Work on a registry that has started and not finished.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use super::history::ValidationInputs;

/// Work in flight on one registry, shared by its worker and the controller.
#[derive(Debug, Default)]
pub struct InFlight {
    superseded: CancellationToken,
    inputs: OnceLock<ValidationInputs>,
}

impl InFlight {
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
