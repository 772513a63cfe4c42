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

    /// Awaits `work`; none if it is superseded before. If both come at the same time, the result is that of the older spec, and so
    /// it is dropped.
    pub async fn unless_superseded<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.superseded.cancelled() => None,
            result = work => Some(result),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drops_a_result_that_comes_when_it_is_superseded() {
        let in_flight = InFlight::default();
        assert_eq!(in_flight.unless_superseded(async { 1 }).await, Some(1));
        in_flight.supersede();
        for _ in 0..64 {
            assert_eq!(in_flight.unless_superseded(async { 1 }).await, None);
        }
    }
}
